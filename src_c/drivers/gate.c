/* gate.c: gradients of the logits that gate a mask. For each tile it makes probabilities and bits again, and then the slopes. */
#include <string.h>

#include "drivers/drive.h"

enum { PIECE = 512 };

typedef struct {
  const fd_isa *isa;
  const fd_gate_call *call;
  int64_t itemsize, compute_size;
  int compute; /* the compute type */
} gate_job;

/* Keep bits as numbers, 1 or 0, of the compute type. */
static const void *flags_of(const gate_job *job, const uint64_t *bits, int64_t n, void *flags) {
  static const float ones32[PIECE] = {[0 ... PIECE - 1] = 1};
  static const double ones64[PIECE] = {[0 ... PIECE - 1] = 1};
  const fd_tile tile = {.x = job->compute == FD_FLOAT64 ? (const void *)ones64 : ones32, .y = flags, .bits = bits, .n = n, .scale = 1};
  job->isa->apply[job->compute][FD_SCALE](&tile);
  return flags;
}

/* An operand in the compute type; 0 if there is none. */
static const void *operand_at(const gate_job *job, fd_array operand, int64_t i, int64_t n, void *wide) {
  _Alignas(64) char narrow[PIECE * 2];
  if (!operand.data) return 0;
  if (job->itemsize > 2) return fd_flat_tile(operand, i, n, job->itemsize, wide);
  job->isa->widen[job->call->dtype](fd_flat_tile(operand, i, n, job->itemsize, narrow), n, wide);
  return wide;
}

/* The elements i .. i + n - 1; `keep` has their probabilities. */
static NOINLINE void gate_piece(const gate_job *job, int64_t i, int64_t n, const void *keep, const uint64_t *bits,
                                const uint64_t *antithetic) {
  _Alignas(64) char grad[PIECE * 8], x[PIECE * 8], losses[PIECE * 8], kept[PIECE * 8], also_kept[PIECE * 8];
  const fd_gate_call *call = job->call;
  fd_gate_tile tile = {.keep = keep, .n = n, .gain = call->bits.gate->gain, .slopes = (char *)call->y + i * job->compute_size};
  tile.kept = flags_of(job, bits, n, kept);
  if (call->estimator == FD_DISARM) tile.antithetic = flags_of(job, antithetic, n, also_kept);
  tile.grad = operand_at(job, call->grad, i, n, grad);
  tile.x = operand_at(job, call->x, i, n, x);
  if (call->losses.data) tile.losses = fd_flat_tile(call->losses, i, n, job->compute_size, losses);
  job->isa->gate_slopes[job->compute == FD_FLOAT64](&tile, call->estimator, call->divided);
}

static void gate_range(const void *work, int64_t begin, int64_t end) {
  const gate_job *job = (const gate_job *)work;
  const int64_t most = fd_most_bits(&job->call->bits);
  uint64_t antithetic[FD_TILE_WORDS + 2] = {0};
  bit_source source;
  fd_source_open(&source, job->isa, &job->call->bits);
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(most, end - i);
    if (job->call->estimator == FD_DISARM) {
      source.antithetic = 1;
      memcpy(antithetic, fd_source_bits(&source, i, n, 0), (size_t)(n + 63) / 64 * 8);
      source.antithetic = 0;
    }
    const uint64_t *bits = fd_source_bits(&source, i, n, 0);
    for (int64_t done = 0; done < n; done += PIECE)
      gate_piece(job, i + done, fd_min(PIECE, n - done), (const char *)source.tile_rates + done * job->compute_size, bits + done / 64,
                 antithetic + done / 64);
  }
}

void fd_gate_backward(const fd_isa *isa, const fd_gate_call *call, int threads) {
  const int compute = call->dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32;
  const gate_job job = {isa, call, fd_itemsize(call->dtype), fd_itemsize(compute), compute};
  fd_parallel(gate_range, &job, call->n, threads);
}
