/* window.c: keep bits of any run of indices, from kernels that make whole groups of 128 bits. */
#include <string.h>

#include "drivers/drive.h"

philox_call fd_philox_call(fd_key key) {
  philox_call call;
  uint32_t key0 = (uint32_t)key.seed, key1 = (uint32_t)(key.seed >> 32);
  for (int round = 0; round < 10; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
    call.key0[round] = key0;
    call.key1[round] = key1;
  }
  call.offset_low = (uint32_t)key.offset;
  call.offset_high = key.offset >> 32;
  return call;
}

void fd_window_open(bit_window *window, const fd_isa *isa, fd_key key, fd_rate rate) {
  window->isa = isa;
  window->call = fd_philox_call(key);
  window->rate = rate;
  window->plane = -1;
  window->carried_group = UINT64_MAX; /* no such group */
}

void fd_window_set_rate(bit_window *window, fd_rate rate) {
  window->rate = rate;
  window->carried_group = UINT64_MAX;
}

void fd_window_groups(const bit_window *window, uint64_t first_group, int64_t count, uint64_t *bits,
                      const prefetch_run *ahead) {
  const int certain = window->rate.all || window->rate.fixed == 0;
  if (window->plane >= 0)
    window->isa->blocks(&window->call, first_group, (uint32_t)window->plane << 16 | (uint32_t)FD_DOMAIN_PLANES << 24, count,
                        bits);
  else if (certain)
    memset(bits, window->rate.all ? 0 : 0xFF, (size_t)count * FD_GROUP / 8);
  else
    window->isa->keep_bits(&window->call, window->rate.fixed, first_group, count, bits, ahead);
}

/* Sets bits[k] to the 64 bits from bit 64 * k + shift on, 0 < shift < 64, in place. */
static void shift_down(uint64_t *bits, int64_t words, int shift) {
  for (int64_t k = 0; k < words; k++) bits[k] = bits[k] >> shift | bits[k + 1] << (64 - shift);
}

const uint64_t *fd_window_bits(bit_window *window, uint64_t index, int64_t n, const prefetch_run *ahead) {
  const uint64_t first = index / FD_GROUP, last = (index + (uint64_t)n - 1) / FD_GROUP;
  const int shift = (int)(index % FD_GROUP), carried = first == window->carried_group;
  uint64_t *bits = window->bits;
  if (carried) memcpy(bits, window->carried, sizeof window->carried);
  const int64_t count = (int64_t)(last - first) + 1;
  if (count > carried) fd_window_groups(window, first + (uint64_t)carried, count - carried, bits + 2 * carried, ahead);
  window->carried_group = last;
  memcpy(window->carried, bits + 2 * (count - 1), sizeof window->carried);
  bits += shift / 64;
  if (shift % 64) shift_down(bits, (n + 63) / 64, shift % 64);
  return bits;
}

void fd_copy_bits(uint64_t *to, int64_t at, const uint64_t *from, int shift, int64_t n) {
  const int up = (int)(at % 64);
  to += at / 64;
  for (int64_t k = 0; n > 0; k++, n -= 64) {
    uint64_t bits = from[k] >> shift;
    if (shift && n > 64 - shift) bits |= from[k + 1] << (64 - shift);
    if (n < 64) bits &= ~(uint64_t)0 >> (64 - n);
    to[k] |= bits << up;
    if (up && n > 64 - up) to[k + 1] |= bits >> (64 - up);
  }
}
