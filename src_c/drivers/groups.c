/* groups.c: repeats the bit of a group for each of its elements.
 *
 * A word of results comes from a few bits. They are moved apart in steps that halve: each step moves the upper half of every run
 * of bits up, as in Warren, Hacker's Delight, 7-2, but to distances of any size. Then a multiplication by 2^size - 1 repeats each
 * bit; its terms do not overlap.
 */
#include "drivers/drive.h"

void fd_repeat_open(bit_repeat *repeat, int64_t size) {
  repeat->size = size;
  repeat->at_once = 64 / size;
  for (int step = 0; step < FD_REPEAT_STEPS; step++) {
    const int64_t run = INT64_C(1) << step;
    repeat->masks[step] = 0;
    for (int64_t bit = 0; bit < repeat->at_once; bit++) /* runs of `run` bits; each begins at its first bit's group */
      repeat->masks[step] |= UINT64_C(1) << (bit / run * run * size + bit % run);
  }
}

/* Moves bit k of the lowest at_once bits to bit k * size. */
static uint64_t apart(const bit_repeat *repeat, uint64_t bits) {
  for (int step = FD_REPEAT_STEPS - 1; step >= 0; step--) {
    const int64_t run = INT64_C(1) << step;
    if (run < repeat->at_once) bits = (bits | bits << (run * (repeat->size - 1))) & repeat->masks[step];
  }
  return bits;
}

void fd_repeat_bits(const bit_repeat *repeat, uint64_t *to, int64_t at, const uint64_t *from, int shift, int64_t groups) {
  const uint64_t each = (UINT64_C(1) << repeat->size) - 1;
  for (int64_t some; groups > 0; groups -= some, at += some * repeat->size, shift += (int)some) {
    some = fd_min(groups, repeat->at_once);
    uint64_t bits = from[shift / 64] >> (shift % 64);
    if (shift % 64 + some > 64) bits |= from[shift / 64 + 1] << (64 - shift % 64);
    bits = apart(repeat, bits & (~UINT64_C(0) >> (64 - some))) * each;
    fd_copy_bits(to, at, &bits, 0, some * repeat->size);
  }
}
