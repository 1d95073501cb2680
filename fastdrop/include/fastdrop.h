/* fastdrop.h: the complete C interface of fastdrop.
 *
 * It is plain C11 without Python.h and NumPy. The instruction set and the number of threads are arguments of each call, and no
 * global variable changes a result, so calls from many threads do not interfere. The functions validate nothing: the caller
 * checks every argument and chooses the number of threads. docs/stream.md defines every random bit.
 */
#ifndef FASTDROP_H
#define FASTDROP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FD_STREAM = 1,         /* the rule that turns (seed, offset, index, rate) into bits */
  FD_TILE = 4096,        /* elements per tile: bits are made and then applied while both stay in L1 */
  FD_NOISE_TILE = 1024,  /* elements per tile of noise; each tile has its own sum */
  FD_GROUP = 128,        /* elements per Philox block, which gives each element one bit of a plane */
  FD_MAX_DIMS = 64       /* the same limit as in NumPy */
};

/* The use of a counter: bits 24..31 of its second word. */
enum { FD_DOMAIN_WORDS = 0, FD_DOMAIN_PLANES = 1, FD_DOMAIN_KEYS = 2 };

/* Element types of arrays. The 16-bit types are computed in float32. */
enum { FD_FLOAT32 = 0, FD_FLOAT64 = 1, FD_FLOAT16 = 2, FD_BFLOAT16 = 3, FD_DTYPES = 4 };

/* Operations on kept and dropped elements. The first one can be combined with flags:
 * y = residual + (keep ? (x + bias) * scale : 0). */
enum {
  FD_SCALE = 0,
  FD_WITH_BIAS = 1,     /* operand `bias` */
  FD_WITH_RATES = 2,    /* each element has its own scale 1 / (1 - rate), or 1 / P */
  FD_WITH_RESIDUAL = 4, /* operand `other` */
  FD_AFFINE = 8,        /* keep ? x * scale + shift : fill */
  FD_SELECT = 9,        /* keep ? x : other */
  FD_SIGNED = 10,       /* keep ? x * scale + sgn(x) shift : -sgn(x) fill; for x = 0 and NaN: keep ? x * scale : 0 */
  FD_MASKED_OPS = 11,   /* those above use keep bits; those below use factors, FD_DIVIDE both */
  FD_MULTIPLY = 11,     /* x * factor */
  FD_ADD = 12,          /* x + factor */
  FD_STRETCH = 13,      /* x * (1 + scale * factor) */
  FD_DIVIDE = 14,       /* keep ? (x + other) / factor : 0 */
  FD_MULTIPLY_ADD = 15, /* x * factor + other */
  FD_OPS = 16
};

/* Continuous noise. z is a normal number per element, u a uniform number in (0, 1); a, b, ... are the parameters, in order. If
 * sums are requested, x holds gradients and `other` the values that they belong to; the sums are of x * other * slope. The
 * `other` of FD_SCALED and FD_FACTORS has the compute type: float64 if dtype is FD_FLOAT64, else float32. The sums of FD_SCALED are
 * those along an axis, of x * values * z; FD_FACTORS has none. */
enum {
  FD_GAUSSIAN = 0,     /* y = x * (1 + a z); slope z */
  FD_ADDITIVE = 1,     /* y = x + a z */
  FD_SPREAD = 2,       /* y = x + sqrt(other + a) z */
  FD_SPREAD_SLOPE = 3, /* y = x * z / (2 sqrt(other + a)) */
  FD_CONCRETE = 4,     /* y = x * (1 - s) d, s = 1 / (1 + r^c), r = a (1 - u + b) / (u + b); slope (1 - s) d^2 - s (1 - s) d e */
  FD_UNIFORM = 5,      /* y = x * (1 + a (2 u - 1)); slope 2 u - 1 */
  FD_SCALED = 6,       /* y = x * (1 + other z); slope z */
  FD_FACTORS = 7,      /* y = x * other, or x * other + shifts: no number is drawn */
  FD_NOISES = 8
};

/* Elementary functions. Those from FD_MOLCHANOV on are the divergence of a weight of this log alpha by two approximations, and its
 * derivatives (fastdrop/_core/backends/elementary.py has the formulas); they are of float64 only. */
