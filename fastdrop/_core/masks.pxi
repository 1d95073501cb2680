# A mask as the result of a call, and a mask that the caller has made.

cpdef tuple as_shape(shape):
    """Return a size or several as a tuple, or raise an error."""
    try:
        is_one = PyLong_CheckExact(shape) or isinstance(shape, (str, bytes, bytearray, memoryview))  # bytes are no sizes
        sizes = (shape,) if is_one else tuple(shape)
    except TypeError:
        sizes = (shape,)
    if len(sizes) > native.FD_MAX_DIMS:  # the size of the layouts' arrays
        raise ValueError(f"shape must have at most {native.FD_MAX_DIMS} dimensions; got {len(sizes)}")
    cdef list counts = []
    for size in sizes:
        counts.append(as_count(size, "each size in shape"))
    return tuple(counts)


cdef int64_t size_of(tuple shape) except -1:
    size = 1
    for length in shape:
        size *= length
    if size > 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"shape {shape} has 2**63 elements or more")
    return size


cdef object make_mask(Call call, shape, p, noise_shape, shared_axes, bint packed):
    """Return keep flags, or packed keep bits."""
    cdef Work work = Work.__new__(Work)
    cdef tuple sizes = as_shape(shape)
    cdef int64_t n = size_of(sizes)
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef np.ndarray out, made
    cdef int k
    for k in range(len(sizes)):
        dims[k] = sizes[k]
    set_rate(work, p, len(sizes), dims)
    place_mask(work, call, len(sizes), dims, noise_shape, shared_axes)
    work.settings = settings_of(call.backend, call.num_threads)
    check_seed(call.seed, call.offset, call.use)
    out = mask_result((n // 8 + (n % 8 != 0),) if packed else sizes, np.dtype(np.uint8 if packed else np.bool_), call.out)
    made = out if is_plain(out) else np.empty(true_shape(out), out.descr)
    if work.rates is not None and may_overlap(work.rates, made):
        work.rates = work.rates.copy()
    if is_true(call.training, "training"):
        draw_key(call.seed, call.offset, &work.key)
    else:
        work.rate, work.rates = 0.0, None
        work.key.seed = work.key.offset = 0
    if n:
        fill_mask(work, n, made, packed)
    if made is not out:
        np.copyto(out, made)
    return out


cdef np.ndarray mask_result(tuple shape, dtype, out):
    """Return the caller's `out` after checks, or a new array."""
    if out is None:
        return np.empty(shape, dtype)
    cdef np.ndarray given
    if not isinstance(out, np.ndarray) or (<np.ndarray>out).descr != dtype:
        found = (<np.ndarray>out).descr if isinstance(out, np.ndarray) else repr(out)
        raise TypeError(f"out must be a numpy.ndarray of {dtype}; got {found}")
    given = out
    if true_shape(given) != shape or not np.PyArray_ISWRITEABLE(given):
        raise ValueError(f"out must be writable and have the shape {shape} of the mask; got {true_shape(given)}")
    check_apart(given)
    return given


cdef int fill_mask(Work work, int64_t n, np.ndarray out, bint packed) except -1:
    cdef native.fd_bits bits
    cdef BitsLayouts space
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads = threads_of(work.settings, n)
    cdef void *data = np.PyArray_DATA(out)
    cdef PyThreadState *state
    if work.settings.module is None:
        bind_bits(work, n, &bits, &space)
        state = released(n)
        native.mask(kernels, &bits, n, data, packed, threads)
        regain(state)
        return 0
    in_python(drive.fill_mask, (source_of(work), n, out, packed))
    return 0


def draw_mask(shape, p, Call call not None, noise_shape=None, shared_axes=None, packed=False):
    """Return keep flags, or packed keep bits. A seed is required."""
    call.use = REPEATED
    return call.mask(shape, p, noise_shape, shared_axes, packed)


def use_mask(x, mask, scale, out, backend, num_threads, fill=0.0):
    """Return keep ? x * scale : fill, with the caller's own mask."""
    cdef Call call = Call.__new__(Call)
    call.seed, call.out, call.backend, call.num_threads = 0, out, backend, num_threads
    cdef Work work = begin(call, x, "x")
    work.scale, work.shift, work.fill = round_to_compute(scale, work.dtype), -0.0, round_to_compute(fill, work.dtype)
    work.op = native.FD_AFFINE if bits_of(work.fill) else native.FD_SCALE
    take_mask(work, mask, out)
    return finish(call, work)


cdef int take_mask(Work work, mask, out) except -1:
    """Set the caller's own keep flags or keep bits, copied if the result would overwrite them."""
    cdef int64_t n = np.PyArray_SIZE(work.x)
    cdef np.ndarray given = np.asarray(to_array(mask, "mask"))
    if np.PyArray_TYPE(given) == np.NPY_BOOL:
        work.flags = spread(given, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
        if work.flags is None:
            raise ValueError(
                f"mask has shape {true_shape(given)}, which does not broadcast to the shape {true_shape(work.x)} of x")
        if np.PyArray_SIZE(given) < n:
            pack_shared_flags(work, given)
            return 0
    elif np.PyArray_TYPE(given) == np.NPY_UINT8:
        if true_shape(given) != ((n + 7) // 8,):
            raise ValueError(f"a packed mask of {n} elements must have shape {((n + 7) // 8,)}, eight elements per byte; "
                             f"got {true_shape(given)}")
        work.packed = np.ascontiguousarray(given)
    else:
        raise TypeError(f"mask must have the dtype bool, or uint8 if it is packed; got {given.descr}")
    if isinstance(out, np.ndarray) and may_overlap(given, out):
        work.packed = None if work.packed is None else work.packed.copy()
        work.flags = None if work.flags is None else work.flags.copy()
    return 0


cdef int pack_shared_flags(Work work, np.ndarray flags) except -1:
    """Set flags that several elements share, as packed bits with a layout over the elements."""
    cdef int64_t steps[native.FD_MAX_DIMS]
    cdef int64_t step = 1
    cdef int ndim = np.PyArray_NDIM(work.x), missing = ndim - np.PyArray_NDIM(flags), k
    cdef np.ndarray plain = flat(flags)
    cdef const uint8_t *flag = <const uint8_t *>np.PyArray_DATA(plain)
    cdef uint64_t *words
    cdef int64_t i
    work.flags, work.packed = None, words_for(np.PyArray_SIZE(plain))
    words = <uint64_t *>np.PyArray_DATA(work.packed)
    memset(words, 0, np.PyArray_NBYTES(work.packed))
    for i in range(np.PyArray_SIZE(plain)):
        set_bit(words, i, flag[i] != 0)
    for k in range(ndim - 1, -1, -1):
        steps[k] = step if k >= missing and np.PyArray_DIM(flags, k - missing) > 1 else 0
        if steps[k]:
            step *= np.PyArray_DIM(flags, k - missing)
    work.first, work.laid = 0, Laid.__new__(Laid)
    work.laid.is_cut_off = False
    native.layout_of(&work.laid.layout, ndim, <int64_t *>np.PyArray_DIMS(work.x), steps, 1)
    return 0
