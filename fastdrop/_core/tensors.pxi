# Eager calls on PyTorch's tensors, compiled because a small call takes most of its time to ask the tensors what they are.
# Nothing here imports PyTorch: `fastdrop.torch` registers what is needed of it.

cdef dict number_of_dtype = {}
cdef object plain_types, strided, empty_like, num_threads_of_torch, increment_version  # PyTorch's
cdef object is_grad_enabled, forward_ad, unwrap_if_dead
cdef object transforms_active, dispatch_modes, is_traced
cdef object scratch, least_word, end_word  # of the draws
cdef object new_rule, apply_eager, apply_eager_add

cdef tuple no_operands = (None, None)  # bias, residual


def register_torch(torch, dtypes, draws):
    """Register PyTorch, the numbers of its dtypes, and what `draw_word` draws with."""
    global plain_types, strided, empty_like, num_threads_of_torch, increment_version
    global is_grad_enabled, forward_ad, unwrap_if_dead
    global transforms_active, dispatch_modes, is_traced, scratch, least_word, end_word
    number_of_dtype.update(dtypes)
    plain_types, strided, empty_like = frozenset({torch.Tensor, torch.nn.Parameter}), torch.strided, torch.empty_like
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


cpdef bint is_plain(x) except -1:
    """Return whether a tensor's memory is there to be worked on, with nothing between it and the caller."""
    return (
        type(x) in plain_types
        and x.dtype in number_of_dtype
        and x.is_cpu
        and x.layout is strided
        and not (x.is_nested or x.is_neg() or transforms_active() or dispatch_modes() or is_traced())
    )


cpdef object draw_word(generator=None):
    """Draw 64 bits from a generator, by default PyTorch's own."""
    word, unsigned = scratch.both
    if generator is None:
        word.random_(least_word, end_word)
    else:
        word.random_(least_word, end_word, generator=generator)
    return unsigned.item()


cpdef object drop_memory(x, out, rule, more):
    """Write ``residual + dropout(x + bias)`` to `out`, which may be x: plain tensors, of which `more` has (bias, residual)."""
    cdef bint is_new = out is not x, is_contiguous = x.is_contiguous()  # then so is `out`
    cdef int dtype = number_of_dtype[x.dtype], threads = num_threads_of_torch()
    cdef Addresses at
    bias, residual = more
    p, seed, offset, factors, place = <tuple>rule
    if is_contiguous and bias is None and residual is None and place is None and not factors:
        at.x, at.y, at.bias, at.residual = x.data_ptr(), out.data_ptr(), 0, 0
        if drop_flat(&at, x.numel(), dtype, <tuple>rule, threads, is_new):
            return out
    shared_axes, global_shape, global_start = place or ((), None, None)
    steps = None
    if not (is_contiguous and (residual is None or residual.is_contiguous())):
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
        bias=0 if bias is None else bias.contiguous().data_ptr(),
        residual=0 if residual is None else residual.data_ptr(),
        shared_axes=tuple(shared_axes),
        global_shape=global_shape,
        global_start=global_start,
    )
    return out


cpdef object eager_plain(x, rule, bint in_place, more):
    """Return ``residual + dropout(x + bias)`` of plain tensors, and note what backward and forward mode need."""
    cdef bint has_tangents = forward_ad._current_level >= 0
    cdef bint is_noted = has_tangents or is_grad_enabled()
    bias, residual = more
    if not (bias is None and residual is None):
        return apply_eager_add(x, rule, bias, residual) if is_noted else drop_memory(x, empty_like(x), rule, more)
    if is_noted and (has_tangents or x.requires_grad):
        return apply_eager(x, rule, in_place)
    if not in_place:
        return drop_memory(x, empty_like(x), rule, no_operands)
    drop_memory(x, x, rule, no_operands)
    if not x.is_inference():
        increment_version(x)
    return x


def drop_usual(x, p, training, in_place):
    """Return ``dropout(x)`` of a plain tensor, with a key that is drawn; None, before anything is drawn, for other calls."""
    if training is not True or in_place is not False or not PyFloat_CheckExact(p) or not is_plain(x):
        return None
    if not (native.is_rate(p) and p > 0):
        return None
    x = unwrap_if_dead(x)  # a tensor that outlived its transform has no memory of its own
    return eager_plain(x, new_rule((p, draw_word(), 0, (), None)), False, no_operands)
