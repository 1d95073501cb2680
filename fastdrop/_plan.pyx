# cython: language_level=3, freethreading_compatible=True, embedsignature=False
"""From a caller's arguments to integers and rounded factors: checks, keys, rates, geometry; every error message.

Each public function of `fastdrop.functional` is one call of the function of the same name here. Whatever can be wrong is
found before a key is drawn and before anything is written. Then either the C kernels run, with the GIL released, or a
backend in Python is handed flat arrays and numbers that it need not check.
"""

import hashlib
import operator
from contextvars import ContextVar

cimport numpy as np
from cpython.float cimport PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint64_t, uintptr_t

import numpy as np

from fastdrop cimport _native
from fastdrop import _native

np.import_array()

cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xFFFFFFFFFFFFFFFF
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(np.ndarray, np.NPY_ORDER, void *, int)

STREAM = _native.FD_STREAM

cdef uint64_t WORDS_END = <uint64_t>1 << 50      # indices of words
cdef uint64_t PAIRS_END = <uint64_t>1 << 49      # indices of values that take two words
cdef uint64_t ELEMENTS_END = <uint64_t>1 << 55   # indices of elements of a mask

FLOATS = "float32 and float64"


# What runs: settings ------------------------------------------------------------------------------------------------

cdef class Settings:
    """Which backend, instruction set and number of threads; a part that is None or 0 is left to the settings below."""

    cdef readonly str backend
    cdef readonly str isa
    cdef readonly int num_threads
    cdef object module                       # the Python backend; None for C
    cdef const _native.fd_isa *kernels

    def __cinit__(self, str backend=None, str isa=None, int num_threads=0, module=None):
        self.backend = backend
        self.isa = isa
        self.num_threads = num_threads
        self.module = module
        self.kernels = NULL if isa is None else _native.find_isa(isa)

    def over(self, Settings below not None):
        """Return these settings, with what they leave open taken from `below`."""
        return merged(self, below)


cdef Settings merged(Settings above, Settings below):
    cdef Settings both = Settings.__new__(Settings)
    cdef Settings engine = below if above.backend is None else above
    cdef Settings kernels = below if above.isa is None else above
    both.backend, both.module = engine.backend, engine.module
    both.isa, both.kernels = kernels.isa, kernels.kernels
    both.num_threads = above.num_threads or below.num_threads
    return both


override = ContextVar("fastdrop_settings", default=None)  # what `using` set in this thread or task
cdef object override_variable = override
cdef Settings process_settings = None                     # what `set_backend` and its like set
cdef bint forked = False
cdef int64_t bypass_bytes = 1 << 62


def set_process_settings(Settings settings not None):
    """Make `settings` what holds where no `using` says otherwise."""
    global process_settings
    process_settings = settings


def set_forked():
    """Note that this process is a fork: OpenMP's threads did not come along, so calls stay on the calling one."""
    global forked
    forked = True


def set_bypass_bytes(int64_t size):
    """Write outputs of at least `size` bytes past the caches."""
    global bypass_bytes
    bypass_bytes = size


cpdef Settings effective():
    """Return the settings in force in the calling thread or task."""
    cdef PyObject *found = NULL
    PyContextVar_Get(override_variable, NULL, &found)
    value = <object>found
    Py_DECREF(value)  # PyContextVar_Get's own reference
    return process_settings if value is None else merged(<Settings>value, process_settings)


cdef Settings settings_of(backend, num_threads):
    settings = effective()
    if backend is None and num_threads is None:
        return settings
    from fastdrop._settings import chosen

    return merged(chosen(backend, None, num_threads), settings)


cdef inline int threads_of(Settings settings) noexcept:
    return 1 if forked else settings.num_threads


cdef class RoundToNearest:
    """A block in which floating point is what the stream's values are defined with: for the backends in Python."""

    cdef uint64_t found

    def __enter__(self):
        self.found = _native.float_begin()

    def __exit__(self, *error):
        _native.float_end(self.found)


