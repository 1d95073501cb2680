# The weights of least magnitude.

cdef int64_t MOST_COMPARED = 0xFFFFFFFF  # the counts of the kernels have 32 bits


def find_others(weight, int64_t targets, bint by_column, Call call not None):
    """Return flags that are False for the `targets` weights of least magnitude, in each column (last axis) or among all."""
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    cdef np.ndarray given = of_numpy(weight, "weight"), x, spared, copies
    cdef int last = np.PyArray_NDIM(given) - 1
    cdef PyThreadState *state
    cdef native.fd_target_call select
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, np.PyArray_SIZE(given))
    if not targets:
        return np.ones(true_shape(given), np.bool_)
    select.dtype = kind_of(given, "weight")
    select.columns = np.PyArray_DIM(given, last) if by_column and last >= 0 else 1
    select.rows = np.PyArray_SIZE(given) // select.columns
    select.targets = targets = min(targets, select.rows)  # they were counted by `shape`, which the array may have changed
    if select.rows > MOST_COMPARED:
        raise OverflowError(f"at most 2**32 - 1 weights can be compared with each other; got {select.rows}")
    x = flat(given)
    spared = np.PyArray_EMPTY(np.PyArray_NDIM(given), np.PyArray_DIMS(given), np.NPY_BOOL, 0)
    if settings.module is not None:
        in_python(store_others, (x.reshape(select.rows, select.columns), targets, spared))
        return spared
    copies = room(threads * native.target_copies(select.rows, select.columns) * np.PyArray_ITEMSIZE(x), np.NPY_UINT8)
    select.x, select.spared = np.PyArray_DATA(x), <uint8_t *>np.PyArray_DATA(spared)
    select.copies = np.PyArray_DATA(copies)
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
