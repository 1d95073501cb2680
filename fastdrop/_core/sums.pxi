# Sums along axes in a fixed order, and one number of a noise per map.

cpdef np.ndarray sum_along(x, int axis, other=None, bint wide=False):
    """Return sums along an axis, which keeps length 1: of x, or of the products with another array like it.

    The second half is added to the first, which is one longer if the length is odd, until one is left; the sum of none is 0.
    The result has the compute type of x; if `wide`, terms and sums are float64.
    """
    cdef np.ndarray a = flat(x), b = None if other is None else flat(other)
    cdef bint is_double = wide or kind_of(a, "x") == native.FD_FLOAT64
    cdef np.ndarray y = room_of_sums(a, axis, np.NPY_FLOAT64 if is_double else np.NPY_FLOAT32)
    sum_into(y, a, b, axis, effective())
    return y


cdef np.ndarray room_of_sums(np.ndarray a, int axis, int type):
    """Return zeros for the sums of an array along an axis, which keeps length 1."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int ndim = np.PyArray_NDIM(a), k
    # The caller took the axis from another array, or from one that gave another shape before.
    if not 0 <= axis < ndim:
        raise ValueError(f"the sum needs an axis in [0, {ndim}) of an array of shape {true_shape(a)}; got {axis}")
    for k in range(ndim):
        dims[k] = 1 if k == axis else np.PyArray_DIM(a, k)
    return np.PyArray_ZEROS(ndim, dims, type, 0)


cdef int bind_sums(native.fd_sum_call *call, np.ndarray a, np.ndarray b, int axis, np.ndarray y) except -1:
    """Set the operands of sums of flat arrays, and the array `y` for the sums, which has their type."""
    cdef int k
    if b is not None and (true_shape(b) != true_shape(a) or np.PyArray_TYPE(b) != np.PyArray_TYPE(a)):
        raise ValueError(f"the sum of products needs two arrays of one shape and dtype; got {true_shape(a)} of {a.dtype} "
                         f"and {true_shape(b)} of {b.dtype}")
    call.x_dtype, call.dtype, call.outer, call.inner = kind_of(a, "x"), kind_of(y, "y"), 1, 1
    for k in range(np.PyArray_NDIM(a)):
        if k < axis:
            call.outer *= np.PyArray_DIM(a, k)
        elif k > axis:
            call.inner *= np.PyArray_DIM(a, k)
    call.n = np.PyArray_DIM(a, axis)
    if np.PyArray_SIZE(y) != call.outer * call.inner:
        raise ValueError(f"an array must keep its shape during the call; it had {np.PyArray_SIZE(y)} sums, and now has the "
                         f"shape {true_shape(a)}")
    call.x, call.other, call.y = np.PyArray_DATA(a), NULL if b is None else np.PyArray_DATA(b), np.PyArray_DATA(y)
    call.factors = call.product = call.room = NULL
    return 0


cdef int sum_into(np.ndarray y, np.ndarray a, np.ndarray b, int axis, Settings settings) except -1:
    """Write the sums of a flat array, or of the products of two, along an axis to y, whose elements are 0."""
    cdef native.fd_sum_call call
    cdef int64_t n = np.PyArray_SIZE(a)
    cdef native.Environment found
    cdef PyThreadState *state
    bind_sums(&call, a, b, axis, y)
    if not n:
        return 0
    if settings.module is None:
        state = released(n)
        native.sum_axis(settings.kernels, &call, threads_of(settings, n))
        regain(state)
        return 0
    quiet = begin_in_python(&found)
    try:
        terms = a.astype(y.dtype)
        y[...] = fixed_sum(terms if b is None else terms * b.astype(y.dtype), axis)
    finally:
        end_in_python(quiet, &found)
    return 0


cdef list rooms_of_sums(np.ndarray a, tuple axes):
    """Return zeros in float64 for the sums of an array along some axes, one after the other."""
    cdef list rooms = []
    cdef np.ndarray last = a
    for axis in axes:
        last = room_of_sums(last, axis, np.NPY_FLOAT64)
        rooms.append(last)
    return rooms


cdef np.ndarray sum_in_rooms(list rooms, np.ndarray a, tuple axes, Settings settings):
    """Return the sums of a flat array along some axes, in the arrays of `rooms_of_sums`, or the array if there is no axis."""
    cdef np.ndarray sums = a
    cdef int k
    for k in range(len(axes)):
        sum_into(rooms[k], sums, None, axes[k], settings)
        sums = rooms[k]
    return sums


def sum_to_shape(np.ndarray values not None, tuple shape):
    """Return sums in float64, in a fixed order, over the axes along which an array of a shape was broadcast."""
    cdef tuple axes = broadcast_axes(values, shape)
    cdef np.ndarray made
    if not axes:
        made = in_type(values, np.NPY_FLOAT64)
        if made is values or may_overlap(made, values):
            made = made.copy()  # not the caller's memory
        return made if np.PyArray_NDIM(made) == len(shape) else made.reshape(shape)
    return sum_in_rooms(rooms_of_sums(values, axes), flat(values), axes, effective()).reshape(shape)


cdef tuple broadcast_axes(np.ndarray values, tuple shape):
    """Return the axes along which an array of a shape was broadcast to that of values."""
    cdef list axes = []
    cdef int missing = np.PyArray_NDIM(values) - len(shape), k
    for k in range(np.PyArray_NDIM(values)):
        if np.PyArray_DIM(values, k) != 1 and (k < missing or shape[k - missing] == 1):
            axes.append(k)
    return tuple(axes)


cdef object total(Noise noise):
    """Return the sum of the tiles' sums of a noise, in a fixed order."""
    if noise.sum is not noise.sums:
        sum_into(noise.sum, noise.sums, None, 0, noise.work.settings)
    return noise.sum[0]


