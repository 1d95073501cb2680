/* draws.c: multiplies features by how often they were drawn. For each block of rows it counts the draws of every row, converts the
 * counts to factors, and applies these.
 */
#include <string.h>

#include "drivers/drive.h"

/* Shares of the 2^32 words in proportion to weights, at least one for each positive weight. Only integers are added, so
 * the order does not matter. */
void fd_share_words(const double *weights, int64_t features, uint64_t *shares) {
  double largest = 0;
  uint64_t count = 0, sum = 0, given = 0;
  for (int64_t i = 0; i < features; i++) largest = weights[i] > largest ? weights[i] : largest;
  for (int64_t i = 0; i < features; i++) {
    shares[i] = (uint64_t)(weights[i] / largest * 0x1p31);
    sum += shares[i];
    count += weights[i] > 0;
  }
  for (int64_t i = 0; i < features; i++) {
    shares[i] = shares[i] * ((UINT64_C(1) << 32) - count) / sum + (weights[i] > 0);
    given += shares[i];
  }
  uint64_t left = (UINT64_C(1) << 32) - given; /* less than one for each positive weight */
  for (int64_t i = 0; left && i < features; i++)
    if (weights[i] > 0) shares[i]++, left--;
}

/* How many rows are processed at a time: as many as fit in a piece, at least one. */
int64_t fd_draw_rows(int64_t features) { return features < FD_DRAWS_PIECE ? FD_DRAWS_PIECE / features : 1; }

int fd_draw_shift(int64_t features) {
  int bits = 3; /* of a bucket's number: on average, at most every eighth bucket has a border between two features */
  while (bits < 18 && (INT64_C(1) << (bits - 3)) < features) bits++;
  return 32 - bits;
}

/* Fills three tables: the last word of each feature, which is arbitrary for a first feature without words; for each bucket of words,
 * the first feature that owns one of them or of the following ones; and for each element of a block, the expected draws times 2^32. */
static void fill_tables(const fd_draw_call *call, const uint64_t *shares) {
  const int64_t rows = fd_min(fd_draw_rows(call->features), call->rows);
  uint64_t end = 0, b = 0;
  for (int64_t i = 0; i < call->features; i++) {
    end += shares[i];
    call->last[i] = (uint32_t)(end - 1);
    for (; b << call->shift < end; b++) call->bucket[b] = (uint32_t)i;
    for (int64_t r = 0; r < rows; r++)
      call->expected[r * call->features + i] = (double)call->k * (double)(shares[i] ? shares[i] : 1);
  }
}

typedef struct {
  const fd_isa *isa;
  const fd_draw_call *call;
  philox_call philox;
  int64_t itemsize;
  int *workers; /* the number of workers that have begun; each takes its own part of the counts */
} draws_job;

/* A bucket with a border belongs to several features, hence the second step. */
static void count_words(const fd_draw_call *call, const fd_word *words, int64_t n, uint32_t *counts) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t feature = call->bucket[words[i] >> call->shift];
    while (words[i] > call->last[feature]) feature++;
    counts[feature]++;
  }
}

/* Counts the draws of some rows. Rows that are neighbours in the stream take their words from one run of words. */
static void count_rows(const draws_job *job, int64_t row, int64_t rows, uint32_t *counts) {
  const fd_draw_call *call = job->call;
  const fd_layout *layout = call->words.layout;
  uint64_t blocks[FD_WORD_BUFFER];
  const int64_t end = (row + rows) * call->k;
  for (int64_t i = row * call->k, n; i < end; i += n) {
    int64_t place = i;
    n = fd_min(FD_MOST_WORDS, end - i);
    if (layout) { /* with one draw per row, the words of neighbours may lie apart */
      int64_t left;
      place = fd_place(layout, i, &left);
      n = layout->strides[layout->ndim - 1] == 1 ? fd_min(n, left) : 1;
    }
    const fd_word *words = fd_some_words(job->isa, &job->philox, call->words.first + (uint64_t)place, n, blocks);
    for (int64_t done = 0, some; done < n; done += some) {
      const int64_t at = i + done, in_row = at % call->k;
      some = fd_min(call->k - in_row, n - done);
      count_words(call, words + done, some, counts + (at / call->k - row) * call->features);
    }
  }
}

/* Multiplies the elements i .. i + n - 1, whose counts are given. */
static NOINLINE void multiply_piece(const draws_job *job, int64_t i, int64_t n, const uint32_t *counts, const double *expected) {
  _Alignas(64) char x[FD_DRAWS_PIECE * 8], factors[FD_DRAWS_PIECE * 8];
  uint64_t bits[FD_DRAWS_PIECE / 64 + 1];
  const fd_draw_call *call = job->call;
  const int y_is_flat = fd_layout_is_flat(call->y.layout, job->itemsize);
  job->isa->draw_factors[call->dtype == FD_FLOAT64](counts, expected, n, factors, bits);
  const fd_tile tile = {.x = fd_flat_tile(call->x, i, n, job->itemsize, x),
                        .factors = factors,
                        .y = y_is_flat ? (char *)call->y.data + i * job->itemsize : x,
                        .bits = bits,
                        .n = n};
  job->isa->apply[call->dtype][FD_WITH_RATES](&tile);
  if (!y_is_flat) fd_scatter(x, (char *)call->y.data, call->y.layout, i, n, job->itemsize);
}

static void draws_range(const void *work, int64_t begin, int64_t end) {
  const draws_job *job = (const draws_job *)work;
  const fd_draw_call *call = job->call;
  const int64_t most = fd_draw_rows(call->features), features = call->features;
  uint32_t *counts = call->counts + __atomic_fetch_add(job->workers, 1, __ATOMIC_RELAXED) * most * features;
  if (call->shared) {
    memset(counts, 0, (size_t)features * sizeof *counts);
    count_rows(job, 0, 1, counts);
  }
  for (int64_t r = 1; call->shared && r < most; r++) memcpy(counts + r * features, counts, (size_t)features * sizeof *counts);
  for (int64_t row = begin / FD_TILE * most; row < fd_min(call->rows, end / FD_TILE * most); row += most) {
    const int64_t rows = fd_min(most, call->rows - row), n = rows * features;
    if (!call->shared) {
      memset(counts, 0, (size_t)n * sizeof *counts);
      count_rows(job, row, rows, counts);
    }
    for (int64_t done = 0; done < n; done += FD_DRAWS_PIECE)
      multiply_piece(job, row * features + done, fd_min(FD_DRAWS_PIECE, n - done), counts + done, call->expected + done);
  }
}

void fd_multiply_draws(const fd_isa *isa, const fd_draw_call *call, const uint64_t *shares, int threads) {
  int workers = 0;
  const int64_t most = fd_draw_rows(call->features), blocks = (call->rows + most - 1) / most;
  const draws_job job = {isa, call, fd_philox_call(call->words.key), fd_itemsize(call->dtype), &workers};
  const uint64_t found = fd_float_begin();
  fill_tables(call, shares);
  fd_float_end(found);
  fd_parallel(draws_range, &job, blocks * FD_TILE, threads);
}
