/* portable.c: the vocabulary in plain C, for every machine and either byte order. Products and digits use SSE2 where it exists, because
 * compilers do not find its instructions for them.
 */
#include "isa/isa.h"

#include <string.h>

/* Philox: a register holds one counter word of two blocks with SSE2, of one block without. The operators of C take both. */
#ifdef __SSE2__
#include <emmintrin.h>
typedef uint64_t u64v __attribute__((vector_size(16)));
INLINE u64v v_mul(u64v a, u64v b) { return (u64v)_mm_mul_epu32((__m128i)a, (__m128i)b); }
INLINE void v_order(u64v pair[2]) {
  const u64v low = pair[0], high = pair[1];
  pair[0] = (u64v){low[0], high[0]};
  pair[1] = (u64v){low[1], high[1]};
}

/* Binary digit `shift` of 64 bytes: moved to the top of each byte, which an instruction collects. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift) {
  uint64_t bits = 0;
  for (int k = 0; k < 64; k += 16) {
    const __m128i sixteen = _mm_loadu_si128((const __m128i *)(const void *)(bytes + k));
    bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_sll_epi16(sixteen, _mm_cvtsi32_si128(7 - shift))) << k;
  }
  return bits;
}
#else
typedef uint64_t u64v;
INLINE u64v v_mul(u64v a, u64v b) { return (uint64_t)(uint32_t)a * (uint32_t)b; }
INLINE void v_order(u64v pair[2]) { (void)pair; } /* a single block is already in order */

/* Binary digit `shift` of 64 bytes. The upper byte of a product collects the digits of eight bytes. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift) {
  const uint64_t to_upper = FD_BIG_ENDIAN ? 0x8040201008040201u : 0x0102040810204080u;
  uint64_t bits = 0;
  for (int k = 0; k < 64; k += 8) {
    uint64_t eight;
    memcpy(&eight, bytes + k, sizeof eight);
    bits |= ((eight >> shift & 0x0101010101010101u) * to_upper >> 56) << k;
  }
  return bits;
}
#endif
enum { LANES = sizeof(u64v) / 8, CHAINS = 4 / LANES, FEW = 2, BYPASS_AHEAD = 0, MOST_DIRECT = 0 };

INLINE u64v v_set(uint64_t a) { return a + (u64v){0}; }
INLINE u64v v_load_blocks(const uint64_t *from) {
  u64v a;
  memcpy(&a, from, sizeof a);
  return a;
}
INLINE void v_store(uint64_t *to, u64v a) { memcpy(to, &a, sizeof a); }
INLINE u64v v_lane_numbers(void) { return v_load_blocks((const uint64_t[]){0, 1}); }
INLINE u64v v_add(u64v a, u64v b) { return a + b; }
INLINE u64v v_and(u64v a, u64v b) { return a & b; }
INLINE u64v v_or(u64v a, u64v b) { return a | b; }
INLINE u64v v_andnot(u64v not_this, u64v a) { return a & ~not_this; }
INLINE u64v v_xor(u64v a, u64v b) { return a ^ b; }
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return a ^ (b ^ c); }
INLINE u64v v_high(u64v a) { return a >> 32; }
INLINE int v_any(u64v a) {
  uint64_t lanes[LANES], any = 0;
  v_store(lanes, a);
  for (int k = 0; k < LANES; k++) any |= lanes[k];
  return any != 0;
}
INLINE void v_prefetch(const char *p) { (void)p; }
INLINE u64v v_last(u64v product, u64v a, u64v b) { return ((product >> 32 ^ a ^ b) & 0xFFFFFFFF) | product << 32; }

/* float32 and float64. */
static const uint32_t own_bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};

enum { F32_LANES = 8, F64_LANES = 8 };

#define LANE_TYPE float
#define LANE_BITS uint32_t
#define LANES_NAME(f) f32_##f
#include "isa/portable_tpl.h"

#define LANE_TYPE double
#define LANE_BITS uint64_t
#define LANES_NAME(f) f64_##f
#include "isa/portable_tpl.h"

/* float16 and bfloat16, computed in float32; the conversions are integer operations. */
INLINE float float_of_bits(uint32_t bits) {
  float a;
  memcpy(&a, &bits, sizeof a);
  return a;
}
INLINE uint32_t bits_of_float(float a) {
  uint32_t bits;
  memcpy(&bits, &a, sizeof bits);
  return bits;
}
INLINE float widen_f16(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7FFF;
  const uint32_t offset = rest >= 0x7C00 ? (255 - 31) << 23 : (127 - 15) << 23;        /* infinity and NaN, or a number */
  const float tiny = (float)(int32_t)rest * 0x1p-24f;                                  /* subnormal, zero: exact */
  return float_of_bits(sign | (rest < 0x0400 ? bits_of_float(tiny) : (rest << 13) + offset));
}
INLINE uint16_t narrow_f16(float a) {
  const uint32_t bits = bits_of_float(a), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
  const float size = float_of_bits(rest), most = 65536;                                /* rounds to infinity */
  const uint32_t number = bits_of_float(size < most ? size : most);
  const uint32_t up = number - ((127 - 15) << 23) + 0xFFF + (number >> 13 & 1);        /* nearest even, by carrying */
  const uint32_t units = bits_of_float(size + 0x1.8p-1f) - bits_of_float(0x1.8p-1f);   /* subnormal or zero: a multiple of 2^-24 */
  const uint32_t nan = a != a ? 0x7E00 | (rest >> 13 & 0x3FF) : 0;
  return (uint16_t)(sign | nan | (rest < 0x38800000 ? units : up >> 13));
}
INLINE uint16_t narrow_bf16(float a) {
  const uint32_t bits = bits_of_float(a);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);          /* NaN */
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
/* Eight conversions are long code and take much longer than a call, so each operation calls them. */
static NOINLINE void widen_eight(const uint16_t *from, float *to) {
  for (int k = 0; k < 8; k++) to[k] = widen_f16(from[k]);
}
static NOINLINE void narrow_eight(const float *from, uint16_t *to) {
  for (int k = 0; k < 8; k++) to[k] = narrow_f16(from[k]);
}
INLINE f32_v f16_load(const uint16_t *from) {
  f32_v a;
  widen_eight(from, a.lane);
  return a;
}
INLINE void f16_store(uint16_t *to, f32_v a) { narrow_eight(a.lane, to); }
INLINE void f16_stream(uint16_t *to, f32_v a) { f16_store(to, a); }
INLINE f32_v bf16_load(const uint16_t *from) {
  f32_v a;
  for (int k = 0; k < 8; k++) a.lane[k] = float_of_bits((uint32_t)from[k] << 16);
  return a;
}
INLINE void bf16_store(uint16_t *to, f32_v a) {
  for (int k = 0; k < 8; k++) to[k] = narrow_bf16(a.lane[k]);
}
INLINE void bf16_stream(uint16_t *to, f32_v a) { bf16_store(to, a); }

/* table[index] for eight indices below 32. */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index) {
  f32_v a;
  for (int k = 0; k < 8; k++) a.lane[k] = table[index[k]];
  return a;
}

INLINE void v_fence(void) {}

#define UNROLL_VALUES
#define UNROLL_F16
#define UNROLL_BF16
#define FD_ISA_NAME portable
#include "kernels/table_tpl.h"
