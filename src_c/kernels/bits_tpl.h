/* bits_tpl.h: packed keep bits from bit planes (docs/stream.md).
 *
 * Element i has a uniform number U(i); plane j contains its binary digit j. U is compared with p from the most significant
 * digit down, until every element of a batch is decided. A Philox block has one digit of 128 elements. `undecided` marks the
 * elements whose digits so far equal those of p. A batch of n elements takes about log2(n) + 1.3 planes, whatever p is.
 */
enum { PLANE_SHIFT = 16, PLANES_DOMAIN = FD_DOMAIN_PLANES << 24 };

/* Compares one digit of p with one plane. */
INLINE void compare_digit(int digit, u64v bits, u64v *undecided, u64v *kept) {
  if (digit) {
    *undecided = v_and(*undecided, bits); /* U has 0 where p has 1: U < p, dropped */
  } else {
    *kept = v_or(*kept, v_and(*undecided, bits)); /* U has 1 where p has 0: U > p, kept */
    *undecided = v_andnot(bits, *undecided);
  }
}

/* Keep bits of BATCH neighbouring groups, one plane at a time. */
INLINE void keep_batch(const philox_call *call, uint64_t rate, uint64_t first, uint64_t *bits, prefetch_run ahead) {
  u64v undecided[2 * CHAINS], kept[2 * CHAINS], plane_bits[2 * CHAINS];
  block_shares shares;
  open_blocks(call, first, &shares);
  for (int j = 0; j < 2 * CHAINS; j++) undecided[j] = v_set(~(uint64_t)0), kept[j] = v_set(0);
  for (uint32_t plane = 0; rate; plane++, rate <<= 1) {
    philox_plane(call, &shares, (uint32_t)(first >> 32) | plane << PLANE_SHIFT | PLANES_DOMAIN, plane_bits, ahead);
    ahead.at += PREFETCHES * ahead.step;
    const int digit = (int)(rate >> 63);
    UNROLL(8)
    for (int j = 0; j < 2 * CHAINS; j++) compare_digit(digit, plane_bits[j], &undecided[j], &kept[j]);
    if (plane < 7) continue; /* so few planes hardly ever decide a batch, so a test would waste time */
    u64v any = undecided[0];
    UNROLL(8)
    for (int j = 1; j < 2 * CHAINS; j++) any = v_or(any, undecided[j]);
    if (!v_any(any)) break;
  }
  for (int j = 0; j < 2 * CHAINS; j++) kept[j] = v_or(kept[j], undecided[j]);
  put_in_order(kept);
  for (int j = 0; j < 2 * CHAINS; j++) v_store(bits + LANES * j, kept[j]);
}

/* One plane of a few groups would leave lanes empty. Here the lanes hold `slots` groups in each of several planes. */
typedef struct {
  uint64_t group[BATCH], second_word[BATCH], bits[2 * BATCH];
} pairs;

static NOINLINE void philox_pairs(const philox_call *call, pairs *of) {
  u64v c0[CHAINS], c1[CHAINS], out[2 * CHAINS];
  for (int j = 0; j < CHAINS; j++) {
    c0[j] = v_load_blocks(of->group + LANES * j);
    c1[j] = v_or(v_high(c0[j]), v_load_blocks(of->second_word + LANES * j));
  }
  philox_batch(call, c0, c1, out);
  for (int j = 0; j < 2 * CHAINS; j++) v_store(of->bits + LANES * j, out[j]);
}

/* All planes of a batch are computed at once. U is therefore compared with p from the last plane up, which needs no test
 * between the digits: an element whose digits equal those of p so far is kept, until a more significant digit decides
 * otherwise. */
INLINE void keep_slots(const int slots, const philox_call *call, uint64_t rate, uint64_t first, uint64_t *bits) {
  const int planes = BATCH / slots, words = 2 * slots;
  uint64_t undecided[2 * BATCH], any = 1;
  for (int k = 0; k < words; k++) undecided[k] = ~(uint64_t)0, bits[k] = 0;
  for (uint32_t plane = 0; rate && any; plane += (uint32_t)planes, rate = planes < 64 ? rate << planes : 0) {
    pairs of;
    uint64_t kept[2 * BATCH], equal[2 * BATCH];
    for (int k = 0; k < BATCH; k++) {
      of.group[k] = first + (uint64_t)(k % slots);
      of.second_word[k] = (plane + (uint32_t)(k / slots)) << PLANE_SHIFT | PLANES_DOMAIN;
    }
    philox_pairs(call, &of);
    for (int k = 0; k < words; k++) kept[k] = equal[k] = ~(uint64_t)0;
    for (int p = planes - 1; p >= 0; p--) {
      const uint64_t digit = 0 - (rate >> (63 - p) & 1), *plane_bits = of.bits + words * p;
      for (int k = 0; k < words; k++) {
        kept[k] = (plane_bits[k] & kept[k]) | (~digit & (plane_bits[k] | kept[k]));
        equal[k] &= ~(plane_bits[k] ^ digit);
      }
    }
    any = 0;
    for (int k = 0; k < words; k++) {
      bits[k] = (bits[k] & ~undecided[k]) | (undecided[k] & kept[k]);
      any |= undecided[k] &= equal[k];
    }
  }
}

static NOINLINE void keep_few(const philox_call *call, uint64_t rate, uint64_t first, int64_t count, uint64_t *bits) {
  for (; count > 0; count -= FEW, first += FEW, bits += 2 * FEW) {
    if (FEW >= 16 && count > 8) keep_slots(16, call, rate, first, bits);
    else if (FEW >= 8 && count > 4) keep_slots(8, call, rate, first, bits);
    else if (FEW >= 4 && count > 2) keep_slots(4, call, rate, first, bits);
    else if (FEW >= 2 && count > 1) keep_slots(2, call, rate, first, bits);
    else keep_slots(1, call, rate, first, bits);
  }
}

static void keep_bits(const philox_call *call, uint64_t rate, uint64_t first, int64_t count, uint64_t *bits,
                      const prefetch_run *ahead) {
  prefetch_run run = prefetch_from(ahead, bits);
  for (; count > FEW; count -= BATCH, first += BATCH, bits += 2 * BATCH) {
    if (share_second_word(first))
      keep_batch(call, rate, first, bits, run);
    else
      keep_few(call, rate, first, count < BATCH ? count : BATCH, bits);
    run.at += run.step * (BATCH * FD_GROUP * 4 / 64); /* the lines of a batch of float32 elements */
  }
  keep_few(call, rate, first, count, bits);
}
