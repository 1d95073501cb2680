# cython: language_level=3, freethreading_compatible=True, embedsignature=False
"""From a caller's arguments to integers and rounded factors: checks, keys, rates, geometry; every error message.

Each public function of `fastdrop.variants.dropout` is one call of the function of the same name here, or in `numbers.pyx` where
there is no mask. Whatever can be wrong is found before a key is drawn and before anything is written. Then either the C
kernels run, with the GIL released unless the call is small, or a backend in Python is handed flat arrays and numbers that it
need not check.
"""

import hashlib
import operator
from contextvars import ContextVar

cimport cython
cimport numpy as np
from cpython.float cimport PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t

import numpy as np

from fastdrop._core cimport native
from fastdrop._core import native

np.import_array()

cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xFFFFFFFFFFFFFFFF
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(np.ndarray, np.NPY_ORDER, void *, int)

STREAM = native.FD_STREAM
# Elements that make it worth waking another thread: in a row of calls 32768 would do, after a pause 500000
# (docs/performance.md has the measurement).
LEAST_PER_THREAD = 2**17

cdef int64_t NEVER = 1 << 62
cdef int64_t ALWAYS_MAPPED = 1 << 25             # bytes; glibc takes more than that from the system, not from what was freed
cdef int64_t WORTH_RELEASING = 2048              # elements; fewer take half a microsecond (AVX-512), and keep the GIL
cdef uint64_t ELEMENTS_END = <uint64_t>1 << 55   # indices of elements of a mask

FLOATS = "float32, float64, float16 and bfloat16 (of ml_dtypes)"


# What runs: settings ------------------------------------------------------------------------------------------------

@cython.freelist(8)
cdef class Settings:
    """Which backend, instruction set and number of threads; a part that is None or 0 is left to the settings below."""

    def __cinit__(self, str backend=None, str isa=None, int num_threads=0, module=None):
        self.backend = backend
        self.isa = isa
        self.num_threads = num_threads
        self.module = module
        self.kernels = NULL if isa is None else native.find_isa(isa)

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
cdef int64_t bypass_bytes = NEVER
cdef int64_t least_per_thread = LEAST_PER_THREAD
cdef bint has_openmp = native.has_openmp()


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
    from fastdrop._core.settings import chosen

    return merged(chosen(backend, None, num_threads), settings)


def set_least_per_thread(int64_t n):
    """Use another thread only where each has at least `n` elements."""
    global least_per_thread
    least_per_thread = n


cpdef int useful_threads(int64_t n, int allowed) noexcept:
    """Return how many of the threads allowed a call on `n` elements uses."""
    cdef int64_t useful = n // least_per_thread
    return <int>min(useful, allowed) if useful > 1 and has_openmp else 1


cdef int threads_of(Settings settings, int64_t n) noexcept:
    return 1 if forked else useful_threads(n, settings.num_threads)


cdef class RoundToNearest:
    """A block in which floating point is what the stream's values are defined with: for the backends in Python."""

    def __enter__(self):
        self.found = native.float_begin()

    def __exit__(self, *error):
        native.float_end(self.found)


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


cpdef int check_scalar(value) except -1:
    """Raise TypeError if NumPy's `float` takes what is no real number: a string's, a complex one's real part, an array's."""
    if isinstance(value, (np.ndarray, np.generic)) and (
            value.ndim or value.dtype.kind not in "biufO" and value.dtype.name != "bfloat16"):
        raise TypeError
    return 0


cdef double rate(p) except? -1.0:
    """A probability."""
    cdef double value
    if PyFloat_CheckExact(p):
        value = PyFloat_AsDouble(p)
    else:
        try:
            check_scalar(p)
            value = PyFloat_AsDouble(p)
        except TypeError:
            raise TypeError(
                f"p must be a number in [0, 1], the probability of dropping; got {p!r} ({type(p).__name__})") from None
        except OverflowError:
            value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"p must be in [0, 1], the probability of dropping; got {p!r}")
    return value + 0.0  # -0.0 is 0


def rate_of(p):
    """Return `p` as the probability that it is, one number, or raise naming it."""
    return rate(p)


