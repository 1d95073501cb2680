"""Masks with shared decisions, and masks of blocks of a larger array, for every layout, cut and number of threads."""

import itertools
import math
import random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from oracle import keep_laid

import fastdrop
from fastdrop._core import plan
from fastdrop.verify.cases import (
    DTYPES,
    LINE,
    REFERENCE,
    SPECIAL_RATES,
    THREADED_SIZE,
    TILE,
    awkward,
    equal_bytes,
    guarded,
    past_caches,
)

KEY = {"seed": 51, "offset": 52}


def scaled(x, kept, p):
    """Return the result of one rate on float32 values under a mask."""
    with np.errstate(all="ignore"):
        return np.where(kept, x * np.float32(1 / (1 - p)), np.float32(0))


def filled(shape, dtype="float32"):
    return awkward(math.prod(shape), dtype).reshape(shape)


# Against the oracle -------------------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    """Draw a shape, and keywords for its mask."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    keywords = {"start": draw(st.sampled_from([0, 1, 127, 2**40 - 3, 2**54]))}
    whole = shape
    if draw(st.booleans()):
        before = [draw(st.sampled_from([0, 1, 5, 1000])) for _ in shape]
        after = [draw(st.integers(0, 3)) for _ in shape]
        whole = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
        keywords |= {"global_shape": whole, "global_start": before}
    shared = [axis for axis in range(len(shape)) if draw(st.booleans())]
    if draw(st.booleans()):
        keywords["shared_axes"] = [axis - len(shape) if draw(st.booleans()) else axis for axis in shared]
    else:
        own = [None if draw(st.booleans()) else size for size in whole]
        keywords["noise_shape"] = [1 if axis in shared else own[axis] for axis in range(len(shape))]
    return shape, keywords


@st.composite
def rates_over(draw, shape):
    """Draw a rate, or rates that broadcast to a shape."""
    if not shape or draw(st.booleans()):
        return draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
    own = [size if draw(st.booleans()) else 1 for size in shape][draw(st.integers(0, len(shape) - 1)) :]
    values = draw(st.lists(st.sampled_from(SPECIAL_RATES), min_size=1, max_size=20))
    return np.resize(np.array(values, draw(st.sampled_from(["f4", "f8"]))), own)


@settings(max_examples=80)
@given(st.data())
def test_masks_are_the_oracles(engine, data):
    shape, keywords = data.draw(geometries())
    p = data.draw(rates_over(shape))
    kept = keep_laid(shape, p, **KEY, **keywords)
    assert np.array_equal(fastdrop.dropout_mask(shape, p, **KEY, **keywords), kept)
    packed = fastdrop.dropout_mask(shape, p, packed=True, **KEY, **keywords)
    assert np.array_equal(packed, np.packbits(kept, bitorder="little"))
    x = filled(shape)
    with np.errstate(all="ignore"):
        factor = np.asarray(1 / (1 - np.asarray(p, np.float64))).astype(np.float32)
        y = np.where(kept, x * factor, np.float32(0))
    assert equal_bytes(fastdrop.dropout(x, p, **KEY, **keywords), y)
    assert equal_bytes(fastdrop.dropout_backward(x, p, **KEY, **keywords), y)


