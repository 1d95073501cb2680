/* targets.c: the elements of least magnitude of each column, by selection with a histogram of binary digits: most significant digits
 * first, until the digits so far decide every column. A few elements are compared with each other instead.
 */
#include <string.h>

#include "drivers/drive.h"

enum { LEAST_WIDTH = 4, MOST_WIDTH = 11 }; /* bits per digit */

typedef struct {
  const fd_isa *isa;
  const fd_target_call *call;
  int *workers; /* the number of workers that have begun; each takes its own part of the counts */
} targets_job;

/* A block of columns, one lane each; left[k] of the elements with the digits of lane k are targets, and `surplus` are not. A single
 * column has all lanes, in the order of its elements, and the state of lane 0. */
typedef struct {
  const targets_job *job;
  fd_target_rows rows;
  int64_t columns, rest; /* rest: the elements of a single column that do not fill the lanes */
  uint64_t digits[FD_TARGET_COLUMNS];
  int64_t left[FD_TARGET_COLUMNS], surplus[FD_TARGET_COLUMNS];
} selection;

/* Few elements need few counts. */
static int first_width(int64_t rows) {
  int width = LEAST_WIDTH;
  while (width < MOST_WIDTH && INT64_C(1) << width < rows) width++;
  return width;
}

int64_t fd_target_counts(int64_t rows, int64_t columns) { return fd_min(columns, FD_TARGET_COLUMNS) << first_width(rows); }

static fd_target_rows rest_of(const selection *with, int64_t itemsize) {
  fd_target_rows rest = with->rows;
  rest.x = (const char *)rest.x + rest.rows * rest.step * itemsize;
  rest.rows = 1;
  rest.lanes = with->rest;
  return rest;
}

static void count_digits(selection *with) {
  const targets_job *job = with->job;
  const int dtype = job->call->dtype;
  memset(with->rows.counts, 0, (size_t)(with->columns << with->rows.width) * sizeof *with->rows.counts);
  job->isa->count_digits[dtype](&with->rows);
  if (!with->rest) return;
  const fd_target_rows rest = rest_of(with, fd_itemsize(dtype));
  job->isa->count_digits[dtype](&rest);
}

/* Adds a digit to each column. Returns whether all columns are decided: all elements with the digits so far are targets. */
static int choose_digits(selection *with) {
  int64_t undecided = 0;
  for (int64_t k = 0; k < with->columns; k++) {
    uint32_t *counts = with->rows.counts + k * with->rows.counts_step, *last = counts + (1 << with->rows.width) - 1;
    const uint32_t of_last = *last;
    uint64_t digit = 0;
    *last = UINT32_MAX; /* the search ends here, also if another thread has changed the weights since they were counted */
    for (; with->left[k] > counts[digit]; digit++) with->left[k] -= counts[digit];
    *last = of_last;
    with->digits[k] = with->digits[k] << with->rows.width | digit;
    undecided |= with->surplus[k] = counts[digit] - with->left[k];
  }
  for (int64_t k = with->columns; k < with->rows.lanes; k++) with->digits[k] = with->digits[0];
  return !undecided;
}

/* Of equal elements, the last ones are spared. */
static void spare_others(const selection *with, int64_t begin) {
  const targets_job *job = with->job;
  const fd_target_call *call = job->call;
  const int dtype = call->dtype;
  job->isa->spare_larger[dtype](&with->rows, call->spared + begin);
  if (with->rest) {
    const fd_target_rows rest = rest_of(with, fd_itemsize(dtype));
    job->isa->spare_larger[dtype](&rest, call->spared + with->rows.rows * with->rows.step);
  }
  fd_target_rows columns = with->rows;
  columns.rows = call->rows, columns.step = call->columns;
  for (int64_t k = 0; k < with->columns; k++) job->isa->spare_last[dtype](&columns, k, with->surplus[k], call->spared + begin);
}

static void select_block(selection *with, int64_t begin) {
  static const int bits[FD_DTYPES] = {[FD_FLOAT32] = 31, [FD_FLOAT64] = 63, [FD_FLOAT16] = 15, [FD_BFLOAT16] = 15};
  fd_target_rows *rows = &with->rows;
  rows->shift = bits[with->job->call->dtype];
  for (rows->is_first = 1;; rows->is_first = 0) {
    rows->width = (int)fd_min(rows->width, rows->shift);
    rows->shift -= rows->width;
    if (rows->counts_step) rows->counts_step = INT64_C(1) << rows->width;
    count_digits(with);
    if (choose_digits(with) || !rows->shift) break;
  }
  spare_others(with, begin);
}

static void targets_range(const void *work, int64_t begin, int64_t end) {
  const targets_job *job = (const targets_job *)work;
  const fd_target_call *call = job->call;
  const int64_t worker = __atomic_fetch_add(job->workers, 1, __ATOMIC_RELAXED), most = FD_TARGET_COLUMNS;
  const int is_few = call->rows <= FD_FEW_ROWS, is_single = call->columns == 1 && !is_few;
  for (int64_t block = begin / FD_TILE; block < end / FD_TILE; block++) {
    const int64_t first = block * most;
    selection with = {.job = job, .columns = fd_min(most, call->columns - first), .rest = is_single ? call->rows % most : 0};
    with.rows = (fd_target_rows){.x = (const char *)call->x + first * fd_itemsize(call->dtype),
                                 .rows = is_single ? call->rows / most : call->rows,
                                 .step = is_single ? most : call->columns,
                                 .lanes = is_single ? most : with.columns,
                                 .digits = with.digits,
                                 .width = first_width(call->rows),
                                 .counts = call->counts + worker * fd_target_counts(call->rows, call->columns),
                                 .counts_step = !is_single};
    for (int64_t k = 0; k < with.columns; k++) with.left[k] = call->targets;
    if (is_few) job->isa->spare_few[call->dtype](&with.rows, call->targets, call->spared + first);
    else select_block(&with, first);
  }
}

void fd_find_others(const fd_isa *isa, const fd_target_call *call, int threads) {
  int workers = 0;
  const targets_job job = {isa, call, &workers};
  const int64_t blocks = (call->columns + FD_TARGET_COLUMNS - 1) / FD_TARGET_COLUMNS;
  fd_parallel(targets_range, &job, blocks * FD_TILE, threads);
}
