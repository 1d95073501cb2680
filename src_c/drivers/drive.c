/* drive.c: divides a call into pieces, which threads process.
 *
 * Each piece is one run of whole tiles, so that its prefetches and stores walk forward through memory. A bit depends only on its
 * index, so the number of pieces changes nothing. Each piece is processed in the floating-point environment that the guarantee
 * requires, and the thread's previous one is restored.
 */
#include "drivers/drive.h"

#include "drivers/workers.h"

typedef struct {
  range_work *work;
  const void *job;
  int64_t n, share; /* elements of the job, and of each of its pieces but the last ones */
} division;

static void run_range(range_work *work, const void *job, int64_t begin, int64_t end) {
  const uint64_t found = fd_float_begin();
  work(job, begin, end);
  fd_float_end(found);
}

static void run_piece(const void *of, int piece) {
  const division *call = (const division *)of;
  const int64_t begin = fd_min(call->n, piece * call->share), end = fd_min(call->n, begin + call->share);
  if (begin < end) run_range(call->work, call->job, begin, end);
}

void fd_parallel(range_work *work, const void *job, int64_t n, int threads) {
  const int64_t tiles = (n + FD_TILE - 1) / FD_TILE;
  const int pieces = fd_usable_workers((int)fd_min(tiles, threads));
  if (pieces <= 1) {
    run_range(work, job, 0, n);
    return;
  }
  const division call = {work, job, n, (tiles + pieces - 1) / pieces * FD_TILE};
  fd_run_pieces(run_piece, &call, pieces);
}
