/* terms_tpl.h: the terms of sums: numbers of type IN, or their products, in the type OUT. It is included once per pair of types. */
static void NAME(sum_terms)(const void *x, const void *other, int64_t n, void *out) {
  const IN *a = (const IN *)x, *b = (const IN *)other;
  OUT *y = (OUT *)out;
  if (b)
    INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (OUT)a[i] * (OUT)b[i];
  else
    INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = (OUT)a[i];
}

/* Sums (a + b) + (c + d) of four terms. Squares are products of an array with itself. */
static void NAME(sum_fours)(const void *const x[4], const void *const other[4], int64_t n, void *out) {
  const IN *a = (const IN *)x[0], *b = (const IN *)x[1], *c = (const IN *)x[2], *d = (const IN *)x[3];
  OUT *y = (OUT *)out;
  if (other[0] == x[0]) {
    INDEPENDENT for (int64_t i = 0; i < n; i++)
      y[i] = ((OUT)a[i] * (OUT)a[i] + (OUT)b[i] * (OUT)b[i]) + ((OUT)c[i] * (OUT)c[i] + (OUT)d[i] * (OUT)d[i]);
  } else if (other[0]) {
    const IN *e = (const IN *)other[0], *f = (const IN *)other[1], *g = (const IN *)other[2], *h = (const IN *)other[3];
    INDEPENDENT for (int64_t i = 0; i < n; i++)
      y[i] = ((OUT)a[i] * (OUT)e[i] + (OUT)b[i] * (OUT)f[i]) + ((OUT)c[i] * (OUT)g[i] + (OUT)d[i] * (OUT)h[i]);
  } else {
    INDEPENDENT for (int64_t i = 0; i < n; i++) y[i] = ((OUT)a[i] + (OUT)b[i]) + ((OUT)c[i] + (OUT)d[i]);
  }
}

#undef NAME
#undef IN
#undef OUT
