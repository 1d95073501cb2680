/* transposed.c: arrays that are contiguous along an axis other than the last, as in Fortran order.
 *
 * The mask follows the C-order index, so its bits run along the last axis. The values are contiguous along the axis `fast`. In
 * index order, each element of such an array would touch its own cache line. The array is therefore split into blocks that stay
 * in the caches. The rows of a block are positions on the fast axis, its columns positions on the last axis. The bits of 64
 * rows are transposed in blocks of 64 by 64. Then the bits of each run of 64 contiguous values are contiguous too. If there are
 * few rows or few columns, the values are transposed instead.
 */
#include <string.h>

#include "drivers/drive.h"

enum { ROWS = 64, COLUMNS = 1024, ROW_WORDS = COLUMNS / 64, COLUMNS_OF_FEW_ROWS = 2048, RUN = 256, TURNED = 8192 };

/* Swaps halves of ever smaller blocks (Warren, Hacker's Delight, 7-3). */
void fd_transpose(uint64_t words[64]) {
  uint64_t low_halves = 0x00000000FFFFFFFFu;
  for (int size = 32; size; size >>= 1, low_halves ^= low_halves << size) {
    for (int row = 0; row < 64; row = (row + size + 1) & ~size) {
      const uint64_t swap = (words[row] >> size ^ words[row + size]) & low_halves;
      words[row] ^= swap << size;
      words[row + size] ^= swap;
    }
  }
}

int fd_transposed_axis(const fd_layout *x, const fd_layout *y) {
  int fast = y->ndim - 1;
  if (x->ndim != y->ndim) return -1;
  for (int axis = 0; axis < y->ndim; axis++) {
    if (x->shape[axis] != y->shape[axis]) return -1;
    const int64_t step = y->strides[axis] < 0 ? -y->strides[axis] : y->strides[axis];
    const int64_t least = y->strides[fast] < 0 ? -y->strides[fast] : y->strides[fast];
    if (step < least) fast = axis;
  }
  return fast == y->ndim - 1 ? -1 : fast;
}

/* Whether all values along an axis would fit in one cache line. */
static int is_short(const fd_transposed *job, int axis) { return job->call->y.layout->shape[axis] * job->itemsize < 64; }

static int has_few_rows(const fd_transposed *job) { return is_short(job, job->fast); }

/* Whether there are few columns, and neighbouring rows have neighbouring indices. */
static int has_few_columns(const fd_transposed *job) {
  const int last = job->call->y.layout->ndim - 1;
  return job->fast == last - 1 && is_short(job, last) && !has_few_rows(job);
}

static int64_t columns_at_once(const fd_transposed *job) {
  return fd_min(has_few_rows(job) ? COLUMNS_OF_FEW_ROWS : COLUMNS, fd_most_bits(&job->call->bits) / 64 * 64);
}

static int64_t rows_at_once(const fd_transposed *job) {
  const fd_layout *y = job->call->y.layout;
  if (!has_few_columns(job)) return ROWS;
  return fd_min(TURNED / job->itemsize, fd_most_bits(&job->call->bits)) / y->shape[y->ndim - 1];
}

/* One unit of work: a block at one index of the other axes. */
typedef struct {
  int64_t rows, columns;
  int64_t first, row_step; /* the C-order index of the first element, and the distance between neighbouring rows */
  const char *x;
  char *y;
} block;

static int64_t blocks_of(int64_t n, int64_t each) { return (n + each - 1) / each; }

static block block_at(const fd_transposed *job, int64_t unit) {
  const fd_layout *x = job->call->x.layout, *y = job->call->y.layout;
  const int last = y->ndim - 1;
  block at = {.x = (const char *)job->call->x.data, .y = (char *)job->call->y.data};
  int64_t elements = 1;
  for (int axis = last; axis >= 0; axis--) {
    const int64_t each = axis == last ? columns_at_once(job) : axis == job->fast ? rows_at_once(job) : 1;
    const int64_t blocks = blocks_of(y->shape[axis], each);
    const int64_t index = unit % blocks * each;
    unit /= blocks;
    at.x += index * x->strides[axis];
    at.y += index * y->strides[axis];
    at.first += index * elements;
    if (axis == last) at.columns = fd_min(each, y->shape[axis] - index);
    if (axis == job->fast) at.rows = fd_min(each, y->shape[axis] - index), at.row_step = elements;
    elements *= y->shape[axis];
  }
  return at;
}

/* Processes n elements along an axis with the keep bits in `bits`. */
static void apply_along(const fd_transposed *job, int axis, const char *x, char *y, int64_t n, const uint64_t *bits) {
  const fd_call *call = job->call;
  _Alignas(64) char from[RUN * 8], to[RUN * 8];
  const int64_t x_step = call->x.layout->strides[axis], y_step = call->y.layout->strides[axis];
  const int x_is_flat = x_step == job->itemsize, y_is_flat = y_step == job->itemsize;
  for (int64_t run; n > 0; n -= run, x += run * x_step, y += run * y_step, bits += RUN / 64) {
    run = fd_min(RUN, n);
    if (!x_is_flat) fd_copy_items(from, job->itemsize, x, x_step, run, job->itemsize);
    const fd_tile tile = {.x = x_is_flat ? x : from,
                          .y = y_is_flat ? y : to,
                          .bits = bits,
                          .n = run,
                          .scale = call->scale,
                          .shift = call->shift,
                          .fill = call->fill};
    job->isa->apply[call->dtype][call->op](&tile);
    if (!y_is_flat) fd_copy_items(y, y_step, to, job->itemsize, run, job->itemsize);
  }
}

