/* elementary_tpl.h: exponential, logarithm and functions made of them, with the same bits everywhere. They are the operations
 * of fastdrop/_core/backends/elementary.py in the same order, and none is fused with another. The comments there explain the
 * steps and name the sources of the coefficients. This is plain C without branches, vectorized by the flags of each ISA file.
 */
#include <math.h>

INLINE float float_of(int32_t bits) {
  float a;
  memcpy(&a, &bits, sizeof a);
  return a;
}
INLINE int32_t bits_of(float a) {
  int32_t bits;
  memcpy(&bits, &a, sizeof bits);
  return bits;
}
INLINE double double_of(int64_t bits) {
  double a;
  memcpy(&a, &bits, sizeof a);
  return a;
}
INLINE int64_t bits_of_double(double a) {
  int64_t bits;
  memcpy(&bits, &a, sizeof bits);
  return bits;
}

/* The coefficient of the highest power comes first. */
INLINE float horner32(float x, const float *coefficients, int count) {
  float y = coefficients[0];
  UNROLL(8)
  for (int k = 1; k < count; k++) y = y * x + coefficients[k];
  return y;
}
INLINE double horner64(double x, const double *coefficients, int count) {
  double y = coefficients[0];
  UNROLL(8)
  for (int k = 1; k < count; k++) y = y * x + coefficients[k];
  return y;
}
#define HORNER32(x, table) horner32(x, table, (int)(sizeof table / sizeof table[0]))
#define HORNER64(x, table) horner64(x, table, (int)(sizeof table / sizeof table[0]))

