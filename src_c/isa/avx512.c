/* avx512.c: the vocabulary in 512-bit registers (AVX-512 F, BW, DQ, VL). */
#include "isa/isa.h"

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "avx512.c needs -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif

#include <immintrin.h>
#include <string.h>

/* Philox: a register holds one counter word of eight blocks. */
typedef __m512i u64v;
enum { LANES = 8, CHAINS = 4, FEW = 16, BYPASS_AHEAD = 4096, MOST_DIRECT = 512 };

/* The order of the blocks in the lanes is such that the unpacking in v_order puts them into their natural order. */
INLINE u64v v_lane_numbers(void) { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }

INLINE u64v v_set(uint64_t a) { return _mm512_set1_epi64((long long)a); }
INLINE u64v v_load_blocks(const uint64_t *from) {
  return _mm512_permutexvar_epi64(v_lane_numbers(), _mm512_loadu_si512(from));
}
INLINE void v_store(uint64_t *to, u64v a) { _mm512_storeu_si512(to, a); }
INLINE u64v v_add(u64v a, u64v b) { return _mm512_add_epi64(a, b); }
INLINE u64v v_mul(u64v a, u64v b) { return _mm512_mul_epu32(a, b); }
INLINE u64v v_and(u64v a, u64v b) { return _mm512_and_si512(a, b); }
INLINE u64v v_or(u64v a, u64v b) { return _mm512_or_si512(a, b); }
INLINE u64v v_andnot(u64v not_this, u64v a) { return _mm512_andnot_si512(not_this, a); }
INLINE u64v v_xor(u64v a, u64v b) { return _mm512_xor_si512(a, b); }
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
/* Swaps the halves, which is cheaper than a 64-bit shift; the high half of the result is ignored. */
INLINE u64v v_high(u64v a) { return _mm512_shuffle_epi32(a, 0xB1); }
INLINE int v_any(u64v a) { return _mm512_test_epi64_mask(a, a) != 0; }
INLINE void v_prefetch(const char *p) { _mm_prefetch(p, _MM_HINT_T0); }
/* After the swap of the halves, the product's low word is already in its place. */
INLINE u64v v_last(u64v product, u64v a, u64v b) {
  return _mm512_mask_ternarylogic_epi32(v_high(product), 0x5555, a, b, 0x96);
}
INLINE void v_order(u64v pair[2]) {
  const u64v low = pair[0], high = pair[1];
  pair[0] = _mm512_unpacklo_epi64(low, high);
  pair[1] = _mm512_unpackhi_epi64(low, high);
}

