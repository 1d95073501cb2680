# cython: language_level=3, freethreading_compatible=True, embedsignature=False
"""Numbers without a mask: words and random numbers, noise, elementary functions.

As in the plan, whose checks these are, all that can be wrong is found before a key is drawn and before anything is written.
"""

cimport numpy as np
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastdrop._core cimport native
from fastdrop._core.plan cimport (
    PYTHON_CHUNK,
    RoundToNearest,
    Settings,
    bind,
    bypass_bytes,
    check_out,
    chunk,
    count_of,
    effective,
    first_index,
    is_plain,
    key,
    kind_of,
    new_like,
    operand,
    readable,
    round_to_compute,
    settings_of,
    shape_of,
    size_of,
    threads_of,
    wrapped,
    writable,
)

np.import_array()

cdef uint64_t WORDS_END = <uint64_t>1 << 50      # indices of words
cdef uint64_t PAIRS_END = <uint64_t>1 << 49      # indices of values that take two words


# Random numbers -----------------------------------------------------------------------------------------------------

def words(n, seed, offset, start):
    """Words of domain 0."""
    cdef int64_t count = count_of(n, "n")
    cdef uint64_t first = first_index(start, count, WORDS_END, "words")
    cdef Settings settings = effective()
    cdef native.fd_key stream
    cdef np.ndarray out = np.empty(count, np.uint32)
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, count)
    cdef void *data = np.PyArray_DATA(out)
    key(seed, offset, True, &stream)
    if count and settings.module is None:
        with nogil:
            native.words(kernels, stream, first, count, data, threads)
    elif count:
        settings.module.words(stream.seed, stream.offset, first, out)
    return out


def uniform(shape, seed, offset, start, dtype):
    """Uniforms in (0, 1)."""
    return numbers("uniform", shape, seed, offset, start, dtype)


def normal(shape, seed, offset, start, dtype):
    """Normal numbers."""
    return numbers("normal", shape, seed, offset, start, dtype)


cdef object numbers(str name, shape, seed, offset, start, dtype):
    """Random numbers of float32, one word each, or of float64, two words each."""
    cdef tuple sizes = shape_of(shape)
    cdef int64_t n = size_of(sizes)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype must be one of float32 and float64, in this machine's byte order; got {np.dtype(dtype)!r}")
    cdef int kind = kind_of(np.empty(0, dtype), "dtype")
    cdef uint64_t first = first_word_index(start, n, kind)
    cdef np.ndarray out = np.empty(sizes, dtype)
    cdef Settings settings = effective()
    cdef native.fd_key stream
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, n)
    cdef void *data = np.PyArray_DATA(out)
    cdef bint is_normal = name == "normal"
    key(seed, offset, True, &stream)
    if n and settings.module is None:
        with nogil:
            if is_normal:
                native.normal(kernels, stream, first, n, kind, data, threads)
            else:
                native.uniform(kernels, stream, first, n, kind, data, threads)
    elif n:
        with RoundToNearest(), np.errstate(all="ignore"):
            getattr(settings.module, name)(stream.seed, stream.offset, first, out.reshape(-1))
    return out


cdef uint64_t first_word_index(start, int64_t n, int dtype) except? 0xFFFFFFFFFFFFFFFF:
    """The global index of the first of n numbers."""
    if dtype == native.FD_FLOAT64:
        return first_index(start, n, PAIRS_END, "float64 numbers")
    return first_index(start, n, WORDS_END, "float32 numbers")


# Noise --------------------------------------------------------------------------------------------------------------

NOISES = ("gaussian", "additive", "spread", "spread_slope", "concrete")  # in the order of fastdrop.h

cdef class NoiseWork:
    """One call of noise, checked. The operands have the shape of x."""

    cdef str noise
    cdef int dtype
    cdef tuple params                        # rounded to the compute type
    cdef np.ndarray x, y, other
    cdef np.ndarray sums                     # float64, one a tile; or None
    cdef native.fd_key key
    cdef uint64_t first
    cdef Settings settings


