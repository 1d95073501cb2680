/* dropout.c: the fused pass. For each tile it makes the bits and then applies them to the values. */
#include <string.h>

#include "drivers/drive.h"

/* A run of at least LEAST_SHARED_RUN elements that share one decision is copied or filled as a whole, without expanding its bits. A
 * run of one rate that is longer than WORTH_A_LINE elements begins with a tile that ends at a cache line. */
enum { LEAST_SHARED_RUN = 256, WORTH_A_LINE = 1024 };

typedef struct {
  const fd_isa *isa;
  const fd_call *call;
  int64_t itemsize;
  int op;        /* the operation of the call; with runs of one rate, the operation that has a single scale */
  int runs;      /* a tile ends at the end of a run of one rate or of one scale */
  int flat;      /* x and y are contiguous in C order */
  int bypass;    /* y is written with streaming stores, past the caches */
  int shared;    /* elements share decisions in long runs, and dropped elements need no operand */
  int64_t period;       /* the length of a short bias, or 0 */
  const char *repeated; /* a short bias and, after it, the elements of a piece that begins with its last element */
  int64_t piece;        /* the most elements of a piece */
  int number_in_runs;
  const fd_layout *in_runs[4];
} dropout_job;

/* Whether x is the only operand. */
static int is_simple(int op) { return op == FD_SCALE || op == FD_AFFINE || op == FD_SIGNED; }

/* Whether each element has a factor of its own, made from its rate. */
static int has_factors(const dropout_job *job) { return job->op < FD_AFFINE && job->op & FD_WITH_RATES; }

/* A piece of a tile has at most PIECE_BYTES of an operand that must be copied to a buffer. Factors are made in short pieces, so that
 * the divisions of one piece overlap with the memory traffic of the previous piece. */
enum { PIECE_BYTES = 4096, FACTORS = 256 };

/* Operands with runs of at least LONG_RUN neighbours, such as a long bias or a part of each row, are read and written in place. A
 * copy waits behind the streaming stores of the piece before it, and the kernel waits for the copy. */
enum { LONG_RUN = 1024 };

static int is_in_long_runs(fd_array array, int64_t itemsize) {
  const int inner = array.layout->ndim - 1;
  return array.layout->strides[inner] == itemsize && array.layout->shape[inner] >= LONG_RUN;
}

/* Sets the most elements of a piece, and finds the operands in long runs. */
static void choose_pieces(dropout_job *job) {
  const fd_array none = {0}, bias = job->period ? none : job->call->bias, operands[4] = {job->call->x, job->call->y, job->call->other, bias};
  const int64_t copied = PIECE_BYTES / job->itemsize;
  job->piece = has_factors(job) ? FACTORS : job->period ? copied : FD_TILE;
  for (int k = 0; k < 4; k++) {
    if (!operands[k].data || fd_layout_is_flat(operands[k].layout, job->itemsize)) continue;
    if (is_in_long_runs(operands[k], job->itemsize)) job->in_runs[job->number_in_runs++] = operands[k].layout;
    else job->piece = fd_min(job->piece, copied);
  }
}

/* The number of elements of the piece that begins at element i: up to the end of a run, in whole words of bits. The elements around
 * an end are a piece of their own, which is copied. */
static int64_t piece_at(const dropout_job *job, int64_t i) {
  int64_t n = job->piece;
  for (int k = 0; k < job->number_in_runs; k++) {
    const int64_t length = job->in_runs[k]->shape[job->in_runs[k]->ndim - 1];
    n = fd_min(n, length - i % length);
  }
  return n < 64 ? 64 : n / 64 * 64;
}

/* Computes the factors of n elements of the source's tile, from element `done` of the tile on. */
static void factors_at(const dropout_job *job, const bit_source *source, int64_t done, int64_t n, void *factors) {
  const int64_t size = source->tile_rates_dtype & FD_FLOAT64 ? 8 : 4;
  const void *rates = (const char *)source->tile_rates + done * size;
  job->isa->factors[job->call->dtype](rates, source->tile_rates_dtype, n, factors);
}

/* Processes a tile from element i on that has operands besides x, or operands that are not flat. The kernels know only flat arrays, so
 * operands without long runs go through buffers; the result then overwrites the buffer of x.
 * Not inlined, so that its buffers and those of the bits are never on the stack together. */
