/* selftest.c: the kernels without Python: for sanitizers, valgrind and emulated processors.
 *
 *     make -C src_c selftest && src_c/build/selftest tests/data/philox4x32_10.kat
 *
 * Every instruction set that this machine runs is compared with the published known answers and with a direct
 * transcription of the stream's definition: one element at a time, from one block a plane, sharing no code with the
 * kernels. Outputs lie between guard zones.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastdrop.h"

enum { GUARD = 64, MOST = 5 * FD_TILE + 64 };

static int failures, checks;

static void check(int holds, const char *isa, const char *what, uint64_t first, int64_t n) {
  checks++;
  if (holds) return;
  if (failures++ < 20) fprintf(stderr, "FAILED %s: %s, first %" PRIu64 ", n %" PRId64 "\n", isa, what, first, n);
}

/* Philox4x32-10, one block, as the paper has it. */
static void philox_block(uint64_t seed, uint64_t block, uint32_t plane_domain, uint64_t offset, uint32_t w[4]) {
  uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  w[0] = (uint32_t)block, w[1] = (uint32_t)(block >> 32) | plane_domain;
  w[2] = (uint32_t)offset, w[3] = (uint32_t)(offset >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)w[0] * 0xD2511F53u, b = (uint64_t)w[2] * 0xCD9E8D57u;
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ w[1] ^ key[0], (uint32_t)b, (uint32_t)(a >> 32) ^ w[3] ^ key[1],
                              (uint32_t)a};
    memcpy(w, next, sizeof next);
    key[0] += 0x9E3779B9u, key[1] += 0xBB67AE85u;
  }
}

/* U(i) >= p, digit by digit; p as a number of 2^-64. */
static int is_kept(fd_key key, uint64_t rate, uint64_t i) {
  for (uint32_t plane = 0; plane < 64; plane++) {
    uint32_t w[4];
    philox_block(key.seed, i / 128, plane << 16 | 1u << 24, key.offset, w);
    const uint32_t digit = w[i % 128 / 32] >> (i % 32) & 1, of_rate = (uint32_t)(rate >> (63 - plane)) & 1;
    if (digit != of_rate) return digit > of_rate;
  }
  return 1;
}

static int guards_hold(const unsigned char *buffer, size_t used) {
  for (size_t k = 0; k < GUARD; k++)
    if (buffer[k] != 0xA5 || buffer[GUARD + used + k] != 0xA5) return 0;
  return 1;
}

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

/* A mask that lies over an array as the array is indexed. */
static fd_bits bits_of(fd_key key, double p, uint64_t first) {
  static const fd_layout flat = {1, {INT64_MAX}, {1}};
  return (fd_bits){.key = key, .rate = fd_rate_of(p), .first = first, .mask_layout = &flat};
}

static void check_dropout(const fd_isa *isa, fd_key key, double p, uint64_t first, int64_t n, int dtype, int misaligned,
                          int bypass, int threads, const uint8_t *kept) {
  static unsigned char buffer[(MOST + 16) * 8 + 2 * GUARD];
  static double doubles[MOST];
  static float floats[MOST];
  const size_t size = dtype == FD_FLOAT32 ? 4 : 8, used = ((size_t)n + (size_t)misaligned) * size;
  const int64_t shape = n, stride = (int64_t)size;
  fd_layout layout;
  fd_layout_of(&layout, 1, &shape, &stride, stride);
  for (int64_t i = 0; i < n; i++) doubles[i] = i % 7 ? (double)(i % 1000) - 500.5 : -INFINITY, floats[i] = (float)doubles[i];
  memset(buffer, 0xA5, sizeof buffer);
  unsigned char *y = buffer + GUARD + (size_t)misaligned * size;
  const double scale = fd_inverted_scale(p, dtype);
  fd_call call = {.bits = bits_of(key, p, first), .op = FD_SCALE, .dtype = dtype, .scale = scale, .n = n};
  call.x = (fd_array){dtype == FD_FLOAT32 ? (void *)floats : doubles, &layout};
  call.y = (fd_array){y, &layout};
  call.bypass_bytes = bypass ? 0 : INT64_MAX;
  fd_apply(isa, &call, threads);
  int equal = 1;
  for (int64_t i = 0; i < n; i++) {
    const float f = kept[i] ? floats[i] * (float)scale : 0.0f;
    const double d = kept[i] ? doubles[i] * scale : 0.0;
    equal &= !memcmp(y + (size_t)i * size, dtype == FD_FLOAT32 ? (const void *)&f : (const void *)&d, size);
  }
  check(equal, fd_isa_name(isa), "dropout", first, n);
  check(guards_hold(buffer, used), fd_isa_name(isa), "guards of dropout", first, n);
}

