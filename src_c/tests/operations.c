/* operations.c: operations under masks with their own layout, one rate per element, and elements of each type. */
#include "selftest.h"

static double expected_value(const fd_call *call, int64_t i, int keep, double p) {
  const int dtype = call->dtype, op = call->op;
  const double x = element(call->x.data, dtype, i);
  if (op == FD_SELECT) return keep ? x : element(call->other.data, dtype, i);
  if (op == FD_AFFINE) return keep ? to_compute(to_compute(x * call->scale, dtype) + call->shift, dtype) : call->fill;
  if (op == FD_SIGNED) {
    const double sign = x > 0 ? 1 : -1, product = to_compute(x * call->scale, dtype);
    if (!(x > 0 || x < 0)) return keep ? product : 0;
    return keep ? to_compute(product + sign * call->shift, dtype) : -sign * call->fill;
  }
  double value = 0;
  if (keep) {
    const double sum = op & FD_WITH_BIAS ? to_compute(x + element(call->bias.data, dtype, i), dtype) : x;
    value = to_compute(sum * (op & FD_WITH_RATES ? to_compute(1.0 / (1.0 - p), dtype) : call->scale), dtype);
  }
  return op & FD_WITH_RESIDUAL ? to_compute(element(call->other.data, dtype, i) + value, dtype) : value;
}

static const laid_mask laid_masks[] = {
    {{1, 1, 9001}, {0, 0, 1}},       /* the layout of the array */
    {{1, 1, 70003}, {0, 0, 0}},      /* one decision, for several threads */
    {{1, 31, 301}, {0, 1, 0}},       /* one decision per row, long enough to be copied as a whole */
    {{7, 129, 5}, {129, 1, 0}},      /* the same, short */
    {{1, 4501, 2}, {0, 1, 0}},       /* groups of two */
    {{3, 97, 32}, {97, 1, 0}},       /* the longest groups that are repeated by words */
    {{3, 97, 33}, {97, 1, 0}},       /* longer ones */
    {{40, 3, 21}, {7, 0, 1}},        /* groups of rows */
    {{1, 31, 301}, {0, 0, 1}},       /* one decision per column */
    {{5, 7, 131}, {131, 0, 1}},      /* the middle axis shared */
    {{1, 1, 4500}, {0, 0, 3}},       /* one of three columns */
    {{9, 20, 37}, {100000, 500, 1}}, /* a block of a larger array */
};

/* The rates of the elements of a mask: one, one per element, or one per run along the last axis. */
enum { ONE_RATE, RATE_EACH, RATE_RUNS, RATE_KINDS };

static const double one_rate = 0.3;

/* The bits of a call, and what they are by definition: one rate per element unless rates is null, and which ones are kept. */
typedef struct {
  laid_mask mask;
  fd_bits bits;
  const double *rates;
  uint8_t *kept;
} laid_bits;

static void keep_laid(const laid_bits *of) {
  uint64_t before = UINT64_MAX;
  for (int64_t i = 0; i < size_of_mask(&of->mask); i++) {
    const uint64_t index = index_in(&of->mask, of->bits.first, i);
    const double own = of->rates ? of->rates[i] : one_rate;
    of->kept[i] = !of->rates && index == before ? of->kept[i - 1] : own < 1 && is_kept(of->bits.key, fixed_of(own), index);
    before = index;
  }
}

