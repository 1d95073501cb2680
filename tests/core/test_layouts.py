"""Memory layouts: the mask follows the logical index, and only the output is written."""

import itertools

import numpy as np
import pytest
from comparisons import assert_same_bytes

import fastdrop
from fastdrop import theory
from fastdrop.verify.cases import DTYPES, GUARD, LINE, THREADED_SIZE, awkward, equal_bytes, zoo

KEY = {"seed": 31, "offset": 32}
NAMES = list(zoo("float32"))


def guards(shape, dtype, before=0):
    """Return an array with all bytes GUARD that begins `before` bytes after the start of a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + LINE + before, GUARD, np.uint8)
    begin = -memory.__array_interface__["data"][0] % LINE + before
    return memory[begin : begin + size].view(dtype).reshape(shape)


def every_other(shape, dtype):
    """Return a view of every other element along the first and the last axis."""
    ends = {0, len(shape) - 1}
    wide = guards([2 * n + 1 if axis in ends else n for axis, n in enumerate(shape)], dtype)
    return wide[(..., *(slice(1, None, 2) if axis in ends else slice(None) for axis in range(len(shape))))]


def reversed_axes(shape, dtype):
    return guards(shape, dtype)[(..., *[slice(None, None, -1)] * len(shape))]


def field(shape, dtype):
    return guards(shape, [("before", np.int8), ("value", dtype), ("after", np.int16)])["value"]


OUTPUTS = {
    "C": guards,
    "Fortran": lambda shape, dtype: guards(shape[::-1], dtype).T,
    "every other": every_other,
    "reversed": reversed_axes,
    "a structure's field": field,
    "misaligned": lambda shape, dtype: guards(shape, dtype, before=1),
}


def memory_of(array):
    """Return the bytes of the base array of a view."""
    while array.base is not None:
        array = array.base
    return array.view(np.uint8)


def contiguous(x, p=0.4, **more):
    """Return the result for the C-ordered copy of an array."""
    return fastdrop.dropout(np.array(x, order="C", subok=False), p, **KEY, **more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_inputs(engine, name, dtype):
    x = zoo(dtype)[name]
    before = x.copy()
    y = fastdrop.dropout(x, 0.4, **KEY)
    assert equal_bytes(y, contiguous(x))
    assert type(y) is np.ndarray
    assert y.strides == np.empty_like(x).strides
    assert y.flags.writeable
    assert not np.shares_memory(x, y)
    assert equal_bytes(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_outputs(engine, name, output, dtype):
    """The whole output is written, and nothing beside it or between its elements."""
    x = zoo(dtype)[name]
    y = contiguous(x)
    out = OUTPUTS[output](x.shape, dtype)
    memory = memory_of(out)
    before = memory.copy()
    assert fastdrop.dropout(x, 0.4, out=out, **KEY) is out
    assert equal_bytes(out, y)
    out[np.isnan(y)] = 0  # payloads are not guaranteed
    after = memory.copy()
    memory[...] = before
    out[...] = np.where(np.isnan(y), y.dtype.type(0), y)
    assert np.array_equal(after, memory)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_in_place(engine, output, dtype):
    for shape in ((), (0, 3), (5,), (70, 3, 40)):
        x = OUTPUTS[output](shape, dtype)
        x[...] = awkward(x.size, dtype).reshape(shape)
        y = contiguous(x)
        assert fastdrop.dropout(x, 0.4, out=x, **KEY) is x
        assert equal_bytes(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_arrays_with_strides(engine, dtype):
    """The array is large enough for several threads, and each thread finds its own place in it."""
    rows, columns = 331, THREADED_SIZE // 331 + 2
    x = awkward(2 * rows * columns, dtype).reshape(columns, 2 * rows)[:, ::-2].T
    for output in OUTPUTS:
        out = OUTPUTS[output](x.shape, dtype)
        assert equal_bytes(fastdrop.dropout(x, 0.4, out=out, **KEY), contiguous(x)), output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(2, 9001), (9001, 2), (3, 700, 5), (5, 3, 700), (700, 70, 3), (17, 300), (300, 17), (2, 3, 2, 900)]
)
def test_short_axes_in_any_order(engine, dtype, shape):
    """No block misses or repeats an element, even if the fast axis or the last axis is short."""
    values = awkward(int(np.prod(shape)), dtype)
    for order in itertools.permutations(range(len(shape))):
        x = values.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
        assert x.shape == shape
        wide = np.zeros((*[shape[axis] for axis in order], 2), dtype)
        out = wide[..., 1].transpose(np.argsort(order))
        y = contiguous(x)
        assert equal_bytes(fastdrop.dropout(x, 0.4, **KEY), y)
        assert equal_bytes(fastdrop.dropout(x, 0.4, out=out, **KEY), y)
        assert not wide[..., 0].any()
        rates = np.linspace(0, 1, x.size).reshape(shape[::-1]).T
        assert equal_bytes(fastdrop.dropout(x, rates, mode="standard", **KEY), contiguous(x, rates, mode="standard"))


@pytest.mark.parametrize("name", NAMES)
def test_masks_have_the_logical_index(engine, name):
    x = np.ones_like(zoo("float32")[name])
    mask = fastdrop.dropout_mask(x.shape, 0.4, **KEY)
    assert mask.dtype == bool
    assert mask.shape == x.shape
    assert np.array_equal(mask, fastdrop.dropout(x, 0.4, **KEY) != 0)


def test_shapes(engine):
    u = fastdrop.uniform((3, 4, 5), seed=1)
    assert u.flags.c_contiguous
    assert np.array_equal(u.ravel(), fastdrop.uniform(60, seed=1))
    assert fastdrop.uniform((), seed=1).shape == ()
    assert fastdrop.uniform([2, 0], seed=1).shape == (2, 0)
    assert fastdrop.dropout_mask(np.int64(5), seed=1).shape == (5,)
    assert fastdrop.dropout_mask((), seed=1).shape == ()
    assert fastdrop.dropout_mask((3, 3), seed=1, packed=True).shape == (2,)
    assert fastdrop.dropout_mask((3, 0), seed=1, packed=True).shape == (0,)
    assert fastdrop.words(0, seed=1).shape == (0,)


# Array-likes other than ndarray --------------------------------------------------------------------------------------


def test_lists_and_numbers(engine):
    y = fastdrop.dropout([[1.0, 2.0], [3.0, 4.0]], 0.4, **KEY)
    assert equal_bytes(y, contiguous(np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert fastdrop.dropout(2.0, 0.0, seed=1) == np.float64(2)
    assert fastdrop.dropout(np.float32(2), 0.0, seed=1).dtype == np.float32


class Tagged(np.ndarray):
    def __array_finalize__(self, parent):
        self.tag = getattr(parent, "tag", "none")


def test_axes_that_can_be_merged_in_one_array_only(engine):
    """The last two axes of the input lie in memory as one, and the first two axes of the result."""
    x = awkward(4 * 3 * 400, "float32").reshape(4, 3, 400)[::2]
    memory = np.zeros((400, 6), np.float32)
    out = memory.T.reshape(2, 3, 400)
    assert np.shares_memory(out, memory)
    fastdrop.dropout(x, 0.4, out=out, **KEY)
    assert equal_bytes(np.ascontiguousarray(out), contiguous(x))


def test_subclasses_come_back(engine):
    x = zoo("float32")["sliced"]
    tagged = x.view(Tagged)
    tagged.tag = "kept"
    y = fastdrop.dropout(tagged, 0.4, **KEY)
    assert type(y) is Tagged
    assert y.tag == "kept"
    assert equal_bytes(np.asarray(y), contiguous(x))
    out = np.empty(x.shape, np.float32)
    assert fastdrop.dropout(tagged, 0.4, out=out, **KEY) is out


class Wrapping(np.ndarray):
    def __array_wrap__(self, y, context=None, return_scalar=False):
        y = y.view(Wrapping)
        y.wraps = getattr(self, "wraps", 0) + 1
        return y


def test_subclasses_wrap_results(engine):
    """As after a function of NumPy: once per result, and not if `out` is given."""
    x = np.ones(50, np.float32).view(Wrapping)
    y = fastdrop.dropout(x, 0.4, **KEY)
    assert y.wraps == 1
    assert fastdrop.gaussian_dropout(y, 0.4, **KEY).wraps == 2
    assert not hasattr(fastdrop.dropout(x, 0.4, out=np.empty_like(x), **KEY), "wraps")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # NumPy's warning about its matrix class
def test_matrix(engine):
    x = np.matrix(awkward(35, "float64").reshape(5, 7))
    y = fastdrop.dropout(x, 0.4, **KEY)
    assert type(y) is np.matrix
    assert equal_bytes(np.asarray(y), contiguous(x))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_no_product_of_matrices_outside_training():
    """NumPy's matrix class takes * as the product of matrices."""
    x, previous, p = (fastdrop.uniform((3, 3), seed=seed, dtype=np.float64) for seed in (1, 2, 3))
    y = fastdrop.zoneout(np.matrix(x), np.matrix(previous), p, training=False)
    assert equal_bytes(np.asarray(y), fastdrop.zoneout(x, previous, p, training=False))


