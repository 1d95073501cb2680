# cython: language_level=3, freethreading_compatible=True, embedsignature=False
"""Dropout on memory addresses: for arrays of other libraries, such as PyTorch's tensors, and for compiled callers.

Arrays that are contiguous, aligned and do not overlap go directly to the kernels. For all others, NumPy arrays are made over
the same memory, and the plan runs them like those of a NumPy caller. NumPy has no bfloat16, so its elements are 16-bit words.
The caller guarantees that the memory is valid; all other arguments are checked here.
"""

cimport numpy as np
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from libc.stdint cimport int64_t, uint64_t, uintptr_t

import numpy as np

from fastdrop._core cimport native
from fastdrop._core.plan cimport (
    ALWAYS_MAPPED,
    NEVER,
    WORTH_RELEASING,
    Call,
    Settings,
    Work,
    as_count,
    bypass_bytes,
    effective,
    perform_kept,
    place_mask,
    process_kernels,
    process_threads,
    round_to_compute,
    set_factors,
    set_rate,
    settings_of,
    as_shape,
    size_of,
    threads_of,
    word,
)

np.import_array()

DTYPES = {
    "float32": native.FD_FLOAT32, "float64": native.FD_FLOAT64, "float16": native.FD_FLOAT16, "bfloat16": native.FD_BFLOAT16
}

MAX_DIMS = native.FD_MAX_DIMS

cdef extern from "numpy/arrayobject.h":
    object PyArray_New(object, int, np.npy_intp *, int, np.npy_intp *, void *, int, int, object)


cdef struct Addresses:
    uintptr_t x, y, bias, residual  # 0 for a missing operand


def drop(
    uintptr_t x, uintptr_t y, shape, strides, int dtype, p, seed, offset, int num_threads=0, factors=(), bint is_new=False, *,
    uintptr_t bias=0, uintptr_t residual=0, start=0, noise_shape=None, shared_axes=None, global_shape=None, global_start=None
):
    """Write ``residual + dropout(x + bias)`` to y.

    Parameters
    ----------
    x, y : int
        Addresses of the first elements; y may be x.
    shape : int or sequence of int
        The shape, or the number of elements.
    strides : None or sequence of sequences of int
        None for arrays in C order; else the strides of x and y, and of the residual if there is one, in elements.
    dtype : int
        A value of `DTYPES`.
    p : float
        The probability of dropping.
    seed, offset : int
        The key.
    num_threads : int, default 0
        The largest number of threads, within the limit of fastdrop's own settings; 0 uses those settings alone.
    factors : sequence of float
        Empty: kept elements are multiplied by 1 / (1 - p). One number: they are multiplied by it. Three numbers:
        keep ? x * first + second : third.
    is_new : bool, default False
        Whether y was allocated for this call.
    bias, residual : int
        Addresses of the other operands, or 0 for none; the bias is contiguous and has the size of the last axis.
    start, noise_shape, shared_axes, global_shape, global_start
        As in `dropout`.
    """
    cdef Addresses at
    cdef Work work = Work.__new__(Work)
    cdef bint is_plain
    cdef tuple sizes = (as_count(shape, "shape"),) if PyLong_CheckExact(shape) else as_shape(shape)
    cdef int64_t n = lay(work, sizes, p, start, noise_shape, shared_axes, global_shape, global_start)
    if not 0 <= dtype < native.FD_DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}; got {dtype}")
    at.x, at.y, at.bias, at.residual = x, y, bias, residual
    work.dtype = dtype
    work.key.seed, work.key.offset = word(seed, "seed"), word(offset, "offset")
    work.y_is_new = is_new
    set_operation(work, &at, factors)
    work.settings = effective()
    if not n:
        return
    if not x or not y:
        raise ValueError("x and y must be addresses of memory; got 0, which tensors without storage have")
    is_plain = strides is None and work.rates is None and work.settings.module is None
    if is_plain and are_apart(&at, n * item_size(dtype), item_size(dtype)):
        perform_there(work, &at, n, sizes[-1] if sizes else 1, num_threads)
    else:
        perform_as_arrays(work, &at, sizes, strides, num_threads)