cdef bint is_inverted(mode) except -1:
    if mode == "inverted":
        return True
    if mode == "standard":
        return False
    raise ValueError(f"mode must be 'inverted' or 'standard'; got {mode!r}")


cdef int require_seed(seed, bint required) except -1:
    if required and seed is None:
        raise TypeError("seed must be given: this call makes a mask again, or one that is to be made again")
    return 0


cdef int key(seed, offset, bint required, native.fd_key *out) except -1:
    """The (seed, offset) of a call. May draw from what the caller gave: so it comes after every other check."""
    cdef uint64_t number = word(offset, "offset")
    if PyLong_CheckExact(seed):
        out.seed, out.offset = word(seed, "seed"), number
        return 0
    require_seed(seed, required)
    from fastdrop.random import Stream, draw

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


def key_of(seed, offset, bint required=False):
    """Return the (seed, offset) that a call with these arguments uses; a seed of None is an error where one is required."""
    cdef native.fd_key found
    key(seed, offset, required, &found)
    return found.seed, found.offset


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
        return native.fold_in(settings.kernels, parent, number)
    return settings.module.fold_in(parent, number)


# Checks: arrays -----------------------------------------------------------------------------------------------------

cdef int kind_of(np.ndarray x, str name) except -1:
    """Which of the element types an array has."""
    cdef int number = np.PyArray_TYPE(x)
    if not np.PyArray_ISNOTSWAPPED(x):
        raise TypeError(
            f"{name} has dtype {x.dtype.str!r}, in the other byte order than this machine's; "
            f"{name}.astype({name}.dtype.newbyteorder('=')) converts it")
    if number == np.NPY_FLOAT32:
        return native.FD_FLOAT32
    if number == np.NPY_FLOAT64:
        return native.FD_FLOAT64
    if number == np.NPY_FLOAT16:
        return native.FD_FLOAT16
    if np.PyTypeNum_ISUSERDEF(number) and x.dtype.name == "bfloat16":
        return native.FD_BFLOAT16
    raise TypeError(f"{name} must have a floating-point dtype, {FLOATS}; got {x.dtype}")


cpdef int check_out(out, np.ndarray x) except -1:
    """Raise unless `out` can take a result like `x`."""
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


def array_of(x, str name, out=None):
    """Return `x` as an array of a dtype that is computed with, or raise naming it; an `out` must be of its shape and dtype."""
    cdef np.ndarray array = x if isinstance(x, np.ndarray) else np.asarray(x)
    kind_of(array, name)
    if out is not None:
        check_out(out, array)
    return array


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


cdef np.ndarray readable(np.ndarray a, np.ndarray y):
    """The operand `a`, or a copy where it is misaligned or would be overwritten while it is read."""
    cdef uintptr_t first, second, size
    if is_plain(a) and is_plain(y) and np.PyArray_NBYTES(a) == np.PyArray_NBYTES(y):
        first, second = <uintptr_t>np.PyArray_DATA(a), <uintptr_t>np.PyArray_DATA(y)
        size = np.PyArray_NBYTES(a)
        return a if first == second or first >= second + size or second >= first + size else a.copy()
    if np.PyArray_ISALIGNED(a) and (is_same_memory(a, y) or not np.may_share_memory(a, y)):
        return a
    return np.array(a, order="K", subok=False)


cdef np.ndarray writable(np.ndarray y):
    """The output `y`, or another array in its place where it is misaligned or two of its indices share memory."""
    if not is_plain(y) and (not np.PyArray_ISALIGNED(y) or overlaps_itself(y)):
        return np.empty((<object>y).shape, y.dtype)
    return y


cdef np.ndarray operand(value, object x, tuple shape, str name):
    """An array of the dtype of x, broadcast to its shape."""
    cdef np.ndarray array
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value, (<object>x).dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of the dtype of the input, {x.dtype.str!r}; got {value!r}") from None
    if np.PyArray_TYPE(array) != np.PyArray_TYPE(x) or not np.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"{name} must have the dtype of the input, {x.dtype.str!r}; got {array.dtype.str!r}")
    if (<object>array).shape != shape:
        raise ValueError(f"{name} must have the shape {shape}; got {(<object>array).shape}")
    return np.broadcast_to(array, (<object>x).shape)


