/* sums.c: rows that are divided by their sums, and sums along an axis. */
#include "selftest.h"

/* Overwrites the first n elements of y and want with the rows' results; want is made element by element. */
static void check_rows(const fd_isa *isa, int dtype, int64_t rows, int64_t n, int kind) {
  static double x[MOST], grad[MOST], y[MOST], want[MOST], terms[MOST];
  static uint8_t kept[MOST];
  const int64_t all = rows * n;
  const fd_layout flat = line_of(all, 1, 1);
  const fd_key key = {11, (uint64_t)kind};
  fd_rows call = {.bits = {.key = key, .rate = fd_rate_of(0.3), .mask_layout = &flat}, .dtype = dtype, .rows = rows, .n = n};
  call.epsilon = to_compute(1e-8, dtype), call.x = x, call.y = y, call.is_constant = kind == 2;
  call.bypass_bytes = kind % 2 ? 0 : INT64_MAX;
  if (kind) call.grad = grad;
  for (int64_t i = 0; i < all; i++) {
    set_element(x, dtype, i, (double)(i * i % 97) / 64);
    set_element(grad, dtype, i, (double)(i * 31 % 89) / 32 - 1);
    kept[i] = (uint8_t)is_kept(key, fixed_of(0.3), (uint64_t)i);
  }
  for (int64_t row = 0; row < rows; row++) {
    double slope = 0;
    for (int64_t i = 0; i < n; i++) terms[i] = kept[row * n + i] ? element(x, dtype, row * n + i) : 0;
    const double total = to_compute(halved_sum(terms, n, dtype) + call.epsilon, dtype);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = row * n + i;
      const double share = to_compute(element(x, dtype, at) / total, dtype);
      terms[i] = kept[at] ? to_compute(element(grad, dtype, at) * share, dtype) : 0;
    }
    if (kind == 1) slope = halved_sum(terms, n, dtype);
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
      const double value = to_compute(element(kind ? grad : x, dtype, i) - slope, dtype);
      set_element(want, dtype, i, kept[i] ? to_compute(value / total, dtype) : 0);
    }
  }
  fd_divide_rows(isa, &call, 1 + kind);
  int equal = 1;
  for (int64_t i = 0; i < all; i++) equal &= same_element(y, want, dtype, i);
  check(equal, fd_isa_name(isa), "rows that are divided by their sums", (uint64_t)(dtype * 10 + kind), n);
}

/* The products of maps with their factors, of a call whose sums are known. Kind 2: in place of the elements. */
static void check_multiplied_maps(const fd_isa *isa, fd_sum_call call, int kind) {
  static double sums[MOST], factors[MOST], room[MOST + 1], want[MOST];
  const int dtype = call.x_dtype, type = compute_type(dtype);
  const int64_t each = call.n * call.inner, n = call.outer * each, bytes = call.outer * call.inner * itemsize_of(call.dtype);
  const void *known = call.y;
  for (int64_t k = 0; k < call.outer; k++) set_element(factors, type, k, (double)(k * 31 % 89) / 48 - 1);
  for (int64_t i = 0; i < n; i++)
    set_element(want, dtype, i, to_compute(element(call.x, dtype, i) * element(factors, type, i / each), dtype));
  call.y = sums, call.factors = factors, call.bypass_bytes = kind == 1 ? 0 : INT64_MAX;
  call.product = kind == 2 ? (void *)(uintptr_t)call.x : (char *)room + itemsize_of(type);
  fd_sum_axis(isa, &call, 1 + kind);
  int equal = !memcmp(sums, known, (size_t)bytes);
  for (int64_t i = 0; i < n; i++) equal &= same_element(call.product, want, dtype, i);
  check(equal, fd_isa_name(isa), "sums and products of maps", (uint64_t)(dtype * 10 + kind), call.n);
}

