# Noise with a scale per unit: the scales from the logarithms of their squares, and the gradient of these logarithms.

cdef np.ndarray in_type(np.ndarray a, int type):
    """Return an array in float32 or float64, rounded to nearest, in C order and of NumPy's class."""
    cdef native.Environment found
    cdef np.ndarray made
    if np.PyArray_TYPE(a) == type and np.PyArray_ISNOTSWAPPED(a):
        return flat(a)
    if np.PyArray_TYPE(a) in (np.NPY_FLOAT32, np.NPY_FLOAT64) and is_plain(a) and np.PyArray_ISNOTSWAPPED(a):
        made = np.PyArray_EMPTY(np.PyArray_NDIM(a), np.PyArray_DIMS(a), type, 0)
        convert(a, made)
        return made
    quiet = begin_in_python(&found)
    try:
        return np.asarray(a).astype(np.float64 if type == np.NPY_FLOAT64 else np.float32, order="C")
    finally:
        end_in_python(quiet, &found)


cdef void convert(np.ndarray a, np.ndarray y) noexcept:
    """Write the elements of a flat array, of float32 or float64, to one of the other type."""
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(y) == np.NPY_FLOAT32:
        narrow(<double *>np.PyArray_DATA(a), <float *>np.PyArray_DATA(y), np.PyArray_SIZE(a))
    else:
        widen(<float *>np.PyArray_DATA(a), <double *>np.PyArray_DATA(y), np.PyArray_SIZE(a))
    native.float_end(state)