enum {
  FD_EXP = 0,
  FD_LOG = 1,
  FD_SIGMOID = 2,
  FD_LOGIT = 3,
  FD_SOFTPLUS = 4,
  FD_MOLCHANOV = 5,
  FD_MOLCHANOV_SLOPE = 6,
  FD_KINGMA = 7,
  FD_KINGMA_SLOPE = 8,
  FD_FUNCTIONS = 9
};

/* One pass of an elementary function over n elements of flat arrays: to y, or to sums of f(x). */
typedef struct {
  int function, dtype;          /* dtype: the type of the computation and of y, FD_FLOAT32 or FD_FLOAT64 */
  int x_dtype;                  /* dtype, or FD_FLOAT32, which is widened; or, if dtype is FD_FLOAT32, a 16-bit type, which y then has */
  const void *x;
  void *y;                      /* may be x if the types are equal; 0 if sums are wanted */
  double *sums;                 /* one per FD_NOISE_TILE elements, or 0 */
  int64_t n;
} fd_function_call;

/* Products of n elements of a flat array with a factor, in float64, rounded once to the dtype. */
typedef struct {
  int dtype;
  const void *x;
  void *y;                      /* like x, and may be x */
  double factor;
  int64_t n;
} fd_scale_call;

/* The kernels of one instruction set. */
typedef struct fd_isa fd_isa;

/* A stream of numbers: the Philox key, and the number of the call (step, pass) under it. */
typedef struct {
  uint64_t seed, offset;
} fd_key;

/* A rate p as a multiple of 2^-64. The rate 1 does not fit, so it has the flag `all`. */
typedef struct {
  uint64_t fixed;
  int all;
} fd_rate;

/* The memory layout of an array, in C order of the indices, with strides in bytes. Neighbouring axes that can be walked as one
 * are merged: a contiguous array has one axis. */
typedef struct {
  int ndim;
  int64_t shape[FD_MAX_DIMS], strides[FD_MAX_DIMS];
} fd_layout;

/* An array of a call; data is 0 if the call does not have this array. */
typedef struct {
  void *data;
  const fd_layout *layout;
} fd_array;

/* Logits instead of rates: an element is kept with the probability P = sigmoid(gain logit + shift), computed in the compute type of
 * the logits, and 0 if that is NaN; its rate is 1 - P, and its scale 1 / P. */
typedef struct {
  double gain, shift;           /* already rounded to the compute type */
  int antithetic;               /* the mask that 1 - U gives instead of U: an element is kept if U < P */
} fd_gate;

/* The source of the keep bits. Element i of the arrays has the bit with index first + (offset of i in mask_layout). The
 * strides of mask_layout are in elements of the mask; a stride is 0 along an axis that shares one decision.
 *
 * If `places` is set, mask_layout covers a larger array, in which element i is number first_place + (offset of i in places): an
 * array that begins or ends inside groups that share a decision. The last stride of `places` is 1. */
typedef struct {
  fd_key key;
  fd_rate rate;                 /* the rate of all elements, unless rates.data is set */
  fd_array rates;               /* one rate per element in [0, 1], of rates_dtype FD_FLOAT32 or FD_FLOAT64 */
  int rates_dtype;
  const fd_gate *gate;          /* if set, `rates` are logits, of any type */
  uint64_t first;
  const fd_layout *mask_layout, *places;
  int64_t first_place;
  const uint8_t *packed;        /* if set, the caller's own keep bits; with another layout than C order, in whole FD_GROUPs */
  fd_array flags;               /* if set, the caller's own keep flags, one byte per element */
} fd_bits;

/* One call on n elements. */
typedef struct {
  fd_bits bits;
  int op, dtype;
  double scale, shift, fill;    /* already rounded to the compute type; a NaN must not have its own payload */
  const double *scales;         /* if set, element i has scales[i / scale_run] instead of scale */
  int64_t scale_run;
  int64_t n;
  fd_array x, y, other, bias;   /* of dtype */
  int64_t bypass_bytes;         /* an output of at least this size is written past the caches */
} fd_call;