def test_masked_arrays_stay_masked(engine):
    values = awkward(50, "float64")
    x = np.ma.masked_invalid(values)
    y = fastdrop.dropout(x, 0.4, **KEY)
    assert type(y) is np.ma.MaskedArray
    assert np.array_equal(y.mask, x.mask)
    assert equal_bytes(np.asarray(y), contiguous(values))
    y[0] = np.ma.masked
    assert np.array_equal(x.mask, ~np.isfinite(values))  # its own mask, not the input's


class Aloof(np.ndarray):
    """An array for which no NumPy function is defined."""

    def __array_function__(self, function, types, arguments, keywords):
        return NotImplemented


def test_a_class_without_numpys_functions():
    x, out = np.ones(6).view(Aloof), np.zeros(6).view(Aloof)
    for change in (fastdrop.dropout, fastdrop.gaussian_dropout):
        assert change(x, 0.5, training=False, out=out) is out
        assert list(out) == [1.0] * 6
        out[...] = 0
    y = fastdrop.adaptive_dropout(x, np.zeros(6), mode="standard", training=False)
    assert list(y) == [0.5] * 6


def test_memory_maps(engine, tmp_path):
    x = awkward(10_000, "float32").reshape(100, 100)
    np.save(tmp_path / "x.npy", x)
    read = np.load(tmp_path / "x.npy", mmap_mode="r")
    written = np.lib.format.open_memmap(tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=x.shape)
    assert type(fastdrop.dropout(read, 0.4, **KEY)) is type(np.positive(read))
    assert fastdrop.dropout(read, 0.4, out=written, **KEY) is written
    written.flush()
    assert equal_bytes(np.load(tmp_path / "y.npy"), contiguous(x))