static const float exp32_terms[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                    4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
static const float log32_terms[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                                    -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};

INLINE float power_of_two32(int32_t n) { return float_of((n + 127) << 23); }

/* exp(x) / 2^n for x from -104 to 89, and n. */
INLINE float exp_reduced32(float x, int32_t *n) {
  const float to_integer = 0x1.8p23f, k = (x * 1.44269504088896341f + to_integer) - to_integer;
  const float r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
  *n = (int32_t)k;
  return ((HORNER32(r, exp32_terms) * (r * r)) + r) + 1.0f;
}

/* For x from -80 to 80, where the result is normal: then one exact product gives what two give. */
INLINE float usual_exp32(float x) {
  int32_t n;
  const float y = exp_reduced32(x, &n);
  return y * power_of_two32(n);
}

INLINE float exp32(float x) {
  const int is_number = x == x;
  const float most = is_number ? (x > 89.0f ? 89.0f : x) : 0.0f, given = most < -104.0f ? -104.0f : most;
  int32_t n;
  const float reduced = exp_reduced32(given, &n);
  const int32_t half = n >> 1;
  const float y = (reduced * power_of_two32(half)) * power_of_two32(n - half);
  return is_number ? y : x;
}

/* a where the bits of `mask` are 1, b where they are 0. With ?:, gcc would make two copies of all code that follows. */
INLINE int32_t chosen32(int32_t mask, int32_t a, int32_t b) { return (a & mask) | (b & ~mask); }
INLINE int64_t chosen64(int64_t mask, int64_t a, int64_t b) { return (a & mask) | (b & ~mask); }

/* The logarithm of x / 2^places, for a positive normal number x. The result for other x has no meaning. */
INLINE float log_scaled32(float x, float places) {
  const int32_t bits = bits_of(x), e = (int32_t)((uint32_t)bits - 0x3F3504F3) >> 23;
  const float exponent = (float)e - places;
  const float t = float_of((int32_t)((uint32_t)bits - ((uint32_t)e << 23))) - 1.0f, z = t * t;
  float y = (HORNER32(t, log32_terms) * t) * z;
  y = y + exponent * -2.12194440e-4f;
  y = y - z * 0.5f;
  return (t + y) + exponent * 0.693359375f;
}

INLINE float log32(float x) {
  const int is_inside = (x > 0.0f) & (x < INFINITY);
  const float inside = is_inside ? x : 1.0f;
  const int32_t is_small = -(inside < 0x1p-126f);
  const int32_t normal = chosen32(is_small, bits_of(inside * 0x1p23f), bits_of(inside));
  const float y = log_scaled32(float_of(normal), float_of(chosen32(is_small, bits_of(23.0f), 0)));
  const float outside = x == 0.0f ? -INFINITY : (x > 0.0f ? x : NAN);
  return is_inside ? y : outside;
}

static const double exp64_terms[] = {4.13813679705723846039e-08, -1.65339022054652515390e-06, 6.61375632143793436117e-05,
                                     -2.77777777770155933842e-03, 1.66666666666666019037e-01};
static const double log64_terms[] = {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                                     2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                                     6.666666666666735130e-01};

INLINE double power_of_two64(int64_t n) { return double_of((n + 1023) << 52); }

/* Whole numbers near 0, as 64-bit integers and as float64: the last bits of the number with 1.5 2^52 added. They replace
 * conversions and a shift that keeps the sign, which some instruction sets have in 32 bits only. */
INLINE int64_t to_integer64(double with_shift) { return bits_of_double(with_shift) - bits_of_double(0x1.8p52); }
INLINE double from_integer64(int64_t n) { return double_of(n + bits_of_double(0x1.8p52)) - 0x1.8p52; }
INLINE int64_t half_of64(int64_t n) { return (int64_t)((uint64_t)(n + 0x1000) >> 1) - 0x800; }

/* exp(x) / 2^n for x from -746 to 710, and n. */
INLINE double exp_reduced64(double x, int64_t *n) {
  const double to_integer = 0x1.8p52, shifted = x * 1.44269504088896338700 + to_integer, k = shifted - to_integer;
  const double high = x - k * 6.93147180369123816490e-01, low = k * 1.90821492927058770002e-10;
  const double r = high - low, z = r * r, c = r - z * HORNER64(z, exp64_terms);
  *n = to_integer64(shifted);
  return 1.0 - ((low - (r * c) / (2.0 - c)) - high);
}

INLINE double usual_exp64(double x) {
  int64_t n;
  const double y = exp_reduced64(x, &n);
  return y * power_of_two64(n);
}

INLINE double exp64(double x) {
  const int is_number = x == x;
  const double most = is_number ? (x > 710.0 ? 710.0 : x) : 0.0, given = most < -746.0 ? -746.0 : most;
  int64_t n;
  const double reduced = exp_reduced64(given, &n);
  const int64_t half = half_of64(n);
  const double y = (reduced * power_of_two64(half)) * power_of_two64(n - half);
  return is_number ? y : x;
}

INLINE double log_scaled64(double x, double places) {
  const uint64_t bits = (uint64_t)bits_of_double(x);
  const int64_t e = (int64_t)((bits - 0x3FE6A09E667F3BCD + (UINT64_C(1) << 62)) >> 52) - (1 << 10);
  const double exponent = from_integer64(e) - places;
  const double t = double_of((int64_t)(bits - ((uint64_t)e << 52))) - 1.0, s = t / (2.0 + t), z = s * s;
  const double rest = z * HORNER64(z, log64_terms), half_square = (t * t) * 0.5;
  return exponent * 6.93147180369123816490e-01 -
         ((half_square - (s * (half_square + rest) + exponent * 1.90821492927058770002e-10)) - t);
}

INLINE double log64(double x) {
  const int is_inside = (x > 0.0) & (x < (double)INFINITY);
  const double inside = is_inside ? x : 1.0;
  const int64_t is_small = -(int64_t)(inside < 0x1p-1022);
  const int64_t normal = chosen64(is_small, bits_of_double(inside * 0x1p52), bits_of_double(inside));
  const double y = log_scaled64(double_of(normal), double_of(chosen64(is_small, bits_of_double(52.0), 0)));
  const double outside = x == 0.0 ? -(double)INFINITY : (x > 0.0 ? x : (double)NAN);
  return is_inside ? y : outside;
}

/* Functions that have the same text in both types. `least` is too small to change 1 by an addition. Those named usual_... have fewer steps
 * and the same bits, for the numbers that is_usual_... accepts; the results of usual_exp are normal up to `most`. */
#define FAMILY(type, n, least, smallest, largest, most)                                             \
  /* For finite x >= 0; NaN gives NaN. */                                                           \
  INLINE type log1p##n(type x) {                                                                    \
    const type sum = (type)1 + x, added = sum - (type)1;                                            \
    const int is_lost = added == (type)0;                                                           \
    const type good = log_scaled##n(sum, (type)0) * (x / (is_lost ? (type)1 : added));              \
    return is_lost ? x : good;                                                                      \
  }                                                                                                 \
  INLINE int is_usual_exp##n(type x) { return (x >= -(type)most) & (x <= (type)most); }             \
  INLINE int is_usual_log##n(type x) { return (x >= (type)smallest) & (x <= (type)largest); }       \
  INLINE type usual_log##n(type x) { return log_scaled##n(x, (type)0); }                            \
  INLINE type lesser##n(type x) { return x < (type)0.5 ? x : (type)1 - x; }                         \
  INLINE int is_usual_logit##n(type x) { return !(lesser##n(x) < (type)least); }                    \
  INLINE type usual_logit##n(type x) {                                                              \
    const type y = log1p##n(((type)1 - (lesser##n(x) + lesser##n(x))) / lesser##n(x));              \
    return x < (type)0.5 ? -y : y;                                                                  \
  }                                                                                                 \
  INLINE type logit##n(type x) {                                                                    \
    const type outer = -log##n(lesser##n(x)), y = x < (type)0.5 ? -outer : outer;                   \
    return is_usual_logit##n(x) ? usual_logit##n(x) : y;                                            \
  }                                                                                                 \
  /* Functions of x and e = exp(-|x|). */                                                           \
  INLINE type sigmoid_of##n(type x, type e) { return (x < (type)0 ? e : (type)1) / ((type)1 + e); } \
  INLINE type softplus_of##n(type x, type e) { return (x < (type)0 ? (type)0 : x) + log1p##n(e); }  \
  INLINE type sigmoid##n(type x) { return sigmoid_of##n(x, exp##n(x < (type)0 ? x : -x)); }

