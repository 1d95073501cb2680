# The place of a mask over an array. The mask has its own index space: element (i0, i1, ...) of the array has the bit of index
# first + i0 * steps[0] + i1 * steps[1] + ...; the step of an axis that shares one decision is 0.

cdef int64_t TOO_FAR = 1 << 62  # above every index of a stream: sums and products saturate here instead of overflowing

cdef struct Place:
    # A block of shape `sizes` that begins at index `begin` of an array of shape `whole`, whose mask is shared along some axes.
    int ndim
    int64_t sizes[native.FD_MAX_DIMS]
    int64_t whole[native.FD_MAX_DIMS]
    int64_t begin[native.FD_MAX_DIMS]
    int64_t group[native.FD_MAX_DIMS]        # this number of neighbours share a decision; the last group may be smaller
    bint shared[native.FD_MAX_DIMS]


cdef int64_t times(int64_t a, int64_t b) noexcept:
    return TOO_FAR if b and a > TOO_FAR // b else a * b


cdef int64_t plus(int64_t a, int64_t b) noexcept:
    return TOO_FAR if a > TOO_FAR - b else a + b


def as_sizes(value, str name):
    """Return a sequence of integers, none of them a bool, as a tuple, or raise an error that names it."""
    cdef list found = []
    try:
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError  # an empty string would mean no axes, and bytes are sequences of integers
        for each in value:
            found.append(as_integer(each))
        return tuple(found)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers; got {value!r}") from None


@cython.binding(True)
def as_axes(axes, int ndim, str name):
    """Return one axis or several, negative ones counted from the end, as a sorted tuple, or raise an error that names them."""
    is_one = hasattr(axes, "__index__") and np.ndim(axes) == 0  # every array has that method
    given = as_sizes([axes] if is_one else axes, name)
    for axis in given:
        if not -ndim <= axis < ndim:
            raise ValueError(f"{name} {given} are out of range for an array of {ndim} dimensions")
    found = []
    for axis in given:
        found.append(axis % ndim)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} {given} name an axis twice")
    return tuple(sorted(found))


cdef bint share_plainly(Place *place, shared_axes) except -1:
    """Mark one axis, or the axes of a sorted tuple of integers (the variants' forms); return False for any other form."""
    cdef Py_ssize_t axis, k = -1
    if PyLong_CheckExact(shared_axes) and 0 <= shared_axes < place.ndim:
        place.shared[<Py_ssize_t>shared_axes] = True
        return True
    if not PyTuple_CheckExact(shared_axes):
        return False
    for number in <tuple>shared_axes:
        if not PyLong_CheckExact(number) or not k < number < place.ndim:
            return False
        axis = number
        k = axis
    for number in <tuple>shared_axes:
        place.shared[<Py_ssize_t>number] = True
    return True


cdef int share(Place *place, noise_shape, shared_axes) except -1:
    """Mark the axes along which one decision is shared."""
    cdef int k
    if noise_shape is None:
        if shared_axes is not None and not share_plainly(place, shared_axes):
            for k in as_axes(shared_axes, place.ndim, "shared_axes"):
                place.shared[k] = True
        return 0
    if shared_axes is not None:
        raise ValueError("noise_shape and shared_axes both define the shared decisions; give only one of them")
    shape, noise = integers(place.whole, place.ndim), []
    try:
        for given, size in zip(noise_shape, shape, strict=True):
            noise.append(size if given is None else as_integer(given))
    except (TypeError, ValueError):
        raise ValueError(
            f"noise_shape must have one entry (the size, 1 or None) per axis of shape {shape}; got {noise_shape!r}") from None
    for k in range(place.ndim):
        if noise[k] not in (1, shape[k]):
            raise ValueError(
                f"noise_shape {tuple(noise)} does not broadcast to shape {shape}: "
                "each entry must be 1, None or the array's size")
        place.shared[k] = noise[k] == 1 and shape[k] != 1
    return 0


def as_groups(int ndim, group_size, axes):
    """Return the sizes of groups along the chosen axes, as {axis: size}, or raise an error that names them."""
    given = as_sizes([axes] if hasattr(axes, "__index__") and np.ndim(axes) == 0 else axes, "axes")
    if not as_axes(given, ndim, "axes"):
        raise ValueError("axes must name at least one axis")
    if isinstance(group_size, (bool, np.bool_)):
        raise TypeError(f"group_size must be an integer, or one per axis; got {group_size!r}")
    is_one = hasattr(group_size, "__index__") and np.ndim(group_size) == 0
    sizes = as_sizes((group_size,) * len(given) if is_one else group_size, "group_size")
    if len(sizes) != len(given):
        raise ValueError(f"group_size must be one size, or one size per axis of {given}; got {sizes}")
    if min(sizes) < 1:
        raise ValueError(f"group_size must be at least 1; got {min(sizes)}")
    return {axis % ndim: min(size, TOO_FAR) for axis, size in zip(given, sizes, strict=True)}


