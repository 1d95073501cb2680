# Draws of features with replacement: the share of the words per feature, the counts per row, and the products with the factors.

cdef int64_t MOST_FEATURES = 0x100000000  # each takes at least one of the words


def share_words(probabilities, int64_t features):
    """Return how many of the 2**32 words draw each feature; at least one, unless the feature's probability is 0.

    After the first rounding, only integers are added, so the order of summation does not matter.
    """
    cdef np.ndarray weights = as_weights(probabilities, features), shares = room(features, np.NPY_UINT64)
    cdef uint64_t state
    if features > MOST_FEATURES:
        raise OverflowError(f"at most 2**32 features can be drawn from; got {features}")
    if features:
        state = native.float_begin()
        native.share_words(<const double *>np.PyArray_DATA(weights), features, <uint64_t *>np.PyArray_DATA(shares))
        native.float_end(state)
    return shares


cdef np.ndarray as_weights(probabilities, int64_t features):
    """Return the probabilities in float64, or raise an error for a bad one."""
    cdef np.ndarray given = np.asarray(to_array(probabilities, "probabilities"))
    if np.PyArray_TYPE(given) != np.NPY_FLOAT64 and given.dtype.kind not in "biuf" and given.dtype.name != "bfloat16":
        raise TypeError(
            f"probabilities must be real numbers; got {f'an array of {given.dtype}' if given.ndim else repr(probabilities)}")
    if np.PyArray_NDIM(given) != 1 or np.PyArray_DIM(given, 0) != features:
        raise ValueError(f"probabilities must have shape {(features,)}, one per feature; got {true_shape(given)}")
    cdef np.ndarray weights = np.array(in_type(given, np.NPY_FLOAT64))  # another thread may write to the caller's array
    cdef const double *each = <const double *>np.PyArray_DATA(weights)
    cdef bint are_good = True, any_positive = not features
    cdef int64_t i
    cdef uint64_t state = native.float_begin()  # so that subnormals are not flushed to 0
    for i in range(features):
        are_good &= 0.0 <= each[i] < INFINITY
        any_positive |= each[i] > 0.0
    native.float_end(state)
    if not (are_good and any_positive):
        raise ValueError("probabilities must be finite and >= 0, and not all of them 0")
    return weights


def multiply_draws(Call call not None, x, int64_t k, probabilities, bint shared):
    """Return x with each feature multiplied by its factor: count / (k share), or +0 if it was not drawn.

    Row r takes the words r k .. r k + k - 1, counted in the larger array if x is a block of one; if `shared`, all rows take the
    first k words.
    """
    cdef Work work = begin(call, x, call.array_name())
    work.x = np.ndarray.view(work.x)  # the code of `probabilities` may change the array itself
    cdef np.ndarray given = work.x, shares = share_words(probabilities, true_shape(work.x)[-1])
    place_draws(work, call, k, shared)
    if call.out is not None:
        check_out(call.out, given)
    check_seed(call.seed, call.offset, call.use)
    cdef np.ndarray y = new_like(given) if call.out is None else call.out
    if not np.PyArray_SIZE(given):
        draw_key(call.seed, call.offset, &work.key)
        return wrapped(given, y, call.out)
    work.x, work.y = readable(given, y), writable(y)
    (draw_in_c if work.settings.module is None else draw_in_python)(work, call, k, shares, shared)
    if work.y is not y:
        np.copyto(y, work.y)
    return wrapped(given, y, call.out)


def check_draws(Call call not None, x, int64_t k, bint shared):
    """Raise an error unless the words of `multiply_draws` are inside the stream."""
    place_draws(begin(call, x, call.array_name()), call, k, shared)


cdef int place_draws(Work work, Call call, int64_t k, bint shared) except -1:
    """Set the place of the words, which is that of an array with an axis of k words instead of the axis of features."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int ndim = np.PyArray_NDIM(work.x), axis
    cdef Call words = Call.__new__(Call)
    place_elements(Work.__new__(Work), call, ndim, np.PyArray_DIMS(work.x), ELEMENTS_END, "elements")
    words.start = call.start
    if shared:
        ndim = 1
    elif call.global_shape is not None:
        words.global_shape = (*call.global_shape[:-1], k)
        words.global_start = None if call.global_start is None else (*call.global_start[:-1], 0)
    for axis in range(ndim - 1):
        dims[axis] = np.PyArray_DIM(work.x, axis)
    dims[ndim - 1] = k
    return place_elements(work, words, ndim, dims, WORDS_END, "words")


cdef int draw_in_c(Work work, Call call, int64_t k, np.ndarray shares, bint shared) except -1:
    """Allocate the tables, draw the key, multiply."""
    cdef native.fd_draw_call draw
    cdef native.fd_layout x_layout, y_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads = threads_of(work.settings, np.PyArray_SIZE(work.x))
    draw.k, draw.features, draw.shared, draw.dtype = k, np.PyArray_SIZE(shares), shared, work.dtype
    draw.rows = np.PyArray_SIZE(work.x) // draw.features
    draw.shift = native.draw_shift(draw.features)
    cdef int64_t block = native.draw_rows(draw.features) * draw.features
    cdef np.ndarray last = room(draw.features, np.NPY_UINT32), bucket = room(1 << (32 - draw.shift), np.NPY_UINT32)
    cdef np.ndarray expected = room(block, np.NPY_FLOAT64), counts = room(threads * block, np.NPY_UINT32)
    draw_key(call.seed, call.offset, &work.key)
    check_kept(work)
    bind_numbers(work, &draw.words)
    draw.last, draw.bucket = <uint32_t *>np.PyArray_DATA(last), <uint32_t *>np.PyArray_DATA(bucket)
    draw.expected, draw.counts = <double *>np.PyArray_DATA(expected), <uint32_t *>np.PyArray_DATA(counts)
    cdef const uint64_t *share = <const uint64_t *>np.PyArray_DATA(shares)
    bind(work.x, &draw.x, &x_layout)
    bind(work.y, &draw.y, &y_layout)
    cdef PyThreadState *state = released(np.PyArray_SIZE(work.x))
    native.multiply_draws(kernels, &draw, share, threads)
    regain(state)
    return 0


cdef int draw_in_python(Work work, Call call, int64_t k, np.ndarray shares, bint shared) except -1:
    draw_key(call.seed, call.offset, &work.key)
    check_kept(work)
    in_python(drive.multiply_draws, (source_of(work), k, shares, shared, work.x, work.y))
    return 0
