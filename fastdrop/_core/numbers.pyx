# cython: language_level=3, freethreading_compatible=True, embedsignature=False, auto_pickle=False
"""Numbers without a mask: words and random numbers, noise, elementary functions.

The checks are those of the plan: every error is raised before a key is drawn and before anything is written.
"""

cimport cython
cimport numpy as np
from cpython.float cimport PyFloat_CheckExact
from cython cimport floating
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

import numpy as np

from fastdrop._core cimport native
from fastdrop._core.plan cimport (
    ELEMENTS_END,
    REPEATED,
    WORDS_END,
    PyThreadState,
    Call,
    Settings,
    Work,
    begin,
    begin_in_python,
    bind,
    bypass_bytes,
    check_kept,
    check_out,
    check_result,
    check_seed,
    compute_type,
    are_indices,
    as_count,
    as_real_array,
    draw_key,
    effective,
    end_in_python,
    finish_dropping,
    first_index,
    flat,
    in_python,
    is_one_of,
    is_plain,
    is_usual,
    kind_of,
    may_overlap,
    new_array,
    new_like,
    operand,
    perform,
    place_elements,
    place_numbers,
    readable,
    regain,
    released,
    room,
    round_to_compute,
    settings_of,
    as_shape,
    size_of,
    source_of,
    spread,
    spread_to,
    take_mask,
    threads_of,
    to_array,
    true_shape,
    wrapped,
    writable,
)
from fastdrop._core.plan import fold_in, locate_block

from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import as_non_negative_number, check_indices
from fastdrop._core.backends import drive, levels
from fastdrop._core.backends import noise as definitions
from fastdrop._core.backends.targets import store_others

np.import_array()


# Random numbers -----------------------------------------------------------------------------------------------------

def words(n, Call call not None):
    """Return words of domain 0."""
    cdef int64_t count = as_count(n, "n")
    cdef uint64_t first = first_index(call.start, count, WORDS_END, "words")
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    cdef native.fd_key key
    cdef np.ndarray out = random_result((count,), np.dtype(np.uint32), call)
    cdef np.ndarray made = out if is_plain(out) else np.empty(count, np.uint32)
    draw_key(call.seed, call.offset, &key)
    if np.PyArray_SIZE(made) != count:
        raise ValueError(f"out must keep its shape {(count,)} during the call; got {true_shape(made)}")
    fill_words(settings, key, first, made)
    if made is not out:
        np.copyto(out, made)
    return out


cdef int fill_words(Settings settings, native.fd_key key, uint64_t first, np.ndarray made) except -1:
    """Fill a flat array with words."""
    cdef int64_t n = np.PyArray_SIZE(made)
    cdef PyThreadState *state
    if n and settings.module is None:
        state = released(n)
        native.words(settings.kernels, key, first, n, np.PyArray_DATA(made), threads_of(settings, n))
        regain(state)
    elif n:
        settings.module.words(key.seed, key.offset, first, np.asarray(made))
    return 0


def check_place(shape, dtype, Call call not None):
    """Raise an error unless the random numbers of an array of this shape are inside the larger array and inside the stream."""
    placed_numbers(as_shape(shape), np.dtype(dtype), call)


