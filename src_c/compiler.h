/* compiler.h: compiler extensions that the library uses, and compiler settings that it refuses. */
#ifndef FASTDROP_COMPILER_H
#define FASTDROP_COMPILER_H

#ifndef __GNUC__
#error "fastdrop needs gcc or clang"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "fastdrop promises bits: build it without -ffast-math, -ffinite-math-only and -Ofast"
#endif
#if !defined(__FLT_EVAL_METHOD__) || __FLT_EVAL_METHOD__ != 0
#error "fastdrop needs float arithmetic in float precision: on 32-bit x86 build with -msse2 -mfpmath=sse"
#endif

#define FD_TEXT_(a) #a
#define FD_TEXT(a) FD_TEXT_(a)
#define FD_JOIN_(a, b) a##b
#define FD_JOIN(a, b) FD_JOIN_(a, b)

/* INDEPENDENT comes before a loop over arrays that are the same or apart. Without it, a compiler adds tests for arrays that overlap, and a
 * second loop for them. Never put it before a sum of floating-point numbers: clang would change the order of the additions. */
#if defined(__clang__)
#define UNROLL(n) _Pragma(FD_TEXT(unroll n))
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define UNROLL(n) _Pragma(FD_TEXT(GCC unroll n))
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define NOINLINE __attribute__((noinline))

/* Tells the processor that the thread waits in a loop. */
#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* Keeps gcc's scheduler from undoing an interleaving that the source has on purpose. */
#define KEEP_ORDER() __asm__ volatile("" :::)

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { FD_BIG_ENDIAN = 1 };
#else
enum { FD_BIG_ENDIAN = 0 };
#endif

#endif
