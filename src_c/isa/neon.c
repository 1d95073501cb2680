/* neon.c: the vocabulary in AArch64's 128-bit registers. */
#include "isa/isa.h"

#ifndef __aarch64__
#error "neon.c is for AArch64: ARMv7's NEON flushes subnormals"
#endif

#include <arm_neon.h>
#include <string.h>

/* Philox: a register holds one counter word of two blocks. */
typedef uint64x2_t u64v;
enum { LANES = 2, CHAINS = 4, FEW = 4, BYPASS_AHEAD = 4096, MOST_DIRECT = 512 };

INLINE u64v v_lane_numbers(void) { return vcombine_u64(vcreate_u64(0), vcreate_u64(1)); }

INLINE u64v v_set(uint64_t a) { return vdupq_n_u64(a); }
INLINE u64v v_load_blocks(const uint64_t *from) { return vld1q_u64(from); }
INLINE void v_store(uint64_t *to, u64v a) { vst1q_u64(to, a); }
INLINE u64v v_add(u64v a, u64v b) { return vaddq_u64(a, b); }
INLINE u64v v_mul(u64v a, u64v b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
INLINE u64v v_and(u64v a, u64v b) { return vandq_u64(a, b); }
INLINE u64v v_or(u64v a, u64v b) { return vorrq_u64(a, b); }
INLINE u64v v_andnot(u64v not_this, u64v a) { return vbicq_u64(a, not_this); }
INLINE u64v v_xor(u64v a, u64v b) { return veorq_u64(a, b); }
/* a is the fresh product; b and c are ready before it. */
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return veorq_u64(a, veorq_u64(b, c)); }
INLINE u64v v_high(u64v a) { return vshrq_n_u64(a, 32); }
INLINE int v_any(u64v a) { return (vgetq_lane_u64(a, 0) | vgetq_lane_u64(a, 1)) != 0; }
INLINE void v_prefetch(const char *p) { __builtin_prefetch(p); }
INLINE u64v v_last(u64v product, u64v a, u64v b) { return vsliq_n_u64(v_xor3(v_high(product), a, b), product, 32); }
INLINE void v_order(u64v pair[2]) {
  const u64v low = pair[0], high = pair[1];
  pair[0] = vzip1q_u64(low, high);
  pair[1] = vzip2q_u64(low, high);
}

/* float32, four per register: a nibble of the mask is broadcast, and each lane tests its own bit. */
typedef float32x4_t f32_v;
enum { F32_LANES = 4 };
INLINE f32_v f32_set(float a) { return vdupq_n_f32(a); }
INLINE f32_v f32_load(const float *from) { return vld1q_f32(from); }
INLINE void f32_store(float *to, f32_v a) { vst1q_f32(to, a); }
INLINE void f32_stream(float *to, f32_v a) { vst1q_f32(to, a); } /* the intrinsics have no streaming store */
INLINE f32_v f32_mul(f32_v a, f32_v b) { return vmulq_f32(a, b); }
INLINE f32_v f32_div(f32_v a, f32_v b) { return vdivq_f32(a, b); }
INLINE f32_v f32_add(f32_v a, f32_v b) { return vaddq_f32(a, b); }
INLINE uint32x4_t f32_mask(const uint64_t *bits, int64_t i) {
  static const uint32_t own_bits[4] = {1, 2, 4, 8};
  return vtstq_u32(vdupq_n_u32((uint32_t)(bits[i / 64] >> (i % 64))), vld1q_u32(own_bits));
}
INLINE f32_v f32_sign(f32_v a, f32_v m) {
  const uint32x4_t top = vdupq_n_u32(0x80000000), has_sign = vorrq_u32(vcgtzq_f32(a), vcltzq_f32(a));
  const uint32x4_t value = veorq_u32(vandq_u32(vreinterpretq_u32_f32(a), top), vreinterpretq_u32_f32(m));
  return vreinterpretq_f32_u32(vbslq_u32(has_sign, value, top));
}
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), f32_mask(bits, i)));
}
INLINE f32_v f32_select(const uint64_t *bits, int64_t i, f32_v kept, f32_v dropped) {
  return vbslq_f32(f32_mask(bits, i), kept, dropped);
}
INLINE uint8x16_t byte_part(uint8x16_t low, uint8x16_t high, int64_t at) {
  static const uint8_t bytes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return vqtbl2q_u8((uint8x16x2_t){{low, high}}, vaddq_u8(vld1q_u8(bytes), vdupq_n_u8((uint8_t)at)));
}
INLINE f32_v f32_part(f32_v low, f32_v high, int64_t at) {
  return vreinterpretq_f32_u8(byte_part(vreinterpretq_u8_f32(low), vreinterpretq_u8_f32(high), 4 * at));
}
INLINE f32_v f32_add_some(f32_v a, f32_v b, int64_t n) {
  static const uint32_t lanes[4] = {0, 1, 2, 3};
  return vbslq_f32(vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)n)), vaddq_f32(a, b), a);
}
INLINE float f32_total(f32_v a) {
  const float32x2_t left = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(left, 0) + vget_lane_f32(left, 1);
}