cdef bint cut_plainly(Place *place, group_size, axes) except -1:
    """Cut one axis, or the axes of a sorted tuple, into groups of one size; return False for any other form."""
    cdef Py_ssize_t axis, k = -1
    if not PyLong_CheckExact(group_size) or not 0 < group_size < TOO_FAR:
        return False
    if PyLong_CheckExact(axes) and -place.ndim <= axes < place.ndim:
        axis = axes
        place.group[axis if axis >= 0 else axis + place.ndim] = group_size
        return True
    if not PyTuple_CheckExact(axes) or not axes:
        return False
    for number in <tuple>axes:
        if not PyLong_CheckExact(number) or not k < number < place.ndim:
            return False
        axis = number
        k = axis
    for number in <tuple>axes:
        place.group[<Py_ssize_t>number] = group_size
    return True


cdef int cut(Place *place, group_size, axes) except -1:
    """Cut axes into groups of neighbours that share a decision."""
    if not cut_plainly(place, group_size, axes):
        for axis, size in as_groups(place.ndim, group_size, axes).items():
            place.group[<Py_ssize_t>axis] = size
    return 0


cdef int place_block(Place *place, global_shape, global_start) except -1:
    """Set the block's place in the larger array; by default the block is the whole array."""
    cdef int k
    if global_shape is None:
        if global_start is not None:
            raise ValueError("global_start needs global_shape, the shape of the larger array")
        for k in range(place.ndim):
            place.whole[k], place.begin[k] = place.sizes[k], 0
        return 0
    shape = integers(place.sizes, place.ndim)
    whole = as_sizes(global_shape, "global_shape")
    begin = (0,) * len(whole) if global_start is None else as_sizes(global_start, "global_start")
    if not len(whole) == len(begin) == len(shape):
        raise ValueError(
            f"global_shape {whole} and global_start {begin} must have one number per axis of the block's shape {shape}")
    for b, n, w in zip(begin, shape, whole, strict=True):
        if b < 0 or b + n > w:
            raise ValueError(f"a block of shape {shape} that begins at {begin} is not inside global_shape {whole}")
    for k in range(place.ndim):
        place.whole[k], place.begin[k] = min(whole[k], TOO_FAR), min(begin[k], TOO_FAR)
    return 0


def locate_block(shape, global_shape, global_start):
    """Return the shape of the larger array and the block's first index in it; by default the block is the whole array."""
    cdef Place place
    cdef tuple sizes = as_shape(shape)
    cdef int k
    place.ndim = len(sizes)
    for k in range(place.ndim):
        place.sizes[k] = sizes[k]
    place_block(&place, global_shape, global_start)
    return integers(place.whole, place.ndim), integers(place.begin, place.ndim)


cdef void set_steps(const Place *place, int64_t *steps) noexcept:
    """Set the step of the mask index along each axis of the larger array."""
    cdef int64_t step = 1
    cdef int k
    for k in range(place.ndim - 1, -1, -1):
        steps[k] = 0 if place.shared[k] else step
        if not place.shared[k]:
            step = times(step, group_at(place, k, place.whole[k] - 1) + 1)


def locate_mask(shape, shared_axes, start, global_shape, global_start):
    """Return the mask's first index over a block, and its step along each axis, for a place that has been checked."""
    cdef Place place
    cdef int64_t steps[native.FD_MAX_DIMS]
    cdef int64_t first = start
    cdef int k
    cdef tuple sizes = as_shape(shape)
    place.ndim = len(sizes)
    for k in range(place.ndim):
        place.sizes[k], place.group[k], place.shared[k] = sizes[k], 1, False
    place_block(&place, global_shape, global_start)
    share(&place, None, shared_axes)
    set_steps(&place, steps)
    for k in range(place.ndim):
        first = plus(first, times(steps[k], place.begin[k]))
    return first, integers(steps, place.ndim)


cdef int lay(Work work, Place *place, uint64_t start, uint64_t end, str what) except -1:
    """Set the first index of a mask or of numbers, and its steps over the block; all indices must be below `end`."""
    cdef int64_t steps[native.FD_MAX_DIMS]
    cdef int64_t first = min(start, <uint64_t>TOO_FAR), last, group, final
    cdef int k
    cdef bint is_empty = False, is_cut = False
    set_steps(place, steps)
    last = first
    for k in range(place.ndim):
        is_empty = is_empty or not place.sizes[k]
        group = group_at(place, k, place.begin[k])
        final = group_at(place, k, place.begin[k] + max(place.sizes[k] - 1, 0))
        first = plus(first, times(steps[k], group))
        last = plus(last, times(steps[k], final))
        if group == final:
            steps[k] = 0
        is_cut = is_cut or (steps[k] != 0 and place.group[k] > 1)
    if is_empty:  # no element has an index, so the block may lie past the end of the stream
        first = 0
    elif <uint64_t>last >= end:
        raise OverflowError(f"stream {STREAM} has 2**{int(end).bit_length() - 1} {what}; the last index would be "
                            f"{last if last < TOO_FAR else '2**62 or more'}")
    work.first, work.laid = first, Laid.__new__(Laid)
    work.laid.is_cut_off = False
    if is_cut and not is_empty:
        return lay_groups(work.laid, place, steps)
    # Without elements, the layout is not read, and the product of two of its sizes may be too large.
    native.layout_of(&work.laid.layout, 0 if is_empty else place.ndim, place.sizes, steps, 1)
    return 0


