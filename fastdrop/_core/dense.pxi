# Dense layers with noise: their checked arrays, dropped connections, normal weights. Weights have the shape (in, out).

cdef tuple LEAST_VARIANCE = (1e-8,)      # added under the root, as in the authors' code, so that the root has a slope at 0
MASKED_AT_ONCE = 2**20                   # masked weights that are in memory at a time: few, so that they stay in the caches
cdef int64_t masked_at_once = MASKED_AT_ONCE


def set_masked_at_once(int64_t n):
    """Set the number of masked weights that are in memory at a time."""
    global masked_at_once
    masked_at_once = n


cdef extern from "numpy/arrayobject.h":
    object PyArray_MatrixProduct2(object, object, void *)
    object PyArray_View(np.ndarray, void *, void *)


cdef np.ndarray of_numpy(value, str name):
    """Return an array of NumPy's class."""
    return value if np.PyArray_CheckExact(value) else np.asarray(to_array(value, name))


cdef class Linear:
    """The layer ``x @ weight + bias``, for x of shape (..., in), weight of (in, out), and bias of (out,) or None.

    Attributes
    ----------
    x : numpy.ndarray
        The input, as it was given.
    rows, weight, bias : numpy.ndarray
        The input as a matrix with one row per sample, and the parameters, in the type `compute`.
    dtype : numpy.dtype
        The dtype that the operands were given in.
    result_shape : tuple of int
        The shape of the layer's result.
    """

    cdef readonly np.ndarray x, rows, weight, bias
    cdef readonly object dtype, compute
    cdef readonly tuple result_shape
    cdef int kind

    def __init__(self, x, weight, bias=None):
        cdef np.ndarray given = of_numpy(x, "x"), matrix = to_array(weight, "weight")
        self.kind = kind_of(given, "x")
        kind_of(matrix, "weight")
        cdef tuple shape = true_shape(given), sizes = true_shape(matrix)
        if not shape or len(sizes) != 2 or shape[-1] != sizes[0]:
            raise ValueError(f"x must have shape (..., in) and weight (in, out); got {shape} and {sizes}")
        self.x, self.dtype = given, given.descr
        self.compute = compute_type(self.kind)
        self.result_shape = shape[:-1] + sizes[1:]
        self.rows = self.flat(given)
        self.weight = self.operand(matrix, sizes, "weight")
        self.bias = None if bias is None else self.operand(bias, sizes[1:], "bias")

    cpdef np.ndarray operand(self, value, tuple shape, str name):
        """Return an operand in the compute type, or raise an error that names it."""
        cdef np.ndarray array = of_numpy(value, name)
        if kind_of(array, name) != self.kind:
            raise TypeError(f"{name} must have the dtype of x, {self.dtype}; got {array.descr}")
        if true_shape(array) != shape:
            raise ValueError(f"{name} must have the shape {shape}; got {true_shape(array)}")
        return self.widened(array)

    cdef np.ndarray widened(self, np.ndarray array):
        """Return an array in the compute type and in its own order: BLAS may round products of other orders differently."""
        cdef native.Environment found
        if np.PyArray_TYPE(array) in (np.NPY_FLOAT32, np.NPY_FLOAT64):
            return PyArray_View(array, NULL, NULL)  # the caller's code, run later, may change the array itself
        quiet = begin_in_python(&found)
        try:
            return array.astype(np.float32)
        finally:
            end_in_python(quiet, &found)

    cdef np.ndarray flat(self, np.ndarray array):
        """Return an array as a matrix with one row per sample, in the compute type."""
        if np.PyArray_NDIM(array) != 2:
            shape = true_shape(array)
            array = array.reshape(size_of(shape[:-1]), shape[-1])
        return self.widened(array)

    def grad_rows(self, grad):
        """Return the gradient with respect to the result as a matrix with one row per sample."""
        return self.flat(self.operand(grad, self.result_shape, "grad"))

    def rounded(self, np.ndarray array):
        """Return an array in the dtype of the operands."""
        cdef native.Environment found
        if array.descr is self.dtype:
            return array
        quiet = begin_in_python(&found)
        try:
            return array.astype(self.dtype, copy=False)
        finally:
            end_in_python(quiet, &found)

    cpdef np.ndarray apply(self, np.ndarray rows, np.ndarray weight):
        """Return rows @ weight + bias, as `product` does."""
        return self.add_bias(product(rows, weight))

    cdef np.ndarray add_bias(self, np.ndarray made):
        """Add the bias, if there is one, to an array, and return the array."""
        if self.bias is not None:
            made += self.bias
        return made

    cdef np.ndarray result(self, Call call):
        """Check a call's settings, `out` and seed, and return the array for the layer's result."""
        settings_of(call.backend, call.num_threads)
        if call.out is not None:
            check_result(call.out, self.dtype, self.result_shape)
        check_seed(call.seed, call.offset, call.use)
        return np.empty(self.result_shape, self.dtype) if call.out is None else call.out

    cdef np.ndarray gradient(self, Call call):
        """Do as `result` does, for the gradient with respect to x."""
        settings_of(call.backend, call.num_threads)
        return result_like(call, self.x)


