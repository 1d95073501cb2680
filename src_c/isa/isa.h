/* isa.h: the table of kernels that each instruction set gives to the drivers. */
#ifndef FASTDROP_ISA_H
#define FASTDROP_ISA_H

#include "compiler.h"
#include "fastdrop.h"

/* The ten round keys, and the two counter words that are constant within a call. */
typedef struct {
  uint64_t key0[10], key1[10]; /* in the low half */
  uint64_t offset_low, offset_high;
} philox_call;

/* Blocks are written in whole batches: a buffer for n blocks needs room for FD_BATCH_MAX more. */
enum { FD_BATCH_MAX = 32, FD_TILE_BLOCKS = FD_TILE / FD_GROUP, FD_TILE_WORDS = FD_TILE / 64 };

/* The blocks first .. first + count - 1 of one (plane, domain), each as two 64-bit words. */
typedef void blocks_kernel(const philox_call *call, uint64_t first, uint32_t plane_domain, int64_t count, uint64_t *out);

/* Memory that will be read soon, and the bytes from one prefetch to the next: those of 16 elements, but at most a cache line. */
typedef struct {
  const char *at;
  int64_t step;
} prefetch_run;

/* Keep bits of the groups first .. first + count - 1, for 0 < p < 1. `ahead` is prefetched while the multipliers work; it may
 * be 0. */
typedef void keep_bits_kernel(const philox_call *call, uint64_t rate, uint64_t first, int64_t count, uint64_t *bits,
                              const prefetch_run *ahead);

/* A flag of rates_dtype: the numbers are keep probabilities, 1 - rate. */
enum { FD_KEPT = 4 };

/* Keep bits of n elements that each have their own rate. `plane` returns one plane's bits of these elements. Its bits and the
 * result begin at bit `skip`; skip + n <= FD_TILE. `ahead` is the values of the next tile, or 0. */
typedef const uint64_t *plane_source(void *from, uint32_t plane);
typedef void keep_rates_kernel(const void *rates, int rates_dtype, int64_t n, int skip, plane_source *plane, void *from,
                               uint64_t *bits, const prefetch_run *ahead);

/* The index of the first rate outside [0, 1]; n if there is none. */
typedef int64_t first_bad_rate_kernel(const void *rates, int rates_dtype, int64_t n);

/* factors[i] = 1 / (1 - rates[i]) or 1 / keep[i], rounded to the compute type. */
typedef void factors_kernel(const void *rates, int rates_dtype, int64_t n, void *factors);

/* A tile of flat operands. */
typedef struct {
  const void *x, *bias, *other, *factors; /* factors are of the compute type, and so is `other` of FD_DIVIDE and FD_MULTIPLY_ADD */
  void *y;
  const uint64_t *bits; /* n bits, or 0 if the operation reads none; one word more may be read, but it has no effect */
  int64_t n;
  double scale, shift, fill;
  int bypass;   /* y is aligned to 64 bytes and is written with streaming stores, past the caches */
  int is_apart; /* what follows x in memory is not fetched: the next tile is elsewhere, or the processor finds it by itself */
} fd_tile;
typedef void apply_kernel(const fd_tile *tile);

/* A 32-bit word of memory that was written as 64-bit words. */
typedef uint32_t __attribute__((may_alias)) fd_word;

/* Convert words to numbers; apply a function to an array of the compute type. */
typedef void fd_numbers_kernel(const fd_word *words, int64_t n, void *out);
typedef void fd_function_kernel(const void *x, int64_t n, void *y);

