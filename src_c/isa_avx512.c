/* isa_avx512.c: the vocabulary in 512-bit registers (AVX-512 F, BW, DQ, VL). */
#include "isa.h"

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "isa_avx512.c needs -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif

#include <immintrin.h>
#include <string.h>

#include "compiler.h"

/* Philox: one counter word of eight blocks. */
typedef __m512i u64v;
enum { LANES = 8, CHAINS = 4, BYPASS_AHEAD = 20000 };

/* So ordered that v_join's unpacking leaves the blocks in their natural order. */
static const int lane_of_block[LANES] = {0, 2, 4, 6, 1, 3, 5, 7};
INLINE u64v v_lane_numbers(void) { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }

INLINE u64v v_set(uint64_t a) { return _mm512_set1_epi64((long long)a); }
INLINE u64v v_load(const uint64_t *from) { return _mm512_loadu_si512(from); }
INLINE void v_store(uint64_t *to, u64v a) { _mm512_storeu_si512(to, a); }
INLINE u64v v_add(u64v a, u64v b) { return _mm512_add_epi64(a, b); }
INLINE u64v v_mul(u64v a, u64v b) { return _mm512_mul_epu32(a, b); }
INLINE u64v v_and(u64v a, u64v b) { return _mm512_and_si512(a, b); }
INLINE u64v v_or(u64v a, u64v b) { return _mm512_or_si512(a, b); }
INLINE u64v v_andnot(u64v not_this, u64v a) { return _mm512_andnot_si512(not_this, a); }
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
/* A swap of the halves: cheaper than a 64-bit shift, and what it leaves on top is not looked at. */
INLINE u64v v_high(u64v a) { return _mm512_shuffle_epi32(a, 0xB1); }
INLINE int v_any(u64v a) { return _mm512_test_epi64_mask(a, a) != 0; }
INLINE void v_prefetch(const char *p) { _mm_prefetch(p, _MM_HINT_T0); }
INLINE void v_join(u64v w0, u64v w1, u64v w2, u64v w3, u64v out[2]) {
  const u64v low = _mm512_mask_shuffle_epi32(w0, 0xAAAA, w1, 0xA0);
  const u64v high = _mm512_mask_shuffle_epi32(w2, 0xAAAA, w3, 0xA0);
  out[0] = _mm512_unpacklo_epi64(low, high);
  out[1] = _mm512_unpackhi_epi64(low, high);
}

/* float32, sixteen a register: the packed bits are the mask register. */
typedef __m512 f32_v;
enum { F32_LANES = 16 };
INLINE f32_v f32_set(float a) { return _mm512_set1_ps(a); }
INLINE f32_v f32_load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void f32_store(float *to, f32_v a) { _mm512_storeu_ps(to, a); }
INLINE void f32_stream(float *to, f32_v a) { _mm512_stream_ps(to, a); }
INLINE f32_v f32_mul(f32_v a, f32_v b) { return _mm512_mul_ps(a, b); }
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) {
  uint16_t mask;
  memcpy(&mask, (const char *)bits + i / 8, sizeof mask);
  return _mm512_maskz_mov_ps(mask, a);
}

/* float64, eight a register. */
typedef __m512d f64_v;
enum { F64_LANES = 8 };
INLINE f64_v f64_set(double a) { return _mm512_set1_pd(a); }
INLINE f64_v f64_load(const double *from) { return _mm512_loadu_pd(from); }
INLINE void f64_store(double *to, f64_v a) { _mm512_storeu_pd(to, a); }
INLINE void f64_stream(double *to, f64_v a) { _mm512_stream_pd(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) { return _mm512_mul_pd(a, b); }
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) {
  return _mm512_maskz_mov_pd(((const uint8_t *)bits)[i / 8], a);
}

INLINE void v_fence(void) { _mm_sfence(); }

#define FD_ISA_NAME avx512
#include "kernels.inc"