/* float32, sixteen per register: the packed bits are the mask register. */
typedef __m512 f32_v;
enum { F32_LANES = 16 };
INLINE f32_v f32_set(float a) { return _mm512_set1_ps(a); }
INLINE f32_v f32_load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void f32_store(float *to, f32_v a) { _mm512_storeu_ps(to, a); }
INLINE void f32_stream(float *to, f32_v a) { _mm512_stream_ps(to, a); }
INLINE f32_v f32_mul(f32_v a, f32_v b) { return _mm512_mul_ps(a, b); }
INLINE f32_v f32_div(f32_v a, f32_v b) { return _mm512_div_ps(a, b); }
INLINE f32_v f32_add(f32_v a, f32_v b) { return _mm512_add_ps(a, b); }
INLINE f32_v f32_sign(f32_v a, f32_v m) {
  const __m512i top = _mm512_set1_epi32((int)0x80000000);
  const __mmask16 has_sign = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_OQ);
  const __m512i signs = _mm512_castps_si512(a), values = _mm512_castps_si512(m);
  return _mm512_castsi512_ps(_mm512_mask_ternarylogic_epi32(top, has_sign, signs, values, 0x6A)); /* (top & signs) ^ values */
}
INLINE __mmask16 f32_mask(const uint64_t *bits, int64_t i) {
  uint16_t mask;
  memcpy(&mask, (const char *)bits + (uint64_t)i / 8, sizeof mask); /* i is not negative */
  return mask;
}
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) { return _mm512_maskz_mov_ps(f32_mask(bits, i), a); }
INLINE f32_v f32_select(const uint64_t *bits, int64_t i, f32_v kept, f32_v dropped) {
  return _mm512_mask_mov_ps(dropped, f32_mask(bits, i), kept);
}
INLINE f32_v f32_part(f32_v low, f32_v high, int64_t at) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutex2var_ps(low, _mm512_add_epi32(lanes, _mm512_set1_epi32((int)at)), high);
}
INLINE f32_v f32_add_some(f32_v a, f32_v b, int64_t n) {
  return _mm512_mask_add_ps(a, n < F32_LANES ? (__mmask16)((1u << n) - 1) : (__mmask16)-1, a, b);
}
INLINE float quarter_total(__m128 a) {
  a = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
INLINE float f32_total(f32_v a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  return quarter_total(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

/* float64, eight per register. */
typedef __m512d f64_v;
enum { F64_LANES = 8 };
INLINE f64_v f64_set(double a) { return _mm512_set1_pd(a); }
INLINE f64_v f64_load(const double *from) { return _mm512_loadu_pd(from); }
INLINE void f64_store(double *to, f64_v a) { _mm512_storeu_pd(to, a); }
INLINE void f64_stream(double *to, f64_v a) { _mm512_stream_pd(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) { return _mm512_mul_pd(a, b); }
INLINE f64_v f64_div(f64_v a, f64_v b) { return _mm512_div_pd(a, b); }
INLINE f64_v f64_add(f64_v a, f64_v b) { return _mm512_add_pd(a, b); }
INLINE f64_v f64_sign(f64_v a, f64_v m) {
  const __m512i top = _mm512_set1_epi64((long long)(UINT64_C(1) << 63));
  const __mmask8 has_sign = _mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_NEQ_OQ);
  return _mm512_castsi512_pd(_mm512_mask_ternarylogic_epi64(top, has_sign, _mm512_castpd_si512(a), _mm512_castpd_si512(m), 0x6A));
}
INLINE __mmask8 f64_mask(const uint64_t *bits, int64_t i) { return ((const uint8_t *)bits)[i / 8]; }
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) { return _mm512_maskz_mov_pd(f64_mask(bits, i), a); }
INLINE f64_v f64_select(const uint64_t *bits, int64_t i, f64_v kept, f64_v dropped) {
  return _mm512_mask_mov_pd(dropped, f64_mask(bits, i), kept);
}
INLINE f64_v f64_part(f64_v low, f64_v high, int64_t at) {
  const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm512_permutex2var_pd(low, _mm512_add_epi64(lanes, _mm512_set1_epi64(at)), high);
}
INLINE f64_v f64_add_some(f64_v a, f64_v b, int64_t n) {
  return _mm512_mask_add_pd(a, n < F64_LANES ? (__mmask8)((1u << n) - 1) : (__mmask8)-1, a, b);
}
INLINE double f64_total(f64_v a) {
  const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
  const __m128d quarter = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(quarter, _mm_unpackhi_pd(quarter, quarter)));
}

/* float16: sixteen per half register, computed in float32. */
INLINE __m256i half_load(const uint16_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE void half_store(uint16_t *to, __m256i a) { _mm256_storeu_si256((__m256i *)to, a); }
INLINE void half_stream(uint16_t *to, __m256i a) { _mm256_stream_si256((__m256i *)to, a); }
INLINE __m256i f16_narrow(f32_v a) { return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE f32_v f16_load(const uint16_t *from) { return _mm512_cvtph_ps(half_load(from)); }
INLINE void f16_store(uint16_t *to, f32_v a) { half_store(to, f16_narrow(a)); }
INLINE void f16_stream(uint16_t *to, f32_v a) { half_stream(to, f16_narrow(a)); }

/* bfloat16, thirty-two per register: computed in pairs of float32 registers, whose upper 16-bit halves are stored. */
typedef struct {
  f32_v low, high;
} pair_v;
enum { PAIR_LANES = 2 * F32_LANES };
INLINE pair_v pair_set(float a) { return (pair_v){f32_set(a), f32_set(a)}; }
INLINE pair_v pair_load(const float *from) { return (pair_v){f32_load(from), f32_load(from + F32_LANES)}; }
INLINE void pair_store(float *to, pair_v a) { f32_store(to, a.low), f32_store(to + F32_LANES, a.high); }
INLINE pair_v pair_mul(pair_v a, pair_v b) { return (pair_v){f32_mul(a.low, b.low), f32_mul(a.high, b.high)}; }
INLINE pair_v pair_div(pair_v a, pair_v b) { return (pair_v){f32_div(a.low, b.low), f32_div(a.high, b.high)}; }
INLINE pair_v pair_add(pair_v a, pair_v b) { return (pair_v){f32_add(a.low, b.low), f32_add(a.high, b.high)}; }
INLINE pair_v pair_sign(pair_v a, pair_v m) { return (pair_v){f32_sign(a.low, m.low), f32_sign(a.high, m.high)}; }
INLINE pair_v pair_keep(const uint64_t *bits, int64_t i, pair_v a) {
  return (pair_v){f32_keep(bits, i, a.low), f32_keep(bits, i + F32_LANES, a.high)};
}
INLINE pair_v pair_select(const uint64_t *bits, int64_t i, pair_v kept, pair_v dropped) {
  return (pair_v){f32_select(bits, i, kept.low, dropped.low), f32_select(bits, i + F32_LANES, kept.high, dropped.high)};
}
INLINE float pair_total(pair_v a) { return f32_total(f32_add(a.low, a.high)); }

INLINE f32_v bf16_upper(__m256i a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16)); }
INLINE pair_v bf16_load(const uint16_t *from) {
  return (pair_v){bf16_upper(half_load(from)), bf16_upper(half_load(from + F32_LANES))};
}
/* Rounds to nearest even in the upper half of each lane, by an addition that carries out of the lower half. A NaN stays a NaN:
 * it comes from an operation or from a bfloat16, so its lower half is 0 and nothing carries. */
INLINE __m512i bf16_rounded(f32_v a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
}
INLINE __m512i bf16_narrow(pair_v a) {
  static const uint16_t upper_halves[PAIR_LANES] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                    33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(bf16_rounded(a.low), _mm512_loadu_si512(upper_halves), bf16_rounded(a.high));
}
INLINE void bf16_store(uint16_t *to, pair_v a) { _mm512_storeu_si512(to, bf16_narrow(a)); }
INLINE void bf16_stream(uint16_t *to, pair_v a) { _mm512_stream_si512((__m512i *)to, bf16_narrow(a)); }
#define BF16_COMPUTE(f) pair_##f
#define BF16_LANES PAIR_LANES

/* table[index % 32] for sixteen indices; the table is in two registers. */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index) {
  return _mm512_permutex2var_ps(_mm512_loadu_ps(table), _mm512_loadu_si512(index), _mm512_loadu_ps(table + 16));
}

/* Binary digit `shift` of 64 bytes. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift) {
  return _mm512_test_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8((char)(1u << shift)));
}

INLINE void v_fence(void) { _mm_sfence(); }

#define UNROLL_VALUES UNROLL(4)
#define UNROLL_F16 UNROLL(4)
#define UNROLL_BF16 UNROLL(2)
#define FD_ISA_NAME avx512
#include "kernels/table_tpl.h"