/* Estimates of the gradient of a loss with respect to l = gain logit + shift, for a mask that logits gate. m is 1 for a kept element and
 * else 0, m' the same for the antithetic mask. */
enum {
  FD_STRAIGHT = 0, /* grad x P (1 - P), or grad x (1 - P) if kept elements are divided by P */
  FD_SCORE = 1,    /* loss (m - P) */
  FD_DISARM = 2,   /* loss (m - m') max(P, 1 - P) / 2 */
  FD_GIVEN = 3,    /* loss */
  FD_ESTIMATORS = 4
};

/* The gradient of n logits: y = gain slope, 0 if P is unknown. If kept elements are divided by P, grad x / P (1 - P) of a kept element
 * is subtracted from the slope. */
typedef struct {
  fd_bits bits;                 /* with a gate that is not antithetic */
  int estimator, divided, dtype;
  int64_t n;
  fd_array grad, x;             /* of dtype; x may be 0 for the estimators of losses if kept elements are not divided */
  fd_array losses;              /* of the compute type; 0 for FD_STRAIGHT */
  void *y;                      /* flat, of the compute type */
} fd_gate_call;

/* The random numbers of the elements of an array. Element i has the number at index first + (layout at i). The layout's strides are
 * in numbers; a null layout means C order. Number i comes from word i, or, in float64, from the words 2 i and 2 i + 1. */
typedef struct {
  fd_key key;
  uint64_t first;
  const fd_layout *layout;
} fd_numbers;

/* One pass of noise over n elements. */
typedef struct {
  fd_numbers numbers;
  int noise, dtype;
  double params[5];             /* already rounded to the compute type */
  int64_t n;
  fd_array x, y, other;         /* of dtype, but see FD_SCALED and FD_FACTORS for `other` */
  fd_array shifts;              /* for FD_FACTORS, like `other` and with the same layout, or 0 */
  double *sums;                 /* one sum per FD_NOISE_TILE elements in C order, or 0 */
  fd_array values;              /* of dtype, for the sums of FD_SCALED, or 0 */
  int64_t length, inner;        /* these sums are along the middle axis of (n / (length * inner), length, inner), as in fd_sum_axis */
  int64_t bypass_bytes;
  void *room;                   /* fd_sum_room(length, inner) bytes for each thread, or 0: then many columns take longer */
} fd_noise_call;

/* Draws of features with replacement. Row r takes the words r k .. r k + k - 1; if `shared`, all rows take the first k words. The
 * pointers are buffers that the call fills. */
typedef struct {
  fd_numbers words;
  int64_t k, rows, features;
  int shared, dtype;
  int shift;                    /* fd_draw_shift(features); word w is in the bucket w >> shift */
  uint32_t *last;               /* features numbers */
  uint32_t *bucket;             /* 2^(32 - shift) numbers */
  double *expected;             /* fd_draw_rows(features) * features numbers */
  uint32_t *counts;             /* as many for each thread */
  fd_array x, y;                /* rows * features elements of dtype */
} fd_draw_call;

/* Keep probabilities min(1, max(floor, level * score)), with one level per row for which their mean is `mean`. If that needs more than
 * all positive scores at 1, the others share the rest. Positive scores are at least 2^-1000, all are below 2^129.
 *
 * The level is the least double for which the sum of (keep probability - mean) is not negative. Each term is rounded to a multiple
 * of 2^(d - 51), for n < 2^d, and the rest to a multiple of 2^(2 d - 103). So both sums are exact in any order. */
#define FD_HIGHEST_LEVEL 0x1p1001
typedef struct {
  const void *scores;           /* rows * n, of float32 or float64 */
  int is_double, drop;          /* drop: the result is 1 - the keep probability */
  int64_t rows, n;              /* n is at least 1 */
  double mean, floor;           /* floor <= mean */
  double *out;
  double coarse, fine;          /* set by the call: (a + coarse) - coarse rounds a to the coarse multiple */
} fd_level_call;

