/* targets.c: the elements of least magnitude of each column, by selection with a histogram of binary digits: most significant digits
 * first, until the digits so far decide every column.
 */
#include <string.h>

#include "drivers/drive.h"

enum { LEAST_WIDTH = 4, MOST_WIDTH = 11 }; /* bits per digit */

/* The state of a column: the digits of its last target so far, and how many of the elements with these digits are targets. */
typedef struct {
  uint64_t digits;
  int64_t left;
} column;

typedef struct {
  const fd_target_call *call;
  int64_t begin, columns; /* a block of columns */
  int width;
  column state[FD_TARGET_COLUMNS];
  uint32_t *counts; /* one row of 2^width counts for each column of the block */
} selection;

/* The magnitude as an integer of the same order; NaN counts as infinite. */
INLINE uint64_t magnitude_at(const void *x, int dtype, int64_t i) {
  if (dtype == FD_FLOAT64) {
    const uint64_t bits = ((const uint64_t *)x)[i] & 0x7FFFFFFFFFFFFFFF;
    return bits < 0x7FF0000000000000 ? bits : 0x7FF0000000000000;
  }
  if (dtype == FD_FLOAT32) {
    const uint32_t bits = ((const uint32_t *)x)[i] & 0x7FFFFFFF;
    return bits < 0x7F800000 ? bits : 0x7F800000;
  }
  const uint16_t bits = ((const uint16_t *)x)[i] & 0x7FFF, infinity = dtype == FD_FLOAT16 ? 0x7C00 : 0x7F80;
  return bits < infinity ? bits : infinity;
}

static int magnitude_bits(int dtype) { return dtype == FD_FLOAT64 ? 63 : dtype == FD_FLOAT32 ? 31 : 15; }

/* Counts the next digit, above bit `shift`, of the elements that have the digits so far. */
INLINE void count_digits(selection *with, int dtype, int shift, int is_first) {
  const fd_target_call *call = with->call;
  const uint64_t mask = (UINT64_C(1) << with->width) - 1;
  const int width = with->width;
  for (int64_t row = 0; row < call->rows; row++)
    for (int64_t k = 0; k < with->columns; k++) {
      const uint64_t digits = magnitude_at(call->x, dtype, row * call->columns + with->begin + k) >> shift;
      if (is_first || digits >> width == with->state[k].digits) with->counts[((uint64_t)k << width) + (digits & mask)]++;
    }
}

/* Adds a digit to each column. Returns whether all columns are decided: all elements with the digits so far are targets. */
static int choose_digits(selection *with) {
  int decided = 1;
  for (int64_t k = 0; k < with->columns; k++) {
    const uint32_t *counts = with->counts + (k << with->width);
    column *state = &with->state[k];
    uint64_t digit = 0;
    for (; state->left > counts[digit]; digit++) state->left -= counts[digit];
    state->digits = state->digits << with->width | digit;
    decided &= state->left == counts[digit];
  }
  return decided;
}

/* Of equal digits, the first ones are targets. */
INLINE void mark_others(selection *with, int dtype, int shift) {
  const fd_target_call *call = with->call;
  for (int64_t row = 0; row < call->rows; row++)
    for (int64_t k = 0; k < with->columns; k++) {
      const int64_t i = row * call->columns + with->begin + k;
      const uint64_t digits = magnitude_at(call->x, dtype, i) >> shift;
      column *state = &with->state[k];
      const int is_last = digits == state->digits, is_target = digits < state->digits || (is_last && state->left > 0);
      state->left -= is_last;
      call->spared[i] = (uint8_t)!is_target;
    }
}

INLINE void select_typed(selection *with, int dtype) {
  int shift = magnitude_bits(dtype) - with->width, decided = 0;
  for (int is_first = 1;; is_first = 0, shift = shift > with->width ? shift - with->width : 0) {
    memset(with->counts, 0, (size_t)(with->columns << with->width) * sizeof *with->counts);
    if (is_first) count_digits(with, dtype, shift, 1);
    else count_digits(with, dtype, shift, 0);
    decided = choose_digits(with);
    if (decided || !shift) break;
    if (shift < with->width) with->width = shift;
  }
  mark_others(with, dtype, shift);
}

static void select_block(selection *with) {
  switch (with->call->dtype) {
    case FD_FLOAT32: select_typed(with, FD_FLOAT32); break;
    case FD_FLOAT64: select_typed(with, FD_FLOAT64); break;
    case FD_FLOAT16: select_typed(with, FD_FLOAT16); break;
    default: select_typed(with, FD_BFLOAT16);
  }
}

/* Few elements need few counts. */
static int first_width(int64_t rows) {
  int width = LEAST_WIDTH;
  while (width < MOST_WIDTH && INT64_C(1) << width < rows) width++;
  return width;
}

int64_t fd_target_counts(int64_t rows, int64_t columns) { return fd_min(columns, FD_TARGET_COLUMNS) << first_width(rows); }

typedef struct {
  const fd_target_call *call;
  int *workers; /* the number of workers that have begun; each takes its own part of the counts */
} targets_job;

static void targets_range(const void *work, int64_t begin, int64_t end) {
  const targets_job *job = (const targets_job *)work;
  const fd_target_call *call = job->call;
  const int64_t worker = __atomic_fetch_add(job->workers, 1, __ATOMIC_RELAXED), most = FD_TARGET_COLUMNS;
  for (int64_t block = begin / FD_TILE; block < end / FD_TILE; block++) {
    selection with = {.call = call, .begin = block * most, .width = first_width(call->rows)};
    with.columns = fd_min(most, call->columns - with.begin);
    with.counts = call->counts + worker * fd_target_counts(call->rows, call->columns);
    for (int64_t k = 0; k < with.columns; k++) with.state[k].left = call->targets;
    select_block(&with);
  }
}

void fd_find_others(const fd_target_call *call, int threads) {
  int workers = 0;
  const targets_job job = {call, &workers};
  const int64_t blocks = (call->columns + FD_TARGET_COLUMNS - 1) / FD_TARGET_COLUMNS;
  fd_parallel(targets_range, &job, blocks * FD_TILE, threads);
}