static void check_masks(const fd_isa *isa, fd_key key, double p, uint64_t first, int64_t n, int threads, const uint8_t *kept) {
  static unsigned char buffer[MOST + 2 * GUARD];
  uint8_t *out = buffer + GUARD;
  memset(buffer, 0xA5, sizeof buffer);
  const fd_bits bits = bits_of(key, p, first);
  fd_mask_bytes(isa, &bits, n, out, threads);
  check(!memcmp(out, kept, (size_t)n) && guards_hold(buffer, (size_t)n), fd_isa_name(isa), "bytes", first, n);
  memset(buffer, 0xA5, sizeof buffer);
  fd_mask_packed(isa, &bits, n, out, threads);
  int equal = 1;
  for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) equal &= (out[i / 8] >> (i % 8) & 1) == (i < n ? kept[i] : 0);
  check(equal && guards_hold(buffer, (size_t)(n + 7) / 8), fd_isa_name(isa), "packed bits", first, n);
}

static void check_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n) {
  static uint32_t words[MOST];
  static float singles[MOST];
  static double doubles[MOST];
  fd_words(isa, key, first, n, words, 1);
  fd_uniform(isa, key, first, n, FD_FLOAT32, singles, 1);
  fd_uniform(isa, key, first / 2, n / 2, FD_FLOAT64, doubles, 1);
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

static void check_isa(const fd_isa *isa) {
  static const int64_t sizes[] = {1, 7, 31, 128, 129, FD_TILE - 1, FD_TILE + 1, 3 * FD_TILE + 3};
  static const uint64_t firsts[] = {0, 1, 127, 128, (UINT64_C(1) << 39) - 1, (UINT64_C(1) << 55) - 3 * FD_TILE - 3};
  static const double rates[] = {0.0, 0x1p-60, 0.1, 0.25, 0.5, 0.999, 1.0};
  static uint8_t kept[MOST];
  const fd_key key = {UINT64_C(0x0123456789ABCDEF), UINT64_C(0xFEDCBA9876543210)};
  int turn = 0; /* so that dtype, alignment and stores vary over the cases */
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
      const int64_t n = sizes[s];
      if (firsts[f] < UINT64_C(1) << 50) check_words(isa, key, firsts[f], n);
      for (size_t r = 0; r < sizeof rates / sizeof *rates; r++, turn++) {
        const fd_rate rate = fd_rate_of(rates[r]);
        for (int64_t i = 0; i < n; i++) kept[i] = !rate.all && is_kept(key, rate.fixed, firsts[f] + (uint64_t)i);
        check_masks(isa, key, rates[r], firsts[f], n, 1 + turn % 3, kept);
        check_dropout(isa, key, rates[r], firsts[f], n, turn % 2, turn % 5, turn % 3 == 0, 1 + turn % 3, kept);
      }
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s philox4x32_10.kat\n", argv[0]);
    return 2;
  }
  for (int i = 0; i < fd_isa_count(); i++) {
    const fd_isa *isa = fd_isa_at(i);
    if (!fd_isa_runs(isa)) {
      printf("%s: built, not run: this processor lacks it\n", fd_isa_name(isa));
      continue;
    }
    const int before = failures, checks_before = checks;
    check_known_answers(isa, argv[1]);
    check(!fd_contracts(isa), fd_isa_name(isa), "no contraction", 0, 0);
    check_isa(isa);
    printf("%s: %d checks, %d failed\n", fd_isa_name(isa), checks - checks_before, failures - before);
  }
  return failures != 0;
}
