/* source.c: keep bits of the elements of a call, from one rate, from one rate per element, from a mask with its own layout, or
 * from the caller. */
#include <string.h>

#include "drivers/drive.h"

void fd_source_open(bit_source *source, const fd_isa *isa, const fd_bits *from) {
  const fd_layout *layout = from->mask_layout;
  const int inner = layout->ndim - 1, in_order = fd_layout_is_flat(layout, 1) && !from->places;
  source->from = from;
  source->is_given = from->flags.data || (from->packed && in_order && !from->first);
  source->is_flat = in_order && !from->packed;
  source->has_rate_runs = fd_has_rate_runs(from);
  source->repeat.size = 0;
  if (inner > 0 && layout->strides[inner] == 0 && layout->strides[inner - 1] == 1 && layout->shape[inner] <= FD_MOST_REPEATED)
    fd_repeat_open(&source->repeat, layout->shape[inner]);
  source->antithetic = from->gate && from->gate->antithetic;
  source->cached_first = source->cached_count = 0;
  fd_window_open(&source->window, isa, from->key, from->rate);
}

/* Converts up to FD_TILE / 8 + 1 bytes to little-endian words, and fills the last word with zeros. */
static void words_of_bytes(uint64_t *words, const uint8_t *bytes, int64_t n) {
  if (FD_BIG_ENDIAN)
    memset(words, 0, (size_t)(n + 7) / 8 * 8);
  else if (n % 8)
    words[n / 8] = 0;
  if (FD_BIG_ENDIAN)
    for (int64_t k = 0; k < n; k++) words[k / 8] |= (uint64_t)bytes[k] << (8 * (k % 8));
  else
    memcpy(words, bytes, (size_t)n);
}

/* Makes the groups of the cache, or copies them from the caller's own bits. */
static void fill_cache(bit_source *source) {
  const uint8_t *packed = source->from->packed;
  const int64_t count = (int64_t)source->cached_count;
  if (packed)
    words_of_bytes(source->cache, packed + source->cached_first * (FD_GROUP / 8), count * (FD_GROUP / 8));
  else
    fd_window_groups(&source->window, source->cached_first, count, source->cache, 0);
}

/* Returns up to n bits of the mask from bit `index` on, from cached groups. A mask with its own layout is walked in short runs,
 * which often use the same bits again. */
static int64_t cached_bits(bit_source *source, uint64_t index, int64_t n, const uint64_t **words, int *shift) {
  const uint64_t group = index / FD_GROUP, last = (index + (uint64_t)n - 1) / FD_GROUP;
  if (group - source->cached_first >= source->cached_count) {
    /* A walk that continues will probably continue further, so a whole tile is made. A jump may be the only access here. */
    const int goes_on = source->cached_count && group == source->cached_first + source->cached_count && !source->from->packed;
    const int64_t wanted = (int64_t)(last - group) + 1;
    source->cached_count = (uint64_t)(goes_on ? FD_TILE_BLOCKS : fd_min(wanted, FD_TILE_BLOCKS));
    source->cached_first = group;
    fill_cache(source);
  }
  const int64_t position = (int64_t)(index - source->cached_first * FD_GROUP);
  *words = source->cache + position / 64;
  *shift = (int)(position % 64);
  return fd_min(n, (int64_t)source->cached_count * FD_GROUP - position);
}

static void fill_bits(uint64_t *to, int64_t at, uint64_t bit, int64_t n) {
  const uint64_t ones = 0 - bit;
  for (int64_t done = 0, step; done < n; done += step) {
    fd_copy_bits(to, at + done, &ones, 0, step = fd_min(64, n - done));
  }
}

/* Writes the bits of some elements at a walk, at most n: consecutive bits, elements that share one bit, whole groups that share
 * one bit each, or a single bit. Moves the walk on, and returns the number of elements. */
static int64_t some_bits(bit_source *source, fd_walk *walk, int64_t n, uint64_t *to, int64_t at) {
  const fd_layout *layout = source->from->mask_layout;
  const int inner = layout->ndim - 1;
  const int64_t step = layout->strides[inner], size = source->repeat.size;
  const uint64_t *words, index = source->from->first + (uint64_t)walk->at;
  int64_t run = fd_min(n, layout->shape[inner] - walk->index[inner]);
  int shift;
  if (size && walk->index[inner] == 0 && n >= 2 * size) {
    const int64_t groups = fd_min(n / size, layout->shape[inner - 1] - walk->index[inner - 1]);
    const int64_t got = cached_bits(source, index, groups, &words, &shift);
    fd_repeat_bits(&source->repeat, to, at, words, shift, got);
    fd_walk_along(walk, layout, inner - 1, got);
    return got * size;
  }
  if (step == 0) {
    cached_bits(source, index, 1, &words, &shift);
    fill_bits(to, at, *words >> shift & 1, run);
  } else {
    run = cached_bits(source, index, step == 1 ? run : 1, &words, &shift);
    fd_copy_bits(to, at, words, shift, run);
  }
  fd_walk_on(walk, layout, run);
  return run;
}

