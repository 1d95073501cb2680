/* sums.c: sums along an axis, of elements or of products of two arrays. */
#include "drivers/drive.h"

enum { PIECE = 256 };

typedef struct {
  const fd_isa *isa;
  const fd_sum_call *call;
  int64_t x_size, y_size;
  sum_terms_kernel *terms;
} sums_job;

/* n elements of an array from element i on, widened if they have 16 bits. */
static const void *elements_at(const sums_job *job, const void *array, int64_t i, int64_t n, float *wide) {
  const char *from = (const char *)array + i * job->x_size;
  if (!array || job->x_size > 2) return array ? from : 0;
  job->isa->widen[job->call->x_dtype](from, n, wide);
  return wide;
}

/* Halves are far from each other, so that a processor does not see which elements come next. They are those of the next sums: of the
 * next index of the outer axis or, if there are many terms in between, of the next columns. */
enum { NEAR = 65536 };
static void fetch_next(const sums_job *job, const void *array, int64_t i, int64_t n) {
  const int64_t each = job->call->n * job->call->inner * job->x_size, bytes = n * job->x_size;
  const char *next = (const char *)array + i * job->x_size + (each > NEAR ? bytes : each);
  for (int64_t k = 0; array && k < bytes; k += 64) __builtin_prefetch(next + k);
}

static void write_terms(void *from, int64_t first, int64_t n, char *out) {
  _Alignas(64) float x[PIECE], other[PIECE];
  const sums_job *job = (const sums_job *)from;
  const int64_t most = job->x_size > 2 ? n : PIECE;
  for (int64_t i = 0, some; i < n; i += some) {
    some = fd_min(most, n - i);
    if (some < job->call->n * job->call->inner && job->call->inner > 1) {
      fetch_next(job, job->call->x, first + i, some);
      fetch_next(job, job->call->other, first + i, some);
    }
    job->terms(elements_at(job, job->call->x, first + i, some, x), elements_at(job, job->call->other, first + i, some, other), some,
               out + i * job->y_size);
  }
}

static void sums_range(const void *work, int64_t begin, int64_t end) {
  sums_job job = *(const sums_job *)work;
  const fd_sum_call *call = job.call;
  const fd_halving terms = {job.isa, write_terms, &job, call->n, call->inner, call->dtype == FD_FLOAT64};
  fd_halve_share(&terms, begin, end, (char *)call->y);
}

void fd_sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads) {
  const int is_wide = call->dtype == FD_FLOAT64;
  const sums_job job = {isa, call, fd_itemsize(call->x_dtype), is_wide ? 8 : 4,
                        isa->sum_terms[is_wide + (call->x_dtype == FD_FLOAT64)]};
  fd_parallel(sums_range, &job, call->outer * call->n * call->inner, threads);
}