cdef Work placed_numbers(tuple sizes, np.dtype dtype, Call call):
    """Return a call for numbers of a dtype, with their place in the stream."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef Work work = Work.__new__(Work)
    cdef int k
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, in this machine's byte order; got {dtype!r}")
    for k in range(len(sizes)):
        dims[k] = sizes[k]
    work.dtype = kind_of(np.empty(0, dtype), "dtype")
    place_numbers(work, call, len(sizes), dims)
    return work


def numbers(str name, shape, dtype, Call call not None):
    """Return random numbers, "uniform" or "normal", of float32 (a word per number) or float64 (two)."""
    cdef tuple sizes = as_shape(shape)
    cdef int64_t n = size_of(sizes)
    cdef np.dtype kind = np.dtype(dtype)  # asked once: an object may give another dtype each time
    cdef Work work = placed_numbers(sizes, kind, call)
    work.settings = settings_of(call.backend, call.num_threads)
    cdef np.ndarray out = random_result(sizes, kind, call)
    cdef np.ndarray made = out if is_plain(out) else np.empty(sizes, kind)
    draw_key(call.seed, call.offset, &work.key)
    if n:
        fill_numbers(work, name == "normal", made, n)
    if made is not out:
        np.copyto(out, made)
    return out


cdef np.ndarray random_result(tuple shape, dtype, Call call):
    """Check the seed, which must be given, and `out`. Return `out`, or a new array."""
    check_seed(call.seed, call.offset, REPEATED)
    if call.out is None:
        return np.empty(shape, dtype)
    check_result(call.out, dtype, shape)
    return call.out


cdef int fill_numbers(Work work, bint is_normal, np.ndarray made, int64_t n) except -1:
    """Fill an array in C order with the numbers of its elements."""
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads = threads_of(work.settings, n)
    cdef native.fd_numbers numbers
    cdef void *data = np.PyArray_DATA(made)
    cdef PyThreadState *state
    if work.settings.module is None:
        bind_numbers(work, &numbers)
        state = released(n)
        if is_normal:
            native.normal(kernels, &numbers, n, work.dtype, data, threads)
        else:
            native.uniform(kernels, &numbers, n, work.dtype, data, threads)
        regain(state)
        return 0
    in_python(drive.fill_numbers, (source_of(work), "normal" if is_normal else "uniform", made))
    return 0


cdef void bind_numbers(Work work, native.fd_numbers *numbers) noexcept:
    numbers.key, numbers.first = work.key, work.first
    numbers.layout = NULL if work.laid is None else &work.laid.layout


# Noise --------------------------------------------------------------------------------------------------------------

# In the order of fastdrop.h.
NOISES = ("gaussian", "additive", "spread", "spread_slope", "concrete", "uniform", "scaled", "factors")


cdef dict kinds_of_noise():
    """Return the number, whether it draws numbers, and whether it takes given factors, of each noise."""
    cdef dict found = {}
    for k, name in enumerate(NOISES):
        found[name] = k, definitions.NUMBERS[name] is not None, name in definitions.GIVEN_FACTORS
    return found


cdef dict KINDS_OF_NOISE = kinds_of_noise()


cdef enum:
    MOST_PARAMS = 5                          # as in fastdrop.h


cdef class Noise:
    """A checked call of a noise: its name, its parameters and its arrays."""

    cdef Work work                           # x, y, other, key, place, engine
    cdef str name
    cdef int kind                            # its number in NOISES
    cdef int num_params
    cdef double[MOST_PARAMS] params          # rounded to the compute type
    cdef np.ndarray shifts                   # float64 or float32, added to the products with given factors; or None
    cdef np.ndarray sums                     # float64, one per tile of FD_NOISE_TILE elements in C order; or None
    cdef np.ndarray sum                      # memory for the sum of the sums, which is `sums` if there is one; or None
    cdef np.ndarray values                   # like x, if the sums are along the middle axis of (..., length, inner); or None
    cdef int64_t length, inner
    cdef np.ndarray room                     # memory in which these sums are made; or None


def noise(
    Call call not None, x, str name, params, other=None, *, bint with_sums=False, str other_name="other", np.ndarray shifts=None
):
    """Return x with a noise, and the sums of the parameter's gradient per tile or None (fastdrop.h has the formulas).

    `other` is an array like x; for "scaled" and "factors", any real array that broadcasts to x. "factors" takes a seed, as the
    others do, but uses no random numbers. It adds `shifts`, which have the shape of `other`. Both then have the compute type
    and C order.
    """
    cdef Noise noise = checked_noise(call, x, name, params, other, other_name, shifts, with_sums)
    return finish(noise, call), noise.sums


cdef object noisy(Call call, x, str name, tuple params, other=None, str other_name="other"):
    """Return x with a noise, as `noise` does, without sums or shifts."""
    return finish(checked_noise(call, x, name, params, other, other_name, None, False), call)


def noise_and_sum(Call call not None, x, str name, params, other, *, str other_name="other"):
    """Return x with a noise, and the sum of the parameter's gradient."""
    cdef Noise noise = noise_with_sum(call, x, name, params, other, other_name)
    return finish(noise, call), total(noise)


cdef Noise noise_with_sum(Call call, x, str name, params, other, str other_name="other"):
    """Return a checked call that has memory for the sum of the parameter's gradient."""
    cdef Noise noise = checked_noise(call, x, name, params, other, other_name, None, True)
    noise.sum = noise.sums if np.PyArray_SIZE(noise.sums) == 1 else room_of_sums(noise.sums, 0, np.NPY_FLOAT64)
    return noise


