# A checked call (its operation, its operands and the source of its bits), and its run by the C kernels or by a Python backend.

@cython.freelist(4)
cdef class Laid:
    """The layout of a mask over an array, if it is not that of the array in C order."""


@cython.freelist(8)
cdef class Work:
    """A checked call. The operands have the shape of x; one that is not given is None."""

    def __cinit__(self):
        self.rate = self.scale = self.shift = self.fill = 0.0


cdef int perform(Work work) except -1:
    """Run a call, whose operands may overlap, be misaligned or have steps of any size."""
    check_kept(work)
    return perform_kept(work)


cdef int perform_kept(Work work) except -1:
    """Do the same for arrays that the caller's code cannot change. Those of bfloat16 may have the dtype uint16."""
    cdef np.ndarray y = work.y
    if not np.PyArray_SIZE(work.x):
        return 0
    work.x = readable(work.x, y)
    if work.bias is not None:
        work.bias = readable(work.bias, y)
    if work.other is not None:
        work.other = readable(work.other, y)
    if work.rates is not None:
        work.rates = readable(work.rates, y)
    work.y = writable(y)
    if work.settings.module is None:
        perform_in_c(work)
    else:
        perform_in_python(work)
    if work.y is not y:
        np.copyto(y, work.y)
    return 0


cdef str CHANGED = "the arrays must keep their shapes and dtypes during the call"


cdef int check_kept(Work work) except -1:
    """Raise an error unless x has its dtype and all arrays have one shape.

    The caller's code runs while an argument is converted. It may have changed arrays in place after they were checked. An array
    keeps its number of bytes then: if it has as many elements as before, they have the same size as before.
    """
    cdef np.ndarray x = work.x
    if kind_of(x, "x") != work.dtype or not (
            has_shape_of(work.y, x) and has_shape_of(work.other, x) and has_shape_of(work.bias, x)
            and has_shape_of(work.rates, x) and has_shape_of(work.flags, x)):
        raise ValueError(CHANGED)
    return 0


cdef bint has_shape_of(np.ndarray a, np.ndarray x) noexcept:
    return a is None or np.PyArray_SAMESHAPE(a, x)


cdef void layout(np.ndarray a, native.fd_layout *out) noexcept:
    cdef int64_t flat_shape, flat_stride
    if np.PyArray_IS_C_CONTIGUOUS(a):
        flat_shape, flat_stride = np.PyArray_SIZE(a), np.PyArray_ITEMSIZE(a)
        native.layout_of(out, 1, &flat_shape, &flat_stride, flat_stride)
    else:
        native.layout_of(
            out, np.PyArray_NDIM(a), <int64_t *>np.PyArray_DIMS(a), <int64_t *>np.PyArray_STRIDES(a),
            np.PyArray_ITEMSIZE(a))


cdef void bind(np.ndarray a, native.fd_array *to, native.fd_layout *space) noexcept:
    if a is None:
        to.data, to.layout = NULL, NULL
        return
    layout(a, space)
    to.data, to.layout = np.PyArray_DATA(a), space


cdef struct BitsLayouts:
    native.fd_layout mask, rates, flags


cdef int bind_bits(Work work, int64_t n, native.fd_bits *bits, BitsLayouts *space) except -1:
    cdef int64_t one = 1
    bits.key = work.key
    bits.first = work.first
    bits.packed = NULL if work.packed is None else <const uint8_t *>np.PyArray_DATA(work.packed)
    bind(work.flags, &bits.flags, &space.flags)
    bind(work.rates, &bits.rates, &space.rates)
    bits.rate = native.rate_of(work.rate)
    bits.gate = &work.gate if work.is_gated else NULL
    if work.rates is not None:
        bits.rates_dtype = kind_of(work.rates, "p")
    bits.places = NULL
    if work.laid is not None:
        bits.mask_layout = &work.laid.layout
        if work.laid.is_cut_off:
            bits.places, bits.first_place = &work.laid.places, work.laid.first_place
    else:
        native.layout_of(&space.mask, 1, &n, &one, 1)
        bits.mask_layout = &space.mask
    return 0


cdef PyThreadState *released(int64_t n) noexcept:
    """Release the GIL for a kernel on n elements, if that pays. Return what `regain` takes."""
    return PyEval_SaveThread() if n >= WORTH_RELEASING else NULL


cdef void regain(PyThreadState *state) noexcept:
    if state != NULL:
        PyEval_RestoreThread(state)


# The number of bits of a mask that an outer axis repeats. Kernels keep up to a tile of bits themselves, and more than the most
# would not stay in the caches.
cdef int64_t LEAST_REPEATED_BITS = 4097, MOST_REPEATED_BITS = 1 << 22


cdef np.ndarray make_repeated_bits(Work work, native.fd_bits *bits, int threads):
    """Make the bits of a repeated mask once, before a kernel lays them over the array. Return their memory, or None.

    Without memory the kernel makes the bits with each repetition. That is no error, because the key is drawn already.
    """
    cdef const native.fd_layout *mask = bits.mask_layout
    cdef native.fd_bits whole = bits[0]
    cdef native.fd_layout flat
    cdef int64_t n = mask.shape[1], one = 1
    cdef PyThreadState *state
    if (mask.ndim != 2 or mask.strides[0] != 0 or mask.strides[1] != 1 or not LEAST_REPEATED_BITS <= n <= MOST_REPEATED_BITS
            or bits.packed != NULL or work.flags is not None or work.rates is not None or bits.places != NULL):
        return None
    cdef np.ndarray words
    try:
        words = words_for(n)
    except MemoryError:
        return None
    native.layout_of(&flat, 1, &n, &one, 1)
    whole.mask_layout = &flat
    bits.packed, bits.first = <const uint8_t *>np.PyArray_DATA(words), 0
    state = released(n)
    native.mask(work.settings.kernels, &whole, n, np.PyArray_DATA(words), True, threads)
    regain(state)
    return words


