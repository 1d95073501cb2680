/* targets_tpl.h: magnitudes, counted and compared. This is plain C, included once per element type: a magnitude is an integer of the
 * element's size, in the order of the absolute values. NaN counts as infinite.
 */

INLINE BITS NAME(magnitude)(const BITS *x) {
  const BITS magnitude = *x & (BITS)(((BITS)1 << (8 * sizeof(BITS) - 1)) - 1);
  return magnitude < INFINITE ? magnitude : INFINITE;
}

/* Short rows that are far apart are not fetched by the processor itself. */
INLINE void NAME(fetch_row)(const BITS *x, const fd_target_rows *rows) {
  enum { AHEAD = 8 };
  const char *from = (const char *)(x + AHEAD * rows->step);
  for (int64_t at = 0; at < rows->lanes * (int64_t)sizeof *x; at += 64) v_prefetch(from + at);
}

/* Copies the magnitudes of each column to neighbours. */
static void NAME(copy_columns)(const fd_target_rows *rows, void *copies) {
  BITS *to = (BITS *)copies;
  for (int64_t row = 0; row < rows->rows; row++, to++) {
    const BITS *x = (const BITS *)rows->x + row * rows->step;
    NAME(fetch_row)(x, rows);
    for (int64_t k = 0; k < rows->lanes; k++) to[k * rows->rows] = NAME(magnitude)(x + k);
  }
}

/* The first digit is counted for every element. A following digit is counted only for the few elements that have the digits so far. */
static void NAME(count_digits)(const void *elements, int64_t n, const fd_digits *digits, uint32_t *counts) {
  enum { MANY = 64, AT_ONCE = 8 };
  const BITS *x = (const BITS *)elements;
  const int shift = digits->shift;
  if (digits->is_first) {
    for (int64_t i = 0; i < n; i++) counts[NAME(magnitude)(x + i) >> shift]++;
    return;
  }
  const BITS all = (BITS)~(BITS)0, mask = (BITS)(((BITS)1 << digits->width) - 1), known = (BITS)(all << (shift + digits->width));
  const BITS wanted = (BITS)(digits->so_far << (shift + digits->width));
  for (int64_t i = 0; i < n; i += MANY) {
    uint8_t same[MANY] = {0};
    if (n - i >= MANY)
      for (int k = 0; k < MANY; k++) same[k] = (NAME(magnitude)(x + i + k) & known) == wanted;
    else
      for (int64_t k = 0; k < n - i; k++) same[k] = (NAME(magnitude)(x + i + k) & known) == wanted;
    for (int64_t begin = 0; begin < MANY; begin += AT_ONCE) {
      uint64_t any;
      memcpy(&any, same + begin, AT_ONCE);
      for (int64_t k = begin; any && k < begin + AT_ONCE; k++)
        if (same[k]) counts[NAME(magnitude)(x + i + k) >> shift & mask]++;
    }
  }
}

/* Spares the elements that are not below the limit. */
static void NAME(spare_neighbours)(const void *elements, int64_t n, uint64_t limit, uint8_t *spared) {
  INDEPENDENT for (int64_t i = 0; i < n; i++) spared[i] = NAME(magnitude)((const BITS *)elements + i) >= (BITS)limit;
}

/* Spares the elements that are not below the limits of their lanes. */
static void NAME(spare_larger)(const fd_target_rows *rows, const uint64_t *limits, uint8_t *spared) {
  BITS limit[FD_TARGET_COLUMNS];
  const int64_t lanes = rows->lanes;
  for (int64_t k = 0; k < lanes; k++) limit[k] = (BITS)limits[k];
  for (int64_t row = 0; row < rows->rows; row++) {
    const BITS *x = (const BITS *)rows->x + row * rows->step;
    NAME(fetch_row)(x, rows);
    uint8_t *to = spared + row * rows->step;
    INDEPENDENT for (int64_t k = 0; k < lanes; k++) to[k] = NAME(magnitude)(x + k) >= limit[k];
  }
}

/* Spares the last `surplus` elements of a lane among those right below the limit. */
static void NAME(spare_last)(const fd_target_rows *rows, int64_t lane, uint64_t limit, int64_t surplus, uint8_t *spared) {
  for (int64_t row = rows->rows - 1; surplus && row >= 0; row--) {
    const int64_t i = row * rows->step + lane;
    if (NAME(magnitude)((const BITS *)rows->x + i) == (BITS)(limit - 1)) spared[i] = 1, surplus--;
  }
}

