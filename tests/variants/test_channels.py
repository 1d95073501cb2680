"""Masks that share decisions, each against its definition: which unit an element belongs to, and the unit's own number."""

import functools
import itertools
import math
import warnings

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from oracle import keep
from scipy import stats

import fastdrop
from fastdrop.verify.cases import THREADED_SIZE

SEED, OFFSET = 2**40 + 3, 2**33 + 1
KEY = {"seed": SEED, "offset": OFFSET}
LEAST = 1e-6  # p-value; the seeds are fixed
DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]


def blocks(shape, sizes):
    """Return what tells an element's group: the number of the cell of a grid that has a cell a group."""
    grid = [math.ceil(n / size) for n, size in zip(shape, sizes, strict=True)]
    return lambda i: sum(k // size * math.prod(grid[axis + 1 :]) for axis, (k, size) in enumerate(zip(i, sizes, strict=True)))


# name: (function, its keywords, a shape, the index of the unit that decides about element i)
VARIANTS = {
    "1d": ("dropout1d", {}, (3, 4, 5), lambda i: 4 * i[0] + i[1]),
    "1d, one sample": ("dropout1d", {}, (4, 5), lambda i: i[0]),
    "2d": ("dropout2d", {}, (3, 4, 2, 5), lambda i: 4 * i[0] + i[1]),
    "2d, sequences": ("dropout2d", {}, (3, 4, 5), lambda i: 4 * i[0] + i[1]),
    "3d": ("dropout3d", {}, (3, 4, 2, 2, 3), lambda i: 4 * i[0] + i[1]),
    "3d, one sample": ("dropout3d", {}, (4, 2, 2, 3), lambda i: i[0]),
    "channels last": ("spatial_dropout", {"data_format": "channels_last"}, (2, 3, 3, 4), lambda i: 4 * i[0] + i[3]),
    "channels last, volumes": ("spatial_dropout", {"data_format": "channels_last"}, (2, 3, 2, 2, 4), lambda i: 4 * i[0] + i[4]),
    "channels last, sequences": ("spatial_dropout", {"data_format": "channels_last"}, (2, 5, 4), lambda i: 4 * i[0] + i[2]),
    "channels only": ("spatial_dropout", {}, (5, 4), lambda i: 4 * i[0] + i[1]),
    "channels first": ("spatial_dropout", {}, (2, 4, 3, 3), lambda i: 4 * i[0] + i[1]),
    "channels first, sequences": ("spatial_dropout", {"data_format": "channels_first"}, (2, 4, 5), lambda i: 4 * i[0] + i[1]),
    "locked": ("locked_dropout", {}, (5, 3, 4), lambda i: 4 * i[1] + i[2]),
    "locked, samples first": ("locked_dropout", {"shared_axes": 1}, (3, 5, 4), lambda i: 4 * i[0] + i[2]),
    "locked, time last": ("locked_dropout", {"shared_axes": -1}, (3, 4, 5), lambda i: 4 * i[0] + i[1]),
    "locked, two axes": ("locked_dropout", {"shared_axes": (0, -1)}, (3, 4, 5), lambda i: i[1]),
    "locked, one sequence": ("locked_dropout", {}, (5, 40), lambda i: i[1]),
    "pairs": ("group_dropout", {"group_size": 2}, (50,), blocks((50,), (2,))),
    "pairs and one": ("group_dropout", {"group_size": 2}, (51,), blocks((51,), (2,))),
    "rows' triples": ("group_dropout", {"group_size": 3}, (4, 11), blocks((4, 11), (1, 3))),
    "squares": ("group_dropout", {"group_size": 2, "axes": (0, 1)}, (8, 6), blocks((8, 6), (2, 2))),
    "uneven rectangles": ("group_dropout", {"group_size": (2, 3), "axes": (0, 1)}, (5, 7), blocks((5, 7), (2, 3))),
    "other order": ("group_dropout", {"group_size": (3, 2), "axes": (-1, 0)}, (5, 4, 7), blocks((5, 4, 7), (2, 1, 3))),
    "three axes": ("group_dropout", {"group_size": 2, "axes": (0, 1, 2)}, (5, 3, 7), blocks((5, 3, 7), (2, 2, 2))),
    "wider than the axis": ("group_dropout", {"group_size": (2, 9), "axes": (1, 2)}, (5, 4, 7), blocks((5, 4, 7), (1, 2, 9))),
    "one to a group": ("group_dropout", {"group_size": 1}, (5, 7), blocks((5, 7), (1, 1))),
}
KINDS = {function: name for name, (function, *_) in reversed(VARIANTS.items())}  # a variant of each function


def values(shape, dtype, low=-3.0):
    """Return values that 1 / (1 - p) times must be rounded, with some that are awkward."""
    x = np.linspace(low, 3, math.prod(shape)).astype(dtype)
    x[::7] = np.inf
    x[3::11] = -0.0
    return x.reshape(shape)


@functools.cache
def decisions(n, p):
    return keep(SEED, OFFSET, 0, n, p)


def transcribed(x, p, unit):
    """Keep ? x / (1 - p) : 0, an element at a time, with the bit of its unit."""
    compute = np.float64 if x.dtype == np.float64 else np.float32
    scale = compute(1 / (1 - p)) if p < 1 else None
    kept = decisions(x.size, p)
    y = np.zeros(x.shape, x.dtype)
    for i in np.ndindex(x.shape):
        if kept[unit(i)]:
            y[i] = (compute(x[i]) * scale).astype(x.dtype)
    return y


def call(name, x, p, backward=False, **options):
    function, keywords, _, _ = VARIANTS[name]
    return getattr(fastdrop, function + "_backward" * backward)(x, p, **keywords, **options)


def plain(a):
    return np.ascontiguousarray(a).tobytes()


# Which unit decides -------------------------------------------------------------------------------------------------


@functools.cache
def expected(name, dtype, p):
    _, _, shape, unit = VARIANTS[name]
    return plain(transcribed(values(shape, dtype), p, unit))


@pytest.mark.parametrize("name", VARIANTS)
def test_transcription(engine, name):
    for dtype, p in itertools.product(DTYPES, (0.0, 0.3, 0.5, 1.0)):
        x = values(VARIANTS[name][2], dtype)
        for given_x in (x, np.asfortranarray(x), x[..., ::-1].copy()[..., ::-1]):
            for backward in (False, True):
                y = call(name, given_x, p, backward, **KEY)
                assert (y.dtype, y.shape) == (x.dtype, x.shape)
                assert plain(y) == expected(name, dtype, p), (dtype, p, backward)


@pytest.mark.parametrize("name", VARIANTS)
def test_output(engine, name):
    x = values(VARIANTS[name][2], np.dtype(np.float32))
    wanted = plain(call(name, x, 0.3, **KEY))
    for out in (np.full_like(x, 5), np.full_like(x, 5, order="F")):
        assert call(name, x, 0.3, out=out, **KEY) is out
        assert plain(out) == wanted
    assert call(name, x, 0.3, out=x, **KEY) is x
    assert plain(x) == wanted


@pytest.mark.parametrize("name", VARIANTS)
def test_outside_training_it_is_the_input(name):
    x = values(VARIANTS[name][2], np.dtype(np.float32))
    stream, out = fastdrop.Stream(1), np.empty_like(x)
    assert call(name, x, 0.3, training=False, seed=stream) is x
    assert call(name, x, 0.3, True, training=False, seed=1) is x
    assert call(name, x, 0.3, training=False, out=out) is out
    assert plain(out) == plain(x)
    assert stream.offset == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_one_draw_a_call(name):
    x = values(VARIANTS[name][2], np.dtype(np.float32))
    stream, generator = fastdrop.Stream(7, 3), np.random.default_rng(4)
    drawn = int(np.random.default_rng(4).integers(0, 2**64, dtype=np.uint64))
    assert plain(call(name, x, 0.3, seed=stream)) == plain(call(name, x, 0.3, seed=7, offset=3))
    assert stream.offset == 4
    assert plain(call(name, x, 0.3, seed=generator)) == plain(call(name, x, 0.3, seed=drawn))
    assert generator.integers(0, 2**64, dtype=np.uint64) == np.random.default_rng(4).integers(0, 2**64, 2, np.uint64)[1]


@pytest.mark.parametrize("function", KINDS)
def test_empty(engine, function):
    name = KINDS[function]
    for axis in range(len(VARIANTS[name][2])):
        shape = tuple(0 if k == axis else n for k, n in enumerate(VARIANTS[name][2]))
        for backward in (False, True):
            assert call(name, np.empty(shape, np.float32), 0.3, backward, seed=1).shape == shape


def test_lists_are_arrays():
    assert plain(fastdrop.locked_dropout([[1.0, 2.0], [3.0, 4.0]], seed=1)) == plain(
        fastdrop.locked_dropout(np.array([[1.0, 2.0], [3.0, 4.0]]), seed=1)
    )


# Expectation and gradient -------------------------------------------------------------------------------------------

UNITS = {  # a shape of many units, and how many elements each has
    "dropout1d": ((512, 64, 4), {}, 4),
    "dropout2d": ((512, 64, 2, 2), {}, 4),
    "dropout3d": ((512, 64, 1, 2, 2), {}, 4),
    "spatial_dropout": ((512, 64, 2, 2), {}, 4),
    "locked_dropout": ((4, 512, 64), {}, 4),
    "group_dropout": ((256, 512), {"group_size": 2, "axes": (0, 1)}, 4),
}


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("function", UNITS)
def test_expected_value_and_variance(function, p):
    """Of x = 2: E[y] = x and Var[y] = x**2 p / (1 - p); y has two values, so both are functions of the number of units kept."""
    shape, keywords, elements = UNITS[function]
    y = getattr(fastdrop, function)(np.full(shape, 2.0), p, seed=17, **keywords)
    kept, rest = divmod(np.count_nonzero(y), elements)
    assert rest == 0
    assert stats.binomtest(kept, y.size // elements, 1 - p).pvalue > LEAST
    spread = 2 * math.sqrt(p / (1 - p))  # of one unit
    assert abs(y.mean() - 2) < 4.9 * spread / math.sqrt(y.size / elements)
    assert math.isclose(y.var(), spread**2, rel_tol=0.05)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_gradient(name, training):
    """Of f(x) = sum(w * y(x)) by central differences: f is linear, the step a power of two."""
    shape = VARIANTS[name][2]
    x = np.linspace(-1, 1, math.prod(shape)).reshape(shape)
    w = np.linspace(2, 3, math.prod(shape)).reshape(shape)
    options = {"training": training, **KEY}
    gradient = call(name, w, 0.4, True, **options)
    for i in list(np.ndindex(shape))[::9]:
        step = np.zeros(shape)
        step[i] = 2.0**-10
        above, below = (np.sum(w * call(name, x + sign * step, 0.4, **options)) for sign in (1, -1))
        assert math.isclose((above - below) * 2**9, gradient[i], abs_tol=1e-9)


# What each promises beside ------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.data())
def test_locked_pieces_of_time_have_the_mask_of_the_whole(steps, data):
    cut = data.draw(st.integers(0, steps))
    x = np.ones((steps, 4, 30), np.float32)
    whole = fastdrop.locked_dropout(x, 0.3, **KEY)
    pieces = [fastdrop.locked_dropout(piece, 0.3, **KEY) for piece in (x[:cut], x[cut:])]
    assert plain(np.concatenate(pieces)) == plain(whole)


def test_both_orders_of_axes_have_one_mask():
    x = values((5, 6, 8), np.dtype(np.float32))
    time_first = fastdrop.locked_dropout(x, 0.3, shared_axes=0, **KEY)
    time_second = fastdrop.locked_dropout(x.swapaxes(0, 1).copy(), 0.3, shared_axes=1, **KEY)
    assert plain(time_second.swapaxes(0, 1)) == plain(time_first)
    last = fastdrop.spatial_dropout(x, 0.3, data_format="channels_last", **KEY)
    first = fastdrop.spatial_dropout(np.moveaxis(x, -1, 1).copy(), 0.3, **KEY)
    assert plain(np.moveaxis(first, 1, -1)) == plain(last)


def test_a_rate_for_each_channel():
    """The same bits: a channel with the rate of a whole call is what it is there."""
    x, p = np.ones((4, 3, 5)), np.array([0.1, 0.5, 0.9]).reshape(3, 1)
    y = fastdrop.dropout1d(x, p, **KEY)
    for channel, rate in enumerate(p.ravel().tolist()):
        assert plain(y[:, channel]) == plain(fastdrop.dropout1d(x, rate, **KEY)[:, channel])


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 11)), min_size=1, max_size=4), st.data())
def test_groups_of_any_size(engine, axes, data):
    """Against the mask of an array with an element a group, each repeated."""
    shape, sizes = zip(*axes, strict=True)
    cut = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    sizes = [size if axis in cut else 1 for axis, size in enumerate(sizes)]
    mask = fastdrop.dropout_mask([math.ceil(n / size) for n, size in zip(shape, sizes, strict=True)], 0.5, **KEY)
    for axis, (n, size) in enumerate(zip(shape, sizes, strict=True)):
        mask = np.repeat(mask, size, axis).take(range(n), axis)
    y = fastdrop.group_dropout(np.ones(shape, np.float32), group_size=[sizes[axis] for axis in cut], axes=sorted(cut), **KEY)
    assert plain(y) == plain(np.where(mask, np.float32(2), np.float32(0)))