def noise(
    x, str noise, params, other, bint with_sums, seed, offset, out, start, backend, num_threads, bint backward=False,
    str other_name="other",
):
    """What a noise does to x; and the tiles' parts of its parameter's gradient, or None (fastdrop.h has the formulas)."""
    cdef NoiseWork work = NoiseWork.__new__(NoiseWork)
    work.x = x if isinstance(x, np.ndarray) else np.asarray(x)
    work.dtype = kind_of(work.x, "grad" if backward else "x")
    work.noise = noise
    work.params = tuple([round_to_compute(value, work.dtype) for value in params])
    work.first = first_word_index(start, np.PyArray_SIZE(work.x), work.dtype)
    work.settings = settings_of(backend, num_threads)
    if other is not None:
        work.other = operand(other, work.x, (<object>work.x).shape, other_name)
    if out is not None:
        check_out(out, work.x)
    if with_sums:
        work.sums = np.zeros(-(-np.PyArray_SIZE(work.x) // native.FD_NOISE_TILE))
    key(seed, offset, backward, &work.key)
    cdef np.ndarray given = work.x, y = new_like(work.x) if out is None else out
    if np.PyArray_SIZE(given):
        work.x = readable(given, y)
        if work.other is not None:
            work.other = readable(work.other, y)
        work.y = writable(y)
        perform_noise(work)
        if work.y is not y:
            np.copyto(y, work.y)
    return wrapped(given, y, out), work.sums


cdef int perform_noise(NoiseWork work) except -1:
    cdef native.fd_noise_call call
    cdef native.fd_layout x_layout, y_layout, other_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads = threads_of(work.settings, np.PyArray_SIZE(work.x)), k
    if work.settings.module is not None:
        return perform_noise_in_python(work)
    call.key, call.first = work.key, work.first
    call.noise, call.dtype = NOISES.index(work.noise), work.dtype
    for k in range(len(work.params)):
        call.params[k] = work.params[k]
    call.n = np.PyArray_SIZE(work.x)
    bind(work.x, &call.x, &x_layout)
    bind(work.y, &call.y, &y_layout)
    bind(work.other, &call.other, &other_layout)
    call.sums = NULL if work.sums is None else <double *>np.PyArray_DATA(work.sums)
    call.bypass_bytes = bypass_bytes
    with nogil:
        native.noise_apply(kernels, &call, threads)
    return 0


cdef int perform_noise_in_python(NoiseWork work) except -1:
    from fastdrop._core.backends import noise as definitions

    module, type = work.settings.module, np.float64 if work.dtype == native.FD_FLOAT64 else np.float32
    cdef int64_t n = np.PyArray_SIZE(work.x), begin, end
    y = np.empty(n, np.asarray(work.y).dtype)
    numbers_of = getattr(module, definitions.NUMBERS[work.noise])
    with RoundToNearest(), np.errstate(all="ignore"):
        for begin in range(0, n, PYTHON_CHUNK):
            end = min(begin + PYTHON_CHUNK, n)
            random = np.empty(end - begin, type)
            numbers_of(work.key.seed, work.key.offset, work.first + begin, random)
            x, other = chunk(work.x, begin, end, type), chunk(work.other, begin, end, type)
            factors, slopes = definitions.NOISES[work.noise](random, other, *[type(value) for value in work.params])
            y[begin:end] = x + factors if work.noise in definitions.ADDED else x * factors
            if work.sums is not None:
                tile = native.FD_NOISE_TILE
                work.sums[begin // tile : -(-end // tile)] = definitions.tile_sums((x * other) * slopes, tile)
    np.copyto(np.asarray(work.y), y.reshape((<object>work.y).shape))
    return 0


# Elementary functions -----------------------------------------------------------------------------------------------

FUNCTIONS = ("exp", "log", "sigmoid", "logit", "softplus")  # in the order of fastdrop.h


def elementary(str name, x, out, backend, num_threads):
    """y = f(x) for each element: straight from x into y where the kernel can read and write them, else by a copy."""
    cdef np.ndarray given = x if isinstance(x, np.ndarray) else np.asarray(x)
    cdef int kind = kind_of(given, "x")
    cdef Settings settings = settings_of(backend, num_threads)
    if out is not None:
        check_out(out, given)
    cdef np.ndarray y = new_like(given) if out is None else out
    if settings.module is None and is_function_operand(given, kind) and is_function_operand(y, kind):
        call_function(name, kind, readable(given, y), y, settings)
    else:
        with RoundToNearest(), np.errstate(all="ignore"):
            (np.asarray(y) if out is None else out)[...] = elementary_of_copy(name, given, kind, settings)
    return wrapped(given, y, out)


cdef bint is_function_operand(np.ndarray a, int kind):
    """Whether the kernels of elementary functions, which know flat arrays of float32 and float64, can have it as it is."""
    return kind in (native.FD_FLOAT32, native.FD_FLOAT64) and np.PyArray_CheckExact(a) and is_plain(a)


cdef object elementary_of_copy(str name, np.ndarray x, int kind, Settings settings):
    """f(x), in C order and the compute type: the 16-bit types go through float32."""
    cdef int compute = kind if kind == native.FD_FLOAT64 else native.FD_FLOAT32
    values = np.asarray(x).astype(np.float64 if compute == native.FD_FLOAT64 else np.float32, order="C")
    if settings.module is None:
        call_function(name, compute, values, values, settings)
    else:
        values[...] = settings.module.elementary(name, values.reshape(-1)).reshape(values.shape)
    return values


cdef int call_function(str name, int dtype, np.ndarray x, np.ndarray y, Settings settings) except -1:
    """y = f(x) for flat arrays, which may be one."""
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int function = FUNCTIONS.index(name), threads = threads_of(settings, np.PyArray_SIZE(x))
    cdef const void *read = np.PyArray_DATA(x)
    cdef void *written = np.PyArray_DATA(y)
    cdef int64_t n = np.PyArray_SIZE(x)
    if n:
        with nogil:
            native.function(kernels, function, dtype, read, written, n, threads)
    return 0
