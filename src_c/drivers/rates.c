/* rates.c: converts p to the integers and the rounded factors that the kernels use. */
#include <math.h>
#include <string.h>

#include "isa/isa.h"

fd_rate fd_rate_of(double p) {
  const uint64_t found = fd_float_begin();
  fd_rate rate = {0, p == 1.0};
  /* p < 1 is at most 1 - 2^-53, so p 2^64 fits. It has a fraction only for p < 2^-11; nearbyint rounds it to even. */
  if (!rate.all) rate.fixed = (uint64_t)nearbyint(ldexp(p, 64));
  fd_float_end(found);
  return rate;
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
  uint64_t bits;
  memcpy(&bits, &p, sizeof bits);
  /* Numbers without a sign have the order of their bits. 0x3FF0... is 1, and 0x8000... is -0.0. */
  return bits <= UINT64_C(0x3FF0000000000000) || bits == UINT64_C(0x8000000000000000);
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
