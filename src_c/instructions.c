/* instructions.c: runs one kernel once, in its own function, for a profiler that counts instructions.
 *
 *     make -C src_c instructions && src_c/build/instructions avx2 dropout-float32-p0.1
 *
 * prints the number of elements that the function `counted` worked on. Without arguments it prints the compiler, and then one
 * line per instruction set and kernel. bench/instructions.py runs it under valgrind.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fastdrop.h"

enum { N = 16 * FD_TILE, ROW = 1024, FEW = 256 };

typedef enum {
  VALUES, RATES, RATE_RUNS, GATE, GATE_SLOPES, ROWS, GROUPS, BLOCKS, QUOTIENTS, SUMS, PACKED, BYTES, WORDS, UNIFORM, NORMAL, NOISE, FUNCTION,
  DRAWS, LEVELS, TARGETS
} kind;

typedef struct {
  const char *name;
  kind kind;
  int op, dtype; /* op: an operation, a noise, a function, or the length of rows */
  double p;
  int64_t n;
} row;

static const row kernels[] = {
    {"dropout-float32-p0.1", VALUES, FD_SCALE, FD_FLOAT32, 0.1, N},
    {"dropout-float32-p0.5", VALUES, FD_SCALE, FD_FLOAT32, 0.5, N},
    {"dropout-float64-p0.5", VALUES, FD_SCALE, FD_FLOAT64, 0.5, N},
    {"dropout-float16-p0.5", VALUES, FD_SCALE, FD_FLOAT16, 0.5, N},
    {"dropout-bfloat16-p0.5", VALUES, FD_SCALE, FD_BFLOAT16, 0.5, N},
    {"dropout-256-p0.1", VALUES, FD_SCALE, FD_FLOAT32, 0.1, FEW},
    {"bias-residual-p0.5", VALUES, FD_WITH_BIAS | FD_WITH_RESIDUAL, FD_FLOAT32, 0.5, N},
    {"affine-p0.5", VALUES, FD_AFFINE, FD_FLOAT32, 0.5, N},
    {"select-p0.5", VALUES, FD_SELECT, FD_FLOAT32, 0.5, N},
    {"signed-p0.5", VALUES, FD_SIGNED, FD_FLOAT32, 0.5, N},
    {"rates", RATES, FD_WITH_RATES, FD_FLOAT32, 0, N},
    {"gate", GATE, FD_WITH_RATES, FD_FLOAT32, 0, N},
    {"gate-slopes", GATE_SLOPES, FD_SCORE, FD_FLOAT32, 0, N},
    {"rate-runs", RATE_RUNS, FD_WITH_RATES, FD_FLOAT32, 0, N},
    {"rows-p0.2", ROWS, FD_SCALE, FD_FLOAT32, 0.2, N},
    {"groups-p0.2", GROUPS, FD_SCALE, FD_FLOAT32, 0.2, N},
    {"blocks", BLOCKS, 0, 0, 0, N},
    {"row-quotients-float32", QUOTIENTS, ROW, FD_FLOAT32, 0.5, N},
    {"row-quotients-float32-160", QUOTIENTS, 160, FD_FLOAT32, 0.5, 400 * 160},
    {"sums-float32", SUMS, 0, FD_FLOAT32, 0, N},
    {"product-sums-float64", SUMS, 1, FD_FLOAT64, 0, N},
    {"packed-p0.1", PACKED, 0, 0, 0.1, N},
    {"packed-p0.5", PACKED, 0, 0, 0.5, N},
    {"bytes-p0.5", BYTES, 0, 0, 0.5, N},
    {"words", WORDS, 0, 0, 0, N},
    {"uniform-float32", UNIFORM, 0, FD_FLOAT32, 0, N},
    {"normal-float32", NORMAL, 0, FD_FLOAT32, 0, N},
    {"normal-float64", NORMAL, 0, FD_FLOAT64, 0, N},
    {"gaussian-float32", NOISE, FD_GAUSSIAN, FD_FLOAT32, 0, N},
    {"concrete-float32", NOISE, FD_CONCRETE, FD_FLOAT32, 0, N},
    {"concrete-any-float32", NOISE, FD_CONCRETE, FD_FLOAT32, 0.3, N},
    {"uniform-noise-float32", NOISE, FD_UNIFORM, FD_FLOAT32, 0, N},
    {"scaled-float32", NOISE, FD_SCALED, FD_FLOAT32, 0, N},
    {"factors-float32", NOISE, FD_FACTORS, FD_FLOAT32, 0, N},
    {"factor-runs-float32", NOISE, FD_FACTORS, FD_FLOAT32, 1, N},
    {"shared-factors-float32", NOISE, FD_FACTORS, FD_FLOAT32, 2, N},
    {"exp-float32", FUNCTION, FD_EXP, FD_FLOAT32, 0, N},
    {"log-float32", FUNCTION, FD_LOG, FD_FLOAT32, 0, N},
    {"sigmoid-float64", FUNCTION, FD_SIGMOID, FD_FLOAT64, 0, N},
    {"molchanov-sum-float32", FUNCTION, FD_MOLCHANOV, FD_FLOAT32, 0, N},
    {"kingma-sum-float32", FUNCTION, FD_KINGMA, FD_FLOAT32, 0, N},
    {"draws-float32", DRAWS, 0, FD_FLOAT32, 0, N},
    {"levels-float32", LEVELS, 0, FD_FLOAT32, 0, N},
    {"targets-float32", TARGETS, 0, FD_FLOAT32, 0, N},
    {"targets-float32-16-rows", TARGETS, 0, FD_FLOAT32, 0, 16 * 256},
};