/* A tile of noise; all arrays have the compute type. */
typedef struct {
  const void *noise, *other;
  void *factors, *slopes; /* slopes may be 0; those of FD_GAUSSIAN and FD_SCALED are the noise, and are not written */
  int64_t n;
  const double *params;
} fd_noise_tile;
typedef void noise_kernel(const fd_noise_tile *tile);
typedef void products_kernel(const void *gradients, const void *values, int64_t n, void *slopes); /* overwrites slopes */
/* Keep probabilities of logits, all of the compute type; -0 if the probability is unknown. */
typedef void gate_kernel(const void *logits, int64_t n, double gain, double shift, void *keep);
/* Slopes of logits; all arrays have the compute type. `kept` and `antithetic` are 1 or 0. Arrays that the estimator does not need may
 * be 0. */
typedef struct {
  const void *keep, *kept, *antithetic, *grad, *x, *losses;
  void *slopes;
  int64_t n;
  double gain;
} fd_gate_tile;
typedef void gate_slopes_kernel(const fd_gate_tile *tile, int estimator, int divided);
typedef double sum_kernel(void *products, int64_t n); /* n <= FD_NOISE_TILE; fills the rest with 0 */
/* Rows of n elements of the compute type, one after the other. The first kernel leaves each row's sum in its first element, and
 * anything in the others. The second writes the first element plus `more`, negated on request, to all elements of its row. */
typedef void row_sums_kernel(void *values, int64_t rows, int64_t n);
typedef void row_spread_kernel(void *values, int64_t rows, int64_t n, double more, int negated);
/* Rows of a call of fd_divide_rows. The kernel returns 0, and does nothing, unless their length is a multiple of a register, of at most
 * MOST_DIRECT elements. The rows have at most FD_ROW_PIECE elements together. */
enum { FD_ROW_PIECE = 1024 };
typedef struct {
  const void *x, *grad;
  void *y;
  const uint64_t *bits;
  int64_t rows, n;
  double epsilon;
  int is_constant, bypass; /* bypass: as in fd_tile */
} fd_row_tile;
typedef int quotients_kernel(const fd_row_tile *tile);
typedef void row_products_kernel(void *g, const void *values, const void *totals, int64_t n); /* g = g * (values / totals) */
typedef void row_add_kernel(void *to, const void *from, int64_t n);                   /* to = to + from */
typedef void sum_terms_kernel(const void *x, const void *other, int64_t n, void *out); /* x, or x * other unless other is 0 */
typedef void sum_fours_kernel(const void *const x[4], const void *const other[4], int64_t n, void *out); /* (a + b) + (c + d) of terms */
typedef void scale_kernel(const void *x, int64_t n, double factor, void *y);           /* factor * x, in float64; y may be x */
typedef void widen_kernel(const void *stored, int64_t n, void *out);

/* The factors of at most FD_DRAWS_PIECE features that were drawn counts[i] times, and their keep bits (fd_multiply_draws). */
enum { FD_DRAWS_PIECE = 1024 };
typedef void draw_factors_kernel(const uint32_t *counts, const double *expected, int64_t n, void *factors, uint64_t *bits);

/* Keep probabilities from scores (fd_fill_levels), for scores of float32 and of float64. */
enum { LEVEL_LANES = 16 };
typedef struct {
  double upper[LEVEL_LANES], lower[LEVEL_LANES], slope[LEVEL_LANES];
} level_sums;
typedef double excess_kernel(const void *scores, int64_t n, double level, const fd_level_call *call, double *slope);
typedef double score_sum_kernel(const void *scores, int64_t n, int64_t *zeros);
typedef void shares_kernel(const void *scores, int64_t n, double level, double of_zeros, const fd_level_call *call, double *out);
typedef int are_scores_kernel(const void *scores, int64_t n);

/* Rows of elements whose magnitudes are compared (fd_find_others): `lanes` elements each, `step` elements apart. A limit is a magnitude
 * as an integer. */