/* The elements of least magnitude of each column: `targets` of them, the first ones among equal magnitudes. NaN counts as infinite. */
enum { FD_TARGET_COLUMNS = 16 }; /* columns that are compared at a time */
typedef struct {
  const void *x;                /* rows * columns elements of dtype */
  int dtype;
  int64_t rows, columns;
  int64_t targets;              /* 1 .. rows */
  void *copies;                 /* room for fd_target_copies elements for each thread */
  uint8_t *spared;              /* the result: 0 for the targets, 1 for all others */
} fd_target_call;

/* Products of rows and matrices: y[j] = ((x[0] weight[0][j]) + x[1] weight[1][j]) + ..., each operation rounded. The caller rounds to
 * nearest. */
typedef struct {
  int is_double;
  int64_t rows, n, m;
  const void *x, *weight;       /* rows * n; a matrix of (n, m) per row */
  void *y;                      /* rows * m, apart from the operands */
} fd_product;
void fd_multiply_rows(const fd_product *call);

/* The instruction sets of this build, the weakest first. */
int fd_isa_count(void);
const fd_isa *fd_isa_at(int i);
const char *fd_isa_name(const fd_isa *isa);
int fd_isa_vector_bits(const fd_isa *isa);
/* Whether this CPU has the instruction set and the operating system saves its registers. */
int fd_isa_runs(const fd_isa *isa);

/* p in [0, 1] as a multiple of 2^-64, rounded to nearest even. */
fd_rate fd_rate_of(double p);
/* 1 / (1 - p) and 1 - p, computed in double and rounded once to the compute type of dtype; 0 if p is 1. */
double fd_inverted_scale(double p, int dtype);
double fd_standard_scale(double p, int dtype);
/* A factor, rounded once to the compute type of dtype. */
double fd_rounded_factor(double value, int dtype);

/* Merges the axes of an array that can be walked as one, in C order. */
void fd_layout_of(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize);

/* The index of the first rate outside [0, 1] in a flat array; n if there is none. */
int64_t fd_first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n);
/* Whether p is a number in [0, 1]. No comparison of floating-point numbers is made: it may trap for a NaN. */
int fd_is_rate(double p);

void fd_apply(const fd_isa *isa, const fd_call *call, int threads);

/* n keep bits: element i has bit i % 8 of byte i / 8. The bits after the last element are 0. */
void fd_mask_packed(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads);
/* n keep flags, one byte per element. */
void fd_mask_bytes(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads);

/* Maps in C order, one after the other: their sizes along one to three axes, and those of the blocks, which are not larger. */
typedef struct {
  int ndim;
  int64_t maps, sizes[3], block[3];
} fd_maps;

/* Keep bits of maps from which blocks are dropped. `seeds` has one keep bit for each place at which a block fits, map by map; where
 * it is 0, the block that begins there is dropped. `seeds` is overwritten. Both arrays consist of whole 64-bit words. */
void fd_drop_blocks(const fd_maps *maps, uint64_t *seeds, uint64_t *kept);
/* The number of ones among n packed bits from bit `first` on. `bits` consists of whole 64-bit words. */
int64_t fd_count_ones(const uint64_t *bits, int64_t first, int64_t n);

/* Transposes matrices of bits, one after the other. `from` is overwritten. Both arrays consist of whole 64-bit words. */
void fd_transpose_bits(uint64_t *from, int64_t matrices, int64_t rows, int64_t columns, uint64_t *to);
/* Sets all bits of the rows of n packed keep bits that have no one. `bits` consists of whole 64-bit words. */
void fd_keep_empty_rows(uint64_t *bits, int64_t rows, int64_t n);

/* Rows that are divided by the sums of their kept elements: y = keep ? x / total : 0, total = sum + epsilon. With `grad`, the gradient
 * with respect to x instead: y = keep ? (grad - d) / total : 0, where d is the sum of grad * (x / total) over the kept elements, or 0
 * if the sum counts as a constant. A sum adds the second half of a row to the first, which is one longer if their number is odd,
 * until one number is left. */
typedef struct {
  fd_bits bits;
  int dtype, is_constant;
  int64_t rows, n;
  double epsilon;               /* already rounded to the compute type */
  const void *x, *grad;         /* flat, of dtype; grad may be 0 */
  void *y;
  int64_t bypass_bytes;
} fd_rows;
void fd_divide_rows(const fd_isa *isa, const fd_rows *rows, int threads);

