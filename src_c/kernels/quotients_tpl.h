/* quotients_tpl.h: divides rows by the sums of their kept elements, and makes the gradients, without buffers. It is included once per stored
 * type, as apply_tpl.h is. A row has 1, 2, 4, ... whole registers: then adding the second half of a row to the first, until one number is
 * left, adds whole registers, and at last the lanes of one.
 */

/* The kept elements of a register, or, if there is a total, the products of gradients and results. */
INLINE COMPUTE(v) NAME(terms)(const fd_row_tile *tile, int64_t i, const COMPUTE(v) *total) {
  const COMPUTE(v) kept = COMPUTE(keep)(tile->bits, i, NAME(load)((const STORED *)tile->x + i));
  if (!total) return kept;
  const COMPUTE(v) gradients = COMPUTE(keep)(tile->bits, i, NAME(load)((const STORED *)tile->grad + i));
  return COMPUTE(mul)(gradients, COMPUTE(div)(kept, *total));
}

/* The sum of the row that begins with element `row`. */
INLINE COMPUTED NAME(row_sum)(const fd_row_tile *tile, int64_t row, int64_t n, const COMPUTE(v) *total) {
  COMPUTED sums[MOST_DIRECT / 2 + 1];
  int64_t left = n / 2, i = 0;
  if (n == LANES_OF) return COMPUTE(total)(NAME(terms)(tile, row, total));
  do COMPUTE(store)(sums + i, COMPUTE(add)(NAME(terms)(tile, row + i, total), NAME(terms)(tile, row + left + i, total)));
  while ((i += LANES_OF) < left);
  while ((left /= 2) >= LANES_OF)
    for (i = 0; i < left; i += LANES_OF)
      COMPUTE(store)(sums + i, COMPUTE(add)(COMPUTE(load)(sums + i), COMPUTE(load)(sums + left + i)));
  return COMPUTE(total)(COMPUTE(load)(sums));
}

INLINE void NAME(divide_rows)(const fd_row_tile *given, const int64_t n, const int has_slope) {
  const fd_row_tile tile = *given; /* a copy: stores to y cannot change it */
  const STORED *from = (const STORED *)(tile.grad ? tile.grad : tile.x);
  STORED *y = (STORED *)tile.y;
  const int64_t end = tile.rows * n;
  const COMPUTED epsilon = (COMPUTED)tile.epsilon;
  for (int64_t row = 0; row < end; row += n) {
    const COMPUTE(v) total = COMPUTE(set)(NAME(row_sum)(&tile, row, n, 0) + epsilon);
    const COMPUTE(v) shift = COMPUTE(set)(has_slope ? -NAME(row_sum)(&tile, row, n, &total) : 0);
    for (int64_t i = row; i < row + n; i += LANES_OF) {
      COMPUTE(v) value = NAME(load)(from + i);
      if (has_slope) value = COMPUTE(add)(value, shift);
      value = COMPUTE(keep)(tile.bits, i, COMPUTE(div)(value, total));
      if (tile.bypass) NAME(stream)(y + i, value);
      else NAME(store)(y + i, value);
    }
  }
}

INLINE void NAME(divide_either)(const fd_row_tile *tile, const int64_t n) {
  if (tile->grad && !tile->is_constant) NAME(divide_rows)(tile, n, 1);
  else NAME(divide_rows)(tile, n, 0);
}

static int NAME(quotients)(const fd_row_tile *tile) {
  const int64_t n = tile->n;
  if (n < LANES_OF || n > MOST_DIRECT || n & (n - 1)) return 0;
  if (n == LANES_OF) NAME(divide_either)(tile, LANES_OF); /* in one register, without loops */
  else NAME(divide_either)(tile, n);
  return 1;
}

#undef NAME
#undef COMPUTE
#undef LANES_OF
#undef STORED
#undef COMPUTED
