/* arrays.c: arrays of any type, and calls on them. */
#include "selftest.h"

int guards_hold(const unsigned char *buffer, size_t used) {
  for (size_t k = 0; k < GUARD; k++)
    if (buffer[k] != 0xA5 || buffer[GUARD + used + k] != 0xA5) return 0;
  return 1;
}

/* The binary digits of the 16-bit types, and their least exponents; 1 - least is the largest. */
static const struct {
  int digits, least;
} narrow[] = {[FD_FLOAT16] = {11, -14}, [FD_BFLOAT16] = {8, -126}};

/* Converts a 16-bit element to its exact value, and a float to the nearest element. */
static double value_of(uint16_t bits, int dtype) {
  const int digits = narrow[dtype].digits, least = narrow[dtype].least;
  const int exponent = (bits & 0x7FFF) >> (digits - 1), fraction = bits & ((1 << (digits - 1)) - 1);
  double value = ldexp(fraction + (exponent ? 1 << (digits - 1) : 0), (exponent ? exponent - 1 : 0) + least - (digits - 1));
  if (exponent == 2 - 2 * least + 1) value = fraction ? NAN : INFINITY;
  return bits >> 15 ? -value : value;
}

static uint16_t bits_of_value(float value, int dtype) {
  const int digits = narrow[dtype].digits, least = narrow[dtype].least;
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

int64_t itemsize_of(int dtype) { return dtype == FD_FLOAT64 ? 8 : dtype == FD_FLOAT32 ? 4 : 2; }

int compute_type(int dtype) { return dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32; }

/* Element i of an array of any type, converted to a double, and a double rounded to the array's type. */
double element(const void *array, int dtype, int64_t i) {
  if (dtype == FD_FLOAT32) return (double)((const float *)array)[i];
  if (dtype == FD_FLOAT64) return ((const double *)array)[i];
  return value_of(((const uint16_t *)array)[i], dtype);
}

void set_element(void *array, int dtype, int64_t i, double value) {
  if (dtype == FD_FLOAT32) ((float *)array)[i] = (float)value;
  else if (dtype == FD_FLOAT64) ((double *)array)[i] = value;
  else ((uint16_t *)array)[i] = bits_of_value((float)value, dtype);
}

/* Rounds to the compute type after each operation. For float32 operands, a double is wide enough to round correctly. */
double to_compute(double value, int dtype) { return dtype == FD_FLOAT64 ? value : (double)(float)value; }

int same_element(const void *a, const void *b, int dtype, int64_t i) {
  const size_t size = (size_t)itemsize_of(dtype), at = (size_t)i * size;
  if (isnan(element(a, dtype, i)) && isnan(element(b, dtype, i))) return 1; /* payloads are not guaranteed */
  return !memcmp((const char *)a + at, (const char *)b + at, size);
}

fd_layout line_of(int64_t n, int64_t stride, int64_t itemsize) {
  fd_layout layout;
  fd_layout_of(&layout, 1, &n, &stride, itemsize);
  return layout;
}

/* A mask with the layout of the array. */
fd_bits bits_of(fd_key key, double p, uint64_t first) {
  static const fd_layout flat = {1, {INT64_MAX}, {1}};
  return (fd_bits){.key = key, .rate = fd_rate_of(p), .first = first, .mask_layout = &flat};
}
