# A call of a variant: its source of randomness, its result, its engine. Every variant uses this file, so all have one order:
# check everything, allocate the result, draw the key, then write.

@cython.freelist(8)
cdef class Call:
    """The keywords that every variant has. A method checks them when it gets an array.

    Parameters
    ----------
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `fastdrop.dropout`.
    backward : bool
        Whether this is a backward pass, which regenerates a mask: then messages call the array ``grad``, and a seed with a
        state is refused.
    """

    def __cinit__(
        self, seed=None, offset=0, training=True, out=None, start=0, global_shape=None, global_start=None, backend=None,
        num_threads=None, bint backward=False
    ):
        self.seed, self.offset, self.training, self.out, self.start = seed, offset, training, out, start
        self.global_shape, self.global_start = read_once(global_shape, "global_shape"), read_once(global_start, "global_start")
        self.backend, self.num_threads, self.use = backend, num_threads, BACKWARD if backward else FORWARD

    @property
    def is_training(self):
        """Whether elements are dropped."""
        return is_true(self.training, "training")

    def drop(
        self, x, p, shared_axes=None, *, noise_shape=None, mode="inverted", bias=None, residual=None, factor=None,
        tuple groups=None, str name=None
    ):
        """Return `dropout` of x. `factor` is the factor of kept elements in training, for functions without a mode.

        `groups` is (group_size, axes) of neighbours that share a decision.
        """
        cdef Work work = begin(self, x, name or self.array_name())
        work.factor, work.groups = factor, groups
        return finish_dropping(self, work, x, p, noise_shape, shared_axes, mode, bias, residual)

    def affine(self, x, p, factors, shared_axes=None, *, noise_shape=None, bint signed=False, str name=None):
        """Return keep ? x * scale + shift : fill, with factors = (scale, shift, fill). For training only.

        If `signed`, shift gets the sign of x and fill gets the opposite sign: keep ? x * scale + sgn(x) shift : -sgn(x) fill. 0
        and NaN have no sign: keep ? x * scale : 0.
        """
        cdef Work work = begin(self, x, name or self.array_name())
        work.op = native.FD_SIGNED if signed else native.FD_AFFINE
        set_factors(work, factors)
        return finish_masked(self, work, p, noise_shape, shared_axes)

    def gate(self, x, logits, gain, shift, *, mode="inverted", bint antithetic=False):
        """Return keep ? x * scale : 0, each element kept with the probability P = sigmoid(gain * logits + shift).

        P is 0 if the sum is NaN. `scale` is 1 / P in inverted mode, else 1. `antithetic` uses 1 - U instead of U. For training
        only.
        """
        cdef Work work = gated(self, x, logits, gain, shift)
        work.gate.antithetic = antithetic
        work.op = native.FD_WITH_RATES if parse_mode(mode) == INVERTED else native.FD_SCALE
        work.scale = 1.0
        return finish(self, work)

    def gate_backward(self, grad, logits, gain, shift, str estimator, *, mode="inverted", x=None, losses=None):
        """Return an estimate of the gradient of `gate` with respect to its logits, in the compute type.

        fastdrop.h has the formulas. `losses` are of the compute type and broadcast to the elements.
        """
        cdef Work work = gated(self, grad, logits, gain, shift)
        cdef tuple shape = true_shape(work.x)
        work.other = None if x is None else operand(x, work.x, shape, "x")
        work.bias = None if losses is None else spread_to(losses, shape)
        if losses is not None and work.bias is None:  # the array may have given another shape before
            raise ValueError(f"losses must broadcast to the shape {shape} of grad; got {true_shape(losses)}")
        work.op, work.scale = ESTIMATORS.index(estimator), parse_mode(mode) == INVERTED
        check_seed(self.seed, self.offset, self.use)
        work.y = np.empty(shape, compute_type(work.dtype))
        draw_key(self.seed, self.offset, &work.key)
        perform_gate_backward(work)
        return work.y

    def select(self, x, p, other, shared_axes=None, *, noise_shape=None, names=("x", "other")):
        """Return keep ? x : other. For training only."""
        cdef Work work = begin(self, x, names[0])
        work.op = native.FD_SELECT
        work.other = operand(other, work.x, true_shape(work.x), names[1])
        return finish_masked(self, work, p, noise_shape, shared_axes)

    def rest(self, x, p):
        """Return keep ? 0 : x, what `drop` leaves out. For training only."""
        cdef Work work = begin(self, x, self.array_name())
        cdef np.ndarray given = work.x
        work.op, work.other = native.FD_SELECT, given
        work.x = spread_to(np.zeros((), given.descr), true_shape(given))
        set_rate(work, p, np.PyArray_NDIM(given), np.PyArray_DIMS(given))
        place_mask(work, self, np.PyArray_NDIM(given), np.PyArray_DIMS(given), None, None)
        return finish(self, work, given)

    def drop_decisions(self, x, p, Decisions mask not None, per=None):
        """Return x after a mask of decisions with probability p. For training only.

        Kept elements are multiplied by the mask's size / its number of kept elements, counted `per` "batch" or "sample" (the
        mask's first axis must be x's first); by default they are not scaled.
        """
        cdef Work work = decide(self, x, mask, p, self.array_name(), mask.samples if per == "sample" else 1)
        cdef np.ndarray given = work.x, y = work.y
        if per is not None and mask.size:
            set_counted_scale(work, mask)
        perform(work)
        return wrapped(given, y, self.out)

    def drop_classes(self, x, p, Decisions mask not None, np.ndarray classes not None, int64_t n, bint per_sample):
        """Return `dropout` of x, whose parts, one per decision of a mask, belong to n classes. For training only.

        The parts of one class share a decision, in each sample or in all. `classes` are checked int64 numbers in C order.
        """
        cdef Work work = decide_classes(self, x, mask, p, classes, n, per_sample, self.array_name())
        cdef np.ndarray given = work.x, y = work.y
        perform(work)
        return wrapped(given, y, self.out)

    def divide_rows(self, x, p, Decisions mask not None):
        """Return keep ? x / (sum of the row's kept elements + 1e-8) : 0, with a mask of decisions. For training only."""
        cdef Work work = decide(self, x, mask, p, self.array_name())
        cdef np.ndarray given = work.x, y = work.y
        divide_rows(work, False)
        return wrapped(given, y, self.out)

    def divide_rows_backward(self, grad, p, Decisions mask not None, x, bint through_sum):
        """Return the gradient of `divide_rows` with respect to x."""
        cdef Work work = begin(self, grad, self.array_name())
        cdef np.ndarray values = operand(x, work.x, true_shape(work.x), "x"), given, y
        work = decide(self, grad, mask, p, self.array_name())
        work.other = values
        given, y = work.x, work.y
        divide_rows(work, not through_sum)
        return wrapped(given, y, self.out)

    def fill_keys(self, x, p, Decisions mask not None, fill, bint keeps_empty_rows):
        """Return keep ? x : fill, where rows without a kept element may keep all. For training only."""
        cdef Work work = decide(self, x, mask, p, self.array_name())
        cdef np.ndarray given = work.x, y = work.y
        cdef int64_t keys = mask.sizes[mask.ndim - 1]
        if keeps_empty_rows and mask.size:
            native.keep_empty_rows(<uint64_t *>np.PyArray_DATA(work.packed), mask.size // keys, keys)
        work.shift, work.fill = -0.0, round_to_compute(fill, work.dtype)
        work.op = native.FD_AFFINE if bits_of(work.fill) else native.FD_SCALE
        perform(work)
        return wrapped(given, y, self.out)

    def unchanged(self, x, str name=None, tuple shared_axes=None, /, *, bint draws_numbers=False, **others):
        """Return x itself, the result of most variants outside training, after the checks of a call in training.

        `shared_axes` are those of the mask, or of the random numbers if a call in training draws numbers, and `others` are
        operands, of the shape and the dtype of x.
        """
        cdef Work work = begin(self, x, name or self.array_name())
        if draws_numbers:
            place_numbers(work, self, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x), shared_axes)
        else:
            place_mask(work, self, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x), None, shared_axes)
        for called, other in others.items():
            operand(other, work.x, true_shape(work.x), called)
        check_seed(self.seed, self.offset, self.use)
        if self.out is None:
            return x if isinstance(x, np.ndarray) else work.x
        return copy_to_out(self, work)

    def mask(self, shape, p, noise_shape=None, shared_axes=None, packed=False):
        """Return keep flags, or packed keep bits; outside training all elements are kept."""
        return make_mask(self, shape, p, noise_shape, shared_axes, is_true(packed, "packed"))

    def check_place(self, shape, shared_axes=None):
        """Raise an error unless the mask of an array of this shape is inside the larger array and inside the stream."""
        cdef np.npy_intp dims[native.FD_MAX_DIMS]
        cdef tuple sizes = as_shape(shape)
        cdef int k
        for k in range(len(sizes)):
            dims[k] = sizes[k]
        place_mask(Work.__new__(Work), self, len(sizes), dims, None, shared_axes)

    def arrays(self, x, /, *, str name=None, shape=None, p=None, placed=None, **others):
        """Return a `Pass` over x and other arrays of its shape and dtype, for a variant that computes in several steps.

        `shape` is the shape of the result, by default x's. `p` is a rate, and `placed` is the shape of the block of a larger
        array: both are only checked. An operand may be None.
        """
        cdef Work work = begin(self, x, name or self.array_name())
        cdef list operands = []
        for called, other in others.items():
            operands.append(None if other is None else np.asarray(operand(other, work.x, true_shape(work.x), called)))
        if p is not None:
            set_rate(work, p, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
        if self.out is not None and shape is None:
            check_out(self.out, work.x)
        elif self.out is not None:
            check_result(self.out, work.x.descr, as_shape(shape))
        check_seed(self.seed, self.offset, self.use)
        if placed is None:
            first_index(self.start, 0, ELEMENTS_END, "elements")
        else:
            check_place(self, as_shape(placed))
        return Pass(self, work.x, tuple(operands), work.settings, shape)

    cdef Call step(self):
        """Return a call in training with the seed, the place and the settings of this one, and without an `out`."""
        cdef Call call = Call.__new__(Call)
        call.seed, call.offset, call.use, call.start = self.seed, self.offset, self.use, self.start
        call.global_shape, call.global_start = self.global_shape, self.global_start
        call.backend, call.num_threads = self.backend, self.num_threads
        return call

    cpdef str array_name(self):
        """Return what messages call the array."""
        return "grad" if self.use == BACKWARD else "x"


cdef int check_place(Call call, tuple shape) except -1:
    """Raise an error unless an array of this shape fits at the call's place in a larger array."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int k
    for k in range(len(shape)):
        dims[k] = shape[k]
    return place_elements(Work.__new__(Work), call, len(shape), dims, ELEMENTS_END, "elements")


cdef Work begin(Call call, x, str name):
    """Return the checked array and engine of a call."""
    cdef Work work = Work.__new__(Work)
    work.x = to_array(x, name)
    if not (runs_no_code(call.offset) and runs_no_code(call.start) and runs_no_code(call.num_threads)
            and runs_no_code(call.global_shape) and runs_no_code(call.global_start) and is_quiet_seed(call.seed)):
        shield(work)
    work.dtype = kind_of(work.x, name)
    work.settings = settings_of(call.backend, call.num_threads)
    return work


cdef bint runs_no_code(value):
    """Return whether the conversion of an argument runs none of the caller's code."""
    return (value is None or PyLong_CheckExact(value) or PyFloat_CheckExact(value) or PyUnicode_CheckExact(value)
            or type(value) is np.ndarray and np.PyArray_TYPE(value) != np.NPY_OBJECT)


cdef bint is_quiet_seed(seed):
    """Return whether the conversion of a seed runs none of the caller's code."""
    if type(seed) is key_type:
        return are_integers(<tuple>seed)  # `_replace` checks nothing
    return runs_no_code(seed) or isinstance(seed, Counter)


cdef bint has_plain_axes(axes):
    """Return whether axes are an integer or a tuple of integers, whose conversion runs none of the caller's code."""
    return are_integers(<tuple>axes) if PyTuple_CheckExact(axes) else PyLong_CheckExact(axes)


cdef bint are_integers(tuple values) noexcept:
    for value in values:
        if not PyLong_CheckExact(value):
            return False
    return True


cdef object read_once(sizes, str name):
    """Return the sizes of a place as a tuple, because several steps of a call read them; None stays None."""
    return sizes if sizes is None or PyTuple_CheckExact(sizes) and has_plain_axes(sizes) else as_sizes(sizes, name)


cdef int shield(Work work) except -1:
    """Replace x by a view of it: the caller's code may change the shape and the dtype of x itself, but not those of a view."""
    work.x = np.ndarray.view(work.x)
    return 0


cdef Work gated(Call call, x, logits, gain, shift):
    """Return a call whose keep probabilities come from logits."""
    cdef Work work = begin(call, x, call.array_name())
    work.is_gated, work.rates = True, operand(logits, work.x, true_shape(work.x), "logits")
    work.gate.gain, work.gate.shift = round_to_compute(gain, work.dtype), round_to_compute(shift, work.dtype)
    work.gate.antithetic = False
    place_mask(work, call, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x), None, None)
    return work


