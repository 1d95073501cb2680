/* noise.c: the fused pass of continuous noise. For each tile it makes words, converts them to numbers, and applies these to the
 * elements.
 */
#include <string.h>

#include "drivers/drive.h"

typedef struct {
  const fd_isa *isa;
  const fd_noise_call *call;
  fd_number_source numbers;
  int64_t itemsize;
  int is_double, adds;
  int bypass;
  int *workers; /* the number of workers that have begun; each takes its own part of the room */
} noise_job;

/* The size of a buffer in bytes. A piece has as many elements of the compute type as fit in a buffer: a tile of float32, half a
 * tile of float64. */
enum { NOISE_BUFFER = 4096 };

typedef struct {
  _Alignas(64) char noise[NOISE_BUFFER], x[NOISE_BUFFER], slopes[FD_NOISE_TILE * 8]; /* slopes of a whole tile */
  union {
    struct {
      _Alignas(64) char factors[NOISE_BUFFER], other[NOISE_BUFFER];
    };
    uint64_t words[FD_WORD_BUFFER]; /* used first, to make the noise */
  };
} noise_buffers;

static int64_t size_of(const noise_job *job) { return job->is_double ? 8 : 4; } /* of the compute type */

static const void *widened(const noise_job *job, const void *stored, int64_t n, void *buffer) {
  if (job->call->dtype == FD_FLOAT32 || job->call->dtype == FD_FLOAT64) return stored;
  job->isa->widen[job->call->dtype](stored, n, buffer);
  return buffer;
}

/* Applies a tile, and changes it; streaming stores begin at the first element of y that is aligned to a cache line. The tile is not copied:
 * a load of several of its fields would wait until all stores before it, the streaming ones too, have left the processor. */
static void apply_from_line(const noise_job *job, fd_tile *tile, int op) {
  apply_kernel *const apply = job->isa->apply[job->call->dtype][op];
  const int64_t n = tile->n, before = tile->bypass ? fd_min(fd_lead(tile->y, job->itemsize), n) : 0;
  if (before) {
    const int64_t at = before * job->itemsize, factor_at = before * size_of(job);
    tile->n = before;
    tile->bypass = 0;
    apply(tile);
    tile->n = n - before;
    tile->bypass = 1;
    tile->x = (const char *)tile->x + at;
    tile->y = (char *)tile->y + at;
    tile->factors = (const char *)tile->factors + factor_at;
    if (tile->other) tile->other = (const char *)tile->other + factor_at;
  }
  apply(tile);
}

/* The n elements from element i on of an array of the call's dtype, in the compute type. */
static const void *wide_at(const noise_job *job, fd_array array, int64_t i, int64_t n, void *stored, void *wide) {
  return widened(job, fd_flat_tile(array, i, n, job->itemsize, job->itemsize >= 4 ? wide : stored), n, wide);
}

/* `other` in the compute type. Uses `factors` as a buffer, so it comes before the factors. */
static const void *other_at(const noise_job *job, int64_t i, int64_t n, noise_buffers *buffers) {
  const fd_noise_call *call = job->call;
  if (!call->other.data) return 0;
  if (call->noise >= FD_SCALED) return fd_flat_tile(call->other, i, n, size_of(job), buffers->other);
  return wide_at(job, call->other, i, n, buffers->factors, buffers->other);
}

/* Asks for n elements of an array of the call's dtype. */
static void fetch(const noise_job *job, fd_array array, int64_t i, int64_t n) {
  if (!fd_layout_is_flat(array.layout, job->itemsize)) return;
  const char *from = (const char *)array.data + i * job->itemsize;
  for (int64_t at = 0; at < n * job->itemsize; at += 64) __builtin_prefetch(from + at);
}

/* Processes the elements i .. i + n - 1. If sums are requested, `slopes` receives the terms of the sum. For sums along an axis, as many
 * elements from `next` on are asked for, unless it is negative: not all at once, because a processor waits for two dozen lines at most. */
