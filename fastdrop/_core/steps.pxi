# A call that computes in several steps: the calls of the steps have one key.

cdef class Pass:
    """The checked arrays of one call, its result, and its key: for variants that compute in several steps.

    Inside its context, the call's backend and threads are in force, floating point rounds to nearest with subnormals on, and
    NumPy's warnings are off. The result is allocated at construction, and the key is drawn when the context is entered.

    Attributes
    ----------
    x : numpy.ndarray
        The array, in its own subclass.
    others : tuple of numpy.ndarray or None
        The other arrays, in the order of `Call.arrays`.
    y : numpy.ndarray
        The result: the caller's `out`, or a new array.
    compute : type
        The compute type: numpy.float32 or numpy.float64.
    key : tuple of int
        The (seed, offset), once the context is entered.
    """

    def __cinit__(self, Call call, np.ndarray x, tuple others, Settings settings, shape):
        self.call, self.x, self.others = call, x, others
        self.settings = merged(settings, settings)  # a copy, because `__exit__` may have to change it
        self.compute = float64 if np.PyArray_TYPE(x) == np.NPY_FLOAT64 else float32
        if call.out is not None:
            self.y = call.out
        else:
            self.y = new_like(x) if shape is None else np.empty(shape, x.descr)

    def __enter__(self):
        cdef native.fd_key found
        self.before = override.get()
        self.errors = begin_in_python(&self.float_state)
        try:
            self.token = override.set(self.settings)
            if is_true(self.call.training, "training"):
                draw_key(self.call.seed, self.call.offset, &found)
            else:
                found.seed = found.offset = 0
            self.key = found.seed, found.offset
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        try:
            end_in_python(self.errors, &self.float_state)
        finally:
            try:
                if self.token is not None:
                    override.reset(self.token)
            finally:
                if override.get() is self.settings:  # memory ran out: there is no token, or the reset failed
                    self.settings.become(self.before)

    def mask(self, shape, p, shared_axes=None, *, bint packed=False, bint is_global=True):
        """Return keep flags of a shape, or packed keep bits, with this call's key and, if `is_global`, at its place."""
        cdef Call call = self.own_call(is_global)
        return make_mask(call, shape, p, None, shared_axes, packed)

    def drop(self, x, p, shared_axes=None, *, mode="inverted", factor=None, out=None, bint is_global=True):
        """Return `dropout` of another array with this call's key, always as in training."""
        return self.own_call(is_global, out).drop(x, p, shared_axes, mode=mode, factor=factor)

    def apply(self, mask, scale=1.0, x=None, out=None, fill=0.0):
        """Return keep ? x * scale : fill. By default `x` is the call's array and `out` the call's result."""
        return use_mask(self.x if x is None else x, mask, scale, self.y if out is None else out, None, None, fill)

    def store(self, values):
        """Store values in the result, rounded once to its dtype, and return it."""
        np.asarray(self.y)[...] = values
        return self.result()

    def result(self):
        """Return the result; without an `out`, it has the array's subclass."""
        return wrapped(self.x, self.y, self.call.out)

    def own_call(self, bint is_global=True, out=None):
        """Return a call with this key and the settings in force and, if `is_global`, at this place in a larger array."""
        cdef Call call = self.call.step() if is_global else Call.__new__(Call)
        call.out, call.backend, call.num_threads = out, None, None  # the settings are in force
        call.seed, call.offset = self.key
        return call