cdef object finish(Call call, Work work, np.ndarray like=None):
    """Allocate the result, which is like x by default, draw the key, run. Every pass over elements ends with these steps."""
    cdef np.ndarray x = work.x if like is None else like, y
    if call.out is not None:
        check_out(call.out, x)
    check_seed(call.seed, call.offset, call.use)
    work.y_is_new = call.out is None
    y = new_like(x) if call.out is None else call.out
    work.y = y
    draw_key(call.seed, call.offset, &work.key)
    perform(work)
    return wrapped(x, y, call.out)


cdef object finish_masked(Call call, Work work, p, noise_shape, shared_axes):
    """Set the rate and the place of the mask, then finish."""
    if not (runs_no_code(p) and runs_no_code(noise_shape) and (shared_axes is None or has_plain_axes(shared_axes))):
        shield(work)
    set_rate(work, p, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
    place_mask(work, call, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x), noise_shape, shared_axes)
    return finish(call, work)


cdef object finish_dropping(Call call, Work work, x, p, noise_shape, shared_axes, mode, bias, residual):
    """Drop and scale. Forward and backward are the same: the mask is regenerated from (seed, offset)."""
    cdef int scaling
    if not (runs_no_code(p) and runs_no_code(noise_shape) and runs_no_code(mode) and runs_no_code(bias)
            and runs_no_code(residual) and (shared_axes is None or has_plain_axes(shared_axes))):
        shield(work)
    scaling = parse_mode(mode)
    set_rate(work, p, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x))
    place_mask(work, call, np.PyArray_NDIM(work.x), np.PyArray_DIMS(work.x), noise_shape, shared_axes)
    work.op = native.FD_SCALE
    if bias is not None:
        work.bias = operand(bias, work.x, true_shape(work.x)[-1:], "bias")
        work.op |= native.FD_WITH_BIAS
    if residual is not None:
        work.other = operand(residual, work.x, true_shape(work.x), "residual")
        work.op |= native.FD_WITH_RESIDUAL
    if not is_true(call.training, "training"):
        return without_dropping(call, work, x, scaling)
    if work.factor is not None:
        work.scale = round_to_compute(work.factor, work.dtype)
    elif scaling != INVERTED:
        work.scale = 1.0
    elif work.rates is None:
        work.scale = native.inverted_scale(work.rate, work.dtype)
    else:
        work.op |= native.FD_WITH_RATES
    return finish(call, work)


