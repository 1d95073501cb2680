# The weights of least magnitude.

def find_others(weight, int64_t targets, bint by_column, Call call not None):
    """Return flags that are False for the `targets` weights of least magnitude, in each column (last axis) or among all."""
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    cdef np.ndarray given = np.asarray(weight), x = np.ascontiguousarray(given), spared, counts
    cdef native.fd_target_call select
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, np.PyArray_SIZE(x))
    spared = np.ones(true_shape(given), np.bool_)
    if not targets:
        return spared
    select.dtype, select.targets, select.columns = kind_of(x, "weight"), targets, x.shape[x.ndim - 1] if by_column else 1
    select.rows = np.PyArray_SIZE(x) // select.columns
    if settings.module is not None:
        found = find_targets(x.reshape(select.rows, select.columns), targets)
        np.logical_not(found.reshape(true_shape(given)), out=spared)
        return spared
    counts = np.empty(threads * native.target_counts(select.rows, select.columns), np.uint32)
    select.x, select.spared = np.PyArray_DATA(x), <uint8_t *>np.PyArray_DATA(spared)
    select.counts = <uint32_t *>np.PyArray_DATA(counts)
    with nogil:
        native.find_others(kernels, &select, threads)
    return spared
