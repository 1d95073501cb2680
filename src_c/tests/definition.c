/* definition.c: what stream 1 and the library's sums are, one element at a time; it shares no code with the kernels. */
#include "selftest.h"

/* One block of Philox4x32-10, as in the paper. */
void philox_block(uint64_t seed, uint64_t block, uint32_t plane_domain, uint64_t offset, uint32_t w[4]) {
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
int is_kept(fd_key key, uint64_t rate, uint64_t i) {
  for (uint32_t plane = 0; plane < 64; plane++) {
    uint32_t w[4];
    philox_block(key.seed, i / 128, plane << 16 | 1u << 24, key.offset, w);
    const uint32_t digit = w[i % 128 / 32] >> (i % 32) & 1, of_rate = (uint32_t)(rate >> (63 - plane)) & 1;
    if (digit != of_rate) return digit > of_rate;
  }
  return 1;
}

/* p as a multiple of 2^-64, rounded to nearest even from its binary digits: those past the last are compared with a half. */
uint64_t fixed_of(double p) {
  int exponent;
  const double fraction = frexp(p, &exponent); /* p = fraction 2^exponent, fraction in [1/2, 1) or 0 */
  const uint64_t digits = (uint64_t)ldexp(fraction, 53);
  const int up = exponent + 64 - 53;
  if (up >= 0) return digits << up;
  if (up < -54) return 0;
  const uint64_t whole = digits >> -up, rest = digits & ((UINT64_C(1) << -up) - 1), half = UINT64_C(1) << (-up - 1);
  return whole + (rest > half || (rest == half && whole % 2));
}

/* The elements of a mask, and the index of element i in the stream. */
int64_t size_of_mask(const laid_mask *mask) { return mask->shape[0] * mask->shape[1] * mask->shape[2]; }

uint64_t index_in(const laid_mask *mask, uint64_t first, int64_t i) {
  const int64_t c = i % mask->shape[2], b = i / mask->shape[2] % mask->shape[1], a = i / mask->shape[2] / mask->shape[1];
  return first + (uint64_t)(a * mask->steps[0] + b * mask->steps[1] + c * mask->steps[2]);
}

/* The sum of rows and of axes, in double or float, as in fastdrop.h. It overwrites the values. */
double halved_sum(double *values, int64_t n, int dtype) {
  for (int64_t half; n > 1; n = half) {
    half = (n + 1) / 2;
    for (int64_t i = 0; i < n - half; i++) values[i] = to_compute(values[i] + values[i + half], dtype);
  }
  return values[0];
}
