/* selftest.c: tests the kernels without Python, for sanitizers, valgrind and emulated processors.
 *
 *     make -C src_c selftest && src_c/build/selftest fastdrop/known_answers/philox4x32_10.kat
 *
 * Every instruction set that this machine runs is compared with the published known answers and with a direct transcription of
 * the stream's definition. The transcription processes one element at a time, computes one block per plane, and shares no code
 * with the kernels. Guard zones surround the outputs.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastdrop_simple.h"

enum { GUARD = 64, MOST = 5 * FD_TILE + 64 };

static int failures, checks;

static void check(int holds, const char *isa, const char *what, uint64_t first, int64_t n) {
  checks++;
  if (holds) return;
  if (failures++ < 20) fprintf(stderr, "FAILED %s: %s, first %" PRIu64 ", n %" PRId64 "\n", isa, what, first, n);
}

/* One block of Philox4x32-10, as in the paper. */
static void philox_block(uint64_t seed, uint64_t block, uint32_t plane_domain, uint64_t offset, uint32_t w[4]) {
  uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  w[0] = (uint32_t)block, w[1] = (uint32_t)(block >> 32) | plane_domain;
  w[2] = (uint32_t)offset, w[3] = (uint32_t)(offset >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)w[0] * 0xD2511F53u, b = (uint64_t)w[2] * 0xCD9E8D57u;
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ w[1] ^ key[0], (uint32_t)b, (uint32_t)(a >> 32) ^ w[3] ^ key[1],
                              (uint32_t)a};
    memcpy(w, next, sizeof next);
    key[0] += 0x9E3779B9u, key[1] += 0xBB67AE85u;
  }
}

/* Whether U(i) >= p, digit by digit; p is given as a multiple of 2^-64. */
static int is_kept(fd_key key, uint64_t rate, uint64_t i) {
  for (uint32_t plane = 0; plane < 64; plane++) {
    uint32_t w[4];
    philox_block(key.seed, i / 128, plane << 16 | 1u << 24, key.offset, w);
    const uint32_t digit = w[i % 128 / 32] >> (i % 32) & 1, of_rate = (uint32_t)(rate >> (63 - plane)) & 1;
    if (digit != of_rate) return digit > of_rate;
  }
  return 1;
}

static int guards_hold(const unsigned char *buffer, size_t used) {
  for (size_t k = 0; k < GUARD; k++)
    if (buffer[k] != 0xA5 || buffer[GUARD + used + k] != 0xA5) return 0;
  return 1;
}

static void check_known_answers(const fd_isa *isa, const char *path) {
  FILE *file = fopen(path, "r");
  char line[256];
  int rows = 0;
  while (file && fgets(line, sizeof line, file)) {
    uint32_t c[4], k[2], want[4], got[4];
    if (sscanf(line, "%x %x %x %x | %x %x -> %x %x %x %x", &c[0], &c[1], &c[2], &c[3], &k[0], &k[1], &want[0], &want[1],
               &want[2], &want[3]) != 10)
      continue;
    fd_philox(isa, c, k, got);
    check(!memcmp(got, want, sizeof want), fd_isa_name(isa), "Philox known answer", c[0], ++rows);
  }
  if (file) fclose(file);
  check(rows == 5, fd_isa_name(isa), "five known answers read", 0, rows);
}

/* A mask with the layout of the array. */
static fd_bits bits_of(fd_key key, double p, uint64_t first) {
  static const fd_layout flat = {1, {INT64_MAX}, {1}};
  return (fd_bits){.key = key, .rate = fd_rate_of(p), .first = first, .mask_layout = &flat};
}

static void check_dropout(const fd_isa *isa, fd_key key, double p, uint64_t first, int64_t n, int dtype, int misaligned,
                          int bypass, int threads, const uint8_t *kept) {
  static unsigned char buffer[(MOST + 16) * 8 + 2 * GUARD];
  static double doubles[MOST];
  static float floats[MOST];
  const size_t size = dtype == FD_FLOAT32 ? 4 : 8, used = ((size_t)n + (size_t)misaligned) * size;
  const int64_t shape = n, stride = (int64_t)size;
  fd_layout layout;
  fd_layout_of(&layout, 1, &shape, &stride, stride);
  for (int64_t i = 0; i < n; i++) doubles[i] = i % 7 ? (double)(i % 1000) - 500.5 : -INFINITY, floats[i] = (float)doubles[i];
  memset(buffer, 0xA5, sizeof buffer);
  unsigned char *y = buffer + GUARD + (size_t)misaligned * size;
  const double scale = fd_inverted_scale(p, dtype);
  fd_call call = {.bits = bits_of(key, p, first), .op = FD_SCALE, .dtype = dtype, .scale = scale, .n = n};
  call.x = (fd_array){dtype == FD_FLOAT32 ? (void *)floats : doubles, &layout};
  call.y = (fd_array){y, &layout};
  call.bypass_bytes = bypass ? 0 : INT64_MAX;
  fd_apply(isa, &call, threads);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const float f = kept[i] ? floats[i] * (float)scale : 0.0f;
    const double d = kept[i] ? doubles[i] * scale : 0.0;
    equal &= !memcmp(y + (size_t)i * size, dtype == FD_FLOAT32 ? (const void *)&f : (const void *)&d, size);
  }
  check(equal, fd_isa_name(isa), "dropout", first, n);
  check(guards_hold(buffer, used), fd_isa_name(isa), "guards of dropout", first, n);
}

static void check_masks(const fd_isa *isa, fd_key key, double p, uint64_t first, int64_t n, int threads, const uint8_t *kept) {
  static unsigned char buffer[MOST + 2 * GUARD];
  uint8_t *out = buffer + GUARD;
  memset(buffer, 0xA5, sizeof buffer);
  const fd_bits bits = bits_of(key, p, first);
  fd_mask_bytes(isa, &bits, n, out, threads);
  check(!memcmp(out, kept, (size_t)n) && guards_hold(buffer, (size_t)n), fd_isa_name(isa), "bytes", first, n);
  memset(buffer, 0xA5, sizeof buffer);
  fd_mask_packed(isa, &bits, n, out, threads);
  int equal = 1;
  for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) equal &= (out[i / 8] >> (i % 8) & 1) == (i < n ? kept[i] : 0);
  check(equal && guards_hold(buffer, (size_t)(n + 7) / 8), fd_isa_name(isa), "packed bits", first, n);
}

static void check_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n) {
  static uint32_t words[MOST];
  static float singles[MOST];
  static double doubles[MOST];
  fd_words(isa, key, first, n, words, 1);
  fd_uniform(isa, &(fd_numbers){key, first, 0}, n, FD_FLOAT32, singles, 1);
  fd_uniform(isa, &(fd_numbers){key, first / 2, 0}, n / 2, FD_FLOAT64, doubles, 1);
  int equal = 1, inside = 1;
  for (int64_t i = 0; i < n; i++) {
    uint32_t w[4];
    philox_block(key.seed, (first + (uint64_t)i) / 4, 0, key.offset, w);
    equal &= words[i] == w[(first + (uint64_t)i) % 4];
    equal &= singles[i] == (float)(2 * (words[i] >> 9) + 1) * 0x1p-24f;
    inside &= singles[i] > 0 && singles[i] < 1;
  }
  for (int64_t i = 0; first % 2 == 0 && i < n / 2; i++) {
    const uint64_t v = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
    equal &= doubles[i] == (double)(2 * (v >> 12) + 1) * 0x1p-53;
  }
  check(equal && inside, fd_isa_name(isa), "words and uniforms", first, n);
}