cdef object without_dropping(Call call, Work work, x, int scaling):
    """Return the result outside training: x itself; in standard mode x (1 - p), which is 0 for p = 1 even if x is infinite."""
    if call.out is not None:
        check_out(call.out, work.x)
    check_seed(call.seed, call.offset, call.use)
    if scaling != STANDARD and work.op == native.FD_SCALE:
        if call.out is None:
            return x if isinstance(x, np.ndarray) else work.x
        return copy_to_out(call, work)
    cdef np.ndarray given = work.x
    work.y_is_new = call.out is None
    cdef np.ndarray y = new_like(given) if call.out is None else call.out
    work.y = y
    if scaling == STANDARD and work.rates is not None:
        scale_by_keep_rates(work)
    else:
        work.scale = native.standard_scale(work.rate, work.dtype) if scaling == STANDARD else 1.0
        work.rate = work.rate == 1.0 if scaling == STANDARD else 0.0
        work.rates = None
        work.key.seed = work.key.offset = 0
        perform(work)
    return wrapped(given, y, call.out)


cdef object copy_to_out(Call call, Work work):
    """Write x to the call's `out`, and return it."""
    check_out(call.out, work.x)  # after the seed's checks, which may run code of the caller
    np.PyArray_CopyInto(call.out, work.x)
    return call.out


