/* xla.c: the handler that XLA calls for dropout. It reads XLA's call and runs the kernels.
 *
 * The structures are those of XLA's C interface (xla/ffi/api/c_api.h, version 0), as far as the handler reads them; the tests
 * compare their sizes and offsets with jaxlib's header. The operands are:
 *   x      of shape (rows..., shape...)
 *   keys   uint32 (rows..., 2 or 4): the words of seed and, if there are four, offset; the high word first
 *   begin  uint32 (axes of shape) or (0): the block's first index along each axis
 *   rate   float32 () or (0): p, unless the attribute has it
 * and the attributes are kind (int32), p (float64), factors (float64[3]) and place (int64[1 + 2 axes]: the mask's first index,
 * its step along each axis, and the size of the whole minus the block's known first index).
 */
#include "xla.h"

#include <stddef.h>
#include <string.h>

enum { XLA_METADATA = 1, XLA_INVALID_ARGUMENT = 3, XLA_FAILED_PRECONDITION = 9 };
enum { XLA_F16 = 10, XLA_F32 = 11, XLA_F64 = 12, XLA_BF16 = 16 };

typedef struct xla_extension {
  size_t size;
  int type;
  struct xla_extension *next;
} xla_extension;

typedef struct {
  size_t size;
  xla_extension *extension;
  int major, minor;
} xla_version;

typedef struct {
  size_t size;
  xla_version version;
  uint32_t traits;
} xla_metadata;

typedef struct {
  xla_extension base;
  xla_metadata *metadata;
} xla_metadata_extension;

typedef struct {
  size_t size;
  xla_extension *extension;
  const char *message;
  int code;
} xla_error;

typedef struct {
  size_t size;
  xla_extension *extension;
  xla_version version;
  const void *internal;
  void *(*create_error)(xla_error *);
} xla_api;

typedef struct {
  size_t size;
  xla_extension *extension;
  int dtype;
  void *data;
  int64_t rank;
  int64_t *dims;
} xla_buffer;

typedef struct {
  const char *text;
  size_t length;
} xla_name;

typedef struct {
  int dtype;
  void *value;
} xla_scalar;

typedef struct {
  int dtype;
  size_t length;
  void *data;
} xla_array;

typedef struct {
  size_t size;
  xla_extension *extension;
  int64_t count;
  int *types;
  void **buffers;
} xla_buffers;

typedef struct {
  size_t size;
  xla_extension *extension;
  int64_t count;
  int *types;
  xla_name **names;
  void **values;
} xla_attributes;

typedef struct {
  size_t size;
  xla_extension *extension;
  const xla_api *api;
  void *context;
  int stage;
  xla_buffers operands, results;
  xla_attributes attributes;
} xla_frame;

/* What is done with the elements; fastdrop/jax/_primitive.py has the same numbers. */
enum { INVERTED = 0, SCALED = 1, AFFINE = 2, GAUSSIAN = 3 };

/* A call, after it was read. */
typedef struct {
  const xla_buffer *x, *keys, *begin, *rate;
  void *y;
  int kind, dtype;
  double p;
  const double *factors;
  const int64_t *place;
  int64_t rows, row; /* the number of rows, and the elements of each */
  int64_t words;     /* of a key */
  int64_t itemsize;
  uint64_t first;
  fd_layout elements, mask;
} xla_call;

static void *fail(const xla_frame *frame, int code, const char *message) {
  xla_error error = {sizeof error, 0, message, code};
  return frame->api->create_error(&error);
}

/* XLA asks for the version of the interface that the handler was written for, before the first call. */
static int tell_version(const xla_frame *frame) {
  xla_extension *asked = frame->extension;
  if (!asked || asked->type != XLA_METADATA)
    return 0;
  xla_metadata *metadata = ((xla_metadata_extension *)asked)->metadata;
  metadata->version.major = 0;
  metadata->version.minor = 1; /* the oldest that jaxlib accepts; newer ones only add fields */
  metadata->traits = 0;
  return 1;
}

static void *find(const xla_attributes *attributes, const char *name) {
  size_t length = strlen(name);
  for (int64_t i = 0; i < attributes->count; ++i)
    if (attributes->names[i]->length == length && !memcmp(attributes->names[i]->text, name, length))
      return attributes->values[i];
  return 0;
}

static int read_attributes(xla_call *call, const xla_attributes *attributes) {
  const xla_scalar *kind = find(attributes, "kind"), *p = find(attributes, "p");
  const xla_array *factors = find(attributes, "factors"), *place = find(attributes, "place");
  if (!kind || !p || !factors || !place || factors->length != 3)
    return 0;
  call->kind = *(const int32_t *)kind->value;
  call->p = *(const double *)p->value;
  call->factors = factors->data;
  call->place = place->data;
  return (int64_t)place->length == 1 + 2 * (call->x->rank - (call->keys->rank - 1));
}

static int read_dtype(xla_call *call) {
  switch (call->x->dtype) {
    case XLA_F32: call->dtype = FD_FLOAT32; call->itemsize = 4; return 1;
    case XLA_F64: call->dtype = FD_FLOAT64; call->itemsize = 8; return 1;
    case XLA_F16: call->dtype = FD_FLOAT16; call->itemsize = 2; return 1;
    case XLA_BF16: call->dtype = FD_BFLOAT16; call->itemsize = 2; return 1;
    default: return 0;
  }
}