cdef int64_t group_at(const Place *place, int k, int64_t i) noexcept:
    """Return the number of the group of index i along an axis. Without groups, it is i."""
    return i if place.group[k] == 1 else i // place.group[k]


cdef int lay_groups(Laid laid, Place *place, const int64_t *steps) except -1:
    """Set the layout of a mask with groups. An axis that is cut becomes two: the groups, and the positions in a group.

    If a group is cut off at an edge of the block, the layout covers whole groups, and `places` says where the block is in them.
    """
    cdef int64_t sizes[native.FD_MAX_DIMS]
    cdef int64_t along[native.FD_MAX_DIMS]
    cdef int64_t strides[native.FD_MAX_DIMS]
    cdef int64_t stride = 1, group, before, groups
    cdef int k, at = native.FD_MAX_DIMS
    cdef bint is_cut
    laid.first_place = 0
    for k in range(place.ndim - 1, -1, -1):
        is_cut = steps[k] != 0 and place.group[k] > 1
        if at < 1 + is_cut:
            raise ValueError(f"x must have at most {native.FD_MAX_DIMS} axes, counting each axis that is cut into groups twice")
        group, groups = place.sizes[k], 1
        if is_cut:
            group, before = place.group[k], place.begin[k] % place.group[k]
            groups = (before + place.sizes[k] - 1) // group + 1
            if groups == 2:  # a larger group would be cut off at both edges
                group, before = narrow(group, before, place.sizes[k])
            laid.is_cut_off = laid.is_cut_off or groups * group != place.sizes[k]
            laid.first_place += before * stride
        at -= 1
        sizes[at], along[at] = group, 0 if is_cut else steps[k]
        if is_cut:
            at -= 1
            sizes[at], along[at] = groups, steps[k]
        strides[k] = stride
        stride = stride * groups * group
    native.layout_of(&laid.layout, native.FD_MAX_DIMS - at, sizes + at, along + at, 1)
    if laid.is_cut_off:
        native.layout_of(&laid.places, place.ndim, place.sizes, strides, 1)
    return 0


cdef (int64_t, int64_t) narrow(int64_t group, int64_t before, int64_t n) noexcept:
    """Return the least size of two groups that hold n elements, and the number of positions before the first element."""
    cdef int64_t head = group - before
    group = max(head, n - head)
    return group, group - head


cdef int place_mask(Work work, Call call, int ndim, np.npy_intp *dims, noise_shape, shared_axes) except -1:
    """Set the place of a call's mask over elements of a shape."""
    return place_shared(work, call, ndim, dims, noise_shape, shared_axes, ELEMENTS_END, "elements")


cdef int place_numbers(Work work, Call call, int ndim, np.npy_intp *dims, tuple shared_axes=None) except -1:
    """Set the place in the stream of the random numbers of an array, of which elements along the shared axes take one."""
    if work.dtype == native.FD_FLOAT64:
        return place_shared(work, call, ndim, dims, None, shared_axes, PAIRS_END, "float64 numbers")
    return place_shared(work, call, ndim, dims, None, shared_axes, WORDS_END, "float32 numbers")


cdef int place_shared(
    Work work, Call call, int ndim, np.npy_intp *dims, noise_shape, shared_axes, uint64_t end, str what
) except -1:
    """Set the place of decisions or numbers that elements may share; the stream has `end` indices."""
    cdef Place place
    if noise_shape is None and shared_axes is None and work.groups is None:
        return place_elements(work, call, ndim, dims, end, what)
    measure(&place, ndim, dims)
    if work.groups is not None:
        cut(&place, work.groups[0], work.groups[1])
    place_block(&place, call.global_shape, call.global_start)
    share(&place, noise_shape, shared_axes)
    return lay(work, &place, first_index(call.start, 0, end, what), end, what)


cdef int place_elements(Work work, Call call, int ndim, np.npy_intp *dims, uint64_t end, str what) except -1:
    """Set the place of elements that have one index each; the stream has `end` indices."""
    cdef Place place
    cdef int64_t n = 1
    cdef int k
    if call.global_shape is None and call.global_start is None:
        for k in range(ndim):
            n = times(n, dims[k])
        work.first = first_index(call.start, n, end, what)
        return 0
    measure(&place, ndim, dims)
    place_block(&place, call.global_shape, call.global_start)
    return lay(work, &place, first_index(call.start, 0, end, what), end, what)


cdef void measure(Place *place, int ndim, np.npy_intp *dims) noexcept:
    cdef int k
    place.ndim = ndim
    for k in range(ndim):
        place.sizes[k], place.shared[k], place.group[k] = dims[k], False, 1
