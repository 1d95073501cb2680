/* fastdrop.h: the whole C surface of fastdrop.
 *
 * Plain C11; no Python.h, no NumPy, no mutable globals: the instruction set and the number of threads travel in each
 * call, so that calls from many threads cannot meet. Nothing here validates: the caller has checked every argument, and says how many
 * threads a call is worth.
 * What each random bit is stands in docs/stream.md.
 */
#ifndef FASTDROP_H
#define FASTDROP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FD_STREAM = 1,         /* the rule that turns (seed, offset, index, rate) into bits */
  FD_TILE = 4096,        /* elements whose bits are made, then applied, while both stay in L1 */
  FD_NOISE_TILE = 1024,  /* elements whose noise is made, then applied; each tile has a sum of its own */
  FD_GROUP = 128,        /* elements to a Philox block: one bit of a plane each */
  FD_MAX_DIMS = 64       /* as many as NumPy has */
};

/* What the counter is used for: bits 24..31 of its second word. */
enum { FD_DOMAIN_WORDS = 0, FD_DOMAIN_PLANES = 1, FD_DOMAIN_KEYS = 2 };

/* Element types of the arrays that dropout is applied to. The 16-bit ones are computed with in float32. */
enum { FD_FLOAT32 = 0, FD_FLOAT64 = 1, FD_FLOAT16 = 2, FD_BFLOAT16 = 3, FD_DTYPES = 4 };

/* What is done with an element that is kept, and with one that is dropped. The first is a base that flags are added to:
 * y = residual + (keep ? (x + bias) * scale : 0). */
enum {
  FD_SCALE = 0,
  FD_WITH_BIAS = 1,     /* operand `bias` */
  FD_WITH_RATES = 2,    /* the scale is 1 / (1 - rate), each element's own */
  FD_WITH_RESIDUAL = 4, /* operand `other` */
  FD_AFFINE = 8,        /* keep ? x * scale + shift : fill */
  FD_SELECT = 9,        /* keep ? x : other */
  FD_SIGNED = 10,       /* keep ? x * scale + sgn(x) shift : -sgn(x) fill; of 0 and NaN: keep ? x * scale : 0 */
  FD_MASKED_OPS = 11,   /* those above take keep bits; what follows is what noise does */
  FD_MULTIPLY = 11,     /* x * factor */
  FD_ADD = 12,          /* x + factor */
  FD_STRETCH = 13,      /* x * (1 + scale * factor) */
  FD_OPS = 14
};

/* Continuous noise. z is a normal number of each element, u a uniform one in (0, 1); letters are parameters, in order. Where
 * sums are asked for, `other` holds the values whose gradients x are, and the sums are of x * other * slope. The two last have no
 * slope, and their `other` is of the type that is computed with: float32, or float64 where dtype is. */
enum {
  FD_GAUSSIAN = 0,     /* y = x * (1 + a z); slope z */
  FD_ADDITIVE = 1,     /* y = x + a z */
  FD_SPREAD = 2,       /* y = x + sqrt(other + a) z */
  FD_SPREAD_SLOPE = 3, /* y = x * z / (2 sqrt(other + a)) */
  FD_CONCRETE = 4,     /* y = x * (1 - s) d, s = 1 / (1 + r^c), r = a (1 - u + b) / (u + b); slope (1 - s) d^2 - s (1 - s) d e */
  FD_UNIFORM = 5,      /* y = x * (1 + a (2 u - 1)); slope 2 u - 1 */
  FD_SCALED = 6,       /* y = x * (1 + other z) */
  FD_FACTORS = 7,      /* y = x * other: no number is drawn */
  FD_NOISES = 8
};

/* Elementary functions. */
enum { FD_EXP = 0, FD_LOG = 1, FD_SIGMOID = 2, FD_LOGIT = 3, FD_SOFTPLUS = 4, FD_FUNCTIONS = 5 };

/* One instruction set's kernels. */
typedef struct fd_isa fd_isa;

/* Which stream of numbers: the Philox key, and the call (step, pass) under it. */
typedef struct {
  uint64_t seed, offset;
} fd_key;

/* A rate p as an integer number of 2^-64. 1 itself does not fit: it is `all`. */
typedef struct {
  uint64_t fixed;
  int all;
} fd_rate;

/* How the elements of an array lie in memory, in C order of their indices; strides in bytes. Neighbouring axes that
 * can be walked as one have been merged: a contiguous array has one axis. */
