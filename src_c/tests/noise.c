/* noise.c: noise, normal numbers and elementary functions. Their definition is in Python (fastdrop/_core/backends). Its results
 * are kept here as one number per call: FNV-1a over the elements' bits.
 */
#include <stdio.h>

#include "selftest.h"

enum { NOISY = 40000 + 3 };
static const uint64_t fnv = UINT64_C(0xCBF29CE484222325);

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
  static _Alignas(64) double x[2][NOISY], y[NOISY + 64], sums[NOISY / FD_NOISE_TILE + 1];
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

/* Products in float64, rounded once: set_element rounds a float32, whose last bit must say whether the product was rounded. */
static void check_products(const fd_isa *isa) {
  static double x[NOISY], y[NOISY], want[NOISY];
  for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
    for (int64_t i = 0; i < NOISY; i++) {
      set_element(x, dtype, i, (double)(i % 4001) / 64 - 31);
      double product = element(x, dtype, i) * 0.1;
      if (dtype > FD_FLOAT64 && (double)(float)product != product) {
        const float nearest = (float)product, lower = fabs(nearest) > fabs(product) ? nextafterf(nearest, 0) : nearest;
        uint32_t bits;
        memcpy(&bits, &lower, sizeof bits);
        product = (double)(bits & 1 ? lower : nextafterf(lower, lower < 0 ? -INFINITY : INFINITY));
      }
      set_element(want, dtype, i, product);
    }
    fd_scale(isa, &(fd_scale_call){dtype, x, y, 0.1, NOISY}, 2);
    check(!memcmp(y, want, (size_t)(NOISY * itemsize_of(dtype))), fd_isa_name(isa), "products with a factor", (uint64_t)dtype, NOISY);
    fd_scale(isa, &(fd_scale_call){dtype, x, x, 0.1, NOISY}, 1);
    check(!memcmp(x, want, (size_t)(NOISY * itemsize_of(dtype))), fd_isa_name(isa), "products in place", (uint64_t)dtype, NOISY);
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

static const uint64_t noise_digests[FD_NOISES][FD_DTYPES] = {
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
static const double noise_params[FD_NOISES][5] = {{0.5}, {0.75}, {0x1p-20}, {0x1p-20}, {9, 0x1p-23, 10, 1.125, 3.25}, {0.3}};

static void check_kinds(const fd_isa *isa) {
  static _Alignas(64) double u[NOISY], x[NOISY], other[NOISY], y[NOISY + 64], sums[NOISY / FD_NOISE_TILE + 1];
  fd_uniform(isa, &(fd_numbers){{1, 2}, 0, 0}, NOISY, FD_FLOAT64, u, 1);
  for (int noise = 0; noise < FD_NOISES; noise++)
    for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
      const int64_t n = NOISY, itemsize = itemsize_of(dtype);
      const int other_dtype = noise >= FD_SCALED && dtype != FD_FLOAT64 ? FD_FLOAT32 : dtype;
      const int64_t other_size = itemsize_of(other_dtype);
      const fd_layout flat = line_of(n, itemsize, itemsize), flat_other = line_of(n, other_size, other_size);
      for (int64_t i = 0; i < n; i++) set_element(x, dtype, i, u[i] * 8 - 4), set_element(other, other_dtype, i, u[n - 1 - i] * 3);
      memset(y, 0xA5, sizeof y);
      unsigned char *out = (unsigned char *)y + GUARD + dtype * itemsize;
      fd_noise_call call = {.numbers = {{42, 7}, 5, 0}, .noise = noise, .dtype = dtype, .n = n, .sums = 0};
      memcpy(call.params, noise_params[noise], sizeof call.params);
      call.x = (fd_array){x, &flat}, call.y = (fd_array){out, &flat}, call.other = (fd_array){other, &flat_other};
      if (noise == FD_GAUSSIAN || noise == FD_CONCRETE || noise == FD_UNIFORM) call.sums = sums;
      call.bypass_bytes = (noise + dtype) % 2 ? 0 : INT64_MAX;
      fd_noise_apply(isa, &call, 1 + dtype % 3);
      check(guards_hold((unsigned char *)y, (size_t)((n + dtype) * itemsize)), fd_isa_name(isa), "guards of noise", 0, n);
      memmove(y, out, (size_t)(n * itemsize));
      uint64_t digest = digest_of(fnv, y, itemsize, n);
      if (call.sums) digest = digest_of(digest, sums, 8, (n + FD_NOISE_TILE - 1) / FD_NOISE_TILE);
      check_digest(isa, "noise", 10 * noise + dtype, digest, noise_digests[noise][dtype]);
    }
}

/* Factors, and shifts if kind is 1, that the middle axis of (2, 5, inner) shares; y is every second element if kind is 2. */
static void check_shared_factors(const fd_isa *isa, int dtype, int64_t inner, int kind) {
  static double x[MOST], y[MOST], factors[MOST], shifts[MOST];
  const int type = compute_type(dtype), step = kind == 2 ? 2 : 1;
  const int64_t n = 10 * inner, size = itemsize_of(type), itemsize = itemsize_of(dtype);
  const int64_t shape[] = {2, 5, inner}, strides[] = {inner * size, 0, size};
  const fd_layout flat = line_of(n, itemsize, itemsize), strided = line_of(n, step * itemsize, itemsize);
  fd_layout shared;
  fd_layout_of(&shared, 3, shape, strides, size);
  for (int64_t i = 0; i < n; i++) set_element(x, dtype, i, (double)(i * i % 97) / 64 - 1);
  for (int64_t i = 0; i < 2 * inner; i++) {
    set_element(factors, type, i, (double)(i * 31 % 89) / 48 - 1);
    set_element(shifts, type, i, (double)(i * 7 % 83) / 56);
  }
  fd_noise_call call = {.noise = FD_FACTORS, .dtype = dtype, .n = n, .bypass_bytes = inner % 2 ? 0 : INT64_MAX};
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &strided}, call.other = (fd_array){factors, &shared};
  if (kind == 1) call.shifts = (fd_array){shifts, &shared};
  fd_noise_apply(isa, &call, 1 + kind);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i / (5 * inner) * inner + i % inner;
    double want[1], value = to_compute(element(x, dtype, i) * element(factors, type, at), dtype);
    if (kind == 1) value = to_compute(value + element(shifts, type, at), dtype);
    set_element(want, dtype, 0, value);
    equal &= element(y, dtype, i * step) == element(want, dtype, 0);
  }
  check(equal, fd_isa_name(isa), "shared factors", (uint64_t)(dtype * 10 + kind), inner);
}