/* float64, two per register. */
typedef float64x2_t f64_v;
enum { F64_LANES = 2 };
INLINE f64_v f64_set(double a) { return vdupq_n_f64(a); }
INLINE f64_v f64_load(const double *from) { return vld1q_f64(from); }
INLINE void f64_store(double *to, f64_v a) { vst1q_f64(to, a); }
INLINE void f64_stream(double *to, f64_v a) { vst1q_f64(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) { return vmulq_f64(a, b); }
INLINE f64_v f64_div(f64_v a, f64_v b) { return vdivq_f64(a, b); }
INLINE f64_v f64_add(f64_v a, f64_v b) { return vaddq_f64(a, b); }
INLINE uint64x2_t f64_mask(const uint64_t *bits, int64_t i) {
  static const uint64_t own_bits[2] = {1, 2};
  return vtstq_u64(vdupq_n_u64(bits[i / 64] >> (i % 64)), vld1q_u64(own_bits));
}
INLINE f64_v f64_sign(f64_v a, f64_v m) {
  const uint64x2_t top = vdupq_n_u64(UINT64_C(1) << 63), has_sign = vorrq_u64(vcgtzq_f64(a), vcltzq_f64(a));
  const uint64x2_t value = veorq_u64(vandq_u64(vreinterpretq_u64_f64(a), top), vreinterpretq_u64_f64(m));
  return vreinterpretq_f64_u64(vbslq_u64(has_sign, value, top));
}
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) {
  return vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(a), f64_mask(bits, i)));
}
INLINE f64_v f64_select(const uint64_t *bits, int64_t i, f64_v kept, f64_v dropped) {
  return vbslq_f64(f64_mask(bits, i), kept, dropped);
}
INLINE f64_v f64_part(f64_v low, f64_v high, int64_t at) {
  return vreinterpretq_f64_u8(byte_part(vreinterpretq_u8_f64(low), vreinterpretq_u8_f64(high), 8 * at));
}
INLINE f64_v f64_add_some(f64_v a, f64_v b, int64_t n) {
  static const uint64_t lanes[2] = {0, 1};
  return vbslq_f64(vcltq_u64(vld1q_u64(lanes), vdupq_n_u64((uint64_t)n)), vaddq_f64(a, b), a);
}
INLINE double f64_total(f64_v a) { return vgetq_lane_f64(a, 0) + vgetq_lane_f64(a, 1); }

/* float16 and bfloat16: four per half register, computed in float32. */
INLINE f32_v f16_load(const uint16_t *from) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
INLINE void f16_store(uint16_t *to, f32_v a) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
INLINE void f16_stream(uint16_t *to, f32_v a) { f16_store(to, a); }
INLINE f32_v bf16_load(const uint16_t *from) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16)); }
/* The upper half of a float32, rounded to nearest even by an addition that carries out of the lower half; a NaN stays a NaN. */
INLINE void bf16_store(uint16_t *to, f32_v a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a), high = vshrq_n_u32(bits, 16);
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7FFF)));
  const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
  vst1_u16(to, vmovn_u32(vbslq_u32(vceqq_f32(a, a), vshrq_n_u32(up, 16), quiet)));
}
INLINE void bf16_stream(uint16_t *to, f32_v a) { bf16_store(to, a); }

/* table[index] for F32_LANES indices below 32. */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index) {
  float found[F32_LANES];
  for (int k = 0; k < F32_LANES; k++) found[k] = table[index[k]];
  return f32_load(found);
}

/* Binary digit `shift` of 64 bytes: each byte with this digit becomes its own bit, and eight of these are added. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift) {
  static const uint8_t own_bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x8_t own = vld1_u8(own_bit), digit = vdup_n_u8((uint8_t)(1u << shift));
  uint64_t bits = 0;
  for (int k = 0; k < 8; k++) bits |= (uint64_t)vaddv_u8(vand_u8(vtst_u8(vld1_u8(bytes + 8 * k), digit), own)) << (8 * k);
  return bits;
}

INLINE void v_fence(void) {}

#define UNROLL_VALUES UNROLL(8)
#define UNROLL_F16 UNROLL(8)
#define UNROLL_BF16 UNROLL(8)
#define FD_ISA_NAME neon
#include "kernels/table_tpl.h"
