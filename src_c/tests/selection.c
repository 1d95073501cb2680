/* selection.c: draws of features, levels of keep probabilities, and the elements of least magnitude. */
#include "selftest.h"

/* Draws, against a search for each word; the factors are read from ones. */
static void check_draws(const fd_isa *isa, int64_t rows, int64_t features, int64_t k, int threads) {
  static double x[MOST_LAID], y[MOST_LAID], weights[MOST_LAID], expected[MOST_LAID];
  static uint64_t shares[MOST_LAID];
  static uint32_t words[MOST_LAID], counts[4 * MOST_LAID], last[MOST_LAID], bucket[1 << 18];
  const int64_t n = rows * features;
  const fd_layout flat = line_of(n, 8, 8);
  const fd_key key = {42, 7};
  int equal = 1;
  for (int64_t i = 0; i < features; i++) weights[i] = (double)(i % 4); /* the first one is never drawn */
  for (int64_t i = 0; i < n; i++) x[i] = 1;
  fd_share_words(weights, features, shares);
  const fd_draw_call call = {{key, 3, 0}, k, rows, features, 0, FD_FLOAT64, fd_draw_shift(features), last, bucket, expected, counts,
                             {x, &flat}, {y, &flat}};
  fd_multiply_draws(isa, &call, shares, threads);
  fd_words(isa, key, 3, rows * k, words, 1);
  for (int64_t i = 0; i < n; i++) x[i] = 0;
  for (int64_t t = 0; t < rows * k; t++) {
    int64_t feature = 0;
    for (uint64_t end = shares[0]; end <= words[t]; end += shares[++feature]) continue;
    x[t / k * features + feature]++;
  }
  for (int64_t i = 0; i < n; i++)
    equal &= y[i] == (x[i] > 0 ? x[i] * 0x1p32 / ((double)k * (double)shares[i % features]) : 0);
  check(equal, fd_isa_name(isa), "draws", (uint64_t)k, n);
}

/* The level: the mean is reached there, and not at the double before it. */
static void check_levels(const fd_isa *isa, int64_t rows, int64_t n, double mean, double floor_share) {
  static float scores[MOST_LAID];
  static double keep[MOST_LAID], drop[MOST_LAID];
  int holds = 1;
  for (int64_t i = 0; i < rows * n; i++) scores[i] = (float)((i * 7919) % 1009) / (float)(1 + i % 13);
  fd_level_call call = {scores, 0, 0, rows, n, mean, floor_share, keep, 0, 0};
  fd_fill_levels(isa, &call, 2);
  call.drop = 1, call.out = drop;
  fd_fill_levels(isa, &call, 1);
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t i = r * n; i < (r + 1) * n; i++) {
      holds &= floor_share <= keep[i] && keep[i] <= 1 && drop[i] == 1 - keep[i];
      sum += keep[i] - mean;
    }
    holds &= sum < 1e-12 && sum > -1e-12;
  }
  check(holds && fd_are_scores(isa, scores, 0, rows * n), fd_isa_name(isa), "levels", (uint64_t)rows, n);
  scores[rows * n - 1] = (float)NAN;
  check(!fd_are_scores(isa, scores, 0, rows * n), fd_isa_name(isa), "a score that is NaN", (uint64_t)rows, n);
}

/* Targets: an element is one if fewer than `targets` elements of its column are smaller, or equal and before it. */
static void check_targets(const fd_isa *isa, int64_t rows, int64_t columns, int64_t targets, int dtype) {
  static double x[MOST_LAID];
  static double copies[3 * MOST_LAID];
  static uint8_t spared[MOST_LAID];
  int equal = 1;
  for (int64_t i = 0; i < rows * columns; i++) set_element(x, dtype, i, (double)((i * 7919) % 101 - 50) / 8); /* many are equal */
  const fd_target_call call = {x, dtype, rows, columns, targets, copies, spared};
  fd_find_others(isa, &call, 3);
  for (int64_t i = 0; i < rows * columns; i++) {
    int64_t before = 0;
    const int64_t size = (i * 7919) % 101 - 50;
    for (int64_t k = i % columns; k < rows * columns; k += columns) {
      const int64_t other = (k * 7919) % 101 - 50;
      before += llabs(other) < llabs(size) || (llabs(other) == llabs(size) && k < i);
    }
    equal &= spared[i] == (before >= targets);
  }
  check(equal, fd_isa_name(isa), "targets", (uint64_t)dtype, rows * columns);
}

void check_selection(const fd_isa *isa) {
  check_draws(isa, 40, 3, 5, 1);
  check_draws(isa, 3, 700, 1500, 3);
  check_draws(isa, 1, 2000, 1, 2);
  check_levels(isa, 20, 7, 0.5, 0.01);
  check_levels(isa, 1, 2000, 0.3, 0);
  check_levels(isa, 3, 500, 0.9, 0.25);
  for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
    check_targets(isa, 40, 70, 7, dtype);
    check_targets(isa, 32, 70, 7, dtype);
    check_targets(isa, 90, 70, 20, dtype);
    check_targets(isa, 20, 1, 9, dtype);
    check_targets(isa, 500, 1, 250, dtype);
    check_targets(isa, 7, 3, 7, dtype);
  }
}