# Products -----------------------------------------------------------------------------------------------------------
# NumPy computes those of matrices, so their callers call `begin_in_python` before the first product, and `end_in_python` after
# the last one.

cdef object matmul = np.matmul


cdef int multiply_matrices(np.ndarray a, np.ndarray b, np.ndarray y) except -1:
    """Write a @ b, for matrices or equally many of them, to an array that overlaps neither."""
    if np.PyArray_NDIM(a) == 2:  # this calls BLAS as numpy.matmul does, in half the time of a small product
        PyArray_MatrixProduct2(a, b, <void *>y)
    else:
        matmul(a, b, out=y)
    return 0


# A sample's product with fewer outputs or more weights takes less time in the BLAS than in the library's own loop.
cdef int64_t LEAST_OUTPUTS = 4, MOST_WEIGHTS = 4096


cdef int multiply_groups(np.ndarray rows, np.ndarray weights, np.ndarray y) except -1:
    """Write the products of groups of samples and their matrices to a new array."""
    cdef native.Environment found
    cdef int64_t outputs = np.PyArray_DIM(weights, 2)
    if np.PyArray_DIM(rows, 1) == 1 and outputs >= LEAST_OUTPUTS and np.PyArray_DIM(weights, 1) * outputs <= MOST_WEIGHTS:
        return multiply_samples(flat(rows), weights, y)
    quiet = begin_in_python(&found)
    try:
        return multiply_matrices(rows, weights, y)
    finally:
        end_in_python(quiet, &found)


cdef int multiply_samples(np.ndarray a, np.ndarray weights, np.ndarray y) except -1:
    """Write the products of single samples and their matrices, added in the order of the inputs."""
    cdef native.fd_product call
    call.is_double, call.rows = np.PyArray_TYPE(y) == np.NPY_FLOAT64, np.PyArray_DIM(weights, 0)
    call.n, call.m = np.PyArray_DIM(weights, 1), np.PyArray_DIM(weights, 2)
    call.x, call.weight, call.y = np.PyArray_DATA(a), np.PyArray_DATA(weights), np.PyArray_DATA(y)
    cdef PyThreadState *state = released(call.rows * call.n * call.m)
    native.multiply_rows(&call)
    regain(state)
    return 0


cdef np.ndarray product(np.ndarray a, np.ndarray b):
    """Return the product of two matrices."""
    return PyArray_MatrixProduct2(a, b, NULL)


cdef np.ndarray in_shape_of(np.ndarray like, np.ndarray a):
    """Return an array in C order in the shape of another one with as many elements."""
    return a if np.PyArray_SAMESHAPE(a, like) else a.reshape(true_shape(like))


