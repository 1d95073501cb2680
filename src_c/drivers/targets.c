/* targets.c: the elements of least magnitude of each column, by selection with a histogram of binary digits: most significant digits
 * first, until the digits so far decide. Columns are copied, a block at a time, so that the elements of each are neighbours. Short
 * columns are sorted instead, side by side.
 */
#include <string.h>

#include "drivers/drive.h"

enum { LEAST_WIDTH = 4, MOST_WIDTH = 11 }; /* bits per digit */
/* Columns of at most so many bytes are sorted, in vectors of 256 bits or more, if there are at least so many columns. */
enum { SHORT = 1024, LEAST_COLUMNS = 8 };

typedef struct {
  const fd_isa *isa;
  const fd_target_call *call;
  int *workers; /* the number of workers that have begun; each takes its own part of the copies */
} targets_job;

int64_t fd_target_copies(int64_t rows, int64_t columns) {
  if (columns == 1) return 0;
  return rows * (columns >= LEAST_COLUMNS ? FD_TARGET_COLUMNS : columns);
}

/* Whether columns are sorted, which takes fewer instructions the longer the vectors are. */
static int are_sorted(const fd_isa *isa, int dtype, const fd_target_rows *rows) {
  const int64_t bytes = rows->rows * fd_itemsize(dtype);
  return rows->lanes >= LEAST_COLUMNS && bytes <= (isa->vector_bits >= 256 ? SHORT : SHORT / 4);
}

/* Few elements need few counts. */
static int first_width(int64_t rows) {
  int width = LEAST_WIDTH;
  while (width < MOST_WIDTH && INT64_C(1) << width < rows) width++;
  return width;
}

/* Finds the digit of the target that has `left` targets at or before it. Returns how many elements with this digit are no targets. */
static int64_t choose_digit(uint32_t *counts, int width, int64_t *left, uint64_t *digit) {
  uint32_t *last = counts + (1 << width) - 1;
  const uint32_t of_last = *last;
  *last = UINT32_MAX; /* the search ends here, also if another thread has changed the weights since they were counted */
  for (*digit = 0; *left > counts[*digit]; ++*digit) *left -= counts[*digit];
  *last = of_last;
  return counts[*digit] - *left;
}

/* Returns the limit above the targets among the magnitudes of n neighbours. `surplus` elements right below it are no targets. */
static uint64_t limit_of(const targets_job *job, const void *x, int64_t n, int64_t *surplus) {
  static const int bits[FD_DTYPES] = {[FD_FLOAT32] = 31, [FD_FLOAT64] = 63, [FD_FLOAT16] = 15, [FD_BFLOAT16] = 15};
  uint32_t counts[1 << MOST_WIDTH];
  fd_digits digits = {.shift = bits[job->call->dtype], .width = first_width(n), .is_first = 1};
  int64_t left = job->call->targets;
  for (;; digits.is_first = 0) {
    uint64_t digit;
    digits.width = (int)fd_min(digits.width, digits.shift);
    digits.shift -= digits.width;
    memset(counts, 0, sizeof *counts << digits.width);
    job->isa->count_digits[job->call->dtype](x, n, &digits, counts);
    *surplus = choose_digit(counts, digits.width, &left, &digit);
    digits.so_far = digits.so_far << digits.width | digit;
    if (!*surplus || !digits.shift) return (digits.so_far + 1) << digits.shift;
  }
}

/* Selects among the elements of up to FD_TARGET_COLUMNS columns. Of equal elements, the last ones are spared. */
static void select_block(const targets_job *job, const fd_target_rows *rows, char *copies, uint8_t *spared) {
  const int dtype = job->call->dtype;
  uint64_t limits[FD_TARGET_COLUMNS];
  int64_t surplus[FD_TARGET_COLUMNS];
  if (job->call->columns > 1) job->isa->copy_columns[dtype](rows, copies);
  for (int64_t k = 0; k < rows->lanes; k++) {
    const char *column = job->call->columns > 1 ? copies + k * rows->rows * fd_itemsize(dtype) : (const char *)rows->x;
    limits[k] = limit_of(job, column, rows->rows, surplus + k);
  }
  if (job->call->columns > 1) job->isa->spare_larger[dtype](rows, limits, spared);
  else job->isa->spare_neighbours[dtype](rows->x, rows->rows, limits[0], spared);
  for (int64_t k = 0; k < rows->lanes; k++) job->isa->spare_last[dtype](rows, k, limits[k], surplus[k], spared);
}

static void targets_range(const void *work, int64_t begin, int64_t end) {
  const targets_job *job = (const targets_job *)work;
  const fd_target_call *call = job->call;
  const int64_t worker = __atomic_fetch_add(job->workers, 1, __ATOMIC_RELAXED), itemsize = fd_itemsize(call->dtype);
  char *copies = (char *)call->copies + worker * fd_target_copies(call->rows, call->columns) * itemsize;
  for (int64_t block = begin / FD_TILE; block < end / FD_TILE; block++) {
    const int64_t first = block * FD_TARGET_COLUMNS;
    const fd_target_rows rows = {(const char *)call->x + first * itemsize, call->rows, call->columns, fd_min(FD_TARGET_COLUMNS, call->columns - first)};
    if (are_sorted(job->isa, call->dtype, &rows)) job->isa->spare_few[call->dtype](&rows, call->targets, copies, call->spared + first);
    else select_block(job, &rows, copies, call->spared + first);
  }
}

void fd_find_others(const fd_isa *isa, const fd_target_call *call, int threads) {
  int workers = 0;
  const targets_job job = {isa, call, &workers};
  const int64_t blocks = (call->columns + FD_TARGET_COLUMNS - 1) / FD_TARGET_COLUMNS;
  fd_parallel(targets_range, &job, blocks * FD_TILE, threads);
}
