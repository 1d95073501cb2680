# Tokens that are chosen by the order of random words, gathered to a smaller array or scattered to a larger one.

cdef struct Ranked:
    uint64_t key
    int64_t token


cdef int compare_ranked(const void *a, const void *b) noexcept nogil:
    """Compare by key, then by token."""
    cdef const Ranked *first = <const Ranked *>a
    cdef const Ranked *second = <const Ranked *>b
    if first.key != second.key:
        return -1 if first.key < second.key else 1
    return -1 if first.token < second.token else first.token > second.token


cdef int compare_tokens(const void *a, const void *b) noexcept nogil:
    cdef int64_t first = (<const int64_t *>a)[0], second = (<const int64_t *>b)[0]
    return -1 if first < second else first > second


cdef struct Tokens:
    # The choice: `kept` of the `free` tokens after the `prefix` of each sample.
    int64_t samples, prefix, free, kept
    bint all, ordered


cdef Tokens tokens_of(int64_t samples, int64_t prefix, tuple counts):
    """Return the choice for `counts`: the free tokens, the kept ones, whether all are kept, whether they stay in order."""
    cdef Tokens of
    of.samples, of.prefix = samples, prefix
    of.free, of.kept, of.all, of.ordered = counts
    return of


def choose_tokens(Call call not None, int64_t samples, tuple counts not None):
    """Return the kept tokens of each sample: those with the smallest 64-bit words, in that order or in their own.

    `counts` are those of `tokens_of`. If all tokens are kept, they stay in their order.
    """
    cdef Tokens of = tokens_of(samples, 0, counts)
    return chosen(&of, call)


cdef np.ndarray chosen(const Tokens *of, Call call):
    cdef np.npy_intp dims[2]
    cdef int64_t i
    cdef np.ndarray made, random, ranked
    cdef native.fd_key key
    cdef Settings settings = settings_of(call.backend, call.num_threads)
    dims[0], dims[1] = of.samples, of.kept
    made = np.PyArray_EMPTY(2, dims, np.NPY_INT64, 0)
    cdef int64_t *to = <int64_t *>np.PyArray_DATA(made)
    if of.all:
        draw_key(call.seed, call.offset, &key)
        for i in range(of.samples * of.kept):
            to[i] = i % of.kept
        return made
    if of.samples and of.free > WORDS_END // 2 // <uint64_t>of.samples:
        raise OverflowError(f"stream 1 has 2**50 words, two per token; {of.samples} samples of {of.free} tokens need more")
    random, ranked = room(2 * of.samples * of.free, np.NPY_UINT32), room(2 * of.free if of.samples else 0, np.NPY_UINT64)
    draw_key(call.seed, call.offset, &key)
    fill_words(settings, key, 0, random)
    rank_tokens(of, random, ranked, made)
    return made


def tokens_by_words(np.ndarray random not None, int64_t samples, int64_t free, int64_t kept, bint ordered):
    """Return the kept tokens of each sample. `random` has the two halves of each token's word, the low one first."""
    cdef Tokens of = Tokens(samples, 0, free, kept, False, ordered)
    cdef np.ndarray made = room(samples * kept, np.NPY_INT64)
    rank_tokens(&of, random, room(2 * free, np.NPY_UINT64), made)
    return made.reshape(samples, kept)


cdef int rank_tokens(const Tokens *of, np.ndarray random, np.ndarray ranked, np.ndarray made) except -1:
    cdef int64_t *to = <int64_t *>np.PyArray_DATA(made)
    cdef int64_t sample, i
    cdef const uint32_t *word = <const uint32_t *>np.PyArray_DATA(random)
    cdef Ranked *rank = <Ranked *>np.PyArray_DATA(ranked)
    cdef PyThreadState *state = released(of.samples * of.free)
    for sample in range(of.samples):
        for i in range(of.free):
            rank[i].key, rank[i].token = word[0] | <uint64_t>word[1] << 32, i
            word += 2
        qsort(rank, of.free, sizeof(Ranked), &compare_ranked)
        for i in range(of.kept):
            to[i] = rank[i].token
        if of.ordered:
            qsort(to, of.kept, sizeof(int64_t), &compare_tokens)
        to += of.kept
    regain(state)
    return 0


def move_tokens(Call call not None, x, int64_t prefix, tuple counts not None, *, bint scatter=False):
    """Gather the prefix and the kept tokens of each sample. Return them, and the numbers of the kept tokens after the prefix.

    `counts` are those of `tokens_of`. If `scatter`, x has the gathered tokens, and the result has them in their places and +0
    elsewhere.
    """
    cdef Work work = begin(call, x, call.array_name())
    cdef np.ndarray given = work.x, y, plain, made, tokens
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int k
    cdef Tokens of = tokens_of(0, prefix, counts)
    cdef int64_t expected = prefix + (of.kept if scatter else of.free)
    if np.PyArray_NDIM(given) < 2 or np.PyArray_DIM(given, 1) != expected:  # it may have given another shape before
        raise ValueError(f"{call.array_name()} must have {expected} tokens; got an array of shape {true_shape(given)}")
    of.samples = np.PyArray_DIM(given, 0)
    for k in range(np.PyArray_NDIM(given)):
        dims[k] = np.PyArray_DIM(given, k)
    dims[1] = prefix + (of.free if scatter else of.kept)
    if call.out is not None:
        check_out(call.out, spread(new_array(0, NULL, given.descr), np.PyArray_NDIM(given), dims), "result")
    check_seed(call.seed, call.offset, call.use)
    y = new_array(np.PyArray_NDIM(given), dims, given.descr) if call.out is None else call.out
    made = y if is_plain(y) else new_array(np.PyArray_NDIM(given), dims, given.descr)
    plain = given
    if not is_plain(given) or may_overlap(given, made):
        plain = np.array(given, order="C", subok=False)
    tokens = chosen(&of, call)
    copy_tokens(&of, plain, made, tokens, scatter)
    if made is not y:
        np.copyto(y, made)
    return wrapped(given, y, call.out), tokens


cdef int copy_tokens(const Tokens *of, np.ndarray x, np.ndarray y, np.ndarray tokens, bint scatter) except -1:
    """Copy the prefix and the chosen tokens of each sample between arrays in C order."""
    cdef const int64_t *token = <const int64_t *>np.PyArray_DATA(tokens)
    cdef int64_t all = of.prefix + of.free, some = of.prefix + of.kept, sample, i
    cdef size_t size = np.PyArray_NBYTES(x) // max(of.samples * (some if scatter else all), 1)
    cdef char *to = <char *>np.PyArray_DATA(y)
    cdef const char *source = <const char *>np.PyArray_DATA(x)
    cdef PyThreadState *state = released(np.PyArray_SIZE(x))
    if scatter:
        memset(to, 0, np.PyArray_NBYTES(y))
    for sample in range(of.samples):
        memcpy(to, source, of.prefix * size)
        for i in range(of.kept):
            if scatter:
                memcpy(to + (of.prefix + token[i]) * size, source + (of.prefix + i) * size, size)
            else:
                memcpy(to + (of.prefix + i) * size, source + (of.prefix + token[i]) * size, size)
        to += (all if scatter else some) * size
        source += (some if scatter else all) * size
        token += of.kept
    regain(state)
    return 0
