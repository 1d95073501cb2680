/* avx2.c: the vocabulary in 256-bit registers, with AVX2 and F16C. It uses no FMA, which would change bits. */
#include "isa/isa.h"

#if !defined(__AVX2__) || !defined(__F16C__)
#error "avx2.c needs -mavx2 -mf16c"
#endif

#include <immintrin.h>
#include <string.h>

/* Philox: a register holds one counter word of four blocks. */
typedef __m256i u64v;
enum { LANES = 4, CHAINS = 4, FEW = 4, BYPASS_AHEAD = 4096, MOST_DIRECT = 512 };

/* The order of the blocks in the lanes is such that the unpacking in v_order puts them into their natural order. */
INLINE u64v v_lane_numbers(void) { return _mm256_setr_epi64x(0, 2, 1, 3); }

INLINE u64v v_set(uint64_t a) { return _mm256_set1_epi64x((long long)a); }
INLINE u64v v_load_blocks(const uint64_t *from) {
  return _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)from), 0xD8);
}
INLINE void v_store(uint64_t *to, u64v a) { _mm256_storeu_si256((__m256i *)to, a); }
INLINE u64v v_add(u64v a, u64v b) { return _mm256_add_epi64(a, b); }
INLINE u64v v_mul(u64v a, u64v b) { return _mm256_mul_epu32(a, b); }
INLINE u64v v_and(u64v a, u64v b) { return _mm256_and_si256(a, b); }
INLINE u64v v_or(u64v a, u64v b) { return _mm256_or_si256(a, b); }
INLINE u64v v_andnot(u64v not_this, u64v a) { return _mm256_andnot_si256(not_this, a); }
INLINE u64v v_xor(u64v a, u64v b) { return _mm256_xor_si256(a, b); }
/* a is the fresh product; b and c are ready before it. */
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return _mm256_xor_si256(a, _mm256_xor_si256(b, c)); }
/* Swaps the halves, which is cheaper than a 64-bit shift; the high half of the result is ignored. */
INLINE u64v v_high(u64v a) { return _mm256_shuffle_epi32(a, 0xB1); }
INLINE int v_any(u64v a) { return !_mm256_testz_si256(a, a); }
INLINE void v_prefetch(const char *p) { _mm_prefetch(p, _MM_HINT_T0); }
/* After the swap of the halves, the product's low word is already in its place. */
INLINE u64v v_last(u64v product, u64v a, u64v b) {
  return _mm256_xor_si256(v_high(product), _mm256_blend_epi32(_mm256_xor_si256(a, b), _mm256_setzero_si256(), 0xAA));
}
INLINE void v_order(u64v pair[2]) {
  const u64v low = pair[0], high = pair[1];
  pair[0] = _mm256_unpacklo_epi64(low, high);
  pair[1] = _mm256_unpackhi_epi64(low, high);
}

/* float32, eight per register: each lane tests its own bit of a byte of the mask. The byte and the following three are
 * broadcast directly from memory, which takes no vector port. */
