/* vocabulary.h: the functions, types and constants that the file of an instruction set must define. The file then includes
 * kernels/table_tpl.h, which includes this header.
 *
 * The prototypes repeat the file's definitions: the compiler refuses a definition with other types, and the linker a missing
 * one. The static assertions check what the kernels and their callers' buffers rely on. A function may read and write only the
 * memory that its comment names. It must not fuse a multiplication with an addition, and it must not flush subnormals.
 *
 * Constants, each in an enum:
 *   LANES          number of 64-bit lanes in u64v; a register has one counter word of LANES Philox blocks
 *   CHAINS         number of registers processed side by side, to hide the latency of the multiplier
 *   FEW            the most groups of 128 bits whose planes are made side by side; more are made plane by plane, a batch at a time
 *   BYPASS_AHEAD   distance in bytes by which the prefetch of the input runs ahead of streaming stores
 *   MOST_DIRECT    elements of the longest row that quotients_tpl.h divides; 0 if the buffers of rows.c are as fast
 *   F32_LANES      number of float32 values in f32_v
 *   F64_LANES      number of float64 values in f64_v
 * Macros:
 *   FD_ISA_NAME    the name, as in list.h
 *   UNROLL_VALUES, UNROLL_F16, UNROLL_BF16  a pragma before loops over whole registers of values, or nothing: for float32 and
 *                  float64, for float16, for bfloat16
 *   BF16_COMPUTE(f), BF16_LANES  only if bfloat16 is computed in a wider type than f32_v: the prefix of that type's functions, which
 *                  are those of f32_v below (set, load, store, mul, div, add, sign, keep, select, total), and its number of lanes
 */

/* Philox ----------------------------------------------------------------------------------------------------------------
 *
 * u64v holds LANES numbers of 64 bits. In the arithmetic of Philox the low 32 bits of a lane are a word. The high 32 bits are
 * ignored unless a comment says otherwise. v_lane_numbers chooses which lane has which block; v_order and v_load_blocks must
 * agree with it. */
INLINE u64v v_lane_numbers(void);                      /* lane k: the number of its block, 0 .. LANES - 1 */
INLINE u64v v_set(uint64_t a);                         /* a in all lanes */
INLINE u64v v_load_blocks(const uint64_t *from);       /* LANES numbers, one per block, each to the lane of its block */
INLINE void v_store(uint64_t *to, u64v a);             /* lane k to to[k]; any alignment */
INLINE u64v v_add(u64v a, u64v b);                     /* modulo 2^64 */
INLINE u64v v_mul(u64v a, u64v b);                     /* the 64-bit products of the low 32 bits */
INLINE u64v v_and(u64v a, u64v b);                     /* on all 64 bits, like the four below */
INLINE u64v v_or(u64v a, u64v b);
INLINE u64v v_xor(u64v a, u64v b);
INLINE u64v v_xor3(u64v a, u64v b, u64v c);            /* a is the operand that is ready last */
INLINE u64v v_andnot(u64v not_this, u64v a);           /* a & ~not_this */
INLINE u64v v_high(u64v a);                            /* the high 32 bits, moved to the low half; the high half is arbitrary */
INLINE u64v v_last(u64v product, u64v a, u64v b);      /* low half: (product >> 32) XOR a XOR b; high half: product */
INLINE void v_order(u64v pair[2]);                     /* lower and upper halves of the blocks to whole blocks, in order */
INLINE int v_any(u64v a);                              /* whether any bit is set */
INLINE void v_prefetch(const char *p);                 /* fetches a cache line; p may be any address; may do nothing */
INLINE void v_fence(void);                             /* orders the stores of the stream functions before later stores */

/* Values ----------------------------------------------------------------------------------------------------------------
 *
 * f32_v holds F32_LANES numbers and f64_v holds F64_LANES. Loads and stores accept any alignment. Streams write to addresses
 * aligned to the register and may bypass the caches. Keep and select use the bits i, i + 1, ... of `bits`, one bit per lane;
 * i is a multiple of the number of lanes. They may read whole bytes of the 64-bit word with those bits and, if i is not 0,
 * of the next word. Arithmetic is IEEE arithmetic, rounded to nearest. */