/* Makes the bits of a block's rows; rows with consecutive indices are made together. */
static void fill_slab(bit_source *source, const block *of, uint64_t slab[ROWS][ROW_WORDS]) {
  const int64_t most = of->row_step == of->columns ? fd_most_bits(source->from) / of->columns : 1;
  for (int64_t row = 0, rows; row < of->rows; row += rows) {
    rows = fd_min(most, of->rows - row);
    const uint64_t *bits = fd_source_bits(source, of->first + row * of->row_step, rows * of->columns, 0);
    for (int64_t k = 0, at = 0; k < rows; k++, at += of->columns) {
      memset(slab[row + k], 0, sizeof slab[row + k]);
      fd_copy_bits(slab[row + k], 0, bits + at / 64, (int)(at % 64), of->columns);
    }
  }
}

/* Processes a block column by column. */
static NOINLINE void apply_columns(const fd_transposed *job, const block *of, bit_source *source) {
  const int last = job->call->y.layout->ndim - 1;
  const int64_t x_step = job->call->x.layout->strides[last], y_step = job->call->y.layout->strides[last];
  uint64_t slab[ROWS][ROW_WORDS], bits[64 + 1] = {0}; /* kernels may read one word more */
  for (int64_t row = of->rows; row < ROWS; row++) memset(slab[row], 0, sizeof slab[row]);
  fill_slab(source, of, slab);
  for (int64_t column = 0; column < of->columns; column++) {
    if (column % 64 == 0) {
      for (int64_t row = 0; row < ROWS; row++) bits[row] = slab[row][column / 64];
      fd_transpose(bits);
    }
    apply_along(job, job->fast, of->x + column * x_step, of->y + column * y_step, of->rows, bits + column % 64);
  }
}

/* Processes a block row by row. */
static void apply_rows(const fd_transposed *job, const block *of, bit_source *source) {
  const int64_t x_step = job->call->x.layout->strides[job->fast], y_step = job->call->y.layout->strides[job->fast];
  const int last = job->call->y.layout->ndim - 1;
  for (int64_t row = 0; row < of->rows; row++) {
    const uint64_t *bits = fd_source_bits(source, of->first + row * of->row_step, of->columns, 0);
    apply_along(job, last, of->x + row * x_step, of->y + row * y_step, of->columns, bits);
  }
}

/* Processes a block of few columns, which is transposed in a buffer. */
static NOINLINE void apply_turned(const fd_transposed *job, const block *of, bit_source *source) {
  const fd_call *call = job->call;
  const fd_layout *x = call->x.layout, *y = call->y.layout;
  const int last = y->ndim - 1;
  const int64_t size = job->itemsize, row_size = of->columns * size;
  _Alignas(64) char values[TURNED];
  for (int64_t k = 0; k < of->columns; k++)
    fd_copy_items(values + k * size, row_size, of->x + k * x->strides[last], x->strides[job->fast], of->rows, size);
  const fd_tile tile = {.x = values,
                        .y = values,
                        .bits = fd_source_bits(source, of->first, of->rows * of->columns, 0),
                        .n = of->rows * of->columns,
                        .scale = call->scale,
                        .shift = call->shift,
                        .fill = call->fill};
  job->isa->apply[call->dtype][call->op](&tile);
  for (int64_t k = 0; k < of->columns; k++)
    fd_copy_items(of->y + k * y->strides[last], y->strides[job->fast], values + k * size, row_size, of->rows, size);
}

static void transposed_range(const void *work, int64_t begin, int64_t end) {
  const fd_transposed *job = (const fd_transposed *)work;
  bit_source source;
  fd_source_open(&source, job->isa, &job->call->bits);
  for (int64_t unit = begin / FD_TILE; unit < blocks_of(end, FD_TILE); unit++) {
    const block of = block_at(job, unit);
    if (has_few_rows(job))
      apply_rows(job, &of, &source);
    else if (has_few_columns(job))
      apply_turned(job, &of, &source);
    else
      apply_columns(job, &of, &source);
  }
}

void fd_apply_transposed(const fd_transposed *job, int threads) {
  const fd_layout *y = job->call->y.layout;
  int64_t units = blocks_of(y->shape[y->ndim - 1], columns_at_once(job));
  for (int axis = 0; axis < y->ndim - 1; axis++) units *= blocks_of(y->shape[axis], axis == job->fast ? rows_at_once(job) : 1);
  fd_parallel(transposed_range, job, units * FD_TILE, threads); /* a unit counts as a tile */
}