/* Bits of n neighbours in the array that mask_layout covers, from number i on. */
static void neighbouring_bits(bit_source *source, int64_t i, int64_t n, uint64_t *to, int64_t at) {
  fd_walk walk;
  fd_walk_to(&walk, source->from->mask_layout, i);
  for (int64_t done = 0; done < n;) done += some_bits(source, &walk, n - done, to, at + done);
}

/* Bits of a mask with its own layout. */
static void laid_bits(bit_source *source, int64_t i, int64_t n, uint64_t *bits) {
  const fd_layout *places = source->from->places;
  memset(bits, 0, sizeof source->bits);
  if (!places) {
    neighbouring_bits(source, i, n, bits, 0);
    return;
  }
  fd_walk walk;
  fd_walk_to(&walk, places, i);
  for (int64_t done = 0, run; done < n; done += run) {
    run = fd_min(n - done, places->shape[places->ndim - 1] - walk.index[places->ndim - 1]);
    neighbouring_bits(source, source->from->first_place + walk.at, run, bits, done);
    fd_walk_on(&walk, places, run);
  }
}

static const uint64_t *stream_bits(bit_source *source, int64_t i, int64_t n, const prefetch_run *ahead) {
  if (source->is_flat) return fd_window_bits(&source->window, source->from->first + (uint64_t)i, n, ahead);
  laid_bits(source, i, n, source->bits);
  return source->bits;
}

/* One binary digit of U for each current element. For neighbouring indices these are whole groups of the plane. */
static const uint64_t *plane_of_tile(void *from, uint32_t plane) {
  bit_source *source = (bit_source *)from;
  source->window.plane = (int)plane;
  source->cached_first = source->cached_count = 0;
  if (!source->is_flat) {
    laid_bits(source, source->tile_first, source->tile_n, source->bits);
    return source->bits;
  }
  const uint64_t index = source->from->first + (uint64_t)source->tile_first;
  const uint64_t last = (index + (uint64_t)source->tile_n - 1) / FD_GROUP;
  fd_window_groups(&source->window, index / FD_GROUP, (int64_t)(last - index / FD_GROUP) + 1, source->cache, 0);
  return source->cache;
}

int fd_has_rate_runs(const fd_bits *bits) {
  if (!bits->rates.data || bits->gate || bits->packed || bits->flags.data) return 0;
  const int inner = bits->rates.layout->ndim - 1;
  return bits->rates.layout->strides[inner] == 0 && bits->rates.layout->shape[inner] >= FD_LEAST_RATE_RUN;
}

double fd_rate_at(const fd_bits *bits, int64_t i, int64_t *run) {
  const char *rate = (const char *)bits->rates.data + fd_place(bits->rates.layout, i, run);
  return bits->rates_dtype == FD_FLOAT32 ? (double)*(const float *)(const void *)rate : *(const double *)(const void *)rate;
}

int64_t fd_most_bits(const fd_bits *bits) {
  if (!bits->rates.data || fd_has_rate_runs(bits)) return FD_TILE;
  const int64_t size = fd_itemsize(bits->rates_dtype), buffered = FD_RATES_BUFFER / (size == 8 ? 8 : 4);
  return (!bits->gate && fd_layout_is_flat(bits->rates.layout, size) ? FD_TILE : buffered) - FD_GROUP;
}

/* Keep probabilities from logits, in the compute type. */
static void open_gate(bit_source *source, int64_t i, int64_t n) {
  enum { PIECE = 512 };
  _Alignas(64) char stored[PIECE * 8], wide[PIECE * 4];
  const fd_bits *from = source->from;
  const fd_isa *isa = source->window.isa;
  const int is_double = from->rates_dtype == FD_FLOAT64;
  const int64_t size = fd_itemsize(from->rates_dtype), made_size = is_double ? 8 : 4;
  for (int64_t done = 0, step; done < n; done += step) {
    step = fd_min(PIECE, n - done);
    const void *logits = fd_flat_tile(from->rates, i + done, step, size, stored);
    if (size < 4) isa->widen[from->rates_dtype](logits, step, wide), logits = wide;
    isa->gate[is_double](logits, step, from->gate->gain, from->gate->shift, source->rates + done * made_size);
  }
}

static void rates_of_tile(bit_source *source, int64_t i, int64_t n) {
  const fd_bits *from = source->from;
  source->tile_first = i;
  source->tile_n = n;
  if (!from->gate) {
    source->tile_rates = fd_flat_tile(from->rates, i, n, fd_itemsize(from->rates_dtype), source->rates);
    source->tile_rates_dtype = from->rates_dtype;
    return;
  }
  open_gate(source, i, n);
  source->tile_rates = source->rates;
  source->tile_rates_dtype = (from->rates_dtype == FD_FLOAT64 ? FD_FLOAT64 : FD_FLOAT32) | FD_KEPT;
}

