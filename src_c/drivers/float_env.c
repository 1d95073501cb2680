/* float_env.c: the floating-point environment of the calling thread.
 *
 * Flush-to-zero and the rounding mode are settings of each thread. Any library may have changed them: one that was linked with
 * -ffast-math, PyTorch's set_flush_denormal, or a caller's fesetround. Bits must not depend on them.
 */
#include "compiler.h"
#include "fastdrop.h"

#if defined(__x86_64__)
#include <xmmintrin.h>

/* MXCSR: flush-to-zero (15), rounding (13, 14), denormals-are-zero (6); exception masks (7..12). */
enum { SPOILED = 0xE040, MASK_ALL = 0x1F80 };

uint64_t fd_float_begin(void) {
  const uint32_t found = _mm_getcsr();
  if ((found & (SPOILED | MASK_ALL)) != MASK_ALL) _mm_setcsr((found & ~(uint32_t)SPOILED) | MASK_ALL);
  return found;
}
void fd_float_end(uint64_t found) {
  if ((_mm_getcsr() ^ (uint32_t)found) & (SPOILED | MASK_ALL)) _mm_setcsr((uint32_t)found);
}
int fd_float_is_default(void) {
  uint16_t control; /* of the x87 unit, which computes with long double */
  __asm__ volatile("fnstcw %0" : "=m"(control));
  return control == 0x037F && (_mm_getcsr() & (SPOILED | MASK_ALL)) == MASK_ALL;
}
uint64_t fd_float_spoil(void) {
  const uint32_t found = _mm_getcsr();
  _mm_setcsr(found | SPOILED);
  return found;
}

#elif defined(__aarch64__)
/* FPCR: flush-to-zero (24), rounding (22, 23), half-precision flush-to-zero (19); alternative half precision (26), traps
 * (8..12, 15) and, since Armv8.7, flush-to-zero of inputs, alternative handling, and results in other elements (0, 1, 2). */
enum { SPOILED = 0x01C80000, OTHERS = 0x04009F07 };

static uint64_t get_fpcr(void) {
  uint64_t value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
static void set_fpcr(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }

uint64_t fd_float_begin(void) {
  const uint64_t found = get_fpcr();
  if (found & (SPOILED | OTHERS)) set_fpcr(found & ~(uint64_t)(SPOILED | OTHERS));
  return found;
}
void fd_float_end(uint64_t found) {
  if ((get_fpcr() ^ found) & (SPOILED | OTHERS)) set_fpcr(found);
}
int fd_float_is_default(void) { return (get_fpcr() & (SPOILED | OTHERS)) == 0; }
uint64_t fd_float_spoil(void) {
  const uint64_t found = get_fpcr();
  set_fpcr(found | SPOILED);
  return found;
}

#else
#include <fenv.h>

/* On other machines C11 can set only the rounding mode. Flushing subnormals has no portable switch and is off by default. */
uint64_t fd_float_begin(void) {
  const int found = fegetround();
  if (found != FE_TONEAREST) fesetround(FE_TONEAREST);
  return (uint64_t)found;
}
void fd_float_end(uint64_t found) {
  if (fegetround() != (int)found) fesetround((int)found);
}
int fd_float_is_default(void) { return 0; } /* not known */
uint64_t fd_float_spoil(void) {
  const int found = fegetround();
#ifdef FE_TOWARDZERO
  fesetround(FE_TOWARDZERO);
#endif
  return (uint64_t)found;
}
#endif