# Checks: numbers ----------------------------------------------------------------------------------------------------

cdef uint64_t word(value, str name) except? 0xFFFFFFFFFFFFFFFF:
    """An integer in [0, 2**64)."""
    cdef object integer = value
    if not PyLong_CheckExact(value):
        try:
            integer = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer in [0, 2**64); got {value!r} ({type(value).__name__})") from None
    try:
        return PyLong_AsUnsignedLongLong(integer)
    except OverflowError:
        raise ValueError(f"{name} must be an integer in [0, 2**64); got {value!r}") from None


def word_of(value, str name):
    """Return `value` as an integer in [0, 2**64), or raise naming it."""
    return word(value, name)


cpdef int64_t count_of(value, str name) except -1:
    """Return `value` as a number of things, or raise naming it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer >= 0; got {value!r} ({type(value).__name__})") from None
    if number < 0:
        raise ValueError(f"{name} must be >= 0; got {number}")
    if number > 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"{name} must be below 2**63; got {number}")
    return number


cdef uint64_t first_index(start, int64_t n, uint64_t end, str what) except? 0xFFFFFFFFFFFFFFFF:
    """The global index of the first of n, all of which must be below `end`."""
    if PyLong_CheckExact(start) and start == 0 and <uint64_t>n <= end:
        return 0
    try:
        first = operator.index(start)
    except TypeError:
        raise TypeError(f"start must be an integer >= 0; got {start!r} ({type(start).__name__})") from None
    if first < 0:
        raise ValueError(f"start must be >= 0; got {first}")
    if first + n > end:
        raise OverflowError(
            f"stream {STREAM} has 2**{int(end).bit_length() - 1} {what}; start {first} with {n} of them goes past the end")
    return first


cdef double rate(p) except? -1.0:
    """A probability."""
    cdef double value
    if PyFloat_CheckExact(p):
        value = PyFloat_AsDouble(p)
    else:
        try:
            if isinstance(p, (np.ndarray, np.generic)) and (p.ndim or p.dtype.kind not in "biufO"):
                raise TypeError  # NumPy would take a string's number, a complex one's real part
            value = PyFloat_AsDouble(p)
        except TypeError:
            raise TypeError(
                f"p must be a number in [0, 1], the probability of dropping; got {p!r} ({type(p).__name__})") from None
        except OverflowError:
            value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"p must be in [0, 1], the probability of dropping; got {p!r}")
    return value + 0.0  # -0.0 is 0


cdef bint is_inverted(mode) except -1:
    if mode == "inverted":
        return True
    if mode == "standard":
        return False
    raise ValueError(f"mode must be 'inverted' or 'standard'; got {mode!r}")


cdef int key(seed, offset, bint required, _native.fd_key *out) except -1:
    """The (seed, offset) of a call. May draw from what the caller gave: so it comes after every other check."""
    cdef uint64_t number = word(offset, "offset")
    if PyLong_CheckExact(seed):
        out.seed, out.offset = word(seed, "seed"), number
        return 0
    if required and seed is None:
        raise TypeError("seed must be given: this call makes the same mask again, or one that can be made again")
    from fastdrop.streams import Stream, draw

    if number and isinstance(seed, Stream):
        raise ValueError(f"offset comes from the stream when seed is one; got offset {number} beside {seed!r}")
    drawn = draw(seed)
    if drawn is not None:
        out.seed = drawn[0]
        out.offset = drawn[1] or number
        return 0
    try:
        out.seed = word(seed, "seed")
    except TypeError:
        raise TypeError(
            "seed must be an integer in [0, 2**64), a fastdrop.Stream, a numpy.random.SeedSequence or a "
            f"numpy.random.Generator; got {seed!r} ({type(seed).__name__})") from None
    out.offset = number
    return 0


def key_of(seed, offset):
    """Return the (seed, offset) that a call with these arguments uses."""
    cdef _native.fd_key found
    key(seed, offset, False, &found)
    return found.seed, found.offset


# Checks: arrays -----------------------------------------------------------------------------------------------------

cdef int kind_of(np.ndarray x, str name) except -1:
    """Which of the element types an array has."""
    cdef int number = np.PyArray_TYPE(x)
    if not np.PyArray_ISNOTSWAPPED(x):
        raise TypeError(
            f"{name} has dtype {x.dtype.str!r}, in the other byte order than this machine's; "
            f"{name}.astype({name}.dtype.newbyteorder('=')) converts it")
    if number == np.NPY_FLOAT32:
        return _native.FD_FLOAT32
    if number == np.NPY_FLOAT64:
        return _native.FD_FLOAT64
    raise TypeError(f"{name} must have a floating-point dtype, {FLOATS}; got {x.dtype}")


cdef int check_out(out, np.ndarray x) except -1:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray; got {type(out).__name__}")
    cdef np.ndarray y = out
    if np.PyArray_TYPE(y) != np.PyArray_TYPE(x) or not np.PyArray_ISNOTSWAPPED(y):
        raise TypeError(f"out must have the dtype of the input, {x.dtype.str!r}; got {y.dtype.str!r}")
    if not np.PyArray_SAMESHAPE(y, x):
        raise ValueError(f"out must have the shape of the input, {(<object>x).shape}; got {(<object>y).shape}")
    if not np.PyArray_ISWRITEABLE(y):
        raise ValueError("out is read-only")
    return 0


cdef bint overlaps_itself(np.ndarray a):
    """Whether two indices may share memory: an axis must step over all that the shorter steps reach."""
    cdef int64_t reach = np.PyArray_ITEMSIZE(a)
    for step, size in sorted((abs(a.strides[k]), a.shape[k]) for k in range(a.ndim) if a.shape[k] > 1):
        if step < reach:
            return True
        reach += step * (size - 1)
    return False


cdef bint is_plain(np.ndarray a):
    return np.PyArray_IS_C_CONTIGUOUS(a) and np.PyArray_ISALIGNED(a)


cdef bint is_same_memory(np.ndarray a, np.ndarray b):
    """Whether equal indices, and only they, share memory."""
    cdef int k
    if np.PyArray_DATA(a) != np.PyArray_DATA(b):
        return False
    for k in range(np.PyArray_NDIM(a)):
        if np.PyArray_DIM(a, k) > 1 and np.PyArray_STRIDE(a, k) != np.PyArray_STRIDE(b, k):
            return False
    return True


cdef bint overlaps_flat(np.ndarray a, np.ndarray b):
    """`overlaps` for two C-contiguous arrays of one size."""
    cdef uintptr_t first = <uintptr_t>np.PyArray_DATA(a), second = <uintptr_t>np.PyArray_DATA(b)
    cdef uintptr_t size = np.PyArray_NBYTES(a)
    return first != second and first < second + size and second < first + size


# Dropout ------------------------------------------------------------------------------------------------------------

def dropout(x, p, seed, offset, training, mode, out, start, backend, num_threads, bint backward):
    """Forward and backward are one kernel: the mask is made again from (seed, offset)."""
    cdef bint inverted = is_inverted(mode), whole
    cdef double drop = rate(p)
    cdef _native.fd_key stream
    cdef np.ndarray array = x if isinstance(x, np.ndarray) else np.asarray(x)
    cdef int dtype = kind_of(array, "grad" if backward else "x")
    cdef uint64_t first = first_index(start, np.PyArray_SIZE(array), ELEMENTS_END, "elements")
    cdef Settings settings = settings_of(backend, num_threads)
    cdef bint identity = inverted and not training
    if out is not None:
        check_out(out, array)
    if training or backward:
        key(seed, offset, backward, &stream)
    else:
        stream.seed, stream.offset = 0, word(offset, "offset")
    if identity:
        if out is None:
            return x if isinstance(x, np.ndarray) else array
        np.copyto(out, array)
        return out
    if training:
        factor = _native.inverted_scale(drop, dtype) if inverted else 1.0
    else:
        factor = _native.standard_scale(drop, dtype)
        drop = drop == 1.0  # what is scaled by 0 is dropped: 0 * inf is no 0
    # A subclass makes its own: a masked array's mask, an attribute come along.
    result = PyArray_NewLikeArray(array, np.NPY_KEEPORDER, NULL, 1) if out is None else out
    scale(array, result, stream, _native.rate_of(drop), first, factor, dtype, settings)
    if out is None and not np.PyArray_CheckExact(array):
        return array.__array_wrap__(result)
    return result


cdef int scale(
    np.ndarray x, np.ndarray y, _native.fd_key stream, _native.fd_rate drop, uint64_t first, double factor, int dtype,
    Settings settings,
) except -1:
    """y = keep ? x * factor : +0, for arrays that may overlap, be misaligned or have steps of any size."""
    if not np.PyArray_SIZE(x):
        return 0
    if is_plain(x) and is_plain(y):
        if overlaps_flat(x, y):
            x = x.copy()
    else:
        if not np.PyArray_ISALIGNED(x) or (not is_same_memory(x, y) and np.may_share_memory(x, y)):
            x = np.array(x, order="K", subok=False)
        if not np.PyArray_ISALIGNED(y) or overlaps_itself(y):
            through = np.empty((<object>y).shape, y.dtype)
            scale(x, through, stream, drop, first, factor, dtype, settings)
            np.copyto(y, through)
            return 0
    if settings.module is None:
        scale_in_c(x, y, stream, drop, first, factor, dtype, settings)
    else:
        scale_in_python(x, y, stream, drop, first, factor, settings.module)
    return 0


cdef int scale_in_c(
    np.ndarray x, np.ndarray y, _native.fd_key stream, _native.fd_rate drop, uint64_t first, double factor, int dtype,
    Settings settings,
) except -1:
    cdef _native.fd_layout x_layout, y_layout
    cdef _native.fd_dropout_call call
    cdef const _native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings)
    layout(x, &x_layout)
    layout(y, &y_layout)
    call.key, call.rate, call.scale, call.first, call.dtype = stream, drop, factor, first, dtype
    call.n = np.PyArray_SIZE(x)
    call.x, call.y = np.PyArray_DATA(x), np.PyArray_DATA(y)
    call.x_layout, call.y_layout = &x_layout, &y_layout
    call.bypass_bytes = bypass_bytes
    with nogil:
        _native.dropout(kernels, &call, threads)
    return 0


cdef void layout(np.ndarray a, _native.fd_layout *out) noexcept:
    cdef int64_t flat_shape, flat_stride
    if np.PyArray_IS_C_CONTIGUOUS(a):
        flat_shape, flat_stride = np.PyArray_SIZE(a), np.PyArray_ITEMSIZE(a)
        _native.layout_of(out, 1, &flat_shape, &flat_stride, flat_stride)
    else:
        _native.layout_of(
            out, np.PyArray_NDIM(a), <int64_t *>np.PyArray_DIMS(a), <int64_t *>np.PyArray_STRIDES(a),
            np.PyArray_ITEMSIZE(a))


cdef int scale_in_python(
    np.ndarray x, np.ndarray y, _native.fd_key stream, _native.fd_rate drop, uint64_t first, double factor, module,
) except -1:
    flat = np.asarray(x).reshape(-1)
    made = np.asarray(y).reshape(-1) if np.PyArray_IS_C_CONTIGUOUS(y) else np.empty(flat.size, flat.dtype)
    with RoundToNearest():
        module.scale(flat, made, stream.seed, stream.offset, rate_number(drop), first, flat.dtype.type(factor))
    if not np.PyArray_IS_C_CONTIGUOUS(y):
        np.copyto(y, made.reshape((<object>y).shape))
    return 0


cdef object rate_number(_native.fd_rate drop):
    return 2**64 if drop.all else drop.fixed


# Masks, words, uniforms, keys ---------------------------------------------------------------------------------------

cdef tuple shape_of(shape):
    try:
        sizes = tuple(shape)
    except TypeError:
        sizes = (shape,)
    return tuple([count_of(size, "each size in shape") for size in sizes])


cdef int64_t size_of(tuple shape) except -1:
    size = 1
    for length in shape:
        size *= length
    if size > 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"shape {shape} has 2**63 elements or more")
    return size


def dropout_mask(shape, p, seed, offset, bint packed, start, backend, num_threads):
    """Keep flags, or packed keep bits."""
    cdef double drop = rate(p)
    cdef tuple sizes = shape_of(shape)
    cdef int64_t n = size_of(sizes)
    cdef uint64_t first = first_index(start, n, ELEMENTS_END, "elements")
    cdef Settings settings = settings_of(backend, num_threads)
    cdef _native.fd_rate fixed = _native.rate_of(drop)
    cdef _native.fd_key stream
    cdef np.ndarray out = np.empty((n + 7) // 8, np.uint8) if packed else np.empty(sizes, np.bool_)
    cdef const _native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings)
    cdef void *data = np.PyArray_DATA(out)
    key(seed, offset, True, &stream)
    if not n:
        return out
    if settings.module is None:
        with nogil:
            _native.mask(kernels, stream, fixed, first, n, data, packed, threads)
        return out
    bits = out if packed else np.empty((n + 7) // 8, np.uint8)
    settings.module.keep_bits(stream.seed, stream.offset, rate_number(fixed), first, n, bits)
    return out if packed else np.unpackbits(bits, count=n, bitorder="little").view(np.bool_).reshape(sizes)


def words(n, seed, offset, start):
    """Words of domain 0."""
    cdef int64_t count = count_of(n, "n")
    cdef uint64_t first = first_index(start, count, WORDS_END, "words")
    cdef Settings settings = effective()
    cdef _native.fd_key stream
    cdef np.ndarray out = np.empty(count, np.uint32)
    cdef const _native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings)
    cdef void *data = np.PyArray_DATA(out)
    key(seed, offset, True, &stream)
    if count and settings.module is None:
        with nogil:
            _native.words(kernels, stream, first, count, data, threads)
    elif count:
        settings.module.words(stream.seed, stream.offset, first, out)
    return out


def uniform(shape, seed, offset, start, dtype):
    """Uniforms in (0, 1)."""
    cdef tuple sizes = shape_of(shape)
    cdef int64_t n = size_of(sizes)
    cdef int kind = kind_of(np.empty(0, dtype), "dtype")
    cdef bint single = kind == _native.FD_FLOAT32
    cdef uint64_t first = first_index(
        start, n, WORDS_END if single else PAIRS_END, "float32 uniforms" if single else "float64 uniforms")
    cdef np.ndarray out = np.empty(sizes, dtype)
    cdef Settings settings = effective()
    cdef _native.fd_key stream
    cdef const _native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings)
    cdef void *data = np.PyArray_DATA(out)
    key(seed, offset, True, &stream)
    if n and settings.module is None:
        with nogil:
            _native.uniform(kernels, stream, first, n, kind, data, threads)
    elif n:
        with RoundToNearest():
            settings.module.uniform(stream.seed, stream.offset, first, out.reshape(-1))
    return out


def fold_in(seed, data):
    """A derived key."""
    cdef Settings settings = effective()
    cdef uint64_t parent = word(seed, "seed"), number
    if isinstance(data, str):
        number = int.from_bytes(hashlib.sha256(data.encode()).digest()[:8], "little")
    else:
        try:
            number = word(data, "data")
        except TypeError:
            raise TypeError(
                f"data must be an integer in [0, 2**64) or a string; got {data!r} ({type(data).__name__})") from None
    if settings.module is None:
        return _native.fold_in(settings.kernels, parent, number)
    return settings.module.fold_in(parent, number)
