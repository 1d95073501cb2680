/* rows.c: divides rows by the sums of their kept elements, and makes the gradients. Long rows are read for their sums and then, from
 * the caches, for their values. Shorter rows are processed together, many at a time.
 */
#include <string.h>

#include "drivers/drive.h"

enum { PIECE = 4 * FD_ROW_PIECE }; /* bytes of elements of the compute type that are processed at a time */

typedef struct {
  const fd_isa *isa;
  const fd_rows *call;
  int64_t itemsize, size; /* of an element, stored and computed */
  int compute;            /* the compute type as a dtype */
  int bypass;
} rows_job;

/* The totals and the shifts of the elements of a piece; the other operands of products. */
typedef struct {
  _Alignas(64) char totals[PIECE], shifts[PIECE], values[PIECE];
} row_buffers;

/* Work on rows. `made` are the bits of the elements made_first .. made_first + made_n - 1. */
typedef struct {
  const rows_job *job;
  bit_source *source;
  row_buffers *buffers;
  const uint64_t *made;
  int64_t made_first, made_n;
  int of_products;
} row_work;

/* The bits of n elements from element i on, aligned to bit 0. A tile is made of whole pieces of n elements. */
static const uint64_t *bits_at(row_work *row, int64_t i, int64_t n, uint64_t *aligned) {
  const fd_rows *call = row->job->call;
  if (i < row->made_first || i + n > row->made_first + row->made_n) {
    row->made_first = i;
    row->made_n = fd_min(FD_TILE / n * n, call->rows * call->n - i);
    row->made = fd_source_bits(row->source, i, row->made_n, 0);
  }
  const int64_t at = i - row->made_first;
  if (at % 64 == 0) return row->made + at / 64;
  memset(aligned, 0, (size_t)(n + 127) / 64 * 8);
  fd_copy_bits(aligned, 0, row->made + at / 64, (int)(at % 64), n);
  return aligned;
}

/* Writes kept elements in the compute type, and zeros for the others. */
static void write_kept(const rows_job *job, const void *stored, int64_t i, int64_t n, const uint64_t *bits, void *out) {
  const char *x = (const char *)stored + i * job->itemsize;
  if (job->itemsize < job->size) {
    job->isa->widen[job->call->dtype](x, n, out);
    x = (const char *)out;
  }
  const fd_tile tile = {.x = x, .y = out, .bits = bits, .n = n, .scale = 1};
  job->isa->apply[job->compute][FD_SCALE](&tile);
}

/* Writes n terms of the sum of a long row: its kept elements, or their products with the gradients. */
static void write_terms(void *of_row, int64_t first, int64_t n, char *out) {
  row_work *row = (row_work *)of_row;
  const rows_job *job = row->job;
  uint64_t aligned[FD_TILE_WORDS + 2];
  const int64_t most = PIECE / job->size;
  for (int64_t i = first, some; i < first + n; i += some, out += some * job->size) {
    some = fd_min(most, first + n - i);
    const uint64_t *bits = bits_at(row, i, some, aligned);
    write_kept(job, row->of_products ? job->call->grad : job->call->x, i, some, bits, out);
    if (!row->of_products) continue;
    write_kept(job, job->call->x, i, some, bits, row->buffers->values);
    job->isa->row_products[job->size == 8](out, row->buffers->values, row->buffers->totals, some);
  }
}

/* Writes the results of n elements, of which the first is number `skip` of the piece: (x or the gradient + shift) / total. */
static void divide(row_work *row, int64_t i, int64_t skip, int64_t n) {
  const rows_job *job = row->job;
  const fd_rows *call = job->call;
  uint64_t aligned[FD_TILE_WORDS + 2];
  const fd_tile tile = {.x = (const char *)(call->grad ? call->grad : call->x) + i * job->itemsize,
                        .y = (char *)call->y + i * job->itemsize,
                        .other = row->buffers->shifts + skip * job->size,
                        .factors = row->buffers->totals + skip * job->size,
                        .bits = bits_at(row, i, n, aligned),
                        .n = n,
                        .bypass = job->bypass && fd_lead((char *)call->y + i * job->itemsize, job->itemsize) == 0};
  job->isa->apply[call->dtype][FD_DIVIDE](&tile);
}

/* The results of a piece. Streaming stores begin at the first element that is aligned to a cache line. */
static void divide_piece(row_work *row, int64_t i, int64_t n) {
  const rows_job *job = row->job;
  const int64_t lead = job->bypass ? fd_min(fd_lead((char *)job->call->y + i * job->itemsize, job->itemsize), n) : 0;
  if (lead) divide(row, i, 0, lead);
  if (lead < n) divide(row, i + lead, lead, n - lead);
}

