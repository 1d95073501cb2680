/* cpu.c: what this machine is, and what this build is of. The only file that asks the processor. */
#include "compiler.h"
#include "isa.h"

#if defined(FD_HAVE_AVX2) || defined(FD_HAVE_AVX512)
#include <cpuid.h>

enum { SAVES_YMM = 0x06, SAVES_ZMM = 0xE6 };

/* The register files that the operating system saves at a context switch (XCR0); 0 where it does not say. */
static uint32_t saved_registers(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return a;
}

static int cpu_has_f16c(void) {
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int cpu_has(uint32_t leaf7_ebx, uint32_t registers) {
  uint32_t a, b, c, d;
  if ((saved_registers() & registers) != registers) return 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & leaf7_ebx) == leaf7_ebx;
}
#endif

static const fd_isa *const built[] = {
    &fd_isa_portable,
#ifdef FD_HAVE_NEON
    &fd_isa_neon,
#endif
#ifdef FD_HAVE_AVX2
    &fd_isa_avx2,
#endif
#ifdef FD_HAVE_AVX512
    &fd_isa_avx512,
#endif
};

int fd_isa_count(void) { return (int)(sizeof built / sizeof built[0]); }
const fd_isa *fd_isa_at(int i) { return built[i]; }
const char *fd_isa_name(const fd_isa *isa) { return isa->name; }
int fd_isa_vector_bits(const fd_isa *isa) { return isa->vector_bits; }

int fd_isa_runs(const fd_isa *isa) {
#ifdef FD_HAVE_AVX2
  if (isa == &fd_isa_avx2) return cpu_has(bit_AVX2, SAVES_YMM) && cpu_has_f16c();
#endif
#ifdef FD_HAVE_AVX512
  if (isa == &fd_isa_avx512) return cpu_has(bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL, SAVES_ZMM);
#endif
  (void)isa;
  return 1; /* plain C, and NEON, which every AArch64 has */
}

#ifndef FD_FLAGS
#define FD_FLAGS ""
#endif

const char *fd_build(void) {
#if defined(__clang__)
  return "clang " __clang_version__ " " FD_FLAGS;
#elif defined(__GNUC__)
  return "gcc " FD_TEXT(__GNUC__) "." FD_TEXT(__GNUC_MINOR__) "." FD_TEXT(__GNUC_PATCHLEVEL__) " " FD_FLAGS;
#elif defined(_MSC_VER)
  return "MSVC " FD_TEXT(_MSC_VER) " " FD_FLAGS;
#else
  return "an unknown compiler " FD_FLAGS;
#endif
}
