/* simple.c: the interface for compiled code: checks, and the best instruction set of the machine. */
#include <fastdrop_simple.h>

#include "drivers/drive.h"

enum { ABI = 1, BYPASS_BYTES = 8 << 20 /* as in settings.py; it changes only the time */ };
static const uint64_t elements_end = UINT64_C(1) << 55;

int fd_abi(void) { return ABI; }

/* Asking the processor can take longer than a call on a small array. So the answer is kept. Every thread that asks finds the
 * same answer. */
static const fd_isa *best_isa(void) {
  static const fd_isa *kept;
  const fd_isa *best = __atomic_load_n(&kept, __ATOMIC_RELAXED);
  if (best) return best;
  for (int i = 0; i < fd_isa_count(); i++)
    if (fd_isa_runs(fd_isa_at(i))) best = fd_isa_at(i);
  __atomic_store_n(&kept, best, __ATOMIC_RELAXED);
  return best;
}

static int check_stream(int64_t n, double p, uint64_t start, int threads) {
  if (!fd_is_rate(p)) return FD_BAD_P;
  if (n < 0) return FD_BAD_N;
  if (start > elements_end || (uint64_t)n > elements_end - start) return FD_BAD_START;
  return threads < 1 ? FD_BAD_THREADS : FD_OK;
}

/* n is at most 2^55, so n * itemsize does not overflow. */
static int check_memory(const void *x, const void *y, int64_t n, int64_t itemsize) {
  const uintptr_t from = (uintptr_t)x, to = (uintptr_t)y, size = (uintptr_t)(n * itemsize);
  if (!n) return FD_OK;
  if (!x || !y) return FD_NO_MEMORY_GIVEN;
  if ((from | to) % (uintptr_t)itemsize) return FD_MISALIGNED;
  return from != to && from < to + size && to < from + size ? FD_OVERLAP : FD_OK;
}

/* The bits of n elements in a row, whose layout is stored in `row`. */
static fd_bits bits_of(fd_layout *row, int64_t n, double p, fd_key key, uint64_t start) {
  const int64_t step = 1;
  fd_layout_of(row, 1, &n, &step, step);
  return (fd_bits){.key = key, .rate = fd_rate_of(p), .first = start, .mask_layout = row};
}

int fd_drop(const void *x, void *y, int64_t n, int dtype, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads) {
  if (dtype < 0 || dtype >= FD_DTYPES) return FD_BAD_DTYPE;
  const int64_t itemsize = fd_itemsize(dtype);
  int error = check_stream(n, p, start, threads);
  if (!error) error = check_memory(x, y, n, itemsize);
  if (error || !n) return error;
  fd_layout elements, row;
  fd_layout_of(&elements, 1, &n, &itemsize, itemsize);
  fd_call call = {.bits = bits_of(&row, n, p, (fd_key){seed, offset}, start), .op = FD_SCALE, .dtype = dtype, .n = n};
  call.scale = fd_inverted_scale(p, dtype);
  call.x = (fd_array){(void *)(uintptr_t)x, &elements};
  call.y = (fd_array){y, &elements};
  call.bypass_bytes = BYPASS_BYTES;
  fd_apply(best_isa(), &call, threads);
  return FD_OK;
}

int fd_keep_bits(uint8_t *out, int64_t n, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads) {
  int error = check_stream(n, p, start, threads);
  if (!error && n && !out) error = FD_NO_MEMORY_GIVEN;
  if (error || !n) return error;
  fd_layout row;
  const fd_bits bits = bits_of(&row, n, p, (fd_key){seed, offset}, start);
  fd_mask_packed(best_isa(), &bits, n, out, threads);
  return FD_OK;
}

uint64_t fd_derive(uint64_t seed, uint64_t data) { return fd_fold_in(best_isa(), seed, data); }

const char *fd_error_text(int error) {
  static const char *const texts[FD_ERRORS] = {
      [FD_OK] = "no error",
      [FD_BAD_DTYPE] = "dtype must be FD_FLOAT32, FD_FLOAT64, FD_FLOAT16 or FD_BFLOAT16",
      [FD_BAD_P] = "p must be in [0, 1], the probability of dropping",
      [FD_BAD_N] = "n must be >= 0",
      [FD_BAD_START] = "start + n must be at most 2**55, the number of elements of a stream",
      [FD_BAD_THREADS] = "threads must be at least 1",
      [FD_NO_MEMORY_GIVEN] = "the addresses of arrays with elements must not be 0",
      [FD_MISALIGNED] = "x and y must be aligned to their elements",
      [FD_OVERLAP] = "y must be x, or must not overlap it",
  };
  return error < 0 || error >= FD_ERRORS ? "there is no such error number" : texts[error];
}
