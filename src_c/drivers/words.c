/* words.c: the words of domain 0, the numbers made from them, and the keys of domain 2. */
#include <string.h>

#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  philox_call call;
  uint64_t first;
  void *out;
  fd_numbers_kernel *numbers; /* converts words to numbers; 0 to store the words */
  int words_each;
  int64_t itemsize;
} words_job;

const fd_word *fd_some_words(const fd_isa *isa, const philox_call *call, uint64_t first, int64_t n, uint64_t *blocks) {
  const int64_t skip = (int64_t)(first % 4), count = (skip + n + 3) / 4;
  isa->blocks(call, first / 4, (uint32_t)FD_DOMAIN_WORDS << 24, count, blocks);
  if (FD_BIG_ENDIAN)
    for (int64_t k = 0; k < 2 * count; k++) blocks[k] = blocks[k] << 32 | blocks[k] >> 32;
  return (const fd_word *)blocks + skip;
}

static void words_range(const void *work, int64_t begin, int64_t end) {
  const words_job *job = (const words_job *)work;
  uint64_t blocks[FD_WORD_BUFFER];
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(FD_MOST_WORDS / job->words_each, end - i);
    char *out = (char *)job->out + i * job->itemsize;
    const uint64_t first = (uint64_t)job->words_each * (job->first + (uint64_t)i);
    const fd_word *words = fd_some_words(job->isa, &job->call, first, job->words_each * n, blocks);
    if (job->numbers)
      job->numbers(words, n, out);
    else
      memcpy(out, words, (size_t)n * 4);
  }
}

void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads) {
  const words_job job = {isa, fd_philox_call(key), first, out, 0, 1, 4};
  fd_parallel(words_range, &job, n, threads);
}

static void numbers(const fd_isa *isa, fd_numbers_kernel *const made[2], fd_key key, uint64_t first, int64_t n, int dtype,
                    void *out, int threads) {
  const int is_double = dtype == FD_FLOAT64;
  const words_job job = {isa, fd_philox_call(key), first, out, made[is_double], is_double ? 2 : 1, is_double ? 8 : 4};
  fd_parallel(words_range, &job, n, threads);
}

void fd_uniform(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, int dtype, void *out, int threads) {
  numbers(isa, isa->uniforms, key, first, n, dtype, out, threads);
}

void fd_normal(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, int dtype, void *out, int threads) {
  numbers(isa, isa->normals, key, first, n, dtype, out, threads);
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