/* Returns what is wrong with the call, or 0. */
static const char *read_call(xla_call *call, const xla_frame *frame) {
  if (frame->operands.count != 4 || frame->results.count != 1)
    return "fastdrop: the handler takes four operands and gives one result";
  call->x = frame->operands.buffers[0];
  call->keys = frame->operands.buffers[1];
  call->begin = frame->operands.buffers[2];
  call->rate = frame->operands.buffers[3];
  call->y = ((const xla_buffer *)frame->results.buffers[0])->data;
  if (!read_dtype(call) || !read_attributes(call, &frame->attributes))
    return "fastdrop: this call was lowered by another version of fastdrop";
  if (!call->rate->rank)
    call->p = *(const float *)call->rate->data;
  if (!(call->p >= 0 && call->p <= 1))
    return "p must be in [0, 1], the probability of dropping";
  return 0;
}

/* Returns what is wrong with the place, or 0. */
static const char *lay(xla_call *call, const fd_xla_kernels *kernels) {
  int batch = (int)call->keys->rank - 1, ndim = (int)call->x->rank - batch;
  const int64_t *shape = call->x->dims + batch, *steps = call->place + 1, *room = steps + ndim;
  const uint32_t *begin = call->begin->data;
  call->words = call->keys->dims[batch];
  call->rows = call->row = 1;
  for (int k = 0; k < batch; ++k)
    call->rows *= call->x->dims[k];
  for (int k = 0; k < ndim; ++k)
    call->row *= shape[k];
  call->first = (uint64_t)call->place[0];
  if (call->begin->dims[0])
    for (int k = 0; k < ndim; ++k) {
      if (begin[k] > room[k] - shape[k])
        return "global_start must place the array inside global_shape";
      call->first += (uint64_t)steps[k] * begin[k];
    }
  kernels->layout_of(&call->elements, 1, &call->row, &call->itemsize, call->itemsize);
  kernels->layout_of(&call->mask, ndim, shape, steps, 1);
  return 0;
}

static fd_key key_of_row(const xla_call *call, int64_t row) {
  const uint32_t *word = (const uint32_t *)call->keys->data + row * call->words;
  fd_key key = {(uint64_t)word[0] << 32 | word[1], 0};
  if (call->words == 4)
    key.offset = (uint64_t)word[2] << 32 | word[3];
  return key;
}

static void drop_rows(const xla_call *call, const fd_xla_kernels *kernels, int64_t bypass_bytes, int threads) {
  fd_call pass = {.dtype = call->dtype, .n = call->row, .bypass_bytes = bypass_bytes};
  pass.bits.rate = kernels->rate_of(call->p);
  pass.bits.first = call->first;
  pass.bits.mask_layout = &call->mask;
  pass.op = call->kind == AFFINE ? FD_AFFINE : FD_SCALE;
  pass.scale = call->kind == INVERTED ? kernels->inverted_scale(call->p, call->dtype)
                                      : kernels->rounded_factor(call->factors[0], call->dtype);
  pass.shift = kernels->rounded_factor(call->factors[1], call->dtype);
  pass.fill = kernels->rounded_factor(call->factors[2], call->dtype);
  pass.x.layout = pass.y.layout = &call->elements;
  for (int64_t row = 0; row < call->rows; ++row) {
    pass.bits.key = key_of_row(call, row);
    pass.x.data = (char *)call->x->data + row * call->row * call->itemsize;
    pass.y.data = (char *)call->y + row * call->row * call->itemsize;
    kernels->apply(kernels->isa, &pass, threads);
  }
}

static void multiply_rows(const xla_call *call, const fd_xla_kernels *kernels, int64_t bypass_bytes, int threads) {
  fd_noise_call pass = {.noise = FD_GAUSSIAN, .dtype = call->dtype, .n = call->row, .bypass_bytes = bypass_bytes};
  pass.numbers.first = call->first;
  pass.numbers.layout = &call->mask;
  pass.params[0] = kernels->rounded_factor(call->factors[0], call->dtype);
  pass.x.layout = pass.y.layout = &call->elements;
  for (int64_t row = 0; row < call->rows; ++row) {
    pass.numbers.key = key_of_row(call, row);
    pass.x.data = (char *)call->x->data + row * call->row * call->itemsize;
    pass.y.data = (char *)call->y + row * call->row * call->itemsize;
    kernels->noise_apply(kernels->isa, &pass, threads);
  }
}

void *fd_xla_dropout(const void *given, const fd_xla_kernels *kernels) {
  const xla_frame *frame = given;
  xla_call call;
  if (tell_version(frame))
    return 0;
  const char *wrong = read_call(&call, frame);
  if (wrong)
    return fail(frame, XLA_INVALID_ARGUMENT, wrong);
  if (!kernels->isa)
    return fail(frame, XLA_FAILED_PRECONDITION, "fastdrop: no instruction set is set; FASTDROP_ISA has a wrong value");
  wrong = lay(&call, kernels);
  if (wrong)
    return fail(frame, XLA_INVALID_ARGUMENT, wrong);
  if (!call.rows || !call.row)
    return 0;
  int64_t size = call.row * call.itemsize;
  kernels->use_large_pages(call.y, size * call.rows);
  int64_t bypass_bytes = size > kernels->always_mapped ? INT64_MAX : kernels->bypass_bytes;
  (call.kind == GAUSSIAN ? multiply_rows : drop_rows)(&call, kernels, bypass_bytes, kernels->threads(call.row));
  return 0;
}
