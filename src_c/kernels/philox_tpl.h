/* philox_tpl.h: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) on
 * the vocabulary of an instruction set.
 *
 * A register holds one counter word of LANES blocks, one word per 64-bit lane. The widening multiply reads the low half of a
 * lane. It leaves the new low word in the low half and the new high word in the high half. The high half is therefore not
 * cleared between the rounds. A single chain of multiplications would wait for their latency, so CHAINS of them run side by
 * side.
 */
static const uint64_t MULTIPLIER0 = 0xD2511F53u, MULTIPLIER1 = 0xCD9E8D57u;
/* The lines to prefetch per plane: the same number in each of the seven rounds that a plane does not share. A smaller batch has
 * fewer lines to read, but takes almost as many planes. */
enum { BATCH = LANES * CHAINS, PREFETCHES = 7 * (BATCH > 16 ? 3 : 2) };

/* Memory that is prefetched while the multipliers work. If there is none, the step is 0, because a test would take time. */
INLINE prefetch_run prefetch_from(const prefetch_run *ahead, const void *anything) {
  return ahead ? *ahead : (prefetch_run){(const char *)anything, 0};
}

/* The rounds from `from` on; each round prefetches `lines` lines. The last round leaves 64-bit halves of blocks: for each chain
 * the lower halves of its blocks, then the upper halves. Operations that treat all bits alike can run before put_in_order. */
INLINE void philox_rounds(const philox_call *call, int from, u64v c0[CHAINS], u64v c1[CHAINS], u64v c2[CHAINS],
                          u64v c3[CHAINS], u64v halves[2 * CHAINS], int lines, prefetch_run ahead) {
  const u64v multiplier0 = v_set(MULTIPLIER0), multiplier1 = v_set(MULTIPLIER1);
  UNROLL(10)
  for (int round = from; round < 9; round++) {
    const u64v key0 = v_set(call->key0[round]), key1 = v_set(call->key1[round]);
    for (int k = 0; k < lines; k++, ahead.at += ahead.step) v_prefetch(ahead.at);
    UNROLL(4)
    for (int j = 0; j < CHAINS; j++) {
      const u64v product0 = v_mul(c0[j], multiplier0), product1 = v_mul(c2[j], multiplier1);
      c0[j] = v_xor3(v_high(product1), c1[j], key0);
      c2[j] = v_xor3(v_high(product0), c3[j], key1);
      c1[j] = product1;
      c3[j] = product0;
    }
    KEEP_ORDER();
  }
  const u64v key0 = v_set(call->key0[9]), key1 = v_set(call->key1[9]);
  for (int k = 0; k < lines; k++, ahead.at += ahead.step) v_prefetch(ahead.at);
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) {
    const u64v product0 = v_mul(c0[j], multiplier0), product1 = v_mul(c2[j], multiplier1);
    halves[2 * j] = v_last(product1, c1[j], key0);
    halves[2 * j + 1] = v_last(product0, c3[j], key1);
  }
}

INLINE void put_in_order(u64v halves[2 * CHAINS]) {
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) v_order(halves + 2 * j);
}

/* BATCH blocks, in order, from the first and second words of their counters. */
INLINE void philox_batch(const philox_call *call, u64v c0[CHAINS], u64v c1[CHAINS], u64v out[2 * CHAINS]) {
  u64v c2[CHAINS], c3[CHAINS];
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) c2[j] = v_set(call->offset_low), c3[j] = v_set(call->offset_high);
  philox_rounds(call, 0, c0, c1, c2, c3, out, 0, (prefetch_run){0, 0});
  put_in_order(out);
}

/* BATCH neighbouring blocks whose counters differ only in the first word, plane after plane. The first word has the block
 * number and the second word the plane number. It takes three rounds until every word depends on both. Five of the six
 * multiplications up to there depend on the block alone or on the plane alone. This structure holds the blocks'
 * contributions to the words after the second and the third round; a plane's contributions are XORed to them. */
typedef struct {
  u64v second2[CHAINS], third0[CHAINS], third2[CHAINS], third3[CHAINS];
} block_shares;

INLINE int share_second_word(uint64_t first) { return (first ^ (first + BATCH - 1)) >> 32 == 0; }

INLINE void open_blocks(const philox_call *call, uint64_t first, block_shares *shares) {
  const u64v multiplier0 = v_set(MULTIPLIER0), multiplier1 = v_set(MULTIPLIER1);
  const uint64_t product = MULTIPLIER1 * call->offset_low;
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) {
    const u64v c0 = v_add(v_set(first + (uint64_t)(LANES * j)), v_lane_numbers());
    const u64v product0 = v_mul(c0, multiplier0);
    const u64v product1 = v_mul(v_xor(v_high(product0), v_set(call->offset_high ^ call->key1[0])), multiplier1);
    shares->second2[j] = v_xor(product0, v_set(call->key1[1]));
    shares->third0[j] = v_xor(product1, v_set(call->key0[2]));
    shares->third3[j] = v_mul(v_xor(v_high(product1), v_set(product ^ call->key0[1])), multiplier0);
    shares->third2[j] = v_xor(v_high(shares->third3[j]), v_set(call->key1[2]));
  }
}

/* One plane of these blocks, not yet in order. */
INLINE void philox_plane(const philox_call *call, const block_shares *shares, uint32_t second_word, u64v halves[2 * CHAINS],
                         prefetch_run ahead) {
  const uint64_t product = MULTIPLIER0 * (uint32_t)(MULTIPLIER1 * call->offset_low >> 32 ^ second_word ^ call->key0[0]);
  const u64v low = v_set(product), high = v_set(product >> 32), multiplier1 = v_set(MULTIPLIER1);
  u64v c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS];
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) {
    c1[j] = v_mul(v_xor(shares->second2[j], high), multiplier1);
    c0[j] = v_xor(v_high(c1[j]), shares->third0[j]);
    c2[j] = v_xor(shares->third2[j], low);
    c3[j] = shares->third3[j];
  }
  philox_rounds(call, 3, c0, c1, c2, c3, halves, PREFETCHES / 7, ahead);
}

/* BATCH neighbouring blocks from any number on. A block number has 48 bits; its high 16 bits share a word with the plane. */
INLINE void philox_neighbours(const philox_call *call, uint64_t first, uint32_t plane_domain, u64v out[2 * CHAINS]) {
  u64v c0[CHAINS], c1[CHAINS];
  UNROLL(4)
  for (int j = 0; j < CHAINS; j++) {
    c0[j] = v_add(v_set(first + (uint64_t)(LANES * j)), v_lane_numbers());
    c1[j] = v_or(v_high(c0[j]), v_set(plane_domain));
  }
  philox_batch(call, c0, c1, out);
}

static void blocks(const philox_call *call, uint64_t first, uint32_t plane_domain, int64_t count, uint64_t *out) {
  for (int64_t done = 0; done < count; done += BATCH, out += 2 * BATCH) {
    u64v words[2 * CHAINS];
    philox_neighbours(call, first + (uint64_t)done, plane_domain, words);
    for (int j = 0; j < 2 * CHAINS; j++) v_store(out + LANES * j, words[j]);
  }
}
