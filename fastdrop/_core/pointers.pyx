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
    Addresses,
    Call,
    Layouts,
    Settings,
    Work,
    are_apart,
    as_count,
    as_shape,
    bypass_bytes,
    drop_flat,
    effective,
    is_flat,
    item_size,
    lay_flat,
    operation_of,
    perform_kept,
    place_mask,
    process_kernels,
    process_threads,
    round_to_compute,
    run_with,
    set_factors,
    set_rate,
    settings_of,
    size_of,
    word,
)

np.import_array()

DTYPES = {
    "float32": native.FD_FLOAT32, "float64": native.FD_FLOAT64, "float16": native.FD_FLOAT16, "bfloat16": native.FD_BFLOAT16
}

MAX_DIMS = native.FD_MAX_DIMS

cdef extern from "numpy/arrayobject.h":
    object PyArray_New(object, int, np.npy_intp *, int, np.npy_intp *, void *, int, int, object)


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
