# The weights of least magnitude.

def find_others(weight, int64_t targets, bint by_column, Call call not None):
    """Return flags that are False for the `targets` weights of least magnitude, in each column (last axis) or among all."""
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    cdef np.ndarray given = of_numpy(weight, "weight"), spared, counts
    cdef np.ndarray x = flat(given if np.PyArray_NDIM(given) else given.reshape(1))
    cdef PyThreadState *state
    cdef native.fd_target_call select
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, np.PyArray_SIZE(x))
    if not targets:
        return np.ones(true_shape(given), np.bool_)
    spared = np.PyArray_EMPTY(np.PyArray_NDIM(given), np.PyArray_DIMS(given), np.NPY_BOOL, 0)
    select.dtype, select.targets, select.columns = kind_of(x, "weight"), targets, x.shape[x.ndim - 1] if by_column else 1
    select.rows = np.PyArray_SIZE(x) // select.columns
    if settings.module is not None:
        found = find_targets(x.reshape(select.rows, select.columns), targets)
        np.logical_not(found.reshape(true_shape(given)), out=spared)
        return spared
    counts = room(threads * native.target_counts(select.rows, select.columns), np.NPY_UINT32)
    select.x, select.spared = np.PyArray_DATA(x), <uint8_t *>np.PyArray_DATA(spared)
    select.counts = <uint32_t *>np.PyArray_DATA(counts)
    state = released(np.PyArray_SIZE(x))
    native.find_others(kernels, &select, threads)
    regain(state)
    return spared


def drop_targets(Call call not None, x, weight, double p, int64_t targets, bint by_column, mode, str name):
    """Return `dropout` of the elements of x whose weights are targets, and the other elements unchanged. For training only."""
    cdef Work work = begin(call, x, name)
    cdef Call inner = call.step()
    cdef np.ndarray given = work.x, dropped, y
    spared = find_others(weight, targets, by_column, call)
    if call.out is not None:
        check_out(call.out, given)
    y = new_like(given) if call.out is None else call.out
    dropped = np.empty(true_shape(given), given.descr) if may_overlap(given, y) else y
    inner.out = dropped
    inner.drop(given, p, mode=mode, name=name)
    work.op, work.flags, work.other, work.y, work.y_is_new = native.FD_SELECT, spared, dropped, y, False
    perform(work)
    return wrapped(given, y, call.out)
