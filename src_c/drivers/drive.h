/* drive.h: declarations that the drivers share. They are not part of the public interface. */
#ifndef FASTDROP_DRIVE_H
#define FASTDROP_DRIVE_H

#include "isa/isa.h"

/* Processes the elements begin .. end - 1 of a job. */
typedef void range_work(const void *job, int64_t begin, int64_t end);

/* Splits n elements at multiples of a tile into one piece per thread. drive.c */
void fd_parallel(range_work *work, const void *job, int64_t n, int threads);

philox_call fd_philox_call(fd_key key);

/* Keep bits of any run of indices, aligned to bit 0. A run may begin and end inside a group. The last group is carried over to
 * the next run, so that a walk through memory generates no bit twice. window.c */
typedef struct {
  const fd_isa *isa;
  philox_call call;
  fd_rate rate;
  int plane; /* if not negative, fd_window_groups gives the digits of U of this plane instead of keep bits */
  uint64_t carried_group, carried[2];
  uint64_t bits[FD_TILE_WORDS + 2 * FD_BATCH_MAX];
} bit_window;

void fd_window_open(bit_window *window, const fd_isa *isa, fd_key key, fd_rate rate);
/* n <= FD_TILE bits; the bits after them, up to the next multiple of 64, are arbitrary. Valid until the next call. */
const uint64_t *fd_window_bits(bit_window *window, uint64_t index, int64_t n, const prefetch_run *ahead);
/* Writes whole groups directly to their destination, which has room for FD_BATCH_MAX more blocks. */
void fd_window_groups(const bit_window *window, uint64_t first_group, int64_t count, uint64_t *bits, const prefetch_run *ahead);

/* Copies n bits of `from`, beginning at bit `shift`, to bit `at` of `to`. The bits of `to` from `at` on must be 0. */
void fd_copy_bits(uint64_t *to, int64_t at, const uint64_t *from, int shift, int64_t n);

/* Changes the rate of the following bits. */
void fd_window_set_rate(bit_window *window, fd_rate rate);

/* Repeats bits: groups of `size` elements, 2 to FD_MOST_REPEATED, share one bit each. groups.c */
enum { FD_MOST_REPEATED = 32, FD_REPEAT_STEPS = 5 };
typedef struct {
  int64_t size, at_once;            /* at_once bits make one word */
  uint64_t masks[FD_REPEAT_STEPS];
} bit_repeat;
void fd_repeat_open(bit_repeat *repeat, int64_t size);
/* Writes each of the bits `shift`, shift + 1, ... of `from` `size` times, from bit `at` of `to` on. The bits there must be 0. */
void fd_repeat_bits(const bit_repeat *repeat, uint64_t *to, int64_t at, const uint64_t *from, int shift, int64_t groups);

/* Keep bits of the elements i, i + 1, ... of a call, from any source. Rates that are not contiguous, and probabilities of logits,
 * go through a buffer of FD_RATES_BUFFER bytes. source.c */
enum { FD_RATES_BUFFER = 4 * FD_TILE };
typedef struct {
  const fd_bits *from;
  int is_flat;                          /* element i has the bit of index first + i */
  int is_given;                         /* the caller's own bits or flags, one per element */
  int has_rate_runs;
  bit_repeat repeat;                    /* of the groups of neighbours that share a bit; of size 0 if there are none */
  bit_window window;
  uint64_t cached_first, cached_count;  /* the groups in `cache` */
  uint64_t cache[FD_TILE_WORDS + 2 * FD_BATCH_MAX];
  uint64_t bits[FD_TILE_WORDS + 2];
  int64_t tile_first, tile_n;           /* the current elements, for planes */
  const void *tile_rates;               /* their rates, or keep probabilities, if they have one each */
  int tile_rates_dtype;
  int antithetic;                       /* the mask of a gate that 1 - U gives */
  _Alignas(64) char rates[FD_RATES_BUFFER];
} bit_source;

void fd_source_open(bit_source *source, const fd_isa *isa, const fd_bits *from);
/* The most elements per step, a multiple of 8: a tile for one rate, fewer for one rate per element. Rates take the bits of a
 * tile plane by plane, in whole groups. A step is then one group shorter than a tile, so that a step that begins inside a group
 * does not need one more group than a tile has. */
int64_t fd_most_bits(const fd_bits *bits);
/* Rates of which at least this many neighbours are equal by layout are processed as runs of one rate, not element by element. */
enum { FD_LEAST_RATE_RUN = 192 };
int fd_has_rate_runs(const fd_bits *bits);
/* The rate of element i, and the number of elements from i on that share it. Only if there are runs of one rate. */
double fd_rate_at(const fd_bits *bits, int64_t i, int64_t *run);
/* n bits, n <= fd_most_bits. Valid until the next call. */
const uint64_t *fd_source_bits(bit_source *source, int64_t i, int64_t n, const prefetch_run *ahead);
/* The number (at least 1) of elements i, i + 1, ... that share one decision, and the decision. */
int64_t fd_source_run(bit_source *source, int64_t i, int *keep);

/* Copies the elements first .. first + n - 1 of an array, in C order, to a flat buffer and back. layout.c */
int fd_layout_is_flat(const fd_layout *layout, int64_t itemsize);
void fd_gather(char *flat, const char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize);
void fd_scatter(const char *flat, char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize);
/* Copies n items with any step on each side. */
void fd_copy_items(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t itemsize);