static void check_isa(const fd_isa *isa) {
  static const int64_t sizes[] = {1, 7, 31, 128, 129, FD_TILE - 1, FD_TILE + 1, 3 * FD_TILE + 3};
  static const uint64_t firsts[] = {0, 1, 127, 128, (UINT64_C(1) << 39) - 1, (UINT64_C(1) << 55) - 3 * FD_TILE - 3};
  static const double rates[] = {0.0, 0x1p-60, 0.1, 0.25, 0.5, 0.999, 1.0};
  static uint8_t kept[MOST];
  const fd_key key = {UINT64_C(0x0123456789ABCDEF), UINT64_C(0xFEDCBA9876543210)};
  int turn = 0; /* varies dtype, alignment and stores over the cases */
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
      const int64_t n = sizes[s];
      if (firsts[f] < UINT64_C(1) << 50) check_words(isa, key, firsts[f], n);
      for (size_t r = 0; r < sizeof rates / sizeof *rates; r++, turn++) {
        const fd_rate rate = fd_rate_of(rates[r]);
        for (int64_t i = 0; i < n; i++) kept[i] = !rate.all && is_kept(key, rate.fixed, firsts[f] + (uint64_t)i);
        check_masks(isa, key, rates[r], firsts[f], n, 1 + turn % 3, kept);
        check_dropout(isa, key, rates[r], firsts[f], n, turn % 2, turn % 5, turn % 3 == 0, 1 + turn % 3, kept);
      }
    }
  }
}

/* Masks with their own layout, one rate per element, 16-bit floats, the other operations ------------------------------- */

/* p as a multiple of 2^-64, rounded to nearest even from its binary digits: those past the last are compared with a half. */
static uint64_t fixed_of(double p) {
  int exponent;
  const double fraction = frexp(p, &exponent); /* p = fraction 2^exponent, fraction in [1/2, 1) or 0 */
  const uint64_t digits = (uint64_t)ldexp(fraction, 53);
  const int up = exponent + 64 - 53;
  if (up >= 0) return digits << up;
  if (up < -54) return 0;
  const uint64_t whole = digits >> -up, rest = digits & ((UINT64_C(1) << -up) - 1), half = UINT64_C(1) << (-up - 1);
  return whole + (rest > half || (rest == half && whole % 2));
}

/* Converts a float16 (11 digits, exponents -14 to 15) or bfloat16 (8 digits, -126 to 127) to its exact value, and back. */
static double value_of(uint16_t bits, int digits, int least) {
  const int exponent = (bits & 0x7FFF) >> (digits - 1), fraction = bits & ((1 << (digits - 1)) - 1);
  double value = ldexp(fraction + (exponent ? 1 << (digits - 1) : 0), (exponent ? exponent - 1 : 0) + least - (digits - 1));
  if (exponent == 2 - 2 * least + 1) value = fraction ? NAN : INFINITY; /* 1 - least is the largest exponent */
  return bits >> 15 ? -value : value;
}

static uint16_t bits_of_value(float value, int digits, int least) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0, infinite = (uint16_t)((3 - 2 * least) << (digits - 1));
  if (isnan(value)) return sign | infinite | 1;
  if (isinf(value)) return sign | infinite;
  int exponent;
  frexpf(value, &exponent);
  const int last = (exponent - 1 < least ? least : exponent - 1) - (digits - 1); /* the exponent of the last place */
  const double units = nearbyint(ldexp(fabs((double)value), -last));
  const double bits = units + ldexp(last + digits - 1 - least, digits - 1); /* a carry goes to the exponent */
  return value == 0 ? sign : sign | (uint16_t)(bits < infinite ? bits : infinite);
}

/* Element i of an array of any type, converted to a double, and a double rounded to the array's type. */
static double element(const void *array, int dtype, int64_t i) {
  if (dtype == FD_FLOAT32) return (double)((const float *)array)[i];
  if (dtype == FD_FLOAT64) return ((const double *)array)[i];
  return value_of(((const uint16_t *)array)[i], dtype == FD_FLOAT16 ? 11 : 8, dtype == FD_FLOAT16 ? -14 : -126);
}

static void set_element(void *array, int dtype, int64_t i, double value) {
  if (dtype == FD_FLOAT32) ((float *)array)[i] = (float)value;
  else if (dtype == FD_FLOAT64) ((double *)array)[i] = value;
  else
    ((uint16_t *)array)[i] = bits_of_value((float)value, dtype == FD_FLOAT16 ? 11 : 8, dtype == FD_FLOAT16 ? -14 : -126);
}

/* Rounds to the compute type after each operation. For float32 operands, a double is wide enough to round correctly. */
static double to_compute(double value, int dtype) { return dtype == FD_FLOAT64 ? value : (double)(float)value; }

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

/* A mask of up to three axes over n elements: element (a, b, c) has the bit of first + a s0 + b s1 + c s2. */
typedef struct {
  int64_t shape[3], steps[3];
} laid_mask;

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

static int64_t size_of_mask(const laid_mask *mask) { return mask->shape[0] * mask->shape[1] * mask->shape[2]; }

static uint64_t index_in(const laid_mask *mask, uint64_t first, int64_t i) {
  const int64_t c = i % mask->shape[2], b = i / mask->shape[2] % mask->shape[1], a = i / mask->shape[2] / mask->shape[1];
  return first + (uint64_t)(a * mask->steps[0] + b * mask->steps[1] + c * mask->steps[2]);
}

static int same_element(const void *a, const void *b, int dtype, int64_t i) {
  static const size_t sizes[] = {[FD_FLOAT32] = 4, [FD_FLOAT64] = 8, [FD_FLOAT16] = 2, [FD_BFLOAT16] = 2};
  if (isnan(element(a, dtype, i)) && isnan(element(b, dtype, i))) return 1; /* payloads are not guaranteed */
  return !memcmp((const char *)a + (size_t)i * sizes[dtype], (const char *)b + (size_t)i * sizes[dtype], sizes[dtype]);
}

enum { MOST_LAID = 70003 };

/* The rates of the elements of a mask: one, one per element, or one per run along the last axis. */
enum { ONE_RATE, RATE_EACH, RATE_RUNS, RATE_KINDS };

/* Keep flags of the elements, for one rate or, if rates is not null, for one rate per element. */
static void keep_laid(const laid_mask *mask, fd_key key, uint64_t first, const double *rates, double p, uint8_t *kept) {
  uint64_t before = UINT64_MAX;
  for (int64_t i = 0; i < size_of_mask(mask); i++) {
    const uint64_t index = index_in(mask, first, i);
    const double own = rates ? rates[i] : p;
    kept[i] = !rates && index == before ? kept[i - 1] : own < 1 && is_kept(key, fixed_of(own), index);
    before = index;
  }
}

static void check_laid(const fd_isa *isa, const laid_mask *mask, fd_bits bits, int op, int dtype, const double *rates, double p,
                       int turn, const uint8_t *kept) {
  static double x[MOST_LAID], bias[MOST_LAID], other[MOST_LAID], want[MOST_LAID], y[MOST_LAID + 64];
  static const double some[] = {0.1, -0.0, INFINITY, NAN, 1e-40, 65504, -1.75, 3e38, 6e-8, 1, -2.5};
  const int64_t n = size_of_mask(mask), itemsize = dtype == FD_FLOAT32 ? 4 : dtype == FD_FLOAT64 ? 8 : 2;
  const int misaligned = turn % 5;
  fd_layout flat;
  fd_layout_of(&flat, 1, &n, &itemsize, itemsize);
  for (int64_t i = 0; i < n; i++) {
    set_element(x, dtype, i, some[i % 11] + (double)(i % 977) / 8);
    set_element(bias, dtype, i, some[(i + 3) % 11]);
    set_element(other, dtype, i, some[(i + 7) % 11] * (double)(i % 5));
  }
  memset(y, 0xA5, sizeof y);
  unsigned char *out = (unsigned char *)y + GUARD + misaligned * itemsize;
  fd_call call = {.bits = bits, .op = op, .dtype = dtype, .n = n, .shift = to_compute(-0.1, dtype), .fill = -1.75};
  call.scale = rates ? 1.25 : fd_inverted_scale(p, dtype);
  call.x = (fd_array){x, &flat}, call.y = (fd_array){out, &flat};
  if (op == FD_SELECT || (op < FD_AFFINE && op & FD_WITH_RESIDUAL)) call.other = (fd_array){other, &flat};
  if (op < FD_AFFINE && op & FD_WITH_BIAS) call.bias = (fd_array){bias, &flat};
  call.bypass_bytes = turn % 2 ? 0 : INT64_MAX;
  fd_apply(isa, &call, 1 + turn % 3);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) set_element(want, dtype, i, expected_value(&call, i, kept[i], rates ? rates[i] : p));
  check(guards_hold((unsigned char *)y, (size_t)((n + misaligned) * itemsize)), fd_isa_name(isa), "guards of a laid mask",
        bits.first, n);
  memmove(y, out, (size_t)(n * itemsize));
  for (int64_t i = 0; i < n; i++) equal &= same_element(y, want, dtype, i);
  check(equal, fd_isa_name(isa), "a laid mask and an operation", (uint64_t)(op * 10 + dtype), n);
}