typedef struct {
  int ndim;
  int64_t shape[FD_MAX_DIMS], strides[FD_MAX_DIMS];
} fd_layout;

/* An array that a call works on; data is 0 where it has none. */
typedef struct {
  void *data;
  const fd_layout *layout;
} fd_array;

/* Where the keep bits come from. Element i of the arrays has the bit of index first + (what mask_layout gives for i):
 * its strides are in elements of the mask, 0 along an axis that shares one decision. */
typedef struct {
  fd_key key;
  fd_rate rate;                 /* of all elements, unless rates.data */
  fd_array rates;               /* one an element, of rates_dtype FD_FLOAT32 or FD_FLOAT64, in [0, 1] */
  int rates_dtype;
  uint64_t first;
  const fd_layout *mask_layout;
  const uint8_t *packed;        /* the caller's own keep bits instead, one an element */
  fd_array flags;               /* or the caller's own keep flags, a byte an element */
} fd_bits;

/* One call on n elements. */
typedef struct {
  fd_bits bits;
  int op, dtype;
  double scale, shift, fill;    /* already rounded to the compute type; not a NaN with a payload of its own */
  int64_t n;
  fd_array x, y, other, bias;   /* of dtype */
  int64_t bypass_bytes;         /* an output of at least this size is written past the caches */
} fd_call;

/* Which random numbers the elements of an array have: element i that of index first + (what layout gives for i). The layout's
 * strides are in numbers; 0 stands for C order. Number i is made of word i, or in float64 of words 2 i and 2 i + 1. */
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
  fd_array x, y, other;         /* of dtype; `other` of FD_SCALED and FD_FACTORS as said there */
  double *sums;                 /* one for each FD_NOISE_TILE elements in C order, or 0 */
  int64_t bypass_bytes;
} fd_noise_call;

/* The instruction sets of this build, the weakest first. */
int fd_isa_count(void);
const fd_isa *fd_isa_at(int i);
const char *fd_isa_name(const fd_isa *isa);
int fd_isa_vector_bits(const fd_isa *isa);
/* Whether this CPU has it and the operating system saves its registers. */
int fd_isa_runs(const fd_isa *isa);

/* p in [0, 1] as an integer number of 2^-64, rounded to nearest even. */
fd_rate fd_rate_of(double p);
/* 1 / (1 - p) and 1 - p, computed in double, rounded once to the compute type of dtype; 0 where p is 1. */
double fd_inverted_scale(double p, int dtype);
double fd_standard_scale(double p, int dtype);

/* Merges the axes of an array that can be walked as one, in C order. */
void fd_layout_of(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize);

/* Index of the first rate that is not in [0, 1], in memory order of a flat array; n where all are. */
int64_t fd_first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n);

void fd_apply(const fd_isa *isa, const fd_call *call, int threads);

/* n keep bits, bit i of byte i / 8 (little-endian); bits past the last element are 0. */
void fd_mask_packed(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads);
/* n keep flags, a byte each. */
void fd_mask_bytes(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads);

/* Words first .. first + n - 1 of domain 0. */
void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads);

/* Uniforms in (0, 1); and normal numbers, of u = (w + 1/2) 2^-32 in float32, and of fd_uniform's u in float64. */
void fd_uniform(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads);
void fd_normal(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads);

void fd_noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads);

/* y = f(x) of float32 or float64; y may be x. */
void fd_function(const fd_isa *isa, int function, int dtype, const void *x, void *y, int64_t n, int threads);

/* The seed that `data` derives from `seed`. */
uint64_t fd_fold_in(const fd_isa *isa, uint64_t seed, uint64_t data);

/* One Philox4x32-10 block, for known answers. */
void fd_philox(const fd_isa *isa, const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The compiler of this build, and its flags where the build system told them. */
const char *fd_build(void);

/* Whether the library was built with OpenMP. */
int fd_has_openmp(void);

/* The calling thread's floating-point environment. fd_float_begin sets round-to-nearest with subnormals on and returns
 * what it found; fd_float_end puts that back. Every worker does this; backends in Python need it from their caller. */
uint64_t fd_float_begin(void);
void fd_float_end(uint64_t found);
/* For tests: makes the calling thread's environment hostile (flush to zero, round toward zero). */
uint64_t fd_float_spoil(void);

/* 1 if a * b + c is computed with one rounding in a kernel of this build: must be 0. */
int fd_contracts(const fd_isa *isa);

#ifdef __cplusplus
}
#endif
#endif