cdef void narrow(const double *x, float *y, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = <float>x[i]


cdef void widen(const float *x, double *y, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = x[i]


def alphas(log_alpha, most=None, *, bint roots=False):
    """Return variances in float64 from their logarithms; if `roots`, their square roots, for one logarithm as a number.

    Larger logarithms than `most`, if that is given, count as `most`.
    """
    made = variances(as_real_array(log_alpha, "log_alpha", False), most, roots)
    if made is None:
        raise ValueError(f"log_alpha must be below 709, the logarithm of the largest number; got {log_alpha!r}")
    return made


cdef object variances(np.ndarray log_alpha, most, bint roots):
    """Return exp(log_alpha) in float64 and, if `roots`, its square root; None if one of them is infinite or NaN.

    `alphas` has the arguments.
    """
    if np.PyArray_IS_F_CONTIGUOUS(log_alpha) and not np.PyArray_IS_C_CONTIGUOUS(log_alpha):
        turned = variances(log_alpha.T, most, roots)  # keeps the order: BLAS may round products of others differently
        return None if turned is None else turned.T
    cdef np.ndarray given = log_alpha
    if most is not None:
        given = clamped(log_alpha, most)
    elif np.PyArray_TYPE(log_alpha) != np.NPY_FLOAT32 or not np.PyArray_ISNOTSWAPPED(log_alpha):
        given = in_type(log_alpha, np.NPY_FLOAT64)
    cdef np.ndarray made = in_float64("exp", given, None, None, False, given if most is not None else None)
    cdef double *each = <double *>np.PyArray_DATA(made)
    cdef uint64_t state
    cdef bint are_finite = True
    cdef int64_t i
    state = native.float_begin()
    for i in range(np.PyArray_SIZE(made)):
        are_finite &= each[i] < INFINITY
        if roots:
            each[i] = sqrt(each[i])
    native.float_end(state)
    if not are_finite:
        return None
    return made if np.PyArray_NDIM(made) or not roots else made[()]


cdef np.ndarray roots(np.ndarray values):
    """Return the square roots of an array of float64, in C order."""
    cdef np.ndarray made = np.array(values, order="C")
    cdef double *each = <double *>np.PyArray_DATA(made)
    cdef int64_t i
    cdef uint64_t state = native.float_begin()
    for i in range(np.PyArray_SIZE(made)):
        each[i] = sqrt(each[i])
    native.float_end(state)
    return made


cdef np.ndarray clamped(np.ndarray values, double most):
    """Return values in float64, with `most` instead of larger ones."""
    cdef np.ndarray given = values if is_usual(values) and np.PyArray_TYPE(values) == np.NPY_FLOAT32 else in_type(
        values, np.NPY_FLOAT64)
    cdef np.ndarray made = np.PyArray_EMPTY(np.PyArray_NDIM(given), np.PyArray_DIMS(given), np.NPY_FLOAT64, 0)
    if np.PyArray_TYPE(given) == np.NPY_FLOAT32:
        clamp_into(<float *>np.PyArray_DATA(given), most, <double *>np.PyArray_DATA(made), np.PyArray_SIZE(given))
    else:
        clamp_into(<double *>np.PyArray_DATA(given), most, <double *>np.PyArray_DATA(made), np.PyArray_SIZE(given))
    return made


cdef void clamp_into(const floating *x, double most, double *y, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = most if x[i] > most else x[i]


def scaled(np.ndarray x not None, double factor):
    """Return factor * x, a product in float64 that is rounded to the type of x."""
    cdef native.Environment found
    cdef native.fd_scale_call call
    cdef Settings settings = effective()
    cdef const native.fd_isa *kernels = settings.kernels
    cdef np.ndarray made
    cdef PyThreadState *state
    cdef int threads
    if settings.module is None and is_usual(x):
        made = new_like(x)
        call.dtype, call.n, call.factor = kind_of(x, "x"), np.PyArray_SIZE(x), factor
        call.x, call.y, threads = np.PyArray_DATA(x), np.PyArray_DATA(made), threads_of(settings, call.n)
        state = released(call.n)
        native.scale(kernels, &call, threads)
        regain(state)
        return made
    if settings.module is None and np.PyArray_IS_F_CONTIGUOUS(x) and is_usual(x.T):
        return scaled(x.T, factor).T
    if settings.module is None and np.PyArray_ITEMSIZE(x) == 2 and np.PyArray_CheckExact(x):
        made = np.empty_like(x)  # in the order that NumPy would choose; its own conversions of 16-bit numbers are slow
        np.PyArray_CopyInto(made, scaled(np.array(x, order="C"), factor))
        return made
    quiet = begin_in_python(&found)
    try:
        products = x.astype(np.float64)
        products *= factor  # in place, because the product of an array without axes would be no array
        return products.astype(x.dtype)
    finally:
        end_in_python(quiet, &found)


def zero_above(np.ndarray values not None, np.ndarray logs not None, double most):
    """Return new values of float64, with 0 where the logarithm is above `most` or NaN."""
    cdef np.ndarray each = in_type(logs, np.NPY_FLOAT64)
    cdef double *value = <double *>np.PyArray_DATA(values)
    cdef const double *log = <const double *>np.PyArray_DATA(each)
    cdef uint64_t state
    cdef int64_t i
    if not np.PyArray_SAMESHAPE(values, each):  # it has changed its shape since the checks
        raise ValueError(f"log_alpha must keep its shape {true_shape(values)} during the call; got {true_shape(each)}")
    state = native.float_begin()
    for i in range(np.PyArray_SIZE(values)):
        value[i] = value[i] if log[i] <= most else 0.0
    native.float_end(state)
    return values


def scaled_backward(Call call not None, grad, x, np.ndarray scale not None):
    """Return grad * (1 + scale z), z normal, and scale / 2 times the sums of grad * x * z over the elements of each scale."""
    cdef Noise run = Noise.__new__(Noise)
    cdef Work work = begin(call, grad, call.array_name())
    cdef np.ndarray given = work.x, other = operand(x, given, true_shape(given), "x"), sums
    cdef tuple shape = true_shape(scale)
    other = np.ndarray.view(other)  # the caller's code, run later, may change the array itself
    run.work, run.name, run.kind = work, "scaled", KINDS_OF_NOISE["scaled"][0]
    place_numbers(work, call, np.PyArray_NDIM(given), np.PyArray_DIMS(given))
    work.other = spread_factors(scale, work, "log_alpha")
    work.y = result_like(call, given)
    cdef np.ndarray each = flat(scale)
    if work.settings.module is not None:
        draw_key(call.seed, call.offset, &work.key)
        sums = sum_to_shape(normal_products(work, other), shape)
        dx = finish(run, call)
    else:
        run.values = other
        axes = broadcast_axes(given, shape)
        first_sums(run, axes)
        rooms = rooms_of_sums(run.sums, axes[1:])  # before the key is drawn
        dx = finish(run, call)
        sums = sum_in_rooms(rooms, run.sums, axes[1:], work.settings).reshape(shape)
    multiply_by_halves(sums, each)
    return dx, sums


cdef void multiply_by_halves(np.ndarray sums, np.ndarray scale) noexcept:
    """Multiply sums by scale / 2."""
    cdef double *slope = <double *>np.PyArray_DATA(sums)
    cdef const double *factor = <const double *>np.PyArray_DATA(scale)
    cdef int64_t i
    cdef uint64_t state = native.float_begin()
    for i in range(np.PyArray_SIZE(sums)):
        slope[i] *= factor[i] * 0.5
    native.float_end(state)


cdef int first_sums(Noise run, tuple axes) except -1:
    """Let a pass also sum along the first of these axes."""
    cdef np.ndarray x = run.work.x
    cdef int ndim = np.PyArray_NDIM(x), k, axis
    run.length, run.inner = 1, np.PyArray_SIZE(x)
    if not axes:
        run.sums = np.PyArray_ZEROS(ndim, np.PyArray_DIMS(x), np.NPY_FLOAT64, 0)
        return 0
    axis, run.inner = axes[0], 1
    for k in range(axis + 1, ndim):
        run.inner *= np.PyArray_DIM(x, k)
    run.length, run.sums = np.PyArray_DIM(x, axis), room_of_sums(x, axis, np.NPY_FLOAT64)
    cdef int64_t bytes = native.sum_room(run.length, run.inner)
    if bytes:
        run.room = room(threads_of(run.work.settings, np.PyArray_SIZE(x)) * bytes, np.NPY_UINT8)
    return 0


cdef np.ndarray normal_products(Work work, np.ndarray other):
    """Return (x * other) * z, z normal, each product rounded to the compute type."""
    cdef int type = np.NPY_FLOAT64 if work.dtype == native.FD_FLOAT64 else np.NPY_FLOAT32
    cdef np.ndarray a = in_type(work.x, type), b = in_type(other, type)
    cdef np.ndarray z = np.PyArray_EMPTY(np.PyArray_NDIM(a), np.PyArray_DIMS(a), type, 0)
    cdef int64_t n = np.PyArray_SIZE(a)
    cdef uint64_t state
    if n:
        fill_numbers(work, True, z, n)
    state = native.float_begin()
    if type == np.NPY_FLOAT64:
        multiply_into(<double *>np.PyArray_DATA(z), <double *>np.PyArray_DATA(a), <double *>np.PyArray_DATA(b), n)
    else:
        multiply_into(<float *>np.PyArray_DATA(z), <float *>np.PyArray_DATA(a), <float *>np.PyArray_DATA(b), n)
    native.float_end(state)
    return z


cdef void multiply_into(floating *z, const floating *a, const floating *b, int64_t n) noexcept:
    cdef int64_t i
    cdef PyThreadState *state = released(n)
    for i in range(n):
        z[i] = (a[i] * b[i]) * z[i]
    regain(state)
