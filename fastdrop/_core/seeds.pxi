# Seeds: what a caller may give as one, and the key (seed, offset) that a call draws from it.

cdef object key_type = None     # fastdrop.Key and fastdrop.Stream, which are in Python
cdef object stream_type = None

SEEDS = ("an integer in [0, 2**64), a fastdrop.Key, a fastdrop.Stream, a numpy.random.SeedSequence, a numpy.random.Generator or a "
         "numpy.random.BitGenerator")


def register_seed_types(key, stream):
    """Take the classes `Key` and `Stream`."""
    global key_type, stream_type
    key_type, stream_type = key, stream


cdef bint has_state(seed):
    """Whether each draw from a seed gives another key."""
    return isinstance(seed, (stream_type, np.random.Generator, np.random.BitGenerator))


cdef int check_seed(seed, offset, int use) except -1:
    """Raise unless `seed` and `offset` are what this use takes. Nothing is drawn."""
    cdef uint64_t number = word(offset, "offset")
    if PyLong_CheckExact(seed):
        word(seed, "seed")
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
                if isinstance(seed, stream_type) else
                f"seed must be the key of the forward pass; a {type(seed).__name__} would draw another one. Draw it once: "
                "key = fastdrop.Key(generator); then y = dropout(x, p, seed=key) and dx = dropout_backward(grad, p, seed=key)")
        if number and isinstance(seed, stream_type):
            raise ValueError(f"offset comes from the stream when seed is one; got offset {number} beside {seed!r}")
        return 0
    if isinstance(seed, key_type):
        if number:
            raise ValueError(f"offset comes from the key when seed is one; got offset {number} beside {seed!r}")
        return 0
    if isinstance(seed, np.random.SeedSequence):
        return 0
    try:
        word(seed, "seed")
    except TypeError:
        raise TypeError(f"seed must be {SEEDS}; got {seed!r} ({type(seed).__name__})") from None
    return 0


cdef int draw_key(seed, offset, native.fd_key *out) except -1:
    """The key of a call whose seed and offset have been checked. It may draw: so it comes after every check and allocation."""
    out.offset = word(offset, "offset")
    if PyLong_CheckExact(seed):
        out.seed = word(seed, "seed")
        return 0
    if isinstance(seed, stream_type):
        seed = seed.next()
    if isinstance(seed, key_type):
        out.seed, out.offset = word(seed[0], "seed"), word(seed[1], "offset")
        return 0
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        seed = seed.generate_state(1, np.uint64)[0]
    elif isinstance(seed, np.random.BitGenerator):
        seed = np.random.Generator(seed).integers(0, 2**64, dtype=np.uint64)
    elif isinstance(seed, np.random.Generator):
        seed = seed.integers(0, 2**64, dtype=np.uint64)
    out.seed = word(seed, "seed")
    return 0


def find_key(seed, offset):
    """Return the (seed, offset) that a call with these arguments would use, after the checks of a forward pass."""
    cdef native.fd_key found
    check_seed(seed, offset, FORWARD)
    draw_key(seed, offset, &found)
    return found.seed, found.offset


def fold_in(seed, data):
    """A derived key."""
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
