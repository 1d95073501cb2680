/* blocks.c: masks that are changed after they were drawn, without an instruction set. */
#include "selftest.h"

static int bit_at(const uint64_t *words, int64_t i) { return ((const uint8_t *)words)[i / 8] >> (i % 8) & 1; }

/* Whether the place `at` in a map is in a block whose first corner is a seed. */
static int is_covered(const fd_maps *of, const uint64_t *seeds, const int64_t at[3]) {
  const int64_t *size = of->sizes, *block = of->block;
  for (int64_t a = 0; a < size[0] - block[0] + 1; a++)
    for (int64_t b = 0; b < size[1] - block[1] + 1; b++)
      for (int64_t c = 0; c < size[2] - block[2] + 1; c++)
        if (a <= at[0] && at[0] < a + block[0] && b <= at[1] && at[1] < b + block[1] && c <= at[2] && at[2] < c + block[2] &&
            !bit_at(seeds, (a * (size[1] - block[1] + 1) + b) * (size[2] - block[2] + 1) + c))
          return 1;
  return 0;
}

static void check_transposed(void) {
  static const int64_t cases[][3] = {{1, 64, 64}, {3, 7, 130}, {5, 65, 3}, {2, 1, 9}, {4, 100, 77}};
  static uint64_t from[600], given[600], to[600];
  for (int k = 0; k < COUNT(cases); k++) {
    const int64_t matrices = cases[k][0], rows = cases[k][1], columns = cases[k][2];
    int equal = 1;
    for (uint64_t w = 0; w < 600; w++) from[w] = given[w] = (w + 3) * UINT64_C(0x9E3779B97F4A7C15);
    fd_transpose_bits(given, matrices, rows, columns, to);
    for (int64_t i = 0; i < matrices * rows * columns; i++) {
      const int64_t column = i % columns, row = i / columns % rows, first = i / (rows * columns) * rows * columns;
      equal &= bit_at(from, i) == bit_at(to, first + column * rows + row);
    }
    check(equal, "blocks", "transposed bits", (uint64_t)k, rows);
  }
}

static void check_dropped(void) {
  static const fd_maps cases[] = {
      {3, 70, {1, 1, 9}, {1, 1, 4}},   {3, 7, {1, 14, 14}, {1, 7, 7}}, {3, 2, {1, 9, 131}, {1, 3, 66}},
      {3, 3, {4, 5, 6}, {2, 3, 6}},    {3, 1, {1, 1, 1}, {1, 1, 1}},   {3, 90, {1, 2, 3}, {1, 2, 1}},
      {3, 2, {1, 1, 300}, {1, 1, 129}}, {3, 64, {1, 8, 8}, {1, 3, 2}},
  };
  static uint64_t seeds[600], given[600], kept[600];
  for (int k = 0; k < COUNT(cases); k++) {
    fd_maps of = cases[k];
    int64_t places = 1, size = 1, ones = 0, equal = 1;
    for (int axis = 0; axis < 3; axis++) places *= of.sizes[axis] - of.block[axis] + 1, size *= of.sizes[axis];
    for (size_t w = 0; w < 600; w++) seeds[w] = given[w] = ~((uint64_t)(w * w + 77 * k) % 5 ? 0 : UINT64_C(1) << (w * 37 % 64));
    if (of.sizes[0] == 1) of = (fd_maps){2, of.maps, {of.sizes[1], of.sizes[2]}, {of.block[1], of.block[2]}};
    fd_drop_blocks(&of, given, kept);
    for (int64_t i = 0; i < of.maps * size; i++) {
      uint64_t own[600] = {0};
      const int64_t map = i / size, *sizes = cases[k].sizes;
      const int64_t at[3] = {i % size / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2]};
      for (int64_t place = 0; place < places; place++)
        ((uint8_t *)own)[place / 8] |= (uint8_t)(bit_at(seeds, map * places + place) << (place % 8));
      equal &= bit_at(kept, i) == !is_covered(&cases[k], own, at);
      if (i >= 5) ones += bit_at(kept, i);
    }
    check((int)equal, "blocks", "a mask of blocks", (uint64_t)k, size);
    if (of.maps * size > 5) check(fd_count_ones(kept, 5, of.maps * size - 5) == ones, "blocks", "a count", (uint64_t)k, size);
  }
}

void check_blocks(void) {
  check_dropped();
  check_transposed();
}
