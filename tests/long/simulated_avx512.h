/* simulated_avx512.h: AVX-512 in registers of 256 bits, for processors without it. SIMDe (Debian: libsimde-dev) has nearly all of
 * the functions that isa/avx512.c calls; this file has those that SIMDe 0.7.4 lacks. tests/long/simulated.py uses it. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>

/* SIMDe looks at these macros too, so they are defined behind it. */
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1

#define INLINE_SIMULATED static inline __attribute__((always_inline))

typedef struct {
  __m256i low, high;
} simulated_m512i;

INLINE_SIMULATED simulated_m512i simulated_split(__m512i a) {
  simulated_m512i parts;
  __builtin_memcpy(&parts, &a, sizeof parts);
  return parts;
}
INLINE_SIMULATED __m512i simulated_join(__m256i low, __m256i high) {
  const simulated_m512i parts = {low, high};
  __m512i a;
  __builtin_memcpy(&a, &parts, sizeof a);
  return a;
}
INLINE_SIMULATED void simulated_stream(void *to, __m512i a) {
  _mm256_stream_si256((__m256i *)to, simulated_split(a).low);
  _mm256_stream_si256((__m256i *)to + 1, simulated_split(a).high);
}
INLINE_SIMULATED __m512i simulated_widen(__m256i a) {
  return simulated_join(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)));
}
INLINE_SIMULATED __m512 simulated_from_half(__m256i a) {
  const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(a)), high = _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1));
  return _mm512_castsi512_ps(simulated_join(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}
INLINE_SIMULATED __m256i simulated_to_half(__m512 a) {
  const simulated_m512i parts = simulated_split(_mm512_castps_si512(a));
  return _mm256_set_m128i(_mm256_cvtps_ph(_mm256_castsi256_ps(parts.high), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                          _mm256_cvtps_ph(_mm256_castsi256_ps(parts.low), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Some of these are macros of the compiler's header when it does not optimize. */
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_shuffle_epi32
#undef _mm512_stream_pd
#undef _mm512_stream_ps
#undef _mm512_stream_si512
#define _mm512_cvtepu16_epi32 simulated_widen
#define _mm512_cvtph_ps simulated_from_half
#define _mm512_cvtps_ph(a, rounding) simulated_to_half(a) /* isa/avx512.c has one rounding */
#define _mm512_shuffle_epi32(a, order) \
  simulated_join(_mm256_shuffle_epi32(simulated_split(a).low, order), _mm256_shuffle_epi32(simulated_split(a).high, order))
#define _mm512_stream_pd(to, a) simulated_stream(to, _mm512_castpd_si512(a))
#define _mm512_stream_ps(to, a) simulated_stream(to, _mm512_castps_si512(a))
#define _mm512_stream_si512 simulated_stream
