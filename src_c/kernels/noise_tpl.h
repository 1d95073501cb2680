/* noise_tpl.h: converts random numbers to the factors of a tile's elements, or to the numbers that are added to them
 * (fastdrop.h has the formulas). They are the operations of fastdrop/_core/backends/noise.py in the same order. This is plain
 * C, included once per compute type: NAME(f) is f with the suffix of the type.
 */

/* Raises up to 256 numbers to the power doubled / 2. */
static void NAME(power_of_half)(REAL *r, int64_t n, int doubled) {
  REAL square[256];
  memcpy(square, r, (size_t)n * sizeof *r);
  if (doubled % 2)
    for (int64_t i = 0; i < n; i++) r[i] = SQRT(r[i]);
  else
    for (int64_t i = 0; i < n; i++) r[i] = 1;
  for (int whole = doubled / 2; whole; whole /= 2) {
    if (whole % 2)
      for (int64_t i = 0; i < n; i++) r[i] = r[i] * square[i];
    if (whole > 1)
      for (int64_t i = 0; i < n; i++) square[i] = square[i] * square[i];
  }
}

/* Raises n numbers to a power. If twice the exponent is a small integer, as at the usual temperatures, it squares and takes a
 * root. */
static void NAME(power)(REAL *r, int64_t n, double exponent) {
  enum { PIECE = 256 };
  const double doubled = 2 * exponent;
  if (!(doubled >= 1 && doubled <= 64 && doubled == (double)(int)doubled)) {
    const REAL factor = (REAL)exponent;
    for (int64_t i = 0; i < n; i++) r[i] = NAME(exp)(factor * NAME(log)(r[i]));
    return;
  }
  for (; n > 0; n -= PIECE, r += PIECE) NAME(power_of_half)(r, n < PIECE ? n : PIECE, (int)doubled);
}

static void NAME(gaussian)(const fd_noise_tile *tile) {
  const REAL *z = (const REAL *)tile->noise, scale = (REAL)tile->params[0];
  REAL *factors = (REAL *)tile->factors;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = (REAL)1 + scale * z[i];
}

static void NAME(additive)(const fd_noise_tile *tile) {
  const REAL *z = (const REAL *)tile->noise, scale = (REAL)tile->params[0];
  REAL *factors = (REAL *)tile->factors;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = scale * z[i];
}

static void NAME(spread)(const fd_noise_tile *tile) {
  const REAL *z = (const REAL *)tile->noise, *variance = (const REAL *)tile->other, least = (REAL)tile->params[0];
  REAL *factors = (REAL *)tile->factors;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = SQRT(variance[i] + least) * z[i];
}

static void NAME(spread_slope)(const fd_noise_tile *tile) {
  const REAL *z = (const REAL *)tile->noise, *variance = (const REAL *)tile->other, least = (REAL)tile->params[0];
  REAL *factors = (REAL *)tile->factors;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = (z[i] * (REAL)0.5) / SQRT(variance[i] + least);
}

static void NAME(concrete)(const fd_noise_tile *tile) {
  const REAL *u = (const REAL *)tile->noise, odds = (REAL)tile->params[0], least = (REAL)tile->params[1];
  const REAL scale = (REAL)tile->params[3], steepness = (REAL)tile->params[4];
  REAL *factors = (REAL *)tile->factors, *slopes = (REAL *)tile->slopes;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = odds * ((((REAL)1 - u[i]) + least) / (u[i] + least));
  NAME(power)(factors, tile->n, tile->params[2]);
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) {
    const REAL drop = (REAL)1 / ((REAL)1 + factors[i]), kept = ((REAL)1 - drop) * scale;
    factors[i] = kept;
    if (slopes) slopes[i] = kept * scale - (drop * kept) * steepness;
  }
}

static void NAME(uniform)(const fd_noise_tile *tile) {
  const REAL *u = (const REAL *)tile->noise, width = (REAL)tile->params[0];
  REAL *factors = (REAL *)tile->factors, *slopes = (REAL *)tile->slopes;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) {
    const REAL centred = (u[i] + u[i]) - (REAL)1;
    factors[i] = (REAL)1 + width * centred;
    if (slopes) slopes[i] = centred;
  }
}

static void NAME(scaled)(const fd_noise_tile *tile) {
  const REAL *z = (const REAL *)tile->noise, *scale = (const REAL *)tile->other;
  REAL *factors = (REAL *)tile->factors;
  INDEPENDENT for (int64_t i = 0; i < tile->n; i++) factors[i] = (REAL)1 + scale[i] * z[i];
}

