/* compiler.h: what the kernels ask of the compiler beyond C11. */
#ifndef FASTDROP_COMPILER_H
#define FASTDROP_COMPILER_H

#define FD_TEXT_(a) #a
#define FD_TEXT(a) FD_TEXT_(a)

#if defined(__clang__)
#define UNROLL(n) _Pragma(FD_TEXT(unroll n))
#elif defined(__GNUC__)
#define UNROLL(n) _Pragma(FD_TEXT(GCC unroll n))
#else
#define UNROLL(n)
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define NOINLINE __declspec(noinline)
#else
#define NOINLINE __attribute__((noinline))
#endif

/* Keeps gcc's scheduler from undoing an interleaving that the source has by design. */
#if defined(__GNUC__)
#define KEEP_ORDER() __asm__ volatile("" :::)
#else
#define KEEP_ORDER() ((void)0)
#endif

#endif