@pytest.mark.parametrize("past", [False, True], ids=["through the caches", "past the caches"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_runs(engine, dtype, past):
    """Runs of 256 elements and more are copied or filled as a whole; test every alignment, shorter and longer than a tile."""
    for k, run in enumerate((255, 256, 257, 301, TILE - 1, TILE + 1, 2 * TILE + 77)):
        shape = (5, run)
        x = filled(shape, dtype)
        kept = keep_laid(shape[:1], 0.5, start=125 + k, **KEY)
        assert 0 < kept.sum() < 5
        with np.errstate(all="ignore"):
            y = np.where(kept[:, None], x * np.dtype(dtype).type(2), np.dtype(dtype).type(0))
        for shift in (0, 1, 7 * k % (LINE // x.itemsize)):
            with guarded(x.size, dtype, shift) as memory:
                out = memory.reshape(shape)
                if past:
                    with past_caches():
                        fastdrop.dropout(x, 0.5, out=out, shared_axes=1, start=125 + k, **KEY)
                else:
                    fastdrop.dropout(x, 0.5, out=out, shared_axes=1, start=125 + k, **KEY)
            assert equal_bytes(out, y), (run, shift)


def test_rates_of_elements_that_share_a_decision(engine):
    """A long run with one decision is not one run if its elements compare it with different rates."""
    x, p = filled((5, 300)), np.resize(np.array(SPECIAL_RATES), 300)
    kept = keep_laid(x.shape, p, shared_axes=1, **KEY)
    y = fastdrop.dropout(x, p, mode="unscaled", shared_axes=1, **KEY)
    assert equal_bytes(y, np.where(kept, x, np.float32(0)))


@pytest.mark.parametrize("start", [0, 1, 31, 62, 63])
def test_repeated_rows_of_any_length(engine, start):
    """The bits of a row are copied to any place of a word, from any place of a word."""
    for n in range(1, 200):
        mask = fastdrop.dropout_mask((5, n), 0.5, shared_axes=0, start=start, **KEY)
        assert np.array_equal(mask, np.tile(fastdrop.dropout_mask(n, 0.5, start=start, **KEY), (5, 1)))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7])
def test_threads_meet_inside_a_run(engine, rows):
    run = THREADED_SIZE // rows + 1
    x = filled((rows, run))
    kept = keep_laid((rows,), 0.5, start=7, **KEY)
    for more in ({}, {"out": x.copy()}):
        y = fastdrop.dropout(x if not more else more["out"], 0.5, shared_axes=1, start=7, **more, **KEY)
        assert equal_bytes(y, scaled(x, kept[:, None], 0.5))


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_a_dropped_run_is_not_read(engine, p):
    x = np.full((40, 300), np.nan, np.float32)
    kept = keep_laid((40,), p, **KEY)
    y = fastdrop.dropout(x, p, shared_axes=1, **KEY)
    assert np.array_equal(np.isnan(y), np.broadcast_to(kept[:, None], x.shape))
    assert not y[~kept].view(np.uint32).any()


def test_one_decision_is_that_of_the_first_index(engine):
    for start in (0, 1, 2**55 - 1):
        kept = keep_laid((1,), 0.5, start=start, **KEY).item()
        mask = fastdrop.dropout_mask((7, 1000), 0.5, shared_axes=(0, 1), start=start, **KEY)
        assert mask.all() if kept else not mask.any()


# Any block is that block of the whole -------------------------------------------------------------------------------


def partition(shape, pieces, choice):
    """Cut an array into blocks at random: pairs of (begin, end) for each axis."""
    blocks = [[(0, size) for size in shape]]
    while len(blocks) < pieces:
        block = max(blocks, key=lambda ends: math.prod(b - a for a, b in ends))
        axis = choice.choice([axis for axis, (a, b) in enumerate(block) if b - a > 1] or [None])
        if axis is None:
            break
        blocks.remove(block)
        a, b = block[axis]
        cut = choice.randrange(a + 1, b)
        blocks += [[*block[:axis], ends, *block[axis + 1 :]] for ends in ((a, cut), (cut, b))]
    choice.shuffle(blocks)
    return blocks


def put_together(function, x, blocks, choice, whole, begin, p, **keywords):
    """Compute the blocks one after the other, each on some number of threads."""
    y = np.empty_like(x)
    rates = np.broadcast_to(p, x.shape)
    for block in blocks:
        where = tuple(slice(a, b) for a, b in block)
        start = [first + a for first, (a, _) in zip(begin, block, strict=True)]
        own = rates[where] if np.ndim(p) else p
        y[where] = function(
            x[where], own, global_shape=whole, global_start=start, num_threads=choice.randint(1, 3), **keywords, **KEY
        )
    return y


@settings(max_examples=25)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(2, 12),
    st.sampled_from([0, 2**40, 2**55]),
    st.booleans(),
)
@example(random.Random(3), [40, 50, 60], 9, 2**40, True)
def test_blocks_of_a_random_partition(engine, choice, shape, pieces, near, many):
    """The array may itself be a block that begins near index `near` of a larger array."""
    x = filled(shape)
    inner = math.prod(shape[1:])
    before = max(0, near // inner - shape[0] - choice.randrange(3))
    whole, begin = (before + shape[0], *shape[1:]), (before, *[0] * (len(shape) - 1))
    p = np.resize(np.array(SPECIAL_RATES), shape[-1]) if many else 0.4
    shared = [axis for axis in range(len(shape)) if choice.random() < 0.3]
    for function in (fastdrop.dropout, fastdrop.dropout_backward):
        wanted = function(x, p, global_shape=whole, global_start=begin, shared_axes=shared, **KEY)
        blocks = partition(shape, pieces, choice)
        assert equal_bytes(put_together(function, x, blocks, choice, whole, begin, p, shared_axes=shared), wanted)


@pytest.mark.parametrize("before", [0, 2**40 // 10**6, 2**55 // 10**6 - 5], ids=["0", "near 2**40", "near 2**55"])
def test_fifty_blocks(engine, before):
    x = np.resize(awkward(1013, "float32"), (3, 1000, 1000))
    whole, begin = (before + 3, 1000, 1000), (before, 0, 0)
    choice = random.Random(before)
    blocks = partition(x.shape, 50, choice)
    assert len(blocks) == 50
    for function in (fastdrop.dropout, fastdrop.dropout_backward) if engine.isa else (fastdrop.dropout,):
        wanted = function(x, 0.3, start=before * 10**6, **KEY)
        assert equal_bytes(put_together(function, x, blocks, choice, whole, begin, 0.3), wanted)


@pytest.mark.parametrize("shared", [0, 1, 2, (0, 2), (1, 2)])
def test_blocks_share_the_decisions_of_the_whole(engine, shared):
    x = filled((7, 30, 400))
    choice = random.Random(5)
    wanted = fastdrop.dropout(x, 0.4, shared_axes=shared, **KEY)
    blocks = partition(x.shape, 20, choice)
    assert equal_bytes(put_together(fastdrop.dropout, x, blocks, choice, x.shape, (0, 0, 0), 0.4, shared_axes=shared), wanted)


def test_one_column_of_a_larger_array(engine):
    """Neighbours in the column have indices that are a row apart."""
    place = {"global_shape": (300, 3), "global_start": (0, 1)}
    mask = fastdrop.dropout_mask((300, 1), 0.5, **place, **KEY)
    assert np.array_equal(mask, keep_laid((300, 1), 0.5, **place, **KEY))


def test_the_last_index_of_the_stream(engine):
    shape = (2**54, 2)
    mask = fastdrop.dropout_mask((1, 2), 0.5, global_shape=shape, global_start=(2**54 - 1, 0), **KEY)
    assert np.array_equal(mask, keep_laid((1, 2), 0.5, global_shape=shape, global_start=(2**54 - 1, 0), **KEY))
    with pytest.raises(OverflowError, match=rf"stream 1 has 2\*\*55 elements; the last index would be {2**55}"):
        fastdrop.dropout_mask((1, 2), 0.5, global_shape=shape, global_start=(2**54 - 1, 0), start=1, **KEY)


def test_an_array_larger_than_the_stream_has_blocks(engine):
    """Only the last index must fit, not the size of the whole array; shared axes take no indices."""
    for keywords in (
        {"global_shape": (2**30, 2**30), "global_start": (5, 6)},
        {"global_shape": (2**30, 2**60), "global_start": (5, 2**59), "shared_axes": 1},
    ):
        mask = fastdrop.dropout_mask((2, 3), 0.5, **keywords, **KEY)
        assert np.array_equal(mask, keep_laid((2, 3), 0.5, **keywords, **KEY))


def test_an_empty_block_has_no_index_past_the_end(engine):
    far = {"global_shape": (2**40, 2**40), "global_start": (2**39, 0)}
    assert fastdrop.dropout(np.ones((0, 3)), 0.5, **far, **KEY).shape == (0, 3)
    assert fastdrop.dropout_mask((3, 0), 0.5, **far, **KEY).shape == (3, 0)


# Layouts ------------------------------------------------------------------------------------------------------------

CUBE = (18, 20, 23)
MOST_AXES = 32 if np.__version__.startswith("1.") else 64
VIEWS = {
    "Fortran": np.asfortranarray,
    "transposed": lambda x: x.transpose(2, 0, 1),
    "reversed": lambda x: x[::-1, :, ::-1],
    "sliced": lambda x: x[1::2, ::-3, 2:-2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "axes of size 1": lambda x: x[:, None, 3:4, :, None],
    "0-d": lambda x: x[0, 1, 2],
    "empty": lambda x: x[:, 5:5],
    "32 dimensions": lambda x: x.reshape(-1)[: 2**12].reshape((1, 2) * 12 + (1,) * 8).swapaxes(3, 21),
    "most dimensions": lambda x: x.reshape(-1)[: 2**10].reshape((2,) * 10 + (1,) * (MOST_AXES - 10)).swapaxes(3, 30).T,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VIEWS)
def test_layouts(engine, name, dtype):
    """The mask follows the index, whatever is shared and whatever the layouts of input and output are."""
    x = np.asarray(VIEWS[name](filled(CUBE, dtype)))
    plain = np.array(x, order="C")
    for shared in (range(x.ndim), range(0, x.ndim, 2), range(1, x.ndim, 3), range(x.ndim - 1)):
        block = {"global_shape": [n + 3 for n in x.shape], "global_start": [k % 3 for k in range(x.ndim)]}
        fits = math.prod(1 if axis in shared else n for axis, n in enumerate(block["global_shape"])) < 2**54
        for more in ({}, block) if fits else ({},):
            keywords = {"shared_axes": tuple(shared), **more, **KEY}
            with REFERENCE.using():
                y = fastdrop.dropout(plain, 0.4, **keywords)
            assert equal_bytes(fastdrop.dropout(x, 0.4, **keywords), y)
            out = np.empty(x.shape[::-1], dtype).T
            assert fastdrop.dropout(plain, 0.4, out=out, **keywords) is out
            assert equal_bytes(out, y)
            backwards = np.empty(x.shape, dtype)[(slice(None, None, -1),) * x.ndim]
            fastdrop.dropout_backward(x, 0.4, out=backwards if x.ndim else None, **keywords)
            assert not x.ndim or equal_bytes(backwards, y)


@pytest.mark.parametrize("name", ["Fortran", "transposed", "reversed", "sliced", "axes of size 1", "0-d"])
def test_layouts_have_the_oracles_mask(engine, name):
    x = VIEWS[name](filled(CUBE))[..., :7] if name != "0-d" else VIEWS[name](filled(CUBE))
    shared = tuple(range(1, np.ndim(x), 2))
    y = fastdrop.dropout(x, 0.4, shared_axes=shared, **KEY)
    assert equal_bytes(np.asarray(y), np.asarray(scaled(x, keep_laid(np.shape(x), 0.4, shared_axes=shared, **KEY), 0.4)))


def test_in_place(engine):
    for shared in (0, 1, (0, 1)):
        for x in (filled((300, 401)).copy(), np.asfortranarray(filled((300, 401))), filled((600, 401)).copy()[::-2]):
            y = fastdrop.dropout(x.copy(), 0.4, shared_axes=shared, **KEY)
            assert fastdrop.dropout(x, 0.4, out=x, shared_axes=shared, **KEY) is x
            assert equal_bytes(x, y)


# The keywords -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_noise_shape_and_shared_axes_say_the_same(engine, shared):
    shape = (4, 5, 6)
    mask = fastdrop.dropout_mask(shape, 0.5, shared_axes=shared, **KEY)
    noise = [1 if axis in shared else size for axis, size in enumerate(shape)]
    for given_noise in (noise, tuple(noise), np.array(noise), [None if size > 1 else 1 for size in noise]):
        assert np.array_equal(fastdrop.dropout_mask(shape, 0.5, noise_shape=given_noise, **KEY), mask)
    for given_axes in (list(shared), np.array(shared, int), {axis - 3 for axis in shared}):
        assert np.array_equal(fastdrop.dropout_mask(shape, 0.5, shared_axes=given_axes, **KEY), mask)
    own = fastdrop.dropout_mask(noise, 0.5, **KEY)
    assert np.array_equal(mask, np.broadcast_to(own, shape))


def test_one_axis_need_not_be_in_a_sequence(engine):
    for axis, scalar in itertools.product((0, -1), (int, np.int8, np.array)):
        mask = fastdrop.dropout_mask((4, 5), 0.5, shared_axes=scalar(axis), **KEY)
        assert np.array_equal(mask, fastdrop.dropout_mask((4, 5), 0.5, shared_axes=[axis], **KEY))


def test_a_whole_is_its_own_block(engine):
    mask = fastdrop.dropout_mask((4, 5), 0.5, **KEY)
    for begin in (None, (0, 0), np.zeros(2, int)):
        assert np.array_equal(fastdrop.dropout_mask((4, 5), 0.5, global_shape=(4, 5), global_start=begin, **KEY), mask)


def test_outside_training_nothing_is_laid():
    x = filled((4, 5))
    assert fastdrop.dropout(x, 0.5, training=False, shared_axes=0) is x
    y = fastdrop.dropout(x, 0.25, training=False, mode="standard", shared_axes=0)
    with np.errstate(all="ignore"):
        assert equal_bytes(y, x * np.float32(0.75))


# Bad input ----------------------------------------------------------------------------------------------------------

BAD = [
    ({"noise_shape": (3, 1), "shared_axes": 1}, ValueError, "both define the shared decisions.*only one of them"),
    ({"noise_shape": (2, 3)}, ValueError, r"noise_shape \(2, 3\) does not broadcast to shape \(3, 4\).*1, None or the"),
    ({"noise_shape": (0, 4)}, ValueError, r"noise_shape \(0, 4\) does not broadcast to shape \(3, 4\)"),
    ({"noise_shape": (3,)}, ValueError, r"noise_shape must have one entry .* per axis of shape \(3, 4\); got \(3,\)"),
    ({"noise_shape": (1, 3, 4)}, ValueError, r"noise_shape must have one entry .* got \(1, 3, 4\)"),
    ({"noise_shape": 3}, ValueError, "noise_shape must have one entry .* got 3"),
    ({"noise_shape": (3, 1.0)}, ValueError, r"noise_shape must have one entry .* got \(3, 1\.0\)"),
    ({"shared_axes": 2}, ValueError, r"shared_axes \(2,\) are out of range for an array of 2 dimensions"),
    ({"shared_axes": (0, -3)}, ValueError, r"shared_axes \(0, -3\) are out of range"),
    ({"shared_axes": (1, -1)}, ValueError, r"shared_axes \(1, -1\) name an axis twice"),
    ({"shared_axes": 1.0}, TypeError, "shared_axes must be .*integers; got .*1.0"),
    ({"shared_axes": "rows"}, TypeError, "shared_axes must be .*integers; got .*rows"),
    ({"global_start": (0, 0)}, ValueError, "global_start needs global_shape"),
    ({"global_shape": (3,)}, ValueError, r"global_shape \(3,\) and .* one number per axis of the block's shape \(3, 4\)"),
    ({"global_shape": (3, 4), "global_start": (0,)}, ValueError, r"global_start \(0,\) must have one number per axis"),
    (
        {"global_shape": (3, 4), "global_start": (0, 1)},
        ValueError,
        r"shape \(3, 4\) that begins at \(0, 1\) is not inside .* \(3, 4\)",
    ),
    ({"global_shape": (9, 9), "global_start": (-1, 0)}, ValueError, r"begins at \(-1, 0\) is not inside global_shape \(9, 9\)"),
    ({"global_shape": (3, -4)}, ValueError, r"is not inside global_shape \(3, -4\)"),
    ({"global_shape": 12}, TypeError, "global_shape must be a sequence of integers; got 12"),
    ({"global_shape": (3, 4.0)}, TypeError, r"global_shape must be a sequence of integers; got \(3, 4\.0\)"),
    ({"global_shape": (3, 4), "global_start": 0}, TypeError, "global_start must be a sequence of integers; got 0"),
    ({"global_shape": (2**60, 4), "global_start": (2**59, 0)}, OverflowError, r"stream 1 has 2\*\*55 elements; the last index"),
    ({"global_shape": (4, 2**90)}, OverflowError, r"stream 1 has 2\*\*55 elements; the last index"),
    ({"shared_axes": 0, "start": -1}, ValueError, "start must be >= 0; got -1"),
    ({"shared_axes": 0, "start": 2**55}, OverflowError, r"stream 1 has 2\*\*55 elements"),
    ({"shared_axes": 0, "start": 1.0}, TypeError, "start must be an integer >= 0; got 1.0"),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("keywords", "exception", "pattern"), BAD, ids=str)
def test_bad_input(keywords, exception, pattern, training):
    """After an error, no key was drawn and nothing was written."""
    x, out = np.ones((3, 4), np.float32), np.full((3, 4), 7, np.float32)
    stream = fastdrop.Stream(1)
    with pytest.raises(exception, match=pattern):
        fastdrop.dropout(x, 0.5, seed=stream, out=out, training=training, **keywords)
    with pytest.raises(exception, match=pattern):
        fastdrop.dropout_backward(x, 0.5, seed=stream, out=out, training=training, **keywords)
    with pytest.raises(exception, match=pattern):
        fastdrop.dropout_mask((3, 4), 0.5, seed=stream, **keywords)
    assert stream.offset == 0
    assert (out == 7).all()


# First index and steps, for callers that are compiled ----------------------------------------------------------------


@pytest.mark.parametrize("shared", [None, (0,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("start", [0, 1000])
def test_located_masks_have_the_bits_of_masks(shared, start):
    shape, whole, begin = (2, 3, 4), (5, 6, 7), (1, 2, 3)
    first, steps = plan.locate_mask(shape, shared, start, whole, begin)
    wanted = fastdrop.dropout(
        np.ones(shape), 0.5, shared_axes=shared, start=start, global_shape=whole, global_start=begin, **KEY
    )
    line = fastdrop.dropout_mask(first + sum(steps) * 4 + 1, 0.5, **KEY)
    for indices in np.ndindex(shape):
        assert (wanted[indices] != 0) == line[first + sum(step * index for step, index in zip(steps, indices, strict=True))]


def test_a_place_past_the_end_along_several_axes():
    """The index of each axis is past the end; their sum is not 0 again."""
    stream, place = fastdrop.Stream(1), {"global_shape": (2**40,) * 6, "global_start": (1, 1, 1, 1, 0, 0)}
    with pytest.raises(OverflowError, match=r"stream 1 has 2\*\*55 elements; the last index would be 2\*\*62 or more"):
        fastdrop.dropout(np.ones((1, 1, 1, 1, 1, 4), np.float32), 0.5, seed=stream, **place)
    assert stream.offset == 0


def test_places_that_no_array_has():
    with pytest.raises(ValueError, match="must have at most 64 dimensions"):
        plan.locate_mask((2,) * 128, None, 0, (2,) * 128, None)
    with pytest.raises(OverflowError, match="goes past the end"):
        plan.Call(1).check_place((2**32, 2**32))


@pytest.mark.parametrize("axes", [(0, 2**70), (2**70, 2**71)])
def test_huge_axes_are_refused_with_a_sentence(axes):
    with pytest.raises(ValueError, match="out of range for an array of 2 dimensions"):
        fastdrop.group_dropout(np.ones((4, 2)), 0.5, group_size=2, axes=axes, seed=1)
    with pytest.raises(ValueError, match="out of range for an array of 2 dimensions"):
        fastdrop.dropout(np.ones((4, 2)), 0.5, shared_axes=axes, seed=1)