# Rates --------------------------------------------------------------------------------------------------------------

cdef np.ndarray rates(p, tuple shape):
    cdef np.ndarray each
    cdef int64_t bad
    if p.dtype.kind not in "fiu" and p.dtype.name != "bfloat16":
        raise TypeError(f"p must be a number or an array of real numbers in [0, 1]; got an array of {p.dtype}")
    each = np.ascontiguousarray(p, p.dtype if p.dtype in (np.float32, np.float64) else np.float64)
    if not np.PyArray_ISNOTSWAPPED(each):
        each = each.astype(each.dtype.newbyteorder("="))
    kernels = effective().kernels
    bad = native.first_bad_rate(
        kernels, np.PyArray_DATA(each), native.FD_FLOAT32 if each.dtype == np.float32 else native.FD_FLOAT64, each.size)
    if bad < each.size:
        index = tuple(map(int, np.unravel_index(bad, p.shape)))
        raise ValueError(f"each p must be in [0, 1], the probability of dropping; got {p[index]!r} at index {index}")
    try:
        return np.broadcast_to(each, shape)
    except ValueError:
        raise ValueError(f"p has shape {p.shape}, which does not broadcast to the shape {shape} of the elements") from None


# What is done, to what, with which bits -----------------------------------------------------------------------------

@cython.freelist(8)
cdef class Work:
    """One call, checked. The operands have the shape of x; what is None is not there."""

    cdef int op, dtype
    cdef double scale, shift, fill
    cdef np.ndarray x, y, bias, other
    cdef bint y_is_new                       # made for this call
    cdef double rate                         # p, of all elements
    cdef np.ndarray rates                    # or a p for each: float32 or float64, of the shape of x
    cdef np.ndarray packed, flags            # or the caller's own mask
    cdef native.fd_key key
    cdef uint64_t first                      # where the mask's index space lies over the array
    cdef tuple steps                         # None where each element has an index of its own, in C order
    cdef Settings settings

    def __cinit__(self):
        self.rate = self.scale = self.shift = self.fill = 0.0


cdef int set_rate(Work work, p, object sized) except -1:
    """p, for elements of the shape that `sized` has: an array, or the shape itself."""
    if isinstance(p, np.ndarray) and p.ndim:
        work.rates = rates(p, sized if isinstance(sized, tuple) else sized.shape)
    else:
        work.rate = rate(p)
    return 0


cpdef tuple geometry_of(noise_shape, shared_axes, global_shape, global_start):
    """Return the four, or None where the mask has the array's own shape."""
    if noise_shape is None and shared_axes is None and global_shape is None and global_start is None:
        return None
    return noise_shape, shared_axes, global_shape, global_start


cdef int place(Work work, object sized, int64_t n, start, tuple geometry) except -1:
    """Where the mask lies: `geometry` is (noise_shape, shared_axes, global_shape, global_start), or None."""
    if geometry is None:
        work.first = first_index(start, n, ELEMENTS_END, "elements")
        return 0
    from fastdrop._core.geometry import mask_geometry

    start = first_index(start, 0, ELEMENTS_END, "elements")
    work.first, work.steps = mask_geometry(sized if isinstance(sized, tuple) else sized.shape, start, *geometry)
    return 0


cdef int perform(Work work) except -1:
    """Run it, for operands that may overlap, be misaligned or have steps of any size."""
    cdef np.ndarray y = work.y
    if not np.PyArray_SIZE(work.x):
        return 0
    work.x = readable(work.x, y)
    if work.bias is not None:
        work.bias = readable(work.bias, y)
    if work.other is not None:
        work.other = readable(work.other, y)
    if work.rates is not None:
        work.rates = readable(work.rates, y)
    work.y = writable(y)
    if work.settings.module is None:
        perform_in_c(work)
    else:
        perform_in_python(work)
    if work.y is not y:
        np.copyto(y, work.y)
    return 0


