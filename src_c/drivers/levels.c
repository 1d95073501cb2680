/* levels.c: the level at which the keep probabilities min(1, max(floor, level * score)) have a given mean.
 *
 * The level is the least double for which the sum of (keep probability - mean) is not negative. This sum grows with the level, and
 * it is the same in every order, so that every search finds the same level. Here it is Newton's method between bounds.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_level_call *call;
} levels_job;

/* Positive doubles have the order of their bits. */
static int64_t bits_of(double a) {
  int64_t bits;
  memcpy(&bits, &a, 8);
  return bits;
}
static double number_of(int64_t bits) {
  double a;
  memcpy(&a, &bits, 8);
  return a;
}

/* Newton's step from a level: to the first double past the zero of the tangent, so that the bounds close from both sides. The last
 * steps go further past it if the side does not change. */
static int64_t step_from(int64_t at, double found, double slope, int64_t further) {
  const double level = number_of(at), target = level - found / slope, ulps = fabs(found / slope) / (number_of(at + 1) - level);
  if (ulps < 0x1p20) return found < 0 ? at + (int64_t)ulps + 1 + further : at - (int64_t)ulps - 1 - further;
  return target >= 0 && target < FD_HIGHEST_LEVEL ? bits_of(target) : -1;
}

/* A step that leaves the bounds, and every eighth step, goes to the middle of the bounds instead. */
static double find_level(const levels_job *job, const void *scores, int64_t n, double first) {
  const fd_level_call *call = job->call;
  excess_kernel *const excess = job->isa->excess[call->is_double];
  int64_t low = -1, high = bits_of(FD_HIGHEST_LEVEL), at = bits_of(first), further = 0;
  if (at <= low || at >= high) at = high / 2;
  for (int step = 1, was_below = -1; high - low > 1; step++) {
    double slope;
    const double found = excess(scores, n, number_of(at), call, &slope);
    const int is_below = found < 0;
    if (is_below) low = at;
    else high = at;
    const int64_t next = step_from(at, found, slope, further);
    further = is_below == was_below && llabs(next - at) < 64 ? 2 * further + 1 : 0;
    was_below = is_below;
    at = next > low && next < high && step % 8 ? next : low + (high - low) / 2;
  }
  return number_of(high);
}

/* A part of many scores gives a good first level. */
static double level_of_row(const levels_job *job, const void *scores, double sum) {
  enum { PART = 64, WORTH_A_PART = 1 << 15 };
  const int64_t n = job->call->n;
  const double first = (double)n * job->call->mean / sum;
  return find_level(job, scores, n, n < WORTH_A_PART ? first : find_level(job, scores, n / PART, first));
}

static void fill_row(const levels_job *job, const char *scores, double *out) {
  const fd_level_call *call = job->call;
  const int is_double = call->is_double;
  int64_t zeros;
  double level = INFINITY, of_zeros = 0, slope;
  const double sum = job->isa->score_sum[is_double](scores, call->n, &zeros);
  if (zeros && job->isa->excess[is_double](scores, call->n, FD_HIGHEST_LEVEL, call, &slope) < 0) {
    of_zeros = ((double)call->n * call->mean - (double)(call->n - zeros)) / (double)zeros;
    of_zeros = of_zeros > call->floor ? of_zeros : call->floor;
  } else {
    level = level_of_row(job, scores, sum);
  }
  job->isa->shares[is_double](scores, call->n, level, of_zeros, call, out);
}

/* Rows are units of work; many short ones are one unit, because a thread has at least a tile. */
static int64_t rows_per_tile(int64_t n) { return n < FD_TILE ? FD_TILE / n : 1; }

static void levels_range(const void *work, int64_t begin, int64_t end) {
  const levels_job *job = (const levels_job *)work;
  const fd_level_call *call = job->call;
  const int64_t rows = rows_per_tile(call->n), size = call->is_double ? 8 : 4;
  for (int64_t row = begin / FD_TILE * rows; row < fd_min(call->rows, end / FD_TILE * rows); row++)
    fill_row(job, (const char *)call->scores + row * call->n * size, call->out + row * call->n);
}

void fd_fill_levels(const fd_isa *isa, const fd_level_call *given, int threads) {
  fd_level_call call = *given;
  int digits = 0;
  while (call.n >> digits) digits++;
  call.coarse = ldexp(1.5, digits + 1);
  call.fine = ldexp(1.5, 2 * digits - 51);
  const levels_job job = {isa, &call};
  const int64_t rows = rows_per_tile(call.n);
  fd_parallel(levels_range, &job, (call.rows + rows - 1) / rows * FD_TILE, threads);
}

int fd_are_scores(const fd_isa *isa, const void *scores, int is_double, int64_t n) {
  const uint64_t found = fd_float_begin(); /* a negative subnormal may pass for 0 */
  const int are_scores = isa->are_scores[is_double](scores, n);
  fd_float_end(found);
  return are_scores;
}
