/* function.c: elementary functions of flat arrays, their sums over tiles, and products with a factor. */
#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_function_call *call;
  int64_t x_size, y_size;
} function_job;

static int is_narrow(int dtype) { return dtype != FD_FLOAT32 && dtype != FD_FLOAT64; }

/* The elements i .. i + n - 1 of x in the type of the computation. */
static const void *operand_at(const function_job *job, int64_t i, int64_t n, double *wide) {
  const fd_function_call *call = job->call;
  const void *x = (const char *)call->x + i * job->x_size;
  if (call->x_dtype == call->dtype) return x;
  if (is_narrow(call->x_dtype)) {
    job->isa->widen[call->x_dtype](x, n, wide);
    return wide;
  }
  for (int64_t k = 0; k < n; k++) wide[k] = (double)((const float *)x)[k];
  return wide;
}

/* Writes n values of float32 as 16-bit elements: the kernel that multiplies ones by them rounds the products. */
static void narrow_to(const fd_isa *isa, int dtype, const void *values, int64_t n, void *y) {
  _Alignas(64) uint16_t ones[FD_NOISE_TILE];
  for (int64_t k = 0; k < n; k++) ones[k] = dtype == FD_FLOAT16 ? 0x3C00 : 0x3F80;
  const fd_tile tile = {.x = ones, .factors = values, .y = y, .n = n};
  isa->apply[dtype][FD_MULTIPLY](&tile);
}

static void function_range(const void *work, int64_t begin, int64_t end) {
  _Alignas(64) double wide[FD_NOISE_TILE], values[FD_NOISE_TILE];
  const function_job *job = (const function_job *)work;
  const fd_function_call *call = job->call;
  const int is_double = call->dtype == FD_FLOAT64, narrow = is_narrow(call->x_dtype);
  fd_function_kernel *const function = job->isa->functions[call->function][is_double];
  for (int64_t i = begin; i < end; i += FD_NOISE_TILE) {
    const int64_t n = fd_min(FD_NOISE_TILE, end - i);
    function(operand_at(job, i, n, wide), n, call->sums || narrow ? (void *)values : (char *)call->y + i * job->y_size);
    if (call->sums) call->sums[i / FD_NOISE_TILE] = job->isa->sum[is_double](values, n);
    else if (narrow) narrow_to(job->isa, call->x_dtype, values, n, (char *)call->y + i * job->x_size);
  }
}

void fd_function(const fd_isa *isa, const fd_function_call *call, int threads) {
  const function_job job = {isa, call, fd_itemsize(call->x_dtype), fd_itemsize(call->dtype)};
  fd_parallel(function_range, &job, call->n, threads);
}

typedef struct {
  const fd_isa *isa;
  const fd_scale_call *call;
} scale_job;

/* NaN of bfloat16 has one pattern per sign. That of float16 keeps its bits. */
static void unify_nans(uint16_t *y, int64_t n) {
  for (int64_t k = 0; k < n; k++) y[k] = (y[k] & 0x7FFF) > 0x7F80 ? (y[k] & 0x8000) | 0x7FC0 : y[k];
}

static void scale_range(const void *work, int64_t begin, int64_t end) {
  _Alignas(64) float wide[FD_NOISE_TILE];
  const scale_job *job = (const scale_job *)work;
  const fd_scale_call *call = job->call;
  const int64_t size = fd_itemsize(call->dtype);
  for (int64_t i = begin; i < end; i += FD_NOISE_TILE) {
    const int64_t n = fd_min(FD_NOISE_TILE, end - i);
    const void *x = (const char *)call->x + i * size;
    void *y = (char *)call->y + i * size;
    if (!is_narrow(call->dtype)) {
      job->isa->scale[call->dtype == FD_FLOAT64](x, n, call->factor, y);
      continue;
    }
    job->isa->widen[call->dtype](x, n, wide);
    job->isa->scale_to_odd(wide, n, call->factor, wide);
    narrow_to(job->isa, call->dtype, wide, n, y);
    if (call->dtype == FD_BFLOAT16) unify_nans((uint16_t *)y, n);
  }
}

void fd_scale(const fd_isa *isa, const fd_scale_call *call, int threads) {
  const scale_job job = {isa, call};
  fd_parallel(scale_range, &job, call->n, threads);
}