static NOINLINE void gathered_tile(const dropout_job *job, int64_t i, const fd_tile *tile, const bit_source *source) {
  _Alignas(64) char x[PIECE_BYTES], bias[PIECE_BYTES], other[PIECE_BYTES], factors[FACTORS * 8];
  const fd_call *call = job->call;
  const int with_factors = has_factors(job);
  fd_tile piece = *tile;
  if (with_factors) piece.factors = factors;
  for (int64_t done = 0; done < tile->n; done += piece.n, i += piece.n) {
    piece.n = fd_min(piece_at(job, i), tile->n - done);
    piece.bits = tile->bits + done / 64;
    piece.x = fd_flat_tile(call->x, i, piece.n, job->itemsize, x);
    if (job->period)
      piece.bias = job->repeated + i % job->period * job->itemsize;
    else if (call->bias.data)
      piece.bias = fd_flat_tile(call->bias, i, piece.n, job->itemsize, bias);
    if (call->other.data) piece.other = fd_flat_tile(call->other, i, piece.n, job->itemsize, other);
    char *y = fd_neighbours(call->y, i, piece.n, job->itemsize);
    piece.y = y ? y : x;
    if (with_factors) factors_at(job, source, done, piece.n, factors);
    job->isa->apply[call->dtype][job->op](&piece);
    if (!y) fd_scatter(x, (char *)call->y.data, call->y.layout, i, piece.n, job->itemsize);
  }
}

/* How many elements from i on are scaled alike, and by what. */
static int64_t scale_at(const dropout_job *job, int64_t i, double *scale) {
  const fd_call *call = job->call;
  int64_t run = INT64_MAX;
  *scale = call->scale;
  if (!job->runs) return run;
  if (call->scales) {
    *scale = call->scales[i / call->scale_run];
    return call->scale_run - i % call->scale_run;
  }
  const double rate = fd_rate_at(&call->bits, i, &run);
  if (job->op != call->op) *scale = fd_inverted_scale(rate, call->dtype);
  return run;
}

static fd_tile tile_at(const dropout_job *job, int64_t i, int64_t n, const uint64_t *bits, double scale) {
  const fd_call *call = job->call;
  const int64_t at = i * job->itemsize;
  return (fd_tile){(const char *)call->x.data + at, 0, 0, 0, (char *)call->y.data + at, bits, n, scale, call->shift,
                   call->fill, job->bypass, 0};
}

static void dropout_range(const void *work, int64_t begin, int64_t end) {
  const dropout_job *job = (const dropout_job *)work;
  const fd_call *call = job->call;
  const int simple = job->flat && is_simple(job->op);
  const int64_t most = fd_most_bits(&call->bits);
  bit_source source;
  fd_source_open(&source, job->isa, &call->bits);
  for (int64_t i = begin, n; i < end; i += n) {
    double scale;
    const int64_t left = fd_min(end - i, scale_at(job, i, &scale));
    int64_t before = 0;
    prefetch_run ahead = {0, fd_min(64, 16 * job->itemsize)};
    n = fd_min(most, left);
    if (job->flat) {
      const int64_t at = i * job->itemsize;
      /* Streaming stores need whole cache lines. In the caches, a read across two lines costs more than such a write. */
      before = fd_lead((const char *)(job->bypass ? call->y.data : call->x.data) + at, job->itemsize);
      if (before && left > (job->runs ? WORTH_A_LINE : 2 * most)) n = before; /* the following tiles begin at a cache line */
      ahead.at = (const char *)call->x.data + at + (job->bypass ? job->isa->ahead : 0); /* where the last prefetch ended */
    }
    const uint64_t *bits = fd_source_bits(&source, i, n, job->flat ? &ahead : 0);
    fd_tile tile = tile_at(job, i, n, bits, scale);
    tile.bypass = job->bypass && !before;
    if (simple)
      job->isa->apply[call->dtype][job->op](&tile);
    else
      gathered_tile(job, i, &tile, &source);
  }
  if (job->bypass) job->isa->fence();
}

/* The end of the elements from i on that share a decision and a scale. Neighbouring runs with the same decision are one, because the two
 * ends of a run, which are not whole cache lines, are written apart. */
