# Two passes of one batch: the logarithms of their probabilities and the terms of their loss.

def loss_of_passes(first, second, targets, strength, mask, form):
    """Return the loss of two passes."""
    cdef native.Environment found
    cdef Passes passes = Passes.__new__(Passes)
    native.environment_begin(&found)
    try:
        passes.take(first, second, targets, strength, mask, form)
        return passes.loss()
    finally:
        native.environment_end(&found)


def gradients_of_passes(first, second, targets, strength, mask, form):
    """Return the flags of the samples that count, as in `Passes`, and the gradients of their loss."""
    cdef native.Environment found
    cdef Passes passes = Passes.__new__(Passes)
    native.environment_begin(&found)
    try:
        passes.take(first, second, targets, strength, mask, form)
        return passes.counts, passes.gradients()
    finally:
        native.environment_end(&found)


cdef class Passes:
    """Two checked passes of one batch, with one row per sample that counts. The caller rounds to nearest."""

    cdef np.ndarray counts                   # True for the samples that count; None if the rows of a matrix all count
    cdef np.ndarray targets                  # of int64
    cdef np.ndarray logs                     # log P and log Q of the two passes, of shape (2, rows, classes), in float64
    cdef np.ndarray shares                   # P and Q themselves
    cdef np.ndarray sums                     # room for a number per row of both passes
    cdef double entropy_factor               # multiplies the cross entropy of each sample
    cdef double divergence_factor            # multiplies the divergence of each sample

    cdef int take(self, first, second, targets, strength, mask, form) except -1:
        """Check and take the arguments of a loss."""
        cdef np.ndarray a = as_real_array(first, "first"), b = as_real_array(second, "second")
        cdef np.ndarray classes = of_numpy(targets, "targets"), flags = None if mask is None else of_numpy(mask, "mask")
        cdef double weight = usual_strength(strength), share  # this may run the caller's code
        cdef tuple shape = true_shape(a)
        cdef int last = len(shape) - 1
        if not is_one_of(form, ("paper", "code")):
            raise ValueError(f"form must be 'paper' or 'code'; got {form!r}")
        if last < 0 or not np.PyArray_SAMESHAPE(a, b) or true_shape(classes) != shape[:last]:
            raise ValueError("first and second must have the same shape (..., classes), and targets the shape (...); "
                             f"got {shape}, {true_shape(b)} and {true_shape(classes)}")
        if not np.PyArray_ISINTEGER(classes) and np.PyArray_SIZE(classes):  # an empty list makes an array of float64
            raise TypeError(f"targets must be integers; got {classes.dtype}")
        if flags is None and last == 1:
            classes = np.PyArray_NewCopy(classes, np.NPY_CORDER)  # another thread may write to the caller's array
        else:
            self.counts = samples_that_count(flags, shape[:last])
            a, b, classes = a[self.counts], b[self.counts], classes[self.counts]
        if not are_indices(classes, shape[last]):
            check_indices(classes, shape[last], "targets", "the classes")  # in their own dtype: uint64 may be beyond int64
            classes = np.ascontiguousarray(classes, np.int64)
        self.targets, share = classes, 1.0 / max(np.PyArray_SIZE(classes), 1)
        self.entropy_factor, self.divergence_factor = (share, weight * share) if form == "paper" else (0.5 * share, weight)
        return self.take_logits(a, b)

    cdef int take_logits(self, np.ndarray a, np.ndarray b) except -1:
        """Set the probabilities and their logarithms."""
        cdef int64_t rows = np.PyArray_SIZE(self.targets), classes, n, row
        if np.PyArray_NDIM(a) != 2 or not np.PyArray_SAMESHAPE(a, b) or np.PyArray_DIM(a, 0) != rows:
            raise ValueError(
                f"first and second must keep their shapes during the call; got {true_shape(a)} and {true_shape(b)}")
        classes = np.PyArray_DIM(a, 1)
        n = rows * classes
        cdef np.npy_intp[3] dims = [2, rows, classes]
        self.logs = self.shares = np.PyArray_EMPTY(3, dims, np.NPY_FLOAT64, 0)
        self.sums = room(2 * rows, np.NPY_FLOAT64)
        if not n:
            return 0
        cdef double *p = <double *>np.PyArray_DATA(self.logs)
        cdef double *sums = <double *>np.PyArray_DATA(self.sums)
        widen_into(a, p, n)
        widen_into(b, p + n, n)
        check_masks(p, p + n, rows, classes)
        shift_rows(p, 2 * rows, classes)
        self.shares = in_float64("exp", self.logs, None, None)
        cdef double *share = <double *>np.PyArray_DATA(self.shares)
        for row in range(2 * rows):
            sums[row] = pairwise_sum(share + row * classes, classes)
        cdef np.ndarray logs_of_sums = in_float64("log", self.sums, None, None)
        divide_by_sums(p, share, sums, <double *>np.PyArray_DATA(logs_of_sums), 2 * rows, classes)
        return 0

    cdef double loss(self):
        """Return the loss: the sums over samples of their cross entropies and of (P - Q) (log P - log Q) / 2."""
        cdef int64_t rows = np.PyArray_DIM(self.logs, 1), classes = np.PyArray_DIM(self.logs, 2), n = rows * classes, i
        cdef const double *p = <const double *>np.PyArray_DATA(self.logs)
        cdef double *d = <double *>np.PyArray_DATA(self.shares)  # the terms take the place of what they are made of
        cdef double *entropy = <double *>np.PyArray_DATA(self.sums)
        cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(self.targets)
        for i in range(rows):
            entropy[i] = -(p[i * classes + target[i]] + p[n + i * classes + target[i]])
        for i in range(n):
            d[i] = 0.5 * (d[i] - d[n + i]) * log_ratio(p[i], p[n + i])
        return self.entropy_factor * pairwise_sum(entropy, rows) + self.divergence_factor * pairwise_sum(d, n)

    cdef np.ndarray gradients(self):
        """Return the gradients of the loss with respect to the logits of both passes, as one array of (2, rows, classes)."""
        cdef int64_t rows = np.PyArray_DIM(self.logs, 1), classes = np.PyArray_DIM(self.logs, 2), n = rows * classes, i, row
        cdef np.ndarray made = np.PyArray_EMPTY(3, np.PyArray_DIMS(self.logs), np.NPY_FLOAT64, 0)
        cdef const double *own = <const double *>np.PyArray_DATA(self.shares)
        cdef const double *other = own + n
        cdef double *ratio = <double *>np.PyArray_DATA(self.logs)  # the ratios take the place of the first pass's logarithms
        cdef double *y = <double *>np.PyArray_DATA(made)
        cdef double *total = <double *>np.PyArray_DATA(self.sums)
        cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(self.targets)
        cdef double entropy = self.entropy_factor, divergence = self.divergence_factor
        for i in range(n):
            ratio[i] = log_ratio(ratio[i], ratio[n + i])
            y[i] = own[i] * ratio[i]
            y[n + i] = other[i] * -ratio[i]
        for row in range(2 * rows):
            total[row] = pairwise_sum(y + row * classes, classes)
        for row in range(rows):
            for i in range(row * classes, (row + 1) * classes):
                y[i] = slope(own[i], own[i], other[i], ratio[i], total[row], entropy, divergence)
                y[n + i] = slope(other[i], other[i], own[i], -ratio[i], total[rows + row], entropy, divergence)
            i = row * classes + target[row]
            y[i] = slope(own[i] - 1.0, own[i], other[i], ratio[i], total[row], entropy, divergence)
            y[n + i] = slope(other[i] - 1.0, other[i], own[i], -ratio[i], total[rows + row], entropy, divergence)
        return made