cdef np.ndarray scaled_squares(np.ndarray a, np.ndarray factor):
    """Return factor * (a * a) in the order that NumPy would choose, without the factor if it is None.

    The factor has float64, and is rounded to the type of a.
    """
    cdef native.Environment found
    cdef uint64_t state
    cdef np.ndarray y
    cdef const double *factors = NULL if factor is None else <const double *>np.PyArray_DATA(factor)
    if is_plain(a) and (factor is None or is_plain(factor) and np.PyArray_SAMESHAPE(a, factor)):
        y = np.PyArray_EMPTY(np.PyArray_NDIM(a), np.PyArray_DIMS(a), np.PyArray_TYPE(a), 0)
        state = native.float_begin()
        if np.PyArray_TYPE(a) == np.NPY_FLOAT64:
            square_into(<double *>np.PyArray_DATA(y), <double *>np.PyArray_DATA(a), factors, np.PyArray_SIZE(a))
        else:
            square_into(<float *>np.PyArray_DATA(y), <float *>np.PyArray_DATA(a), factors, np.PyArray_SIZE(a))
        native.float_end(state)
        return y
    quiet = begin_in_python(&found)
    try:
        return a * a if factor is None else factor.astype(a.dtype) * (a * a)  # astype keeps the order
    finally:
        end_in_python(quiet, &found)


cdef void square_into(floating *y, const floating *a, const double *factor, int64_t n) noexcept:
    cdef int64_t i
    cdef PyThreadState *state = released(n)
    for i in range(n):
        y[i] = a[i] * a[i] if factor == NULL else <floating>factor[i] * (a[i] * a[i])
    regain(state)


# Normal weights -----------------------------------------------------------------------------------------------------

cdef int check_numbers(Call call, Linear layer, np.ndarray a) except -1:
    """Raise an error unless the numbers of an array, in a layer's compute type, are inside the stream."""
    cdef Work work = Work.__new__(Work)
    work.dtype = native.FD_FLOAT64 if layer.kind == native.FD_FLOAT64 else native.FD_FLOAT32
    return place_numbers(work, call, np.PyArray_NDIM(a), np.PyArray_DIMS(a))


def spread_weights(Call call not None, Linear layer not None, log_variance, alpha):
    """Return the result of a layer whose weights are normal: the layer's weights are the means.

    The variances are exp(log_variance) or, if that is None, alpha * weight**2.
    """
    cdef Call inner
    cdef native.Environment found
    cdef native.fd_key key
    cdef np.ndarray y = layer.result(call), mean, spread_by
    check_numbers(call, layer, y)
    quiet = begin_in_python(&found)
    try:
        mean = layer.apply(layer.rows, layer.weight)
        spread_by = product(scaled_squares(layer.rows, None), weight_variance(call, layer, log_variance, alpha))
    finally:
        end_in_python(quiet, &found)
    draw_key(call.seed, call.offset, &key)
    inner = call_with_key(call, &key)
    mean, spread_by = in_shape_of(y, mean), in_shape_of(y, spread_by)
    inner.out = y if np.PyArray_TYPE(y) == np.PyArray_TYPE(mean) else mean
    noisy(inner, mean, "spread", LEAST_VARIANCE, spread_by)
    if inner.out is not y:
        store(mean, y)
    return y


cdef np.ndarray weight_variance(Call call, Linear layer, log_variance, np.ndarray alpha):
    """Return the variance of each weight."""
    if log_variance is not None:
        return elementary("exp", log_variance, None, call.backend, call.num_threads)
    return scaled_squares(layer.weight, alpha)


cdef int store(np.ndarray values, np.ndarray y) except -1:
    """Write values, rounded to the type of y."""
    cdef native.Environment found
    if np.PyArray_TYPE(y) == np.PyArray_TYPE(values):
        if not (is_plain(y) and is_plain(values) and np.PyArray_SAMESHAPE(y, values)):
            return np.PyArray_CopyInto(y, values)
        memcpy(np.PyArray_DATA(y), np.PyArray_DATA(values), np.PyArray_NBYTES(y))  # a few times as fast, if they are small
        return 0
    quiet = begin_in_python(&found)
    try:
        np.asarray(y)[...] = values
    finally:
        end_in_python(quiet, &found)
    return 0


