/* targets_tpl.h: magnitudes and their binary digits, counted and compared. This is plain C, included once per element type: a magnitude is an
 * integer of the element's size, in the order of the absolute values. NaN counts as infinite.
 */

INLINE BITS NAME(digits_at)(const BITS *x, int shift) {
  const BITS magnitude = *x & (BITS)(((BITS)1 << (8 * sizeof(BITS) - 1)) - 1);
  return (BITS)((magnitude < INFINITE ? magnitude : INFINITE) >> shift);
}

/* Short rows that are far apart are not fetched by the processor itself. */
INLINE void NAME(fetch_row)(const BITS *x, const fd_target_rows *rows) {
  enum { AHEAD = 8 };
  const char *from = (const char *)(x + AHEAD * rows->step);
  for (int64_t at = 0; at < rows->lanes * (int64_t)sizeof *x; at += 64) v_prefetch(from + at);
}

/* The first digit is counted for every element. A following digit, above bit `shift`, is counted only for the few elements whose
 * digits so far are those of their lane. */
static void NAME(count_first)(const fd_target_rows *rows) {
  for (int64_t row = 0; row < rows->rows; row++) {
    const BITS *x = (const BITS *)rows->x + row * rows->step;
    NAME(fetch_row)(x, rows);
    for (int64_t k = 0; k < rows->lanes; k++) rows->counts[k * rows->counts_step + (int64_t)NAME(digits_at)(x + k, rows->shift)]++;
  }
}

static void NAME(count_following)(const fd_target_rows *rows) {
  enum { AT_ONCE = 8 };
  BITS wanted[FD_TARGET_COLUMNS];
  uint8_t same[FD_TARGET_COLUMNS] = {0};
  const BITS mask = (BITS)(((BITS)1 << rows->width) - 1);
  const int shift = rows->shift, width = rows->width;
  const int64_t lanes = rows->lanes;
  for (int64_t k = 0; k < lanes; k++) wanted[k] = (BITS)rows->digits[k];
  for (int64_t row = 0; row < rows->rows; row++) {
    const BITS *x = (const BITS *)rows->x + row * rows->step;
    NAME(fetch_row)(x, rows);
    for (int64_t k = 0; k < lanes; k++) same[k] = (NAME(digits_at)(x + k, shift) >> width) == wanted[k];
    for (int64_t begin = 0; begin < lanes; begin += AT_ONCE) {
      uint64_t any;
      memcpy(&any, same + begin, AT_ONCE);
      for (int64_t k = begin; any && k < begin + AT_ONCE; k++)
        if (same[k]) rows->counts[k * rows->counts_step + (int64_t)(NAME(digits_at)(x + k, shift) & mask)]++;
    }
  }
}

static void NAME(count_digits)(const fd_target_rows *rows) {
  if (rows->is_first) NAME(count_first)(rows);
  else NAME(count_following)(rows);
}

/* Spares the elements with larger digits than those of their lane. */
static void NAME(spare_larger)(const fd_target_rows *rows, uint8_t *spared) {
  BITS last[FD_TARGET_COLUMNS];
  const int shift = rows->shift;
  const int64_t lanes = rows->lanes;
  for (int64_t k = 0; k < lanes; k++) last[k] = (BITS)rows->digits[k];
  for (int64_t row = 0; row < rows->rows; row++) {
    const BITS *x = (const BITS *)rows->x + row * rows->step;
    NAME(fetch_row)(x, rows);
    uint8_t *to = spared + row * rows->step;
    for (int64_t k = 0; k < lanes; k++) to[k] = NAME(digits_at)(x + k, shift) > last[k];
  }
}

/* Spares the last `surplus` elements of a lane whose digits are those of the lane. */
static void NAME(spare_last)(const fd_target_rows *rows, int64_t lane, int64_t surplus, uint8_t *spared) {
  for (int64_t row = rows->rows - 1; surplus && row >= 0; row--) {
    const int64_t i = row * rows->step + lane;
    const int is_equal = NAME(digits_at)((const BITS *)rows->x + i, rows->shift) == (BITS)rows->digits[lane];
    if (is_equal) spared[i] = 1, surplus--;
  }
}

/* Spares the elements of a few rows that come after at least `targets` elements of their lane: smaller ones, or equal ones before them. */
static void NAME(spare_few)(const fd_target_rows *rows, int64_t targets, uint8_t *spared) {
  enum { AT_ONCE = 16 };
  BITS sizes[FD_FEW_ROWS][AT_ONCE] = {{0}};
  for (int64_t begin = 0; begin < rows->lanes; begin += AT_ONCE) {
    const int64_t n = rows->lanes - begin < AT_ONCE ? rows->lanes - begin : AT_ONCE;
    for (int64_t row = 0; row < rows->rows; row++)
      for (int64_t k = 0; k < n; k++) sizes[row][k] = NAME(digits_at)((const BITS *)rows->x + row * rows->step + begin + k, 0);
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
