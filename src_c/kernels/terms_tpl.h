/* terms_tpl.h: the terms of sums: numbers of type IN, or their products, in the type OUT. It is included once per pair of types. */
static void NAME(sum_terms)(const void *x, const void *other, int64_t n, void *out) {
  const IN *a = (const IN *)x, *b = (const IN *)other;
  OUT *y = (OUT *)out;
  if (b)
    for (int64_t i = 0; i < n; i++) y[i] = (OUT)a[i] * (OUT)b[i];
  else
    for (int64_t i = 0; i < n; i++) y[i] = (OUT)a[i];
}

#undef NAME
#undef IN
#undef OUT
