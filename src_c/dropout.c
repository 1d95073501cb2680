/* dropout.c: the fused pass: a tile's bits, then its values. */
#include "drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_dropout_call *call;
  int64_t itemsize;
  int flat;   /* x and y both lie in memory as they are indexed */
  int bypass; /* y is written past the caches */
} dropout_job;

static const int64_t itemsizes[FD_DTYPES] = {[FD_FLOAT32] = 4, [FD_FLOAT64] = 8};

/* Elements before the first at which y is aligned to a cache line. */
static int64_t lead(const char *y, int64_t itemsize) {
  const int64_t past = (int64_t)((uintptr_t)y % 64);
  return past ? (64 - past) / itemsize : 0;
}

/* A tile of an array with strides goes through two flat ones, so that the kernels know only flat arrays. */
static void strided_tile(const dropout_job *job, int64_t i, int64_t n, const uint64_t *bits) {
  _Alignas(64) char from[FD_TILE * 8], to[FD_TILE * 8];
  const fd_dropout_call *call = job->call;
  fd_gather(from, (const char *)call->x, call->x_layout, i, n, job->itemsize);
  job->isa->apply[call->dtype](from, to, bits, n, call->scale, 0);
  fd_scatter(to, (char *)call->y, call->y_layout, i, n, job->itemsize);
}

static void dropout_range(const void *work, int64_t begin, int64_t end) {
  const dropout_job *job = (const dropout_job *)work;
  const fd_dropout_call *call = job->call;
  const char *x = (const char *)call->x;
  char *y = (char *)call->y;
  bit_window window;
  fd_window_open(&window, job->isa, call->key, call->rate);
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(FD_TILE, end - i);
    if (!job->flat) {
      strided_tile(job, i, n, fd_window_bits(&window, call->first + (uint64_t)i, n, 0));
      continue;
    }
    const int64_t at = i * job->itemsize, before = lead(y + at, job->itemsize);
    if (before && n == FD_TILE) n = before; /* the tiles that follow begin at a cache line */
    const char *ahead = x + at + (job->bypass ? n * job->itemsize : 0);
    const uint64_t *bits = fd_window_bits(&window, call->first + (uint64_t)i, n, ahead);
    job->isa->apply[call->dtype](x + at, y + at, bits, n, call->scale, job->bypass && !before);
  }
  if (job->bypass) job->isa->fence();
}

void fd_dropout(const fd_isa *isa, const fd_dropout_call *call, int threads) {
  const int64_t itemsize = itemsizes[call->dtype];
  dropout_job job = {isa, call, itemsize, 0, 0};
  job.flat = fd_layout_is_flat(call->x_layout, itemsize) && fd_layout_is_flat(call->y_layout, itemsize);
  job.bypass = job.flat && call->x != call->y && call->n * itemsize >= call->bypass_bytes;
  fd_parallel(dropout_range, &job, call->n, threads);
}
