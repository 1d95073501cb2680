# The handler that XLA calls for dropout: src_c/xla.c, with the addresses of the kernels and the settings of the process.
#
# XLA calls it from its own threads without the GIL, so the settings of `using` do not reach it.

cdef extern from "xla.h" nogil:
    ctypedef struct fd_xla_kernels:
        void (*apply)(const native.fd_isa *isa, const native.fd_call *call, int threads) noexcept
        void (*noise_apply)(const native.fd_isa *isa, const native.fd_noise_call *call, int threads) noexcept
        void (*layout_of)(
            native.fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize) noexcept
        native.fd_rate (*rate_of)(double p) noexcept
        double (*inverted_scale)(double p, int dtype) noexcept
        double (*rounded_factor)(double value, int dtype) noexcept
        int (*threads)(int64_t n) noexcept
        void (*use_large_pages)(void *data, int64_t bytes) noexcept
        const native.fd_isa *isa
        int64_t bypass_bytes
        int64_t always_mapped

    void *fd_xla_dropout(const void *frame, const fd_xla_kernels *kernels)


cdef void *xla_dropout(const void *frame) noexcept nogil:
    cdef fd_xla_kernels kernels
    kernels.apply, kernels.noise_apply, kernels.layout_of = native.apply, native.noise_apply, native.layout_of
    kernels.rate_of, kernels.inverted_scale = native.rate_of, native.inverted_scale
    kernels.rounded_factor, kernels.threads = native.rounded_factor, process_threads
    kernels.use_large_pages = native.use_large_pages
    kernels.isa = process_kernels()
    kernels.bypass_bytes, kernels.always_mapped = bypass_bytes, ALWAYS_MAPPED
    cdef uint64_t found = native.float_begin()  # XLA's threads flush subnormal numbers, and a negative p must not pass for 0
    cdef void *error = fd_xla_dropout(frame, &kernels)
    native.float_end(found)
    return error


def xla_handler():
    """Return the address of the handler, a function of the type ``XLA_FFI_Handler``."""
    return <uintptr_t>&xla_dropout