FAMILY(float, 32, 0x1p-26, FLT_MIN, FLT_MAX, 80)
FAMILY(double, 64, 0x1p-55, DBL_MIN, DBL_MAX, 700)

enum { FUNCTION_PIECE = 256 };

/* Most pieces have usual numbers only. */
#define USUAL_FUNCTION(name, type, n)                                                \
  static void name##n##_all(const void *from, int64_t count, void *to) {             \
    const type *x = (const type *)from;                                              \
    type *y = (type *)to;                                                            \
    for (int64_t some; count > 0; count -= some, x += some, y += some) {             \
      some = count < FUNCTION_PIECE ? count : FUNCTION_PIECE;                        \
      int usual = 1;                                                                 \
      for (int64_t i = 0; i < some; i++) usual &= is_usual_##name##n(x[i]);          \
      if (usual)                                                                     \
        INDEPENDENT for (int64_t i = 0; i < some; i++) y[i] = usual_##name##n(x[i]); \
      else                                                                           \
        INDEPENDENT for (int64_t i = 0; i < some; i++) y[i] = name##n(x[i]);         \
    }                                                                                \
  }

/* In a long loop most steps wait for the one before. Two short loops are faster, because more of their elements are under way. */
#define FUNCTION_OF_EXP(name, type, n)                                                     \
  static void name##n##_all(const void *from, int64_t count, void *to) {                   \
    const type *x = (const type *)from;                                                    \
    type *y = (type *)to, e[FUNCTION_PIECE];                                               \
    for (int64_t some; count > 0; count -= some, x += some, y += some) {                   \
      some = count < FUNCTION_PIECE ? count : FUNCTION_PIECE;                              \
      INDEPENDENT for (int64_t i = 0; i < some; i++) e[i] = x[i] < (type)0 ? x[i] : -x[i]; \
      exp##n##_all(e, some, e);                                                            \
      INDEPENDENT for (int64_t i = 0; i < some; i++) y[i] = name##_of##n(x[i], e[i]);      \
    }                                                                                      \
  }

#define BOTH_FUNCTIONS(kind, name) kind(name, float, 32) kind(name, double, 64)
BOTH_FUNCTIONS(USUAL_FUNCTION, exp)
BOTH_FUNCTIONS(USUAL_FUNCTION, log)
BOTH_FUNCTIONS(FUNCTION_OF_EXP, sigmoid)
BOTH_FUNCTIONS(USUAL_FUNCTION, logit)
BOTH_FUNCTIONS(FUNCTION_OF_EXP, softplus)

/* Products in float64. In the second function, a product between two numbers of float32 becomes the one whose last bit is 1. It can
 * then be rounded to 16 bits as if it were rounded once. */
