# cython: language_level=3, freethreading_compatible=True
"""Thin wrappers of the C kernels for Cython and Python, without arithmetic or checks."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uintptr_t


cdef extern from "fastdrop.h" nogil:
    int fd_isa_count()
    const fd_isa *fd_isa_at(int i)
    const char *fd_isa_name(const fd_isa *isa)
    int fd_isa_vector_bits(const fd_isa *isa)
    int fd_isa_runs(const fd_isa *isa)
    fd_rate fd_rate_of(double p)
    double fd_inverted_scale(double p, int dtype)
    double fd_standard_scale(double p, int dtype)
    double fd_rounded_factor(double value, int dtype)
    void fd_layout_of(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize)
    int64_t fd_first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n)
    void fd_apply(const fd_isa *isa, const fd_call *call, int threads)
    void fd_gate_backward(const fd_isa *isa, const fd_gate_call *call, int threads)
    void fd_mask_packed(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads)
    void fd_mask_bytes(const fd_isa *isa, const fd_bits *bits, int64_t n, uint8_t *out, int threads)
    void fd_drop_blocks(const fd_maps *maps, uint64_t *seeds, uint64_t *kept)
    void fd_transpose_bits(uint64_t *bits, int64_t matrices, int64_t rows, int64_t columns, uint64_t *to)
    void fd_keep_empty_rows(uint64_t *bits, int64_t rows, int64_t n)
    void fd_divide_rows(const fd_isa *isa, const fd_rows *rows, int threads)
    void fd_sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads)
    void fd_multiply_rows(const fd_product *call)
    int64_t fd_count_ones(const uint64_t *bits, int64_t first, int64_t n)
    void fd_words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, uint32_t *out, int threads)
    void fd_uniform(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads)
    void fd_normal(const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads)
    int64_t fd_sum_room(int64_t length, int64_t inner)
    void fd_noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads)
    void fd_function(const fd_isa *isa, const fd_function_call *call, int threads)
    void fd_scale(const fd_isa *isa, const fd_scale_call *call, int threads)
    void fd_share_words(const double *weights, int64_t features, uint64_t *shares)
    int64_t fd_draw_rows(int64_t features)
    int fd_draw_shift(int64_t features)
    void fd_multiply_draws(const fd_isa *isa, const fd_draw_call *call, const uint64_t *shares, int threads)
    int fd_are_scores(const fd_isa *isa, const void *scores, int is_double, int64_t n)
    void fd_fill_levels(const fd_isa *isa, const fd_level_call *call, int threads)
    int64_t fd_target_copies(int64_t rows, int64_t columns)
    void fd_find_others(const fd_isa *isa, const fd_target_call *call, int threads)
    void fd_use_large_pages(void *data, int64_t bytes)
    uint64_t fd_fold_in(const fd_isa *isa, uint64_t seed, uint64_t data)
    void fd_philox(const fd_isa *isa, const uint32_t *counter, const uint32_t *key, uint32_t *out)
    const char *fd_build()
    const char *fd_threading()
    uint64_t fd_float_begin()
    void fd_float_end(uint64_t found)
    int fd_float_is_default()
    uint64_t fd_float_spoil()
    int fd_contracts(const fd_isa *isa)
    int fd_is_rate(double p)

cdef extern from "<fenv.h>" nogil:
    int fegetenv(fenv_t *found)
    int fesetenv(const fenv_t *wanted)
    const fenv_t *FE_DFL_ENV

cdef extern from "fastdrop_simple.h" nogil:
    int fd_abi()
    int fd_drop(
        const void *x, void *y, int64_t n, int dtype, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads)
    int fd_keep_bits(uint8_t *out, int64_t n, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads)
    uint64_t fd_derive(uint64_t seed, uint64_t data)
    const char *fd_error_text(int error)
    int FD_ERRORS


cdef const fd_isa *find_isa(str name) except NULL:
    cdef int i
    for i in range(fd_isa_count()):
        if fd_isa_name(fd_isa_at(i)).decode() == name:
            return fd_isa_at(i)
    raise ValueError(f"no instruction set {name!r} in this build")


cdef void environment_begin(Environment *before) noexcept nogil:
    """Set the default environment, as fd_float_begin does, but for longdouble too, which has a rounding mode of its own."""
    before.is_default = fd_float_is_default()
    if not before.is_default:  # fegetenv and fesetenv take longer than a short computation
        fegetenv(&before.found)
        fesetenv(FE_DFL_ENV)


cdef void environment_end(const Environment *before) noexcept nogil:
    if not before.is_default:
        fesetenv(&before.found)
    elif not fd_float_is_default():
        fesetenv(FE_DFL_ENV)


cdef bint is_rate(double p) noexcept nogil:
    return fd_is_rate(p)


cdef fd_rate rate_of(double p) noexcept nogil:
    return fd_rate_of(p)


cdef double inverted_scale(double p, int dtype) noexcept nogil:
    return fd_inverted_scale(p, dtype)


cdef double standard_scale(double p, int dtype) noexcept nogil:
    return fd_standard_scale(p, dtype)


cdef double rounded_factor(double value, int dtype) noexcept nogil:
    return fd_rounded_factor(value, dtype)


cdef void layout_of(
    fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize
) noexcept nogil:
    fd_layout_of(layout, ndim, shape, strides, itemsize)


cdef int64_t first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n) noexcept nogil:
    return fd_first_bad_rate(isa, rates, dtype, n)


cdef void apply(const fd_isa *isa, const fd_call *call, int threads) noexcept nogil:
    fd_apply(isa, call, threads)


cdef void gate_backward(const fd_isa *isa, const fd_gate_call *call, int threads) noexcept nogil:
    fd_gate_backward(isa, call, threads)


cdef void mask(const fd_isa *isa, const fd_bits *bits, int64_t n, void *out, bint packed, int threads) noexcept nogil:
    if packed:
        fd_mask_packed(isa, bits, n, <uint8_t *>out, threads)
    else:
        fd_mask_bytes(isa, bits, n, <uint8_t *>out, threads)


cdef void drop_blocks(const fd_maps *maps, uint64_t *seeds, uint64_t *kept) noexcept nogil:
    fd_drop_blocks(maps, seeds, kept)


cdef void transpose_bits(
    uint64_t *bits, int64_t matrices, int64_t rows, int64_t columns, uint64_t *to
) noexcept nogil:
    fd_transpose_bits(bits, matrices, rows, columns, to)


cdef void keep_empty_rows(uint64_t *bits, int64_t rows, int64_t n) noexcept nogil:
    fd_keep_empty_rows(bits, rows, n)


cdef void divide_rows(const fd_isa *isa, const fd_rows *rows, int threads) noexcept nogil:
    fd_divide_rows(isa, rows, threads)


cdef void sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads) noexcept nogil:
    fd_sum_axis(isa, call, threads)


cdef void multiply_rows(const fd_product *call) noexcept nogil:
    fd_multiply_rows(call)


cdef int64_t count_ones(const uint64_t *bits, int64_t first, int64_t n) noexcept nogil:
    return fd_count_ones(bits, first, n)


cdef void words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, void *out, int threads) noexcept nogil:
    fd_words(isa, key, first, n, <uint32_t *>out, threads)


cdef void uniform(
    const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads
) noexcept nogil:
    fd_uniform(isa, numbers, n, dtype, out, threads)


cdef void normal(
    const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads
) noexcept nogil:
    fd_normal(isa, numbers, n, dtype, out, threads)


cdef int64_t sum_room(int64_t length, int64_t inner) noexcept nogil:
    return fd_sum_room(length, inner)


cdef void noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads) noexcept nogil:
    fd_noise_apply(isa, call, threads)


cdef void function(const fd_isa *isa, const fd_function_call *call, int threads) noexcept nogil:
    fd_function(isa, call, threads)


cdef void scale(const fd_isa *isa, const fd_scale_call *call, int threads) noexcept nogil:
    fd_scale(isa, call, threads)


cdef void share_words(const double *weights, int64_t features, uint64_t *shares) noexcept nogil:
    fd_share_words(weights, features, shares)


cdef int64_t draw_rows(int64_t features) noexcept nogil:
    return fd_draw_rows(features)


cdef int draw_shift(int64_t features) noexcept nogil:
    return fd_draw_shift(features)


cdef void multiply_draws(const fd_isa *isa, const fd_draw_call *call, const uint64_t *shares, int threads) noexcept nogil:
    fd_multiply_draws(isa, call, shares, threads)


cdef bint are_scores(const fd_isa *isa, const void *scores, bint is_double, int64_t n) noexcept nogil:
    return fd_are_scores(isa, scores, is_double, n)


cdef void fill_levels(const fd_isa *isa, const fd_level_call *call, int threads) noexcept nogil:
    fd_fill_levels(isa, call, threads)


cdef int64_t target_copies(int64_t rows, int64_t columns) noexcept nogil:
    return fd_target_copies(rows, columns)


cdef void find_others(const fd_isa *isa, const fd_target_call *call, int threads) noexcept nogil:
    fd_find_others(isa, call, threads)


cdef void use_large_pages(void *data, int64_t bytes) noexcept nogil:
    fd_use_large_pages(data, bytes)


cdef uint64_t fold_in(const fd_isa *isa, uint64_t seed, uint64_t data) noexcept nogil:
    return fd_fold_in(isa, seed, data)


cdef int drop(
    const void *x, void *y, int64_t n, int dtype, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads
) noexcept nogil:
    return fd_drop(x, y, n, dtype, p, seed, offset, start, threads)


cdef int keep_bits(
    uint8_t *out, int64_t n, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads
) noexcept nogil:
    return fd_keep_bits(out, n, p, seed, offset, start, threads)


cdef uint64_t derive(uint64_t seed, uint64_t data) noexcept nogil:
    return fd_derive(seed, data)


cdef const char *error_text(int error) noexcept nogil:
    return fd_error_text(error)


def addresses():
    """Return the address of each function of fastdrop_simple.h, by name."""
    return {
        "fd_abi": <uintptr_t>&fd_abi,
        "fd_derive": <uintptr_t>&fd_derive,
        "fd_drop": <uintptr_t>&fd_drop,
        "fd_error_text": <uintptr_t>&fd_error_text,
        "fd_keep_bits": <uintptr_t>&fd_keep_bits,
    }


def capsule(bytes name, uintptr_t address):
    """Return a capsule of an address. Capsules keep a pointer to their names, so each name is kept for ever."""
    if name not in CAPSULE_NAMES:
        CAPSULE_NAMES[name] = name
    return PyCapsule_New(<void *>address, CAPSULE_NAMES[name], NULL)


cdef dict CAPSULE_NAMES = {}


def error_texts():
    """Return the sentence of each error number of fastdrop_simple.h."""
    texts = []
    for error in range(FD_ERRORS):
        texts.append(fd_error_text(error).decode())
    return texts


def isas():
    """Return the instruction sets of this build, the weakest first, as name: whether this machine can run it."""
    cdef int i
    return {fd_isa_name(fd_isa_at(i)).decode(): bool(fd_isa_runs(fd_isa_at(i))) for i in range(fd_isa_count())}


def vector_bits(str isa):
    """Return the width in bits of the registers that the kernels of `isa` were compiled with."""
    return fd_isa_vector_bits(find_isa(isa))


def build():
    """Return the compiler of this build, and its flags."""
    return fd_build().decode().strip()


def threading():
    """Return the kind of the kernels' threads: "openmp", or "posix" for a pool of their own."""
    return fd_threading().decode()


def contracts(str isa):
    """Return whether the kernels of `isa` fuse a multiplication with an addition; they must not."""
    return bool(fd_contracts(find_isa(isa)))


def philox(str isa, counter, key):
    """Return the four words of one Philox4x32-10 block for four counter words and two key words."""
    cdef uint32_t c[4]
    cdef uint32_t k[2]
    cdef uint32_t out[4]
    c[0], c[1], c[2], c[3] = counter
    k[0], k[1] = key
    fd_philox(find_isa(isa), c, k, out)
    return out[0], out[1], out[2], out[3]


cpdef uint64_t float_begin() noexcept nogil:
    """Set the calling thread to round to nearest with subnormals on; return the previous state."""
    return fd_float_begin()


cpdef void float_end(uint64_t found) noexcept nogil:
    """Restore the state that `float_begin` or `float_spoil` returned."""
    fd_float_end(found)


def float_spoil():
    """For tests: set the calling thread to flush subnormals and round toward zero; return the previous state."""
    return fd_float_spoil()