static void check_laid_mask(const fd_isa *isa, const fd_bits *bits, int64_t n, const uint8_t *kept) {
  static uint8_t bytes[MOST_LAID], packed[MOST_LAID / 8 + 1];
  fd_mask_bytes(isa, bits, n, bytes, 3);
  fd_mask_packed(isa, bits, n, packed, 2);
  int equal = !memcmp(bytes, kept, (size_t)n);
  for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) equal &= (packed[i / 8] >> (i % 8) & 1) == (i < n ? kept[i] : 0);
  check(equal, fd_isa_name(isa), "a laid mask's bits", bits->first, n);
}

/* Bits that were made before, laid over elements as those of the stream are; and one scale per run of elements. */
static void check_laid_packed(const fd_isa *isa, const laid_mask *mask, int turn) {
  static uint8_t packed[MOST_LAID / 8 + FD_GROUP], kept[MOST_LAID];
  static float x[MOST_LAID], y[MOST_LAID], want[MOST_LAID];
  static double scales[MOST_LAID];
  const int64_t n = size_of_mask(mask), size = 4, run = 300 + turn;
  fd_layout layout, flat;
  if (index_in(mask, 0, n - 1) >= MOST_LAID) return;
  fd_layout_of(&layout, 3, mask->shape, mask->steps, 1);
  fd_layout_of(&flat, 1, &n, &size, size);
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

static void check_operations(const fd_isa *isa) {
  static const double many[] = {0.3, 0.0, 1.0, 0x1p-64, 0x1p-65, 0x1.8p-64, 0.5, 1 - 0x1p-53, 0.9, 1e-3, 0.25, 0x1.fp-60, 0.7};
  static double rates[MOST_LAID], doubles[MOST_LAID];
  static float singles[MOST_LAID];
  static uint8_t kept[MOST_LAID], packed[MOST_LAID / 8 + 1];
  const fd_key key = {UINT64_C(0x0123456789ABCDEF), 7};
  int turn = 0;
  for (size_t m = 0; m < sizeof laid_masks / sizeof *laid_masks; m++) {
    const laid_mask *mask = &laid_masks[m];
    const int64_t n = size_of_mask(mask);
    fd_layout layout, flat_flags;
    const int64_t own = m % 2 ? 4 : 8, one = 1;
    fd_layout_of(&layout, 3, mask->shape, mask->steps, 1);
    fd_layout_of(&flat_flags, 1, &n, &one, 1);
    for (int kind = ONE_RATE; kind < RATE_KINDS; kind++) {
      const int each = kind != ONE_RATE;
      const int64_t run = kind == RATE_RUNS ? mask->shape[2] : 1, runs[2] = {n / run, run}, steps[2] = {own, run > 1 ? 0 : own};
      fd_layout rate_layout;
      fd_layout_of(&rate_layout, 2, runs, steps, own);
      fd_bits bits = {.key = key, .rate = fd_rate_of(0.3), .first = (UINT64_C(1) << 40) + 77 * m, .mask_layout = &layout};
      for (int64_t i = 0; i < n; i++) {
        singles[i] = (float)many[i % 13];
        doubles[i] = many[i % 13];
      }
      for (int64_t i = 0; i < n; i++) rates[i] = own == 4 ? (double)singles[i / run] : doubles[i / run];
      if (each) bits.rates = (fd_array){own == 4 ? (void *)singles : doubles, &rate_layout};
      bits.rates_dtype = own == 4 ? FD_FLOAT32 : FD_FLOAT64;
      keep_laid(mask, key, bits.first, each ? rates : 0, 0.3, kept);
      check_laid_mask(isa, &bits, n, kept);
      for (int op = 0; op < FD_MASKED_OPS; op++, turn++) {
        const int with_rates = op < FD_AFFINE && op & FD_WITH_RATES;
        if (with_rates && !each) continue;
        for (int dtype = 0; dtype < FD_DTYPES; dtype++)
          check_laid(isa, mask, bits, op, dtype, each ? rates : 0, 0.3, turn + dtype, kept);
      }
    }
    memset(packed, 0, sizeof packed);
    for (int64_t i = 0; i < n; i++) packed[i / 8] |= (uint8_t)(kept[i] << (i % 8));
    const fd_bits given = {.packed = packed, .mask_layout = &flat_flags};
    const fd_bits flags = {.flags = {kept, &flat_flags}, .mask_layout = &flat_flags};
    check_laid(isa, mask, m % 2 ? given : flags, FD_SCALE, (int)m % FD_DTYPES, 0, 0.3, turn, kept);
    check_laid_packed(isa, mask, (int)m);
  }
}

/* Row sums in double or float, as in fastdrop.h. */
static double halved_sum(double *values, int64_t n, int dtype) {
  for (int64_t half; n > 1; n = half) {
    half = (n + 1) / 2;
    for (int64_t i = 0; i < n - half; i++) values[i] = to_compute(values[i] + values[i + half], dtype);
  }
  return values[0];
}

/* Overwrites the first n elements of y and want with the rows' results; want is made element by element. */
static void check_rows(const fd_isa *isa, int dtype, int64_t rows, int64_t n, int kind) {
  static double x[MOST], grad[MOST], y[MOST], want[MOST], terms[MOST];
  const int64_t all = rows * n, one = 1;
  const fd_key key = {11, (uint64_t)kind};
  fd_layout flat;
  fd_layout_of(&flat, 1, &all, &one, 1);
  fd_rows call = {.bits = {.key = key, .rate = fd_rate_of(0.3), .mask_layout = &flat}, .dtype = dtype, .rows = rows, .n = n};
  call.epsilon = to_compute(1e-8, dtype), call.x = x, call.y = y, call.is_constant = kind == 2;
  call.bypass_bytes = kind % 2 ? 0 : INT64_MAX;
  if (kind) call.grad = grad;
  for (int64_t i = 0; i < all; i++) {
    set_element(x, dtype, i, (double)(i * i % 97) / 64);
    set_element(grad, dtype, i, (double)(i * 31 % 89) / 32 - 1);
  }
  for (int64_t row = 0; row < rows; row++) {
    double slope = 0;
    for (int64_t i = 0; i < n; i++) terms[i] = is_kept(key, fixed_of(0.3), (uint64_t)(row * n + i)) ? element(x, dtype, row * n + i) : 0;
    const double total = to_compute(halved_sum(terms, n, dtype) + call.epsilon, dtype);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = row * n + i;
      terms[i] = is_kept(key, fixed_of(0.3), (uint64_t)at) ? to_compute(element(grad, dtype, at) * to_compute(element(x, dtype, at) / total, dtype), dtype) : 0;
    }
    if (kind == 1) slope = halved_sum(terms, n, dtype);
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
      const double value = to_compute(element(kind ? grad : x, dtype, i) - slope, dtype);
      set_element(want, dtype, i, is_kept(key, fixed_of(0.3), (uint64_t)i) ? to_compute(value / total, dtype) : 0);
    }
  }
  fd_divide_rows(isa, &call, 1 + kind);
  int equal = 1;
  for (int64_t i = 0; i < all; i++) equal &= same_element(y, want, dtype, i);
  check(equal, fd_isa_name(isa), "rows that are divided by their sums", (uint64_t)(dtype * 10 + kind), n);
}

