/* drive.c: distributes tiles to threads. This is the only file that uses OpenMP.
 *
 * Each worker processes one run of whole tiles, so that its prefetches and stores walk forward through memory. A bit depends
 * only on its index, so the number of workers changes nothing. Every worker sets the floating-point environment that the
 * guarantee requires, and restores the previous one.
 */
#include "drivers/drive.h"

#ifdef _OPENMP
#include <omp.h>
#endif

int fd_has_openmp(void) {
#ifdef _OPENMP
  return 1;
#else
  return 0;
#endif
}

static void run_piece(range_work *work, const void *job, int64_t begin, int64_t end) {
  const uint64_t found = fd_float_begin();
  work(job, begin, end);
  fd_float_end(found);
}

void fd_parallel(range_work *work, const void *job, int64_t n, int threads) {
  const int64_t tiles = (n + FD_TILE - 1) / FD_TILE;
  const int pieces = fd_has_openmp() ? (int)fd_min(tiles, threads) : 1;
  if (pieces <= 1) {
    run_piece(work, job, 0, n);
    return;
  }
  const int64_t share = (tiles + pieces - 1) / pieces * FD_TILE;
#ifdef _OPENMP
#pragma omp parallel for num_threads(pieces) schedule(static)
#endif
  for (int piece = 0; piece < pieces; piece++) {
    const int64_t begin = fd_min(n, piece * share), end = fd_min(n, begin + share);
    if (begin < end) run_piece(work, job, begin, end);
  }
}
