/* isa_portable.c: the vocabulary in plain C, for every machine, of either byte order. */
#include "isa.h"

#include <string.h>

#include "compiler.h"

/* Philox: one counter word of one block. */
typedef uint64_t u64v;
enum { LANES = 1, CHAINS = 4, BYPASS_AHEAD = 0 };

static const int lane_of_block[LANES] = {0};
INLINE u64v v_lane_numbers(void) { return 0; }

INLINE u64v v_set(uint64_t a) { return a; }
INLINE u64v v_load(const uint64_t *from) { return *from; }
INLINE void v_store(uint64_t *to, u64v a) { *to = a; }
INLINE u64v v_add(u64v a, u64v b) { return a + b; }
INLINE u64v v_mul(u64v a, u64v b) { return (uint64_t)(uint32_t)a * (uint32_t)b; }
INLINE u64v v_and(u64v a, u64v b) { return a & b; }
INLINE u64v v_or(u64v a, u64v b) { return a | b; }
INLINE u64v v_andnot(u64v not_this, u64v a) { return a & ~not_this; }
INLINE u64v v_xor3(u64v a, u64v b, u64v c) { return a ^ (b ^ c); }
INLINE u64v v_high(u64v a) { return a >> 32; }
INLINE int v_any(u64v a) { return a != 0; }
INLINE void v_prefetch(const char *p) { (void)p; }
INLINE void v_join(u64v w0, u64v w1, u64v w2, u64v w3, u64v out[2]) {
  out[0] = (uint32_t)w0 | w1 << 32;
  out[1] = (uint32_t)w2 | w3 << 32;
}

/* Values, a byte of the mask at a time: compute, then select by AND, in loops that a compiler turns into vectors. */
static const uint32_t own_bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};

typedef struct {
  float lane[8];
} f32_v;
enum { F32_LANES = 8 };
INLINE f32_v f32_set(float a) { return (f32_v){{a, a, a, a, a, a, a, a}}; }
INLINE f32_v f32_load(const float *from) {
  f32_v a;
  memcpy(&a, from, sizeof a);
  return a;
}
INLINE void f32_store(float *to, f32_v a) { memcpy(to, &a, sizeof a); }
INLINE void f32_stream(float *to, f32_v a) { f32_store(to, a); }
INLINE f32_v f32_mul(f32_v a, f32_v b) {
  for (int k = 0; k < 8; k++) a.lane[k] *= b.lane[k];
  return a;
}
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a) {
  const uint32_t byte = (uint32_t)(bits[i / 64] >> (i % 64));
  uint32_t lane[8];
  memcpy(lane, &a, sizeof lane);
  for (int k = 0; k < 8; k++) lane[k] &= (byte & own_bit[k]) ? ~(uint32_t)0 : 0;
  memcpy(&a, lane, sizeof lane);
  return a;
}

typedef struct {
  double lane[8];
} f64_v;
enum { F64_LANES = 8 };
INLINE f64_v f64_set(double a) { return (f64_v){{a, a, a, a, a, a, a, a}}; }
INLINE f64_v f64_load(const double *from) {
  f64_v a;
  memcpy(&a, from, sizeof a);
  return a;
}
INLINE void f64_store(double *to, f64_v a) { memcpy(to, &a, sizeof a); }
INLINE void f64_stream(double *to, f64_v a) { f64_store(to, a); }
INLINE f64_v f64_mul(f64_v a, f64_v b) {
  for (int k = 0; k < 8; k++) a.lane[k] *= b.lane[k];
  return a;
}
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a) {
  const uint32_t byte = (uint32_t)(bits[i / 64] >> (i % 64));
  uint64_t lane[8];
  memcpy(lane, &a, sizeof lane);
  for (int k = 0; k < 8; k++) lane[k] &= (byte & own_bit[k]) ? ~(uint64_t)0 : 0;
  memcpy(&a, lane, sizeof lane);
  return a;
}

INLINE void v_fence(void) {}

#define FD_ISA_NAME portable
#include "kernels.inc"
