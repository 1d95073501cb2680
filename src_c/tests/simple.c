/* simple.c: the interface for compiled code, on the best instruction set. */
#include "selftest.h"

/* It gives the bytes of fd_apply, and an error number for each bad argument. */
void check_simple(void) {
  static float x[300], y[300], made[300];
  static uint8_t bits[38];
  const fd_isa *isa = fd_isa_at(0);
  const fd_key key = {7, 3};
  const int64_t n = 300;
  const fd_layout row = line_of(n, 4, 4);
  for (int i = 0; i < 300; i++) x[i] = (float)i - 150;
  fd_call call = {.bits = bits_of(key, 0.3, 70), .op = FD_SCALE, .scale = fd_inverted_scale(0.3, FD_FLOAT32), .n = n};
  call.x = (fd_array){x, &row}, call.y = (fd_array){y, &row}, call.bypass_bytes = INT64_MAX;
  fd_apply(isa, &call, 1);
  check(!fd_drop(x, made, n, FD_FLOAT32, 0.3, 7, 3, 70, 3) && !memcmp(made, y, sizeof y), "simple", "fd_drop", 70, n);
  int equal = !fd_keep_bits(bits, n, 0.3, 7, 3, 70, 3);
  for (int i = 0; i < 300; i++) equal &= (bits[i / 8] >> i % 8 & 1) == is_kept(key, fd_rate_of(0.3).fixed, 70 + (uint64_t)i);
  check(equal && bits[37] < 16, "simple", "fd_keep_bits", 70, n);
  check(fd_derive(7, 3) == fd_fold_in(isa, 7, 3) && fd_abi() == 1, "simple", "fd_derive and fd_abi", 0, 0);
  const uint64_t end = UINT64_C(1) << 55;
  const int errors[] = {fd_drop(x, made, 4, FD_DTYPES, 0.5, 1, 0, 0, 1), fd_drop(x, made, 4, 0, NAN, 1, 0, 0, 1),
                        fd_drop(x, made, -1, 0, 0.5, 1, 0, 0, 1),        fd_drop(x, made, 4, 0, 0.5, 1, 0, end - 3, 1),
                        fd_drop(x, made, 4, 0, 0.5, 1, 0, 0, 0),         fd_drop(x, 0, 4, 0, 0.5, 1, 0, 0, 1),
                        fd_drop(x, (char *)made + 1, 4, 0, 0.5, 1, 0, 0, 1), fd_drop(made, made + 3, 4, 0, 0.5, 1, 0, 0, 1)};
  for (int i = 0; i < FD_ERRORS - 1; i++) check(errors[i] == i + 1 && *fd_error_text(i + 1), "simple", "error", 0, i + 1);
  check(!memcmp(made, y, sizeof y) && !fd_drop(0, 0, 0, 0, 0.5, 1, 0, end, 1), "simple", "nothing written", 0, 0);
}
