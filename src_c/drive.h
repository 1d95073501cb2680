/* drive.h: what the drivers share; not part of the public surface. */
#ifndef FASTDROP_DRIVE_H
#define FASTDROP_DRIVE_H

#include "isa.h"

/* Work on the elements begin .. end - 1 of a job. */
typedef void range_work(const void *job, int64_t begin, int64_t end);

/* Cuts n elements at multiples of a tile into a piece a thread. drive.c */
void fd_parallel(range_work *work, const void *job, int64_t n, int threads);

philox_call fd_philox_call(fd_key key);

/* Keep bits of any run of indices, aligned to bit 0. A run that begins inside a group ends in one too: that last group
 * is carried over to the next run, so that a walk through memory makes no bit twice. window.c */
typedef struct {
  const fd_isa *isa;
  philox_call call;
  fd_rate rate;
  uint64_t carried_group, carried[2];
  uint64_t bits[FD_TILE_WORDS + 2 * FD_BATCH_MAX];
} bit_window;

void fd_window_open(bit_window *window, const fd_isa *isa, fd_key key, fd_rate rate);
/* n <= FD_TILE bits; past them, up to the next multiple of 64, anything. Valid until the next call. */
const uint64_t *fd_window_bits(bit_window *window, uint64_t index, int64_t n, const char *ahead);
/* Whole groups straight to their destination, which has room for FD_BATCH_MAX blocks more. */
void fd_window_groups(const bit_window *window, uint64_t first_group, int64_t count, uint64_t *bits, const char *ahead);

/* Elements first .. first + n - 1 of an array, in C order, to a flat buffer and back. layout.c */
int fd_layout_is_flat(const fd_layout *layout, int64_t itemsize);
void fd_gather(char *flat, const char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize);
void fd_scatter(const char *flat, char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize);

static inline int64_t fd_min(int64_t a, int64_t b) { return a < b ? a : b; }

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { FD_BIG_ENDIAN = 1 };
#else
enum { FD_BIG_ENDIAN = 0 };
#endif

#endif