def test_groups_on_several_threads(engine):
    x = np.arange(THREADED_SIZE, dtype=np.float32)
    mask = np.repeat(fastdrop.dropout_mask(THREADED_SIZE // 7 + 1, 0.5, **KEY), 7)[:THREADED_SIZE]
    y = fastdrop.group_dropout(x, 0.5, group_size=7, **KEY)
    assert plain(y) == plain(np.where(mask, x * np.float32(2), np.float32(0)))


LONG_GROUPS = [
    ((3, 700), 33, 1),
    ((2, 3000), 1030, 1),
    ((40, 64), 2, 0),
    ((5, 130), 31, -1),
    ((7, 96), 32, 1),
    ((6, 45, 5), 8, 1),
]


@pytest.mark.parametrize(("shape", "size", "axis"), LONG_GROUPS)
@pytest.mark.parametrize("before", [0, 3])
def test_blocks_that_begin_inside_groups(engine, shape, size, axis, before):
    """Groups of all the ways in which bits are repeated, cut off at both edges of a block or at the end alone."""
    whole = [n + before + 1 for n in shape]
    groups = [-(-n // size) if k == axis % len(shape) else n for k, n in enumerate(whole)]
    mask = np.repeat(fastdrop.dropout_mask(groups, 0.4, **KEY), size, axis)
    mask = mask[tuple(slice(before, before + n) for n in shape)]
    x = np.linspace(1, 2, mask.size).reshape(shape)
    place = {"global_shape": whole, "global_start": (before,) * len(shape)}
    wanted = np.where(mask, x * (1 / (1 - 0.4)), 0)
    for array in (x, np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2]):
        y = fastdrop.group_dropout(array, 0.4, group_size=size, axes=axis, **place, **KEY)
        assert plain(np.ascontiguousarray(y)) == plain(wanted)


def test_more_axes_than_a_layout_has():
    x = np.ones((2,) * 10 + (1,) * 20 + (3,) * 3)
    y = fastdrop.group_dropout(x, 0.5, group_size=2, axes=range(x.ndim), **KEY)
    assert plain(y) == plain(fastdrop.group_dropout(x.reshape(*(2,) * 10, 3, 3, 3), 0.5, group_size=2, axes=range(13), **KEY))
    with pytest.raises(TypeError, match="group_size must be a sequence of integers; got None"):
        fastdrop.group_dropout(x, 0.5, group_size=None, **KEY)


def test_groups_into_an_output_that_overlaps(engine):
    wanted = fastdrop.group_dropout(np.arange(1, 24.0), 0.5, group_size=5, **KEY)
    for shift in (1, 4, 7):
        memory = np.zeros(40)
        memory[:23] = np.arange(1, 24)
        out = memory[shift : shift + 23]
        assert fastdrop.group_dropout(memory[:23], 0.5, group_size=5, out=out, **KEY) is out
        assert plain(out) == plain(wanted)


def test_torch_shares_the_same_axes():
    """An array of ones becomes one of two values an element; where PyTorch's are equal along an axis, so are these."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    for name, shape in {
        "dropout1d": (16, 9, 4),
        "dropout2d": (16, 9, 3, 4),
        "dropout3d": (16, 9, 2, 3, 4),
    }.items():
        for cut in (shape, shape[1:]) if name != "dropout2d" else (shape, (16, 9, 4)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = getattr(torch.nn.functional, name)(torch.ones(cut), 0.5).numpy()
            ours = getattr(fastdrop, name)(np.ones(cut, np.float32), 0.5, seed=1)
            assert np.unique(ours).tolist() == np.unique(theirs).tolist() == [0, 2]
            varies = [[bool((y != y.take([0], axis)).any()) for axis in range(len(cut))] for y in (ours, theirs)]
            assert varies[0] == varies[1], name


# Bad input ----------------------------------------------------------------------------------------------------------

X = np.ones((4, 6), np.float32)
WRONG = [
    ("dropout1d", np.ones(3), {}, ValueError, r"x must have the dimensions \(N, C, L\) or \(C, L\); got shape \(3,\)"),
    ("dropout1d", np.ones((1, 2, 3, 4)), {}, ValueError, r"got shape \(1, 2, 3, 4\)"),
    ("dropout2d", np.ones((2, 3)), {}, ValueError, r"x must have the dimensions \(N, C, H, W\) or \(N, C, L\)"),
    ("dropout3d", np.ones((2, 3)), {}, ValueError, r"x must have the dimensions \(N, C, D, H, W\) or \(C, D, H, W\)"),
    ("spatial_dropout", np.ones(3), {}, ValueError, r"x must have an axis of samples and one of channels; got shape \(3,\)"),
    ("spatial_dropout", X, {"data_format": "NHWC"}, ValueError, "'channels_first' or 'channels_last'; got 'NHWC'"),
    ("locked_dropout", X, {"shared_axes": 2}, ValueError, r"shared_axes \(2,\) are out of range for an array of 2 dimensions"),
    ("locked_dropout", X, {"shared_axes": None}, TypeError, "shared_axes must be a sequence of integers; got None"),
    ("locked_dropout", X, {"shared_axes": ()}, ValueError, "shared_axes must name at least one axis, that of time"),
    *((kind, None, {"training": "no"}, TypeError, "training must be True or False; got 'no'") for kind in KINDS),
    ("locked_dropout", np.float32(1), {}, ValueError, "shared_axes .* 0 dimensions"),
    ("group_dropout", X, {"group_size": 0}, ValueError, "group_size must be at least 1; got 0"),
    ("group_dropout", X, {"group_size": True}, TypeError, "group_size must be an integer, or one per axis; got True"),
    ("group_dropout", X, {"group_size": (2, 2)}, ValueError, r"one size per axis of \(-1,\); got \(2, 2\)"),
    ("group_dropout", X, {"group_size": 2.0}, TypeError, "group_size must be a sequence of integers; got 2.0"),
    ("group_dropout", X, {"group_size": 2, "axes": (1, 1)}, ValueError, r"axes \(1, 1\) name an axis twice"),
    ("group_dropout", X, {"group_size": 2, "axes": (0, -2)}, ValueError, r"axes \(0, -2\) name an axis twice"),
    ("group_dropout", X, {"group_size": 2, "axes": 3}, ValueError, r"axes \(3,\) are out of range"),
    ("group_dropout", X, {"group_size": 2, "axes": ()}, ValueError, "axes must name at least one axis"),
    ("group_dropout", X, {"group_size": 2, "p": np.full(6, 0.5)}, TypeError, r"p must be a number in \[0, 1\]"),
    *((kind, None, {"p": 1.5}, ValueError, r"p must be in \[0, 1\].*1\.5") for kind in KINDS),
    *((kind, None, {"p": "0.5"}, TypeError, r"p must be a number (or a NumPy array .*)?in \[0, 1\]") for kind in KINDS),
    *((kind, None, {"offset": -1}, ValueError, r"offset must be an integer in \[0, 2\*\*64\); got -1") for kind in KINDS),
    *((kind, None, {"backend": "cuda"}, ValueError, "unknown backend 'cuda'") for kind in KINDS),
    *((kind, None, {"num_threads": 0}, ValueError, "num_threads must be") for kind in KINDS),
    *((kind, None, {"out": np.ones(3, np.float32)}, ValueError, "out must have the shape of the input") for kind in KINDS),
    *((kind, None, {"out": np.ones(3)}, TypeError, "out must have the dtype of the input") for kind in KINDS),
    *((kind, None, {"out": [1.0]}, TypeError, "out must be a numpy.ndarray") for kind in KINDS),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backward", [False, True])
def test_bad_input(backward, training):
    for function, x, options, error, message in WRONG:
        _, keywords, shape, _ = VARIANTS[KINDS[function]]
        x = np.full(shape, 5, np.float32) if x is None else x
        stream, out = fastdrop.Stream(1), np.full_like(x, 5)
        arguments = {"out": out, "seed": stream, "training": training, **keywords, **options}
        if options.get("offset") or backward:
            arguments["seed"] = 1
        with pytest.raises(error, match=message.replace("x must", "(x|grad) must").replace("of x", "of (x|grad)")):
            getattr(fastdrop, function + "_backward" * backward)(x, **arguments)
        assert stream.offset == 0, (function, options)
        assert (out == 5).all(), (function, options)


@pytest.mark.parametrize("function", KINDS)
def test_bad_arrays_and_seeds(function):
    name = KINDS[function]
    shape = VARIANTS[name][2]
    for dtype in (np.int32, bool, object, complex, ">f4"):
        with pytest.raises(TypeError, match=r"x .*dtype"):
            call(name, np.ones(shape, dtype), 0.5)
        with pytest.raises(TypeError, match=r"grad .*dtype"):
            call(name, np.ones(shape, dtype), 0.5, True, seed=1)
    out = np.full(shape, 5.0)
    for seed, error in ((-1, ValueError), (1.0, TypeError), ("a", TypeError), (2**64, ValueError)):
        with pytest.raises(error, match="seed must be"):
            call(name, np.ones(shape), 0.5, seed=seed, out=out)
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required here"):
            call(name, np.ones(shape), 0.5, True, seed=None, out=out, training=training)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(name, np.ones(shape), 0.5, out=out)
    assert (out == 5).all()
