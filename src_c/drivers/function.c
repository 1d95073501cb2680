/* function.c: elementary functions of flat arrays, and their sums over tiles. */
#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_function_call *call;
  int64_t x_size, y_size;
} function_job;

/* The elements i .. i + n - 1 of x in the type of the computation. */
static const void *operand_at(const function_job *job, int64_t i, int64_t n, double *wide) {
  const fd_function_call *call = job->call;
  const void *x = (const char *)call->x + i * job->x_size;
  if (call->x_dtype == call->dtype) return x;
  for (int64_t k = 0; k < n; k++) wide[k] = (double)((const float *)x)[k];
  return wide;
}

static void function_range(const void *work, int64_t begin, int64_t end) {
  _Alignas(64) double wide[FD_NOISE_TILE], values[FD_NOISE_TILE];
  const function_job *job = (const function_job *)work;
  const fd_function_call *call = job->call;
  const int is_double = call->dtype == FD_FLOAT64;
  fd_function_kernel *const function = job->isa->functions[call->function][is_double];
  for (int64_t i = begin; i < end; i += FD_NOISE_TILE) {
    const int64_t n = fd_min(FD_NOISE_TILE, end - i);
    function(operand_at(job, i, n, wide), n, call->sums ? (void *)values : (char *)call->y + i * job->y_size);
    if (call->sums) call->sums[i / FD_NOISE_TILE] = job->isa->sum[is_double](values, n);
  }
}

void fd_function(const fd_isa *isa, const fd_function_call *call, int threads) {
  const function_job job = {isa, call, fd_itemsize(call->x_dtype), fd_itemsize(call->dtype)};
  fd_parallel(function_range, &job, call->n, threads);
}