def penalty(list several, double weight, double p, double keep, double more):
    """Return weight * norm * p / keep + more. The norm is the sum of all squares of several arrays, one after the other."""
    cdef volatile double norm = 0.0, made  # so that no operation leaves the part of the code that rounds to nearest
    cdef uint64_t state
    for each in several:
        made = sum_squares(each)
        state = native.float_begin()
        norm += made
        native.float_end(state)
    state = native.float_begin()
    made = weight * norm * p / keep + more
    native.float_end(state)
    return made


cdef double sum_squares(np.ndarray x) except? -1.0:
    """Return the sum of all squares in float64: products and sums are rounded to it."""
    cdef np.ndarray each = flat(x)
    cdef Settings settings = effective()
    cdef native.fd_sum_call call
    cdef np.ndarray buffer
    cdef double made = 0.0
    cdef int64_t n = np.PyArray_SIZE(each)
    cdef PyThreadState *state
    if settings.module is not None:
        each = each.reshape(-1)
        return float(sum_along(each, 0, each, True)[0])
    call.x_dtype, call.dtype, call.outer, call.n, call.inner = kind_of(each, "x"), native.FD_FLOAT64, 1, n, 1
    call.x = call.other = np.PyArray_DATA(each)
    call.y, call.factors, call.product, call.room = &made, NULL, NULL, NULL
    if native.sum_room(n, 1):
        buffer = room(native.sum_room(n, 1), np.NPY_UINT8)
        call.room = np.PyArray_DATA(buffer)
    if n:
        state = released(n)
        native.sum_axis(settings.kernels, &call, 1)  # one sum is the work of one thread
        regain(state)
    return made


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


cdef int multiply_maps(
    Settings settings, np.ndarray grad, np.ndarray x, int axis, np.ndarray factors, np.ndarray y, np.ndarray sums
) except -1:
    """Write grad times the factor of each map to y, and the sums of grad * x along the first axis of a map to `sums`.

    The elements of `sums` must be 0.
    """
    cdef native.fd_sum_call call
    cdef int64_t n = np.PyArray_SIZE(grad)
    cdef int threads = threads_of(settings, n)
    cdef PyThreadState *state
    bind_sums(&call, grad, x, axis, sums)
    if not np.PyArray_SAMESHAPE(grad, y) or np.PyArray_SIZE(factors) != call.outer:  # its shape has changed since the checks
        raise ValueError(f"out must keep its shape {true_shape(grad)} during the call; got {true_shape(y)}")
    call.factors, call.product, call.bypass_bytes = np.PyArray_DATA(factors), np.PyArray_DATA(y), bypass_bytes
    state = released(n)
    native.sum_axis(settings.kernels, &call, threads)
    regain(state)
    return 0


