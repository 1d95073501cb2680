/* words.c: the words of domain 0, the numbers made from them, and the keys of domain 2. */
#include <string.h>

#include "drivers/drive.h"

const fd_word *fd_some_words(const fd_isa *isa, const philox_call *call, uint64_t first, int64_t n, uint64_t *blocks) {
  const int64_t skip = (int64_t)(first % 4), count = (skip + n + 3) / 4;
  isa->blocks(call, first / 4, (uint32_t)FD_DOMAIN_WORDS << 24, count, blocks);
  if (FD_BIG_ENDIAN)
    for (int64_t k = 0; k < 2 * count; k++) blocks[k] = blocks[k] << 32 | blocks[k] >> 32;
  return (const fd_word *)blocks + skip;
}

typedef struct {
  const fd_isa *isa;
  philox_call call;
  uint64_t first;
  uint32_t *out;
} words_job;

static void words_range(const void *work, int64_t begin, int64_t end) {
  const words_job *job = (const words_job *)work;
  uint64_t blocks[FD_WORD_BUFFER];
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(FD_MOST_WORDS, end - i);
    memcpy(job->out + i, fd_some_words(job->isa, &job->call, job->first + (uint64_t)i, n, blocks), (size_t)n * 4);
  }
}

void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads) {
  const words_job job = {isa, fd_philox_call(key), first, out};
  fd_parallel(words_range, &job, n, threads);
}

fd_number_source fd_numbers_open(const fd_isa *isa, const fd_numbers *from, fd_numbers_kernel *const made[2], int dtype) {
  const int is_double = dtype == FD_FLOAT64;
  return (fd_number_source){isa, fd_philox_call(from->key), from, made[is_double], is_double ? 2 : 1};
}

static void neighbours(const fd_number_source *source, uint64_t index, int64_t n, uint64_t *blocks, char *out) {
  const uint64_t each = (uint64_t)source->words_each;
  source->made(fd_some_words(source->isa, &source->call, each * index, source->words_each * n, blocks), n, out);
}

/* Works run by run. A run has neighbours in the stream: all elements, or a row of a block of a larger array. */
void fd_numbers_at(const fd_number_source *source, int64_t i, int64_t n, uint64_t *blocks, void *out) {
  const fd_layout *layout = source->from->layout;
  const uint64_t first = source->from->first;
  char *to = (char *)out;
  if (!layout) {
    neighbours(source, first + (uint64_t)i, n, blocks, to);
    return;
  }
  const int inner = layout->ndim - 1;
  fd_walk walk;
  fd_walk_to(&walk, layout, i);
  for (int64_t run; n > 0; n -= run, to += run * source->words_each * 4) {
    run = layout->strides[inner] == 1 ? fd_min(n, layout->shape[inner] - walk.index[inner]) : 1;
    neighbours(source, first + (uint64_t)walk.at, run, blocks, to);
    fd_walk_on(&walk, layout, run);
  }
}

typedef struct {
  fd_number_source source;
  char *out;
} numbers_job;

static void numbers_range(const void *work, int64_t begin, int64_t end) {
  const numbers_job *job = (const numbers_job *)work;
  uint64_t blocks[FD_WORD_BUFFER];
  const int64_t most = FD_MOST_WORDS / job->source.words_each, itemsize = 4 * job->source.words_each;
  for (int64_t i = begin, n; i < end; i += n) {
    n = fd_min(most, end - i);
    fd_numbers_at(&job->source, i, n, blocks, job->out + i * itemsize);
  }
}

void fd_uniform(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads) {
  const numbers_job job = {fd_numbers_open(isa, numbers, isa->uniforms, dtype), (char *)out};
  fd_parallel(numbers_range, &job, n, threads);
}

void fd_normal(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads) {
  const numbers_job job = {fd_numbers_open(isa, numbers, isa->normals, dtype), (char *)out};
  fd_parallel(numbers_range, &job, n, threads);
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