static void check_laid(const fd_isa *isa, const laid_bits *of, int op, int dtype, int turn) {
  static _Alignas(64) double x[MOST_LAID], bias[MOST_LAID], other[MOST_LAID], want[MOST_LAID], y[MOST_LAID + 64];
  static const double some[] = {0.1, -0.0, INFINITY, NAN, 1e-40, 65504, -1.75, 3e38, 6e-8, 1, -2.5};
  const int64_t n = size_of_mask(&of->mask), itemsize = itemsize_of(dtype);
  const int misaligned = turn % 5;
  const fd_layout flat = line_of(n, itemsize, itemsize);
  for (int64_t i = 0; i < n; i++) {
    set_element(x, dtype, i, some[i % 11] + (double)(i % 977) / 8);
    set_element(bias, dtype, i, some[(i + 3) % 11]);
    set_element(other, dtype, i, some[(i + 7) % 11] * (double)(i % 5));
  }
  memset(y, 0xA5, sizeof y);
  unsigned char *out = (unsigned char *)y + GUARD + misaligned * itemsize;
  fd_call call = {.bits = of->bits, .op = op, .dtype = dtype, .n = n, .shift = to_compute(-0.1, dtype), .fill = -1.75};
  call.scale = of->rates ? 1.25 : fd_inverted_scale(one_rate, dtype);
  call.x = (fd_array){x, &flat}, call.y = (fd_array){out, &flat};
  if (op == FD_SELECT || (op < FD_AFFINE && op & FD_WITH_RESIDUAL)) call.other = (fd_array){other, &flat};
  if (op < FD_AFFINE && op & FD_WITH_BIAS) call.bias = (fd_array){bias, &flat};
  call.bypass_bytes = turn % 2 ? 0 : INT64_MAX;
  fd_apply(isa, &call, 1 + turn % 3);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) set_element(want, dtype, i, expected_value(&call, i, of->kept[i], of->rates ? of->rates[i] : one_rate));
  check(guards_hold((unsigned char *)y, (size_t)((n + misaligned) * itemsize)), fd_isa_name(isa), "guards of a laid mask",
        of->bits.first, n);
  memmove(y, out, (size_t)(n * itemsize));
  for (int64_t i = 0; i < n; i++) equal &= same_element(y, want, dtype, i);
  check(equal, fd_isa_name(isa), "a laid mask and an operation", (uint64_t)(op * 10 + dtype), n);
}

static void check_laid_mask(const fd_isa *isa, const laid_bits *of) {
  static uint8_t bytes[MOST_LAID], packed[MOST_LAID / 8 + 1];
  const int64_t n = size_of_mask(&of->mask);
  fd_mask_bytes(isa, &of->bits, n, bytes, 3);
  fd_mask_packed(isa, &of->bits, n, packed, 2);
  int equal = !memcmp(bytes, of->kept, (size_t)n);
  for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) equal &= (packed[i / 8] >> (i % 8) & 1) == (i < n ? of->kept[i] : 0);
  check(equal, fd_isa_name(isa), "a laid mask's bits", of->bits.first, n);
}

/* Bits that were made before, laid over elements as those of the stream are; and one scale per run of elements. */
static void check_laid_packed(const fd_isa *isa, const laid_mask *mask, int turn) {
  static uint8_t packed[MOST_LAID / 8 + FD_GROUP], kept[MOST_LAID];
  static float x[MOST_LAID], y[MOST_LAID], want[MOST_LAID];
  static double scales[MOST_LAID];
  const int64_t n = size_of_mask(mask), run = 300 + turn;
  const fd_layout flat = line_of(n, 4, 4);
  fd_layout layout;
  if (index_in(mask, 0, n - 1) >= MOST_LAID) return;
  fd_layout_of(&layout, 3, mask->shape, mask->steps, 1);
  for (size_t k = 0; k < sizeof packed; k++) packed[k] = (uint8_t)(k * k * 37 + k / 3);
  for (int64_t i = 0; i < n; i++) {
    const uint64_t index = index_in(mask, 0, i);
    kept[i] = packed[index / 8] >> (index % 8) & 1;
    scales[i] = (double)(float)(1 + 0.01 * (double)(i % 50));
    x[i] = (float)(i % 97) - 50;
    want[i] = kept[i] ? x[i] * (float)scales[i / run] : 0;
  }
  fd_call call = {.bits = {.packed = packed, .mask_layout = &layout}, .dtype = FD_FLOAT32, .n = n, .scales = scales, .scale_run = run};
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &flat};
  call.bypass_bytes = turn % 2 ? 0 : INT64_MAX;
  fd_apply(isa, &call, 1 + turn % 3);
  check(!memcmp(y, want, (size_t)n * 4), fd_isa_name(isa), "a laid mask of packed bits, with scales", (uint64_t)turn, n);
}