# Overlap: the result is as if there was none, as in NumPy's ufuncs ---------------------------------------------------


def result_beside_ufuncs(memory, views):
    """Write dropout's result in place, and the result without overlap through the same views; return both memories."""
    ours, theirs = memory.copy(), memory.copy()
    x, out = views(ours)
    assert fastdrop.dropout(x, 0.4, out=out, **KEY) is out
    x, out = views(theirs)
    np.positive(contiguous(x), out=out)
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-9000, -4096, -129, -16, -1, 1, 2, 31, 128, 5000])
def test_shifted_outputs(engine, dtype, shift):
    memory = awkward(20_000, dtype)
    n = memory.size - abs(shift)
    x_begin, out_begin = max(-shift, 0), max(shift, 0)
    assert equal_bytes(*result_beside_ufuncs(memory, lambda m: (m[x_begin : x_begin + n], m[out_begin : out_begin + n])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_overlaps(engine, dtype):
    memory = awkward(120 * 120, dtype).reshape(120, 120)
    views = {
        "transposed": lambda m: (m, m.T),
        "reversed": lambda m: (m, m[::-1, ::-1]),
        "next row": lambda m: (m[:-1], m[1:]),
        "next column": lambda m: (m[:, :-1], m[:, 1:]),
        "interleaved": lambda m: (m[:, ::2], m[:, 1::2]),
        "a row over all": lambda m: (np.broadcast_to(m[5], m.shape), m),
    }
    for name, pair in views.items():
        assert equal_bytes(*result_beside_ufuncs(memory, pair)), name


def strided(a, shape, *steps):
    """Return a writable view with these steps, in elements."""
    return np.lib.stride_tricks.as_strided(a, shape, [step * a.itemsize for step in steps])


@pytest.mark.parametrize(
    "views",
    [
        lambda m: strided(m, (3, 4), 0, 1),
        lambda m: np.lib.stride_tricks.sliding_window_view(m, 4, writeable=True),
        lambda m: strided(m[20:], (3, 4), -1, 1),
        lambda m: strided(m, (3, 1, 5), 7, 7, 0)[::-1],
        lambda m: np.lib.stride_tricks.as_strided(m, (3,), (2,)),
    ],
    ids=["broadcast", "windows", "reversed windows", "broadcast among other steps", "half an element further"],
)
@pytest.mark.parametrize(
    "write",
    [
        lambda x, out: fastdrop.dropout(x, 0.4, out=out, **KEY),
        lambda x, out: fastdrop.dropout(out, 0.4, out=out, **KEY),
        lambda x, out: fastdrop.dropout(x, 0.0, out=out, **KEY),
        lambda x, out: fastdrop.dropout(x, 0.4, training=False, out=out),
        lambda x, out: fastdrop.dropout_backward(x, 0.4, out=out, **KEY),
        lambda x, out: fastdrop.normal(x.shape, dtype=x.dtype, out=out, **KEY),
        lambda x, out: fastdrop.elementary.exp(x, out=out),
    ],
    ids=["dropout", "in place", "p = 0", "evaluation", "backward", "normal", "exp"],
)
def test_output_whose_elements_share_memory_is_refused(views, write):
    """No result could hold there. Where the strides do not show it at once, the result is as in NumPy's ufuncs: see below."""
    memory = np.arange(50, dtype=np.float32)
    out = views(memory)
    stream = fastdrop.Stream(5)
    with pytest.raises(
        ValueError, match=r"out must have memory of its own for each element; with the strides .* some share it"
    ):
        write(np.ones(out.shape, out.dtype), out)
    with pytest.raises(ValueError, match="memory of its own"):
        fastdrop.dropout(np.ones(out.shape, out.dtype), seed=stream, out=out)
    assert (memory == np.arange(50)).all()
    assert stream.offset == 0


@pytest.mark.parametrize("packed", [False, True])
def test_mask_whose_elements_share_memory_is_refused(engine, packed):
    out = strided(np.zeros(9, np.uint8 if packed else bool), (9,), 0)
    with pytest.raises(ValueError, match="memory of its own"):
        fastdrop.dropout_mask(9 * 8 if packed else 9, 0.4, packed=packed, out=out, **KEY)


def test_output_whose_strides_only_look_as_if_elements_shared_memory(engine):
    for shape, steps in {((3, 2), (2, 3)), ((1, 6), (0, 2)), ((6, 1), (1, 0)), ((0, 4), (0, 0))}:
        x = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        out = strided(np.zeros(20, np.float32), shape, *steps)
        assert np.array_equal(fastdrop.dropout(x, 0.4, out=out, **KEY), fastdrop.dropout(x, 0.4, **KEY))


SHARED = ((2000, 4), 2, 3)  # element (3, 0) is element (0, 2)
PLACES = 2 * np.arange(2000)[:, np.newaxis] + 3 * np.arange(4)


def test_output_that_overlaps_itself(engine):
    """If several values share a place, the result is one of them; which one is not guaranteed."""
    memory = np.zeros(5003, np.float32)
    out = strided(memory, *SHARED)
    x = 1 + np.arange(out.size, dtype=np.float32).reshape(out.shape)
    y = fastdrop.dropout(x, 0.4, **KEY)
    fastdrop.dropout(x, 0.4, out=out, **KEY)
    found = np.zeros(memory.size, bool)
    found[PLACES[y == memory[PLACES]]] = True
    assert found[PLACES].all()


def test_in_place_on_an_array_that_overlaps_itself(engine):
    """Everything is read before anything is written, so each result is the old value scaled once, or 0."""
    memory = np.arange(1, 5004, dtype=np.float64)
    x = strided(memory, *SHARED)
    scaled, kept = memory / 0.5, fastdrop.dropout_mask(x.shape, 0.5, **KEY)
    fastdrop.dropout(x, 0.5, out=x, **KEY)
    seen = np.unique(PLACES)
    assert ((memory[seen] == scaled[seen]) | (memory[seen] == 0)).all()
    assert memory[0] == scaled[0] * kept[0, 0]  # a place that nothing else shares
    assert memory[seen].any()


def test_byte_swapped_arrays_are_refused(engine):
    x = np.ones(5, np.dtype(np.float32).newbyteorder())
    with pytest.raises(TypeError, match=r"x must have this machine's byte order; got dtype .* converts it"):
        fastdrop.dropout(x, seed=1)
    with pytest.raises(TypeError, match="out must have the dtype of the input"):
        fastdrop.dropout(np.ones(5, np.float32), seed=1, out=x)


# Operands beside x ----------------------------------------------------------------------------------------------------


def misaligned(a):
    return np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)


def byte_swapped(a):
    return a.astype(a.dtype.newbyteorder())


OPERANDS = {
    "scores": (lambda a: theory.keep_probabilities(a, 0.3), "f4 f8", (misaligned, byte_swapped)),
    "scores along an axis": (lambda a: theory.keep_probabilities(a.T, 0.3, axis=0), "f4 f8", (misaligned, byte_swapped)),
    "importance": (lambda a: fastdrop.importance_dropout(np.ones((3, 5)), a, 0.3, seed=1), "f4 f8", (misaligned, byte_swapped)),
    "rates": (lambda a: fastdrop.dropout(np.ones((3, 5)), a, seed=1), "f4 f8", (misaligned, byte_swapped)),
    "probabilities": (
        lambda a: fastdrop.multinomial_dropout(np.ones((3, 5)), 6, probabilities=a[0], seed=1),
        "f4 f8",
        (misaligned, byte_swapped),
    ),
    "weights": (lambda a: fastdrop.targeted_dropout(a, 0.5, seed=1), "f4 f8", (misaligned,)),
    "tokens": (
        lambda a: fastdrop.embedding_dropout(np.ones((3, 5, 2)), 0.5, tokens=a, num_embeddings=9, seed=1),
        "i4 i8",
        (misaligned, byte_swapped),
    ),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_operands(name):
    """A misaligned array fails under UndefinedBehaviorSanitizer and on some processors, if it is not copied."""
    call, dtypes, layouts = OPERANDS[name]
    for dtype in dtypes.split():
        a = (np.arange(15).reshape(3, 5) / (16 if dtype[0] == "f" else 2)).astype(dtype)
        for layout in layouts:
            assert not layout(a).flags.aligned or not layout(a).dtype.isnative
            assert_same_bytes(call(layout(a)), call(a))


@pytest.mark.parametrize("n", [4096, 4097, 9001])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_repeated_mask(n, p):
    """A mask that the first axis repeats has the bits of one row, also if there are too many of them for a tile."""
    x = np.arange(1.0, 3 * n + 1, dtype=np.float32).reshape(3, n)
    row = fastdrop.dropout_mask((n,), p, **KEY, start=77)
    for threads in (1, 3):
        found = fastdrop.dropout(x, p, **KEY, shared_axes=0, start=77, mode="standard", num_threads=threads)
        assert_same_bytes(found, np.where(row, x, np.float32(0)))
