/* rates_tpl.h: keep bits and factors for one rate, or one keep probability, per element. This is plain C, vectorized by the flags of
 * each ISA file.
 */

/* Sixteen binary digits of each rate of a tile: the upper eight of all rates, then the lower eight of all rates. */
typedef struct {
  uint8_t digits[2][FD_TILE];
} split_rates;

/* p 2^64, rounded to nearest even; arbitrary for p = 1. */
INLINE uint64_t fixed_rate(double p) {
  const double scaled = p * 0x1p32;
  const int64_t whole = (int64_t)scaled;
  const double fraction = (scaled - (double)whole) * 0x1p32; /* exact: both are multiples of p's last place */
  const double rounded = (fraction + 0x1p52) - 0x1p52;       /* to nearest even; may be 2^32, which carries */
  return ((uint64_t)whole << 32) + (uint64_t)(int64_t)rounded;
}

INLINE double rate_at(const void *rates, int rates_dtype, int64_t i) {
  const double value = rates_dtype & FD_FLOAT64 ? ((const double *)rates)[i] : (double)((const float *)rates)[i];
  return rates_dtype & FD_KEPT ? 1.0 - value : value;
}

/* Splits rates of float32; returns whether any is 1. */
INLINE int split_singles(const float *rates, int64_t n, uint8_t *high, uint8_t *low) {
  int any_certain = 0;
  INDEPENDENT for (int64_t i = 0; i < n; i++) {
    const int32_t upper = (int32_t)(rates[i] * 0x1p16f);
    high[i] = (uint8_t)(upper >> 8);
    low[i] = (uint8_t)upper;
    any_certain |= upper; /* bit 16 */
  }
  return any_certain >> 16;
}

/* The same for keep probabilities: 65536 (1 - keep), rounded down. 1 - keep rounds to 1 from 2^-54 down. */
INLINE int split_kept_singles(const float *keep, int64_t n, uint8_t *high, uint8_t *low) {
  int any_certain = 0;
  INDEPENDENT for (int64_t i = 0; i < n; i++) {
    const float scaled = keep[i] * 0x1p16f;
    const int32_t whole = (int32_t)scaled, upper = 0x10000 - whole - ((float)whole < scaled);
    high[i] = (uint8_t)(upper >> 8);
    low[i] = (uint8_t)upper;
    any_certain |= keep[i] <= 0x1p-54f;
  }
  return any_certain;
}

INLINE int split_doubles(const void *rates, int rates_dtype, int64_t n, uint8_t *high, uint8_t *low) {
  int any_certain = 0;
  INDEPENDENT for (int64_t i = 0; i < n; i++) {
    const double rate = rate_at(rates, rates_dtype, i);
    const uint64_t fixed = fixed_rate(rate);
    high[i] = (uint8_t)(fixed >> 56);
    low[i] = (uint8_t)(fixed >> 48);
    any_certain |= rate == 1.0;
  }
  return any_certain;
}

/* Fills in the digits that decide nearly all elements. For a float32, rounding at 2^-64 never carries this far up. The first
 * `skip` places belong to no element. Returns whether any rate is 1. */
static int split_upper(const void *rates, int rates_dtype, int64_t n, int skip, split_rates *split) {
  uint8_t *high = split->digits[0], *low = split->digits[1];
  int any_certain;
  memset(high, 0, (size_t)skip);
  memset(low, 0, (size_t)skip);
  high += skip, low += skip;
  if (rates_dtype == FD_FLOAT32) any_certain = split_singles((const float *)rates, n, high, low);
  else if (rates_dtype == (FD_FLOAT32 | FD_KEPT)) any_certain = split_kept_singles((const float *)rates, n, high, low);
  else if (rates_dtype == FD_FLOAT64) any_certain = split_doubles(rates, FD_FLOAT64, n, high, low);
  else any_certain = split_doubles(rates, FD_FLOAT64 | FD_KEPT, n, high, low);
  for (int64_t i = n; (skip + i) % 64; i++) high[i] = low[i] = 0;
  return any_certain;
}

/* Replaces the upper digits by digits 8 * byte to 8 * byte + 7. One tile in fifteen needs byte 2; hardly any needs byte 3. */
static void split_byte(const void *rates, int rates_dtype, int64_t n, int skip, int byte, split_rates *split) {
  uint8_t *digits = split->digits[0] + skip;
  INDEPENDENT for (int64_t i = 0; i < n; i++) digits[i] = (uint8_t)(fixed_rate(rate_at(rates, rates_dtype, i)) >> (56 - 8 * byte));
}

/* Drops the elements with rate 1, whose digits do not fit. */
static void drop_certain(const void *rates, int rates_dtype, int64_t n, int skip, uint64_t *bits) {
  for (int64_t i = 0; i < n; i++)
    bits[(skip + i) / 64] &= ~((uint64_t)(rate_at(rates, rates_dtype, i) == 1.0) << ((skip + i) % 64));
}

/* The digit-by-digit comparison of bits_tpl.h, with digits that differ from element to element. */
typedef struct {
  uint64_t undecided[FD_TILE_WORDS], *kept;
  int64_t words;
} rates_comparison;

INLINE void compare_word(rates_comparison *with, int64_t k, uint64_t plane_bits, uint64_t digits) {
  const uint64_t differ = plane_bits ^ digits;
  with->kept[k] |= with->undecided[k] & differ & plane_bits;
  with->undecided[k] &= ~differ;
}

