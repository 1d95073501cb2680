/* words.c: the words of domain 0, the uniforms made of them, and the keys of domain 2. */
#include <string.h>

#include "drive.h"

enum { TILE_WORDS = 4 * FD_TILE_BLOCKS };

typedef struct {
  const fd_isa *isa;
  philox_call call;
  uint64_t first;
  void *out;
} words_job;

/* Words first .. first + n - 1, n <= TILE_WORDS. */
static void some_words(const words_job *job, uint64_t first, int64_t n, uint32_t *words) {
  uint64_t blocks[2 * (FD_TILE_BLOCKS + 1 + FD_BATCH_MAX)];
  const int64_t skip = (int64_t)(first % 4), count = (skip + n + 3) / 4;
  job->isa->blocks(&job->call, first / 4, (uint32_t)FD_DOMAIN_WORDS << 24, count, blocks);
  if (FD_BIG_ENDIAN)
    for (int64_t i = 0; i < n; i++) words[i] = (uint32_t)(blocks[(skip + i) / 2] >> (skip + i) % 2 * 32);
  else
    memcpy(words, (const char *)blocks + 4 * skip, (size_t)n * 4);
}

static void words_range(const void *work, int64_t begin, int64_t end) {
  const words_job *job = (const words_job *)work;
  uint32_t *out = (uint32_t *)job->out;
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(TILE_WORDS, end - i);
    some_words(job, job->first + (uint64_t)i, n, out + i);
  }
}

/* (2 (w >> 9) + 1) 2^-24: the middles of 2^23 equal parts of (0, 1), exact in float32. */
static void uniform32_range(const void *work, int64_t begin, int64_t end) {
  const words_job *job = (const words_job *)work;
  float *out = (float *)job->out;
  uint32_t words[TILE_WORDS];
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(TILE_WORDS, end - i);
    some_words(job, job->first + (uint64_t)i, n, words);
    for (int64_t k = 0; k < n; k++) out[i + k] = (float)(int32_t)(2 * (words[k] >> 9) + 1) * 0x1p-24f;
  }
}

/* (2 (v >> 12) + 1) 2^-53, v of two words: exact in float64. */
static void uniform64_range(const void *work, int64_t begin, int64_t end) {
  const words_job *job = (const words_job *)work;
  double *out = (double *)job->out;
  uint32_t words[TILE_WORDS];
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(TILE_WORDS / 2, end - i);
    some_words(job, 2 * (job->first + (uint64_t)i), 2 * n, words);
    for (int64_t k = 0; k < n; k++) {
      const uint64_t v = words[2 * k] | (uint64_t)words[2 * k + 1] << 32;
      out[i + k] = (double)(int64_t)(2 * (v >> 12) + 1) * 0x1p-53;
    }
  }
}

void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads) {
  const words_job job = {isa, fd_philox_call(key), first, out};
  fd_parallel(words_range, &job, n, threads);
}

void fd_uniform(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, int dtype, void *out, int threads) {
  const words_job job = {isa, fd_philox_call(key), first, out};
  fd_parallel(dtype == FD_FLOAT32 ? uniform32_range : uniform64_range, &job, n, threads);
}

uint64_t fd_fold_in(const fd_isa *isa, uint64_t seed, uint64_t data) {
  const philox_call call = fd_philox_call((fd_key){seed, data >> 48});
  uint64_t block[2 * FD_BATCH_MAX];
  isa->blocks(&call, data & 0xFFFFFFFFFFFF, (uint32_t)FD_DOMAIN_KEYS << 24, 1, block);
  return block[0];
}

void fd_philox(const fd_isa *isa, const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  const fd_key words = {key[0] | (uint64_t)key[1] << 32, counter[2] | (uint64_t)counter[3] << 32};
  const philox_call call = fd_philox_call(words);
  uint64_t block[2 * FD_BATCH_MAX];
  isa->blocks(&call, counter[0], counter[1], 1, block);
  for (int i = 0; i < 4; i++) out[i] = (uint32_t)(block[i / 2] >> i % 2 * 32);
}