/* Sums along the middle axis of an array of (outer, n, inner), in the same order. With `product`, the elements of
 * each index of the outer axis, a map, are multiplied by their factor after their sums have been made. */
typedef struct {
  int x_dtype, dtype;           /* dtype: of the terms and the sums: the compute type of x_dtype, or FD_FLOAT64 */
  int64_t outer, n, inner;      /* at least 1 */
  const void *x, *other;        /* flat, of x_dtype; if `other` is not 0, the terms are x * other */
  void *y;                      /* outer * inner sums */
  const void *factors;          /* of the compute type of x_dtype, one per map */
  void *product;                /* flat, like x, and may be x or `other`; or 0 */
  int64_t bypass_bytes;
  void *room;                   /* fd_sum_room(n, 1) bytes, which make a single long sum faster; or 0 */
} fd_sum_call;
void fd_sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads);

/* The words first .. first + n - 1 of domain 0. */
void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads);

/* Uniforms in (0, 1), and normal numbers from u = (w + 1/2) 2^-32 in float32 and from fd_uniform's u in float64. */
void fd_uniform(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads);
void fd_normal(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads);

void fd_gate_backward(const fd_isa *isa, const fd_gate_call *call, int threads);

/* The bytes with which a thread makes sums of long runs of memory: of rows of columns, or of a single sum. 0 if it needs none. */
int64_t fd_sum_room(int64_t length, int64_t inner);
void fd_noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads);

void fd_function(const fd_isa *isa, const fd_function_call *call, int threads);

void fd_scale(const fd_isa *isa, const fd_scale_call *call, int threads);

/* How many of the 2^32 words draw each feature, for weights that are finite, >= 0 and not all 0. */
void fd_share_words(const double *weights, int64_t features, uint64_t *shares);
/* The rows that are processed at a time, and the size of a bucket of words; features must not be 0. */
int64_t fd_draw_rows(int64_t features);
int fd_draw_shift(int64_t features);
/* y = c > 0 ? x * (c 2^32 / (k shares)) : 0 for a feature that was drawn c times. */
void fd_multiply_draws(const fd_isa *isa, const fd_draw_call *call, const uint64_t *shares, int threads);

/* Whether all scores are finite and >= 0. */
int fd_are_scores(const fd_isa *isa, const void *scores, int is_double, int64_t n);
void fd_fill_levels(const fd_isa *isa, const fd_level_call *call, int threads);

/* The number of elements of the room in which a thread copies or sorts a block of columns. */
int64_t fd_target_copies(int64_t rows, int64_t columns);
void fd_find_others(const fd_isa *isa, const fd_target_call *call, int threads);

/* Asks the system for large pages for a new result before it is written. The content does not change. */
void fd_use_large_pages(void *data, int64_t bytes);

/* The seed that is derived from `seed` by `data`. */
uint64_t fd_fold_in(const fd_isa *isa, uint64_t seed, uint64_t data);

/* One Philox4x32-10 block, for known answers. */
void fd_philox(const fd_isa *isa, const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The compiler of this build, and its flags if the build system passed them. */
const char *fd_build(void);

/* The threads of this build: "openmp", or "posix" for a pool of its own. */
const char *fd_threading(void);

/* The calling thread's floating-point environment. fd_float_begin sets round-to-nearest, keeps subnormals, and returns the
 * previous environment; fd_float_end restores it. Every worker does this. Callers of the Python backends must do it for
 * them. */
uint64_t fd_float_begin(void);
void fd_float_end(uint64_t found);
/* 1 if the thread has the environment in which a program starts, long double included; 0 if not, or if that is not known. */
int fd_float_is_default(void);
/* For tests: makes the calling thread's environment hostile (flush to zero, round toward zero). */
uint64_t fd_float_spoil(void);

/* 1 if a kernel of this build computes a * b + c with one rounding; it must be 0. */
int fd_contracts(const fd_isa *isa);

#ifdef __cplusplus
}
#endif
#endif
