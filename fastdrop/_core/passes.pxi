# Two passes of one batch: the logarithms of their probabilities and the terms of their loss. NumPy computes exp and log.

cdef object exp = np.exp, log = np.log


def loss_of_passes(first, second, targets, strength, mask, form):
    """Return the loss of two passes."""
    cdef native.Environment found
    quiet = begin_in_python(&found)
    try:
        return Passes.__new__(Passes, first, second, targets, strength, mask, form).loss()
    finally:
        end_in_python(quiet, &found)


def gradients_of_passes(first, second, targets, strength, mask, form):
    """Return the flags of the samples that count, as in `Passes`, and the gradients of their loss."""
    cdef native.Environment found
    cdef Passes passes
    quiet = begin_in_python(&found)
    try:
        passes = Passes.__new__(Passes, first, second, targets, strength, mask, form)
        return passes.counts, passes.gradients()
    finally:
        end_in_python(quiet, &found)


cdef class Passes:
    """Two checked passes of one batch, with one row per sample that counts. The caller rounds to nearest.

    Attributes
    ----------
    counts : numpy.ndarray or None
        True for the samples that count; None if the rows of a matrix all count.
    logs, ratios : numpy.ndarray
        log P and log Q of the two passes, of shape (2, rows, classes), and log P - log Q, which is 0 for a class that both
        passes mask (-inf), in float64.
    """

    cdef readonly np.ndarray counts, logs, ratios
    cdef np.ndarray targets                  # of int64
    cdef double entropy_factor               # multiplies the cross entropy of each sample
    cdef double divergence_factor            # multiplies the divergence of each sample

    def __cinit__(self, first, second, targets, strength, mask, form):
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
        self.set_logarithms(in_type(a, np.NPY_FLOAT64), in_type(b, np.NPY_FLOAT64))

    cdef int set_logarithms(self, np.ndarray a, np.ndarray b) except -1:
        """Set the logarithms for flat logits of float64."""
        cdef int64_t rows = np.PyArray_DIM(a, 0), classes = np.PyArray_DIM(a, 1)
        cdef np.npy_intp[3] dims = [2, rows, classes]
        cdef np.ndarray sums
        cdef double *p
        if not np.PyArray_SAMESHAPE(a, b) or rows != np.PyArray_SIZE(self.targets):
            raise ValueError(
                f"first and second must keep their shapes during the call; got {true_shape(a)} and {true_shape(b)}")
        self.logs, self.ratios = np.PyArray_EMPTY(3, dims, np.NPY_FLOAT64, 0), np.PyArray_EMPTY(2, dims + 1, np.NPY_FLOAT64, 0)
        if not rows * classes:
            return 0
        p = <double *>np.PyArray_DATA(self.logs)
        check_masks(<double *>np.PyArray_DATA(a), <double *>np.PyArray_DATA(b), rows, classes)
        shift_rows(<double *>np.PyArray_DATA(a), p, rows, classes)
        shift_rows(<double *>np.PyArray_DATA(b), p + rows * classes, rows, classes)
        sums = log(sum_rows(exp(self.logs)))
        subtract_sums(p, <double *>np.PyArray_DATA(sums), rows, classes, <double *>np.PyArray_DATA(self.ratios))
        return 0

    def loss(self):
        """Return the loss: the sums over samples of their cross entropies and of (P - Q) (log P - log Q) / 2."""
        cdef int64_t rows = np.PyArray_DIM(self.logs, 1), classes = np.PyArray_DIM(self.logs, 2), n = rows * classes, i
        cdef np.ndarray entropies = room(rows, np.NPY_FLOAT64), divergences = exp(self.logs)
        cdef const double *p = <const double *>np.PyArray_DATA(self.logs)
        cdef const double *ratio = <const double *>np.PyArray_DATA(self.ratios)
        cdef double *d = <double *>np.PyArray_DATA(divergences)
        cdef double *entropy = <double *>np.PyArray_DATA(entropies)
        cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(self.targets)
        for i in range(rows):
            entropy[i] = -(p[i * classes + target[i]] + p[n + i * classes + target[i]])
        for i in range(n):
            d[i] = 0.5 * (d[i] - d[n + i]) * ratio[i]
        return self.entropy_factor * pairwise_sum(entropy, rows) + self.divergence_factor * pairwise_sum(d, n)

    def gradients(self):
        """Return the gradients of the loss with respect to the logits of both passes, as one array of (2, rows, classes)."""
        cdef int64_t rows = np.PyArray_DIM(self.logs, 1), classes = np.PyArray_DIM(self.logs, 2), n = rows * classes, i, row
        cdef np.npy_intp[3] dims = [2, rows, classes]
        cdef np.ndarray made = np.PyArray_EMPTY(3, dims, np.NPY_FLOAT64, 0), both = exp(self.logs), sums
        cdef const double *own = <const double *>np.PyArray_DATA(both)
        cdef const double *other = own + n
        cdef const double *ratio = <const double *>np.PyArray_DATA(self.ratios)
        cdef double *y = <double *>np.PyArray_DATA(made)
        cdef const double *total
        cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(self.targets)
        cdef double entropy = self.entropy_factor, divergence = self.divergence_factor
        for i in range(n):
            y[i] = own[i] * ratio[i]
            y[n + i] = other[i] * -ratio[i]
        sums = sum_rows(made)
        total = <const double *>np.PyArray_DATA(sums)
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


cdef void shift_rows(const double *x, double *y, int64_t rows, int64_t classes) noexcept:
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
            y[i] = x[i] - largest
        x += classes
        y += classes


cdef void subtract_sums(double *p, const double *sums, int64_t rows, int64_t classes, double *ratio) noexcept:
    """Subtract the logarithms of the sums from both passes, and write the differences."""
    cdef int64_t n = rows * classes, row, i
    for row in range(2 * rows):
        for i in range(row * classes, (row + 1) * classes):
            p[i] = p[i] - sums[row]
    for i in range(n):
        ratio[i] = 0.0 if p[i] == -INFINITY and p[n + i] == -INFINITY else p[i] - p[n + i]


# Sums ---------------------------------------------------------------------------------------------------------------

cdef np.ndarray sum_rows(np.ndarray values):
    """Return the sums along the last axis of an array of float64 with three axes, in C order."""
    cdef np.ndarray sums = np.PyArray_EMPTY(2, np.PyArray_DIMS(values), np.NPY_FLOAT64, 0)
    cdef const double *x = <const double *>np.PyArray_DATA(values)
    cdef double *y = <double *>np.PyArray_DATA(sums)
    cdef int64_t n = np.PyArray_DIM(values, 2), row
    for row in range(np.PyArray_SIZE(sums)):
        y[row] = pairwise_sum(x + row * n, n)
    return sums


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