static _Alignas(64) double x[N], y[N], other[N];
static _Alignas(64) float rates[N];

static void values(const fd_isa *isa, const row *kernel, fd_bits bits) {
  static const int64_t sizes[FD_DTYPES] = {[FD_FLOAT32] = 4, [FD_FLOAT64] = 8, [FD_FLOAT16] = 2, [FD_BFLOAT16] = 2};
  const int64_t size = sizes[kernel->dtype], rate_size = sizeof rates[0];
  const int64_t rows[] = {kernel->n / ROW, ROW}, one_a_row[] = {rate_size, 0};
  fd_layout flat, flat_rates;
  fd_layout_of(&flat, 1, &kernel->n, &size, size);
  fd_layout_of(&flat_rates, 1, &kernel->n, &rate_size, rate_size);
  if (kernel->kind == RATE_RUNS) fd_layout_of(&flat_rates, 2, rows, one_a_row, rate_size);
  const fd_gate gate = {1, 0.5, 0};
  if (kernel->kind == GATE) bits.gate = &gate;
  if (kernel->kind == RATES || kernel->kind == RATE_RUNS || kernel->kind == GATE) bits.rates = (fd_array){rates, &flat_rates};
  fd_call call = {.bits = bits, .op = kernel->op, .dtype = kernel->dtype, .n = kernel->n, .bypass_bytes = INT64_MAX};
  call.scale = fd_inverted_scale(kernel->p, kernel->dtype);
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &flat};
  if (kernel->op == FD_SELECT || (kernel->op < FD_AFFINE && kernel->op & FD_WITH_RESIDUAL)) call.other = (fd_array){other, &flat};
  if (kernel->op < FD_AFFINE && kernel->op & FD_WITH_BIAS) call.bias = (fd_array){other, &flat};
  fd_apply(isa, &call, 1);
}