/* Sums along the middle axis of an array of (outer, n, inner); kind 1: of products, kind 2: of products in float64. */
static void check_axis(const fd_isa *isa, int dtype, const int64_t shape[3], int kind) {
  static double x[MOST], other[MOST], y[MOST], terms[MOST];
  const int type = kind == 2 ? FD_FLOAT64 : compute_type(dtype);
  const int64_t outer = shape[0], n = shape[1], inner = shape[2];
  for (int64_t i = 0; i < outer * n * inner; i++) {
    set_element(x, dtype, i, (double)(i * i % 97) / 64);
    set_element(other, dtype, i, (double)(i * 31 % 89) / 32 - 1);
  }
  fd_sum_call call = {.x_dtype = dtype, .dtype = type, .outer = outer, .n = n, .inner = inner};
  call.x = x, call.other = kind ? other : 0, call.y = y;
  fd_sum_axis(isa, &call, 1 + kind);
  int equal = 1;
  for (int64_t o = 0; o < outer; o++)
    for (int64_t j = 0; j < inner; j++) {
      for (int64_t i = 0; i < n; i++) {
        const int64_t at = (o * n + i) * inner + j;
        terms[i] = kind ? to_compute(element(x, dtype, at) * element(other, dtype, at), type) : element(x, dtype, at);
      }
      equal &= element(y, type, o * inner + j) == halved_sum(terms, n, type);
    }
  check(equal, fd_isa_name(isa), "sums along an axis", (uint64_t)(dtype * 10 + kind), n);
  check_multiplied_maps(isa, call, kind);
}

enum { MOST_SQUARES = (1 << 18) + 7 }; /* terms for which there is room */

/* A single sum of squares, without and with the caller's room, which has guards. */
static void check_squares(const fd_isa *isa, int dtype, int64_t n) {
  static double x[MOST_SQUARES], terms[MOST_SQUARES];
  static _Alignas(64) char room[MOST_SQUARES];
  const int64_t bytes = fd_sum_room(n, 1);
  check(n < MOST_SQUARES ? !bytes : bytes > 0 && bytes < MOST_SQUARES, fd_isa_name(isa), "room of a sum", (uint64_t)dtype, n);
  memset(room, 0x5A, sizeof room);
  for (int64_t i = 0; i < n; i++) {
    set_element(x, dtype, i, (double)(i * 31 % 89) / 32 - 1);
    terms[i] = element(x, dtype, i) * element(x, dtype, i);
  }
  const double want = halved_sum(terms, n, FD_FLOAT64);
  for (int given = 0; given < 2; given++) {
    double y;
    const fd_sum_call call = {.x_dtype = dtype, .dtype = FD_FLOAT64, .outer = 1, .n = n, .inner = 1, .x = x, .other = x, .y = &y,
                              .room = given ? room : 0};
    fd_sum_axis(isa, &call, 2);
    check(y == want, fd_isa_name(isa), "a sum of squares", (uint64_t)(dtype * 10 + given), n);
  }
  int untouched = 1;
  for (int64_t k = bytes; k < MOST_SQUARES; k++) untouched &= room[k] == 0x5A;
  check(untouched, fd_isa_name(isa), "guards of the room of a sum", (uint64_t)dtype, n);
}

void check_sums(const fd_isa *isa) {
  static const int64_t rows[][2] = {{900, 5}, {300, 8}, {70, 64}, {37, 16}, {9, 32}, {5, 512}, {9, 130}, {7, 160}, {4, 272},
                                    {2, 2049}, {1, 4097}, {1, 9001}, {11000, 1}};
  static const int64_t shapes[][3] = {{900, 5, 1}, {7, 64, 20}, {2, 13, 300}, {3, 1, 129}, {1, 9001, 1},
                                      {2, 700, 3}, {1, 33, 128}, {3, 50, 61}, {2, 6, 700}, {180, 7, 7}, {90, 3, 31}};
  static const int64_t lengths[] = {1, 3, 4096, 4097, 16384, 20001, MOST_SQUARES};
  for (int dtype = 0; dtype < FD_DTYPES; dtype++)
    for (int k = 0; k < COUNT(lengths); k++) check_squares(isa, dtype, lengths[k]);
  for (int dtype = 0; dtype < FD_DTYPES; dtype++)
    for (int kind = 0; kind < 3; kind++) {
      for (int k = 0; k < COUNT(rows); k++) check_rows(isa, dtype, rows[k][0], rows[k][1], kind);
      for (int k = 0; k < COUNT(shapes); k++) check_axis(isa, dtype, shapes[k], kind);
    }
}
