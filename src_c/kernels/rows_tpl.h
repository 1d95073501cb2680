/* rows_tpl.h: sums of rows in a fixed order. This is plain C, included once per compute type: NAME(f) is f with the suffix of the
 * type.
 */

/* Halves what is left of rows, 2 * half numbers each; `half` is a constant at every use, so that the loop over it fits in a register. */
INLINE void NAME(halve_rows)(REAL *all, int64_t rows, int64_t n, const int half) {
  for (int64_t row = 0; row < rows; row++, all += n)
    for (int i = 0; i < half; i++) all[i] = all[i] + all[half + i];
}

/* Leaves each row's sum in its first element, and anything in the others. The second half is added to the first, which is the longer
 * one if the length is odd, until one number is left. Short rows, and what is left of long ones, are added up side by side. */
static void NAME(row_sums)(void *values, int64_t rows, int64_t n) {
  enum { SHORT = 16, AT_ONCE = 32 };
  REAL *all = (REAL *)values, sides[SHORT][AT_ONCE];
  int64_t left = n;
  for (int64_t half; left > SHORT; left = half) {
    half = (left + 1) / 2;
    for (int64_t row = 0; row < rows; row++) {
      REAL *first = all + row * n;
      const REAL *second = first + half;
      INDEPENDENT for (int64_t i = 0; i < left - half; i++) first[i] = first[i] + second[i];
    }
  }
  if (left == 16) NAME(halve_rows)(all, rows, n, 8), left = 8;
  if (left == 8) NAME(halve_rows)(all, rows, n, 4), left = 4;
  if (left == 4) NAME(halve_rows)(all, rows, n, 2), left = 2;
  if (left == 2) NAME(halve_rows)(all, rows, n, 1), left = 1;
  if (left == 1) return;
  for (int64_t some; rows > 0; rows -= some, all += some * n) {
    some = rows < AT_ONCE ? rows : AT_ONCE;
    for (int64_t row = 0; row < some; row++)
      for (int64_t i = 0; i < left; i++) sides[i][row] = all[row * n + i];
    for (int64_t half, length = left; length > 1; length = half) {
      half = (length + 1) / 2;
      for (int64_t i = 0; i < length - half; i++)
        for (int64_t row = 0; row < some; row++) sides[i][row] = sides[i][row] + sides[half + i][row];
    }
    for (int64_t row = 0; row < some; row++) all[row * n] = sides[0][row];
  }
}

/* Replaces all elements of each row by its first element plus a number, negated on request. */
static void NAME(row_spread)(void *values, int64_t rows, int64_t n, double more, int negated) {
  REAL *row = (REAL *)values;
  for (; rows > 0; rows--, row += n) {
    const REAL sum = row[0] + (REAL)more, value = negated ? -sum : sum;
    for (int64_t i = 0; i < n; i++) row[i] = value;
  }
}

static void NAME(row_products)(void *gradients, const void *values, const void *totals, int64_t n) {
  REAL *g = (REAL *)gradients;
  const REAL *x = (const REAL *)values, *divisors = (const REAL *)totals;
  INDEPENDENT for (int64_t i = 0; i < n; i++) g[i] = g[i] * (x[i] / divisors[i]);
}

static void NAME(row_add)(void *to, const void *from, int64_t n) {
  REAL *a = (REAL *)to;
  const REAL *b = (const REAL *)from;
  INDEPENDENT for (int64_t i = 0; i < n; i++) a[i] = a[i] + b[i];
}

#undef NAME
#undef REAL
