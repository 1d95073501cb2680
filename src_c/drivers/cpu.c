/* cpu.c: the features of this processor and the contents of this build. This is the only file that queries the processor. */
#include "isa/isa.h"

#ifdef __x86_64__
#include <cpuid.h>

/* Bits of XCR0 for the register files. */
enum { YMM = 0x06, ZMM = 0xE6 };

INLINE int has_leaf1_ecx(uint32_t bits) {
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bits) == bits;
}

INLINE int has_leaf7_ebx(uint32_t bits) {
  uint32_t a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bits) == bits;
}

/* Whether the operating system saves these registers at a context switch. One that does not say so does not. */
INLINE int saves(uint32_t registers) {
  uint32_t low, high;
  if (!has_leaf1_ecx(bit_OSXSAVE)) return 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & registers) == registers;
}
#endif

static const fd_isa *const built[] = {
#define FD_ISA(name, machine, has, flags) FD_IF_BUILT(name, &fd_isa_##name, )
#include "isa/list.h"
#undef FD_ISA
};

int fd_isa_count(void) { return (int)(sizeof built / sizeof built[0]); }
const fd_isa *fd_isa_at(int i) { return built[i]; }
const char *fd_isa_name(const fd_isa *isa) { return isa->name; }
int fd_isa_vector_bits(const fd_isa *isa) { return isa->vector_bits; }

int fd_isa_runs(const fd_isa *isa) {
#define FD_ISA(name, machine, has, flags) FD_IF_BUILT(name, if (isa == &fd_isa_##name) return has;)
#include "isa/list.h"
#undef FD_ISA
  return 0;
}

#ifndef FD_FLAGS
#define FD_FLAGS ""
#endif

const char *fd_build(void) {
#if defined(__clang__)
  return "clang " __clang_version__ " " FD_FLAGS;
#else
  return "gcc " FD_TEXT(__GNUC__) "." FD_TEXT(__GNUC_MINOR__) "." FD_TEXT(__GNUC_PATCHLEVEL__) " " FD_FLAGS;
#endif
}
