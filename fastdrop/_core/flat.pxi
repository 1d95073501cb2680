# Dropout of flat memory: operands in C order, a mask in C order and one rate, without an object. For usual calls on NumPy
# arrays (entries.pxi), and for memory of other libraries (pointers.pyx).

cdef int operation_of(const Addresses *at) noexcept:
    """Return the operation with one scale for all elements."""
    return native.FD_SCALE | (native.FD_WITH_BIAS if at.bias else 0) | (native.FD_WITH_RESIDUAL if at.residual else 0)


cdef int item_size(int dtype) noexcept:
    if dtype == native.FD_FLOAT64:
        return 8
    return 4 if dtype == native.FD_FLOAT32 else 2


cdef bint are_apart(const Addresses *at, int64_t size, int64_t alignment) noexcept:
    """Return whether operands of this size in bytes are aligned, and none is overwritten before it is read."""
    if (at.x | at.y | at.bias | at.residual) & <uintptr_t>(alignment - 1):
        return False
    if at.bias and at.bias == at.y:  # every row reads all biases
        return False
    return is_apart(at.x, at.y, size) and is_apart(at.bias, at.y, size) and is_apart(at.residual, at.y, size)


cdef bint is_apart(uintptr_t a, uintptr_t y, int64_t size) noexcept:
    return not a or a == y or a >= y + <uintptr_t>size or y >= a + <uintptr_t>size


cdef void lay_flat(native.fd_call *call, Layouts *space, const Addresses *at, int64_t n, int64_t row, int dtype) noexcept:
    """Set the operands, contiguous arrays with rows of `row` elements, with a mask in C order and one rate for all elements."""
    cdef int64_t size = item_size(dtype), one = 1
    cdef int64_t[2] shape = [n // row, row], strides = [0, size]
    native.layout_of(&space.elements, 1, &n, &size, size)
    native.layout_of(&space.mask, 1, &n, &one, 1)
    if at.bias:
        native.layout_of(&space.rows, 2, shape, strides, size)
    call.n, call.dtype = n, dtype
    call.x.data, call.y.data, call.other.data, call.bias.data = <void *>at.x, <void *>at.y, <void *>at.residual, <void *>at.bias
    call.x.layout = call.y.layout = call.other.layout = &space.elements
    call.bias.layout = &space.rows
    call.bits.mask_layout = &space.mask
    call.bits.places, call.scales = NULL, NULL
    call.bits.packed, call.bits.flags.data, call.bits.rates.data, call.bits.gate = NULL, NULL, NULL, NULL


cdef bint is_flat(Settings settings, const Addresses *at, int64_t n, int dtype) noexcept:
    """Return whether `drop_flat` can take a call with these operands."""
    return n and at.x and at.y and settings.module is None and are_apart(at, n * item_size(dtype), item_size(dtype))


cdef int drop_flat(
    Settings settings, const Addresses *at, int64_t n, int64_t row, int dtype, double p, const native.fd_key *key,
    int num_threads, bint is_new
) except -1:
    """Write ``residual + dropout(x + bias)`` to y."""
    cdef native.fd_call call
    cdef Layouts space
    lay_flat(&call, &space, at, n, row, dtype)
    call.bits.key, call.bits.first, call.bits.rate = key[0], 0, native.rate_of(p)
    call.op = operation_of(at)
    call.scale, call.shift, call.fill = native.inverted_scale(p, dtype), 0.0, 0.0
    return run_with(settings, &call, num_threads, is_new)


cdef int run_with(Settings settings, native.fd_call *call, int num_threads, bint is_new) except -1:
    cdef const native.fd_isa *kernels = settings.kernels
    cdef int threads = threads_of(settings, call.n)
    if 0 < num_threads < threads:
        threads = num_threads
    call.bypass_bytes = NEVER if is_new and call.n * item_size(call.dtype) > ALWAYS_MAPPED else bypass_bytes
    if is_new:
        native.use_large_pages(call.y.data, call.n * item_size(call.dtype))
    if call.n < WORTH_RELEASING:
        native.apply(kernels, call, threads)
    else:
        with nogil:
            native.apply(kernels, call, threads)
    return 0
