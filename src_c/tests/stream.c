/* stream.c: Philox's known answers, and masks and words of the stream. */
#include <stdio.h>

#include "selftest.h"

static void check_known_answers(const fd_isa *isa, const char *path) {
  FILE *file = fopen(path, "r");
  char line[256];
  int rows = 0;
  while (file && fgets(line, sizeof line, file)) {
    uint32_t c[4], k[2], want[4], got[4];
    if (sscanf(line, "%x %x %x %x | %x %x -> %x %x %x %x", &c[0], &c[1], &c[2], &c[3], &k[0], &k[1], &want[0], &want[1],
               &want[2], &want[3]) != 10)
      continue;
    fd_philox(isa, c, k, got);
    check(!memcmp(got, want, sizeof want), fd_isa_name(isa), "Philox known answer", c[0], ++rows);
  }
  if (file) fclose(file);
  check(rows == 5, fd_isa_name(isa), "five known answers read", 0, rows);
}

/* A run of the stream, and which of its elements are kept. */
typedef struct {
  fd_key key;
  double p;
  uint64_t first;
  int64_t n;
  const uint8_t *kept;
} run;

/* `turn` varies the type, the alignment, the stores and the number of threads over the calls. */
static void check_dropout(const fd_isa *isa, const run *of, int turn) {
  static _Alignas(64) unsigned char buffer[(MOST + 16) * 8 + 2 * GUARD];
  static double doubles[MOST];
  static float floats[MOST];
  const int dtype = turn % 2 ? FD_FLOAT64 : FD_FLOAT32;
  const int64_t n = of->n, misaligned = turn % 5;
  const size_t size = (size_t)itemsize_of(dtype), used = (size_t)(n + misaligned) * size;
  const fd_layout layout = line_of(n, (int64_t)size, (int64_t)size);
  for (int64_t i = 0; i < n; i++) doubles[i] = i % 7 ? (double)(i % 1000) - 500.5 : -INFINITY, floats[i] = (float)doubles[i];
  memset(buffer, 0xA5, sizeof buffer);
  unsigned char *y = buffer + GUARD + (size_t)misaligned * size;
  const double scale = fd_inverted_scale(of->p, dtype);
  fd_call call = {.bits = bits_of(of->key, of->p, of->first), .op = FD_SCALE, .dtype = dtype, .scale = scale, .n = n};
  call.x = (fd_array){dtype == FD_FLOAT32 ? (void *)floats : doubles, &layout};
  call.y = (fd_array){y, &layout};
  call.bypass_bytes = turn % 3 ? INT64_MAX : 0;
  fd_apply(isa, &call, 1 + turn % 3);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const float f = of->kept[i] ? floats[i] * (float)scale : 0.0f;
    const double d = of->kept[i] ? doubles[i] * scale : 0.0;
    equal &= !memcmp(y + (size_t)i * size, dtype == FD_FLOAT32 ? (const void *)&f : (const void *)&d, size);
  }
  check(equal, fd_isa_name(isa), "dropout", of->first, n);
  check(guards_hold(buffer, used), fd_isa_name(isa), "guards of dropout", of->first, n);
}

static void check_masks(const fd_isa *isa, const run *of, int threads) {
  static _Alignas(64) unsigned char buffer[MOST + 2 * GUARD];
  const int64_t n = of->n;
  uint8_t *out = buffer + GUARD;
  memset(buffer, 0xA5, sizeof buffer);
  const fd_bits bits = bits_of(of->key, of->p, of->first);
  fd_mask_bytes(isa, &bits, n, out, threads);
  check(!memcmp(out, of->kept, (size_t)n) && guards_hold(buffer, (size_t)n), fd_isa_name(isa), "bytes", of->first, n);
  memset(buffer, 0xA5, sizeof buffer);
  fd_mask_packed(isa, &bits, n, out, threads);
  int equal = 1;
  for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) equal &= (out[i / 8] >> (i % 8) & 1) == (i < n ? of->kept[i] : 0);
  check(equal && guards_hold(buffer, (size_t)(n + 7) / 8), fd_isa_name(isa), "packed bits", of->first, n);
}

static void check_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n) {
  static uint32_t words[MOST];
  static float singles[MOST];
  static double doubles[MOST];
  fd_words(isa, key, first, n, words, 1);
  fd_uniform(isa, &(fd_numbers){key, first, 0}, n, FD_FLOAT32, singles, 1);
  fd_uniform(isa, &(fd_numbers){key, first / 2, 0}, n / 2, FD_FLOAT64, doubles, 1);
  int equal = 1, inside = 1;
  for (int64_t i = 0; i < n; i++) {
    uint32_t w[4];
    philox_block(key.seed, (first + (uint64_t)i) / 4, 0, key.offset, w);
    equal &= words[i] == w[(first + (uint64_t)i) % 4];
    equal &= singles[i] == (float)(2 * (words[i] >> 9) + 1) * 0x1p-24f;
    inside &= singles[i] > 0 && singles[i] < 1;
  }
  for (int64_t i = 0; first % 2 == 0 && i < n / 2; i++) {
    const uint64_t v = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
    equal &= doubles[i] == (double)(2 * (v >> 12) + 1) * 0x1p-53;
  }
  check(equal && inside, fd_isa_name(isa), "words and uniforms", first, n);
}

static void check_runs(const fd_isa *isa) {
  static const int64_t sizes[] = {1, 7, 31, 128, 129, FD_TILE - 1, FD_TILE + 1, 3 * FD_TILE + 3};
  static const uint64_t firsts[] = {0, 1, 127, 128, (UINT64_C(1) << 39) - 1, (UINT64_C(1) << 55) - 3 * FD_TILE - 3};
  static const double rates[] = {0.0, 0x1p-60, 0.1, 0.25, 0.5, 0.999, 1.0};
  static uint8_t kept[MOST];
  const fd_key key = {UINT64_C(0x0123456789ABCDEF), UINT64_C(0xFEDCBA9876543210)};
  int turn = 0;
  for (int s = 0; s < COUNT(sizes); s++) {
    for (int f = 0; f < COUNT(firsts); f++) {
      const int64_t n = sizes[s];
      if (firsts[f] < UINT64_C(1) << 50) check_words(isa, key, firsts[f], n);
      for (int r = 0; r < COUNT(rates); r++, turn++) {
        const fd_rate rate = fd_rate_of(rates[r]);
        for (int64_t i = 0; i < n; i++) kept[i] = !rate.all && is_kept(key, rate.fixed, firsts[f] + (uint64_t)i);
        const run of = {key, rates[r], firsts[f], n, kept};
        check_masks(isa, &of, 1 + turn % 3);
        check_dropout(isa, &of, turn);
      }
    }
  }
}

void check_stream(const fd_isa *isa, const char *path) {
  check_known_answers(isa, path);
  check(!fd_contracts(isa), fd_isa_name(isa), "no contraction", 0, 0);
  check_runs(isa);
}
