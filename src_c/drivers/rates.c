/* rates.c: converts p to the integers and the rounded factors that the kernels use. */
#include <string.h>

#include "isa/isa.h"

enum { FRACTION_BITS = 52, BIAS = 1023 };
static const uint64_t one = UINT64_C(0x3FF0000000000000), sign = UINT64_C(1) << 63; /* the bits of 1.0 and of -0.0 */

static uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Integers do this in any floating-point environment, in less time than it takes to set one. */
fd_rate fd_rate_of(double p) {
  const uint64_t bits = bits_of(p) & ~sign;
  const uint64_t whole = (bits & ((UINT64_C(1) << FRACTION_BITS) - 1)) | UINT64_C(1) << FRACTION_BITS;
  const int exponent = (int)(bits >> FRACTION_BITS) - BIAS;
  const int left = exponent + 64 - FRACTION_BITS; /* p 2^64 is whole 2^left, at most (2^53 - 1) 2^11 */
  if (bits == one) return (fd_rate){0, 1};
  if (left >= 0) return (fd_rate){whole << left, 0};
  if (left < -FRACTION_BITS - 1) return (fd_rate){0, 0}; /* less than a half, or a subnormal p */
  const uint64_t floor = whole >> -left, rest = whole << (64 + left); /* a rest of a half is rounded to even */
  return (fd_rate){floor + (rest > sign || (rest == sign && (floor & 1))), 0};
}

/* The compute type is float32 for all element types except float64. */
static double round_to(double value, int dtype) { return dtype == FD_FLOAT64 ? value : (double)(float)value; }

double fd_inverted_scale(double p, int dtype) {
  const uint64_t found = fd_float_begin();
  const double scale = p == 1.0 ? 0.0 : round_to(1.0 / (1.0 - p), dtype);
  fd_float_end(found);
  return scale;
}

double fd_standard_scale(double p, int dtype) {
  const uint64_t found = fd_float_begin();
  const double scale = round_to(1.0 - p, dtype);
  fd_float_end(found);
  return scale;
}

double fd_rounded_factor(double value, int dtype) {
  const uint64_t found = fd_float_begin();
  const double factor = round_to(value, dtype);
  fd_float_end(found);
  return factor;
}

int fd_is_rate(double p) {
  const uint64_t bits = bits_of(p);
  return bits <= one || bits == sign; /* numbers without a sign have the order of their bits */
}

int64_t fd_first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n) {
  const uint64_t found = fd_float_begin(); /* a NaN may trap, and a negative subnormal may pass for 0 */
  const int64_t bad = isa->first_bad_rate(rates, dtype, n);
  fd_float_end(found);
  return bad;
}

int fd_contracts(const fd_isa *isa) {
  /* (1 + 2^-30)^2 - (1 + 2^-29) is exactly 2^-60, but 0 if the product is rounded to 53 bits. */
  const uint64_t found = fd_float_begin();
  const double a = 1.0 + 0x1p-30, difference = isa->multiply_add(a, a, -(1.0 + 0x1p-29));
  fd_float_end(found);
  return difference != 0.0;
}
