/* mask.c: writes the keep bits themselves, packed or one byte per element. */
#include <string.h>

#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_bits *bits;
  uint8_t *out;
} mask_job;

/* Stores n bits of little-endian 64-bit words as bytes, and clears the bits after them in the last byte. */
static void store_bits(uint8_t *out, const uint64_t *bits, int64_t n) {
  const int64_t bytes = (n + 7) / 8;
  if (FD_BIG_ENDIAN)
    for (int64_t k = 0; k < bytes; k++) out[k] = (uint8_t)(bits[k / 8] >> (8 * (k % 8)));
  else
    memcpy(out, bits, (size_t)bytes);
  if (n % 8) out[bytes - 1] &= (uint8_t)((1 << n % 8) - 1);
}

/* Each piece begins at a multiple of a tile, so no two pieces write to the same byte. */
static void packed_range(const void *work, int64_t begin, int64_t end) {
  const mask_job *job = (const mask_job *)work;
  bit_source source;
  fd_source_open(&source, job->isa, job->bits);
  const int in_place = !FD_BIG_ENDIAN && source.is_flat && !job->bits->rates.data && job->bits->first % FD_GROUP == 0 &&
                       (uintptr_t)job->out % 8 == 0;
  const int64_t most = fd_most_bits(job->bits);
  const int64_t whole = in_place ? (end - begin) / FD_TILE : 0; /* tiles that are made directly in the result */
  if (whole)
    fd_window_groups(&source.window, (job->bits->first + (uint64_t)begin) / FD_GROUP, whole * FD_TILE_BLOCKS,
                     (uint64_t *)(void *)(job->out + begin / 8), 0);
  for (int64_t i = begin + whole * FD_TILE, n; i < end; i += n) {
    n = fd_min(most, end - i);
    store_bits(job->out + i / 8, fd_source_bits(&source, i, n, 0), n);
  }
}

/* Converts eight bits to eight bytes of 0 or 1. Each byte of a word gets all eight bits and masks its own. A carry into the top
 * bit of the byte then gives the 1. */
static uint64_t spread(uint64_t byte) {
  const uint64_t own = (byte * 0x0101010101010101u) & 0x8040201008040201u;
  return ((own + 0x7F7F7F7F7F7F7F7Fu) >> 7) & 0x0101010101010101u;
}

static void bytes_range(const void *work, int64_t begin, int64_t end) {
  const mask_job *job = (const mask_job *)work;
  bit_source source;
  fd_source_open(&source, job->isa, job->bits);
  const int64_t most = fd_most_bits(job->bits);
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(most, end - i);
    const uint64_t *bits = fd_source_bits(&source, i, n, 0);
    uint8_t *out = job->out + i;
    int64_t k = 0;
    for (; !FD_BIG_ENDIAN && k + 8 <= n; k += 8) {
      const uint64_t eight = spread(bits[k / 64] >> (k % 64) & 0xFF);
      memcpy(out + k, &eight, 8);
    }
    for (; k < n; k++) out[k] = bits[k / 64] >> (k % 64) & 1;
  }
}

void fd_mask_packed(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads) {
  const mask_job job = {isa, bits, out};
  fd_parallel(packed_range, &job, n, threads);
}

void fd_mask_bytes(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads) {
  const mask_job job = {isa, bits, out};
  fd_parallel(bytes_range, &job, n, threads);
}