cdef void layout(np.ndarray a, native.fd_layout *out) noexcept:
    cdef int64_t flat_shape, flat_stride
    if np.PyArray_IS_C_CONTIGUOUS(a):
        flat_shape, flat_stride = np.PyArray_SIZE(a), np.PyArray_ITEMSIZE(a)
        native.layout_of(out, 1, &flat_shape, &flat_stride, flat_stride)
    else:
        native.layout_of(
            out, np.PyArray_NDIM(a), <int64_t *>np.PyArray_DIMS(a), <int64_t *>np.PyArray_STRIDES(a),
            np.PyArray_ITEMSIZE(a))


cdef void bind(np.ndarray a, native.fd_array *to, native.fd_layout *space) noexcept:
    if a is None:
        to.data, to.layout = NULL, NULL
        return
    layout(a, space)
    to.data, to.layout = np.PyArray_DATA(a), space


cdef struct BitsLayouts:
    native.fd_layout mask, rates, flags


cdef int bind_bits(Work work, tuple shape, int64_t n, native.fd_bits *bits, BitsLayouts *space) except -1:
    cdef int64_t sizes[native.FD_MAX_DIMS]
    cdef int64_t steps[native.FD_MAX_DIMS]
    cdef int64_t one = 1
    cdef int k
    bits.key = work.key
    bits.first = work.first
    bits.packed = NULL if work.packed is None else <const uint8_t *>np.PyArray_DATA(work.packed)
    bind(work.flags, &bits.flags, &space.flags)
    bind(work.rates, &bits.rates, &space.rates)
    bits.rate = native.rate_of(work.rate)
    if work.rates is not None:
        bits.rates_dtype = kind_of(work.rates, "p")
    if work.steps is None:
        native.layout_of(&space.mask, 1, &n, &one, 1)
    else:
        for k in range(len(shape)):
            sizes[k], steps[k] = shape[k], work.steps[k]
        native.layout_of(&space.mask, len(shape), sizes, steps, 1)
    bits.mask_layout = &space.mask
    return 0


cdef int perform_in_c(Work work) except -1:
    cdef native.fd_call call
    cdef BitsLayouts bits_space
    cdef native.fd_layout x_layout, y_layout, other_layout, bias_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads
    call.n = np.PyArray_SIZE(work.x)
    threads = threads_of(work.settings, call.n)
    bind_bits(work, None if work.steps is None else (<object>work.x).shape, call.n, &call.bits, &bits_space)
    call.op, call.dtype = work.op, work.dtype
    call.scale, call.shift, call.fill = work.scale, work.shift, work.fill
    bind(work.x, &call.x, &x_layout)
    bind(work.y, &call.y, &y_layout)
    bind(work.other, &call.other, &other_layout)
    bind(work.bias, &call.bias, &bias_layout)
    call.bypass_bytes = bypass_bytes
    if work.y_is_new and np.PyArray_NBYTES(work.y) > ALWAYS_MAPPED:
        call.bypass_bytes = NEVER  # the system has just zeroed its pages through the caches
    if call.n < WORTH_RELEASING:
        native.apply(kernels, &call, threads)
    else:
        with nogil:
            native.apply(kernels, &call, threads)
    return 0


# The backends in Python: flat chunks of 32- or 64-bit floats --------------------------------------------------------

cdef object in_c_order(np.ndarray a):
    """What is cut to get elements in C order. Without axes of one element: a flat index knows 32 axes, an array 64."""
    plain = np.asarray(a)
    return plain.reshape(-1) if np.PyArray_IS_C_CONTIGUOUS(a) else plain.squeeze().flat


cdef object chunk(np.ndarray a, int64_t begin, int64_t end, type):
    """Elements begin .. end - 1 in C order, in the compute type."""
    if a is None:
        return None
    return np.ascontiguousarray(in_c_order(a)[begin:end]).astype(type, copy=False)


