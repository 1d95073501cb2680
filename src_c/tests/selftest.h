/* selftest.h: what the files of the C self-test share. */
#ifndef FD_SELFTEST_H
#define FD_SELFTEST_H

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastdrop_simple.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* main.c: counts a check, and prints it if it failed. The numbers say which call it was. */
void check(int holds, const char *isa, const char *what, uint64_t first, int64_t n);

/* definition.c: what stream 1 and the library's sums are, one element at a time. */
enum { MOST = 5 * FD_TILE + 64, MOST_LAID = 70003 }; /* elements of the longest array; of the longest laid mask */

typedef struct { /* a mask of up to three axes: element (a, b, c) has the bit of first + a s0 + b s1 + c s2 */
  int64_t shape[3], steps[3];
} laid_mask;

void philox_block(uint64_t seed, uint64_t block, uint32_t plane_domain, uint64_t offset, uint32_t w[4]);
int is_kept(fd_key key, uint64_t rate, uint64_t i);
uint64_t fixed_of(double p);
int64_t size_of_mask(const laid_mask *mask);
uint64_t index_in(const laid_mask *mask, uint64_t first, int64_t i);
double halved_sum(double *values, int64_t n, int dtype);

/* arrays.c: arrays of any type, and calls on them. */
/* Bytes before and after an output that must stay 0xA5. Guarded outputs are aligned to 64 bytes, so that in every build the same
 * elements come before and after the whole registers. */
enum { GUARD = 64 };

int guards_hold(const unsigned char *buffer, size_t used);
int64_t itemsize_of(int dtype);
int compute_type(int dtype);
double element(const void *array, int dtype, int64_t i);
void set_element(void *array, int dtype, int64_t i, double value);
int same_element(const void *a, const void *b, int dtype, int64_t i);
double to_compute(double value, int dtype);
fd_layout line_of(int64_t n, int64_t stride, int64_t itemsize);
fd_bits bits_of(fd_key key, double p, uint64_t first);

/* The checks, each in the file of its name. Those of stream.c begin with the known answers at a path. */
void check_stream(const fd_isa *isa, const char *path);
void check_operations(const fd_isa *isa);
void check_sums(const fd_isa *isa);
void check_layouts(const fd_isa *isa);
void check_noise(const fd_isa *isa);
void check_selection(const fd_isa *isa);
void check_gate(const fd_isa *isa);
void check_blocks(void);
void check_simple(void);
void check_threads(void);

#endif