static void noise_piece(const noise_job *job, int64_t i, int64_t n, int64_t next, noise_buffers *buffers, void *slopes) {
  const fd_noise_call *call = job->call;
  const int y_is_flat = fd_layout_is_flat(call->y.layout, job->itemsize), is_given = call->noise == FD_FACTORS;
  void *noise = slopes && (call->noise == FD_GAUSSIAN || call->noise == FD_SCALED) ? slopes : buffers->noise;
  if (next >= 0) fetch(job, call->x, next, n);
  if (!is_given) fd_numbers_at(&job->numbers, i, n, buffers->words, noise);
  if (next >= 0) fetch(job, call->values, next, n);
  const void *other = other_at(job, i, n, buffers);
  const int at_once = call->noise == FD_GAUSSIAN && !slopes; /* the operation converts the noise to factors itself */
  if (!at_once && !is_given) {
    const fd_noise_tile tile = {noise, other, buffers->factors, slopes, n, call->params};
    job->isa->noise[call->noise][job->is_double](&tile);
  }
  /* The noise has been converted to factors and slopes, and scales to factors, so their buffers are free. */
  if (call->values.data) other = wide_at(job, call->values, i, n, buffers->noise, buffers->other);
  const void *x = fd_flat_tile(call->x, i, n, job->itemsize, buffers->x);
  if (slopes)
    job->isa->products[job->is_double](widened(job, x, n, buffers->noise), other, n, slopes);
  fd_tile values = {.x = x,
                    .other = call->shifts.data ? fd_flat_tile(call->shifts, i, n, size_of(job), buffers->slopes) : 0,
                    .factors = is_given ? other : at_once ? noise : buffers->factors,
                    .y = y_is_flat ? (char *)call->y.data + i * job->itemsize : buffers->x,
                    .n = n,
                    .scale = call->params[0],
                    .bypass = job->bypass,
                    .is_apart = call->values.data != 0};
  apply_from_line(job, &values, at_once ? FD_STRETCH : job->adds ? FD_ADD : call->shifts.data ? FD_MULTIPLY_ADD : FD_MULTIPLY);
  if (!y_is_flat) fd_scatter(buffers->x, (char *)call->y.data, call->y.layout, i, n, job->itemsize);
}

enum { SLOPES = FD_NOISE_TILE / 4 }; /* of each of four terms at a time */

static void noise_range(const void *work, int64_t begin, int64_t end) {
  const noise_job *job = (const noise_job *)work;
  const int64_t size = size_of(job), most = NOISE_BUFFER / size;
  noise_buffers buffers;
  for (int64_t i = begin; i < end; i += FD_NOISE_TILE) {
    const int64_t n = fd_min(FD_NOISE_TILE, end - i);
    for (int64_t done = 0; done < n; done += most)
      noise_piece(job, i + done, fd_min(most, n - done), -1, &buffers, job->call->sums ? buffers.slopes + done * size : 0);
    if (job->call->sums) job->call->sums[i / FD_NOISE_TILE] = job->isa->sum[job->is_double](buffers.slopes, n);
  }
  if (job->bypass) job->isa->fence();
}

/* Writes n terms of sums along an axis, which are slopes, and the results of their elements. Each term is written once. */
static void write_terms(void *from, int64_t first, int64_t n, char *out) {
  const noise_job *job = (const noise_job *)from;
  noise_buffers buffers;
  for (int64_t i = 0, some; i < n; i += some) {
    some = fd_min(SLOPES, n - i);
    noise_piece(job, first + i, some, -1, &buffers, buffers.slopes);
    job->isa->sum_terms[job->is_double ? 2 : 1](buffers.slopes, 0, some, out + i * 8);
  }
}

/* The four terms are far from each other, so that the processor does not see which elements come next. */
static void write_fours(void *from, const int64_t four[4], int64_t n, int64_t ahead, char *out) {
  (void)ahead; /* each piece of noise takes longer than memory */
  static const void *const no_other[4] = {0};
  const noise_job *job = (const noise_job *)from;
  noise_buffers buffers;
  const void *slopes[4];
  for (int64_t i = 0, some; i < n; i += some) {
    some = fd_min(SLOPES, n - i);
    for (int k = 0; k < 4; k++) {
      char *to = buffers.slopes + k * SLOPES * 8;
      slopes[k] = to;
      const int64_t next = k < 3 ? four[k + 1] + i : i + 2 * some <= n ? four[0] + i + some : -1;
      noise_piece(job, four[k] + i, some, next, &buffers, to);
    }
    job->isa->sum_fours[job->is_double ? 2 : 1](slopes, no_other, some, out + i * 8);
  }
}