static void scale64(const void *from, int64_t count, double factor, void *to) {
  const double *x = (const double *)from;
  double *y = (double *)to;
  INDEPENDENT for (int64_t i = 0; i < count; i++) y[i] = factor * x[i];
}
static void scale32(const void *from, int64_t count, double factor, void *to) {
  const float *x = (const float *)from;
  float *y = (float *)to;
  INDEPENDENT for (int64_t i = 0; i < count; i++) y[i] = (float)(factor * (double)x[i]);
}
static void scale_to_odd32(const void *from, int64_t count, double factor, void *to) {
  const float *x = (const float *)from;
  float *y = (float *)to;
  INDEPENDENT for (int64_t i = 0; i < count; i++) {
    const double product = factor * (double)x[i], nearest = (double)(float)product;
    const int32_t is_above = fabs(nearest) > fabs(product), is_below = fabs(nearest) < fabs(product);
    y[i] = float_of((bits_of((float)product) - is_above) | is_above | is_below);
  }
}

INLINE double log1p_of_unit64(double x) {
  const int is_upper = x > 0.41421356237309505;
  const double exponent = is_upper ? 1.0 : 0.0, t = is_upper ? (x - 1.0) * 0.5 : x, s = t / (2.0 + t), z = s * s;
  const double rest = z * HORNER64(z, log64_terms), half_square = (t * t) * 0.5;
  return exponent * 6.93147180369123816490e-01 -
         ((half_square - (s * (half_square + rest) + exponent * 1.90821492927058770002e-10)) - t);
}

/* Divergences of a weight from the log-uniform prior, given its log alpha x, and their derivatives: functions of x, e = exp(-|x|) and,
 * for Molchanov's, f = exp(-|place(x)|). */
INLINE double place64(double x) { return 1.87320 + 1.48695 * x; }
INLINE double molchanov_of64(double x, double e, double f) {
  const double softplus = (x > 0.0 ? 0.0 : -x) + log1p_of_unit64(e);
  return 0.63576 * sigmoid_of64(-place64(x), f) + 0.5 * softplus;
}
INLINE double molchanov_slope_of64(double x, double e, double f) {
  const double sum = 1.0 + f;
  return 0.0 - ((0.63576 * 1.48695) * ((1.0 / sum) * (f / sum)) + 0.5 * sigmoid_of64(-x, e));
}
INLINE double kingma_of64(double x, double e) {
  const double least = x > 0.0 ? 0.0 : x, alpha = x > 0.0 ? 1.0 : e;
  return -(-0.6351814227307391 + (0.5 * least + alpha * (1.16145124 + alpha * (-1.50204118 + alpha * 0.58629921))));
}
INLINE double kingma_slope_of64(double x, double e) {
  const double slope = 0.5 + e * (1.16145124 + e * (2.0 * -1.50204118 + e * (3.0 * 0.58629921)));
  return x > 0.0 ? 0.0 : 0.0 - slope;
}

/* Short loops, for the same reason as in FUNCTION_OF_EXP. */
#define FUNCTION_OF_TWO_EXPS(name)                                                         \
  static void name##64_all(const void *from, int64_t count, void *to) {                    \
    const double *x = (const double *)from;                                                \
    double *y = (double *)to, e[FUNCTION_PIECE], f[FUNCTION_PIECE];                        \
    for (int64_t some; count > 0; count -= some, x += some, y += some) {                   \
      some = count < FUNCTION_PIECE ? count : FUNCTION_PIECE;                              \
      INDEPENDENT for (int64_t i = 0; i < some; i++) e[i] = -fabs(x[i]);                   \
      INDEPENDENT for (int64_t i = 0; i < some; i++) f[i] = -fabs(place64(x[i]));          \
      exp64_all(e, some, e);                                                               \
      exp64_all(f, some, f);                                                               \
      INDEPENDENT for (int64_t i = 0; i < some; i++) y[i] = name##_of64(x[i], e[i], f[i]); \
    }                                                                                      \
  }

FUNCTION_OF_TWO_EXPS(molchanov)
FUNCTION_OF_TWO_EXPS(molchanov_slope)
FUNCTION_OF_EXP(kingma, double, 64)
FUNCTION_OF_EXP(kingma_slope, double, 64)
