# Sums along axes in a fixed order, and one number of a noise per map.

def sum_along(x, int axis, other=None, *, bint wide=False):
    """Return sums along an axis, which keeps length 1: of x, or of the products with another array like it.

    The second half is added to the first, which is one longer if the length is odd, until one is left; the sum of none is 0.
    The result has the compute type of x; if `wide`, terms and sums are float64.
    """
    cdef np.ndarray a = flat_numbers(x), b = None if other is None else flat_numbers(other)
    cdef native.fd_sum_call call
    cdef np.ndarray y = bind_sums(&call, a, b, axis, wide)
    if np.PyArray_SIZE(a):
        add_up(&call, a, b, axis, y)
    return y


cdef np.ndarray bind_sums(native.fd_sum_call *call, np.ndarray a, np.ndarray b, int axis, bint wide):
    """Set the operands of sums of flat arrays, and return an array for the sums, which are 0."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int ndim = np.PyArray_NDIM(a), k
    cdef np.ndarray y
    # The caller took the axis from another array, or from one that gave another shape before.
    if not 0 <= axis < ndim:
        raise ValueError(f"the sum needs an axis in [0, {ndim}) of an array of shape {true_shape(a)}; got {axis}")
    if b is not None and (true_shape(b) != true_shape(a) or np.PyArray_TYPE(b) != np.PyArray_TYPE(a)):
        raise ValueError(f"the sum of products needs two arrays of one shape and dtype; got {true_shape(a)} of {a.dtype} "
                         f"and {true_shape(b)} of {b.dtype}")
    call.x_dtype, call.outer, call.inner = kind_of(a, "x"), 1, 1
    call.dtype = native.FD_FLOAT64 if wide or call.x_dtype == native.FD_FLOAT64 else native.FD_FLOAT32
    for k in range(ndim):
        dims[k] = 1 if k == axis else np.PyArray_DIM(a, k)
        if k < axis:
            call.outer *= dims[k]
        else:
            call.inner *= dims[k]
    call.n = np.PyArray_DIM(a, axis)
    y = np.PyArray_ZEROS(ndim, dims, np.NPY_FLOAT64 if call.dtype == native.FD_FLOAT64 else np.NPY_FLOAT32, 0)
    call.x, call.other, call.y = np.PyArray_DATA(a), NULL if b is None else np.PyArray_DATA(b), np.PyArray_DATA(y)
    call.factors = call.product = NULL
    return y


cdef int add_up(native.fd_sum_call *call, np.ndarray a, np.ndarray b, int axis, np.ndarray y) except -1:
    """Write the sums."""
    cdef Settings settings = effective()
    cdef int64_t n = np.PyArray_SIZE(a)
    cdef native.Environment found
    cdef PyThreadState *state
    if settings.module is None:
        state = released(n)
        native.sum_axis(settings.kernels, call, threads_of(settings, n))
        regain(state)
        return 0
    quiet = begin_in_python(&found)
    try:
        terms = a.astype(y.dtype)
        y[...] = fixed_sum(terms if b is None else terms * b.astype(y.dtype), axis)
    finally:
        end_in_python(quiet, &found)
    return 0


def sum_squares(np.ndarray x not None):
    """Return the sum of all squares in float64: products and sums are rounded to it."""
    cdef np.ndarray flat = flat_numbers(x).reshape(-1)
    return sum_along(flat, 0, flat, wide=True)[0]


cdef np.ndarray flat_numbers(x):
    """Return an array itself if it is of no subclass and flat, otherwise a copy that is."""
    cdef np.ndarray a = x
    return a if np.PyArray_CheckExact(a) and is_plain(a) else np.array(a, order="C", subok=False)


# Maps ---------------------------------------------------------------------------------------------------------------

cdef enum:
    LEAST_MAP = 2048    # bytes of the maps that are read once for both their sums and their products: they fit in a cache
    MOST_MAP = 262144


cdef bint are_cached_maps(np.ndarray grad, np.ndarray x, np.ndarray y, tuple axes):
    """Return whether each map is a run of memory that fits in a cache, and all maps do not."""
    cdef int64_t bytes = np.PyArray_ITEMSIZE(grad)
    cdef int k
    if not axes or axes[0] + len(axes) != np.PyArray_NDIM(grad) or np.PyArray_NBYTES(grad) < bypass_bytes:
        return False
    for k in axes:
        bytes *= np.PyArray_DIM(grad, k)
    return LEAST_MAP <= bytes <= MOST_MAP and is_plain(y) and is_read_first(grad, y) and is_read_first(x, y)


cdef bint is_read_first(np.ndarray a, np.ndarray y):
    """Return whether an array of y's shape needs no conversion, and either is the memory of y or shares none with it."""
    return is_usual(a) and (np.PyArray_DATA(a) == np.PyArray_DATA(y) or not may_overlap(a, y))


cdef np.ndarray multiply_maps(Settings settings, np.ndarray grad, np.ndarray x, int axis, np.ndarray factors, np.ndarray y):
    """Write grad times the factor of each map to y. Return the sums of grad * x along the first axis of a map, in float64."""
    cdef native.fd_sum_call call
    cdef np.ndarray sums = bind_sums(&call, grad, x, axis, True)
    cdef int64_t n = np.PyArray_SIZE(grad)
    cdef int threads = threads_of(settings, n)
    cdef PyThreadState *state
    if not np.PyArray_SAMESHAPE(grad, y) or np.PyArray_SIZE(factors) != call.outer:  # its shape has changed since the checks
        raise ValueError(f"out must keep its shape {true_shape(grad)} during the call; got {true_shape(y)}")
    call.factors, call.product, call.bypass_bytes = np.PyArray_DATA(factors), np.PyArray_DATA(y), bypass_bytes
    state = released(n)
    native.sum_axis(settings.kernels, &call, threads)
    regain(state)
    return sums