static void noise(const fd_isa *isa, const row *kernel, fd_key key) {
  const int64_t size = sizeof(float), rows[] = {kernel->n / ROW, ROW}, one_a_row[] = {size, 0}, all_rows[] = {0, size};
  fd_layout flat, factors;
  fd_layout_of(&flat, 1, &kernel->n, &size, size);
  fd_noise_call call = {.numbers = {.key = key}, .noise = kernel->op, .dtype = kernel->dtype, .n = kernel->n, .bypass_bytes = INT64_MAX};
  for (int i = 0; i < 5; i++) call.params[i] = 0.5;
  if (kernel->p > 0) call.params[2] = kernel->p; /* a power that has no root */
  if (kernel->p == 1) fd_layout_of(&factors, 2, rows, one_a_row, size);
  else if (kernel->p == 2) fd_layout_of(&factors, 2, rows, all_rows, size);
  else fd_layout_of(&factors, 1, &kernel->n, &size, size);
  if (kernel->p == 2) call.shifts = (fd_array){other, &factors};
  call.x = (fd_array){x, &flat}, call.y = (fd_array){y, &flat};
  if (kernel->op >= FD_SCALED) call.other = (fd_array){other, &factors};
  fd_noise_apply(isa, &call, 1);
}

static void gate_slopes(const fd_isa *isa, const row *kernel, fd_bits bits) {
  const int64_t size = sizeof(float);
  const fd_gate gate = {1, 0.5, 0};
  fd_layout flat;
  fd_layout_of(&flat, 1, &kernel->n, &size, size);
  bits.gate = &gate, bits.rates = (fd_array){rates, &flat};
  const fd_gate_call call = {.bits = bits, .estimator = kernel->op, .divided = 1, .dtype = kernel->dtype, .n = kernel->n,
                             .grad = {x, &flat}, .x = {other, &flat}, .losses = {other, &flat}, .y = y};
  fd_gate_backward(isa, &call, 1);
}

static void function(const fd_isa *isa, const row *kernel) {
  fd_function_call call = {.function = kernel->op, .dtype = kernel->dtype, .x_dtype = kernel->dtype, .x = x, .y = y, .n = kernel->n};
  if (kernel->op >= FD_MOLCHANOV) call.dtype = FD_FLOAT64, call.sums = y, call.y = 0;
  fd_function(isa, &call, 1);
}

static void blocks(const row *kernel) {
  const fd_maps maps = {2, kernel->n / 1024, {32, 32}, {7, 7}};
  fd_drop_blocks(&maps, (uint64_t *)rates, (uint64_t *)other);
}

static void quotients(const fd_isa *isa, const row *kernel, const fd_bits *bits) {
  const fd_rows rows = {.bits = *bits, .dtype = kernel->dtype, .rows = kernel->n / kernel->op, .n = kernel->op, .x = x, .y = y, .epsilon = 1e-8,
                        .bypass_bytes = INT64_MAX};
  fd_divide_rows(isa, &rows, 1);
}

/* Sums over 64 rows of ROW columns, of float32 or of products in float64. */
static void sums(const fd_isa *isa, const row *kernel) {
  const fd_sum_call call = {.x_dtype = FD_FLOAT32, .dtype = kernel->dtype, .outer = kernel->n / (64 * ROW), .n = 64, .inner = ROW, .x = x,
                            .other = kernel->op ? other : 0, .y = y};
  fd_sum_axis(isa, &call, 1);
}

/* Rows of ROW features, of which half are drawn. */
static void draws(const fd_isa *isa, const row *kernel, fd_key key) {
  static double weights[ROW], expected[ROW];
  static uint64_t shares[ROW];
  static uint32_t last[ROW], bucket[1 << 18], counts[ROW];
  const int64_t size = sizeof(float);
  fd_layout flat;
  fd_layout_of(&flat, 1, &kernel->n, &size, size);
  for (int i = 0; i < ROW; i++) weights[i] = rates[i] + 1;
  fd_share_words(weights, ROW, shares);
  const fd_draw_call call = {{key, 0, 0}, ROW / 2, kernel->n / ROW, ROW, 0, kernel->dtype, fd_draw_shift(ROW), last, bucket, expected,
                             counts, {x, &flat}, {y, &flat}};
  fd_multiply_draws(isa, &call, shares, 1);
}

