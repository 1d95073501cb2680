# Keep probabilities with a given mean that are proportional to scores, except where they reach the floor or 1.

cdef double NEGLIGIBLE = 2.0**-1000  # times the power of two above the largest score; smaller scores count as 0


def keep_probabilities(scores, double p, tuple axes, double floor, Call call not None, *, bint drop=False):
    """Return keep probabilities for scores, with mean 1 - p over some axes, in C order; if `drop`, return 1 minus them."""
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    cdef np.ndarray given = as_scores(scores, settings), rows, made, moved
    cdef bint are_last = True                # whether the axes are the last ones, in their order
    cdef int first = np.PyArray_NDIM(given) - len(axes), k
    cdef tuple shape = true_shape(given)
    cdef double mean = native.standard_scale(p, native.FD_FLOAT64)  # 1 - p, whatever the caller's rounding
    cdef int64_t n = 1
    for k in range(len(axes)):
        are_last = are_last and axes[k] == first + k
        n = n * <int64_t>shape[axes[k]]
    cdef object last = None if are_last else tuple(range(first, np.PyArray_NDIM(given)))
    moved = given if are_last else np.moveaxis(given, axes, last)
    rows = flat(moved)
    if np.PyArray_TYPE(rows) == np.NPY_FLOAT64 and np.PyArray_SIZE(rows):
        rows = without_negligible(rows.reshape(-1, n))
    made = np.PyArray_EMPTY(np.PyArray_NDIM(moved), np.PyArray_DIMS(moved), np.NPY_FLOAT64, 0)
    if np.PyArray_SIZE(given):
        fill_up(rows, n, mean, min(floor, mean), made, settings, drop)
    if are_last:
        return made
    return np.ascontiguousarray(np.moveaxis(made, last, axes)).reshape(shape)


cdef np.ndarray as_scores(scores, Settings settings):
    """Return scores as an array of float32 or float64, or raise an error for a bad one."""
    cdef native.Environment found
    cdef np.ndarray given = of_numpy(scores, "scores")
    if np.PyArray_TYPE(given) not in (np.NPY_FLOAT32, np.NPY_FLOAT64):
        quiet = begin_in_python(&found)
        try:
            given = given.astype(np.float64)
        finally:
            end_in_python(quiet, &found)
    elif not np.PyArray_ISNOTSWAPPED(given):
        given = given.astype(given.dtype.newbyteorder("="))
    cdef np.ndarray each = flat(given)
    cdef const native.fd_isa *kernels = effective().kernels
    cdef const void *data = np.PyArray_DATA(each)
    cdef bint is_double = np.PyArray_TYPE(each) == np.NPY_FLOAT64, are_good
    cdef int64_t n = np.PyArray_SIZE(each)
    cdef PyThreadState *state = released(n)
    are_good = native.are_scores(kernels, data, is_double, n)
    regain(state)
    if not are_good:
        quiet = begin_in_python(&found)
        try:
            index = tuple(map(int, np.argwhere(~((given >= 0) & (given < np.inf)))[0]))
        finally:
            end_in_python(quiet, &found)
        raise ValueError(f"scores must be finite and >= 0; got {np.asarray(scores)[index]} at index {index}")
    return given


cdef np.ndarray without_negligible(np.ndarray rows):
    """Return rows of float64, scaled so that no product overflows, in which negligible scores are 0."""
    cdef native.Environment found
    quiet = begin_in_python(&found)
    try:
        _, exponent = np.frexp(rows.max(axis=1, keepdims=True))
        rows = np.ldexp(rows, -exponent)
        rows[rows < NEGLIGIBLE] = 0.0
        return rows
    finally:
        end_in_python(quiet, &found)


cdef int fill_up(
    np.ndarray rows, int64_t n, double mean, double floor, np.ndarray made, Settings settings, bint drop
) except -1:
    """Write the keep probabilities of each row of n scores."""
    cdef native.fd_level_call call
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, np.PyArray_SIZE(rows))
    call.scores, call.out = np.PyArray_DATA(rows), <double *>np.PyArray_DATA(made)
    call.is_double, call.drop = np.PyArray_TYPE(rows) == np.NPY_FLOAT64, drop
    call.rows, call.n = np.PyArray_SIZE(rows) // n, n
    call.mean, call.floor = mean, floor
    cdef PyThreadState *state
    if settings.module is None:
        state = released(np.PyArray_SIZE(rows))
        native.fill_levels(kernels, &call, threads)
        regain(state)
        return 0
    in_python(levels.store, (rows, n, mean, floor, drop, made))
    return 0
