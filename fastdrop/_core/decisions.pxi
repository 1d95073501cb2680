# Masks that are made before they are applied, because their decisions depend on one another: blocks, counts, whole rows.

cdef class Decisions:
    """The geometry of a mask with one axis for each chosen axis of an array: its decisions, and its place over the array.

    Parameters
    ----------
    shape : tuple of int
        The shape of the array.
    axes : tuple of int
        The chosen axes of the array, in the mask's order. Elements share decisions along all other axes.
    shared_axes : tuple of int
        The chosen axes along which the mask has size 1.
    block : tuple of int
        If given, each dropped decision drops a block of these sizes along the last axes. Then there is one decision for each
        place at which a block fits, and an array must have all of these axes.
    overhang : tuple of int
        The numbers of the mask's positions before the array's first one along the last axis, and after its last one.
    """

    def __cinit__(self, tuple shape, tuple axes, tuple shared_axes=(), tuple block=(), overhang=(0, 0)):
        cdef int64_t steps[native.FD_MAX_DIMS]
        cdef int64_t step = 1
        cdef int k, lead = len(axes) - len(block)
        self.shape, self.axes, self.ndim, self.lead = shape, axes, len(axes), lead
        self.maps.ndim, self.maps.maps, self.places, self.has_blocks = len(block), 1, 1, False
        for k in range(self.ndim):
            self.shared[k] = axes[k] in shared_axes
            self.sizes[k] = 1 if self.shared[k] else shape[axes[k]]
            if k == self.ndim - 1:
                self.sizes[k] += <int64_t>overhang[0] + <int64_t>overhang[1]
            self.seeds[k] = self.sizes[k]
            if k < lead:
                self.maps.maps *= self.sizes[k]
            else:
                self.maps.sizes[k - lead], self.maps.block[k - lead] = self.sizes[k], block[k - lead]
                self.seeds[k] -= block[k - lead] - 1
                self.has_blocks = self.has_blocks or block[k - lead] > 1
            self.places *= self.seeds[k]
        for k in range(len(shape)):
            self.dims[k], steps[k] = shape[k], 0
        for k in range(self.ndim - 1, -1, -1):
            steps[<Py_ssize_t>axes[k]] = 0 if self.shared[k] else step
            step *= self.sizes[k]
        self.size, self.samples = step, self.sizes[0]
        self.rows = self.sizes[1] if self.ndim > 2 and axes[1] > axes[2] and not self.shared[1] else 1
        if self.rows > 1:  # channels last: the mask is transposed before it is applied
            self.columns = step // max(self.samples * self.rows, 1)
            for k in range(1, self.ndim):
                steps[<Py_ssize_t>axes[k]] = steps[<Py_ssize_t>axes[k]] * self.rows if k > 1 else 1
        self.laid = Laid.__new__(Laid)
        self.laid.is_cut_off, self.first = False, overhang[0]
        native.layout_of(&self.laid.layout, len(shape), self.dims, steps, 1)


cdef int place_decisions(Work work, Call call, Decisions of) except -1:
    """Set the place of the decisions among those of the larger array."""
    cdef Place place
    cdef int k
    work.laid = None
    if call.global_shape is None:
        return place_elements(work, call, of.ndim, <np.npy_intp *>of.seeds, ELEMENTS_END, "elements")
    whole = call.global_shape
    begin = (0,) * len(whole) if call.global_start is None else call.global_start
    place.ndim = of.ndim
    for k in range(of.ndim):
        place.sizes[k] = place.whole[k] = of.seeds[k]
        place.begin[k], place.group[k], place.shared[k] = 0, 1, False
        if k < of.lead and not of.shared[k]:
            place.whole[k], place.begin[k] = min(whole[of.axes[k]], TOO_FAR), min(begin[of.axes[k]], TOO_FAR)
    return lay(work, &place, first_index(call.start, 0, ELEMENTS_END, "elements"), ELEMENTS_END, "elements")