def spread_weights_backward(
    Call call not None, Linear layer not None, np.ndarray outer not None, log_variance, np.ndarray alpha,
    np.ndarray log_alpha=None, double most=INFINITY
):
    """Return the gradients of `spread_weights` with respect to x, the weights, and log_variance or log_alpha.

    `outer` is the gradient with respect to the result, as rows. Where log_alpha is above `most`, its gradient is 0.
    """
    cdef native.Environment found
    cdef native.fd_key key
    cdef np.ndarray grad = outer if len(layer.result_shape) == 2 else outer.reshape(layer.result_shape)
    cdef np.ndarray y, variance, squares, spread_by, slopes, dx, dweight, dvariance
    check_numbers(call, layer, grad)
    y = layer.gradient(call)
    quiet = begin_in_python(&found)
    try:
        variance, squares = weight_variance(call, layer, log_variance, alpha), scaled_squares(layer.rows, None)
        spread_by = product(squares, variance)
        draw_key(call.seed, call.offset, &key)
        slopes = noisy(call_with_key(call, &key), grad, "spread_slope", LEAST_VARIANCE, in_shape_of(grad, spread_by))
        slopes = in_shape_of(outer, slopes)
        dx, dweight = product(outer, layer.weight.T), product(layer.rows.T, outer)
        add_doubled(dx, layer.rows, None, product(slopes, variance.T))
        dvariance = product(squares.T, slopes)
        if alpha is not None:
            add_doubled(dweight, layer.weight, alpha, dvariance)
        scale_by(dvariance, variance)
        if alpha is None:
            dvariance = layer.rounded(dvariance)
        else:
            dvariance = zero_above(sum_to_shape(dvariance, true_shape(alpha)), log_alpha, most)
        dweight = layer.rounded(dweight)
    finally:
        end_in_python(quiet, &found)
    store(in_shape_of(layer.x, dx), y)  # at the end, because it may overlap an operand
    return wrapped(layer.x, y, call.out), dweight, dvariance


def multiply_noisy(Call call not None, Linear layer not None, np.ndarray alpha not None):
    """Return the result of a layer whose inputs are multiplied by normal numbers of mean 1 and variance alpha."""
    cdef Call inner
    cdef native.Environment found
    cdef native.fd_key key
    cdef np.npy_intp[2] dims = [np.PyArray_DIM(layer.rows, 0), np.PyArray_DIM(layer.weight, 1)]
    cdef np.ndarray y = layer.result(call), made = np.PyArray_EMPTY(2, dims, np.PyArray_TYPE(layer.weight), 0)
    cdef np.ndarray x = in_shape_of(layer.x, layer.rows), drawn = new_like(x), scale = roots(alpha)
    check_numbers(call, layer, x)
    if np.PyArray_NDIM(scale):
        scale = in_type(scale, np.PyArray_TYPE(layer.rows))
    draw_key(call.seed, call.offset, &key)
    inner = call_with_key(call, &key)
    inner.out = drawn
    if np.PyArray_NDIM(scale):
        noisy(inner, x, "scaled", (), scale, "log_alpha")
    else:
        noisy(inner, x, "gaussian", (scale[()],))
    quiet = begin_in_python(&found)
    try:
        multiply_matrices(in_shape_of(layer.rows, drawn), layer.weight, made)
        layer.add_bias(made)
    finally:
        end_in_python(quiet, &found)
    store(made.reshape(layer.result_shape), y)
    return y


cdef Call call_with_key(Call call, const native.fd_key *key):
    """Return a step of a call with a drawn key."""
    cdef Call inner = call.step()
    inner.seed, inner.offset = key.seed, key.offset
    return inner


cdef np.ndarray like_matrix(value, np.ndarray y):
    """Return an array, rounded to the type of a matrix and broadcast to its shape, in C order."""
    cdef np.ndarray each = spread(in_type(value, np.PyArray_TYPE(y)), 2, np.PyArray_DIMS(y))
    if each is None:  # it has changed its shape since the checks
        raise ValueError(f"an operand must broadcast to the shape {true_shape(y)}; got {true_shape(value)}")
    return flat(each)


cdef int scale_by(np.ndarray y, np.ndarray factor) except -1:
    """Multiply a new matrix by the elements of another one."""
    cdef np.ndarray each = like_matrix(factor, y)
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(y) == np.NPY_FLOAT64:
        scale_each(<double *>np.PyArray_DATA(y), <double *>np.PyArray_DATA(each), np.PyArray_SIZE(y))
    else:
        scale_each(<float *>np.PyArray_DATA(y), <float *>np.PyArray_DATA(each), np.PyArray_SIZE(y))
    native.float_end(state)
    return 0


