/* levels.c: the level at which the keep probabilities min(1, max(floor, level * score)) have a given mean.
 *
 * The level is the least double for which the sum of (keep probability - mean) is not negative. This sum grows with the level, and
 * it is the same in every order, so that every search finds the same level. Here it is Newton's method between bounds.
 */
#include <math.h>
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

/* A step goes past the zero of the tangent, by twice as much after each step that did not reach the other side. If that is outside
 * the bounds, and at every eighth step, it goes to the middle of the bounds. */
static double find_level(const levels_job *job, const void *scores, double first) {
  const fd_level_call *call = job->call;
  excess_kernel *const excess = job->isa->excess[call->is_double];
  int64_t low = -1, high = bits_of(FD_HIGHEST_LEVEL), at = bits_of(first), margin = 1;
  if (at <= low || at >= high) at = high / 2;
  for (int step = 1, was_below = -1; high - low > 1; step++) {
    double slope;
    const double level = number_of(at), found = excess(scores, call->n, level, call, &slope);
    const int is_below = found < 0;
    if (is_below) low = at;
    else high = at;
    margin = is_below == was_below ? 2 * margin : 1;
    was_below = is_below;
    const double target = level - found / slope;
    at = target >= 0 && target < FD_HIGHEST_LEVEL ? bits_of(target) + (is_below ? margin : -margin) : low;
    if (at <= low || at >= high || step % 8 == 0) at = low + (high - low) / 2;
  }
  return number_of(high);
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
    of_zeros = of_zeros < 1 ? of_zeros : 1;
  } else {
    level = find_level(job, scores, (double)call->n * call->mean / sum);
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

int fd_are_scores(const fd_isa *isa, const void *scores, int is_double, int64_t n) { return isa->are_scores[is_double](scores, n); }