typedef struct {
  const void *x;
  int64_t rows, step, lanes;
} fd_target_rows;
typedef struct {
  uint64_t so_far;            /* the digits that were chosen */
  int width, shift, is_first; /* the next digit has `width` bits, above bit `shift`; whether it is the first */
} fd_digits;
typedef void copy_columns_kernel(const fd_target_rows *rows, void *copies);
typedef void count_digits_kernel(const void *x, int64_t n, const fd_digits *digits, uint32_t *counts);
typedef void spare_neighbours_kernel(const void *x, int64_t n, uint64_t limit, uint8_t *spared);
typedef void spare_larger_kernel(const fd_target_rows *rows, const uint64_t *limits, uint8_t *spared);
typedef void spare_last_kernel(const fd_target_rows *rows, int64_t lane, uint64_t limit, int64_t surplus, uint8_t *spared);
typedef void spare_few_kernel(const fd_target_rows *rows, int64_t targets, void *room, uint8_t *spared); /* at most 2^15 rows */

struct fd_isa {
  const char *name;
  int vector_bits;
  blocks_kernel *blocks;
  keep_bits_kernel *keep_bits;
  keep_rates_kernel *keep_rates;
  first_bad_rate_kernel *first_bad_rate;
  factors_kernel *factors[FD_DTYPES];
  apply_kernel *apply[FD_DTYPES][FD_OPS];
  /* Each pair is for float32 and float64. */
  fd_numbers_kernel *uniforms[2], *normals[2];
  fd_function_kernel *functions[FD_FUNCTIONS][2];
  noise_kernel *noise[FD_NOISES][2];
  draw_factors_kernel *draw_factors[2];
  excess_kernel *excess[2];
  score_sum_kernel *score_sum[2];
  shares_kernel *shares[2];
  are_scores_kernel *are_scores[2];
  copy_columns_kernel *copy_columns[FD_DTYPES];
  count_digits_kernel *count_digits[FD_DTYPES];
  spare_neighbours_kernel *spare_neighbours[FD_DTYPES];
  spare_larger_kernel *spare_larger[FD_DTYPES];
  spare_last_kernel *spare_last[FD_DTYPES];
  spare_few_kernel *spare_few[FD_DTYPES];
  products_kernel *products[2];
  gate_kernel *gate[2];
  gate_slopes_kernel *gate_slopes[2];
  sum_kernel *sum[2];
  row_sums_kernel *row_sums[2];
  row_spread_kernel *row_spread[2];
  row_products_kernel *row_products[2];
  quotients_kernel *quotients[FD_DTYPES];
  row_add_kernel *row_add[2];
  sum_terms_kernel *sum_terms[3]; /* of float32 to float32, to float64; of float64 to float64 */
  sum_fours_kernel *sum_fours[3];
  scale_kernel *scale[2], *scale_to_odd; /* the last one is for float32 that is rounded to 16 bits afterwards */
  widen_kernel *widen[FD_DTYPES];
  double (*multiply_add)(double a, double b, double c); /* must round twice; otherwise the build is wrong */
  void (*fence)(void);                                  /* orders the streaming stores before later stores */
  int64_t ahead;                                        /* BYPASS_AHEAD of vocabulary.h */
};

/* FD_IF_BUILT(name, row) expands to row if the build defines -DFD_HAVE_name=1, and to nothing otherwise. FD_BUILT_1 puts a
 * comma before FD_KEEP_ROW, which makes FD_KEEP_ROW the second argument. Any other FD_BUILT_... is not a macro, so
 * FD_DROP_ROW is the second argument. */
#define FD_BUILT_1 ,
#define FD_KEEP_ROW(...) __VA_ARGS__
#define FD_DROP_ROW(...)
#define FD_SECOND_(first, second, ...) second
#define FD_SECOND(...) FD_SECOND_(__VA_ARGS__)
#define FD_IF_BUILT(name, ...) FD_SECOND(FD_JOIN(FD_BUILT_, FD_HAVE_##name) FD_KEEP_ROW, FD_DROP_ROW, )(__VA_ARGS__)

#define FD_ISA(name, machine, has, flags) FD_IF_BUILT(name, extern const fd_isa fd_isa_##name;)
#include "isa/list.h"
#undef FD_ISA

#endif
