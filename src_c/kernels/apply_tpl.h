/* apply_tpl.h: applies packed keep bits to values of one element type, on the vocabulary of an instruction set. It is included
 * once per type: NAME(f) is f with the prefix of the stored type, COMPUTE(f) is f with the prefix of the compute type.
 *
 * A dropped value is replaced, never multiplied by 0: a dropped NaN, infinity or negative number becomes +0.0. Each operation
 * is rounded once, in the compute type. A store to a narrower type rounds once more.
 */

/* One register of one operation; `op` is a constant at every use. */
INLINE COMPUTE(v) NAME(vector)(int op, const fd_tile *tile, int64_t i) {
  COMPUTE(v) value = NAME(load)((const STORED *)tile->x + i);
  if (op == FD_SELECT) return COMPUTE(select)(tile->bits, i, value, NAME(load)((const STORED *)tile->other + i));
  if (op == FD_AFFINE) {
    value = COMPUTE(add)(COMPUTE(mul)(value, COMPUTE(set)((COMPUTED)tile->scale)), COMPUTE(set)((COMPUTED)tile->shift));
    return COMPUTE(select)(tile->bits, i, value, COMPUTE(set)((COMPUTED)tile->fill));
  }
  if (op == FD_SIGNED) {
    const COMPUTE(v) shift = COMPUTE(sign)(value, COMPUTE(set)((COMPUTED)tile->shift));
    const COMPUTE(v) dropped = COMPUTE(add)(COMPUTE(set)(0), COMPUTE(sign)(value, COMPUTE(set)(-(COMPUTED)tile->fill)));
    return COMPUTE(select)(tile->bits, i, COMPUTE(add)(COMPUTE(mul)(value, COMPUTE(set)((COMPUTED)tile->scale)), shift), dropped);
  }
  if (op == FD_MULTIPLY) return COMPUTE(mul)(value, COMPUTE(load)((const COMPUTED *)tile->factors + i));
  if (op == FD_MULTIPLY_ADD) {
    value = COMPUTE(mul)(value, COMPUTE(load)((const COMPUTED *)tile->factors + i));
    return COMPUTE(add)(value, COMPUTE(load)((const COMPUTED *)tile->other + i));
  }
  if (op == FD_ADD) return COMPUTE(add)(value, COMPUTE(load)((const COMPUTED *)tile->factors + i));
  if (op == FD_STRETCH) {
    const COMPUTE(v) scaled = COMPUTE(mul)(COMPUTE(set)((COMPUTED)tile->scale), COMPUTE(load)((const COMPUTED *)tile->factors + i));
    return COMPUTE(mul)(value, COMPUTE(add)(COMPUTE(set)(1), scaled));
  }
  if (op == FD_DIVIDE) {
    value = COMPUTE(add)(value, COMPUTE(load)((const COMPUTED *)tile->other + i));
    value = COMPUTE(div)(value, COMPUTE(load)((const COMPUTED *)tile->factors + i));
    return COMPUTE(keep)(tile->bits, i, value);
  }
  if (op & FD_WITH_BIAS) value = COMPUTE(add)(value, NAME(load)((const STORED *)tile->bias + i));
  if (op & FD_WITH_RATES)
    value = COMPUTE(mul)(value, COMPUTE(load)((const COMPUTED *)tile->factors + i));
  else
    value = COMPUTE(mul)(value, COMPUTE(set)((COMPUTED)tile->scale));
  value = COMPUTE(keep)(tile->bits, i, value);
  if (op & FD_WITH_RESIDUAL) value = COMPUTE(add)(NAME(load)((const STORED *)tile->other + i), value);
  return value;
}

/* The elements after the last whole register, through buffers of one register, so that the operations are the same. */
INLINE void NAME(tail)(int op, const fd_tile *tile, int64_t i) {
  STORED x[LANES_OF] = {0}, bias[LANES_OF] = {0}, other[LANES_OF] = {0}, y[LANES_OF];
  COMPUTED factors[LANES_OF] = {0}, shifts[LANES_OF] = {0};
  const size_t n = (size_t)(tile->n - i), bytes = n * sizeof(STORED);
  const uint64_t bits = tile->bits ? tile->bits[i / 64] >> (i % 64) : 0; /* 0: an operation that reads no bits */
  memcpy(x, (const STORED *)tile->x + i, bytes);
  if (op < FD_AFFINE && op & FD_WITH_BIAS) memcpy(bias, (const STORED *)tile->bias + i, bytes);
  if (op == FD_SELECT || (op < FD_AFFINE && op & FD_WITH_RESIDUAL)) memcpy(other, (const STORED *)tile->other + i, bytes);
  if (op >= FD_MULTIPLY || (op < FD_AFFINE && op & FD_WITH_RATES)) memcpy(factors, (const COMPUTED *)tile->factors + i, n * sizeof(COMPUTED));
  if (op >= FD_DIVIDE) memcpy(shifts, (const COMPUTED *)tile->other + i, n * sizeof(COMPUTED));
  const fd_tile last = {x, bias, op >= FD_DIVIDE ? (const void *)shifts : other, factors, y, &bits, LANES_OF, tile->scale, tile->shift, tile->fill, 0, 0};
  NAME(store)(y, NAME(vector)(op, &last, 0));
  memcpy((STORED *)tile->y + i, y, bytes);
}