static void check_all_rows(const fd_isa *isa) {
  static const int64_t sizes[][2] = {{900, 5}, {300, 8}, {70, 64}, {9, 130}, {2, 2049}, {1, 4097}, {1, 9001}, {11000, 1}};
  for (int dtype = 0; dtype < FD_DTYPES; dtype++)
    for (int kind = 0; kind < 3; kind++)
      for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++) check_rows(isa, dtype, sizes[k][0], sizes[k][1], kind);
}

/* The products of maps with their factors, of a call whose sums are known. Kind 2: in place of the elements. */
static void check_multiplied_maps(const fd_isa *isa, fd_sum_call call, int kind) {
  static double sums[MOST], factors[MOST], room[MOST + 1], want[MOST];
  const int dtype = call.x_dtype, type = dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32;
  const int64_t each = call.n * call.inner, n = call.outer * each, bytes = call.outer * call.inner * (call.dtype == FD_FLOAT64 ? 8 : 4);
  const void *known = call.y;
  for (int64_t k = 0; k < call.outer; k++) set_element(factors, type, k, (double)(k * 31 % 89) / 48 - 1);
  for (int64_t i = 0; i < n; i++) set_element(want, dtype, i, to_compute(element(call.x, dtype, i) * element(factors, type, i / each), dtype));
  call.y = sums, call.factors = factors, call.bypass_bytes = kind == 1 ? 0 : INT64_MAX;
  call.product = kind == 2 ? (void *)(uintptr_t)call.x : (char *)room + (dtype == FD_FLOAT64 ? 8 : 4);
  fd_sum_axis(isa, &call, 1 + kind);
  int equal = !memcmp(sums, known, (size_t)bytes);
  for (int64_t i = 0; i < n; i++) equal &= same_element(call.product, want, dtype, i);
  check(equal, fd_isa_name(isa), "sums and products of maps", (uint64_t)(dtype * 10 + kind), call.n);
}

/* Sums along the middle axis of an array of (outer, n, inner); kind 1: of products, kind 2: of products in float64. */
static void check_sums(const fd_isa *isa, int dtype, int64_t outer, int64_t n, int64_t inner, int kind) {
  static double x[MOST], other[MOST], y[MOST], terms[MOST];
  const int type = kind == 2 || dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32;
  for (int64_t i = 0; i < outer * n * inner; i++) {
    set_element(x, dtype, i, (double)(i * i % 97) / 64);
    set_element(other, dtype, i, (double)(i * 31 % 89) / 32 - 1);
  }
  const fd_sum_call call = {.x_dtype = dtype, .dtype = type, .outer = outer, .n = n, .inner = inner, .x = x, .other = kind ? other : 0, .y = y};
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

static void check_all_sums(const fd_isa *isa) {
  static const int64_t sizes[][3] = {{900, 5, 1}, {7, 64, 20}, {2, 13, 300}, {3, 1, 129}, {1, 9001, 1}, {2, 700, 3}, {1, 33, 128}, {3, 50, 61}, {2, 6, 700}, {180, 7, 7}, {90, 3, 31}};
  for (int dtype = 0; dtype < FD_DTYPES; dtype++)
    for (int kind = 0; kind < 3; kind++)
      for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++)
        check_sums(isa, dtype, sizes[k][0], sizes[k][1], sizes[k][2], kind);
}

/* Groups along one axis of rows of n elements; `before` positions of the first group come before the row. */
typedef struct {
  int64_t rows, n, group, before;
} cut_off;

static void check_groups_cut_off(const fd_isa *isa) {
  static const cut_off cases[] = {{300, 29, 3, 2}, {1, 9001, 7, 5}, {17, 65, 32, 0}, {9, 600, 290, 100}, {40, 2, 2, 1}};
  static uint8_t kept[MOST_LAID];
  for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
    const cut_off *of = &cases[k];
    const int64_t groups = (of->before + of->n - 1) / of->group + 1, whole = groups * of->group;
    const laid_mask flat = {{1, of->rows, of->n}, {0, of->n, 1}};
    fd_layout mask, places;
    fd_layout_of(&mask, 3, (const int64_t[]){of->rows, groups, of->group}, (const int64_t[]){groups, 1, 0}, 1);
    fd_layout_of(&places, 2, (const int64_t[]){of->rows, of->n}, (const int64_t[]){whole, 1}, 1);
    const fd_bits bits = {.key = {5, 6}, .rate = fd_rate_of(0.3), .first = 1000, .mask_layout = &mask, .places = &places,
                          .first_place = of->before};
    for (int64_t i = 0; i < of->rows * of->n; i++)
      kept[i] = (uint8_t)is_kept(bits.key, fixed_of(0.3), 1000 + (uint64_t)(i / of->n * groups + (i % of->n + of->before) / of->group));
    check_laid_mask(isa, &bits, of->rows * of->n, kept);
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) check_laid(isa, &flat, bits, FD_SCALE, dtype, 0, 0.3, k + dtype, kept);
  }
}

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
  for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
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

static void check_blocks(void) {
  static const fd_maps cases[] = {
      {3, 70, {1, 1, 9}, {1, 1, 4}},   {3, 7, {1, 14, 14}, {1, 7, 7}}, {3, 2, {1, 9, 131}, {1, 3, 66}},
      {3, 3, {4, 5, 6}, {2, 3, 6}},    {3, 1, {1, 1, 1}, {1, 1, 1}},   {3, 90, {1, 2, 3}, {1, 2, 1}},
      {3, 2, {1, 1, 300}, {1, 1, 129}}, {3, 64, {1, 8, 8}, {1, 3, 2}},
  };
  static uint64_t seeds[600], given[600], kept[600];
  for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
    fd_maps of = cases[k];
    int64_t places = 1, size = 1, ones = 0, equal = 1;
    for (int axis = 0; axis < 3; axis++) places *= of.sizes[axis] - of.block[axis] + 1, size *= of.sizes[axis];
    for (size_t w = 0; w < 600; w++) seeds[w] = given[w] = ~((uint64_t)(w * w + 77 * k) % 5 ? 0 : UINT64_C(1) << (w * 37 % 64));
    if (of.sizes[0] == 1) of = (fd_maps){2, of.maps, {of.sizes[1], of.sizes[2]}, {of.block[1], of.block[2]}};
    fd_drop_blocks(&of, given, kept);
    for (int64_t i = 0; i < of.maps * size; i++) {
      uint64_t own[600] = {0};
      const int64_t map = i / size, *sizes = cases[k].sizes, at[3] = {i % size / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2]};
      for (int64_t place = 0; place < places; place++)
        ((uint8_t *)own)[place / 8] |= (uint8_t)(bit_at(seeds, map * places + place) << (place % 8));
      equal &= bit_at(kept, i) == !is_covered(&cases[k], own, at);
      if (i >= 5) ones += bit_at(kept, i);
    }
    check((int)equal, "blocks", "a mask of blocks", (uint64_t)k, size);
    if (of.maps * size > 5) check(fd_count_ones(kept, 5, of.maps * size - 5) == ones, "blocks", "a count", (uint64_t)k, size);
  }
}

/* Arrays with their axes in another order in memory and with gaps between the elements must give the result of the flat array.
 * The axes are shorter and longer than a block, so that every kind of block occurs. */
enum { MOST_STRIDED = 4 * 70000 };

static void check_strided(const fd_isa *isa, const int64_t shape[3], const int order[3], int gap, int dtype, fd_bits bits) {
  static double flat_x[MOST_STRIDED], flat_y[MOST_STRIDED], x[MOST_STRIDED], y[MOST_STRIDED];
  const int64_t size = dtype == FD_FLOAT32 ? 4 : dtype == FD_FLOAT64 ? 8 : 2, n = shape[0] * shape[1] * shape[2];
  int64_t strides[3], step = size * gap;
  for (int k = 2; k >= 0; k--) strides[order[k]] = step, step *= shape[order[k]];
  fd_layout flat, strided;
  fd_layout_of(&flat, 1, &n, &size, size);
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

static void check_layouts(const fd_isa *isa) {
  static const int64_t shapes[][3] = {{1, 2, 30011}, {3, 300, 71}, {2, 9001, 3}, {5, 64, 128}, {31, 7, 257}, {1, 65, 1031}, {3, 5, 7}};
  static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  int turn = 0;
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++, turn++)
      check_strided(isa, shapes[s], orders[o], 1 + turn % 5 / 3, turn % FD_DTYPES, bits_of((fd_key){1, 2}, 0.3, (uint64_t)turn * 37));
}