cdef double usual_strength(strength) except -1.0:
    """Return a checked weight of the divergence. A float needs no function in Python."""
    if PyFloat_CheckExact(strength) and 0.0 <= <double>strength <= DBL_MAX:
        return strength
    return as_non_negative_number(strength, "strength")


cdef inline double slope(
    double of_entropy, double own, double other, double ratio, double total, double entropy_factor, double divergence_factor
) noexcept:
    """Return the gradient with respect to a logit, for the probabilities of its class in its own pass and in the other one."""
    return entropy_factor * of_entropy + divergence_factor * (0.5 * (own * (ratio - total) + own - other))


cdef np.ndarray samples_that_count(np.ndarray flags, tuple shape):
    """Return the flags of the samples that count, or raise an error for bad flags."""
    if flags is None:
        return np.ones(shape, np.bool_)
    if not np.PyArray_ISBOOL(flags) and np.PyArray_SIZE(flags):
        raise TypeError(f"mask must be of bool, True for samples that count; got {flags.dtype}")
    if true_shape(flags) != shape:
        raise ValueError(f"mask must have the shape of targets, {shape}; got {true_shape(flags)}")
    return flags.astype(np.bool_, copy=False)


cdef int check_masks(const double *a, const double *b, int64_t rows, int64_t classes) except -1:
    """Raise an error unless both passes mask the same classes, and not all classes of a row."""
    cdef int64_t row, i, masked
    cdef bint is_same = True, is_any = False
    for i in range(rows * classes):
        if not (a[i] >= -DBL_MAX and b[i] >= -DBL_MAX):  # one is -inf, or NaN
            is_same &= (a[i] == -INFINITY) == (b[i] == -INFINITY)
            is_any |= a[i] == -INFINITY
    if not is_same:
        raise ValueError("first and second must mask the same classes: a logit that is -inf in one must be -inf in the other")
    for row in range(rows if is_any else 0):
        masked = 0
        for i in range(row * classes, (row + 1) * classes):
            masked += a[i] == -INFINITY
        if masked == classes:
            raise ValueError("every sample must have a class that is not masked; the logits of a sample are all -inf")
    return 0


