/* sums.c: sums along an axis, of elements or of products of two arrays; on request, the elements times a factor in the same pass. */
#include "drivers/drive.h"

/* Terms at a time. They are fewer if the terms of the next index are near: then memory is asked for these in small portions while sums
 * are made, because a processor waits for two dozen lines at most. */
enum { PIECE = 128, NEAR_BYTES = 256 };

typedef struct {
  const fd_isa *isa;
  const fd_sum_call *call;
  int64_t x_size, y_size;
  sum_terms_kernel *terms;
  sum_fours_kernel *fours;
  int bypass; /* products are written past the caches */
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

/* Asks for n elements of each of four runs that begin `ahead` elements after these. */
static void fetch_fours(const void *array, int64_t itemsize, const int64_t four[4], int64_t ahead, int64_t n) {
  for (int k = 0; k < 4; k++)
    for (int64_t at = 0; at < n * itemsize; at += 64) __builtin_prefetch((const char *)array + (four[k] + ahead) * itemsize + at);
}

static void write_fours(void *from, const int64_t four[4], int64_t n, int64_t ahead, char *out) {
  _Alignas(64) float wide_x[4][PIECE], wide_other[4][PIECE];
  const sums_job *job = (const sums_job *)from;
  const fd_sum_call *call = job->call;
  const int64_t each = call->n * call->inner, is_near = call->inner > 1 ? each * job->x_size <= FD_NEAR : ahead != 0;
  const int64_t most = is_near ? NEAR_BYTES / job->x_size : PIECE;
  const int64_t before = four[0] % each; /* how many sums of the same index of the outer axis come before these */
  const void *x[4], *other[4];
  for (int64_t i = 0, some; i < n; i += some) {
    const int64_t at[4] = {four[0] + i, four[1] + i, four[2] + i, four[3] + i};
    some = fd_min(most, n - i);
    if (call->inner > 1) {
      fd_fetch_next_fours(call->x, job->x_size, each, at, before + i, some);
      if (call->other) fd_fetch_next_fours(call->other, job->x_size, each, at, before + i, some);
    } else if (ahead) {
      fetch_fours(call->x, job->x_size, at, ahead, some);
      if (call->other && call->other != call->x) fetch_fours(call->other, job->x_size, at, ahead, some);
    }
    for (int k = 0; k < 4; k++) {
      x[k] = elements_at(job, call->x, at[k], some, wide_x[k]);
      other[k] = call->other == call->x ? x[k] : elements_at(job, call->other, at[k], some, wide_other[k]);
    }
    job->fours(x, other, some, out + i * job->y_size);
  }
}

static fd_halving halving_of(sums_job *job) {
  const fd_sum_call *call = job->call;
  char *room = call->outer == 1 && call->inner == 1 && fd_sum_room(call->n, 1) ? (char *)call->room : 0; /* only one thread may use it */
  return (fd_halving){job->isa, write_terms, job, call->n, call->inner, call->dtype == FD_FLOAT64, write_fours, room};
}

static void sums_range(const void *work, int64_t begin, int64_t end) {
  sums_job job = *(const sums_job *)work;
  const fd_halving terms = halving_of(&job);
  fd_halve_share(&terms, begin, end, (char *)job.call->y);
}

/* Writes the product of map number k and its factor. */
static void multiply_map(const sums_job *job, int64_t k) {
  static const uint64_t all[FD_TILE_WORDS + 1] = {[0 ... FD_TILE_WORDS] = ~(uint64_t)0};
  const fd_sum_call *call = job->call;
  const int64_t each = call->n * call->inner;
  const double factor = call->x_dtype == FD_FLOAT64 ? ((const double *)call->factors)[k] : (double)((const float *)call->factors)[k];
  for (int64_t i = k * each, n; i < (k + 1) * each; i += n) {
    char *y = (char *)call->product + i * job->x_size;
    const int64_t lead = fd_lead(y, job->x_size);
    n = fd_min(lead ? lead : FD_TILE, (k + 1) * each - i);
    const fd_tile tile = {.x = (const char *)call->x + i * job->x_size, .y = y, .bits = all, .n = n, .scale = factor,
                          .bypass = job->bypass && !lead};
    job->isa->apply[call->x_dtype][FD_SCALE](&tile);
  }
}

/* Sums and products of the maps that begin among the elements begin .. end - 1. A map is in a cache when it is multiplied. */
static void maps_range(const void *work, int64_t begin, int64_t end) {
  sums_job job = *(const sums_job *)work;
  const fd_sum_call *call = job.call;
  const fd_halving terms = halving_of(&job);
  const int64_t each = call->n * call->inner;
  for (int64_t k = (begin + each - 1) / each; k * each < end; k++) {
    fd_halve(&terms, k * each, (char *)call->y + k * call->inner * job.y_size);
    multiply_map(&job, k);
  }
  if (job.bypass) job.isa->fence();
}

void fd_sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads) {
  const int is_wide = call->dtype == FD_FLOAT64, kind = is_wide + (call->x_dtype == FD_FLOAT64);
  const int64_t size = fd_itemsize(call->x_dtype), n = call->outer * call->n * call->inner;
  const int bypass = call->product && call->product != call->x && call->product != call->other && n * size >= call->bypass_bytes;
  const sums_job job = {isa, call, size, is_wide ? 8 : 4, isa->sum_terms[kind], isa->sum_fours[kind], bypass};
  fd_parallel(call->product ? maps_range : sums_range, &job, n, threads);
}
