/* blocks.c: masks that are changed after they were drawn: by blocks, by another order of axes, by rows that would be empty. Also
 * counts of masks. Maps are strings of bits, in which a step along any axis is a shift. No block crosses an edge of its
 * map, so many maps are one string, and a shift moves no bit from one map into another.
 */
#include <string.h>

#include "drivers/drive.h"

/* Packed bits are bytes in memory; on a big-endian machine the bytes of each word are swapped. */
static void swap_bytes(uint64_t *words, int64_t n) {
  if (FD_BIG_ENDIAN)
    for (int64_t k = 0; k < n; k++) words[k] = __builtin_bswap64(words[k]);
}

static int64_t words_in(int64_t bits) { return (bits + 63) / 64; }

/* words |= words << shift, as one string of bits, lowest bit first. From the top down, so that no word is read after it changed. */
static void or_shifted(uint64_t *words, int64_t n, int64_t shift) {
  const int64_t whole = shift / 64;
  const int part = (int)(shift % 64);
  if (!part) {
    for (int64_t k = n - 1; k >= whole; k--) words[k] |= words[k - whole];
    return;
  }
  for (int64_t k = n - 1; k > whole; k--) words[k] |= words[k - whole] << part | words[k - whole - 1] >> (64 - part);
  if (whole < n) words[whole] |= words[0] << part;
}

/* Extends each one to `length` ones with distances of `step`. The covered length doubles. */
static void extend(uint64_t *words, int64_t n, int64_t length, int64_t step) {
  for (int64_t covered = 1, more; covered < length; covered += more) {
    more = fd_min(covered, length - covered);
    or_shifted(words, n, more * step);
  }
}

static int64_t product(const int64_t *sizes, int n) {
  int64_t all = 1;
  for (int axis = 0; axis < n; axis++) all *= sizes[axis];
  return all;
}

/* Copies the seeds of some maps, from bit `from` on, to the first corners of their blocks in the maps. */
static void place_seeds(const fd_maps *of, const uint64_t *seeds, int64_t from, int64_t maps, uint64_t *to) {
  const int inner = of->ndim - 1;
  fd_layout rows = {.ndim = inner + 1, .shape = {maps}, .strides = {product(of->sizes, of->ndim)}};
  for (int axis = 0; axis < inner; axis++) {
    rows.shape[axis + 1] = of->sizes[axis] - of->block[axis] + 1;
    rows.strides[axis + 1] = product(of->sizes + axis + 1, inner - axis);
  }
  const int64_t length = of->sizes[inner] - of->block[inner] + 1, n = product(rows.shape, rows.ndim);
  fd_walk walk;
  fd_walk_to(&walk, &rows, 0);
  for (int64_t row = 0; row < n; row++, from += length) {
    fd_copy_bits(to, walk.at, seeds + from / 64, (int)(from % 64), length);
    fd_walk_on(&walk, &rows, 1);
  }
}

/* The number of maps at a time: whole words of them, which stay in the first cache unless one map is larger. */
enum { WORDS_AT_A_TIME = 1024 };

static int64_t maps_at_a_time(int64_t size) {
  int64_t maps = 64; /* 64 maps of any size are whole words */
  for (int64_t left = size; left % 2 == 0 && maps > 1; left /= 2) maps /= 2;
  const int64_t words = size * maps / 64;
  return words < WORDS_AT_A_TIME ? maps * (WORDS_AT_A_TIME / words) : maps;
}

void fd_drop_blocks(const fd_maps *of, uint64_t *seeds, uint64_t *kept) {
  int64_t places = 1;
  for (int axis = 0; axis < of->ndim; axis++) places *= of->sizes[axis] - of->block[axis] + 1;
  const int64_t size = product(of->sizes, of->ndim), each = maps_at_a_time(size), seed_words = words_in(of->maps * places);
  swap_bytes(seeds, seed_words);
  for (int64_t k = 0; k < seed_words; k++) seeds[k] = ~seeds[k];
  for (int64_t first = 0, maps; first < of->maps; first += maps) {
    maps = fd_min(each, of->maps - first);
    uint64_t *words = kept + first * size / 64;
    const int64_t n = words_in(maps * size);
    memset(words, 0, (size_t)n * 8);
    place_seeds(of, seeds, first * places, maps, words);
    for (int axis = of->ndim - 1; axis >= 0; axis--) extend(words, n, of->block[axis], product(of->sizes + axis + 1, of->ndim - 1 - axis));
    for (int64_t k = 0; k < n; k++) words[k] = ~words[k];
    swap_bytes(words, n);
  }
}

/* Adds neighbouring bits, pairs and quadruples; a product adds the bytes (Warren, Hacker's Delight, 5-1). */
static int64_t ones_in(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return (int64_t)(word * 0x0101010101010101u >> 56);
}

/* Transposes up to 64 rows and 64 columns of a matrix of bits. */
static void transpose_block(const uint64_t *from, int64_t at, int64_t row_bits, int64_t rows, int64_t columns, uint64_t words[64]) {
  memset(words, 0, 64 * sizeof *words);
  for (int64_t row = 0; row < rows; row++, at += row_bits) fd_copy_bits(words + row, 0, from + at / 64, (int)(at % 64), columns);
  fd_transpose(words);
}

void fd_transpose_bits(uint64_t *from, int64_t matrices, int64_t rows, int64_t columns, uint64_t *to) {
  const int64_t size = rows * columns, n = words_in(matrices * size);
  uint64_t words[64];
  swap_bytes(from, n);
  memset(to, 0, (size_t)n * 8);
  for (int64_t first = 0; first < matrices * size; first += size)
    for (int64_t row = 0; row < rows; row += 64)
      for (int64_t column = 0; column < columns; column += 64) {
        const int64_t height = fd_min(64, rows - row), width = fd_min(64, columns - column);
        transpose_block(from, first + row * columns + column, columns, height, width, words);
        for (int64_t k = 0; k < width; k++) fd_copy_bits(to, first + (column + k) * rows + row, words + k, 0, height);
      }
  swap_bytes(to, n);
}

/* Whether any of n bits from bit `first` on is a one. */
static int has_ones(const uint64_t *bits, int64_t first, int64_t n) {
  for (int64_t at = first, some; at < first + n; at += some) {
    some = fd_min(64 - at % 64, first + n - at);
    uint64_t word = bits[at / 64];
    swap_bytes(&word, 1);
    if (word >> (at % 64) & ~UINT64_C(0) >> (64 - some)) return 1;
  }
  return 0;
}

void fd_keep_empty_rows(uint64_t *bits, int64_t rows, int64_t n) {
  for (int64_t row = 0; row < rows; row++) {
    if (has_ones(bits, row * n, n)) continue;
    for (int64_t at = row * n, some; at < (row + 1) * n; at += some) {
      some = fd_min(64 - at % 64, (row + 1) * n - at);
      uint64_t ones = ~UINT64_C(0) >> (64 - some) << (at % 64);
      swap_bytes(&ones, 1);
      bits[at / 64] |= ones;
    }
  }
}

int64_t fd_count_ones(const uint64_t *bits, int64_t first, int64_t n) {
  int64_t ones = 0;
  for (int64_t at = first, some; at < first + n; at += some) {
    some = fd_min(64 - at % 64, first + n - at);
    uint64_t word = bits[at / 64];
    swap_bytes(&word, 1);
    ones += ones_in(word >> (at % 64) & ~UINT64_C(0) >> (64 - some));
  }
  return ones;
}
