# Eager calls on PyTorch's tensors. They are compiled, because a small call spends most of its time on questions to the tensors.
# Nothing here imports PyTorch: `fastdrop.torch` registers what is needed of it.

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef struct Described:  # an array, as DLPack describes it
    void *data
    int32_t device, device_id, ndim
    uint8_t kind, bits
    uint16_t lanes
    int64_t *shape
    int64_t *strides  # in elements
    uint64_t byte_offset


cdef struct Exchange:  # DLPack's table of functions, of version 1.3
    uint32_t major, minor
    void *others[4]
    int (*describe)(object, Described *) except -1


cdef enum:
    DEVICE_CPU = 1  # DLPack's numbers
    KIND_FLOAT = 2
    KIND_BFLOAT = 4

cdef Exchange *exchange = NULL
cdef object plain_types, empty_like, num_threads_of_torch, increment_version  # PyTorch's
cdef object is_grad_enabled, forward_ad, unwrap_if_dead
cdef object transforms_active, dispatch_modes, is_traced
cdef object scratch, least_word, end_word  # of the draws
cdef object new_rule, apply_eager, apply_eager_add

cdef tuple no_operands = (None, None)  # bias, residual


def register_torch(torch, draws):
    """Register PyTorch, and what `draw_word` draws with."""
    global exchange, plain_types, empty_like, num_threads_of_torch, increment_version
    global is_grad_enabled, forward_ad, unwrap_if_dead
    global transforms_active, dispatch_modes, is_traced, scratch, least_word, end_word
    exchange = <Exchange *>PyCapsule_GetPointer(torch.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    if exchange.major != 1:
        found = f"{exchange.major}.{exchange.minor}"
        raise ImportError(f"fastdrop.torch needs a PyTorch with version 1 of DLPack; this one has {found}")
    plain_types, empty_like = frozenset({torch.Tensor, torch.nn.Parameter}), torch.empty_like
    num_threads_of_torch, increment_version = torch.get_num_threads, torch.autograd.graph.increment_version
    is_grad_enabled, forward_ad = torch.is_grad_enabled, torch.autograd.forward_ad
    unwrap_if_dead = torch._C._functorch.unwrap_if_dead
    transforms_active, dispatch_modes = torch._C._are_functorch_transforms_active, torch._C._len_torch_dispatch_stack
    is_traced = torch._C._is_tracing  # by torch.jit.trace, which records operators, and not what a kernel writes to memory
    scratch, least_word, end_word = draws


def register_functions(rule, apply, apply_add):
    """Register what makes a rule of a tuple, and the Functions that note what backward and forward mode need."""
    global new_rule, apply_eager, apply_eager_add
    new_rule, apply_eager, apply_eager_add = rule, apply, apply_add


cdef int dtype_of(const Described *at) noexcept:
    """Return the number of a dtype, or -1 for a dtype other than the four."""
    if at.lanes != 1 or at.kind != KIND_FLOAT:
        return native.FD_BFLOAT16 if at.lanes == 1 and at.kind == KIND_BFLOAT and at.bits == 16 else -1
    if at.bits == 32:
        return native.FD_FLOAT32
    if at.bits == 64:
        return native.FD_FLOAT64
    return native.FD_FLOAT16 if at.bits == 16 else -1


cdef int64_t size_in_c_order(const Described *at) noexcept:
    """Return the number of elements, or -1 if they do not lie in C order without gaps."""
    cdef int64_t n = 1
    cdef int k
    for k in range(at.ndim - 1, -1, -1):
        if at.shape[k] != 1:
            if at.strides[k] != n:
                return -1
            n *= at.shape[k]
    return n


cdef bint describe(x, Described *at) except -1:
    """Describe a dense tensor of PyTorch's class on the CPU, in no transform or trace; return whether x is one."""
    if type(x) not in plain_types or transforms_active() or dispatch_modes() or is_traced():
        return False
    try:
        exchange.describe(x, at)
    except RuntimeError:  # a sparse or nested tensor, or one on a device that DLPack does not know
        return False
    return at.device == DEVICE_CPU


cdef bint lacks_memory(x, const Described *at) except -1:
    """Return whether a tensor has elements and no memory for them.

    A storage without memory is at address 0, so the address of a view is that of its offset. A tensor that outlived its
    transform stands for another tensor, and has that one's memory.
    """
    cdef int k
    if <uintptr_t>at.data >> 40 or <uintptr_t>at.data != <uintptr_t>(x.storage_offset() * (at.bits // 8)):
        return False
    for k in range(at.ndim):
        if at.shape[k] == 0:
            return False
    return unwrap_if_dead(x) is x


cpdef bint is_plain(x) except -1:
    """Return whether a kernel may use a tensor's memory."""
    cdef Described at
    if not describe(x, &at) or dtype_of(&at) < 0 or at.ndim > native.FD_MAX_DIMS:
        return False
    return not (x.is_neg() or lacks_memory(x, &at))


cpdef bint lacks_storage(x) except -1:
    """Return whether the storage of a tensor was resized to 0. The memory of a zero tensor exists once it is needed."""
    cdef Described at
    return describe(x, &at) and lacks_memory(x, &at) and not x._is_zerotensor()


cpdef object draw_word(generator=None):
    """Draw 64 bits from a generator, by default PyTorch's own."""
    word, unsigned = scratch.both
    if generator is None:
        word.random_(least_word, end_word)
    else:
        word.random_(least_word, end_word, generator=generator)
    return unsigned.item()


cpdef object drop_memory(x, out, rule, more):
    """Write ``residual + dropout(x + bias)`` to `out`, which may be x. All are plain tensors; `more` is (bias, residual)."""
    cdef bint is_new = out is not x, is_contiguous, are_contiguous
    cdef Described from_, to
    cdef Addresses at
    cdef native.fd_key key
    cdef Settings settings = effective()
    cdef int64_t n, row
    exchange.describe(x, &from_)
    exchange.describe(out, &to)
    n = size_in_c_order(&from_)
    is_contiguous = n >= 0  # then so is `out`
    dtype, threads = dtype_of(&from_), num_threads_of_torch()
    bias, residual = more
    p, seed, offset, factors, place = <tuple>rule
    if bias is not None:
        bias = bias.contiguous()  # held until the kernels have read it
    at.bias, at.residual = 0 if bias is None else bias.data_ptr(), 0 if residual is None else residual.data_ptr()
    are_contiguous = is_contiguous and (residual is None or residual.is_contiguous())
    if are_contiguous and place is None and not factors:
        at.x, at.y = <uintptr_t>from_.data, <uintptr_t>to.data
        if is_flat(settings, &at, n, dtype) and native.is_rate(p):
            key.seed, key.offset = word(seed, "seed"), word(offset, "offset")
            row = from_.shape[from_.ndim - 1] if from_.ndim else 1
            drop_flat(settings, &at, n, row, dtype, p, &key, threads, is_new)
            return out
    shared_axes, global_shape, global_start = place or ((), None, None)
    steps = None
    if not are_contiguous:
        steps = (x.stride(), out.stride()) if residual is None else (x.stride(), out.stride(), residual.stride())
    drop(
        x.data_ptr(),
        out.data_ptr(),
        x.shape,
        steps,
        dtype,
        p,
        seed,
        offset,
        threads,
        factors,
        is_new,
        bias=at.bias,
        residual=at.residual,
        shared_axes=tuple(shared_axes),
        global_shape=global_shape,
        global_start=global_start,
    )
    return out


cdef bint needs_grad(operand) except -1:
    return operand is not None and operand.requires_grad


cpdef object eager_plain(x, rule, bint in_place, more):
    """Return ``residual + dropout(x + bias)`` of plain tensors, and note what backward and forward mode need."""
    bias, residual = more
    cdef bint has_operands = not (bias is None and residual is None)
    if forward_ad._current_level >= 0 or (is_grad_enabled() and (needs_grad(x) or needs_grad(bias) or needs_grad(residual))):
        return apply_eager_add(x, rule, bias, residual) if has_operands else apply_eager(x, rule, in_place)
    if has_operands:
        return drop_memory(x, empty_like(x), rule, more)
    if not in_place:
        return drop_memory(x, empty_like(x), rule, no_operands)
    drop_memory(x, x, rule, no_operands)
    if not x.is_inference():
        increment_version(x)
    return x


cdef bint fits(operand, x, shape) except -1:
    """Return whether an operand is missing, or is a plain tensor of the dtype of x and of the shape."""
    return operand is None or (is_plain(operand) and operand.dtype is x.dtype and operand.shape == shape)


def drop_usual(x, p, training, in_place, tuple more=no_operands):
    """Return ``residual + dropout(x + bias)`` of plain tensors, with a new key.

    For other calls, return None before a key is drawn. `more` is (bias, residual).
    """
    if training is not True or in_place is not False or not PyFloat_CheckExact(p) or not is_plain(x):
        return None
    if not (native.is_rate(p) and p > 0):
        return None
    if more is not no_operands and not (fits(more[0], x, x.shape[-1:]) and fits(more[1], x, x.shape)):
        return None
    x = unwrap_if_dead(x)  # a tensor that outlived its transform has no memory of its own
    return eager_plain(x, new_rule((p, draw_word(), 0, (), None)), False, more)
