# Seeds: the kinds that a caller may give, and the key (seed, offset) that a call draws from each.

cdef object key_type = None  # fastdrop.Key, which is in Python
cdef object urandom = os.urandom  # asked at each draw: numbers kept in memory would be the same after a fork
cdef object BitGenerator = np.random.BitGenerator, Generator = np.random.Generator, SeedSequence = np.random.SeedSequence

SEEDS = (
    "an integer in [0, 2**64), a fastdrop.Key, a fastdrop.Stream, a numpy.random.SeedSequence, a numpy.random.Generator or a "
    "numpy.random.BitGenerator"
)


def register_key_type(type):
    """Register the class `Key`, which is defined in Python."""
    global key_type
    key_type = type


cdef class Counter:
    """A seed, and the offset of the next draw under it: the base class of `Stream`.

    Several threads may draw at once.
    """

    def __init__(self, seed=None, offset=0):
        cdef native.fd_key found
        check_seed(seed, offset, FORWARD)
        draw_key(seed, offset, &found)
        self.number, self.following, self.is_used_up = found.seed, found.offset, False

    cdef int draw(self, native.fd_key *out) except -1:
        with cython.critical_section(self):
            self.check_left()
            out.seed, out.offset = self.number, self.following
            self.following += 1
            self.is_used_up = self.following == 0
        return 0

    @cython.binding(True)
    def next(self):
        """Return the key of one draw, and advance the offset by one.

        Raises
        ------
        OverflowError
            All 2**64 offsets are used up.
        """
        cdef native.fd_key found
        self.draw(&found)
        return tuple.__new__(key_type, (found.seed, found.offset))

    @cython.binding(True)
    def key(self):
        """Return the key of the next draw, without drawing it.

        Raises
        ------
        OverflowError
            All 2**64 offsets are used up.
        """
        cdef uint64_t offset
        with cython.critical_section(self):
            self.check_left()
            offset = self.following
        return tuple.__new__(key_type, (self.number, offset))

    cdef int check_left(self) except -1:
        if self.is_used_up:
            raise OverflowError("the stream has used all of its 2**64 offsets; continue with a child of it: spawn(1)")
        return 0

    @cython.binding(True)
    def use_up(self):
        """Set the offset to 2**64, past the last."""
        self.following, self.is_used_up = 0, True

    @property
    def seed(self):
        """The seed; it never changes."""
        return self.number

    @property
    def offset(self):
        """The offset of the next draw; 2**64 once all are used up."""
        return 2**64 if self.is_used_up else self.following


cdef bint has_state(seed):
    """Return whether each draw from a seed gives another key."""
    return isinstance(seed, Counter) or isinstance(seed, Generator) or isinstance(seed, BitGenerator)


cdef int check_seed(seed, offset, int use) except -1:
    """Raise an error unless this use accepts `seed` and `offset`. No key is drawn."""
    cdef uint64_t number = word(offset, "offset")
    if PyLong_CheckExact(seed):
        word(seed, "seed")
        return 0
    if type(seed) is key_type and not number:
        return 0
    if seed is None:
        if use == FORWARD:
            return 0
        raise TypeError(
            "seed is required here: pass the key that the forward pass used, or an integer" if use == BACKWARD
            else "seed is required here: an integer, a Key or a Stream; fastdrop.Key() is a fresh one")
    if has_state(seed):
        if use == BACKWARD:
            raise TypeError(
                f"seed must be the key of the forward pass; a {type(seed).__name__} would draw another one. Draw it once: "
                "key = stream.next(); then y = dropout(x, p, seed=key) and dx = dropout_backward(grad, p, seed=key)"
                if isinstance(seed, Counter) else
                f"seed must be the key of the forward pass; a {type(seed).__name__} would draw another one. Draw it once: "
                "key = fastdrop.Key(generator); then y = dropout(x, p, seed=key) and dx = dropout_backward(grad, p, seed=key)")
        if number and isinstance(seed, Counter):
            raise ValueError(f"offset must not be given with a stream, which has one; got offset {number} and seed {seed!r}")
        return 0
    if isinstance(seed, tuple) and isinstance(seed, key_type):
        if number:
            raise ValueError(f"offset must not be given with a key, which has one; got offset {number} and seed {seed!r}")
        return 0
    if isinstance(seed, SeedSequence):
        return 0
    try:
        word(seed, "seed")
    except TypeError:
        raise TypeError(f"seed must be {SEEDS}; got {seed!r} ({type(seed).__name__}){way_to_seed(seed)}") from None
    return 0


cdef str way_to_seed(value):
    """Return the end of a message: how to make a seed of a name or of several integers."""
    if isinstance(value, str):
        return "; fastdrop.fold_in(0, name) makes a seed of a name"
    if isinstance(value, (tuple, list)):
        return ("; fastdrop.Key(seed, offset) makes a key of two integers, and numpy.random.SeedSequence(integers) a seed of "
                "any number of them")
    return ""


cdef int draw_key(seed, offset, native.fd_key *out) except -1:
    """Draw the key of a call after its checks. This may advance a stream, so allocate the result before."""
    cdef bytes fresh
    out.offset = word(offset, "offset")
    if PyLong_CheckExact(seed):
        out.seed = word(seed, "seed")
        return 0
    if type(seed) is not key_type and isinstance(seed, Counter):
        return (<Counter>seed).draw(out)
    if isinstance(seed, tuple) and isinstance(seed, key_type):  # an object may only claim to be a key
        out.seed, out.offset = word((<tuple>seed)[0], "seed"), word((<tuple>seed)[1], "offset")
        return 0
    if seed is None:
        fresh = urandom(sizeof(out.seed))
        memcpy(&out.seed, <const char *>fresh, sizeof(out.seed))
        return 0
    if isinstance(seed, SeedSequence):
        seed = seed.generate_state(1, np.uint64)[0]
    elif isinstance(seed, BitGenerator):
        seed = Generator(seed).integers(0, 2**64, dtype=np.uint64)
    elif isinstance(seed, Generator):
        seed = seed.integers(0, 2**64, dtype=np.uint64)
    out.seed = word(seed, "seed")
    return 0


@cython.binding(True)
def find_key(seed, offset):
    """Return the (seed, offset) that a call with these arguments would use, after the checks of a forward pass."""
    cdef native.fd_key found
    check_seed(seed, offset, FORWARD)
    draw_key(seed, offset, &found)
    return found.seed, found.offset


def fold_in(seed, data):
    """Return a derived seed."""
    cdef Settings settings = effective()
    cdef uint64_t parent = word(seed, "seed"), number
    if isinstance(data, str):
        number = int.from_bytes(hashlib.sha256(data.encode()).digest()[:8], "little")
    else:
        try:
            number = word(data, "data")
        except TypeError:
            raise TypeError(
                f"data must be an integer in [0, 2**64) or a string; got {data!r} ({type(data).__name__})") from None
    if settings.module is None:
        return native.fold_in(settings.kernels, parent, number)
    return settings.module.fold_in(parent, number)