cdef int scale_by_keep_rates(Work work) except -1:
    """Write (x + bias) (1 - p) + residual, with one p per element. There is no mask, and NumPy rounds as the kernels do."""
    cdef native.Environment found
    type = compute_type(work.dtype)
    quiet = begin_in_python(&found)
    try:
        value = np.asarray(work.x).astype(type)  # not a subclass, which may have its own product
        if work.bias is not None:
            value += work.bias.astype(type)
        value *= (1.0 - work.rates.astype(np.float64)).astype(type)
        value[work.rates == 1] = 0
        if work.other is not None:
            value = work.other.astype(type) + value
        np.asarray(work.y)[...] = value
    finally:
        end_in_python(quiet, &found)
    return 0


# Scaling ------------------------------------------------------------------------------------------------------------

cdef enum:
    INVERTED  # kept values times 1 / (1 - p) in training
    STANDARD  # kept values unscaled in training, all values times 1 - p outside training
    UNSCALED  # values unscaled, in training and outside training


cdef int parse_mode(mode) except -1:
    if isinstance(mode, str):  # an array would be compared element by element
        if mode == "inverted":
            return INVERTED
        if mode == "standard":
            return STANDARD
        if mode == "unscaled":
            return UNSCALED
    raise ValueError(f"mode must be 'inverted', 'standard' or 'unscaled'; got {mode!r}")