cdef int perform_in_c(Work work) except -1:
    cdef native.fd_call call
    cdef BitsLayouts bits_space
    cdef native.fd_layout x_layout, y_layout, other_layout, bias_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads
    call.n = np.PyArray_SIZE(work.x)
    threads = threads_of(work.settings, call.n)
    bind_bits(work, call.n, &call.bits, &bits_space)
    cdef np.ndarray repeated = make_repeated_bits(work, &call.bits, threads)  # in use until the kernel ends
    call.op, call.dtype = work.op, work.dtype
    call.scale, call.shift, call.fill = work.scale, work.shift, work.fill
    call.scales = NULL if work.scales is None else <const double *>np.PyArray_DATA(work.scales)
    call.scale_run = work.scale_run
    bind(work.x, &call.x, &x_layout)
    bind(work.y, &call.y, &y_layout)
    bind(work.other, &call.other, &other_layout)
    bind(work.bias, &call.bias, &bias_layout)
    call.bypass_bytes = bypass_bytes
    if work.y_is_new and np.PyArray_NBYTES(work.y) > ALWAYS_MAPPED:
        call.bypass_bytes = NEVER  # the system has just zeroed its pages through the caches
    cdef PyThreadState *state = released(call.n)
    native.apply(kernels, &call, threads)
    regain(state)
    return 0


# The backends in Python

cdef object float32 = np.float32, float64 = np.float64


cdef object compute_type(int dtype):
    """Return NumPy's type in which elements of a type are computed: numpy.float32 or numpy.float64."""
    return float64 if dtype == native.FD_FLOAT64 else float32


cdef object source_of(Work work):
    """Return the source of a call's bits and numbers for the Python backends."""
    cdef native.fd_rate single = native.rate_of(work.rate)
    cdef tuple layouts = ()
    if work.laid is not None:
        layouts = (layout_axes(work.first, &work.laid.layout),)
        if work.laid.is_cut_off:
            layouts = (layout_axes(work.laid.first_place, &work.laid.places), layouts[0])
    gate = (work.gate.gain, work.gate.shift) if work.is_gated else None
    packed = None if work.packed is None else work.packed.view(np.uint8)
    return chunks.Source(
        work.settings.module, compute_type(work.dtype), work.key.seed, work.key.offset, work.first, layouts,
        2**64 if single.all else single.fixed, work.rates, gate, work.is_gated and work.gate.antithetic, packed, work.flags)


cdef tuple layout_axes(first, const native.fd_layout *layout):
    """Return the first index, the sizes and the steps of a layout as Python integers."""
    return first, integers(layout.shape, layout.ndim), integers(layout.strides, layout.ndim)


cdef int perform_in_python(Work work) except -1:
    cdef str operation = "scale"
    if work.op == native.FD_AFFINE:
        operation = "affine"
    elif work.op == native.FD_SIGNED:
        operation = "signed"
    elif work.op == native.FD_SELECT:
        operation = "select"
    in_python(drive.apply, (
        source_of(work), operation, work.x, work.y, work.other, work.bias, (work.scale, work.shift, work.fill), work.scales,
        work.scale_run, operation == "scale" and work.op & native.FD_WITH_RATES))
    return 0


# Gradients of the logits of a gate ----------------------------------------------------------------------------------

ESTIMATORS = gates.ESTIMATORS  # in the order of fastdrop.h


cdef int perform_gate_backward(Work work) except -1:
    """Write the slopes of the logits to the new array y. x is the gradient, `other` the input, and `bias` the losses."""
    cdef native.fd_gate_call call
    cdef BitsLayouts bits_space
    cdef native.fd_layout grad_layout, x_layout, losses_layout
    cdef const native.fd_isa *kernels = work.settings.kernels
    cdef int threads
    check_kept(work)
    call.n = np.PyArray_SIZE(work.x)
    if not call.n:
        return 0
    work.x, work.rates = readable(work.x, work.y), readable(work.rates, work.y)
    if work.other is not None:
        work.other = readable(work.other, work.y)
    if work.settings.module is not None:
        in_python(drive.gate_slopes, (
            source_of(work), work.op, work.scale != 0.0, work.x, work.other, work.bias, work.y))
        return 0
    threads = threads_of(work.settings, call.n)
    bind_bits(work, call.n, &call.bits, &bits_space)
    call.estimator, call.divided, call.dtype = work.op, work.scale != 0.0, work.dtype
    bind(work.x, &call.grad, &grad_layout)
    bind(work.other, &call.x, &x_layout)
    bind(work.bias, &call.losses, &losses_layout)
    call.y = np.PyArray_DATA(work.y)
    cdef PyThreadState *state = released(call.n)
    native.gate_backward(kernels, &call, threads)
    regain(state)
    return 0