/* Numbers and noise over a block of a larger array: those of its elements one by one. */
static void check_laid_numbers(const fd_isa *isa, const laid_mask *block, int dtype) {
  static double x[MOST_LAID], y[MOST_LAID], one[MOST_LAID];
  const int64_t n = size_of_mask(block), itemsize = itemsize_of(dtype);
  const fd_layout flat = line_of(n, itemsize, itemsize), single = line_of(1, itemsize, itemsize);
  fd_layout layout;
  fd_layout_of(&layout, 3, block->shape, block->steps, 1);
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

/* Sums along the middle axis of (outer, length, inner), with and without room, and the results of these passes. */
static void check_room(const fd_isa *isa, int dtype, const int64_t shape[3], int threads) {
  static _Alignas(64) double x[MOST], values[MOST], scale[MOST], y[2][MOST + 8], sums[2][MOST], room[3 * MOST];
  const int64_t n = shape[0] * shape[1] * shape[2], itemsize = itemsize_of(dtype), size = itemsize_of(compute_type(dtype));
  const int64_t bytes = fd_sum_room(shape[1], shape[2]), strides[] = {0, 0, size}, all = shape[0] * shape[2];
  const fd_layout flat = line_of(n, itemsize, itemsize);
  fd_layout shared;
  fd_layout_of(&shared, 3, shape, strides, size);
  check(bytes > 0 && bytes * threads < (int64_t)sizeof room, fd_isa_name(isa), "room of sums", 0, n);
  for (int64_t i = 0; i < n; i++) {
    set_element(x, dtype, i, (double)(i * i % 97) / 64 - 1);
    set_element(values, dtype, i, (double)(i * 31 % 89) / 48 - 1);
    set_element(scale, compute_type(dtype), i, (double)(i % 83) / 56);
  }
  fd_noise_call call = {.numbers = {{42, 7}, 5, 0}, .noise = FD_SCALED, .dtype = dtype, .n = n, .bypass_bytes = 0};
  call.x = (fd_array){x, &flat}, call.other = (fd_array){scale, &shared}, call.values = (fd_array){values, &flat};
  call.length = shape[1], call.inner = shape[2];
  memset(room, 0xA5, sizeof room);
  for (int k = 0; k < 2; k++) {
    call.y = (fd_array){(char *)y[k] + itemsize, &flat}, call.sums = sums[k], call.room = k ? room : 0;
    fd_noise_apply(isa, &call, threads);
  }
  const unsigned char *past = (const unsigned char *)room + bytes * threads;
  check(*past == 0xA5, fd_isa_name(isa), "guards of the room of sums", (uint64_t)dtype, n);
  check(!memcmp((char *)y[0] + itemsize, (char *)y[1] + itemsize, (size_t)(n * itemsize)), fd_isa_name(isa), "noise with room", (uint64_t)dtype, n);
  check(!memcmp(sums[0], sums[1], (size_t)(all * 8)), fd_isa_name(isa), "sums of noise with room", (uint64_t)dtype, n);
}

void check_noise(const fd_isa *isa) {
  static const int64_t sums_of[][3] = {{1, 9, 1100}, {2, 13, 701}, {1, 37, 500}};
  /* a block of a larger array, and one of three columns */
  static const laid_mask laid[] = {{{9, 20, 37}, {100000, 500, 1}}, {{1, 1, 4500}, {0, 0, 3}}};
  static const int64_t sizes[] = {1, 21, 150, 333};
  check_functions(isa);
  check_divergences(isa);
  check_products(isa);
  check_normals(isa);
  check_kinds(isa);
  for (int dtype = 0; dtype < FD_DTYPES; dtype++) {
    for (int kind = 0; kind < 3; kind++)
      for (int k = 0; k < COUNT(sizes); k++) check_shared_factors(isa, dtype, sizes[k], kind);
    for (int k = 0; k < COUNT(sums_of); k++) check_room(isa, dtype, sums_of[k], 1 + k);
    for (int k = 0; k < COUNT(laid); k++) check_laid_numbers(isa, &laid[k], dtype);
  }
}
