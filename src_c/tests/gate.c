/* gate.c: masks that logits gate, and the slopes of the logits. */
#include "selftest.h"

enum { GATED = FD_TILE + 1000 };

typedef struct {
  double keep[GATED], x[GATED], grad[GATED], losses[GATED];
  uint8_t kept[2][GATED]; /* of the mask and of the antithetic one */
} gated_values;

/* Every other element of `logits` is one; the sigmoid has its own tests. */
static void expect_gate(const fd_isa *isa, const fd_bits *bits, int dtype, const void *logits, gated_values *want) {
  static double place[GATED];
  const int compute = compute_type(dtype);
  for (int64_t i = 0; i < GATED; i++)
    set_element(place, compute, i, to_compute(bits->gate->gain * element(logits, dtype, 2 * i), dtype) + bits->gate->shift);
  fd_function(isa, &(fd_function_call){FD_SIGMOID, compute, compute, place, place, 0, GATED}, 1);
  for (int64_t i = 0; i < GATED; i++) {
    const uint64_t index = bits->first + (uint64_t)i;
    const double p = element(place, compute, i), keep = isnan(p) ? 0 : p, rate = 1.0 - keep;
    want->keep[i] = isnan(p) ? -0.0 : p;
    want->kept[0][i] = rate < 1 && is_kept(bits->key, fixed_of(rate), index);
    want->kept[1][i] = !(keep < 1 && is_kept(bits->key, fixed_of(keep), index));
  }
}

static double expected_slope(const gated_values *of, int estimator, int divided, int dtype, double gain, int64_t i) {
  const double keep = of->keep[i], drop = to_compute(1 - keep, dtype), inverse = to_compute(1 / keep, dtype);
  const double product = to_compute(of->grad[i] * of->x[i], dtype), kept = of->kept[0][i], loss = of->losses[i];
  double slope = loss;
  if (estimator == FD_STRAIGHT) slope = to_compute(product * (divided ? drop : to_compute(keep * drop, dtype)), dtype);
  if (estimator == FD_SCORE) slope = to_compute(loss * to_compute(kept - keep, dtype), dtype);
  if (estimator == FD_DISARM) slope = to_compute(loss * ((kept - of->kept[1][i]) * (0.5 * fmax(keep, drop))), dtype);
  if (divided) slope = to_compute(slope - (kept > 0 ? to_compute(to_compute(product * inverse, dtype) * drop, dtype) : 0), dtype);
  return signbit(keep) ? 0 : to_compute(gain * slope, dtype);
}

static void check_gate_slopes(const fd_isa *isa, const fd_bits *bits, int dtype, const fd_array *x, const fd_array *grad,
                              const gated_values *want) {
  static _Alignas(64) double losses[GATED], y[GATED + 64], expected[GATED];
  const int compute = compute_type(dtype);
  const int64_t size = itemsize_of(compute), n = GATED;
  const fd_layout flat = line_of(n, size, size);
  for (int64_t i = 0; i < n; i++) set_element(losses, compute, i, want->losses[i]);
  for (int estimator = 0; estimator < FD_ESTIMATORS; estimator++)
    for (int divided = 0; divided < 2; divided++) {
      fd_gate_call call = {.bits = *bits, .estimator = estimator, .divided = divided, .dtype = dtype, .n = n};
      call.grad = *grad, call.x = *x;
      memset(y, 0xA5, sizeof y);
      call.y = (unsigned char *)y + GUARD;
      if (estimator != FD_STRAIGHT) call.losses = (fd_array){losses, &flat};
      fd_gate_backward(isa, &call, 1 + dtype % 3);
      int equal = guards_hold((unsigned char *)y, (size_t)(size * n));
      for (int64_t i = 0; i < n; i++)
        set_element(expected, compute, i, expected_slope(want, estimator, divided, dtype, bits->gate->gain, i));
      memmove(y, call.y, (size_t)(size * n));
      for (int64_t i = 0; i < n; i++) equal &= same_element(y, expected, compute, i);
      check(equal, fd_isa_name(isa), "slopes of a gate", (uint64_t)(10 * estimator + divided), n);
    }
}

static void check_gated(const fd_isa *isa, int dtype) {
  static double logits[2 * GATED], x[GATED], grad[GATED], y[GATED], expected[GATED];
  static gated_values want;
  static const double some[] = {NAN, INFINITY, -INFINITY, 900, -900, -38, 37, 0};
  const int64_t n = GATED, size = itemsize_of(dtype);
  const fd_layout flat = line_of(n, size, size), spread = line_of(n, 2 * size, size), mask = line_of(n, 1, 1);
  fd_gate gate = {to_compute(0.75, dtype), to_compute(-0.25, dtype), 0};
  fd_bits bits = {.key = {42, 7}, .first = 77, .mask_layout = &mask, .rates = {logits, &spread}, .rates_dtype = dtype, .gate = &gate};
  for (int64_t i = 0; i < n; i++) {
    set_element(logits, dtype, 2 * i, i < COUNT(some) ? some[i] : (double)(i * 37 % 1001 - 500) / 64);
    set_element(logits, dtype, 2 * i + 1, NAN);
    set_element(x, dtype, i, (double)(i % 977 - 400) / 8), set_element(grad, dtype, i, (double)(i % 31 - 11) / 16);
    want.x[i] = element(x, dtype, i), want.grad[i] = element(grad, dtype, i), want.losses[i] = (double)(i % 13) / 4 - 1;
  }
  expect_gate(isa, &bits, dtype, logits, &want);
  const fd_array x_array = {x, &flat}, grad_array = {grad, &flat};
  check_gate_slopes(isa, &bits, dtype, &x_array, &grad_array, &want);
  for (gate.antithetic = 0; gate.antithetic < 2; gate.antithetic++)
    for (int op = FD_SCALE; op <= FD_WITH_RATES; op += FD_WITH_RATES) {
      fd_call call = {.bits = bits, .op = op, .dtype = dtype, .scale = 1, .n = n, .x = x_array, .y = {y, &flat}};
      call.bypass_bytes = op ? 0 : INT64_MAX;
      fd_apply(isa, &call, 1 + dtype % 3);
      int equal = 1;
      for (int64_t i = 0; i < n; i++) {
        const double scale = op ? to_compute(1 / want.keep[i], dtype) : 1;
        set_element(expected, dtype, i, want.kept[gate.antithetic][i] ? to_compute(want.x[i] * scale, dtype) : 0);
        equal &= same_element(y, expected, dtype, i);
      }
      check(equal, fd_isa_name(isa), "a gate", (uint64_t)(100 * dtype + 10 * op + gate.antithetic), n);
    }
}

void check_gate(const fd_isa *isa) {
  for (int dtype = 0; dtype < FD_DTYPES; dtype++) check_gated(isa, dtype);
}
