# Attention maps of the activations: means over channels, the positions below a share of the maximum, and their use.

def attention_map(np.ndarray x not None, int channels):
    """Return the mean over the axis of channels, which keeps length 1, in the compute type."""
    cdef np.ndarray mean = sum_along(x, channels)
    cdef int64_t n = np.PyArray_SIZE(mean), each = np.PyArray_DIM(x, channels)
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(mean) == np.NPY_FLOAT64:
        divide(<double *>np.PyArray_DATA(mean), <double>each, n)
    else:
        divide(<float *>np.PyArray_DATA(mean), <float>each, n)
    native.float_end(state)
    return mean


@cython.cdivision(True)  # by 0 too
cdef void divide(floating *y, floating by, int64_t n) noexcept:
    cdef int64_t i
    for i in range(n):
        y[i] = y[i] / by


def places_kept(np.ndarray attention not None, double threshold):
    """Return keep flags: True where attention is below its maximum in the sample (the first axis) times the threshold."""
    cdef np.ndarray kept = np.PyArray_EMPTY(np.PyArray_NDIM(attention), np.PyArray_DIMS(attention), np.NPY_BOOL, 0)
    cdef int64_t samples = np.PyArray_DIM(attention, 0), n = np.PyArray_SIZE(attention) // max(samples, 1)
    cdef uint8_t *flags = <uint8_t *>np.PyArray_DATA(kept)
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(attention) == np.NPY_FLOAT64:
        keep_below(<double *>np.PyArray_DATA(attention), threshold, samples, n, flags)
    else:
        keep_below(<float *>np.PyArray_DATA(attention), <float>threshold, samples, n, flags)
    native.float_end(state)
    return kept


cdef void keep_below(const floating *x, floating threshold, int64_t samples, int64_t n, uint8_t *kept) noexcept:
    cdef int64_t i, sample
    cdef floating largest
    for sample in range(samples):
        largest = -INFINITY
        for i in range(n):
            if not x[i] <= largest:  # a NaN, or larger
                largest = x[i]
                if largest != largest:
                    break
        largest = threshold * largest
        for i in range(n):
            kept[i] = x[i] < largest
        x += n
        kept += n


def hide_or_stress(Call call not None, x, double p, double threshold, int channels):
    """Return x without the places of high attention or, with probability 1 - p, times the importance map: ADL in training."""
    cdef Work work = begin(call, x, call.array_name())
    cdef Call inner = Call.__new__(Call)
    cdef native.fd_key key
    cdef np.ndarray given = work.x, attention, y
    if call.out is not None:
        check_out(call.out, given)
    check_seed(call.seed, call.offset, call.use)
    y = new_like(given) if call.out is None else call.out
    attention = attention_map(given, channels)
    draw_key(call.seed, call.offset, &key)
    inner.seed, inner.offset, inner.training, inner.start = key.seed, key.offset, True, 0
    inner.backend, inner.num_threads = call.backend, call.num_threads
    if inner.mask(1, p)[0]:
        inner.out = y
        noise(inner, given, "factors", (), elementary("sigmoid", attention, None, call.backend, call.num_threads))
    else:
        kept = places_kept(attention, threshold)
        if np.PyArray_SIZE(given) > 4096:  # the kernels read a mask of all elements faster, but it takes longer to make
            kept = np.packbits(np.broadcast_to(kept, true_shape(given)), bitorder="little")
        apply_mask(given, kept, 1.0, y, call.backend, call.num_threads)
    return wrapped(given, y, call.out)