cdef int widen_into(np.ndarray a, double *y, int64_t n) except -1:
    """Write the n elements of an array of real numbers in float64. Another thread may have changed the array."""
    cdef np.ndarray each
    if is_usual(a) and np.PyArray_TYPE(a) == np.NPY_FLOAT32 and np.PyArray_SIZE(a) == n:
        widen(<float *>np.PyArray_DATA(a), y, n)
        return 0
    each = in_type(a, np.NPY_FLOAT64)
    if np.PyArray_SIZE(each) != n:
        raise ValueError("first and second must keep their shapes during the call")
    memcpy(y, np.PyArray_DATA(each), n * sizeof(double))
    return 0


cdef void shift_rows(double *x, int64_t rows, int64_t classes) noexcept:
    """Subtract the largest number of each row; NaN counts as the largest."""
    cdef int64_t row, i
    cdef double largest
    for row in range(rows):
        largest = -INFINITY
        for i in range(classes):
            if not x[i] <= largest:
                largest = x[i]
                if largest != largest:
                    break
        for i in range(classes):
            x[i] = x[i] - largest
        x += classes


@cython.cdivision(True)  # the sum of a row with a NaN is NaN, and no other is below 1
cdef void divide_by_sums(
    double *logs, double *shares, const double *sums, const double *logs_of_sums, int64_t rows, int64_t classes
) noexcept:
    """Divide each row by its sum, and subtract the sum's logarithm from the logarithms."""
    cdef int64_t row, i
    cdef double factor
    for row in range(rows):
        factor = 1.0 / sums[row]
        for i in range(row * classes, (row + 1) * classes):
            logs[i] = logs[i] - logs_of_sums[row]
            shares[i] = shares[i] * factor


cdef inline double log_ratio(double log_p, double log_q) noexcept:
    """Return log P - log Q, which is 0 for a class that both passes mask (-inf)."""
    return 0.0 if log_p == -INFINITY and log_q == -INFINITY else log_p - log_q


# Sums ---------------------------------------------------------------------------------------------------------------

cdef double pairwise_sum(const double *x, int64_t n) noexcept:
    """Return a sum in the order of numpy.add.reduce, which takes microseconds for so few numbers.

    Parts of at most 128 numbers have eight sums side by side; what is left of a part is added one by one.
    """
    cdef double[8] sums
    cdef double total = -0.0 if n else 0.0
    cdef int64_t whole = n - n % 8, i, k
    if n > 128:
        whole = n // 2 - n // 2 % 8
        return pairwise_sum(x, whole) + pairwise_sum(x + whole, n - whole)
    if whole:
        for k in range(8):
            sums[k] = x[k]
        for i in range(8, whole, 8):
            for k in range(8):
                sums[k] += x[i + k]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for i in range(whole, n):
        total += x[i]
    return total
