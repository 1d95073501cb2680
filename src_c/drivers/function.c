/* function.c: elementary functions of flat arrays, and their sums over tiles. */
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

/* Writes n values as 16-bit elements i .. i + n - 1 of y: the kernel that multiplies ones by them rounds the products. */
static void narrow_to(const function_job *job, const double *values, int64_t i, int64_t n) {
  _Alignas(64) uint16_t ones[FD_NOISE_TILE];
  const fd_function_call *call = job->call;
  for (int64_t k = 0; k < n; k++) ones[k] = call->x_dtype == FD_FLOAT16 ? 0x3C00 : 0x3F80;
  const fd_tile tile = {.x = ones, .factors = values, .y = (char *)call->y + i * job->x_size, .n = n};
  job->isa->apply[call->x_dtype][FD_MULTIPLY](&tile);
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
    else if (narrow) narrow_to(job, values, i, n);
  }
}

void fd_function(const fd_isa *isa, const fd_function_call *call, int threads) {
  const function_job job = {isa, call, fd_itemsize(call->x_dtype), fd_itemsize(call->dtype)};
  fd_parallel(function_range, &job, call->n, threads);
}