/* The bits of the stream over a mask, of one kind of rates. */
static void check_stream_bits(const fd_isa *isa, laid_bits *of, int kind, int rates_dtype, int *turn) {
  static const double many[] = {0.3, 0.0, 1.0, 0x1p-64, 0x1p-65, 0x1.8p-64, 0.5, 1 - 0x1p-53, 0.9, 1e-3, 0.25, 0x1.fp-60, 0.7};
  static double given[MOST_LAID], rates[MOST_LAID];
  const int64_t n = size_of_mask(&of->mask), size = itemsize_of(rates_dtype), run = kind == RATE_RUNS ? of->mask.shape[2] : 1;
  fd_layout rate_layout;
  fd_layout_of(&rate_layout, 2, (const int64_t[]){n / run, run}, (const int64_t[]){size, run > 1 ? 0 : size}, size);
  for (int64_t i = 0; i < n; i++) set_element(given, rates_dtype, i, many[i % COUNT(many)]);
  for (int64_t i = 0; i < n; i++) rates[i] = element(given, rates_dtype, i / run);
  of->rates = kind == ONE_RATE ? 0 : rates;
  of->bits.rates = kind == ONE_RATE ? (fd_array){0} : (fd_array){given, &rate_layout};
  of->bits.rates_dtype = rates_dtype;
  keep_laid(of);
  check_laid_mask(isa, of);
  for (int op = 0; op < FD_MASKED_OPS; op++, ++*turn) {
    if (kind == ONE_RATE && op < FD_AFFINE && op & FD_WITH_RATES) continue;
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) check_laid(isa, of, op, dtype, *turn + dtype);
  }
}

/* Bits and flags that were made before. */
static void check_given_bits(const fd_isa *isa, const laid_bits *drawn, int packed, int dtype, int turn) {
  static uint8_t bits[MOST_LAID / 8 + 1];
  const int64_t n = size_of_mask(&drawn->mask);
  const fd_layout flat = line_of(n, 1, 1);
  memset(bits, 0, sizeof bits);
  for (int64_t i = 0; i < n; i++) bits[i / 8] |= (uint8_t)(drawn->kept[i] << (i % 8));
  laid_bits of = {.mask = drawn->mask, .bits = {.mask_layout = &flat}, .kept = drawn->kept};
  if (packed) of.bits.packed = bits;
  else of.bits.flags = (fd_array){of.kept, &flat};
  check_laid(isa, &of, FD_SCALE, dtype, turn);
}

/* Groups along one axis of rows of n elements; `before` positions of the first group come before the row. */
typedef struct {
  int64_t rows, n, group, before;
} cut_off;

static void check_groups_cut_off(const fd_isa *isa) {
  static const cut_off cases[] = {{300, 29, 3, 2}, {1, 9001, 7, 5}, {17, 65, 32, 0}, {9, 600, 290, 100}, {40, 2, 2, 1}};
  static uint8_t kept[MOST_LAID];
  for (int k = 0; k < COUNT(cases); k++) {
    const cut_off *row = &cases[k];
    const int64_t n = row->n, groups = (row->before + n - 1) / row->group + 1, whole = groups * row->group;
    fd_layout mask, places;
    fd_layout_of(&mask, 3, (const int64_t[]){row->rows, groups, row->group}, (const int64_t[]){groups, 1, 0}, 1);
    fd_layout_of(&places, 2, (const int64_t[]){row->rows, n}, (const int64_t[]){whole, 1}, 1);
    laid_bits of = {.mask = {{1, row->rows, n}, {0, n, 1}}, .kept = kept};
    of.bits = (fd_bits){.key = {5, 6}, .rate = fd_rate_of(one_rate), .first = 1000, .mask_layout = &mask};
    of.bits.places = &places, of.bits.first_place = row->before;
    for (int64_t i = 0; i < row->rows * n; i++) {
      const uint64_t index = of.bits.first + (uint64_t)(i / n * groups + (i % n + row->before) / row->group);
      kept[i] = (uint8_t)is_kept(of.bits.key, fixed_of(one_rate), index);
    }
    check_laid_mask(isa, &of);
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) check_laid(isa, &of, FD_SCALE, dtype, k + dtype);
  }
}

void check_operations(const fd_isa *isa) {
  static uint8_t kept[MOST_LAID];
  int turn = 0;
  for (int m = 0; m < COUNT(laid_masks); m++) {
    fd_layout layout;
    fd_layout_of(&layout, 3, laid_masks[m].shape, laid_masks[m].steps, 1);
    laid_bits of = {.mask = laid_masks[m], .kept = kept};
    of.bits = (fd_bits){.key = {UINT64_C(0x0123456789ABCDEF), 7}, .rate = fd_rate_of(one_rate), .mask_layout = &layout};
    of.bits.first = (UINT64_C(1) << 40) + 77 * (uint64_t)m;
    for (int kind = ONE_RATE; kind < RATE_KINDS; kind++)
      check_stream_bits(isa, &of, kind, m % 2 ? FD_FLOAT32 : FD_FLOAT64, &turn);
    check_given_bits(isa, &of, m % 2, m % FD_DTYPES, turn);
    check_laid_packed(isa, &laid_masks[m], m);
  }
  check_groups_cut_off(isa);
}