static void axis_range(const void *work, int64_t begin, int64_t end) {
  noise_job job = *(const noise_job *)work;
  const fd_noise_call *call = job.call;
  const int64_t worker = __atomic_fetch_add(job.workers, 1, __ATOMIC_RELAXED), bytes = fd_sum_room(call->length, call->inner);
  char *room = bytes && call->room ? (char *)call->room + worker * bytes : 0;
  job.bypass = job.bypass && room; /* without room, pieces are short, and most do not begin with a cache line */
  const fd_halving terms = {job.isa, write_terms, &job, call->length, call->inner, 1, write_fours, room};
  fd_halve_share(&terms, begin, end, (char *)call->sums);
  if (job.bypass) job.isa->fence();
}

/* Factors in long runs: neighbours that share one factor, or whose factors are neighbours. Each run is multiplied without a copy. */
enum { LEAST_FACTOR_RUN = 128 };

static int has_factor_runs(const noise_job *job) {
  const fd_noise_call *call = job->call;
  const fd_layout *layout = call->other.layout;
  if (call->noise != FD_FACTORS || layout->shape[layout->ndim - 1] < LEAST_FACTOR_RUN) return 0;
  const int64_t step = layout->strides[layout->ndim - 1];
  return (step == size_of(job) || (step == 0 && !call->shifts.data)) && fd_layout_is_flat(call->x.layout, job->itemsize) &&
         fd_layout_is_flat(call->y.layout, job->itemsize);
}

static void factor_runs_range(const void *work, int64_t begin, int64_t end) {
  static const uint64_t all[FD_TILE_WORDS + 1] = {[0 ... FD_TILE_WORDS] = ~(uint64_t)0};
  const noise_job *job = (const noise_job *)work;
  const fd_noise_call *call = job->call;
  const fd_layout *layout = call->other.layout;
  const int inner = layout->ndim - 1, is_one = layout->strides[inner] == 0;
  fd_walk walk;
  fd_walk_to(&walk, layout, begin);
  for (int64_t i = begin, n; i < end; i += n) {
    const void *factor = (const char *)call->other.data + walk.at;
    const int64_t at = i * job->itemsize;
    n = fd_min(fd_min(FD_TILE, end - i), layout->shape[inner] - walk.index[inner]);
    fd_tile tile = {.x = (const char *)call->x.data + at,
                    .y = (char *)call->y.data + at,
                    .factors = factor,
                    .other = call->shifts.data ? (const char *)call->shifts.data + walk.at : 0,
                    .bits = all,
                    .n = n,
                    .scale = !is_one ? 0 : job->is_double ? *(const double *)factor : (double)*(const float *)factor,
                    .bypass = job->bypass};
    apply_from_line(job, &tile, is_one ? FD_SCALE : call->shifts.data ? FD_MULTIPLY_ADD : FD_MULTIPLY);
    fd_walk_on(&walk, layout, n);
  }
  if (job->bypass) job->isa->fence();
}

void fd_noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads) {
  const int64_t itemsize = fd_itemsize(call->dtype);
  const int of_uniforms = call->noise == FD_CONCRETE || call->noise == FD_UNIFORM;
  int workers = 0;
  fd_numbers_kernel *const *made = of_uniforms ? isa->uniforms : isa->normals;
  noise_job job = {isa, call, fd_numbers_open(isa, &call->numbers, made, call->dtype), itemsize, call->dtype == FD_FLOAT64, 0, 0, &workers};
  job.adds = call->noise == FD_ADDITIVE || call->noise == FD_SPREAD;
  job.bypass = fd_layout_is_flat(call->x.layout, itemsize) && fd_layout_is_flat(call->y.layout, itemsize) &&
               call->x.data != call->y.data && call->n * itemsize >= call->bypass_bytes;
  fd_parallel(call->values.data ? axis_range : has_factor_runs(&job) ? factor_runs_range : noise_range, &job, call->n, threads);
}
