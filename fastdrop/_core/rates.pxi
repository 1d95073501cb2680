# The probability of dropping: one number, or an array of them. Every check of a rate is in this file.

cdef double rate(p, str allowed="a number") except? -1.0:
    """Return a probability that is one number: not a bool, a string, a list or an array of one element.

    `allowed` is for the error: a caller may accept arrays too.
    """
    cdef double value
    cdef native.Environment found
    if PyFloat_CheckExact(p):
        value = PyFloat_AsDouble(p)
    else:
        native.environment_begin(&found)  # the caller's rounding mode must not affect the conversion
        try:
            check_scalar(p)
            value = PyFloat_AsDouble(p)
        except TypeError:
            raise TypeError(
                f"p must be {allowed} in [0, 1], the probability of dropping; got {p!r} ({type(p).__name__})") from None
        except (OverflowError, ValueError):  # float takes no signaling NaN
            value = -1.0
        finally:
            native.environment_end(&found)
    if not native.is_rate(value):
        raise ValueError(f"p must be in [0, 1], the probability of dropping; got {p!r}")
    return fabs(value)  # -0.0 is 0


@cython.binding(True)
def as_rate(p):
    """Return `p` as one probability, or raise an error that names it."""
    return rate(p)


cdef np.ndarray as_real_rates(p):
    """Return an array of real numbers as a flat one of float32 or float64, or raise an error that names it."""
    cdef np.ndarray each
    cdef native.Environment found
    p = np.asarray(p)
    if p.dtype.kind not in "fiu" and p.dtype.name != "bfloat16":
        raise TypeError(f"p must be a number or an array of real numbers in [0, 1]; got an array of {p.dtype}")
    quiet = begin_in_python(&found)
    try:
        each = flat(np.asarray(p, p.dtype if p.dtype in (np.float32, np.float64) else np.float64))
    finally:
        end_in_python(quiet, &found)
    return each


cdef np.ndarray rates(np.ndarray p, int ndim, np.npy_intp *dims):
    """Return an array of probabilities, broadcast to a shape, or raise an error that names the first bad one."""
    cdef np.ndarray each, broadcast
    cdef int64_t bad, size
    cdef const native.fd_isa *kernels = effective().kernels
    cdef int dtype
    cdef void *data
    each = p if is_usual(p) and np.PyArray_TYPE(p) in (np.NPY_FLOAT32, np.NPY_FLOAT64) else as_real_rates(p)
    size, data = np.PyArray_SIZE(each), np.PyArray_DATA(each)
    dtype = native.FD_FLOAT32 if np.PyArray_TYPE(each) == np.NPY_FLOAT32 else native.FD_FLOAT64
    cdef PyThreadState *state = released(size)
    bad = native.first_bad_rate(kernels, data, dtype, size)
    regain(state)
    if bad < size:
        given = np.asarray(p)
        index = tuple(map(int, np.unravel_index(bad, given.shape)))
        raise ValueError(f"each p must be in [0, 1], the probability of dropping; got {given[index]!r} at index {index}")
    broadcast = spread(each, ndim, dims)
    if broadcast is None:
        raise ValueError(f"p has shape {true_shape(p)}, which does not broadcast to the shape "
                         f"{integers(<int64_t *>dims, ndim)} of the elements")
    return np.ndarray.view(broadcast) if broadcast is p else broadcast  # the caller's code may change the array itself


cdef int set_rate(Work work, p, int ndim, np.npy_intp *dims) except -1:
    """Set p for elements of a shape: one number, or an array of at least one dimension."""
    if isinstance(p, np.ndarray) and np.PyArray_NDIM(<np.ndarray>p):
        work.rates = rates(p, ndim, dims)
    else:
        work.rate = rate(p, "a number or a NumPy array of numbers")
    return 0