/* Noise and elementary functions. Their definition is in Python (fastdrop/_core/backends). Its results for these calls are kept
 * here as one number per call: FNV-1a over the elements' bits. */
static uint64_t digest_of(uint64_t digest, const void *array, int64_t itemsize, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint64_t bits = 0;
    uint32_t four;
    uint16_t two;
    if (itemsize == 8) memcpy(&bits, (const char *)array + 8 * i, 8);
    if (itemsize == 4) memcpy(&four, (const char *)array + 4 * i, 4), bits = four;
    if (itemsize == 2) memcpy(&two, (const char *)array + 2 * i, 2), bits = two;
    digest = (digest ^ bits) * UINT64_C(0x100000001B3);
  }
  return digest;
}

enum { NOISY = 40000 + 3 };
static const uint64_t fnv = UINT64_C(0xCBF29CE484222325);

static void check_digest(const fd_isa *isa, const char *what, int which, uint64_t got, uint64_t want) {
  if (got != want) fprintf(stderr, "%s %d: 0x%016" PRIX64 "\n", what, which, got);
  check(got == want, fd_isa_name(isa), what, (uint64_t)which, NOISY);
}

/* 16-bit elements, in place: the results of float32, rounded once. */
static void check_narrow_function(const fd_isa *isa, int f, const double *given) {
  static double x[NOISY], wide[NOISY], want[NOISY];
  for (int dtype = FD_FLOAT16; dtype <= FD_BFLOAT16; dtype++) {
    for (int64_t i = 0; i < NOISY; i++) {
      set_element(x, dtype, i, element(given, FD_FLOAT32, i));
      set_element(wide, FD_FLOAT32, i, element(x, dtype, i));
    }
    fd_function(isa, &(fd_function_call){f, FD_FLOAT32, FD_FLOAT32, wide, wide, 0, NOISY}, 2);
    for (int64_t i = 0; i < NOISY; i++) set_element(want, dtype, i, element(wide, FD_FLOAT32, i));
    fd_function(isa, &(fd_function_call){f, FD_FLOAT32, dtype, x, x, 0, NOISY}, 2);
    check(!memcmp(x, want, NOISY * 2), fd_isa_name(isa), "function of 16-bit elements", (uint64_t)(10 * f + dtype), NOISY);
  }
}

static void check_functions(const fd_isa *isa) {
  static const uint64_t want[FD_FUNCTIONS][2] = {
      {UINT64_C(0x4A5D723BD291C1C9), UINT64_C(0x67974E65654C51E4)},
      {UINT64_C(0xF54C24793005D3FD), UINT64_C(0x886D98C6158A92E3)},
      {UINT64_C(0xDEC0FCA5E081C8AB), UINT64_C(0x8772DAA66EBDD8B9)},
      {UINT64_C(0xC53AB84F3E7D18F6), UINT64_C(0x699E3C019D6B4CAC)},
      {UINT64_C(0x403411EBB68E12F4), UINT64_C(0x097DD84964C93E50)}};
  static double u[NOISY], x[NOISY], y[NOISY];
  for (int f = 0; f < FD_MOLCHANOV; f++)
    for (int dtype = FD_FLOAT32; dtype <= FD_FLOAT64; dtype++) {
      const int in_unit = f == FD_LOG || f == FD_LOGIT;
      fd_uniform(isa, &(fd_numbers){{42, 7}, 1, 0}, NOISY, dtype, u, 2);
      for (int64_t i = 0; i < NOISY; i++)
        set_element(x, dtype, i, in_unit ? element(u, dtype, i) : (element(u, dtype, i) - 0.5) * 256);
      fd_function(isa, &(fd_function_call){f, dtype, dtype, x, y, 0, NOISY}, 2);
      if (dtype == FD_FLOAT32) check_narrow_function(isa, f, x);
      check_digest(isa, "function", 10 * f + dtype, digest_of(fnv, y, dtype ? 8 : 4, NOISY), want[f][dtype]);
    }
}

/* Functions of float64 alone, of numbers that both types have: the results of float32 are those of float64. */
static void check_divergences(const fd_isa *isa) {
  static const uint64_t want[][2] = {
      {UINT64_C(0x800B83008FDA25ED), UINT64_C(0x468921D161A07D0B)},
      {UINT64_C(0x8223ACB7ED730135), UINT64_C(0xD4592FE2C8381103)},
      {UINT64_C(0xAD57BBB5C59C7BE5), UINT64_C(0x1D54B3524A777991)},
      {UINT64_C(0x998E06611078C0B7), UINT64_C(0xFEDE2B39E1ABC38C)}};
  static double x[2][NOISY], y[NOISY + 64], sums[NOISY / FD_NOISE_TILE + 1];
  for (int64_t i = 0; i < NOISY; i++)
    for (int dtype = FD_FLOAT32; dtype <= FD_FLOAT64; dtype++) set_element(x[dtype], dtype, i, (double)(i % 4001) / 64 - 31);
  for (int f = FD_MOLCHANOV; f < FD_FUNCTIONS; f++)
    for (int dtype = FD_FLOAT32; dtype <= FD_FLOAT64; dtype++) {
      memset(y, 0xA5, sizeof y);
      fd_function(isa, &(fd_function_call){f, FD_FLOAT64, dtype, x[dtype], (unsigned char *)y + GUARD, 0, NOISY}, 2);
      check(guards_hold((unsigned char *)y, sizeof(double) * NOISY), fd_isa_name(isa), "guards of a divergence", 0, NOISY);
      check_digest(isa, "divergence", f, digest_of(fnv, (unsigned char *)y + GUARD, 8, NOISY), want[f - FD_MOLCHANOV][0]);
      fd_function(isa, &(fd_function_call){f, FD_FLOAT64, dtype, x[dtype], 0, sums, NOISY}, 2);
      check_digest(isa, "sums of a divergence", f, digest_of(fnv, sums, 8, NOISY / FD_NOISE_TILE + 1), want[f - FD_MOLCHANOV][1]);
    }
}

static void check_normals(const fd_isa *isa) {
  static const uint64_t want[2] = {UINT64_C(0xE5A6D5CA4F0F7E3F), UINT64_C(0x85FAF37C748B7761)};
  static double z[NOISY];
  for (int dtype = FD_FLOAT32; dtype <= FD_FLOAT64; dtype++) {
    fd_normal(isa, &(fd_numbers){{42, 7}, (UINT64_C(1) << 40) + 1, 0}, NOISY, dtype, z, 2);
    check_digest(isa, "normals", dtype, digest_of(fnv, z, dtype ? 8 : 4, NOISY), want[dtype]);
  }
}