cdef object bits_in_python(Work work, tuple shape, int64_t begin, int64_t end):
    """Packed keep bits of the elements begin .. end - 1."""
    if work.packed is not None:
        return work.packed[begin // 8 : (end + 7) // 8]
    if work.flags is not None:
        return np.packbits(np.asarray(in_c_order(work.flags)[begin:end], np.bool_), bitorder="little")
    cdef native.fd_rate single = native.rate_of(work.rate)
    module, bits = work.settings.module, np.empty((end - begin + 7) // 8, np.uint8)
    rate = 2**64 if single.all else single.fixed
    if work.steps is None and work.rates is None:
        module.keep_bits(work.key.seed, work.key.offset, rate, work.first + begin, end - begin, bits)
        return bits
    from fastdrop._core.geometry import indices

    sizes, steps = ((end,), (1,)) if work.steps is None else (shape, work.steps)
    if work.rates is not None:
        rate = chunk(work.rates, begin, end, np.float64)
    index = indices(work.first, sizes, steps, begin, end - begin)
    module.keep_bits_at(work.key.seed, work.key.offset, rate, index, bits)
    return bits


cdef int perform_in_python(Work work) except -1:
    module, type = work.settings.module, np.float64 if work.dtype == native.FD_FLOAT64 else np.float32
    cdef tuple shape = (<object>work.x).shape
    cdef np.ndarray y = np.asarray(work.y)  # a subclass may have a flat index, a product of its own
    cdef int64_t n = np.PyArray_SIZE(work.x), begin, end
    made = y.reshape(-1) if np.PyArray_IS_C_CONTIGUOUS(y) else np.empty(n, y.dtype)
    with RoundToNearest(), np.errstate(all="ignore"):
        for begin in range(0, n, PYTHON_CHUNK):
            end = min(begin + PYTHON_CHUNK, n)
            bits = bits_in_python(work, shape, begin, end)
            x, other = chunk(work.x, begin, end, type), chunk(work.other, begin, end, type)
            straight = made.dtype == type and other is None  # else an operand may be overwritten before it is read
            out = made[begin:end] if straight else np.empty(end - begin, type)
            if work.op == native.FD_AFFINE:
                module.affine(x, out, bits, type(work.scale), type(work.shift), type(work.fill))
            elif work.op == native.FD_SELECT:
                module.select(x, out, bits, other)
            else:
                factor = type(work.scale)
                if work.op & native.FD_WITH_RATES:
                    factor = (1.0 / (1.0 - chunk(work.rates, begin, end, np.float64))).astype(type)
                module.scale(x, out, bits, factor, chunk(work.bias, begin, end, type), other)
            if not straight:
                made[begin:end] = out
    if not np.PyArray_IS_C_CONTIGUOUS(y):
        np.copyto(y, made.reshape(shape))
    return 0


def check(x, p, seed, offset, out, backend, num_threads, other=None, str name="x", str other_name="other"):
    """Find what is wrong with the arguments of a function of several passes, before it draws or writes anything.

    `seed` is looked at only where `name` is "grad": there it must be given.
    """
    cdef Work work = Work.__new__(Work)
    work.x = x
    work.dtype = kind_of(work.x, name)
    set_rate(work, p, work.x)
    settings_of(backend, num_threads)
    word(offset, "offset")
    require_seed(seed, name == "grad")
    if other is not None:
        operand(other, work.x, (<object>work.x).shape, other_name)
    if out is not None:
        check_out(out, work.x)


# Dropout ------------------------------------------------------------------------------------------------------------

cdef np.ndarray new_like(np.ndarray x):
    """A new array; a subclass makes its own, so that a masked array's mask or an attribute comes along."""
    return PyArray_NewLikeArray(x, np.NPY_KEEPORDER, NULL, 1)


cdef object wrapped(np.ndarray x, np.ndarray y, object out):
    """The result y: of x's own kind, where the caller gave no `out`."""
    return (<object>x).__array_wrap__(y) if out is None and not np.PyArray_CheckExact(x) else y


cdef object result_of(Work work, object out):
    """Perform into `out`, or into a new array of x's kind and memory order."""
    work.y_is_new = out is None
    work.y = new_like(work.x) if out is None else out
    y, x = work.y, work.x
    perform(work)
    return wrapped(x, y, out)


cdef object drop(
    x, p, seed, offset, training, mode, out, start, backend, num_threads, bint backward, geometry, bias, residual, factor,
):
    """Forward and backward are one kernel: the mask is made again from (seed, offset).

    `factor` is what kept elements are multiplied by in training, where neither mode's is.
    """
    cdef bint inverted = is_inverted(mode)
    cdef Work work = Work.__new__(Work)
    work.x = x if isinstance(x, np.ndarray) else np.asarray(x)
    work.dtype = kind_of(work.x, "grad" if backward else "x")
    set_rate(work, p, work.x)
    place(work, work.x, np.PyArray_SIZE(work.x), start, geometry)
    work.settings = settings_of(backend, num_threads)
    work.op = native.FD_SCALE
    if bias is not None:
        work.bias = operand(bias, work.x, (<object>work.x).shape[-1:], "bias")
        work.op |= native.FD_WITH_BIAS
    if residual is not None:
        work.other = operand(residual, work.x, (<object>work.x).shape, "residual")
        work.op |= native.FD_WITH_RESIDUAL
    if out is not None:
        check_out(out, work.x)
    if not training:
        work.key.seed, work.key.offset = 0, word(offset, "offset")
        require_seed(seed, backward)
        return without_dropping(work, x, out, inverted)
    if factor is not None:
        work.scale = round_to_compute(factor, work.dtype)
    elif not inverted:
        work.scale = 1.0
    elif work.rates is None:
        work.scale = native.inverted_scale(work.rate, work.dtype)
    else:
        work.op |= native.FD_WITH_RATES
    key(seed, offset, backward, &work.key)
    return result_of(work, out)


def dropout(
    x, p, seed, offset, training, mode, out, start, backend, num_threads, bint backward=False, geometry=None, bias=None,
    residual=None, factor=None,
):
    """The same, for what is built on it."""
    return drop(
        x, p, seed, offset, training, mode, out, start, backend, num_threads, backward, geometry, bias, residual, factor)


def transform(
    x, p, seed, offset, op, factors, other, out, start, backend, num_threads, geometry=None, str name="x",
    str other_name="other",
):
    """An operation other than dropout's own, with a mask of the stream: "affine", of factors (scale, shift, fill), or "select".

    Affine: keep ? x * scale + shift : fill. Select: keep ? x : other.
    """
    cdef Work work = Work.__new__(Work)
    work.x = x if isinstance(x, np.ndarray) else np.asarray(x)
    work.dtype = kind_of(work.x, name)
    set_rate(work, p, work.x)
    place(work, work.x, np.PyArray_SIZE(work.x), start, geometry)
    work.settings = settings_of(backend, num_threads)
    if op == "affine":
        work.op = native.FD_AFFINE
        work.scale, work.shift, work.fill = [round_to_compute(factor, work.dtype) for factor in factors]
    else:
        work.op = native.FD_SELECT
        work.other = operand(other, work.x, (<object>work.x).shape, other_name)
    if out is not None:
        check_out(out, work.x)
    key(seed, offset, False, &work.key)
    return result_of(work, out)


def apply_mask(x, mask, scale, out, backend, num_threads):
    """keep ? x * scale : +0, with the caller's own mask."""
    cdef Work work = Work.__new__(Work)
    cdef int64_t n
    work.x = x if isinstance(x, np.ndarray) else np.asarray(x)
    work.dtype = kind_of(work.x, "x")
    work.op = native.FD_SCALE
    work.scale = round_to_compute(scale, work.dtype)
    work.settings = settings_of(backend, num_threads)
    n = np.PyArray_SIZE(work.x)
    given = np.asarray(mask)
    if given.dtype == np.bool_:
        try:
            work.flags = np.broadcast_to(given, (<object>work.x).shape)
        except ValueError:
            raise ValueError(
                f"mask has shape {given.shape}, which does not broadcast to the shape {(<object>work.x).shape} of x"
            ) from None
    elif given.dtype == np.uint8:
        if given.shape != ((n + 7) // 8,):
            raise ValueError(
                f"a packed mask of {n} elements must have shape {((n + 7) // 8,)}, eight elements to a byte; got {given.shape}")
        work.packed = np.ascontiguousarray(given)
    else:
        raise TypeError(f"mask must be of bool, or packed in uint8; got {given.dtype}")
    if out is not None:
        check_out(out, work.x)
        if np.may_share_memory(given, out):
            work.packed = None if work.packed is None else work.packed.copy()
            work.flags = None if work.flags is None else work.flags.copy()
    return result_of(work, out)


cdef double round_to_compute(value, int dtype) except? -1.0:
    """A factor, rounded once to the type that is computed with."""
    cdef double number
    try:
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError  # Python would take the number written there
        check_scalar(value)
        with RoundToNearest():
            number = float(value)
    except TypeError:
        raise TypeError(f"scale must be a number; got {value!r} ({type(value).__name__})") from None
    except OverflowError:
        raise ValueError(f"scale must be a number that a double holds; got {value!r}") from None
    if number != number:
        return NAN  # whatever payload the caller's had
    with RoundToNearest(), np.errstate(over="ignore"):
        return number if dtype == native.FD_FLOAT64 else float(np.float32(number))


cdef object without_dropping(Work work, x, out, bint inverted):
    """Outside training: x itself in inverted mode; x (1 - p) in standard mode, where p = 1 leaves 0 also of infinities."""
    if inverted and work.op == native.FD_SCALE:
        if out is None:
            return x if isinstance(x, np.ndarray) else work.x
        np.copyto(out, work.x)
        return out
    if not inverted and work.rates is not None:
        work.y = new_like(work.x) if out is None else out
        scale_by_keep_rates(work)
        return wrapped(work.x, work.y, out)
    work.scale = 1.0 if inverted else native.standard_scale(work.rate, work.dtype)
    work.rate = 0.0 if inverted else work.rate == 1.0
    work.rates = None
    return result_of(work, out)


cdef int scale_by_keep_rates(Work work) except -1:
    """(x + bias) (1 - p) + residual with a p for each element: no mask, so NumPy, whose arithmetic rounds as the kernels do."""
    type = np.float64 if work.dtype == native.FD_FLOAT64 else np.float32
    with RoundToNearest(), np.errstate(all="ignore"):
        value = np.asarray(work.x).astype(type)  # not a subclass, which may have a product of its own
        if work.bias is not None:
            value += work.bias.astype(type)
        value *= (1.0 - work.rates.astype(np.float64)).astype(type)
        value[work.rates == 1] = 0
        if work.other is not None:
            value = work.other.astype(type) + value
        np.asarray(work.y)[...] = value
    return 0


# Masks --------------------------------------------------------------------------------------------------------------

cdef tuple shape_of(shape):
    try:
        sizes = tuple(shape)
    except TypeError:
        sizes = (shape,)
    if len(sizes) > native.FD_MAX_DIMS:  # as many as bind_bits and the layouts have room for
        raise ValueError(f"shape must have at most {native.FD_MAX_DIMS} dimensions; got {len(sizes)}")
    return tuple([count_of(size, "each size in shape") for size in sizes])


cdef int64_t size_of(tuple shape) except -1:
    size = 1
    for length in shape:
        size *= length
    if size > 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"shape {shape} has 2**63 elements or more")
    return size


def dropout_mask(shape, p, seed, offset, bint packed, start, backend, num_threads, geometry=None):
    """Keep flags, or packed keep bits."""
    cdef Work work = Work.__new__(Work)
    cdef tuple sizes = shape_of(shape)
    cdef int64_t n = size_of(sizes)
    cdef native.fd_bits bits
    cdef BitsLayouts space
    cdef const native.fd_isa *kernels
    cdef int threads
    cdef np.ndarray out
    set_rate(work, p, sizes)
    place(work, sizes, n, start, geometry)
    work.settings = settings_of(backend, num_threads)
    out = np.empty((n + 7) // 8, np.uint8) if packed else np.empty(sizes, np.bool_)
    key(seed, offset, True, &work.key)
    if not n:
        return out
    cdef void *data = np.PyArray_DATA(out)
    if work.settings.module is None:
        kernels, threads = work.settings.kernels, threads_of(work.settings, n)
        bind_bits(work, sizes, n, &bits, &space)
        with nogil:
            native.mask(kernels, &bits, n, data, packed, threads)
        return out
    flat = out if packed else out.reshape(-1)
    for begin in range(0, n, PYTHON_CHUNK):
        end = min(begin + PYTHON_CHUNK, n)
        with RoundToNearest():
            made = bits_in_python(work, sizes, begin, end)
        if packed:
            flat[begin // 8 : (end + 7) // 8] = made
        else:
            flat[begin:end] = np.unpackbits(made, count=end - begin, bitorder="little")
    return out