/* Where the elements first .. first + n - 1 begin in the array; 0 if they are not neighbours. */
char *fd_neighbours(fd_array array, int64_t first, int64_t n, int64_t itemsize);
/* Gathers elements to the buffer, or returns a pointer into the array if they are neighbours. */
const void *fd_flat_tile(fd_array array, int64_t first, int64_t n, int64_t itemsize, void *buffer);

/* The distance of an element from the first one, and the number of elements from it to the end of the innermost axis. */
int64_t fd_place(const fd_layout *layout, int64_t element, int64_t *left);

/* The position of a walk: the index on each axis, and the element's distance from the first element. */
typedef struct {
  int64_t index[FD_MAX_DIMS];
  int64_t at;
} fd_walk;
/* Walks begin where their caller keeps them: returning one would copy all of its indices. */
void fd_walk_to(fd_walk *walk, const fd_layout *layout, int64_t element);
/* Moves n steps along the innermost axis, or along another one; the steps must not go past its end. */
void fd_walk_on(fd_walk *walk, const fd_layout *layout, int64_t n);
void fd_walk_along(fd_walk *walk, const fd_layout *layout, int axis, int64_t n);

/* Moves bit c of word r to bit r of word c. transposed.c */
void fd_transpose(uint64_t words[64]);

/* A call whose arrays are contiguous along the axis `fast`, which is not the last one. transposed.c */
typedef struct {
  const fd_isa *isa;
  const fd_call *call;
  int64_t itemsize;
  int fast;
} fd_transposed;

/* The axis `fast`; -1 if there is none or if x and y have different shapes. */
int fd_transposed_axis(const fd_layout *x, const fd_layout *y);
void fd_apply_transposed(const fd_transposed *job, int threads);

/* The words first .. first + n - 1 of domain 0, n <= FD_MOST_WORDS. `blocks` has room for FD_WORD_BUFFER numbers. words.c */
enum { FD_MOST_WORDS = 1024, FD_WORD_BUFFER = 2 * (FD_MOST_WORDS / 4 + 1 + FD_BATCH_MAX) };
const fd_word *fd_some_words(const fd_isa *isa, const philox_call *call, uint64_t first, int64_t n, uint64_t *blocks);

/* The random numbers of the elements of a call. words.c */
typedef struct {
  const fd_isa *isa;
  philox_call call;
  const fd_numbers *from;
  fd_numbers_kernel *made; /* of words */
  int64_t words_each;      /* 1, or 2 of a float64 */
} fd_number_source;
fd_number_source fd_numbers_open(const fd_isa *isa, const fd_numbers *from, fd_numbers_kernel *const made[2], int dtype);
/* Those of elements i .. i + n - 1, of FD_MOST_WORDS words at most; `blocks` has room for FD_WORD_BUFFER. */
void fd_numbers_at(const fd_number_source *source, int64_t i, int64_t n, uint64_t *blocks, void *out);

/* Terms of sums in a fixed order, over the middle axis of arrays of (outer, length, inner) in C order; length is at least 1. `write`
 * writes n terms, from number `first` on, in the type of the sums. halving.c */
typedef void fd_write_terms(void *from, int64_t first, int64_t n, char *out);
/* Writes n sums (a + b) + (c + d) of four terms, from the numbers four[0] .. four[3] on. The next four begin `ahead` terms after these. */
typedef void fd_write_fours(void *from, const int64_t four[4], int64_t n, int64_t ahead, char *out);
typedef struct {
  const fd_isa *isa;
  fd_write_terms *write;
  void *from;
  int64_t length, inner;
  int is_double;
  fd_write_fours *write_fours; /* may be 0 */
  char *room;                  /* fd_sum_room(length, inner) bytes, for one thread; 0 if there are none */
} fd_halving;
/* Bytes of the terms of an index of the outer axis up to which those of the next index are near. */
enum { FD_NEAR = 65536 };
/* Asks for the elements of the sums after those of the elements i .. i + n - 1 of a flat array of (outer, length, inner). */
void fd_fetch_next(const void *array, int64_t itemsize, int64_t length, int64_t inner, int64_t i, int64_t n);
/* The same for n sums of four terms. `done` sums of the same index, which has `each` terms, come before them. */
void fd_fetch_next_fours(const void *array, int64_t itemsize, int64_t each, const int64_t four[4], int64_t done, int64_t n);
/* Writes the `inner` sums of the terms from number `first` on. */
void fd_halve(const fd_halving *terms, int64_t first, void *out);
/* Writes the sums of the columns that would begin among the terms begin .. end - 1 if each column were `length` neighbours. So threads
 * share the sums, and one of them writes each term once. `out` has all sums. */
void fd_halve_share(const fd_halving *terms, int64_t begin, int64_t end, char *out);

static inline int64_t fd_itemsize(int dtype) { return dtype == FD_FLOAT64 ? 8 : dtype == FD_FLOAT32 ? 4 : 2; }
static inline int64_t fd_min(int64_t a, int64_t b) { return a < b ? a : b; }
/* The number of elements before the first one that begins a cache line. */
static inline int64_t fd_lead(const void *from, int64_t itemsize) {
  const int64_t past = (int64_t)((uintptr_t)from % 64);
  return past ? (64 - past) / itemsize : 0;
}

#endif