INLINE f32_v f32_set(float a);
INLINE f32_v f32_load(const float *from);
INLINE void f32_store(float *to, f32_v a);
INLINE void f32_stream(float *to, f32_v a);
INLINE f32_v f32_mul(f32_v a, f32_v b);
INLINE f32_v f32_div(f32_v a, f32_v b);
INLINE f32_v f32_add(f32_v a, f32_v b);
INLINE f32_v f32_sign(f32_v a, f32_v m);                                               /* m if a > 0, -m if a < 0, else -0 */
INLINE f32_v f32_keep(const uint64_t *bits, int64_t i, f32_v a);                       /* a at a 1, +0 at a 0 */
INLINE f32_v f32_select(const uint64_t *bits, int64_t i, f32_v kept, f32_v dropped);   /* kept at a 1, dropped at a 0 */
INLINE f32_v f32_part(f32_v low, f32_v high, int64_t at);                              /* lanes at, at + 1, ... of both; at < lanes */
INLINE f32_v f32_add_some(f32_v a, f32_v b, int64_t n);                                /* a + b in the first n lanes, a in the others */
INLINE float f32_total(f32_v a);                                                       /* lanes: half to half, until one is left */
INLINE f32_v f32_lookup(const float table[32], const uint32_t *index);                 /* table[index[k]], each below 32 */

INLINE f64_v f64_set(double a);
INLINE f64_v f64_load(const double *from);
INLINE void f64_store(double *to, f64_v a);
INLINE void f64_stream(double *to, f64_v a);
INLINE f64_v f64_mul(f64_v a, f64_v b);
INLINE f64_v f64_div(f64_v a, f64_v b);
INLINE f64_v f64_add(f64_v a, f64_v b);
INLINE f64_v f64_sign(f64_v a, f64_v m);
INLINE f64_v f64_keep(const uint64_t *bits, int64_t i, f64_v a);
INLINE f64_v f64_select(const uint64_t *bits, int64_t i, f64_v kept, f64_v dropped);
INLINE f64_v f64_part(f64_v low, f64_v high, int64_t at);
INLINE f64_v f64_add_some(f64_v a, f64_v b, int64_t n);
INLINE double f64_total(f64_v a);

/* The 16-bit types, stored as their bits. Loads are exact, stores round to nearest even, and a NaN stays a NaN. */
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

/* Binary digit `shift`, 0 .. 7, of 64 bytes: bit k of the result is the digit of bytes[k]. */
INLINE uint64_t u8_digits(const uint8_t *bytes, int shift);

/* Static assertions ------------------------------------------------------------------------------------------------------ */
#define FD_POWER_OF_TWO(n) ((n) > 0 && ((n) & ((n) - 1)) == 0)

_Static_assert(sizeof(u64v) == 8 * LANES, "LANES must be the number of 64-bit lanes in u64v");
_Static_assert(FD_POWER_OF_TWO(LANES) && FD_POWER_OF_TWO(CHAINS), "LANES and CHAINS must be powers of two: a batch is halved");
_Static_assert(LANES * CHAINS >= 2, "a batch must have at least two blocks, because half a batch is processed alone");
_Static_assert(LANES * CHAINS <= FD_BATCH_MAX, "a batch must fit: callers' buffers have room for FD_BATCH_MAX extra blocks");
_Static_assert(FD_POWER_OF_TWO(FEW) && FEW <= 16 && 2 * FEW <= LANES * CHAINS, "few groups are at most 16 and half a batch, as in keep_few");

_Static_assert(sizeof(f32_v) == 4 * F32_LANES, "F32_LANES must be the number of float32 values in f32_v");
_Static_assert(sizeof(f64_v) == 8 * F64_LANES, "F64_LANES must be the number of float64 values in f64_v");
_Static_assert(sizeof(BF16_COMPUTE(v)) == 4 * BF16_LANES, "BF16_LANES must be the number of float32 values in bfloat16's type");
_Static_assert(FD_POWER_OF_TWO(F32_LANES) && F32_LANES <= 64, "the keep bits of a register must fit in one 64-bit word");
_Static_assert(FD_POWER_OF_TWO(F64_LANES) && F64_LANES <= 64, "the keep bits of a register must fit in one 64-bit word");
_Static_assert(FD_POWER_OF_TWO(BF16_LANES) && BF16_LANES <= 64, "the keep bits of a register must fit in one 64-bit word");