static void levels(const fd_isa *isa, const row *kernel) {
  const fd_level_call call = {.scores = x, .rows = kernel->n / ROW, .n = ROW, .mean = 0.5, .floor = 0.01, .out = other};
  fd_fill_levels(isa, &call, 1);
}

static void targets(const fd_isa *isa, const row *kernel) {
  const int64_t columns = 256, rows = kernel->n / columns;
  const fd_target_call call = {x, kernel->dtype, rows, columns, rows / 2, other, (uint8_t *)y};
  fd_find_others(isa, &call, 1);
}

/* Not inlined: the profiler counts the instructions between its entry and its return. */
__attribute__((noinline)) void counted(const fd_isa *isa, const row *kernel, const fd_bits *bits);
__attribute__((noinline)) void counted(const fd_isa *isa, const row *kernel, const fd_bits *bits) {
  const fd_numbers numbers = {.key = bits->key};
  switch (kernel->kind) {
    case BLOCKS: blocks(kernel); break;
    case QUOTIENTS: quotients(isa, kernel, bits); break;
    case SUMS: sums(isa, kernel); break;
    case PACKED: fd_mask_packed(isa, bits, kernel->n, (uint8_t *)y, 1); break;
    case BYTES: fd_mask_bytes(isa, bits, kernel->n, (uint8_t *)y, 1); break;
    case WORDS: fd_words(isa, bits->key, 0, kernel->n, (uint32_t *)y, 1); break;
    case UNIFORM: fd_uniform(isa, &numbers, kernel->n, kernel->dtype, y, 1); break;
    case NORMAL: fd_normal(isa, &numbers, kernel->n, kernel->dtype, y, 1); break;
    case NOISE: noise(isa, kernel, bits->key); break;
    case GATE_SLOPES: gate_slopes(isa, kernel, *bits); break;
    case FUNCTION: function(isa, kernel); break;
    case DRAWS: draws(isa, kernel, bits->key); break;
    case LEVELS: levels(isa, kernel); break;
    case TARGETS: targets(isa, kernel); break;
    default: values(isa, kernel, *bits);
  }
}

static void run(const fd_isa *isa, const row *kernel) {
  const int64_t shape[] = {kernel->n / ROW, ROW}, groups[] = {kernel->n / 4, 4}, one_a_row[] = {1, 0}, one_an_element = 1;
  fd_layout layout;
  if (kernel->kind == ROWS) fd_layout_of(&layout, 2, shape, one_a_row, 1);
  else if (kernel->kind == GROUPS) fd_layout_of(&layout, 2, groups, one_a_row, 1);
  else fd_layout_of(&layout, 1, &kernel->n, &one_an_element, 1);
  for (int64_t i = 0; i < N; i++) {
    rates[i] = (float)(i % 512) / 1024;
    if (kernel->dtype == FD_FLOAT64) x[i] = (double)(i % 977 + 1) / 512;
    else if (kernel->dtype == FD_FLOAT32) ((float *)x)[i] = (float)(i % 977 + 1) / 512;
  }
  const fd_bits bits = {.key = {42, 7}, .rate = fd_rate_of(kernel->p), .rates_dtype = FD_FLOAT32, .mask_layout = &layout};
  counted(isa, kernel, &bits);
  printf("%" PRId64 "\n", kernel->n);
}

int main(int argc, char **argv) {
  if (argc == 1) printf("%s\n", fd_build());
  for (int i = 0; i < fd_isa_count(); i++) {
    const fd_isa *isa = fd_isa_at(i);
    if (!fd_isa_runs(isa)) continue;
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
      if (argc == 1) printf("%s %s\n", fd_isa_name(isa), kernels[k].name);
      if (argc == 3 && !strcmp(argv[1], fd_isa_name(isa)) && !strcmp(argv[2], kernels[k].name)) {
        run(isa, &kernels[k]);
        return 0;
      }
    }
  }
  if (argc == 1) return 0;
  fprintf(stderr, "usage: %s [INSTRUCTION_SET KERNEL]\n", argv[0]);
  return 2;
}
