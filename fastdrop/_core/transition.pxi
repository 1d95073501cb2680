# What variants that are not calls yet use.

def key_of(seed, offset, bint required=False):
    cdef native.fd_key found
    check_seed(seed, offset, REPEATED if required else FORWARD)
    draw_key(seed, offset, &found)
    return found.seed, found.offset


def geometry_of(noise_shape, shared_axes, global_shape, global_start):
    if noise_shape is None and shared_axes is None and global_shape is None and global_start is None:
        return None
    return noise_shape, shared_axes, global_shape, global_start


cdef Call old_call(seed, offset, training, out, start, backend, num_threads, backward, geometry):
    geometry = geometry or (None, None, None, None)
    return Call(seed, offset, bool(training), out, start, geometry[2], geometry[3], backend, num_threads, backward)


def dropout(
    x, p, seed, offset, training, mode, out, start, backend, num_threads, bint backward=False, geometry=None, bias=None,
    residual=None, factor=None,
):
    call = old_call(seed, offset, training, out, start, backend, num_threads, backward, geometry)
    geometry = geometry or (None, None, None, None)
    return call.drop(x, p, geometry[1], noise_shape=geometry[0], mode=mode, bias=bias, residual=residual, factor=factor)


def transform(
    x, p, seed, offset, op, factors, other, out, start, backend, num_threads, geometry=None, str name="x",
    str other_name="other",
):
    call = old_call(seed, offset, True, out, start, backend, num_threads, False, geometry)
    axes = None if geometry is None else geometry[1]
    if op == "affine":
        return call.affine(x, p, factors, axes)
    return call.select(x, p, other, axes, names=(name, other_name))


def old_mask(shape, p, seed, offset, bint packed, start, backend, num_threads, geometry=None):
    call = old_call(seed, offset, True, None, start, backend, num_threads, False, geometry)
    geometry = geometry or (None, None, None, None)
    return dropout_mask(shape, p, call, geometry[0], geometry[1], packed)


def check(x, p, seed, offset, out, backend, num_threads, other=None, str name="x", str other_name="other"):
    cdef Work work = Work.__new__(Work)
    work.x = x
    work.dtype = kind_of(work.x, name)
    set_rate(work, p, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
    settings_of(backend, num_threads)
    check_seed(seed, offset, BACKWARD if name == "grad" else FORWARD)
    if other is not None:
        operand(other, work.x, (<object>work.x).shape, other_name)
    if out is not None:
        check_out(out, work.x)
