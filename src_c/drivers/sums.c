/* sums.c: sums along an axis, of elements or of products of two arrays. */
#include "drivers/drive.h"

/* Terms at a time. If those of the next index are near, fewer, so that memory is asked for them again and again while sums are made: a
 * processor waits for two dozen lines at most. */
enum { PIECE = 128, NEAR_BYTES = 256 };

typedef struct {
  const fd_isa *isa;
  const fd_sum_call *call;
  int64_t x_size, y_size;
  sum_terms_kernel *terms;
  sum_fours_kernel *fours;
} sums_job;

/* n elements of an array from element i on, widened if they have 16 bits. */
static const void *elements_at(const sums_job *job, const void *array, int64_t i, int64_t n, float *wide) {
  if (!array) return 0;
  const char *from = (const char *)array + i * job->x_size;
  if (job->x_size > 2) return from;
  job->isa->widen[job->call->x_dtype](from, n, wide);
  return wide;
}

static void write_terms(void *from, int64_t first, int64_t n, char *out) {
  _Alignas(64) float x[PIECE], other[PIECE];
  const sums_job *job = (const sums_job *)from;
  const fd_sum_call *call = job->call;
  for (int64_t i = 0, some; i < n; i += some) {
    some = fd_min(PIECE, n - i);
    fd_fetch_next(call->x, job->x_size, call->n, call->inner, first + i, some);
    if (call->other) fd_fetch_next(call->other, job->x_size, call->n, call->inner, first + i, some);
    job->terms(elements_at(job, call->x, first + i, some, x), elements_at(job, call->other, first + i, some, other), some,
               out + i * job->y_size);
  }
}

static void write_fours(void *from, const int64_t four[4], int64_t n, char *out) {
  _Alignas(64) float wide_x[4][PIECE], wide_other[4][PIECE];
  const sums_job *job = (const sums_job *)from;
  const fd_sum_call *call = job->call;
  const int64_t each = call->n * call->inner, most = each * job->x_size <= FD_NEAR ? NEAR_BYTES / job->x_size : PIECE;
  const int64_t before = four[0] % each; /* how many sums of the same index of the outer axis come before these */
  const void *x[4], *other[4];
  for (int64_t i = 0, some; i < n; i += some) {
    const int64_t at[4] = {four[0] + i, four[1] + i, four[2] + i, four[3] + i};
    some = fd_min(most, n - i);
    if (call->inner > 1) {
      fd_fetch_next_fours(call->x, job->x_size, each, at, before + i, some);
      if (call->other) fd_fetch_next_fours(call->other, job->x_size, each, at, before + i, some);
    }
    for (int k = 0; k < 4; k++) {
      x[k] = elements_at(job, call->x, at[k], some, wide_x[k]);
      other[k] = elements_at(job, call->other, at[k], some, wide_other[k]);
    }
    job->fours(x, other, some, out + i * job->y_size);
  }
}

static void sums_range(const void *work, int64_t begin, int64_t end) {
  sums_job job = *(const sums_job *)work;
  const fd_sum_call *call = job.call;
  const fd_halving terms = {job.isa, write_terms, &job, call->n, call->inner, call->dtype == FD_FLOAT64, write_fours};
  fd_halve_share(&terms, begin, end, (char *)call->y);
}

void fd_sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads) {
  const int is_wide = call->dtype == FD_FLOAT64, kind = is_wide + (call->x_dtype == FD_FLOAT64);
  const sums_job job = {isa, call, fd_itemsize(call->x_dtype), is_wide ? 8 : 4,
                        isa->sum_terms[kind], isa->sum_fours[kind]};
  fd_parallel(sums_range, &job, call->outer * call->n * call->inner, threads);
}
