/* xla.h: what src_c/xla.c needs from the package, and the function that it defines. */
#ifndef FASTDROP_XLA_H
#define FASTDROP_XLA_H

#include "fastdrop.h"

/* The addresses of the kernels, and the settings of the process at the time of the call. */
typedef struct {
  void (*apply)(const fd_isa *isa, const fd_call *call, int threads);
  void (*noise_apply)(const fd_isa *isa, const fd_noise_call *call, int threads);
  void (*layout_of)(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize);
  fd_rate (*rate_of)(double p);
  double (*inverted_scale)(double p, int dtype);
  double (*rounded_factor)(double value, int dtype);
  int (*threads)(int64_t n);
  void (*use_large_pages)(void *data, int64_t bytes);
  const fd_isa *isa;
  int64_t bypass_bytes; /* a result of at least this size is written past the caches, */
  int64_t always_mapped; /* but not one of more bytes than this, whose pages are new */
} fd_xla_kernels;

/* Runs one call of XLA. Returns 0, or an XLA_FFI_Error. */
void *fd_xla_dropout(const void *frame, const fd_xla_kernels *kernels);

#endif
