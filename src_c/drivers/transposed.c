/* transposed.c: arrays whose memory runs along another axis than their index, as Fortran's do.
 *
 * The mask follows the C-order index, whose bits run along the last axis; the values lie together along the `fast` one. Read
 * in the order of the index, such an array touches a cache line for each element. So 64 rows of bits are made at a time,
 * and turned in blocks of 64 by 64: then each run of 64 values that lie together has its bits together too.
 */
#include <string.h>

#include "drivers/drive.h"

enum { ROWS = 64, COLUMNS = 2048, ROW_WORDS = COLUMNS / 64 };

/* Bit c of word r to bit r of word c, by swapping halves of ever smaller blocks (Warren, Hacker's Delight, 7-3). */
static void transpose(uint64_t words[64]) {
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

/* What one unit of work is about: 64 rows, which are positions on the fast axis, at one index of the axes between. */
typedef struct {
  int64_t rows, first; /* how many, and the index of the first element in C order */
  const char *x;
  char *y;
} row_block;

static row_block block_at(const fd_transposed *job, int64_t unit) {
  const fd_layout *x = job->call->x.layout, *y = job->call->y.layout;
  const int64_t blocks = (y->shape[job->fast] + ROWS - 1) / ROWS, begin = unit % blocks * ROWS;
  row_block block = {fd_min(ROWS, y->shape[job->fast] - begin), 0, (const char *)job->call->x.data,
                     (char *)job->call->y.data};
  int64_t rest = unit / blocks, elements = y->shape[y->ndim - 1];
  for (int axis = y->ndim - 2; axis >= 0; axis--) {
    const int64_t index = axis == job->fast ? begin : rest % y->shape[axis];
    if (axis != job->fast) rest /= y->shape[axis];
    block.x += index * x->strides[axis];
    block.y += index * y->strides[axis];
    block.first += index * elements;
    elements *= y->shape[axis];
  }
  return block;
}

/* The elements of one column of a block, whose keep bits are those of `bits`. */
static void apply_column(const fd_transposed *job, const char *x, char *y, int64_t n, const uint64_t *bits) {
  const fd_call *call = job->call;
  char from[ROWS * 8], to[ROWS * 8];
  const int64_t x_step = call->x.layout->strides[job->fast], y_step = call->y.layout->strides[job->fast];
  const int x_is_flat = x_step == job->itemsize, y_is_flat = y_step == job->itemsize;
  if (!x_is_flat) fd_copy_items(from, job->itemsize, x, x_step, n, job->itemsize);
  const fd_tile tile = {.x = x_is_flat ? x : from,
                        .y = y_is_flat ? y : to,
                        .bits = bits,
                        .n = n,
                        .scale = call->scale,
                        .shift = call->shift,
                        .fill = call->fill};
  job->isa->apply[call->dtype][call->op](&tile);
  if (!y_is_flat) fd_copy_items(y, y_step, to, job->itemsize, n, job->itemsize);
}

static void apply_columns(const fd_transposed *job, const row_block *block, int64_t begin, int64_t columns,
                          uint64_t slab[ROWS][ROW_WORDS]) {
  const int last = job->call->y.layout->ndim - 1;
  const int64_t x_step = job->call->x.layout->strides[last], y_step = job->call->y.layout->strides[last];
  for (int64_t column = 0; column < columns; column += 64) {
    uint64_t bits[64];
    for (int64_t row = 0; row < ROWS; row++) bits[row] = slab[row][column / 64];
    transpose(bits);
    for (int64_t k = 0; k < fd_min(64, columns - column); k++) {
      const int64_t at = begin + column + k;
      apply_column(job, block->x + at * x_step, block->y + at * y_step, block->rows, bits + k);
    }
  }
}

static void transposed_range(const void *work, int64_t begin, int64_t end) {
  const fd_transposed *job = (const fd_transposed *)work;
  const fd_layout *y = job->call->y.layout;
  const int64_t width = y->shape[y->ndim - 1];
  const int64_t most = fd_min(COLUMNS, fd_most_bits(&job->call->bits) / 64 * 64);
  int64_t row_step = 1;
  uint64_t slab[ROWS][ROW_WORDS];
  bit_source source;
  for (int axis = job->fast + 1; axis < y->ndim; axis++) row_step *= y->shape[axis];
  memset(slab, 0, sizeof slab);
  fd_source_open(&source, job->isa, &job->call->bits);
  for (int64_t unit = begin / FD_TILE; unit < (end + FD_TILE - 1) / FD_TILE; unit++) {
    const row_block block = block_at(job, unit);
    for (int64_t column = 0, columns; column < width; column += columns) {
      columns = fd_min(most, width - column);
      for (int64_t row = 0; row < block.rows; row++) {
        const int64_t first = block.first + row * row_step + column;
        memcpy(slab[row], fd_source_bits(&source, first, columns, 0), (size_t)((columns + 63) / 64) * 8);
      }
      apply_columns(job, &block, column, columns, slab);
    }
  }
}

void fd_apply_transposed(const fd_transposed *job, int threads) {
  const fd_layout *y = job->call->y.layout;
  int64_t units = (y->shape[job->fast] + ROWS - 1) / ROWS;
  for (int axis = 0; axis < y->ndim - 1; axis++)
    if (axis != job->fast) units *= y->shape[axis];
  fd_parallel(transposed_range, job, units * FD_TILE, threads); /* a unit counts as a tile */
}