cdef bint is_true(value, str name) except -1:
    """Return a flag. Only a bool is accepted, because other values such as "no" may have an unexpected truth value."""
    if value is True:
        return True
    if value is False:
        return False
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False; got {value!r} ({type(value).__name__})")


@cython.binding(True)
def check_flag(value, str name):
    """Return a flag as a bool, or raise an error that names it."""
    return is_true(value, name)


def check_mode(mode, allowed=("inverted", "standard")):
    """Return the scaling convention, or raise an error that names the allowed ones."""
    if not is_one_of(mode, allowed):
        raise ValueError(f"mode must be {' or '.join(map(repr, allowed))}; got {mode!r}")
    return mode


# Results ------------------------------------------------------------------------------------------------------------

cdef np.ndarray new_like(np.ndarray x):
    """Return a new array. A subclass makes its own, so that a masked array's mask or an attribute is kept."""
    cdef np.ndarray y = PyArray_NewLikeArray(x, np.NPY_KEEPORDER, NULL, 1)
    if not np.PyArray_SAMESHAPE(y, x) or np.PyArray_TYPE(y) != np.PyArray_TYPE(x):
        raise ValueError(f"the class {type(x).__name__} must make a new array with the shape and dtype of the given one")
    return y


cdef object wrapped(np.ndarray x, np.ndarray y, object out):
    """Return the result y; without an `out`, in x's subclass."""
    return (<object>x).__array_wrap__(y) if out is None and not np.PyArray_CheckExact(x) else y


cdef int set_factors(Work work, factors) except -1:
    """Set the factors (scale, shift, fill) of an affine operation."""
    scale, shift, fill = factors
    work.scale = round_to_compute(scale, work.dtype)
    work.shift = round_to_compute(shift, work.dtype)
    work.fill = round_to_compute(fill, work.dtype)
    return 0


cdef double round_to_compute(value, int dtype) except? -1.0:
    """Return a factor, rounded once to the compute type."""
    cdef double number
    cdef native.Environment found
    if PyFloat_CheckExact(value):
        number = value
        return NAN if number != number else native.rounded_factor(number, dtype)
    try:
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError  # float() would parse it
        check_scalar(value)
        native.environment_begin(&found)
        try:
            number = float(value)
        finally:
            native.environment_end(&found)
    except TypeError:
        raise TypeError(f"scale must be a number; got {value!r} ({type(value).__name__})") from None
    except (OverflowError, ValueError):  # float takes no signaling NaN
        raise ValueError(f"scale must be in the range of float64; got {value!r}") from None
    return NAN if number != number else native.rounded_factor(number, dtype)  # one payload for all NaNs