cdef Noise checked_noise(Call call, x, str name, params, other, str other_name, np.ndarray shifts, bint with_sums):
    """Check a call, and allocate its results."""
    cdef Noise noise = Noise.__new__(Noise)
    cdef Work work = begin(call, x, call.array_name())
    noise.work, noise.name = work, name
    kind, draws, takes_factors = <tuple>KINDS_OF_NOISE[name]
    noise.kind = kind
    for value in params:
        noise.params[noise.num_params] = round_to_compute(value, work.dtype)
        noise.num_params += 1
    if draws:
        place_numbers(work, call, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
    if takes_factors:
        work.other = spread_factors(other, work, other_name)
        noise.shifts = None if shifts is None else spread_factors(shifts, work, "shifts")
    elif other is not None:
        work.other = operand(other, work.x, true_shape(work.x), other_name)
    work.y = result_like(call, work.x)
    if with_sums:
        noise.sums = room(-(-np.PyArray_SIZE(work.x) // native.FD_NOISE_TILE), np.NPY_FLOAT64)
    return noise


cdef np.ndarray result_like(Call call, np.ndarray x):
    """Return a call's `out`, or a new array like x, after the checks of `out` and the seed."""
    if call.out is not None:
        check_out(call.out, x)
    check_seed(call.seed, call.offset, call.use)
    return new_like(x) if call.out is None else call.out


cdef object finish(Noise noise, Call call):
    """Draw the key, write the results and the sums, and return the results."""
    cdef Work work = noise.work
    cdef np.ndarray given = work.x, y = work.y
    cdef int64_t n = np.PyArray_SIZE(given)
    draw_key(call.seed, call.offset, &work.key)
    check_kept(work)
    if n:
        work.x = readable(given, y)
        if work.other is not None:
            work.other = readable(work.other, y)
        if noise.values is not None:
            noise.values = readable(noise.values, y)
        work.y = writable(y)
        if work.settings.module is None:
            perform_noise(noise, n)
        else:
            perform_noise_in_python(noise)
        if work.y is not y:
            np.copyto(y, work.y)
    return wrapped(given, y, call.out)


cdef np.ndarray spread_factors(value, Work work, str name):
    """Return an array of factors, rounded to the compute type and broadcast to x."""
    cdef np.ndarray factors = of_numpy(value, name)
    cdef int type = np.NPY_FLOAT64 if work.dtype == native.FD_FLOAT64 else np.NPY_FLOAT32
    if np.PyArray_TYPE(factors) != type or not np.PyArray_ISNOTSWAPPED(factors):
        factors = in_type(factors, type)
    cdef np.ndarray each = spread_to(factors, true_shape(work.x))
    if each is None:
        raise ValueError(f"{name} has shape {true_shape(factors)}, which does not broadcast to the shape {true_shape(work.x)} "
                         "of the elements")
    return each


cdef int perform_noise(Noise noise, int64_t n) except -1:
    cdef Work work = noise.work
    cdef native.fd_noise_call call
    cdef native.fd_layout x_layout, y_layout, other_layout, shifts_layout, values_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads = threads_of(work.settings, n), k
    bind_numbers(work, &call.numbers)
    call.noise, call.dtype, call.n = noise.kind, work.dtype, n
    for k in range(noise.num_params):
        call.params[k] = noise.params[k]
    bind(work.x, &call.x, &x_layout)
    bind(work.y, &call.y, &y_layout)
    bind(work.other, &call.other, &other_layout)
    bind(noise.shifts, &call.shifts, &shifts_layout)
    bind(noise.values, &call.values, &values_layout)
    call.length, call.inner = noise.length, noise.inner
    call.sums = NULL if noise.sums is None else <double *>np.PyArray_DATA(noise.sums)
    call.bypass_bytes = bypass_bytes
    call.room = NULL if noise.room is None else np.PyArray_DATA(noise.room)
    cdef PyThreadState *state = released(n)
    native.noise_apply(kernels, &call, threads)
    regain(state)
    return 0


cdef int perform_noise_in_python(Noise noise) except -1:
    cdef Work work = noise.work
    cdef list params = []
    cdef int k
    for k in range(noise.num_params):
        params.append(noise.params[k])
    in_python(drive.make_noise, (
        source_of(work), noise.name, params, work.x, work.y, work.other, noise.shifts, noise.sums, native.FD_NOISE_TILE))
    return 0


# Elementary functions -----------------------------------------------------------------------------------------------

# In the order of fastdrop.h.
FUNCTIONS = (
    "exp", "log", "sigmoid", "logit", "softplus", "molchanov", "molchanov_slope", "kingma", "kingma_slope")


cpdef object elementary(str name, x, out, backend, num_threads):
    """Return y = f(x) per element. The kernel uses x and y directly if it knows their layouts; otherwise it gets copies."""
    cdef np.ndarray given = to_array(x, "x")
    cdef int kind = kind_of(given, "x")
    cdef Settings settings = settings_of(backend, num_threads)
    cdef native.Environment found
    if out is not None:
        check_out(out, given)
    cdef np.ndarray y = new_like(given) if out is None else out
    if settings.module is None and is_function_operand(given) and is_function_operand(y):
        call_function(name, readable(given, y), y, None, settings)
    else:
        quiet = begin_in_python(&found)
        try:
            np.asarray(y)[...] = elementary_of_copy(name, given, kind, settings)
        finally:
            end_in_python(quiet, &found)
    return wrapped(given, y, out)


cdef bint is_function_operand(np.ndarray a):
    """Return whether the kernels of elementary functions accept an array: in C order, and of no subclass."""
    return np.PyArray_CheckExact(a) and is_plain(a)


cdef object elementary_of_copy(str name, np.ndarray x, int kind, Settings settings):
    """Return f(x) in C order and in the compute type, which is float32 for the 16-bit types."""
    values = np.asarray(x).astype(compute_type(kind), order="C")
    if settings.module is None:
        call_function(name, values, values, None, settings)
    else:
        values[...] = settings.module.elementary(name, values.reshape(-1)).reshape(values.shape)
    return values


cdef int call_function(str name, np.ndarray x, np.ndarray y, np.ndarray sums, Settings settings) except -1:
    """Write f(x) of a flat array to y, or the sums of f(x) per tile to sums.

    x may be y. float32 is widened if y is float64; 16-bit elements are computed in float32.
    """
    cdef const native.fd_isa *kernels = settings.kernels
    cdef native.fd_function_call call
    cdef int threads = threads_of(settings, np.PyArray_SIZE(x))
    call.function, call.x_dtype = FUNCTIONS.index(name), kind_of(x, "x")
    call.dtype = native.FD_FLOAT64 if y is None or kind_of(y, "y") == native.FD_FLOAT64 else native.FD_FLOAT32
    call.x, call.n = np.PyArray_DATA(x), np.PyArray_SIZE(x)
    call.y = NULL if y is None else np.PyArray_DATA(y)
    call.sums = NULL if sums is None else <double *>np.PyArray_DATA(sums)
    cdef PyThreadState *state
    if call.n:
        state = released(call.n)
        native.function(kernels, &call, threads)
        regain(state)
    return 0


cpdef np.ndarray in_float64(str name, x, backend, num_threads, bint summed=False, np.ndarray y=None):
    """Return f(x) in float64, or the sums of f(x) over the tiles of FD_NOISE_TILE elements, in C order.

    `y` is an array of float64 in C order and of the shape of x, which may be x, for the result; by default a new one.
    """
    cdef Settings settings = settings_of(backend, num_threads)
    cdef np.ndarray given = of_numpy(x, "x"), sums = None
    cdef int64_t n = np.PyArray_SIZE(given), tile = native.FD_NOISE_TILE
    if np.PyArray_TYPE(given) != np.NPY_FLOAT32 or not is_usual(given):
        given = in_type(given, np.NPY_FLOAT64)  # exact for float16 and bfloat16
    if summed:
        sums = room(-(-n // tile), np.NPY_FLOAT64)
    elif y is None:
        y = np.PyArray_EMPTY(np.PyArray_NDIM(given), np.PyArray_DIMS(given), np.NPY_FLOAT64, 0)
    if settings.module is None:
        call_function(name, given, y, sums, settings)
        return sums if summed else y
    in_python(drive.function, (settings.module, name, given, sums if summed else y, tile if summed else 0))
    return sums if summed else y


include "sums.pxi"
include "scales.pxi"
include "dense.pxi"
include "maps.pxi"
include "passes.pxi"
include "choices.pxi"
include "draws.pxi"
include "levels.pxi"
include "targets.pxi"
