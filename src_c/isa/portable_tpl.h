/* portable_tpl.h: values of one type in plain C, eight per "register". portable.c includes it for float32 and for float64. The mask is
 * used one byte at a time: compute, then select by AND, in loops that a compiler vectorizes.
 *
 * LANE_TYPE is the type, LANE_BITS the unsigned integer of its size, and LANES_NAME(f) the name of its function f.
 */
typedef struct {
  LANE_TYPE lane[8];
} LANES_NAME(v);

INLINE LANES_NAME(v) LANES_NAME(set)(LANE_TYPE a) { return (LANES_NAME(v)){{a, a, a, a, a, a, a, a}}; }
INLINE LANES_NAME(v) LANES_NAME(load)(const LANE_TYPE *from) {
  LANES_NAME(v) a;
  memcpy(&a, from, sizeof a);
  return a;
}
INLINE void LANES_NAME(store)(LANE_TYPE *to, LANES_NAME(v) a) { memcpy(to, &a, sizeof a); }
INLINE void LANES_NAME(stream)(LANE_TYPE *to, LANES_NAME(v) a) { LANES_NAME(store)(to, a); }
INLINE LANES_NAME(v) LANES_NAME(mul)(LANES_NAME(v) a, LANES_NAME(v) b) {
  for (int k = 0; k < 8; k++) a.lane[k] *= b.lane[k];
  return a;
}
INLINE LANES_NAME(v) LANES_NAME(div)(LANES_NAME(v) a, LANES_NAME(v) b) {
  for (int k = 0; k < 8; k++) a.lane[k] /= b.lane[k];
  return a;
}
INLINE LANES_NAME(v) LANES_NAME(add)(LANES_NAME(v) a, LANES_NAME(v) b) {
  for (int k = 0; k < 8; k++) a.lane[k] += b.lane[k];
  return a;
}
INLINE LANES_NAME(v) LANES_NAME(sign)(LANES_NAME(v) a, LANES_NAME(v) m) {
  const LANE_BITS top = (LANE_BITS)1 << (8 * sizeof(LANE_BITS) - 1);
  LANE_BITS sign[8], lane[8];
  memcpy(sign, &a, sizeof sign);
  memcpy(lane, &m, sizeof lane);
  for (int k = 0; k < 8; k++) {
    const LANE_BITS has_sign = (a.lane[k] > 0 || a.lane[k] < 0) ? ~(LANE_BITS)0 : 0;
    lane[k] = (((sign[k] & top) ^ lane[k]) & has_sign) | (top & ~has_sign);
  }
  memcpy(&m, lane, sizeof lane);
  return m;
}
INLINE LANES_NAME(v) LANES_NAME(select)(const uint64_t *bits, int64_t i, LANES_NAME(v) kept, LANES_NAME(v) dropped) {
  const uint32_t byte = (uint32_t)(bits[i / 64] >> (i % 64));
  LANE_BITS lane[8], other[8];
  memcpy(lane, &kept, sizeof lane);
  memcpy(other, &dropped, sizeof other);
  for (int k = 0; k < 8; k++) {
    const LANE_BITS all = (byte & own_bit[k]) ? ~(LANE_BITS)0 : 0;
    lane[k] = (lane[k] & all) | (other[k] & ~all);
  }
  memcpy(&kept, lane, sizeof lane);
  return kept;
}
INLINE LANES_NAME(v) LANES_NAME(keep)(const uint64_t *bits, int64_t i, LANES_NAME(v) a) {
  return LANES_NAME(select)(bits, i, a, LANES_NAME(set)(0));
}
INLINE LANES_NAME(v) LANES_NAME(part)(LANES_NAME(v) low, LANES_NAME(v) high, int64_t at) {
  LANES_NAME(v) a;
  for (int64_t k = 0; k < 8; k++) a.lane[k] = at + k < 8 ? low.lane[at + k] : high.lane[at + k - 8];
  return a;
}
INLINE LANES_NAME(v) LANES_NAME(add_some)(LANES_NAME(v) a, LANES_NAME(v) b, int64_t n) {
  for (int64_t k = 0; k < 8 && k < n; k++) a.lane[k] += b.lane[k];
  return a;
}
INLINE LANE_TYPE LANES_NAME(total)(LANES_NAME(v) a) {
  for (int k = 0; k < 4; k++) a.lane[k] += a.lane[4 + k];
  for (int k = 0; k < 2; k++) a.lane[k] += a.lane[2 + k];
  return a.lane[0] + a.lane[1];
}

#undef LANE_TYPE
#undef LANE_BITS
#undef LANES_NAME
