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


@cython.cdivision(True)  # division by 0 gives infinity or NaN, and no error
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


def hide_or_stress(Call call not None, x, double p, double threshold, int channels, values=None):
    """Return x without the places of high attention or, with probability 1 - p, times the importance map: ADL in training.

    With `values`, the input of the forward pass, x is the gradient with respect to its result. Then return the gradient with
    respect to `values`.
    """
    cdef Work work = begin(call, x, call.array_name())
    cdef native.fd_key key
    cdef np.ndarray given = work.x, mapped = given, attention, y
    if values is not None:
        mapped = operand(values, given, true_shape(given), "x")
    y = result_like(call, given)
    attention = attention_map(mapped, channels)
    take_mask(work, places_kept(attention, threshold), y)  # before the key is drawn, because it needs memory
    draw_key(call.seed, call.offset, &key)
    if not is_stressed(&key, p):
        work.op, work.scale, work.y = native.FD_SCALE, 1.0, y
        perform(work)
        return wrapped(given, y, call.out)
    elementary("sigmoid", attention, attention, call.backend, call.num_threads)  # now the importance
    if values is None:
        noisy(call_in(call, y), given, "factors", (), attention)
    else:
        stress_backward(call_in(call, y), given, sum_along(given, channels, mapped), attention, channels)
    return wrapped(given, y, call.out)


cdef Call call_in(Call call, np.ndarray y):
    """Return a call with the settings of another call and a result, for a kernel that draws no numbers."""
    cdef Call inner = Call.__new__(Call)
    inner.seed, inner.out, inner.backend, inner.num_threads = 0, y, call.backend, call.num_threads
    return inner


cdef bint is_stressed(const native.fd_key *key, double p) noexcept:
    """Return whether the batch is multiplied by the importance map: whether the first element of the mask is kept."""
    cdef uint8_t bits = 0
    native.keep_bits(&bits, 1, p, key.seed, key.offset, 0, 1)
    return bits & 1


cdef int stress_backward(Call call, np.ndarray grad, np.ndarray total, np.ndarray importance, int channels) except -1:
    """Write grad s + (s (1 - s) / C) total to the call's `out`, with the importance s. `total` is overwritten."""
    cdef int64_t each = np.PyArray_DIM(grad, channels), n = np.PyArray_SIZE(total)
    cdef uint64_t state = native.float_begin()
    if np.PyArray_TYPE(total) == np.NPY_FLOAT64:
        stress_slopes(<double *>np.PyArray_DATA(importance), <double>each, n, <double *>np.PyArray_DATA(total))
    else:
        stress_slopes(<float *>np.PyArray_DATA(importance), <float>each, n, <float *>np.PyArray_DATA(total))
    native.float_end(state)
    noise(call, grad, "factors", (), importance, shifts=total)
    return 0


@cython.cdivision(True)
cdef void stress_slopes(const floating *importance, floating channels, int64_t n, floating *total) noexcept:
    cdef int64_t i
    cdef floating one = 1  # a literal would be a double
    for i in range(n):
        total[i] = importance[i] * (one - importance[i]) / channels * total[i]