/* Compares one plane of all words. Meanwhile it prefetches memory that will be read soon: half a line of each range per
 * word. */
static void compare_all(rates_comparison *with, const uint64_t *plane_bits, const uint8_t *digits, int shift,
                        const prefetch_run ahead[2]) {
  uint64_t words[FD_TILE_WORDS];
  for (int64_t k = 0; k < with->words; k++) words[k] = u8_digits(digits + 64 * k, shift);
  for (int64_t k = 0; k < with->words / 2; k++)
    v_prefetch(ahead[0].at + ahead[0].step * k), v_prefetch(ahead[1].at + ahead[1].step * k);
  for (int64_t k = 0; k < with->words; k++) compare_word(with, k, plane_bits[k], words[k]);
}

/* Compares one plane of the words in the list `open`, which still have undecided elements. Returns how many words are left. */
static int64_t compare_open(rates_comparison *with, const uint64_t *plane_bits, const uint8_t *digits, int shift,
                            uint8_t *open, int64_t count) {
  int64_t left = 0;
  for (int64_t m = 0; m < count; m++) {
    const int64_t k = open[m];
    compare_word(with, k, plane_bits[k], u8_digits(digits + 64 * k, shift));
    open[left] = (uint8_t)k;
    left += with->undecided[k] != 0;
  }
  return left;
}

/* After the first planes few words are open. During these planes, the rates of the next tile and `ahead` are prefetched. */
static void keep_rates(const void *rates, int rates_dtype, int64_t n, int skip, plane_source *plane, void *from,
                       uint64_t *bits, const prefetch_run *ahead) {
  enum { DENSE_PLANES = 8 };
  split_rates split;
  uint8_t open[FD_TILE_WORDS];
  rates_comparison with = {.kept = bits, .words = (skip + n + 63) / 64};
  for (int64_t k = 0; k < with.words; k++) with.undecided[k] = ~(uint64_t)0, bits[k] = 0, open[k] = (uint8_t)k;
  const int any_certain = split_upper(rates, rates_dtype, n, skip, &split);
  prefetch_run next[2] = {{(const char *)rates + n * (rates_dtype & FD_FLOAT64 ? 8 : 4), 64}, prefetch_from(ahead, rates)};
  for (uint32_t j = 0; j < DENSE_PLANES; j++) {
    compare_all(&with, plane(from, j), split.digits[0], 7 - (int)j, next);
    for (int k = 0; k < 2; k++) next[k].at += next[k].step * (with.words / 2);
  }
  int64_t count = with.words;
  for (uint32_t j = DENSE_PLANES; j < 64 && count; j++) {
    if (j >= 16 && j % 8 == 0) split_byte(rates, rates_dtype, n, skip, (int)(j / 8), &split);
    count = compare_open(&with, plane(from, j), split.digits[j / 8 == 1], 7 - (int)(j % 8), open, count);
  }
  for (int64_t m = 0; m < count; m++) bits[open[m]] |= with.undecided[open[m]];
  if (any_certain) drop_certain(rates, rates_dtype, n, skip, bits);
}

/* This reads the whole array and computes almost nothing, so it prefetches far ahead. */
static int64_t first_bad_rate(const void *rates, int rates_dtype, int64_t n) {
  enum { CHUNK = 1024, AHEAD = 8192 };
  const float *singles = (const float *)rates;
  const double *doubles = (const double *)rates;
  const int64_t itemsize = rates_dtype == FD_FLOAT32 ? 4 : 8;
  for (int64_t begin = 0; begin < n; begin += CHUNK) {
    const int64_t end = begin + CHUNK < n ? begin + CHUNK : n;
    for (int64_t at = begin * itemsize; at < end * itemsize; at += 64) v_prefetch((const char *)rates + at + AHEAD);
    int good = 1; /* the loop has no branch, so that it vectorizes; a NaN fails both comparisons */
    if (rates_dtype == FD_FLOAT32)
      for (int64_t i = begin; i < end; i++) good &= (singles[i] >= 0.0f) & (singles[i] <= 1.0f);
    else
      for (int64_t i = begin; i < end; i++) good &= (doubles[i] >= 0.0) & (doubles[i] <= 1.0);
    for (int64_t i = begin; !good && i < end; i++) {
      const double p = rate_at(rates, rates_dtype, i);
      if (!(p >= 0.0 && p <= 1.0)) return i;
    }
  }
  return n;
}

static void factors32(const void *rates, int rates_dtype, int64_t n, void *out) {
  float *factors = (float *)out;
  const float *singles = (const float *)rates;
  const double *doubles = (const double *)rates;
  if (rates_dtype == (FD_FLOAT32 | FD_KEPT))
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = 1.0f / singles[i];
  else if (rates_dtype == FD_FLOAT32)
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = (float)(1.0 / (1.0 - (double)singles[i]));
  else
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = (float)(1.0 / (1.0 - doubles[i]));
}

static void factors64(const void *rates, int rates_dtype, int64_t n, void *out) {
  double *factors = (double *)out;
  const float *singles = (const float *)rates;
  const double *doubles = (const double *)rates;
  if (rates_dtype == (FD_FLOAT64 | FD_KEPT))
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = 1.0 / doubles[i];
  else if (rates_dtype == FD_FLOAT32)
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = 1.0 / (1.0 - (double)singles[i]);
  else
    INDEPENDENT for (int64_t i = 0; i < n; i++) factors[i] = 1.0 / (1.0 - doubles[i]);
}
