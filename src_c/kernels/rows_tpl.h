/* rows_tpl.h: sums of rows in a fixed order. This is plain C, included once per compute type: NAME(f) is f with the suffix of the
 * type.
 */

/* The second half is added to the first, which is the longer one if n is odd, until one number is left. */
static double NAME(row_sum)(void *values, int64_t n) {
  REAL *first = (REAL *)values;
  for (int64_t half; n > 1; n = half) {
    half = (n + 1) / 2;
    const REAL *second = first + half;
    for (int64_t i = 0; i < n - half; i++) first[i] = first[i] + second[i];
  }
  return n ? (double)first[0] : 0;
}

static void NAME(row_products)(void *gradients, const void *values, double total, int64_t n) {
  REAL *g = (REAL *)gradients;
  const REAL *x = (const REAL *)values, divisor = (REAL)total;
  for (int64_t i = 0; i < n; i++) g[i] = g[i] * (x[i] / divisor);
}

static void NAME(row_add)(void *to, const void *from, int64_t n) {
  REAL *a = (REAL *)to;
  const REAL *b = (const REAL *)from;
  for (int64_t i = 0; i < n; i++) a[i] = a[i] + b[i];
}

#undef NAME
#undef REAL