static void check_noise(const fd_isa *isa) {
  static const uint64_t want[FD_NOISES][FD_DTYPES] = {
      {UINT64_C(0xA30A30064B463C19), UINT64_C(0xF0D00B734F3CB103),
       UINT64_C(0x21D83209B3B68B01), UINT64_C(0x8213B79C14ADED39)},
      {UINT64_C(0x43B7445CD86687ED), UINT64_C(0xDEAA6EA2FFD67B91),
       UINT64_C(0x92AB93A745EA063B), UINT64_C(0xE57B82D8386D6207)},
      {UINT64_C(0xA1C72E9EADEDC269), UINT64_C(0xCD75E5534FEC859D),
       UINT64_C(0x20066B2A9937986B), UINT64_C(0xD75BB312B454E055)},
      {UINT64_C(0x59F3B27B95C7B068), UINT64_C(0x9A55A1D9CABF68FA),
       UINT64_C(0xF6739112F9058E46), UINT64_C(0x1F0F1ED7D56B5DAE)},
      {UINT64_C(0x3468C6311DCEF817), UINT64_C(0x4493512F7C23265D),
       UINT64_C(0x47AAC88D80C46236), UINT64_C(0xA2E8EFF0AAE2445D)},
      {UINT64_C(0x55063F15D2B563BE), UINT64_C(0x2D880C78D6D1DE98),
       UINT64_C(0x34817065B4060A8E), UINT64_C(0x3B69C81B177FACAE)},
      {UINT64_C(0x020C3EE5F9C18579), UINT64_C(0x944B1595ACC37862),
       UINT64_C(0xA9C1AD03735FDB4D), UINT64_C(0x2A19BCDB34C59275)},
      {UINT64_C(0xFD618F6A8ACAC3D1), UINT64_C(0x9485DEBAA558EC06),
       UINT64_C(0x61738D9A4DD5AAF3), UINT64_C(0xD1373C48D89537AD)}};
  static const double params[FD_NOISES][5] = {{0.5}, {0.75}, {0x1p-20}, {0x1p-20}, {9, 0x1p-23, 10, 1.125, 3.25}, {0.3}};
  static double u[NOISY], x[NOISY], other[NOISY], y[NOISY + 64], sums[NOISY / FD_NOISE_TILE + 1];
  fd_uniform(isa, &(fd_numbers){{1, 2}, 0, 0}, NOISY, FD_FLOAT64, u, 1);
  for (int noise = 0; noise < FD_NOISES; noise++)
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
      const int64_t n = NOISY, itemsize = dtype == FD_FLOAT32 ? 4 : dtype == FD_FLOAT64 ? 8 : 2;
      const int other_dtype = noise >= FD_SCALED && dtype != FD_FLOAT64 ? FD_FLOAT32 : dtype;
      const int64_t other_size = other_dtype == dtype ? itemsize : 4;
      fd_layout flat, flat_other;
      fd_layout_of(&flat, 1, &n, &itemsize, itemsize);
      fd_layout_of(&flat_other, 1, &n, &other_size, other_size);
      for (int64_t i = 0; i < n; i++) set_element(x, dtype, i, u[i] * 8 - 4), set_element(other, other_dtype, i, u[n - 1 - i] * 3);
      memset(y, 0xA5, sizeof y);
      unsigned char *out = (unsigned char *)y + GUARD + dtype * itemsize;
      fd_noise_call call = {.numbers = {{42, 7}, 5, 0}, .noise = noise, .dtype = dtype, .n = n, .sums = 0};
      memcpy(call.params, params[noise], sizeof call.params);
      call.x = (fd_array){x, &flat}, call.y = (fd_array){out, &flat}, call.other = (fd_array){other, &flat_other};
      if (noise == FD_GAUSSIAN || noise == FD_CONCRETE || noise == FD_UNIFORM) call.sums = sums;
      call.bypass_bytes = (noise + dtype) % 2 ? 0 : INT64_MAX;
      fd_noise_apply(isa, &call, 1 + dtype % 3);
      check(guards_hold((unsigned char *)y, (size_t)((n + dtype) * itemsize)), fd_isa_name(isa), "guards of noise", 0, n);
      memmove(y, out, (size_t)(n * itemsize));
      uint64_t digest = digest_of(fnv, y, itemsize, n);
      if (call.sums) digest = digest_of(digest, sums, 8, (n + FD_NOISE_TILE - 1) / FD_NOISE_TILE);
      check_digest(isa, "noise", 10 * noise + dtype, digest, want[noise][dtype]);
    }
}

/* Factors, and shifts if kind is 1, that the middle axis of (2, 5, inner) shares; y is every second element if kind is 2. */
static void check_shared_factors(const fd_isa *isa, int dtype, int64_t inner, int kind) {
  static double x[MOST], y[MOST], factors[MOST], shifts[MOST];
  const int64_t n = 10 * inner, type = dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32, size = type == FD_FLOAT64 ? 8 : 4;
  const int64_t itemsize = dtype <= FD_FLOAT64 ? size : 2, step = kind == 2 ? 2 : 1, steps = step * itemsize;
  const int64_t shape[] = {2, 5, inner}, strides[] = {inner * size, 0, size};
  fd_layout flat, strided, shared;
  fd_layout_of(&flat, 1, &n, &itemsize, itemsize);
  fd_layout_of(&strided, 1, &n, &steps, itemsize);
  fd_layout_of(&shared, 3, shape, strides, size);
  for (int64_t i = 0; i < n; i++) set_element(x, dtype, i, (double)(i * i % 97) / 64 - 1);
  for (int64_t i = 0; i < 2 * inner; i++) {
    set_element(factors, (int)type, i, (double)(i * 31 % 89) / 48 - 1);
    set_element(shifts, (int)type, i, (double)(i * 7 % 83) / 56);
  }
  fd_noise_call call = {.noise = FD_FACTORS, .dtype = dtype, .n = n, .bypass_bytes = inner % 2 ? 0 : INT64_MAX};
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &strided}, call.other = (fd_array){factors, &shared};
  if (kind == 1) call.shifts = (fd_array){shifts, &shared};
  fd_noise_apply(isa, &call, 1 + kind);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i / (5 * inner) * inner + i % inner;
    double want[1], value = to_compute(element(x, dtype, i) * element(factors, (int)type, at), dtype);
    if (kind == 1) value = to_compute(value + element(shifts, (int)type, at), dtype);
    set_element(want, dtype, 0, value);
    equal &= element(y, dtype, i * step) == element(want, dtype, 0);
  }
  check(equal, fd_isa_name(isa), "shared factors", (uint64_t)(dtype * 10 + kind), inner);
}

static void check_all_shared_factors(const fd_isa *isa) {
  static const int64_t sizes[] = {1, 21, 150, 333};
  for (int dtype = 0; dtype < FD_DTYPES; dtype++)
    for (int kind = 0; kind < 3; kind++)
      for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++) check_shared_factors(isa, dtype, sizes[k], kind);
}

/* Numbers and noise over a block of a larger array: those of its elements one by one. */
static void check_laid_numbers(const fd_isa *isa, const laid_mask *block, int dtype) {
  static double x[MOST_LAID], y[MOST_LAID], one[MOST_LAID];
  const int64_t n = size_of_mask(block), itemsize = dtype == FD_FLOAT32 ? 4 : dtype == FD_FLOAT64 ? 8 : 2, alone = 1;
  fd_layout layout, flat, single;
  fd_layout_of(&layout, 3, block->shape, block->steps, 1);
  fd_layout_of(&flat, 1, &n, &itemsize, itemsize);
  fd_layout_of(&single, 1, &alone, &itemsize, itemsize);
  const fd_numbers numbers = {{42, 7}, (UINT64_C(1) << 40) + 3, &layout};
  for (int64_t i = 0; i < n; i++) set_element(x, dtype, i, (double)(i % 977) / 8);
  fd_noise_call call = {.numbers = numbers, .noise = FD_GAUSSIAN, .dtype = dtype, .params = {0.5}, .n = n, .bypass_bytes = INT64_MAX};
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &flat};
  fd_noise_apply(isa, &call, 2);
  for (int64_t i = 0; i < n; i++) {
    call.numbers = (fd_numbers){numbers.key, index_in(block, numbers.first, i), 0}, call.n = 1;
    call.x = (fd_array){(char *)x + i * itemsize, &single}, call.y = (fd_array){(char *)one + i * itemsize, &single};
    fd_noise_apply(isa, &call, 1);
  }
  check(!memcmp(y, one, (size_t)(n * itemsize)), fd_isa_name(isa), "noise of a block", (uint64_t)dtype, n);
  if (dtype > FD_FLOAT64) return;
  fd_uniform(isa, &numbers, n, dtype, y, 2);
  for (int64_t i = 0; i < n; i++) {
    const fd_numbers own = {numbers.key, index_in(block, numbers.first, i), 0};
    fd_uniform(isa, &own, 1, dtype, (char *)one + i * itemsize, 1);
  }
  check(!memcmp(y, one, (size_t)(n * itemsize)), fd_isa_name(isa), "uniforms of a block", (uint64_t)dtype, n);
}