cdef void scale_each(floating *y, const floating *factor, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = y[i] * factor[i]


cdef int add_doubled(np.ndarray y, np.ndarray a, factor, np.ndarray b) except -1:
    """Add ((a + a) * factor) * b to a new matrix, without the factor if it is None."""
    cdef np.ndarray first = like_matrix(a, y), second = like_matrix(b, y)
    cdef np.ndarray each = None if factor is None else like_matrix(factor, y)
    cdef void *factors = NULL if each is None else np.PyArray_DATA(each)
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(y) == np.NPY_FLOAT64:
        add_products(<double *>np.PyArray_DATA(y), <double *>np.PyArray_DATA(first), <double *>factors,
                     <double *>np.PyArray_DATA(second), np.PyArray_SIZE(y))
    else:
        add_products(<float *>np.PyArray_DATA(y), <float *>np.PyArray_DATA(first), <float *>factors,
                     <float *>np.PyArray_DATA(second), np.PyArray_SIZE(y))
    native.float_end(state)
    return 0


cdef void add_products(floating *y, const floating *a, const floating *factor, const floating *b, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = y[i] + (a[i] + a[i] if factor == NULL else (a[i] + a[i]) * factor[i]) * b[i]


# Dropped connections ------------------------------------------------------------------------------------------------

cdef class Connections:
    """The masks of one call. Samples that share a mask are a group: the weights' masks have the shape (groups, in, out).

    `rule` is (p, whether each sample has its own mask, mode, whether biases are dropped, index of the first sample). Outside
    training, all samples are one group, whose mask is replaced by the mean over all masks.
    """

    cdef int64_t groups, samples
    cdef int64_t step                        # groups whose masked weights are in memory at a time
    cdef Call call
    cdef Linear layer
    cdef object p, mode, first_sample        # the first sample's masks come first
    cdef bint drops_bias
    cdef native.fd_key key

    def __init__(self, Call call not None, Linear layer not None, rule):
        cdef np.npy_intp dims[3]
        cdef bint per_sample
        if np.PyArray_NDIM(layer.x) != 2:
            raise ValueError(
                f"x must have shape (N, in) and weight (in, out); got {true_shape(layer.x)} and {true_shape(layer.weight)}")
        self.p, per_sample, self.mode, self.drops_bias, self.first_sample = rule
        self.call, self.layer, self.groups, self.samples = call, layer, 1, np.PyArray_DIM(layer.rows, 0)
        dims[0] = self.samples if per_sample else 1
        dims[1], dims[2] = np.PyArray_DIM(layer.weight, 0), np.PyArray_DIM(layer.weight, 1)
        place_elements(Work.__new__(Work), call, 3, dims, ELEMENTS_END, "elements")
        if not dims[1] and self.drops_bias and layer.bias is not None:
            self.place_biases([dims[0], dims[2]])
        if per_sample and call.is_training:
            self.groups, self.samples = self.samples, 1
        self.step = max(1, masked_at_once // max(1, np.PyArray_SIZE(layer.weight)))

    cdef int place_biases(self, np.npy_intp *dims) except -1:
        """Check the place of the biases of a layer without inputs. With inputs, the indices of the weights end later."""
        cdef Call biases = Call.__new__(Call)
        biases.start = self.first_sample * dims[1]
        return place_elements(Work.__new__(Work), biases, 2, dims, ELEMENTS_END, "elements")

    cdef int draw(self) except -1:
        """Draw the key of the masks."""
        self.key.seed = self.key.offset = 0
        if self.call.is_training:
            draw_key(self.call.seed, self.call.offset, &self.key)
        return 0

    cdef np.ndarray group(self, np.ndarray rows):
        """Return rows, one per sample, as (groups, samples, columns)."""
        cdef np.npy_intp[3] sizes = [self.groups, self.samples, np.PyArray_DIM(rows, 1)]
        cdef np.PyArray_Dims dims
        dims.ptr, dims.len = &sizes[0], 3
        return np.PyArray_Newshape(rows, &dims, np.NPY_CORDER)

    cdef np.ndarray room(self):
        """Return memory for the masked weights of `step` groups."""
        cdef np.npy_intp[3] dims = [
            min(self.step, self.groups), np.PyArray_DIM(self.layer.weight, 0), np.PyArray_DIM(self.layer.weight, 1)]
        return np.PyArray_EMPTY(3, dims, np.PyArray_TYPE(self.layer.weight), 0)

    cdef np.ndarray drop_weights(self, np.ndarray weights, np.ndarray out, int64_t first_group):
        """Write weights of shape (..., in, out) to `out`, with the masks of the groups from `first_group` on; return `out`."""
        cdef int64_t each = np.PyArray_DIM(out, 1) * np.PyArray_DIM(out, 2)
        return self.drop(spread(weights, 3, np.PyArray_DIMS(out)), out, first_group, each, &self.key)

    cdef np.ndarray room_of_biases(self):
        """Return memory for the masked biases of all groups."""
        cdef np.npy_intp[2] dims = [self.groups, np.PyArray_DIM(self.layer.weight, 1)]
        return np.PyArray_EMPTY(2, dims, np.PyArray_TYPE(self.layer.weight), 0)

    cdef np.ndarray drop_biases(self, np.ndarray biases, np.ndarray out):
        """Return the biases of all groups, of shape (..., out), with the masks of the groups, if biases are dropped."""
        cdef np.ndarray given = spread(biases, 2, np.PyArray_DIMS(out))
        cdef native.fd_key key = self.key
        if not self.drops_bias:
            return given
        key.seed = fold_in(key.seed, "bias")
        return self.drop(given, out, 0, np.PyArray_DIM(out, 1), &key)

    cdef np.ndarray drop(self, np.ndarray values, np.ndarray out, first_group, int64_t each, const native.fd_key *key):
        """Write the values of the groups from `first_group` on to `out`, with their masks or the mean mask; return it."""
        cdef Call inner = Call.__new__(Call)
        inner.seed, inner.offset, inner.training, inner.out = key.seed, key.offset, self.call.training, out
        inner.start = (self.first_sample + first_group) * each
        inner.backend, inner.num_threads = self.call.backend, self.call.num_threads
        return finish_dropping(inner, begin(inner, values, "x"), values, self.p, None, None, self.mode, None, None)


def connect(Connections masks not None):
    """Return the result of a layer without the dropped connections."""
    cdef Linear layer = masks.layer
    cdef np.ndarray y = layer.result(masks.call), rows = masks.group(layer.rows)
    cdef np.npy_intp[2] dims = [np.PyArray_DIM(layer.rows, 0), np.PyArray_DIM(layer.weight, 1)]
    cdef np.ndarray made = np.PyArray_EMPTY(2, dims, np.PyArray_TYPE(layer.weight), 0)
    cdef np.ndarray products = masks.group(made), weights = masks.room(), dropped
    cdef np.ndarray biases = None if layer.bias is None else masks.room_of_biases()
    cdef native.Environment found
    cdef int64_t begin = 0, end
    masks.draw()
    native.environment_begin(&found)
    try:
        while begin < masks.groups:
            end = min(begin + masks.step, masks.groups)
            dropped = masks.drop_weights(layer.weight, part(weights, 0, end - begin), begin)
            multiply_groups(part(rows, begin, end), dropped, part(products, begin, end))
            begin = end
        if layer.bias is not None:
            add_to_groups(products, masks.drop_biases(layer.bias, biases))
    finally:
        native.environment_end(&found)
    store(made, y)
    return y


cdef int add_to_groups(np.ndarray products, np.ndarray biases) except -1:
    """Add the biases of each group to the products of its samples."""
    cdef native.Environment found
    quiet = begin_in_python(&found)
    try:
        products += biases[:, np.newaxis]
    finally:
        end_in_python(quiet, &found)
    return 0


def connect_backward(Connections masks not None, np.ndarray outer not None):
    """Return the gradients of `connect` with respect to x, weights and biases; `outer` is the result's gradient, as rows."""
    cdef Linear layer = masks.layer
    cdef Call call = masks.call
    cdef native.Environment found
    cdef np.ndarray rows = masks.group(layer.rows), columns = masks.group(outer), dx = new_like(rows)
    cdef np.ndarray y, weights, products, dropped, dweight
    cdef int64_t begin = 0, end
    y, weights = layer.gradient(call), masks.room()
    products = masks.room()
    dbias = None
    dweight = np.PyArray_ZEROS(2, np.PyArray_DIMS(layer.weight), np.PyArray_TYPE(layer.weight), 0)
    masks.draw()
    quiet = begin_in_python(&found)
    try:
        while begin < masks.groups:
            end = min(begin + masks.step, masks.groups)
            dropped = masks.drop_weights(layer.weight, part(weights, 0, end - begin), begin)
            multiply_matrices(part(columns, begin, end), np.PyArray_SwapAxes(dropped, 1, 2), part(dx, begin, end))
            dropped = part(products, 0, end - begin)
            multiply_by_columns(part(rows, begin, end), part(columns, begin, end), dropped)
            add_groups(masks.drop_weights(dropped, dropped, begin), dweight)
            begin = end
        if layer.bias is not None:
            dbias = layer.rounded(masks.drop_biases(columns.sum(axis=1), masks.room_of_biases()).sum(axis=0))
        dweight = layer.rounded(dweight)
    finally:
        end_in_python(quiet, &found)
    store(in_shape_of(layer.x, dx), y)
    return y, dweight, dbias


cdef int multiply_by_columns(np.ndarray rows, np.ndarray columns, np.ndarray y) except -1:
    """Write the product of each group's transposed rows and its columns."""
    cdef np.ndarray a, b
    cdef int64_t groups = np.PyArray_DIM(y, 0), n = np.PyArray_DIM(y, 1), m = np.PyArray_DIM(y, 2)
    if np.PyArray_DIM(rows, 1) != 1:
        return multiply_matrices(np.PyArray_SwapAxes(rows, 1, 2), columns, y)
    a, b = flat(rows), flat(columns)  # numpy.matmul would take several times as long
    if np.PyArray_TYPE(y) == np.NPY_FLOAT64:
        outer_products(<double *>np.PyArray_DATA(a), <double *>np.PyArray_DATA(b), groups, n, m, <double *>np.PyArray_DATA(y))
    else:
        outer_products(<float *>np.PyArray_DATA(a), <float *>np.PyArray_DATA(b), groups, n, m, <float *>np.PyArray_DATA(y))
    return 0


cdef void outer_products(
    const floating *rows, const floating *columns, int64_t groups, int64_t n, int64_t m, floating *y
) noexcept:
    """Write the products of each of n numbers with each of m, for each group."""
    cdef int64_t group, row, i
    cdef PyThreadState *state = released(groups * n * m)
    for group in range(groups):
        for row in range(n):
            for i in range(m):
                y[i] = rows[group * n + row] * columns[group * m + i]
            y += m
    regain(state)


cdef int add_groups(np.ndarray values, np.ndarray sums) except -1:
    """Add the matrices of all groups, one after the other."""
    cdef int64_t groups = np.PyArray_DIM(values, 0), n = np.PyArray_SIZE(sums)
    if np.PyArray_TYPE(sums) == np.NPY_FLOAT64:
        add_rows(<double *>np.PyArray_DATA(values), groups, n, <double *>np.PyArray_DATA(sums))
    else:
        add_rows(<float *>np.PyArray_DATA(values), groups, n, <float *>np.PyArray_DATA(sums))
    return 0


cdef void add_rows(const floating *x, int64_t rows, int64_t n, floating *y) noexcept:
    cdef int64_t row, i
    cdef PyThreadState *state = released(rows * n)
    for row in range(rows):
        for i in range(n):
            y[i] += x[row * n + i]
    regain(state)


cdef np.ndarray part(np.ndarray a, int64_t begin, int64_t end):
    """Return a[begin:end]."""
    return a if begin == 0 and end == np.PyArray_DIM(a, 0) else a[begin:end]