typedef __m256 f32_v;
enum { F32_LANES = 8 };
INLINE f32_v f32_set(float a) { return _mm256_set1_ps(a); }
INLINE f32_v f32_load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void f32_store(float *to, f32_v a) { _mm256_storeu_ps(to, a); }
INLINE void f32_stream(float *to, f32_v a) { _mm256_stream_ps(to, a); }
INLINE f32_v f32_mul(f32_v a, f32_v b) { return _mm256_mul_ps(a, b); }
INLINE f32_v f32_div(f32_v a, f32_v b) { return _mm256_div_ps(a, b); }
INLINE f32_v f32_add(f32_v a, f32_v b) { return _mm256_add_ps(a, b); }
INLINE f32_v f32_sign(f32_v a, f32_v m) {
  const f32_v top = f32_set(-0.0f), has_sign = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_OQ);
  return _mm256_blendv_ps(top, _mm256_xor_ps(_mm256_and_ps(a, top), m), has_sign);
}
INLINE f32_v f32_mask(const uint64_t *bits, int64_t i) {
  const __m256i own_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  int32_t bytes;
  memcpy(&bytes, (const char *)bits + i / 8, sizeof bytes);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bytes), own_bit), own_bit));
}
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) { return _mm256_and_ps(a, f32_mask(bits, i)); }
INLINE f32_v f32_select(const uint64_t *bits, int64_t i, f32_v kept, f32_v dropped) {
  return _mm256_blendv_ps(dropped, kept, f32_mask(bits, i));
}
/* The 32-bit lanes at, at + 1, ... of two registers. */
INLINE f32_v f32_part(f32_v low, f32_v high, int64_t at) {
  const __m256i lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int)at));
  const f32_v is_high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(7)));
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, lanes), _mm256_permutevar8x32_ps(high, lanes), is_high);
}
INLINE f32_v f32_add_some(f32_v a, f32_v b, int64_t n) {
  const int some = n < F32_LANES ? (int)n : F32_LANES;
  const __m256i is_some = _mm256_cmpgt_epi32(_mm256_set1_epi32(some), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_blendv_ps(a, _mm256_add_ps(a, b), _mm256_castsi256_ps(is_some));
}
INLINE float f32_total(f32_v a) {
  __m128 left = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  left = _mm_add_ps(left, _mm_movehl_ps(left, left));
  return _mm_cvtss_f32(_mm_add_ss(left, _mm_movehdup_ps(left)));
}

/* float64, four per register. */
typedef __m256d f64_v;
enum { F64_LANES = 4 };
INLINE f64_v f64_set(double a) { return _mm256_set1_pd(a); }
INLINE f64_v f64_load(const double *from) { return _mm256_loadu_pd(from); }
INLINE void f64_store(double *to, f64_v a) { _mm256_storeu_pd(to, a); }
INLINE void f64_stream(double *to, f64_v a) { _mm256_stream_pd(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) { return _mm256_mul_pd(a, b); }
INLINE f64_v f64_div(f64_v a, f64_v b) { return _mm256_div_pd(a, b); }
INLINE f64_v f64_add(f64_v a, f64_v b) { return _mm256_add_pd(a, b); }
INLINE f64_v f64_sign(f64_v a, f64_v m) {
  const f64_v top = f64_set(-0.0), has_sign = _mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_NEQ_OQ);
  return _mm256_blendv_pd(top, _mm256_xor_pd(_mm256_and_pd(a, top), m), has_sign);
}
INLINE f64_v f64_mask(const uint64_t *bits, int64_t i) {
  const __m256i own_bit = i & 4 ? _mm256_setr_epi64x(16, 32, 64, 128) : _mm256_setr_epi64x(1, 2, 4, 8);
  int64_t bytes;
  memcpy(&bytes, (const char *)bits + i / 8, sizeof bytes);
  return _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bytes), own_bit), own_bit));
}
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) { return _mm256_and_pd(a, f64_mask(bits, i)); }
INLINE f64_v f64_select(const uint64_t *bits, int64_t i, f64_v kept, f64_v dropped) {
  return _mm256_blendv_pd(dropped, kept, f64_mask(bits, i));
}
INLINE f64_v f64_part(f64_v low, f64_v high, int64_t at) {
  return _mm256_castps_pd(f32_part(_mm256_castpd_ps(low), _mm256_castpd_ps(high), 2 * at));
}
INLINE f64_v f64_add_some(f64_v a, f64_v b, int64_t n) {
  const __m256i is_some = _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  return _mm256_blendv_pd(a, _mm256_add_pd(a, b), _mm256_castsi256_pd(is_some));
}
INLINE double f64_total(f64_v a) {
  const __m128d left = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
  return _mm_cvtsd_f64(_mm_add_sd(left, _mm_unpackhi_pd(left, left)));
}

/* float16: eight per half register, computed in float32. */
INLINE __m128i half_load(const uint16_t *from) { return _mm_loadu_si128((const __m128i *)from); }
INLINE void half_store(uint16_t *to, __m128i a) { _mm_storeu_si128((__m128i *)to, a); }
INLINE void half_stream(uint16_t *to, __m128i a) { _mm_stream_si128((__m128i *)to, a); }
INLINE __m128i f16_narrow(f32_v a) { return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT); }
INLINE f32_v f16_load(const uint16_t *from) { return _mm256_cvtph_ps(half_load(from)); }
INLINE void f16_store(uint16_t *to, f32_v a) { half_store(to, f16_narrow(a)); }
INLINE void f16_stream(uint16_t *to, f32_v a) { half_stream(to, f16_narrow(a)); }

/* bfloat16, sixteen per register, computed in two registers of float32: those of even and those of odd index. The upper half of a
 * 32-bit lane is an odd element as it stands, and the lower half an even one after a shift, so no element changes its lane. */
