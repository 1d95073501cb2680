/* rows.c: divides rows by the sums of their kept elements, and the gradient of that. Each row is read for its sums and then, from the
 * caches, for its values. The bits of short rows are made for many rows at a time.
 */
#include <string.h>

#include "drivers/drive.h"

enum { PRODUCTS = 256 };

typedef struct {
  const fd_isa *isa;
  const fd_rows *call;
  int64_t itemsize, size; /* of an element, stored and computed */
  int compute;            /* the compute type as a dtype */
  int bypass;
} rows_job;

/* One row in work. `made` are the bits of the elements made_first .. made_first + made_n - 1. */
typedef struct {
  const rows_job *job;
  bit_source *source;
  const uint64_t *made;
  int64_t made_first, made_n;
  int64_t first, end; /* the row's first element, and the end of the elements whose bits may be made */
  double total; /* the kernels round it to the compute type */
  int of_products;
} row_work;

/* The bits of n elements from element i on, aligned to bit 0. */
static const uint64_t *bits_at(row_work *row, int64_t i, int64_t n, uint64_t *aligned) {
  if (i < row->made_first || i + n > row->made_first + row->made_n) {
    row->made_first = i;
    row->made_n = fd_min(FD_TILE, row->end - i);
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

/* Writes n terms of a row's sum, from term `from` on: its kept elements, or their products with the gradients. */
static void write_terms(void *of_row, int64_t from, int64_t n, char *out) {
  row_work *row = (row_work *)of_row;
  const rows_job *job = row->job;
  _Alignas(64) char values[PRODUCTS * 8];
  uint64_t aligned[FD_TILE_WORDS + 2];
  const int64_t most = row->of_products ? PRODUCTS : FD_TILE;
  for (int64_t done = 0, some; done < n; done += some, out += some * job->size) {
    const int64_t i = row->first + from + done;
    some = fd_min(most, n - done);
    const uint64_t *bits = bits_at(row, i, some, aligned);
    if (row->of_products) {
      write_kept(job, job->call->grad, i, some, bits, out);
      write_kept(job, job->call->x, i, some, bits, values);
      job->isa->row_products[job->size == 8](out, values, row->total, some);
    } else {
      write_kept(job, job->call->x, i, some, bits, out);
    }
  }
}

static NOINLINE double sum_row(row_work *row) {
  const rows_job *job = row->job;
  const fd_halving terms = {job->isa, write_terms, row, job->call->n, 1, job->size == 8};
  union {
    double wide;
    float narrow;
  } sum;
  fd_halve(&terms, &sum);
  return job->size == 8 ? sum.wide : (double)sum.narrow;
}

/* Writes a row's results: (x or the gradient + shift) / total. */
static NOINLINE void divide_row(row_work *row, double shift) {
  const rows_job *job = row->job;
  const fd_rows *call = job->call;
  const char *from = (const char *)(call->grad ? call->grad : call->x);
  uint64_t aligned[FD_TILE_WORDS + 2];
  for (int64_t i = row->first, n; i < row->first + call->n; i += n) {
    n = fd_min(FD_TILE, row->first + call->n - i);
    char *y = (char *)call->y + i * job->itemsize;
    const fd_tile tile = {.x = from + i * job->itemsize,
                          .y = y,
                          .bits = bits_at(row, i, n, aligned),
                          .n = n,
                          .scale = row->total,
                          .shift = shift,
                          .bypass = job->bypass && (uintptr_t)y % 64 == 0};
    job->isa->apply[call->dtype][FD_DIVIDE](&tile);
  }
}

/* Processes some short rows together, so that their kept elements are written at once. */
static NOINLINE void divide_short_rows(row_work *row, int64_t rows) {
  const rows_job *job = row->job;
  const fd_rows *call = job->call;
  const int is_double = job->size == 8;
  const int64_t n = rows * call->n, row_size = call->n * job->size;
  _Alignas(64) char values[PRODUCTS * 8], terms[PRODUCTS * 8], grads[PRODUCTS * 8];
  uint64_t aligned[PRODUCTS / 64 + 2];
  const uint64_t *bits = bits_at(row, row->first, n, aligned);
  write_kept(job, call->x, row->first, n, bits, values);
  if (call->grad) write_kept(job, call->grad, row->first, n, bits, grads);
  memcpy(terms, values, (size_t)(n * job->size));
  for (int64_t at = 0; at < rows * row_size; at += row_size, row->first += call->n) {
    double slope = 0;
    row->total = job->isa->row_sum[is_double](terms + at, call->n) + call->epsilon;
    if (call->grad && !call->is_constant) {
      job->isa->row_products[is_double](grads + at, values + at, row->total, call->n);
      slope = job->isa->row_sum[is_double](grads + at, call->n);
    }
    divide_row(row, -slope);
  }
}

/* Processes the rows that begin among the elements begin .. end - 1. */
static void rows_range(const void *work, int64_t begin, int64_t end) {
  const rows_job *job = (const rows_job *)work;
  const fd_rows *call = job->call;
  bit_source source;
  fd_source_open(&source, job->isa, &call->bits);
  row_work row = {.job = job, .source = &source, .end = call->rows * call->n};
  row.first = (begin + call->n - 1) / call->n * call->n;
  for (int64_t rows; 2 * call->n <= PRODUCTS && row.first < end;) {
    rows = fd_min(PRODUCTS / call->n, (end - row.first + call->n - 1) / call->n);
    divide_short_rows(&row, rows);
  }
  for (; row.first < end; row.first += call->n) {
    double slope = 0; /* the gradient along the row */
    row.of_products = 0;
    row.total = sum_row(&row) + call->epsilon;
    if (call->grad && !call->is_constant) {
      row.of_products = 1;
      slope = sum_row(&row);
    }
    divide_row(&row, -slope);
  }
  if (job->bypass) job->isa->fence();
}

void fd_divide_rows(const fd_isa *isa, const fd_rows *call, int threads) {
  const int64_t itemsize = fd_itemsize(call->dtype), n = call->rows * call->n;
  rows_job job = {isa, call, itemsize, itemsize == 8 ? 8 : 4, itemsize == 8 ? FD_FLOAT64 : FD_FLOAT32, 0};
  job.bypass = call->y != call->x && call->y != call->grad && n * itemsize >= call->bypass_bytes;
  fd_parallel(rows_range, &job, n, threads);
}