INLINE void NAME(apply)(int op, const fd_tile *given) {
  const fd_tile tile = *given; /* a copy: stores to y cannot change it */
  STORED *y = (STORED *)tile.y;
  int64_t i = 0;
  if (BYPASS_AHEAD && tile.bypass) { /* without it, a stream is a store */
    const int64_t ahead = tile.is_apart ? 0 : BYPASS_AHEAD;
    UNROLL_STORED
    for (; i + LANES_OF <= tile.n; i += LANES_OF) {
      v_prefetch((const char *)((const STORED *)tile.x + i) + ahead);
      if (op == FD_SELECT || (op < FD_AFFINE && op & FD_WITH_RESIDUAL)) v_prefetch((const char *)((const STORED *)tile.other + i) + ahead);
      NAME(stream)(y + i, NAME(vector)(op, &tile, i));
    }
  } else {
    UNROLL_STORED
    for (; i + LANES_OF <= tile.n; i += LANES_OF) NAME(store)(y + i, NAME(vector)(op, &tile, i));
  }
  if (i < tile.n) NAME(tail)(op, &tile, i);
}

static void NAME(op_scale)(const fd_tile *tile) { NAME(apply)(FD_SCALE, tile); }
static void NAME(op_bias)(const fd_tile *tile) { NAME(apply)(FD_WITH_BIAS, tile); }
static void NAME(op_each)(const fd_tile *tile) { NAME(apply)(FD_WITH_RATES, tile); }
static void NAME(op_each_bias)(const fd_tile *tile) { NAME(apply)(FD_WITH_RATES | FD_WITH_BIAS, tile); }
static void NAME(op_residual)(const fd_tile *tile) { NAME(apply)(FD_WITH_RESIDUAL, tile); }
static void NAME(op_bias_residual)(const fd_tile *tile) { NAME(apply)(FD_WITH_BIAS | FD_WITH_RESIDUAL, tile); }
static void NAME(op_each_residual)(const fd_tile *tile) { NAME(apply)(FD_WITH_RATES | FD_WITH_RESIDUAL, tile); }
static void NAME(op_each_bias_residual)(const fd_tile *tile) {
  NAME(apply)(FD_WITH_RATES | FD_WITH_BIAS | FD_WITH_RESIDUAL, tile);
}
static void NAME(op_affine)(const fd_tile *tile) { NAME(apply)(FD_AFFINE, tile); }
static void NAME(op_select)(const fd_tile *tile) { NAME(apply)(FD_SELECT, tile); }
static void NAME(op_signed)(const fd_tile *tile) { NAME(apply)(FD_SIGNED, tile); }
static void NAME(op_multiply)(const fd_tile *tile) { NAME(apply)(FD_MULTIPLY, tile); }
static void NAME(op_add)(const fd_tile *tile) { NAME(apply)(FD_ADD, tile); }
static void NAME(op_stretch)(const fd_tile *tile) { NAME(apply)(FD_STRETCH, tile); }
static void NAME(op_divide)(const fd_tile *tile) { NAME(apply)(FD_DIVIDE, tile); }
static void NAME(op_multiply_add)(const fd_tile *tile) { NAME(apply)(FD_MULTIPLY_ADD, tile); }

/* Converts stored elements to the compute type. */
static void NAME(widen)(const void *stored, int64_t n, void *out) {
  const STORED *from = (const STORED *)stored;
  COMPUTED *to = (COMPUTED *)out;
  int64_t i = 0;
  for (; i + LANES_OF <= n; i += LANES_OF) COMPUTE(store)(to + i, NAME(load)(from + i));
  STORED last[LANES_OF] = {0};
  COMPUTED wide[LANES_OF];
  memcpy(last, from + i, (size_t)(n - i) * sizeof *last);
  COMPUTE(store)(wide, NAME(load)(last));
  memcpy(to + i, wide, (size_t)(n - i) * sizeof *wide);
}

#undef NAME
#undef COMPUTE
#undef LANES_OF
#undef UNROLL_STORED
#undef STORED
#undef COMPUTED
