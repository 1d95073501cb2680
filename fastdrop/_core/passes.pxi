# Two passes of one batch: the logarithms of their probabilities and the terms of their loss. NumPy computes exp and log.

def log_probabilities(np.ndarray first not None, np.ndarray second not None):
    """Return log P, log Q and log P - log Q in float64, for logits of shape (rows, classes).

    A class that both passes mask (-inf) has the difference 0.
    """
    cdef np.ndarray a = in_type(first, np.NPY_FLOAT64), b = in_type(second, np.NPY_FLOAT64)
    cdef int64_t rows = np.PyArray_DIM(a, 0), classes = np.PyArray_DIM(a, 1)
    cdef np.npy_intp[3] dims = [3, rows, classes]
    cdef np.ndarray logs = np.PyArray_EMPTY(3, dims, np.NPY_FLOAT64, 0), sums
    cdef double *p = <double *>np.PyArray_DATA(logs)
    if not np.PyArray_SAMESHAPE(a, b):
        raise ValueError(f"first and second must keep their shapes during the call; got {true_shape(a)} and {true_shape(b)}")
    if not rows * classes:
        return logs
    check_masks(<double *>np.PyArray_DATA(a), <double *>np.PyArray_DATA(b), rows, classes)
    shift_rows(<double *>np.PyArray_DATA(a), p, rows, classes)
    shift_rows(<double *>np.PyArray_DATA(b), p + rows * classes, rows, classes)
    sums = np.log(sum_rows(np.exp(logs[:2])))
    subtract_sums(p, <double *>np.PyArray_DATA(sums), rows, classes)
    return logs


cdef int check_masks(const double *a, const double *b, int64_t rows, int64_t classes) except -1:
    """Raise an error unless both passes mask the same classes, and not all classes of a row."""
    cdef int64_t row, i, masked
    cdef bint is_same = True, any_empty = False
    for row in range(rows):
        masked = 0
        for i in range(row * classes, (row + 1) * classes):
            is_same &= (a[i] == -INFINITY) == (b[i] == -INFINITY)
            masked += a[i] == -INFINITY
        any_empty |= masked == classes
    if not is_same:
        raise ValueError("first and second must mask the same classes: a logit that is -inf in one must be -inf in the other")
    if any_empty:
        raise ValueError("every sample must have a class that is not masked; the logits of a sample are all -inf")
    return 0


cdef void shift_rows(const double *x, double *y, int64_t rows, int64_t classes) noexcept:
    """Subtract the largest number of each row; NaN counts as the largest."""
    cdef int64_t row, i
    cdef double largest
    for row in range(rows):
        largest = x[0]
        for i in range(1, classes):
            if x[i] > largest or x[i] != x[i]:
                largest = x[i]
            if largest != largest:
                break
        for i in range(classes):
            y[i] = x[i] - largest
        x += classes
        y += classes


cdef void subtract_sums(double *p, const double *sums, int64_t rows, int64_t classes) noexcept:
    """Subtract the logarithms of the sums from both passes, and write the differences behind them."""
    cdef int64_t n = rows * classes, row, i
    for row in range(2 * rows):
        for i in range(row * classes, (row + 1) * classes):
            p[i] = p[i] - sums[row]
    for i in range(n):
        p[2 * n + i] = 0.0 if p[i] == -INFINITY and p[n + i] == -INFINITY else p[i] - p[n + i]


def cross_entropy_and_divergence(np.ndarray logs not None, np.ndarray targets not None):
    """Return the sums over the rows of -(log P + log Q) of the targets, and of (P - Q) (log P - log Q) / 2."""
    cdef int64_t rows = np.PyArray_DIM(logs, 1), classes = np.PyArray_DIM(logs, 2), n = rows * classes, i
    cdef np.ndarray both = logs[:2], entropies = room(rows, np.NPY_FLOAT64), divergences = np.exp(both)
    cdef const double *p = <const double *>np.PyArray_DATA(logs)
    cdef double *d = <double *>np.PyArray_DATA(divergences)
    cdef double *entropy = <double *>np.PyArray_DATA(entropies)
    cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(targets)
    for i in range(rows):
        entropy[i] = -(p[i * classes + target[i]] + p[n + i * classes + target[i]])
    for i in range(n):
        d[i] = 0.5 * (d[i] - d[n + i]) * p[2 * n + i]
    return np.float64(pairwise_sum(entropy, rows)), np.float64(pairwise_sum(d, n))


def loss_gradients(np.ndarray logs not None, np.ndarray targets not None, double entropy_factor, double divergence_factor):
    """Return the gradients of the loss with respect to the logits of both passes, as one array of (2, rows, classes)."""
    cdef int64_t rows = np.PyArray_DIM(logs, 1), classes = np.PyArray_DIM(logs, 2), n = rows * classes, i, k, row
    cdef np.npy_intp[3] dims = [2, rows, classes]
    cdef np.ndarray made = np.PyArray_EMPTY(3, dims, np.NPY_FLOAT64, 0), both = np.exp(logs[:2]), sums
    cdef const double *own = <const double *>np.PyArray_DATA(both)
    cdef const double *ratio = <const double *>np.PyArray_DATA(logs) + 2 * n  # log P - log Q
    cdef double *y = <double *>np.PyArray_DATA(made)
    cdef const double *total
    cdef const int64_t *target = <const int64_t *>np.PyArray_DATA(targets)
    cdef double d, entropy
    for i in range(2 * n):
        y[i] = own[i] * (ratio[i] if i < n else -ratio[i - n])
    sums = sum_rows(made)
    total = <const double *>np.PyArray_DATA(sums)
    for row in range(2 * rows):
        for k in range(classes):
            i = row * classes + k
            d = ratio[i] if i < n else -ratio[i - n]
            entropy = own[i] - 1.0 if k == target[row % rows] else own[i]
            y[i] = entropy_factor * entropy + divergence_factor * (
                0.5 * (own[i] * (d - total[row]) + own[i] - own[i + n if i < n else i - n]))
    return made


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
