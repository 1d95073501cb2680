/* fastdrop_simple.h: dropout of flat arrays with checks, for compiled code of all kinds.
 *
 * The bits and the bytes are those of the Python function fastdrop.dropout; docs/stream.md defines them. The functions use the
 * best instruction set of the machine. They may be called from many threads at once. In a build with OpenMP, a
 * child after a fork works on one thread, whatever `threads` is, because OpenMP's threads do not survive a fork.
 */
#ifndef FASTDROP_SIMPLE_H
#define FASTDROP_SIMPLE_H

#include "fastdrop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The results of fd_drop and fd_keep_bits. After an error nothing has been written. */
enum {
  FD_OK = 0,
  FD_BAD_DTYPE = 1,
  FD_BAD_P = 2,
  FD_BAD_N = 3,
  FD_BAD_START = 4,
  FD_BAD_THREADS = 5,
  FD_NO_MEMORY_GIVEN = 6,
  FD_MISALIGNED = 7,
  FD_OVERLAP = 8,
  FD_ERRORS = 9
};

/* The version of this interface: 1. It changes when a function of this header changes. */
int fd_abi(void);

/* y[i] = element start + i is kept ? x[i] / (1 - p) : 0. dtype is FD_FLOAT32, ...; p is the probability of dropping, in [0, 1];
 * (seed, offset) is the key; start is the index of the first element in a larger array; threads is the largest number of
 * threads, at least 1. y is x, or does not overlap it. */
int fd_drop(const void *x, void *y, int64_t n, int dtype, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads);

/* The keep bits of these n elements: element start + i has bit i % 8 of out[i / 8]; the bits after the last element are 0. */
int fd_keep_bits(uint8_t *out, int64_t n, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads);

/* The seed that is derived from `seed` by a number: fastdrop.fold_in. */
uint64_t fd_derive(uint64_t seed, uint64_t data);

/* A sentence that says which values are allowed. */
const char *fd_error_text(int error);

#ifdef __cplusplus
}
#endif
#endif