/* The interface for compiled code, on the best instruction set: the bytes of fd_apply, and an error number for each bad argument. */
static void check_simple(void) {
  static float x[300], y[300], made[300];
  static uint8_t bits[38];
  const fd_isa *isa = fd_isa_at(0);
  const fd_key key = {7, 3};
  fd_layout row;
  const int64_t n = 300, size = 4;
  fd_layout_of(&row, 1, &n, &size, size);
  for (int i = 0; i < 300; i++) x[i] = (float)i - 150;
  fd_call call = {.bits = bits_of(key, 0.3, 70), .op = FD_SCALE, .scale = fd_inverted_scale(0.3, FD_FLOAT32), .n = n};
  call.x = (fd_array){x, &row}, call.y = (fd_array){y, &row}, call.bypass_bytes = INT64_MAX;
  fd_apply(isa, &call, 1);
  check(!fd_drop(x, made, n, FD_FLOAT32, 0.3, 7, 3, 70, 3) && !memcmp(made, y, sizeof y), "simple", "fd_drop", 70, n);
  int equal = !fd_keep_bits(bits, n, 0.3, 7, 3, 70, 3);
  for (int i = 0; i < 300; i++) equal &= (bits[i / 8] >> i % 8 & 1) == is_kept(key, fd_rate_of(0.3).fixed, 70 + (uint64_t)i);
  check(equal && bits[37] < 16, "simple", "fd_keep_bits", 70, n);
  check(fd_derive(7, 3) == fd_fold_in(isa, 7, 3) && fd_abi() == 1, "simple", "fd_derive and fd_abi", 0, 0);
  const uint64_t end = UINT64_C(1) << 55;
  const int errors[] = {fd_drop(x, made, 4, FD_DTYPES, 0.5, 1, 0, 0, 1), fd_drop(x, made, 4, 0, NAN, 1, 0, 0, 1),
                        fd_drop(x, made, -1, 0, 0.5, 1, 0, 0, 1),        fd_drop(x, made, 4, 0, 0.5, 1, 0, end - 3, 1),
                        fd_drop(x, made, 4, 0, 0.5, 1, 0, 0, 0),         fd_drop(x, 0, 4, 0, 0.5, 1, 0, 0, 1),
                        fd_drop(x, (char *)made + 1, 4, 0, 0.5, 1, 0, 0, 1), fd_drop(made, made + 3, 4, 0, 0.5, 1, 0, 0, 1)};
  for (int i = 0; i < FD_ERRORS - 1; i++) check(errors[i] == i + 1 && *fd_error_text(i + 1), "simple", "error", 0, i + 1);
  check(!memcmp(made, y, sizeof y) && !fd_drop(0, 0, 0, 0, 0.5, 1, 0, end, 1), "simple", "nothing written", 0, 0);
}

/* Masks that logits gate, and the slopes of the logits. */
enum { GATED = FD_TILE + 1000 };

typedef struct {
  double keep[GATED], x[GATED], grad[GATED], losses[GATED];
  uint8_t kept[2][GATED]; /* of the mask and of the antithetic one */
} gated_values;

/* Every other element of `logits` is one; the sigmoid has its own tests. */
static void expect_gate(const fd_isa *isa, const fd_bits *bits, int dtype, const void *logits, gated_values *want) {
  static double place[GATED];
  const int compute = dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32;
  for (int64_t i = 0; i < GATED; i++)
    set_element(place, compute, i, to_compute(bits->gate->gain * element(logits, dtype, 2 * i), dtype) + bits->gate->shift);
  fd_function(isa, &(fd_function_call){FD_SIGMOID, compute, compute, place, place, 0, GATED}, 1);
  for (int64_t i = 0; i < GATED; i++) {
    const uint64_t index = bits->first + (uint64_t)i;
    const double p = element(place, compute, i), keep = isnan(p) ? 0 : p, rate = 1.0 - keep;
    want->keep[i] = isnan(p) ? -0.0 : p;
    want->kept[0][i] = rate < 1 && is_kept(bits->key, fixed_of(rate), index);
    want->kept[1][i] = !(keep < 1 && is_kept(bits->key, fixed_of(keep), index));
  }
}

static double expected_slope(const gated_values *of, int estimator, int divided, int dtype, double gain, int64_t i) {
  const double keep = of->keep[i], drop = to_compute(1 - keep, dtype), inverse = to_compute(1 / keep, dtype);
  const double product = to_compute(of->grad[i] * of->x[i], dtype), kept = of->kept[0][i], loss = of->losses[i];
  double slope = loss;
  if (estimator == FD_STRAIGHT) slope = to_compute(product * (divided ? drop : to_compute(keep * drop, dtype)), dtype);
  if (estimator == FD_SCORE) slope = to_compute(loss * to_compute(kept - keep, dtype), dtype);
  if (estimator == FD_DISARM) slope = to_compute(loss * ((kept - of->kept[1][i]) * (0.5 * fmax(keep, drop))), dtype);
  if (divided) slope = to_compute(slope - (kept > 0 ? to_compute(to_compute(product * inverse, dtype) * drop, dtype) : 0), dtype);
  return signbit(keep) ? 0 : to_compute(gain * slope, dtype);
}

static void check_gate_slopes(const fd_isa *isa, const fd_bits *bits, int dtype, const fd_array *x, const fd_array *grad,
                              const gated_values *want) {
  static double losses[GATED], y[GATED + 64], expected[GATED];
  const int compute = dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32;
  const int64_t size = compute == FD_FLOAT64 ? 8 : 4, n = GATED;
  fd_layout flat;
  fd_layout_of(&flat, 1, &n, &size, size);
  for (int64_t i = 0; i < n; i++) set_element(losses, compute, i, want->losses[i]);
  for (int estimator = 0; estimator < FD_ESTIMATORS; estimator++)
    for (int divided = 0; divided < 2; divided++) {
      fd_gate_call call = {.bits = *bits, .estimator = estimator, .divided = divided, .dtype = dtype, .n = n, .grad = *grad, .x = *x};
      memset(y, 0xA5, sizeof y);
      call.y = (unsigned char *)y + GUARD;
      if (estimator != FD_STRAIGHT) call.losses = (fd_array){losses, &flat};
      fd_gate_backward(isa, &call, 1 + dtype % 3);
      int equal = guards_hold((unsigned char *)y, (size_t)(size * n));
      for (int64_t i = 0; i < n; i++)
        set_element(expected, compute, i, expected_slope(want, estimator, divided, dtype, bits->gate->gain, i));
      memmove(y, call.y, (size_t)(size * n));
      for (int64_t i = 0; i < n; i++) equal &= same_element(y, expected, compute, i);
      check(equal, fd_isa_name(isa), "slopes of a gate", (uint64_t)(10 * estimator + divided), n);
    }
}

