/* isa_neon.c: the vocabulary in AArch64's 128-bit registers. */
#include "isa.h"

#ifndef __aarch64__
#error "isa_neon.c is for AArch64: ARMv7's NEON flushes subnormals"
#endif

#include <arm_neon.h>

#include "compiler.h"

/* Philox: one counter word of two blocks. */
typedef uint64x2_t u64v;
enum { LANES = 2, CHAINS = 4, BYPASS_AHEAD = 4096 };

static const int lane_of_block[LANES] = {0, 1};
INLINE u64v v_lane_numbers(void) { return vcombine_u64(vcreate_u64(0), vcreate_u64(1)); }

INLINE u64v v_set(uint64_t a) { return vdupq_n_u64(a); }
INLINE u64v v_load(const uint64_t *from) { return vld1q_u64(from); }
INLINE void v_store(uint64_t *to, u64v a) { vst1q_u64(to, a); }
INLINE u64v v_add(u64v a, u64v b) { return vaddq_u64(a, b); }
INLINE u64v v_mul(u64v a, u64v b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
INLINE u64v v_and(u64v a, u64v b) { return vandq_u64(a, b); }
INLINE u64v v_or(u64v a, u64v b) { return vorrq_u64(a, b); }
INLINE u64v v_andnot(u64v not_this, u64v a) { return vbicq_u64(a, not_this); }
/* The first is the fresh product: the other two are ready before it. */
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return veorq_u64(a, veorq_u64(b, c)); }
INLINE u64v v_high(u64v a) { return vshrq_n_u64(a, 32); }
INLINE int v_any(u64v a) { return (vgetq_lane_u64(a, 0) | vgetq_lane_u64(a, 1)) != 0; }
INLINE void v_prefetch(const char *p) { __builtin_prefetch(p); }
INLINE void v_join(u64v w0, u64v w1, u64v w2, u64v w3, u64v out[2]) {
  const u64v low = vsliq_n_u64(w0, w1, 32), high = vsliq_n_u64(w2, w3, 32);
  out[0] = vzip1q_u64(low, high);
  out[1] = vzip2q_u64(low, high);
}

/* float32, four a register: a nibble of the mask is broadcast and each lane looks at its own bit. */
typedef float32x4_t f32_v;
enum { F32_LANES = 4 };
INLINE f32_v f32_set(float a) { return vdupq_n_f32(a); }
INLINE f32_v f32_load(const float *from) { return vld1q_f32(from); }
INLINE void f32_store(float *to, f32_v a) { vst1q_f32(to, a); }
INLINE void f32_stream(float *to, f32_v a) { vst1q_f32(to, a); } /* no such store in the intrinsics */
INLINE f32_v f32_mul(f32_v a, f32_v b) { return vmulq_f32(a, b); }
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) {
  static const uint32_t own_bits[4] = {1, 2, 4, 8};
  const uint32x4_t nibble = vdupq_n_u32((uint32_t)(bits[i / 64] >> (i % 64)));
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vtstq_u32(nibble, vld1q_u32(own_bits))));
}

/* float64, two a register. */
typedef float64x2_t f64_v;
enum { F64_LANES = 2 };
INLINE f64_v f64_set(double a) { return vdupq_n_f64(a); }
INLINE f64_v f64_load(const double *from) { return vld1q_f64(from); }
INLINE void f64_store(double *to, f64_v a) { vst1q_f64(to, a); }
INLINE void f64_stream(double *to, f64_v a) { vst1q_f64(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) { return vmulq_f64(a, b); }
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) {
  static const uint64_t own_bits[2] = {1, 2};
  const uint64x2_t pair = vdupq_n_u64(bits[i / 64] >> (i % 64));
  return vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(a), vtstq_u64(pair, vld1q_u64(own_bits))));
}

INLINE void v_fence(void) {}

#define FD_ISA_NAME neon
#include "kernels.inc"