cdef np.ndarray words_for(int64_t bits):
    """Return an array of 64-bit words for packed bits, in whole groups of 128 bits."""
    return room((bits + 127) // 128 * 2, np.NPY_UINT64)


cdef uint64_t bit_at(const uint64_t *words, int64_t i) noexcept nogil:
    """Return packed bit i; in memory, bits are in the order of the bytes."""
    return (<const uint8_t *>words)[i >> 3] >> (i & 7) & 1


cdef void set_bit(uint64_t *words, int64_t i, uint64_t bit) noexcept nogil:
    """Set packed bit i, which is 0, to a bit."""
    (<uint8_t *>words)[i >> 3] |= <uint8_t>(bit << (i & 7))


cdef int check_shape(Work work, Decisions of, str name) except -1:
    """Raise an error unless the array has the mask's shape: an object may give another array each time it is asked."""
    cdef int k, ndim = len(of.shape)
    cdef bint is_same = np.PyArray_NDIM(work.x) == ndim
    for k in range(ndim):
        is_same = is_same and np.PyArray_DIM(work.x, k) == of.dims[k]
    if not is_same:
        raise ValueError(f"{name} must have the shape {of.shape} of its mask; got {true_shape(work.x)}")
    return 0


cdef Work decide(Call call, x, Decisions of, p, str name, np.npy_intp scales=1):
    """Return a checked call with its result, its key, its finished mask, and room for this number of scales, all 1."""
    cdef Work work = begin(call, x, name), drawn = Work.__new__(Work)
    cdef np.ndarray seeds, kept, moved = None
    cdef np.npy_intp k
    check_shape(work, of, name)
    place_elements(drawn, call, len(of.shape), <np.npy_intp *>of.dims, ELEMENTS_END, "elements")
    drawn.rate, drawn.settings = rate(p), work.settings
    place_decisions(drawn, call, of)
    make_result(work, call)
    kept = words_for(of.size)
    seeds = words_for(of.places) if of.has_blocks else kept
    if of.rows > 1:
        moved = words_for(of.size)
    work.scale = 1.0
    if scales > 1:
        work.scales = room(scales, np.NPY_FLOAT64)
        for k in range(scales):
            (<double *>np.PyArray_DATA(work.scales))[k] = 1.0
        work.scale_run = np.PyArray_SIZE(work.x) // scales
    draw_key(call.seed, call.offset, &work.key)
    drawn.key = work.key
    if of.size:
        fill_mask(drawn, of.places, seeds, True)
        if of.has_blocks:
            drop_blocks(work, of, seeds, kept)
        if of.rows > 1:
            move_rows(work, of, kept, moved)
            kept = moved
    work.op, work.packed, work.laid, work.first = native.FD_SCALE, kept, of.laid, of.first
    return work


cdef int make_result(Work work, Call call) except -1:
    """Check the result and the seed of a call whose mask is made first, and allocate the result."""
    if call.out is not None:
        check_out(call.out, work.x)
    check_seed(call.seed, call.offset, call.use)
    work.y_is_new = call.out is None
    work.y = new_like(work.x) if call.out is None else call.out
    return 0


cdef Work decide_classes(Call call, x, Decisions of, p, np.ndarray classes, int64_t n, bint per_sample, str name):
    """Return such a call for parts of n classes. The parts of one class share a decision, in each sample or in all."""
    cdef Work work = begin(call, x, name), drawn = Work.__new__(Work)
    cdef Call class_call = Call.__new__(Call)
    cdef np.npy_intp[2] class_dims = [of.samples if per_sample else 1, n]
    cdef int64_t parts = of.size // max(of.samples, 1), i, at
    check_shape(work, of, name)
    if np.PyArray_SIZE(classes) != of.size:  # the array may have given another shape when the classes were checked
        raise ValueError(f"there must be {of.size} classes, one per decision of the mask; got {np.PyArray_SIZE(classes)}")
    place_elements(drawn, call, len(of.shape), <np.npy_intp *>of.dims, ELEMENTS_END, "elements")
    class_call.start = call.start
    if per_sample and call.global_start is not None:
        class_call.start = as_integer(call.start) + n * call.global_start[0]
    place_elements(drawn, class_call, 2, class_dims, ELEMENTS_END, "elements")  # refuses a number that is too large
    drawn.laid, drawn.rate, drawn.settings = None, rate(p), work.settings
    make_result(work, call)
    cdef np.ndarray decided, kept = words_for(of.size)
    try:
        decided = words_for(class_dims[0] * n)
    except MemoryError:
        raise MemoryError(f"cannot allocate a mask of one bit for each of {class_dims[0] * n} decisions, {n} per sample"
                          if per_sample else f"cannot allocate a mask of one bit for each of {n} decisions") from None
    cdef const uint64_t *of_classes = <const uint64_t *>np.PyArray_DATA(decided)
    cdef uint64_t *bits = <uint64_t *>np.PyArray_DATA(kept)
    cdef const int64_t *of_part = <const int64_t *>np.PyArray_DATA(classes)
    draw_key(call.seed, call.offset, &work.key)
    drawn.key = work.key
    if of.size:
        fill_mask(drawn, class_dims[0] * n, decided, True)
    for i in range(np.PyArray_SIZE(kept)):
        bits[i] = 0
    for i in range(of.size):
        at = of_part[i]
        if not 0 <= at < n:  # the caller's code may have written to the classes after they were checked
            raise ValueError(f"each class must be in [0, {n}); got {at}")
        at += n * (i // parts) if per_sample else 0
        set_bit(bits, i, bit_at(of_classes, at))
    work.op, work.packed, work.laid, work.first = native.FD_SCALE, kept, of.laid, of.first
    work.scale = native.inverted_scale(drawn.rate, work.dtype)
    return work


cdef int drop_blocks(Work work, Decisions of, np.ndarray seeds, np.ndarray kept) except -1:
    """Write the mask in which the block of each seed is dropped. The seeds are overwritten."""
    cdef uint64_t *from_words = <uint64_t *>np.PyArray_DATA(seeds)
    cdef uint64_t *to_words = <uint64_t *>np.PyArray_DATA(kept)
    cdef PyThreadState *state
    if work.settings.module is None:
        state = released(of.size)
        native.drop_blocks(&of.maps, from_words, to_words)
        regain(state)
        return 0
    sizes, block = [], []
    for k in range(of.maps.ndim):
        sizes.append(of.maps.sizes[k])
        block.append(of.maps.block[k])
    work.settings.module.drop_blocks(seeds.view(np.uint8), of.maps.maps, tuple(sizes), tuple(block), kept.view(np.uint8))
    return 0


cdef int move_rows(Work work, Decisions of, np.ndarray kept, np.ndarray moved) except -1:
    """Write a mask with its second axis moved to the end. The given mask is overwritten."""
    cdef uint64_t *from_words = <uint64_t *>np.PyArray_DATA(kept)
    cdef uint64_t *to_words = <uint64_t *>np.PyArray_DATA(moved)
    cdef PyThreadState *state
    if work.settings.module is None:
        state = released(of.size)
        native.transpose_bits(from_words, of.samples, of.rows, of.columns, to_words)
        regain(state)
        return 0
    flags = np.unpackbits(kept.view(np.uint8), count=of.size, bitorder="little").reshape(of.samples, of.rows, of.columns)
    packed = np.packbits(flags.transpose(0, 2, 1), bitorder="little")
    moved.view(np.uint8)[: packed.size] = packed
    return 0


cdef int set_counted_scale(Work work, Decisions of) except -1:
    """Set each scale of a call to its number of decisions / its number of kept ones; to 0 if none is kept."""
    cdef const uint64_t *words = <const uint64_t *>np.PyArray_DATA(work.packed)
    cdef int64_t samples = 1 if work.scales is None else np.PyArray_SIZE(work.scales), sample, ones
    cdef int64_t each = of.size // samples
    cdef double *scales = &work.scale if work.scales is None else <double *>np.PyArray_DATA(work.scales)
    cdef uint64_t found
    found = native.float_begin()
    for sample in range(samples):
        ones = native.count_ones(words, sample * each, each)
        scales[sample] = native.rounded_factor(<double>each / <double>ones, work.dtype) if ones else 0.0
    native.float_end(found)
    return 0


cdef int divide_rows(Work work, bint is_constant) except -1:
    """Divide each row by the sum of its kept elements. If `other` is set, make the gradient with respect to it instead."""
    cdef native.fd_rows rows
    cdef BitsLayouts space
    cdef PyThreadState *state
    cdef np.ndarray y = work.y, x, grad = None
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int64_t n = np.PyArray_SIZE(work.x)
    cdef int threads = threads_of(work.settings, n)
    check_kept(work)
    if not n:
        return 0
    x = flat(readable(work.x, y))
    if work.other is not None:
        grad, x = x, flat(readable(work.other, y))
    work.y = y if is_plain(y) else np.empty(true_shape(y), y.dtype)
    rows.epsilon = native.rounded_factor(EPSILON, work.dtype)
    if work.settings.module is not None:
        in_python(drive.divide_rows, (source_of(work), x, grad, is_constant, EPSILON, work.y))
    else:
        bind_bits(work, n, &rows.bits, &space)
        rows.dtype, rows.is_constant, rows.n = work.dtype, is_constant, np.PyArray_DIM(x, np.PyArray_NDIM(x) - 1)
        rows.rows, rows.bypass_bytes = n // rows.n, bypass_bytes
        rows.x, rows.grad = np.PyArray_DATA(x), NULL if grad is None else np.PyArray_DATA(grad)
        rows.y = np.PyArray_DATA(work.y)
        state = released(n)
        native.divide_rows(kernels, &rows, threads)
        regain(state)
    if work.y is not y:
        np.copyto(y, work.y)
    return 0