cdef int sum_first(np.ndarray grad, np.ndarray x, tuple axes, np.ndarray sums, Settings settings) except -1:
    """Write the sums of grad * x along the first of some axes, which keeps length 1, to float64 elements that are 0."""
    cdef np.ndarray a = flat(grad), b = flat(x)
    if axes:
        return sum_into(sums, a, b, axes[0], settings)
    return sum_into(sums[..., None], a[..., None], b[..., None], np.PyArray_NDIM(grad), settings)


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
    """Return a step of a call on an array with one element per map."""
    cdef Call maps = call.step()
    cdef list whole, begin
    cdef int k
    if call.global_shape is not None or call.global_start is not None:
        sizes, first = locate_block(true_shape(x), call.global_shape, call.global_start)
        whole, begin = list(sizes), list(first)
        for k in axes:
            whole[k], begin[k] = 1, 0
        maps.global_shape, maps.global_start = tuple(whole), tuple(begin)
    return maps


def noise_of_maps(Call call not None, x, str name, tuple params, tuple axes):
    """Return x times the noise of 1, one number per map."""
    cdef Work work = begin(call, x, call.array_name())
    cdef np.ndarray given = work.x, ones = ones_of_maps(given, axes), y
    cdef Call maps = call_of_maps(call, given, axes)
    place_numbers(work, call, np.PyArray_NDIM(given), np.PyArray_DIMS(given), axes)
    y = result_like(call, given)
    noisy(call_in(call, y), given, "factors", (), noisy(maps, ones, name, params))  # the inner call draws the key
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
    cdef np.ndarray ones = ones_of_maps(given, axes)
    cdef Call maps = call_of_maps(call, given, axes)
    cdef native.fd_key key
    place_numbers(work, call, np.PyArray_NDIM(given), np.PyArray_DIMS(given), axes)
    draw_key(call.seed, call.offset, &key)  # once, because a SeedSequence needs memory for it
    maps.seed, maps.offset = key.seed, key.offset
    cdef bint is_one_pass = work.settings.module is None and are_cached_maps(given, values, y, axes)
    # All memory is there before y is written. The two calls take the slopes, which are set later.
    cdef SumsOfMaps sums = SumsOfMaps.__new__(SumsOfMaps, given, axes)
    cdef Noise run = noise_with_sum(maps, ones, name, params, sums.rounded)
    cdef Noise more = None if others is None else noise_with_sum(maps, ones, name, others, sums.rounded)
    if is_one_pass:
        multiply_maps(work.settings, given, values, axes[0], noisy(maps, ones, name, params), y, sums.first)
    else:
        sum_first(given, values, axes, sums.first, work.settings)
    sums.add_up(work.settings)
    factors, made = finish(run, maps), total(run)
    kept = None
    if more is not None:
        finish(more, maps)
        kept = total(more)
    if not is_one_pass:
        noisy(call_in(call, y), given, "factors", (), factors)
    return wrapped(given, y, call.out), made, kept


cdef class SumsOfMaps:
    """Memory for the sums over the axes of the maps of an array: along the first axis, along all, and rounded."""

    cdef np.ndarray first, rounded
    cdef tuple others
    cdef list rooms

    def __cinit__(self, np.ndarray x, tuple axes):
        cdef np.ndarray last
        self.others = axes[1:]
        if axes:
            self.first = room_of_sums(x, axes[0], np.NPY_FLOAT64)
        else:
            self.first = np.PyArray_ZEROS(np.PyArray_NDIM(x), np.PyArray_DIMS(x), np.NPY_FLOAT64, 0)
        self.rooms = rooms_of_sums(self.first, self.others)
        last = self.rooms[len(self.rooms) - 1] if self.rooms else self.first
        self.rounded = last
        if np.PyArray_TYPE(x) != np.NPY_FLOAT64:
            self.rounded = np.PyArray_EMPTY(np.PyArray_NDIM(last), np.PyArray_DIMS(last), np.NPY_FLOAT32, 0)

    cdef int add_up(self, Settings settings) except -1:
        """Sum the first sums along the other axes, and round."""
        cdef np.ndarray sums = sum_in_rooms(self.rooms, self.first, self.others, settings)
        if sums is not self.rounded:
            convert(sums, self.rounded)
        return 0