def check(shape, p, noise_shape=None, shared_axes=None, global_shape=None, global_start=None, start=0):
    """Raise the errors that `drop` would raise for a rate and a place; no memory is read or written."""
    lay(Work.__new__(Work), as_shape(shape), p, start, noise_shape, shared_axes, global_shape, global_start)


cdef int64_t lay(Work work, tuple sizes, p, start, noise_shape, shared_axes, global_shape, global_start) except -1:
    """Set the rate and the mask's place; return the number of elements."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef Call call = Call.__new__(Call)
    cdef int k
    for k in range(len(sizes)):
        dims[k] = sizes[k]
    call.start, call.global_shape, call.global_start = start, global_shape, global_start
    set_rate(work, p, len(sizes), dims)
    place_mask(work, call, len(sizes), dims, noise_shape, shared_axes)
    return size_of(sizes)


cdef int set_operation(Work work, Addresses *at, factors) except -1:
    cdef Py_ssize_t number = len(factors)
    if number == 3:
        if at.bias or at.residual:
            raise ValueError("bias and residual must be 0 with three factors")
        work.op = native.FD_AFFINE
        set_factors(work, factors)
        return 0
    if number > 1:
        raise ValueError(f"factors must be (), (scale,) or (scale, shift, fill); got {factors!r}")
    work.op = operation_of(at)
    if number:
        work.scale = round_to_compute(factors[0], work.dtype)
    elif work.rates is None:
        work.scale = native.inverted_scale(work.rate, work.dtype)
    else:
        work.op |= native.FD_WITH_RATES
    return 0


cdef int operation_of(const Addresses *at) noexcept:
    """Return the operation with one scale for all elements."""
    return native.FD_SCALE | (native.FD_WITH_BIAS if at.bias else 0) | (native.FD_WITH_RESIDUAL if at.residual else 0)


cdef int item_size(int dtype) noexcept:
    if dtype == native.FD_FLOAT64:
        return 8
    return 4 if dtype == native.FD_FLOAT32 else 2


cdef bint are_apart(const Addresses *at, int64_t size, int64_t alignment) noexcept:
    """Return whether operands of this size in bytes are aligned, and none is overwritten before it is read."""
    if (at.x | at.y | at.bias | at.residual) & <uintptr_t>(alignment - 1):
        return False
    if at.bias and at.bias == at.y:  # every row reads all biases
        return False
    return is_apart(at.x, at.y, size) and is_apart(at.bias, at.y, size) and is_apart(at.residual, at.y, size)


cdef bint is_apart(uintptr_t a, uintptr_t y, int64_t size) noexcept:
    return not a or a == y or a >= y + <uintptr_t>size or y >= a + <uintptr_t>size


cdef struct Layouts:
    native.fd_layout elements, mask, rows


cdef void lay_flat(native.fd_call *call, Layouts *space, const Addresses *at, int64_t n, int64_t row, int dtype) noexcept:
    """Set the operands, contiguous arrays with rows of `row` elements, with a mask in C order and one rate for all elements."""
    cdef int64_t size = item_size(dtype), one = 1
    cdef int64_t[2] shape = [n // row, row], strides = [0, size]
    native.layout_of(&space.elements, 1, &n, &size, size)
    native.layout_of(&space.mask, 1, &n, &one, 1)
    if at.bias:
        native.layout_of(&space.rows, 2, shape, strides, size)
    call.n, call.dtype = n, dtype
    call.x.data, call.y.data, call.other.data, call.bias.data = <void *>at.x, <void *>at.y, <void *>at.residual, <void *>at.bias
    call.x.layout = call.y.layout = call.other.layout = &space.elements
    call.bias.layout = &space.rows
    call.bits.mask_layout = &space.mask
    call.bits.places, call.scales = NULL, NULL
    call.bits.packed, call.bits.flags.data, call.bits.rates.data, call.bits.gate = NULL, NULL, NULL, NULL


cdef int perform_there(Work work, const Addresses *at, int64_t n, int64_t row, int num_threads) except -1:
    """Run the kernels directly on contiguous arrays."""
    cdef native.fd_call call
    cdef Layouts space
    lay_flat(&call, &space, at, n, row, work.dtype)
    call.bits.key, call.bits.first, call.bits.rate = work.key, work.first, native.rate_of(work.rate)
    if work.laid is not None:
        call.bits.mask_layout = &work.laid.layout
    call.op = work.op
    call.scale, call.shift, call.fill = work.scale, work.shift, work.fill
    return run_with(work.settings, &call, num_threads, work.y_is_new)


cdef bint drop_flat(const Addresses *at, int64_t n, int64_t row, int dtype, tuple rule, int num_threads, bint is_new) except -1:
    """Do what most calls ask of `drop`, without making objects; return whether it could. A rule begins with p and the key."""
    cdef native.fd_call call
    cdef Layouts space
    cdef Settings settings = effective()
    cdef double p = rule[0]
    if not (n and at.x and at.y and settings.module is None and native.is_rate(p)):
        return False
    if not are_apart(at, n * item_size(dtype), item_size(dtype)):
        return False
    lay_flat(&call, &space, at, n, row, dtype)
    call.bits.key.seed, call.bits.key.offset = word(rule[1], "seed"), word(rule[2], "offset")
    call.bits.first, call.bits.rate = 0, native.rate_of(p)
    call.op = operation_of(at)
    call.scale, call.shift, call.fill = native.inverted_scale(p, dtype), 0.0, 0.0
    run_with(settings, &call, num_threads, is_new)
    return True


cdef int run_with(Settings settings, native.fd_call *call, int num_threads, bint is_new) except -1:
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, call.n)
    if 0 < num_threads < threads:
        threads = num_threads
    call.bypass_bytes = NEVER if is_new and call.n * item_size(call.dtype) > ALWAYS_MAPPED else bypass_bytes
    if is_new:
        native.use_large_pages(call.y.data, call.n * item_size(call.dtype))
    if call.n < WORTH_RELEASING:
        native.apply(kernels, call, threads)
    else:
        with nogil:
            native.apply(kernels, call, threads)
    return 0


# For compiled callers. They hold the GIL. Their operands are aligned, and none of them overlaps the result.

cdef int runs_in_c() except -1:
    """Return whether the settings in force choose the kernels, and no backend in Python."""
    return effective().module is None


cdef int run(native.fd_call *call, int num_threads, bint is_new) except -1:
    """Run a call with the settings in force, which must choose the kernels."""
    return run_with(effective(), call, num_threads, is_new)


cdef int perform_as_arrays(Work work, const Addresses *at, tuple sizes, strides, int num_threads) except -1:
    """Run the plan on NumPy arrays over the same memory."""
    cdef Settings settings = work.settings
    if 0 < num_threads < settings.num_threads:
        work.settings = settings_of(None, num_threads)
    each = (None, None, None) if strides is None else (*strides, None)[:3]
    work.x, work.y = array_at(work, at.x, sizes, each[0]), array_at(work, at.y, sizes, each[1])
    if at.residual:
        work.other = array_at(work, at.residual, sizes, each[2])
    if at.bias:
        work.bias = np.broadcast_to(array_at(work, at.bias, sizes[-1:], None), sizes)
    return perform_kept(work)


cdef np.ndarray array_at(Work work, uintptr_t address, tuple sizes, strides):
    """Return an array over memory of another library."""
    cdef np.npy_intp[native.FD_MAX_DIMS] dims, steps
    cdef int k, size = item_size(work.dtype), number = np.NPY_UINT16
    if work.dtype == native.FD_FLOAT32:
        number = np.NPY_FLOAT32
    elif work.dtype == native.FD_FLOAT64:
        number = np.NPY_FLOAT64
    elif work.dtype == native.FD_FLOAT16:
        number = np.NPY_FLOAT16
    if strides is not None and len(strides) != len(sizes):
        raise ValueError(f"strides must have one number per axis of shape {sizes}; got {tuple(strides)}")
    for k in range(len(sizes)):
        dims[k] = sizes[k]
        steps[k] = 0 if strides is None else <np.npy_intp>strides[k] * size
    cdef np.ndarray made = PyArray_New(
        np.ndarray, len(sizes), dims, number, NULL if strides is None else steps, <void *>address, 0, np.NPY_ARRAY_WRITEABLE,
        None,
    )
    if work.dtype == native.FD_BFLOAT16 and work.settings.module is not None:  # Python backends need values, not 16-bit words
        import ml_dtypes
        return made.view(ml_dtypes.bfloat16)
    return made


include "tensors.pxi"
include "xla.pxi"