typedef struct {
  f32_v even, odd;
} pair_v;
enum { PAIR_LANES = 16 };
INLINE pair_v pair_set(float a) { return (pair_v){f32_set(a), f32_set(a)}; }
INLINE pair_v pair_mul(pair_v a, pair_v b) { return (pair_v){f32_mul(a.even, b.even), f32_mul(a.odd, b.odd)}; }
INLINE pair_v pair_div(pair_v a, pair_v b) { return (pair_v){f32_div(a.even, b.even), f32_div(a.odd, b.odd)}; }
INLINE pair_v pair_add(pair_v a, pair_v b) { return (pair_v){f32_add(a.even, b.even), f32_add(a.odd, b.odd)}; }
INLINE pair_v pair_sign(pair_v a, pair_v m) { return (pair_v){f32_sign(a.even, m.even), f32_sign(a.odd, m.odd)}; }
INLINE __m256d pair_quarters(f32_v a) { /* the 64-bit quarters 0, 2, 1, 3 */
  return _mm256_castsi256_pd(_mm256_permute4x64_epi64(_mm256_castps_si256(a), 0xD8));
}
INLINE pair_v pair_load(const float *from) {
  const f32_v low = f32_load(from), high = f32_load(from + F32_LANES);
  return (pair_v){_mm256_castpd_ps(pair_quarters(_mm256_shuffle_ps(low, high, 0x88))),
                  _mm256_castpd_ps(pair_quarters(_mm256_shuffle_ps(low, high, 0xDD)))};
}
INLINE void pair_store(float *to, pair_v a) {
  const f32_v low = _mm256_unpacklo_ps(a.even, a.odd), high = _mm256_unpackhi_ps(a.even, a.odd);
  f32_store(to, _mm256_permute2f128_ps(low, high, 0x20));
  f32_store(to + F32_LANES, _mm256_permute2f128_ps(low, high, 0x31));
}
INLINE f32_v pair_mask(const uint64_t *bits, int64_t i, __m256i own_bit) {
  int32_t bytes;
  memcpy(&bytes, (const char *)bits + i / 8, sizeof bytes);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bytes), own_bit), own_bit));
}
INLINE f32_v even_mask(const uint64_t *bits, int64_t i) {
  return pair_mask(bits, i, _mm256_setr_epi32(1, 1 << 2, 1 << 4, 1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14));
}
INLINE f32_v odd_mask(const uint64_t *bits, int64_t i) {
  return pair_mask(bits, i, _mm256_setr_epi32(1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 9, 1 << 11, 1 << 13, 1 << 15));
}
INLINE pair_v pair_keep(const uint64_t *bits, int64_t i, pair_v a) {
  return (pair_v){_mm256_and_ps(a.even, even_mask(bits, i)), _mm256_and_ps(a.odd, odd_mask(bits, i))};
}
INLINE pair_v pair_select(const uint64_t *bits, int64_t i, pair_v kept, pair_v dropped) {
  return (pair_v){_mm256_blendv_ps(dropped.even, kept.even, even_mask(bits, i)),
                  _mm256_blendv_ps(dropped.odd, kept.odd, odd_mask(bits, i))};
}
INLINE float pair_total(pair_v a) { return f32_total(a.even) + f32_total(a.odd); }
INLINE __m256i upper_half(void) { return _mm256_set1_epi32((int32_t)0xFFFF0000u); }
INLINE pair_v bf16_load(const uint16_t *from) {
  const __m256i both = _mm256_loadu_si256((const __m256i *)from);
  return (pair_v){_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)), _mm256_castsi256_ps(_mm256_and_si256(both, upper_half()))};
}
/* Rounds to nearest even in the upper half of each lane, by an addition that carries out of the lower half. A NaN stays a NaN:
 * it comes from an operation or from a bfloat16, so its lower half is 0 and nothing carries. */
INLINE __m256i bf16_rounded(f32_v a) {
  const __m256i bits = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
}
INLINE __m256i bf16_narrow(pair_v a) {
  return _mm256_blend_epi16(_mm256_srli_epi32(bf16_rounded(a.even), 16), bf16_rounded(a.odd), 0xAA);
}
INLINE void bf16_store(uint16_t *to, pair_v a) { _mm256_storeu_si256((__m256i *)to, bf16_narrow(a)); }
INLINE void bf16_stream(uint16_t *to, pair_v a) { _mm256_stream_si256((__m256i *)to, bf16_narrow(a)); }
#define BF16_COMPUTE(f) pair_##f
#define BF16_LANES PAIR_LANES

/* table[index] for eight indices below 32. Of normal numbers 255 of 256 have an index in the last eight, which one register holds;
 * gathers are slow on many processors. */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index) {
  const __m256i at = _mm256_loadu_si256((const __m256i *)index);
  if (__builtin_expect(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(24), at))), 0))
    return _mm256_i32gather_ps(table, at, 4);
  return _mm256_permutevar8x32_ps(f32_load(table + 24), at);
}

/* Binary digit `shift` of 64 bytes; it is moved to the top bit of each byte. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift) {
  const __m128i to_top = _mm_cvtsi32_si128(7 - shift);
  const __m256i low = _mm256_sll_epi16(_mm256_loadu_si256((const __m256i *)bytes), to_top);
  const __m256i high = _mm256_sll_epi16(_mm256_loadu_si256((const __m256i *)(bytes + 32)), to_top);
  return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

INLINE void v_fence(void) { _mm_sfence(); }

#define UNROLL_VALUES UNROLL(4)
#define UNROLL_F16 UNROLL(8)
#define UNROLL_BF16 UNROLL(2)
#define FD_ISA_NAME avx2
#include "kernels/table_tpl.h"