cdef np.ndarray sum_first(np.ndarray grad, np.ndarray x, tuple axes):
    """Return the sums of grad * x along the first of some axes, which keeps length 1, in float64."""
    if axes:
        return sum_along(grad, axes[0], x, wide=True)
    return sum_along(grad[..., None], np.PyArray_NDIM(grad), x[..., None], wide=True).reshape(true_shape(grad))


cdef np.ndarray sum_rest(np.ndarray sums, tuple axes, np.ndarray grad):
    """Return the sums of these along the other axes, rounded to the compute type of grad."""
    for axis in axes[1:]:
        sums = sum_along(sums, axis)
    return sums if np.PyArray_TYPE(grad) == np.NPY_FLOAT64 else in_type(sums, np.NPY_FLOAT32)


cdef np.ndarray ones_of_maps(np.ndarray x, tuple axes):
    """Return ones of the compute type of x, one per map: the elements along some axes are a map."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef bint is_double = np.PyArray_TYPE(x) == np.NPY_FLOAT64
    cdef int64_t i
    cdef int k
    for k in range(np.PyArray_NDIM(x)):
        dims[k] = 1 if k in axes else np.PyArray_DIM(x, k)
    cdef np.ndarray ones = np.PyArray_EMPTY(
        np.PyArray_NDIM(x), dims, np.NPY_FLOAT64 if is_double else np.NPY_FLOAT32, 0)
    for i in range(np.PyArray_SIZE(ones)):
        if is_double:
            (<double *>np.PyArray_DATA(ones))[i] = 1.0
        else:
            (<float *>np.PyArray_DATA(ones))[i] = 1.0
    return ones


cdef Call call_of_maps(Call call, np.ndarray x, tuple axes):
    """Return a call in training, with the same seed and place, on an array with one element per map."""
    cdef Call maps = Call.__new__(Call)
    cdef list whole, begin
    cdef int k
    maps.seed, maps.offset, maps.start, maps.use = call.seed, call.offset, call.start, call.use
    maps.backend, maps.num_threads = call.backend, call.num_threads
    if call.global_shape is not None or call.global_start is not None:
        sizes, first = locate_block(true_shape(x), call.global_shape, call.global_start)
        whole, begin = list(sizes), list(first)
        for k in axes:
            whole[k], begin[k] = 1, 0
        maps.global_shape, maps.global_start = tuple(whole), tuple(begin)
    return maps


def noise_of_maps(Call call not None, x, str name, tuple params, tuple axes):
    """Return x times the noise of 1, one number per map."""
    cdef Work work = begin(call, x, call.array_name()), placed = Work.__new__(Work)
    cdef np.ndarray given = work.x, ones = ones_of_maps(given, axes), y
    cdef Call maps = call_of_maps(call, given, axes)
    placed.dtype = kind_of(ones, "x")
    place_numbers(placed, maps, np.PyArray_NDIM(ones), np.PyArray_DIMS(ones))
    y = result_like(call, given)
    factors, _ = noise(maps, ones, name, params)  # draws the key
    noise(call_in(call, y), given, "factors", (), factors)
    return wrapped(given, y, call.out)


def noise_of_maps_backward(Call call not None, grad, x, str name, tuple params, tuple axes, tuple others=None):
    """Return the gradient of `noise_of_maps` with respect to x, the sum of its parameter's gradient, and that with `others`.

    For the kernels a map is one element. Its value is 1 in the forward pass, and its gradient is the sum of the gradients of
    its elements times x. The slope is a sum of products of the two, so they may change places. With the value in the place of
    the gradient, the kernels return the factors of the maps too. `others` are other parameters; without them, the third result
    is None.
    """
    cdef Work work = begin(call, grad, call.array_name())
    cdef np.ndarray given = work.x, values = operand(x, given, true_shape(given), "x"), y = result_like(call, given)
    cdef np.ndarray ones = ones_of_maps(given, axes), sums
    cdef Call maps = call_of_maps(call, given, axes)
    cdef bint is_one_pass = work.settings.module is None and are_cached_maps(given, values, y, axes)
    if is_one_pass:  # writes y; after that only memory can be missing
        sums = multiply_maps(work.settings, given, values, axes[0], noise(maps, ones, name, params)[0], y)
    else:
        sums = sum_first(given, values, axes)
    sums = sum_rest(sums, axes, given)
    more = None if others is None else noise(maps, ones, name, others, sums, with_sums=True)[1]
    factors, tiles = noise(maps, ones, name, params, sums, with_sums=True)
    if not is_one_pass:
        noise(call_in(call, y), given, "factors", (), factors)
    return wrapped(given, y, call.out), total(tiles), None if others is None else total(more)


cdef object total(np.ndarray sums):
    """Return the sum of the tiles' sums, in a fixed order."""
    return sums[0] if np.PyArray_SIZE(sums) == 1 else sum_along(sums, 0)[0]