static int64_t shared_end(const dropout_job *job, bit_source *source, int64_t i, int64_t end, int *keep, double *scale) {
  int64_t past = i + fd_min(fd_source_run(source, i, keep), scale_at(job, i, scale));
  while (past < end && !job->runs) {
    int next;
    const int64_t run = fd_source_run(source, past, &next);
    if (next != *keep) break;
    past += run;
  }
  return fd_min(past, end);
}

/* Processes runs that share a decision. Dropped runs are not read: the kernel reads `nothing` instead, which must have been written.
 * Constants of the library in its place took 400 ns per masked load of AVX-512 in some processes, probably because a load that keeps no
 * lane does not fetch a page that the system has not yet mapped. */
static void shared_range(const void *work, int64_t begin, int64_t end) {
  static const uint64_t none[FD_TILE_WORDS + 1];
  uint64_t all[FD_TILE_WORDS + 1];
  _Alignas(64) char nothing[PIECE_BYTES];
  const dropout_job *job = (const dropout_job *)work;
  const fd_call *call = job->call;
  bit_source source;
  memset(all, 0xFF, sizeof all);
  memset(nothing, 0, (size_t)fd_min(PIECE_BYTES, (end - begin) * job->itemsize));
  fd_source_open(&source, job->isa, &call->bits);
  for (int64_t i = begin; i < end;) {
    int keep;
    double scale;
    const int64_t run_end = shared_end(job, &source, i, end, &keep, &scale), most = keep ? FD_TILE : PIECE_BYTES / job->itemsize;
    for (int64_t n; i < run_end; i += n) {
      const int64_t before = fd_lead((const char *)call->y.data + i * job->itemsize, job->itemsize);
      n = fd_min(before ? before : most, run_end - i);
      fd_tile tile = tile_at(job, i, n, keep ? all : none, scale);
      tile.bypass = job->bypass && !before;
      if (!keep) tile.x = nothing, tile.is_apart = 1;
      job->isa->apply[call->dtype][job->op](&tile);
    }
  }
  if (job->bypass) job->isa->fence();
}

/* Repeats a bias that all rows share, if it fits in a piece. Made once per call, so that no piece has to copy it. */
static void repeat_bias(dropout_job *job, char repeated[2 * PIECE_BYTES]) {
  const fd_array bias = job->call->bias;
  const int64_t most = PIECE_BYTES / job->itemsize;
  if (!bias.data || bias.layout->ndim != 2 || bias.layout->strides[0] || bias.layout->shape[1] > most) return;
  job->period = bias.layout->shape[1];
  job->repeated = repeated;
  fd_gather(repeated, bias.data, bias.layout, 0, fd_min(job->call->n, job->period - 1 + most), job->itemsize);
}

void fd_apply(const fd_isa *isa, const fd_call *call, int threads) {
  _Alignas(64) char repeated[2 * PIECE_BYTES];
  const int64_t itemsize = fd_itemsize(call->dtype);
  const fd_bits *bits = &call->bits;
  const fd_layout *mask = bits->mask_layout;
  dropout_job job = {.isa = isa, .call = call, .itemsize = itemsize, .op = call->op};
  const int rate_runs = fd_has_rate_runs(bits);
  job.runs = rate_runs || call->scales;
  if (rate_runs && call->op < FD_AFFINE) job.op &= ~FD_WITH_RATES;
  job.flat = fd_layout_is_flat(call->x.layout, itemsize) && fd_layout_is_flat(call->y.layout, itemsize);
  job.bypass = job.flat && call->x.data != call->y.data && call->n * itemsize >= call->bypass_bytes;
  job.shared = job.flat && is_simple(job.op) && job.op != FD_SIGNED && (!bits->rates.data || rate_runs) && mask->strides[mask->ndim - 1] == 0 && mask->shape[mask->ndim - 1] >= LEAST_SHARED_RUN;
  repeat_bias(&job, repeated);
  if (!job.flat || !is_simple(job.op)) choose_pieces(&job);
  const int fast = fd_transposed_axis(call->x.layout, call->y.layout);
  if (fast >= 0 && is_simple(call->op) && !call->scales) {
    const fd_transposed transposed = {isa, call, itemsize, fast};
    fd_apply_transposed(&transposed, threads);
    return;
  }
  fd_parallel(job.shared ? shared_range : dropout_range, &job, call->n, threads);
}
