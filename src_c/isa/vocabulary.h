/* vocabulary.h: what an instruction set's file must define before it includes kernels/table_tpl.h, which includes this.
 *
 * The prototypes repeat the file's definitions, so that the compiler refuses one that has other types and the linker one that is
 * missing. The static assertions hold what the kernels and their callers' buffers rely on. No function may read or write memory
 * other than that which its comment names, none may fuse a multiplication with an addition, and none may flush subnormals.
 *
 * Constants, each in an enum:
 *   LANES          64-bit lanes of u64v: one counter word of as many Philox blocks
 *   CHAINS         registers that are worked on side by side, to hide the multiplier's latency
 *   BYPASS_AHEAD   bytes ahead of stores past the caches that the input is fetched
 *   F32_LANES      float32 numbers of f32_v
 *   F64_LANES      float64 numbers of f64_v
 * Macros:
 *   FD_ISA_NAME    the name, as in list.h
 *   UNROLL_VALUES  a pragma before loops over whole registers of values, or nothing
 *   BF16_COMPUTE(f), BF16_LANES  only where bfloat16 is computed with in a wider type than f32_v: the prefix of that type's
 *                  functions, which are those of f32_v below (set, load, store, mul, add, sign, keep, select), and its lanes
 */

/* Philox ----------------------------------------------------------------------------------------------------------------
 *
 * u64v holds LANES numbers of 64 bits. In the arithmetic of Philox the low 32 bits of a lane are a word, and what stands above
 * them is not looked at but where a comment says so. Which lane has which block is v_lane_numbers' to choose: v_order and
 * v_load_blocks must agree with it. */
INLINE u64v v_lane_numbers(void);                      /* lane k: the block, 0 .. LANES - 1, that it has */
INLINE u64v v_set(uint64_t a);                         /* a in all lanes */
INLINE u64v v_load_blocks(const uint64_t *from);       /* LANES numbers, one a block, to the lanes that have the blocks */
INLINE void v_store(uint64_t *to, u64v a);             /* lane k to to[k]; of any alignment */
INLINE u64v v_add(u64v a, u64v b);                     /* modulo 2^64 */
INLINE u64v v_mul(u64v a, u64v b);                     /* the 64-bit products of the low 32 bits */
INLINE u64v v_and(u64v a, u64v b);                     /* of all 64 bits, as the four below */
INLINE u64v v_or(u64v a, u64v b);
INLINE u64v v_xor(u64v a, u64v b);
INLINE u64v v_xor3(u64v a, u64v b, u64v c);            /* a is the last to be ready */
INLINE u64v v_andnot(u64v not_this, u64v a);           /* a & ~not_this */
INLINE u64v v_high(u64v a);                            /* the high 32 bits to the low ones; above them, anything */
INLINE u64v v_last(u64v product, u64v a, u64v b);      /* the high 32 bits of the product XOR a XOR b, above them its low 32 bits */
INLINE void v_order(u64v pair[2]);                     /* the blocks' lower halves and upper halves to block after block, in order */
INLINE int v_any(u64v a);                              /* whether any of all bits is set */
INLINE void v_prefetch(const char *p);                 /* fetches a cache line; p may be any address; may do nothing */
INLINE void v_fence(void);                             /* orders the stores of the functions named stream before later ones */

/* Values ----------------------------------------------------------------------------------------------------------------
 *
 * f32_v holds F32_LANES numbers and f64_v F64_LANES. Loads and stores take memory of any alignment, streams write to addresses
 * aligned to the register and may go past the caches. Keep and select look at the bits i, i + 1, ... of `bits`, a bit a lane, i a
 * multiple of the lanes; they may read whole bytes of the 64-bit word that has those bits and, where i is not 0, of the next one. Arithmetic is IEEE's,
 * rounded to nearest. */
INLINE f32_v f32_set(float a);
INLINE f32_v f32_load(const float *from);
INLINE void f32_store(float *to, f32_v a);
INLINE void f32_stream(float *to, f32_v a);
INLINE f32_v f32_mul(f32_v a, f32_v b);
INLINE f32_v f32_add(f32_v a, f32_v b);
INLINE f32_v f32_sign(f32_v a, f32_v m);                                               /* m where a > 0, -m where a < 0, else -0 */
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a);                       /* a, or +0 where the bit is 0 */
INLINE f32_v f32_select(const uint64_t *bits, int64_t i, f32_v kept, f32_v dropped);   /* `dropped` where the bit is 0 */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index);                 /* table[index[k]], each below 32 */

INLINE f64_v f64_set(double a);
INLINE f64_v f64_load(const double *from);
INLINE void f64_store(double *to, f64_v a);
INLINE void f64_stream(double *to, f64_v a);
INLINE f64_v f64_mul(f64_v a, f64_v b);
INLINE f64_v f64_add(f64_v a, f64_v b);
INLINE f64_v f64_sign(f64_v a, f64_v m);
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a);
INLINE f64_v f64_select(const uint64_t *bits, int64_t i, f64_v kept, f64_v dropped);

/* The 16-bit types, stored as their bits: loads are exact, stores round to nearest even, and a NaN stays one. */
INLINE f32_v f16_load(const uint16_t *from);
INLINE void f16_store(uint16_t *to, f32_v a);
INLINE void f16_stream(uint16_t *to, f32_v a);
#ifndef BF16_COMPUTE
#define BF16_COMPUTE(f) f32_##f
#define BF16_LANES F32_LANES
#endif
INLINE BF16_COMPUTE(v) bf16_load(const uint16_t *from);
INLINE void bf16_store(uint16_t *to, BF16_COMPUTE(v) a);
INLINE void bf16_stream(uint16_t *to, BF16_COMPUTE(v) a);

/* Binary digit `shift`, 0 .. 7, of 64 bytes: bit k is that of bytes[k]. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift);

/* What must hold --------------------------------------------------------------------------------------------------------- */
#define FD_POWER_OF_TWO(n) ((n) > 0 && ((n) & ((n) - 1)) == 0)

_Static_assert(sizeof(u64v) == 8 * LANES, "LANES is the number of 64-bit lanes of u64v");
_Static_assert(FD_POWER_OF_TWO(LANES) && FD_POWER_OF_TWO(CHAINS), "a batch is cut into halves: LANES and CHAINS are powers of two");
_Static_assert(LANES * CHAINS >= 2, "a batch is at least two blocks, for half of it is worked on alone");
_Static_assert(LANES * CHAINS <= FD_BATCH_MAX, "callers' buffers have room for FD_BATCH_MAX blocks more than they ask for");
_Static_assert(LANES * CHAINS / 2 <= 16, "keep_few makes up to 16 groups at a time");

_Static_assert(sizeof(f32_v) == 4 * F32_LANES, "F32_LANES is the number of float32 numbers of f32_v");
_Static_assert(sizeof(f64_v) == 8 * F64_LANES, "F64_LANES is the number of float64 numbers of f64_v");
_Static_assert(sizeof(BF16_COMPUTE(v)) == 4 * BF16_LANES, "BF16_LANES is the number of float32 numbers of bfloat16's type");
_Static_assert(FD_POWER_OF_TWO(F32_LANES) && F32_LANES <= 64, "a register's keep bits lie in one 64-bit word");
_Static_assert(FD_POWER_OF_TWO(F64_LANES) && F64_LANES <= 64, "a register's keep bits lie in one 64-bit word");
_Static_assert(FD_POWER_OF_TWO(BF16_LANES) && BF16_LANES <= 64, "a register's keep bits lie in one 64-bit word");
