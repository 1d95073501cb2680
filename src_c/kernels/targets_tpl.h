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
  for (int64_t i = 0; i < n; i++) spared[i] = NAME(magnitude)((const BITS *)elements + i) >= (BITS)limit;
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
    for (int64_t k = 0; k < lanes; k++) to[k] = NAME(magnitude)(x + k) >= limit[k];
  }
}

/* Spares the last `surplus` elements of a lane among those right below the limit. */
static void NAME(spare_last)(const fd_target_rows *rows, int64_t lane, uint64_t limit, int64_t surplus, uint8_t *spared) {
  for (int64_t row = rows->rows - 1; surplus && row >= 0; row--) {
    const int64_t i = row * rows->step + lane;
    if (NAME(magnitude)((const BITS *)rows->x + i) == (BITS)(limit - 1)) spared[i] = 1, surplus--;
  }
}

/* Spares the elements of a few rows that come after at least `targets` elements of their lane: smaller ones, or equal ones before them. */
static void NAME(spare_few)(const fd_target_rows *rows, int64_t targets, uint8_t *spared) {
  enum { AT_ONCE = 16 };
  BITS sizes[FD_FEW_ROWS][AT_ONCE] = {{0}};
  for (int64_t begin = 0; begin < rows->lanes; begin += AT_ONCE) {
    const int64_t n = rows->lanes - begin < AT_ONCE ? rows->lanes - begin : AT_ONCE;
    for (int64_t row = 0; row < rows->rows; row++)
      for (int64_t k = 0; k < n; k++) sizes[row][k] = NAME(magnitude)((const BITS *)rows->x + row * rows->step + begin + k);
    for (int64_t row = 0; row < rows->rows; row++) {
      BITS smaller[AT_ONCE] = {0};
      for (int64_t other = 0; other < row; other++)
        for (int k = 0; k < AT_ONCE; k++) smaller[k] = (BITS)(smaller[k] + (sizes[other][k] <= sizes[row][k]));
      for (int64_t other = row + 1; other < rows->rows; other++)
        for (int k = 0; k < AT_ONCE; k++) smaller[k] = (BITS)(smaller[k] + (sizes[other][k] < sizes[row][k]));
      for (int64_t k = 0; k < n; k++) spared[row * rows->step + begin + k] = smaller[k] >= (BITS)targets;
    }
  }
}

#undef NAME
#undef BITS
#undef INFINITE
