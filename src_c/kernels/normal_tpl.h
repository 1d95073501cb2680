/* normal_tpl.h: converts words to uniform and normal numbers, with the operations of fastdrop/_core/backends/elementary.py in
 * the same order. A call takes up to FD_NOISE_TILE elements. One word makes a float32, two words make a float64.
 */
#include "kernels/normal_table.h"

/* (2 (w >> 9) + 1) 2^-24: the midpoints of 2^23 equal parts of (0, 1), exact in float32. */
static void uniforms32(const fd_word *words, int64_t n, void *out) {
  float *u = (float *)out;
  INDEPENDENT for (int64_t i = 0; i < n; i++) u[i] = (float)(int32_t)(2 * (words[i] >> 9) + 1) * 0x1p-24f;
}

/* (2 (v >> 12) + 1) 2^-53, where v has two words; exact in float64. The upper 52 bits of v are the digits of a number in [1, 2). */
INLINE double uniform_of(const fd_word *pair) {
  const uint64_t v = pair[0] | (uint64_t)pair[1] << 32;
  return (double_of((int64_t)(v >> 12 | UINT64_C(0x3FF) << 52)) - 1.0) + 0x1p-53;
}
static void uniforms64(const fd_word *words, int64_t n, void *out) {
  double *u = (double *)out;
  INDEPENDENT for (int64_t i = 0; i < n; i++) u[i] = uniform_of(words + 2 * i);
}

/* There is one polynomial per octave of the distance from 0 or 1. The first loop computes the octave and the position in it,
 * the second evaluates the polynomial, the third sets the sign. The first and the third are plain C; the second uses the
 * instruction set's table lookup. */
enum { NORMALS_AT_ONCE = 256 };
_Static_assert(NORMALS_AT_ONCE % F32_LANES == 0, "a piece must be a whole number of registers");
_Static_assert(sizeof normal_table[0] == 32 * sizeof(float), "f32_lookup takes tables of 32 numbers");
static void some_normals32(const fd_word *words, int64_t n, float *z) {
  const int32_t most = 0x7FFFFF80;
  uint32_t octave[NORMALS_AT_ONCE];
  float x[NORMALS_AT_ONCE];
  INDEPENDENT for (int64_t i = 0; i < n; i++) {
    const int32_t given = (int32_t)(words[i] ^ (0 - (words[i] >> 31))), away = given < most ? given : most;
    const int32_t bits = bits_of((float)away + 0.5f);
    octave[i] = (uint32_t)((bits >> 23) - 126);
    x[i] = float_of((bits & 0x7FFFFF) | 0x3F800000) - 1.5f;
  }
  for (int64_t i = n; i % F32_LANES; i++) octave[i] = 0, x[i] = 0;
  UNROLL_VALUES
  for (int64_t i = 0; i < n; i += F32_LANES) {
    const f32_v at = f32_load(x + i);
    f32_v y = f32_lookup(normal_table[NORMAL_DEGREE], octave + i);
    UNROLL(8)
    for (int k = NORMAL_DEGREE - 1; k >= 0; k--) y = f32_add(f32_mul(y, at), f32_lookup(normal_table[k], octave + i));
    f32_store(x + i, y);
  }
  INDEPENDENT for (int64_t i = 0; i < n; i++) z[i] = float_of(bits_of(x[i]) ^ (int32_t)(~words[i] & 0x80000000u));
}
static void normals32(const fd_word *words, int64_t n, void *out) {
  for (int64_t i = 0; i < n; i += NORMALS_AT_ONCE)
    some_normals32(words + i, n - i < NORMALS_AT_ONCE ? n - i : NORMALS_AT_ONCE, (float *)out + i);
}

static const double central_over[] = {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                                      4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                                      1.3314166789178437745e2, 3.3871328727963666080e0};
static const double central_under[] = {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
                                       2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
                                       4.2313330701600911252e1, 1.0};
static const double near_over[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                                   1.27045825245236838258e0,  3.64784832476320460504e0,  5.76949722146069140550e0,
                                   4.63033784615654529590e0,  1.42343711074968357734e0};
static const double near_under[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                                    1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
                                    2.05319162663775882187e0,  1.0};
static const double far_over[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                                  2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
                                  5.46378491116411436990e0,  6.65790464350110377720e0};
static const double far_under[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
                                   7.86869131145613259100e-4,  1.48753612908506148525e-2, 1.36929880922735805310e-1,
                                   5.99832206555887937690e-1,  1.0};

/* q is u - 1/2, at most 0.425 from 0. */
INLINE double central_of(double q) {
  const double square = 0.180625 - q * q;
  return q * HORNER64(square, central_over) / HORNER64(square, central_under);
}
/* The root of the logarithm of the distance of u from 0 or 1. */
INLINE double depth_of(double u) { return sqrt(-log64(u < 0.5 ? u : 1.0 - u)); }
INLINE double near_tail(double depth) { return HORNER64(depth - 1.6, near_over) / HORNER64(depth - 1.6, near_under); }
static NOINLINE double far_tail(double depth) { return HORNER64(depth - 5.0, far_over) / HORNER64(depth - 5.0, far_under); }

/* All numbers are computed as central ones first. The tails, 15 % of the numbers, are collected, computed together and put in
 * their places; one in 10^10 is in a far tail. */
static void some_normals64(const fd_word *words, int64_t n, double *z) {
  double u[NORMALS_AT_ONCE], depth[NORMALS_AT_ONCE], tail[NORMALS_AT_ONCE];
  uint32_t place[NORMALS_AT_ONCE];
  int64_t tails = 0;
  INDEPENDENT for (int64_t i = 0; i < n; i++) z[i] = uniform_of(words + 2 * i) - 0.5;
  for (int64_t i = 0; i < n; i++) {
    place[tails] = (uint32_t)i, u[tails] = z[i] + 0.5; /* exact: the difference was */
    tails += fabs(z[i]) > 0.425;
  }
  for (int64_t i = 0; i < n; i++) z[i] = central_of(z[i]);
  for (int64_t k = 0; k < tails; k++) depth[k] = depth_of(u[k]);
  for (int64_t k = 0; k < tails; k++) tail[k] = near_tail(depth[k]);
  for (int64_t k = 0; k < tails; k++) {
    const double size = depth[k] <= 5.0 ? tail[k] : far_tail(depth[k]);
    z[place[k]] = u[k] < 0.5 ? -size : size;
  }
}
static void normals64(const fd_word *words, int64_t n, void *out) {
  for (int64_t i = 0; i < n; i += NORMALS_AT_ONCE)
    some_normals64(words + 2 * i, n - i < NORMALS_AT_ONCE ? n - i : NORMALS_AT_ONCE, (double *)out + i);
}
