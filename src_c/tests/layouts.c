/* layouts.c: arrays with their axes in another order in memory, and with gaps between the elements. */
#include "selftest.h"

enum { MOST_STRIDED = 4 * 70000 };

/* A strided array gets the result of the flat one. */
static void check_strided(const fd_isa *isa, const int64_t shape[3], const int order[3], int gap, int dtype, fd_bits bits) {
  static double flat_x[MOST_STRIDED], flat_y[MOST_STRIDED], x[MOST_STRIDED], y[MOST_STRIDED];
  const int64_t size = itemsize_of(dtype), n = shape[0] * shape[1] * shape[2];
  int64_t strides[3], step = size * gap;
  for (int k = 2; k >= 0; k--) strides[order[k]] = step, step *= shape[order[k]];
  const fd_layout flat = line_of(n, size, size);
  fd_layout strided;
  fd_layout_of(&strided, 3, shape, strides, size);
  memset(x, 0, sizeof x), memset(y, 0xA5, sizeof y);
  fd_call call = {.bits = bits, .op = FD_AFFINE, .dtype = dtype, .n = n, .scale = 1.25, .shift = 2, .fill = -1.75};
  call.bypass_bytes = INT64_MAX;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i / shape[2] / shape[1] * strides[0] + i / shape[2] % shape[1] * strides[1] + i % shape[2] * strides[2];
    set_element(flat_x, dtype, i, (double)(i % 251)), set_element(x, dtype, at / size, (double)(i % 251));
  }
  call.x = (fd_array){flat_x, &flat}, call.y = (fd_array){flat_y, &flat};
  fd_apply(isa, &call, 1);
  call.x = (fd_array){x, &strided}, call.y = (fd_array){y, &strided};
  fd_apply(isa, &call, 3);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i / shape[2] / shape[1] * strides[0] + i / shape[2] % shape[1] * strides[1] + i % shape[2] * strides[2];
    equal &= !memcmp((char *)flat_y + i * size, (char *)y + at, (size_t)size);
    if (gap > 1) equal &= ((unsigned char *)y)[at + size] == 0xA5; /* the gaps between the elements */
  }
  check(equal, fd_isa_name(isa), "a strided array", (uint64_t)(shape[2] * 10 + dtype), n);
}

/* The axes are shorter and longer than a block, so that every kind of block occurs. */
void check_layouts(const fd_isa *isa) {
  static const int64_t shapes[][3] = {{1, 2, 30011}, {3, 300, 71}, {2, 9001, 3}, {5, 64, 128}, {31, 7, 257}, {1, 65, 1031}, {3, 5, 7}};
  static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  int turn = 0;
  for (int s = 0; s < COUNT(shapes); s++)
    for (int o = 0; o < COUNT(orders); o++, turn++)
      check_strided(isa, shapes[s], orders[o], 1 + turn % 5 / 3, turn % FD_DTYPES, bits_of((fd_key){1, 2}, 0.3, (uint64_t)turn * 37));
}
