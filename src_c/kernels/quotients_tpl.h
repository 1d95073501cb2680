/* quotients_tpl.h: divides rows by the sums of their kept elements, and makes the gradients, if they have whole registers. It is included
 * once per stored type, as apply_tpl.h is; SUMS(f) is the function f of row_sums_tpl.h for the compute type.
 */

/* The kept elements of a register, or, if there is a total, the products of gradients and results. */
INLINE COMPUTE(v) NAME(terms)(const fd_row_tile *tile, int64_t i, const COMPUTE(v) *total) {
  const COMPUTE(v) kept = COMPUTE(keep)(tile->bits, i, NAME(load)((const STORED *)tile->x + i));
  if (!total) return kept;
  const COMPUTE(v) gradients = COMPUTE(keep)(tile->bits, i, NAME(load)((const STORED *)tile->grad + i));
  return COMPUTE(mul)(gradients, COMPUTE(div)(kept, *total));
}

/* Writes the terms of each row or, if half a row is whole registers, the sums of two. Returns how many numbers a row has then. */
INLINE int64_t NAME(write_terms)(const fd_row_tile *tile, int64_t n, const COMPUTED *totals, COMPUTED *numbers) {
  const int64_t half = n / 2, each = half % LANES_OF ? n : half;
  for (int64_t row = 0; row < tile->rows; row++) {
    const COMPUTE(v) total = COMPUTE(set)(totals ? totals[row] : 1);
    const int64_t first = row * n;
    for (int64_t i = 0; i < each; i += LANES_OF, numbers += LANES_OF) {
      const COMPUTE(v) term = NAME(terms)(tile, first + i, totals ? &total : 0);
      if (each == n) COMPUTE(store)(numbers, term);
      else COMPUTE(store)(numbers, COMPUTE(add)(term, NAME(terms)(tile, first + half + i, totals ? &total : 0)));
    }
  }
  return each;
}

/* Writes the sums of the terms of all rows. */
INLINE void NAME(sum_terms)(const fd_row_tile *tile, int64_t n, const COMPUTED *totals, COMPUTED *sums) {
  _Alignas(64) COMPUTED numbers[FD_ROW_PIECE + LANES_OF];
  const int64_t each = NAME(write_terms)(tile, n, totals, numbers);
  SUMS(row_sums)(numbers, tile->rows, each);
  for (int64_t row = 0; row < tile->rows; row++) sums[row] = numbers[row * each];
}

/* Writes the results of a row: keep ? (x or the gradient + shift) / total : 0. */
INLINE void NAME(divide_row)(const fd_row_tile *tile, int64_t row, int64_t n, COMPUTED total, COMPUTED shift, int has_slope) {
  const STORED *from = (const STORED *)(tile->grad ? tile->grad : tile->x);
  STORED *y = (STORED *)tile->y;
  const COMPUTE(v) totals = COMPUTE(set)(total), shifts = COMPUTE(set)(shift);
  for (int64_t i = row * n; i < (row + 1) * n; i += LANES_OF) {
    COMPUTE(v) value = NAME(load)(from + i);
    if (has_slope) value = COMPUTE(add)(value, shifts);
    value = COMPUTE(keep)(tile->bits, i, COMPUTE(div)(value, totals));
    if (tile->bypass) NAME(stream)(y + i, value);
    else NAME(store)(y + i, value);
  }
}

/* Rows of several registers are added up together: the sum of a single row takes many steps that wait for each other. */
INLINE void NAME(divide_rows)(const fd_row_tile *given, const int has_slope) {
  const fd_row_tile tile = *given; /* a copy: stores to y cannot change it */
  const int64_t n = tile.n;
  COMPUTED totals[FD_ROW_PIECE / LANES_OF], sums[FD_ROW_PIECE / LANES_OF];
  NAME(sum_terms)(&tile, n, 0, totals);
  for (int64_t row = 0; row < tile.rows; row++) totals[row] += (COMPUTED)tile.epsilon;
  if (has_slope) NAME(sum_terms)(&tile, n, totals, sums);
  for (int64_t row = 0; row < tile.rows; row++) NAME(divide_row)(&tile, row, n, totals[row], has_slope ? -sums[row] : 0, has_slope);
}

/* Rows of one register need no memory for their sums. */
INLINE void NAME(divide_registers)(const fd_row_tile *given, const int has_slope) {
  const fd_row_tile tile = *given; /* a copy, as above */
  for (int64_t row = 0; row < tile.rows; row++) {
    const COMPUTED total = COMPUTE(total)(NAME(terms)(&tile, row * LANES_OF, 0)) + (COMPUTED)tile.epsilon;
    const COMPUTE(v) all = COMPUTE(set)(total);
    const COMPUTED shift = has_slope ? -COMPUTE(total)(NAME(terms)(&tile, row * LANES_OF, &all)) : 0;
    NAME(divide_row)(&tile, row, LANES_OF, total, shift, has_slope);
  }
}

static int NAME(quotients)(const fd_row_tile *tile) {
  const int64_t n = tile->n;
  if (!MOST_DIRECT || n > MOST_DIRECT || n % LANES_OF) return 0;
  const int has_slope = tile->grad && !tile->is_constant;
  if (n == LANES_OF && has_slope) NAME(divide_registers)(tile, 1);
  else if (n == LANES_OF) NAME(divide_registers)(tile, 0);
  else if (has_slope) NAME(divide_rows)(tile, 1);
  else NAME(divide_rows)(tile, 0);
  return 1;
}

#undef NAME
#undef COMPUTE
#undef SUMS
#undef LANES_OF
#undef STORED
#undef COMPUTED
