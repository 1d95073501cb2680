/* levels_tpl.h: keep probabilities min(1, max(floor, level * score)), and the sum of their differences from the mean. This is plain C,
 * computed in double, included once per type of the scores.
 */

/* Adds the terms of the first `count` of LEVEL_LANES scores to sums in as many columns. The order of the additions has no effect,
 * because each term is rounded beforehand to a multiple that makes the sums exact (fd_level_call). */
INLINE void NAME(add_excess)(const REAL *from, int64_t count, double level, const fd_level_call *call, level_sums *sums) {
  const double floor = call->floor, mean = call->mean, coarse = call->coarse, fine = call->fine;
  for (int k = 0; k < LEVEL_LANES; k++) {
    const double score = (double)from[k], product = level * score;
    const double raised = product > floor ? product : floor, keep = raised < 1 ? raised : 1;
    const double term = k < count ? keep - mean : 0, upper = (term + coarse) - coarse;
    sums->upper[k] += upper;
    sums->lower[k] += ((term - upper) + fine) - fine;
    sums->slope[k] += keep == product ? score : 0;
  }
}

static double NAME(excess)(const void *scores, int64_t n, double level, const fd_level_call *call, double *slope) {
  const REAL *s = (const REAL *)scores;
  level_sums sums = {{0}, {0}, {0}};
  const fd_level_call constants = *call;
  REAL last[LEVEL_LANES] = {0};
  int64_t i = 0;
  for (; i + LEVEL_LANES <= n; i += LEVEL_LANES) NAME(add_excess)(s + i, LEVEL_LANES, level, &constants, &sums);
  memcpy(last, s + i, (size_t)(n - i) * sizeof *last);
  NAME(add_excess)(last, n - i, level, &constants, &sums);
  for (int k = 1; k < LEVEL_LANES; k++) {
    sums.upper[0] += sums.upper[k];
    sums.lower[0] += sums.lower[k];
    sums.slope[0] += sums.slope[k];
  }
  *slope = sums.slope[0];
  return sums.upper[0] + sums.lower[0];
}

/* The sum of n scores in any order, and how many are 0. */
static double NAME(score_sum)(const void *scores, int64_t n, int64_t *zeros) {
  enum { LANES_OF_SUM = 16 };
  const REAL *s = (const REAL *)scores;
  double sums[LANES_OF_SUM] = {0};
  int64_t none = 0, i = 0;
  for (; i + LANES_OF_SUM <= n; i += LANES_OF_SUM)
    for (int k = 0; k < LANES_OF_SUM; k++) sums[k] += (double)s[i + k];
  for (; i < n; i++) sums[0] += (double)s[i];
  for (i = 0; i < n; i++) none += s[i] == 0;
  for (int k = 1; k < LANES_OF_SUM; k++) sums[0] += sums[k];
  *zeros = none;
  return sums[0];
}

/* The keep probabilities or, if `drop`, 1 minus them. At an infinite level all positive scores are kept, and those that are 0 with
 * probability `of_zeros`. */
static void NAME(shares)(const void *scores, int64_t n, double level, double of_zeros, const fd_level_call *call, double *out) {
  const REAL *s = (const REAL *)scores;
  const double floor = call->floor;
  if (level > 0x1p1023)
    INDEPENDENT for (int64_t i = 0; i < n; i++) out[i] = s[i] > 0 ? 1 : of_zeros;
  else
    INDEPENDENT for (int64_t i = 0; i < n; i++) {
      const double product = level * (double)s[i], raised = product > floor ? product : floor;
      out[i] = raised < 1 ? raised : 1;
    }
  if (call->drop)
    INDEPENDENT for (int64_t i = 0; i < n; i++) out[i] = 1 - out[i];
}

/* Whether all scores are finite and not negative. */
static int NAME(are_scores)(const void *scores, int64_t n) {
  const REAL *s = (const REAL *)scores;
  int good = 1;
  for (int64_t i = 0; i < n; i++) good &= (s[i] >= 0) & (s[i] <= LARGEST);
  return good;
}

#undef NAME
#undef REAL
#undef LARGEST