/* Sorts each lane of some rows by merge exchange (D. E. Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M). */
static void NAME(sort_lanes)(SIGNED (*sizes)[FD_TARGET_COLUMNS], int64_t rows) {
  int64_t most = 1;
  while (2 * most < rows) most *= 2;
  for (int64_t p = most; p; p /= 2)
    for (int64_t q = most, skip = 0, apart = p; ; apart = q - p, q /= 2, skip = p) {
      for (int64_t begin = skip; begin < rows - apart; begin += 2 * p)
        for (int64_t row = begin; row < begin + p && row < rows - apart; row++) {
          SIGNED *restrict a = sizes[row], *restrict b = sizes[row + apart];
          for (int k = 0; k < FD_TARGET_COLUMNS; k++) {
            const SIGNED lesser = a[k] < b[k] ? a[k] : b[k], larger = a[k] < b[k] ? b[k] : a[k];
            a[k] = lesser, b[k] = larger;
          }
        }
      if (q == p) break;
    }
}

/* Copies the magnitudes of a row. A full row has a constant length, which is faster; the lanes after a shorter one are 0. */
INLINE void NAME(load_row)(const fd_target_rows *rows, int64_t row, SIGNED sizes[FD_TARGET_COLUMNS]) {
  BITS x[FD_TARGET_COLUMNS] = {0};
  const BITS *from = (const BITS *)rows->x + row * rows->step;
  if (rows->lanes == FD_TARGET_COLUMNS) memcpy(x, from, sizeof x);
  else memcpy(x, from, (size_t)rows->lanes * sizeof *x);
  UNROLL(1)
  for (int k = 0; k < FD_TARGET_COLUMNS; k++) sizes[k] = (SIGNED)NAME(magnitude)(x + k);
}

/* Spares all elements of few rows but the `targets` smallest of each lane. Of equal elements, the last ones are spared. `room` has space
 * for FD_TARGET_COLUMNS elements of each row. */
static void NAME(spare_few)(const fd_target_rows *rows, int64_t targets, void *room, uint8_t *spared) {
  SIGNED(*sizes)[FD_TARGET_COLUMNS] = (SIGNED(*)[FD_TARGET_COLUMNS])room;
  SIGNED limit[FD_TARGET_COLUMNS], equal[FD_TARGET_COLUMNS] = {0}; /* of the targets, so many are as large as the largest one */
  for (int64_t row = 0; row < rows->rows; row++) NAME(load_row)(rows, row, sizes[row]);
  NAME(sort_lanes)(sizes, rows->rows);
  memcpy(limit, sizes[targets - 1], sizeof limit);
  for (int64_t row = 0; row < targets; row++)
    UNROLL(1)
    for (int k = 0; k < FD_TARGET_COLUMNS; k++) equal[k] = (SIGNED)(equal[k] + (sizes[row][k] == limit[k]));
  for (int64_t row = 0; row < rows->rows; row++) {
    SIGNED size[FD_TARGET_COLUMNS], is_spared[FD_TARGET_COLUMNS];
    uint8_t flags[FD_TARGET_COLUMNS];
    NAME(load_row)(rows, row, size);
    UNROLL(1)
    for (int k = 0; k < FD_TARGET_COLUMNS; k++) {
      const SIGNED is_equal = size[k] == limit[k] ? 1 : 0, is_larger = size[k] > limit[k] ? 1 : 0, are_enough = equal[k] <= 0 ? 1 : 0;
      is_spared[k] = is_larger | (is_equal & are_enough);
      equal[k] = (SIGNED)(equal[k] - is_equal);
    }
    UNROLL(1)
    for (int k = 0; k < FD_TARGET_COLUMNS; k++) flags[k] = (uint8_t)is_spared[k];
    if (rows->lanes == FD_TARGET_COLUMNS) memcpy(spared + row * rows->step, flags, sizeof flags);
    else memcpy(spared + row * rows->step, flags, (size_t)rows->lanes);
  }
}

#undef NAME
#undef BITS
#undef SIGNED
#undef INFINITE