static const uint64_t *bits_of_rates(bit_source *source, int64_t i, int64_t n, const prefetch_run *ahead) {
  uint64_t bits[FD_TILE_WORDS + 1];
  const fd_bits *from = source->from;
  const int skip = source->is_flat ? (int)((from->first + (uint64_t)i) % FD_GROUP) : 0;
  rates_of_tile(source, i, n);
  /* The antithetic mask keeps an element if U < P: those that the rate P drops. */
  const int dtype = source->antithetic ? source->tile_rates_dtype & ~FD_KEPT : source->tile_rates_dtype;
  source->window.isa->keep_rates(source->tile_rates, dtype, n, skip, plane_of_tile, source, bits, ahead);
  if (source->antithetic)
    for (int64_t k = 0; k < (skip + n + 63) / 64; k++) bits[k] = ~bits[k];
  memset(source->bits, 0, sizeof source->bits);
  fd_copy_bits(source->bits, 0, bits + skip / 64, skip % 64, n);
  return source->bits;
}

static void set_rate(bit_source *source, double p) {
  const fd_rate rate = fd_rate_of(p), before = source->window.rate;
  if (rate.fixed == before.fixed && rate.all == before.all) return; /* the run continues: keep the bits that are already made */
  fd_window_set_rate(&source->window, rate);
  source->cached_first = source->cached_count = 0;
}

/* The same if neighbours share a rate: bits of one rate, run by run. */
static const uint64_t *bits_of_rate_runs(bit_source *source, int64_t i, int64_t n, const prefetch_run *ahead) {
  uint64_t bits[FD_TILE_WORDS + 2];
  memset(bits, 0, sizeof bits);
  for (int64_t done = 0, run; done < n; done += run) {
    set_rate(source, fd_rate_at(source->from, i + done, &run));
    run = fd_min(run, n - done);
    const uint64_t *made = stream_bits(source, i + done, run, done ? 0 : ahead);
    if (run == n) return made;
    fd_copy_bits(bits, done, made, 0, run);
  }
  memcpy(source->bits, bits, sizeof source->bits);
  return source->bits;
}

/* Converts eight bytes to eight bits that say whether each byte is not 0. A nonzero byte carries into its top bit, and the
 * product gathers the top bits. */
static uint64_t gather_flags(uint64_t bytes) {
  const uint64_t top = (((bytes & 0x7F7F7F7F7F7F7F7Fu) + 0x7F7F7F7F7F7F7F7Fu) | bytes) >> 7 & 0x0101010101010101u;
  return top * 0x0102040810204080u >> 56;
}

/* The caller's own bits, packed or one byte per element. */
static const uint64_t *given_bits(bit_source *source, int64_t i, int64_t n) {
  uint64_t *bits = source->bits, words[FD_TILE_WORDS + 1];
  memset(bits, 0, sizeof source->bits);
  if (source->from->packed) {
    const int64_t bytes = (i % 8 + n + 7) / 8;
    words_of_bytes(words, source->from->packed + i / 8, bytes);
    fd_copy_bits(bits, 0, words, (int)(i % 8), n);
  } else {
    uint8_t buffer[FD_TILE];
    const uint8_t *flags = (const uint8_t *)fd_flat_tile(source->from->flags, i, n, 1, buffer);
    int64_t k = 0;
    for (; !FD_BIG_ENDIAN && k + 8 <= n; k += 8) {
      uint64_t eight;
      memcpy(&eight, flags + k, 8);
      bits[k / 64] |= gather_flags(eight) << (k % 64);
    }
    for (; k < n; k++) bits[k / 64] |= (uint64_t)(flags[k] != 0) << (k % 64);
  }
  return bits;
}

const uint64_t *fd_source_bits(bit_source *source, int64_t i, int64_t n, const prefetch_run *ahead) {
  if (source->is_given) return given_bits(source, i, n);
  if (source->from->rates.data) return (source->has_rate_runs ? bits_of_rate_runs : bits_of_rates)(source, i, n, ahead);
  return stream_bits(source, i, n, ahead);
}

int64_t fd_source_run(bit_source *source, int64_t i, int *keep) {
  const fd_layout *layout = source->from->mask_layout, *places = source->from->places;
  const uint64_t *words;
  int64_t run = INT64_MAX, place = i, left;
  int shift;
  if (source->has_rate_runs) set_rate(source, fd_rate_at(source->from, i, &run));
  if (places) {
    place = source->from->first_place + fd_place(places, i, &left);
    run = fd_min(run, left);
  }
  cached_bits(source, source->from->first + (uint64_t)fd_place(layout, place, &left), 1, &words, &shift);
  *keep = (int)(*words >> shift & 1);
  return fd_min(run, left);
}