static void check_gate(const fd_isa *isa, int dtype) {
  static double logits[2 * GATED], x[GATED], grad[GATED], y[GATED], expected[GATED];
  static gated_values want;
  static const double some[] = {NAN, INFINITY, -INFINITY, 900, -900, -38, 37, 0};
  const int64_t n = GATED, size = dtype == FD_FLOAT32 ? 4 : dtype == FD_FLOAT64 ? 8 : 2, one = 1, wide = 2 * size;
  fd_layout flat, spread, mask;
  fd_layout_of(&flat, 1, &n, &size, size);
  fd_layout_of(&spread, 1, &n, &wide, size);
  fd_layout_of(&mask, 1, &n, &one, 1);
  fd_gate gate = {to_compute(0.75, dtype), to_compute(-0.25, dtype), 0};
  fd_bits bits = {.key = {42, 7}, .first = 77, .mask_layout = &mask, .rates = {logits, &spread}, .rates_dtype = dtype, .gate = &gate};
  for (int64_t i = 0; i < n; i++) {
    set_element(logits, dtype, 2 * i, i < 8 ? some[i] : (double)(i * 37 % 1001 - 500) / 64), set_element(logits, dtype, 2 * i + 1, NAN);
    set_element(x, dtype, i, (double)(i % 977 - 400) / 8), set_element(grad, dtype, i, (double)(i % 31 - 11) / 16);
    want.x[i] = element(x, dtype, i), want.grad[i] = element(grad, dtype, i), want.losses[i] = (double)(i % 13) / 4 - 1;
  }
  expect_gate(isa, &bits, dtype, logits, &want);
  const fd_array x_array = {x, &flat}, grad_array = {grad, &flat};
  check_gate_slopes(isa, &bits, dtype, &x_array, &grad_array, &want);
  for (gate.antithetic = 0; gate.antithetic < 2; gate.antithetic++)
    for (int op = FD_SCALE; op <= FD_WITH_RATES; op += FD_WITH_RATES) {
      fd_call call = {.bits = bits, .op = op, .dtype = dtype, .scale = 1, .n = n, .x = x_array, .y = {y, &flat}, .bypass_bytes = op ? 0 : INT64_MAX};
      fd_apply(isa, &call, 1 + dtype % 3);
      int equal = 1;
      for (int64_t i = 0; i < n; i++) {
        const double scale = op ? to_compute(1 / want.keep[i], dtype) : 1;
        set_element(expected, dtype, i, want.kept[gate.antithetic][i] ? to_compute(want.x[i] * scale, dtype) : 0);
        equal &= same_element(y, expected, dtype, i);
      }
      check(equal, fd_isa_name(isa), "a gate", (uint64_t)(100 * dtype + 10 * op + gate.antithetic), n);
    }
}

/* Draws, against a search for each word; the factors are read from ones. */
static void check_draws(const fd_isa *isa, int64_t rows, int64_t features, int64_t k, int threads) {
  static double x[MOST_LAID], y[MOST_LAID], weights[MOST_LAID], expected[MOST_LAID];
  static uint64_t shares[MOST_LAID];
  static uint32_t words[MOST_LAID], counts[4 * MOST_LAID], last[MOST_LAID], bucket[1 << 18];
  const int64_t n = rows * features, size = 8;
  const fd_key key = {42, 7};
  int equal = 1;
  fd_layout flat;
  fd_layout_of(&flat, 1, &n, &size, size);
  for (int64_t i = 0; i < features; i++) weights[i] = (double)(i % 4); /* the first one is never drawn */
  for (int64_t i = 0; i < n; i++) x[i] = 1;
  fd_share_words(weights, features, shares);
  const fd_draw_call call = {{key, 3, 0}, k, rows, features, 0, FD_FLOAT64, fd_draw_shift(features), last, bucket, expected, counts,
                             {x, &flat}, {y, &flat}};
  fd_multiply_draws(isa, &call, shares, threads);
  fd_words(isa, key, 3, rows * k, words, 1);
  for (int64_t i = 0; i < n; i++) x[i] = 0;
  for (int64_t t = 0; t < rows * k; t++) {
    int64_t feature = 0;
    for (uint64_t end = shares[0]; end <= words[t]; end += shares[++feature]) continue;
    x[t / k * features + feature]++;
  }
  for (int64_t i = 0; i < n; i++)
    equal &= y[i] == (x[i] > 0 ? x[i] * 0x1p32 / ((double)k * (double)shares[i % features]) : 0);
  check(equal, fd_isa_name(isa), "draws", (uint64_t)k, n);
}

/* The level: the mean is reached there, and not at the double before it. */
static void check_levels(const fd_isa *isa, int64_t rows, int64_t n, double mean, double floor_share) {
  static float scores[MOST_LAID];
  static double keep[MOST_LAID], drop[MOST_LAID];
  int holds = 1;
  for (int64_t i = 0; i < rows * n; i++) scores[i] = (float)((i * 7919) % 1009) / (float)(1 + i % 13);
  fd_level_call call = {scores, 0, 0, rows, n, mean, floor_share, keep, 0, 0};
  fd_fill_levels(isa, &call, 2);
  call.drop = 1, call.out = drop;
  fd_fill_levels(isa, &call, 1);
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t i = r * n; i < (r + 1) * n; i++) {
      holds &= floor_share <= keep[i] && keep[i] <= 1 && drop[i] == 1 - keep[i];
      sum += keep[i] - mean;
    }
    holds &= sum < 1e-12 && sum > -1e-12;
  }
  check(holds && fd_are_scores(isa, scores, 0, rows * n), fd_isa_name(isa), "levels", (uint64_t)rows, n);
  scores[rows * n - 1] = (float)NAN;
  check(!fd_are_scores(isa, scores, 0, rows * n), fd_isa_name(isa), "a score that is NaN", (uint64_t)rows, n);
}

/* Targets: an element is one if fewer than `targets` elements of its column are smaller, or equal and before it. */
static void check_targets(const fd_isa *isa, int64_t rows, int64_t columns, int64_t targets, int dtype) {
  static double x[MOST_LAID];
  static uint8_t spared[MOST_LAID];
  static uint32_t counts[3 * FD_TARGET_COLUMNS << 11];
  int equal = 1;
  for (int64_t i = 0; i < rows * columns; i++) set_element(x, dtype, i, (double)((i * 7919) % 101 - 50) / 8); /* many are equal */
  const fd_target_call call = {x, dtype, rows, columns, targets, counts, spared};
  fd_find_others(isa, &call, 3);
  for (int64_t i = 0; i < rows * columns; i++) {
    int64_t before = 0;
    const int64_t size = (i * 7919) % 101 - 50;
    for (int64_t k = i % columns; k < rows * columns; k += columns) {
      const int64_t other = (k * 7919) % 101 - 50;
      before += llabs(other) < llabs(size) || (llabs(other) == llabs(size) && k < i);
    }
    equal &= spared[i] == (before >= targets);
  }
  check(equal, fd_isa_name(isa), "targets", (uint64_t)dtype, rows * columns);
}

static void check_selection(const fd_isa *isa) {
  check_draws(isa, 40, 3, 5, 1);
  check_draws(isa, 3, 700, 1500, 3);
  check_draws(isa, 1, 2000, 1, 2);
  check_levels(isa, 20, 7, 0.5, 0.01);
  check_levels(isa, 1, 2000, 0.3, 0);
  check_levels(isa, 3, 500, 0.9, 0.25);
  for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
    check_targets(isa, 20, 70, 7, dtype);
    check_targets(isa, 500, 1, 250, dtype);
    check_targets(isa, 7, 3, 7, dtype);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s philox4x32_10.kat\n", argv[0]);
    return 2;
  }
  check_blocks();
  check_transposed();
  for (int i = 0; i < fd_isa_count(); i++) {
    const fd_isa *isa = fd_isa_at(i);
    if (!fd_isa_runs(isa)) {
      printf("%s: built, not run: this processor lacks it\n", fd_isa_name(isa));
      continue;
    }
    const int before = failures, checks_before = checks;
    check_known_answers(isa, argv[1]);
    check(!fd_contracts(isa), fd_isa_name(isa), "no contraction", 0, 0);
    check_isa(isa);
    check_operations(isa);
    check_groups_cut_off(isa);
    check_all_rows(isa);
    check_all_sums(isa);
    check_layouts(isa);
    check_functions(isa);
    check_divergences(isa);
    check_normals(isa);
    check_noise(isa);
    check_all_shared_factors(isa);
    check_selection(isa);
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
      check_gate(isa, dtype);
      check_laid_numbers(isa, &laid_masks[sizeof laid_masks / sizeof *laid_masks - 1], dtype); /* the block */
      check_laid_numbers(isa, &laid_masks[sizeof laid_masks / sizeof *laid_masks - 2], dtype); /* the column */
    }
    printf("%s: %d checks, %d failed\n", fd_isa_name(isa), checks - checks_before, failures - before);
  }
  check_simple();
  return failures != 0;
}
