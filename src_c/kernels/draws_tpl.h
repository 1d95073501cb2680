/* draws_tpl.h: counts of draws to factors and keep bits. This is plain C, included once per compute type. */

/* factors[i] = counts[i] 2^32 / expected[i], rounded to double and then to the compute type; bit i says whether it is not 0. */
static void NAME(draw_factors)(const uint32_t *counts, const double *expected, int64_t n, void *out, uint64_t *bits) {
  uint8_t flags[FD_DRAWS_PIECE];
  REAL *factors = (REAL *)out;
  INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = (REAL)((double)counts[i] * 0x1p32 / expected[i]);
  INDEPENDENT for (int64_t i = 0; i < n; i++) flags[i] = counts[i] != 0;
  for (int64_t i = n; i % 64; i++) flags[i] = 0;
  for (int64_t i = 0; i < n; i += 64) bits[i / 64] = u8_digits(flags + i, 0);
}

#undef NAME
#undef REAL