/* Processes a row that is longer than half a piece. */
static NOINLINE void divide_row(row_work *row, int64_t first) {
  const rows_job *job = row->job;
  const fd_rows *call = job->call;
  const int is_double = job->size == 8;
  const int64_t most = fd_min(PIECE / job->size, call->n);
  const fd_halving terms = {job->isa, write_terms, row, call->n, 1, is_double, 0, 0};
  row->of_products = 0;
  fd_halve(&terms, first, row->buffers->totals);
  job->isa->row_spread[is_double](row->buffers->totals, 1, most, call->epsilon, 0);
  if (call->grad && !call->is_constant) {
    row->of_products = 1;
    fd_halve(&terms, first, row->buffers->shifts);
    job->isa->row_spread[is_double](row->buffers->shifts, 1, most, -0.0, 1);
  }
  for (int64_t i = 0; i < call->n; i += most) divide_piece(row, first + i, fd_min(most, call->n - i));
}

/* Asks for the n elements from element i on, so that memory works while sums are made. */
static void fetch(const rows_job *job, const void *stored, int64_t i, int64_t n) {
  const char *from = (const char *)stored + i * job->itemsize;
  for (int64_t k = 0; k < n * job->itemsize; k += 64) __builtin_prefetch(from + k);
}

/* Divides whole rows in registers; returns 0 if the kernels do not do this for rows of their length. Results that do not begin with a
 * cache line, as those of NumPy's large arrays, go through the caches: that takes less time than the buffers of other rows. */
static NOINLINE int divide_in_registers(const rows_job *job, int64_t first, int64_t rows, const uint64_t *bits) {
  const fd_rows *call = job->call;
  const int64_t at = first * job->itemsize;
  const fd_row_tile tile = {.x = (const char *)call->x + at,
                            .grad = call->grad ? (const char *)call->grad + at : 0,
                            .y = (char *)call->y + at,
                            .bits = bits,
                            .rows = rows,
                            .n = call->n,
                            .epsilon = call->epsilon,
                            .is_constant = call->is_constant,
                            .bypass = job->bypass && (uintptr_t)((char *)call->y + at) % 64 == 0};
  return job->isa->quotients[call->dtype](&tile);
}

/* Processes rows that are one piece together. */
static NOINLINE void divide_rows(row_work *row, int64_t first, int64_t rows) {
  const rows_job *job = row->job;
  const fd_rows *call = job->call;
  const int is_double = job->size == 8;
  const int64_t n = rows * call->n;
  row_buffers *buffers = row->buffers;
  uint64_t aligned[FD_TILE_WORDS + 2];
  const uint64_t *bits = bits_at(row, first, n, aligned);
  if (divide_in_registers(job, first, rows, bits)) return;
  write_kept(job, call->x, first, n, bits, buffers->totals);
  if (call->grad && !call->is_constant) {
    write_kept(job, call->x, first, n, bits, buffers->values);
    write_kept(job, call->grad, first, n, bits, buffers->shifts);
  }
  fetch(job, call->x, first + n, n);
  job->isa->row_sums[is_double](buffers->totals, rows, call->n);
  job->isa->row_spread[is_double](buffers->totals, rows, call->n, call->epsilon, 0);
  if (call->grad && !call->is_constant) {
    fetch(job, call->grad, first + n, n);
    job->isa->row_products[is_double](buffers->shifts, buffers->values, buffers->totals, n);
    job->isa->row_sums[is_double](buffers->shifts, rows, call->n);
    job->isa->row_spread[is_double](buffers->shifts, rows, call->n, -0.0, 1);
  }
  divide_piece(row, first, n);
}

/* Processes the rows that begin among the elements begin .. end - 1, of which there is at least one. */
static NOINLINE void divide_all(bit_source *source, const rows_job *job, int64_t begin, int64_t end) {
  const fd_rows *call = job->call;
  const int64_t most = PIECE / job->size, together = 2 * call->n <= most ? most / call->n : 1;
  row_buffers buffers;
  row_work row = {.job = job, .source = source, .buffers = &buffers};
  memset(buffers.shifts, 0, (size_t)job->size);
  job->isa->row_spread[job->size == 8](buffers.shifts, 1, fd_min(most, end - begin + call->n), 0, 1); /* of rows without gradients */
  for (int64_t first = begin, rows; first < end; first += rows * call->n) {
    rows = fd_min(together, (end - first + call->n - 1) / call->n);
    if (together > 1) divide_rows(&row, first, rows);
    else divide_row(&row, first);
  }
}

static void rows_range(const void *work, int64_t begin, int64_t end) {
  const rows_job *job = (const rows_job *)work;
  const int64_t n = job->call->n;
  bit_source source;
  fd_source_open(&source, job->isa, &job->call->bits);
  divide_all(&source, job, (begin + n - 1) / n * n, end);
  if (job->bypass) job->isa->fence();
}

void fd_divide_rows(const fd_isa *isa, const fd_rows *call, int threads) {
  const int64_t itemsize = fd_itemsize(call->dtype), n = call->rows * call->n;
  rows_job job = {isa, call, itemsize, itemsize == 8 ? 8 : 4, itemsize == 8 ? FD_FLOAT64 : FD_FLOAT32, 0};
  job.bypass = call->y != call->x && call->y != call->grad && n * itemsize >= call->bypass_bytes;
  fd_parallel(rows_range, &job, n, threads);
}