/* Keep probabilities. That of a NaN is -0. */
static void NAME(gate)(const void *logits, int64_t n, double gain, double shift, void *keep) {
  const REAL *x = (const REAL *)logits, slope = (REAL)gain, base = (REAL)shift;
  REAL *p = (REAL *)keep;
  INDEPENDENT for (int64_t i = 0; i < n; i++) p[i] = slope * x[i] + base;
  FD_JOIN(NAME(sigmoid), _all)(p, n, p);
  INDEPENDENT for (int64_t i = 0; i < n; i++) p[i] = p[i] == p[i] ? p[i] : -(REAL)0;
}

/* The slope of one logit; `estimator` and `divided` are constants at every use. */
INLINE REAL NAME(gate_slope)(const fd_gate_tile *tile, int estimator, int divided, int64_t i) {
  const REAL keep = ((const REAL *)tile->keep)[i], drop = (REAL)1 - keep, inverse = (REAL)1 / keep, half = (REAL)0.5;
  const REAL kept = ((const REAL *)tile->kept)[i];
  const REAL product = estimator == FD_STRAIGHT || divided ? ((const REAL *)tile->grad)[i] * ((const REAL *)tile->x)[i] : 0;
  REAL slope = estimator == FD_STRAIGHT ? product * (divided ? drop : keep * drop) : ((const REAL *)tile->losses)[i];
  if (estimator == FD_SCORE) slope = slope * (kept - keep);
  if (estimator == FD_DISARM) slope = slope * ((kept - ((const REAL *)tile->antithetic)[i]) * (half * (keep > drop ? keep : drop)));
  if (divided) slope = slope - (kept != 0 ? product * inverse : 0) * drop;
  return inverse == -(REAL)INFINITY ? 0 : (REAL)tile->gain * slope; /* 1 / -0: the probability is unknown */
}

INLINE void NAME(gate_slopes_by)(const fd_gate_tile *tile, int estimator, int divided) {
  const fd_gate_tile of = *tile; /* a copy: stores to slopes cannot change it */
  REAL *slopes = (REAL *)of.slopes;
  INDEPENDENT for (int64_t i = 0; i < of.n; i++) slopes[i] = NAME(gate_slope)(&of, estimator, divided, i);
}

static void NAME(gate_slopes)(const fd_gate_tile *tile, int estimator, int divided) {
  switch (2 * estimator + !!divided) {
    case 2 * FD_STRAIGHT: NAME(gate_slopes_by)(tile, FD_STRAIGHT, 0); break;
    case 2 * FD_STRAIGHT + 1: NAME(gate_slopes_by)(tile, FD_STRAIGHT, 1); break;
    case 2 * FD_SCORE: NAME(gate_slopes_by)(tile, FD_SCORE, 0); break;
    case 2 * FD_SCORE + 1: NAME(gate_slopes_by)(tile, FD_SCORE, 1); break;
    case 2 * FD_DISARM: NAME(gate_slopes_by)(tile, FD_DISARM, 0); break;
    case 2 * FD_DISARM + 1: NAME(gate_slopes_by)(tile, FD_DISARM, 1); break;
    case 2 * FD_GIVEN: NAME(gate_slopes_by)(tile, FD_GIVEN, 0); break;
    default: NAME(gate_slopes_by)(tile, FD_GIVEN, 1);
  }
}

/* Replaces each slope by g * x * slope. */
static void NAME(products)(const void *gradients, const void *values, int64_t n, void *slopes) {
  const REAL *g = (const REAL *)gradients, *x = (const REAL *)values;
  REAL *products = (REAL *)slopes;
  INDEPENDENT for (int64_t i = 0; i < n; i++) products[i] = (g[i] * x[i]) * products[i];
}

/* Sum of a tile in float64: the second half is added to the first until one number is left. The first two steps are one.
 * There is room for a whole tile. */
static double NAME(sum)(void *products, int64_t n) {
  enum { HALF = FD_NOISE_TILE / 2, QUARTER = FD_NOISE_TILE / 4 };
  REAL *p = (REAL *)products;
  double sums[QUARTER];
  for (int64_t i = n; i < FD_NOISE_TILE; i++) p[i] = 0;
  for (int64_t i = 0; i < QUARTER; i++)
    sums[i] = ((double)p[i] + (double)p[i + HALF]) + ((double)p[i + QUARTER] + (double)p[i + HALF + QUARTER]);
  for (int64_t half = QUARTER / 2; half; half /= 2)
    for (int64_t i = 0; i < half; i++) sums[i] += sums[i + half];
  return sums[0];
}

#undef NAME
#undef REAL
#undef SQRT
