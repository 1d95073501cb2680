"""DropBlock against a loop over seeds and cells, its rates against closed forms, its gradient, its arguments."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from oracle import fixed, uniform_number

import fastdrop
from fastdrop import theory
from fastdrop.variants._blocks import count_covers, expected_dropped
from fastdrop.verify.cases import equal_bytes

DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
KEY = {"seed": 51, "offset": 52}
SCALINGS = [{"per": "batch"}, {"per": "sample"}, {"mode": "unscaled"}]


def values(shape, dtype=np.float64):
    return np.linspace(-2, 3, math.prod(shape)).reshape(shape).astype(dtype)


def slow_mask(shape, gamma, block, shared=False):
    """Return a keep mask, channels first: a loop over places, and at each seed one over the block's cells."""
    samples, channels, *spatial = shape
    mask = np.ones(shape, bool)
    block = [min(size, length) for size, length in zip(spatial, block, strict=True)]
    places = [range(size - length + 1) for size, length in zip(spatial, block, strict=True)]
    decisions = itertools.product(range(samples), range(1 if shared else channels), *places)
    for index, (n, c, *corner) in enumerate(decisions):
        if uniform_number(KEY["seed"], KEY["offset"], index) < fixed(gamma):
            for step in itertools.product(*map(range, block)):
                cell = tuple(begin + more for begin, more in zip(corner, step, strict=True))
                mask[(n, slice(None) if shared else c, *cell)] = False
    return mask


def slow_drop_block(x, mask, per):
    """Return keep ? x * size / kept : 0, an element at a time, rounded to the type computed with, then to that of x."""
    compute = np.float64 if x.dtype == np.float64 else np.float32
    y = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        counted = {"batch": mask, "sample": mask[index[0]], None: np.ones(1)}[per]
        if mask[index]:
            y[index] = compute(x[index]) * compute(counted.size / int(counted.sum()))
    return y


GEOMETRIES = [
    ((2, 3, 17), (4,)),
    ((2, 2, 9, 7), (3, 3)),
    ((2, 2, 6, 9), (2, 5)),
    ((2, 3, 5, 70), (4, 66)),
    ((1, 2, 5, 64), (3, 5)),
    ((2, 1, 4, 5, 6), (2, 3, 1)),
    ((3, 2, 3, 4), (7, 2)),
    ((2, 2, 6, 6), (1, 1)),
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("shape", "block"), GEOMETRIES)
def test_blocks_are_those_of_a_loop(engine, shape, block, shared):
    x = values(shape)
    gamma = theory.drop_block_gamma(0.4, shape[2:], block)
    want = slow_drop_block(x, slow_mask(shape, gamma, block, shared), None)
    assert 0 < np.count_nonzero(want) < x.size
    assert equal_bytes(fastdrop.drop_block(x, 0.4, block, shared_axes=1 if shared else None, mode="unscaled", **KEY), want)


def test_more_channels_than_a_word_has_bits(engine):
    x = values((2, 70, 5, 3))
    first = fastdrop.drop_block(x, 0.4, 2, **KEY)
    last = fastdrop.drop_block(np.moveaxis(x, 1, -1), 0.4, 2, data_format="channels_last", **KEY)
    assert 0 < np.count_nonzero(first) < x.size
    assert equal_bytes(np.moveaxis(last, -1, 1).copy(), first)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scales_and_types(engine, scaling, dtype):
    shape, block = (3, 2, 7, 8), (3, 2)
    x = values(shape, dtype)
    mask = slow_mask(shape, theory.drop_block_gamma(0.3, shape[2:], block), block)
    assert len({int(sample.sum()) for sample in mask}) > 1
    want = slow_drop_block(x, mask, scaling.get("per"))
    for function in (fastdrop.drop_block, fastdrop.drop_block_backward):
        y = function(x, 0.3, block, **scaling, **KEY)
        assert y.dtype == x.dtype
        assert y.tobytes() == want.tobytes()
        out = x.copy()
        assert function(out, 0.3, block, **scaling, out=out, **KEY) is out
        assert out.tobytes() == want.tobytes()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_any_layout(engine, per):
    x = values((2, 3, 6, 8))
    want = fastdrop.drop_block(x, 0.3, 3, per=per, **KEY)
    assert np.array_equal(fastdrop.drop_block(np.asfortranarray(x), 0.3, 3, per=per, **KEY), want)
    last = np.moveaxis(x, 1, -1)
    for array in (last, last.copy()):
        y = fastdrop.drop_block(array, 0.3, 3, per=per, data_format="channels_last", **KEY)
        assert np.array_equal(y, np.moveaxis(want, 1, -1))


def test_a_block_drops_what_is_not_finite():
    x = np.full((1, 1, 8), np.nan, np.float32)
    x[...] = [np.nan, np.inf, -np.inf, -1, -0.0, 1, 2, 3]
    y = fastdrop.drop_block(x, 1.0, 8, **KEY)
    assert y.tobytes() == bytes(x.nbytes)


# Rates --------------------------------------------------------------------------------------------------------------


def measured_share(size, exact_rate):
    """Return the share dropped of a large sample of maps: in float16, in parts."""
    x = np.ones(((1400 // size), 1000, size, size), np.float16)
    options = {"exact_rate": exact_rate, "mode": "unscaled", "out": np.empty_like(x), "seed": 53}
    kept = sum(np.count_nonzero(fastdrop.drop_block(x, 0.1, 7, offset=k, **options)) for k in range(3))
    return 1 - kept / (3 * x.size)


def test_the_measured_rate_on_14_by_14():
    assert measured_share(14, True) == pytest.approx(0.1, rel=0.01)
    assert measured_share(14, False) == pytest.approx(0.0929, rel=0.01)


def test_the_measured_rate_on_28_by_28():
    assert measured_share(28, True) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.7])
def test_the_exact_rate_is_the_least_that_suffices(p):
    spatial, block = (9, 7), (3, 2)
    gamma = theory.drop_block_gamma(p, spatial, block, exact_rate=True)
    n, cells = map(np.array, zip(*count_covers(spatial, block).items(), strict=True))
    assert expected_dropped(math.nextafter(gamma, 0), n, cells) < p * math.prod(spatial) <= expected_dropped(gamma, n, cells)


def test_the_moments_of_a_cell():
    """A cell without scaling is kept with (1 - gamma)**n: corners have n = 1, the middle has the most."""
    x = np.ones((400, 500, 5))
    y = fastdrop.drop_block(x, 0.4, 3, mode="unscaled", **KEY)
    gamma = theory.drop_block_gamma(0.4, (5,), 3)
    for cell, n in enumerate([1, 2, 3, 2, 1]):
        keep = (1 - gamma) ** n
        error = math.sqrt(keep * (1 - keep) / 200_000)
        assert abs(y[..., cell].mean() - keep) < 4.5 * error
        assert y[..., cell].var() == pytest.approx(keep * (1 - keep), rel=0.02)


# Ends, gradient, randomness -----------------------------------------------------------------------------------------


def test_the_ends_of_the_rate(engine):
    x = values((2, 2, 6, 6), np.float32)
    for scaling in SCALINGS:
        for exact_rate in (False, True):
            assert equal_bytes(fastdrop.drop_block(x, 0, 3, exact_rate=exact_rate, **scaling, **KEY), x)
        assert equal_bytes(fastdrop.drop_block(x, 1, 3, exact_rate=True, **scaling, **KEY), np.zeros_like(x))


@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5), (2, 2, 0), (2, 2, 3, 0)])
def test_nothing(engine, shape):
    for scaling in SCALINGS:
        assert fastdrop.drop_block(np.ones(shape), 0.5, 3, **scaling, **KEY).shape == shape


def test_outside_training():
    x, stream = values((2, 2, 6)), fastdrop.Stream(1)
    assert fastdrop.drop_block(x, training=False, seed=stream) is x
    assert stream.offset == 0
    out = np.empty_like(x)
    assert fastdrop.drop_block_backward(x, training=False, seed=1, out=out) is out
    assert equal_bytes(out, x)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_backward_is_the_gradient(scaling):
    x, w = values((2, 2, 6)), values((2, 2, 6))[::-1]
    step = 2.0**-10
    differences = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = step
        above, below = (fastdrop.drop_block(x + sign * nudge, 0.4, 2, **scaling, **KEY) for sign in (1, -1))
        differences[index] = (w * (above - below)).sum() / (2 * step)
    assert np.allclose(fastdrop.drop_block_backward(w, 0.4, 2, **scaling, **KEY), differences, atol=1e-9)


def test_a_stream_is_drawn_from_once():
    x, stream = values((2, 2, 6)), fastdrop.Stream(51, 52)
    assert equal_bytes(fastdrop.drop_block(x, 0.4, 2, seed=stream), fastdrop.drop_block(x, 0.4, 2, **KEY))
    assert stream.offset == 53


BAD = [
    (ValueError, "three", {"x": np.ones((2, 3))}),
    (ValueError, "three", {"x": np.ones((1,) * 6)}),
    (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 3, 4), int)}),
    (ValueError, "p must be in", {"p": 1.5}),
    (TypeError, "p must be", {"p": "much"}),
    (ValueError, "block_size", {"block_size": 0}),
    (ValueError, "block_size", {"block_size": (2, 2)}),
    (TypeError, "block_size", {"block_size": 2.0}),
    (ValueError, "mode must be 'inverted' or 'unscaled'", {"mode": "standard"}),
    (ValueError, "per must be 'batch' or 'sample'", {"per": "map"}),
    (ValueError, r"shared_axes must be 0 \(the samples\), 1 \(the channels\)", {"shared_axes": 2}),
    (TypeError, "exact_rate must be True or False", {"exact_rate": "no"}),
    (TypeError, "block_size", {"block_size": True}),
    (TypeError, "block_size", {"block_size": None}),
    (ValueError, "data_format must be", {"data_format": "NCHW"}),
    (ValueError, "out must have the shape", {"out": np.ones(3)}),
    (ValueError, "unknown backend", {"backend": "abacus"}),
    (ValueError, "offset", {"offset": -1}),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("error", "message", "bad"), BAD)
def test_bad_input(error, message, bad, training):
    """Nothing is drawn: a stream stays where it is."""
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=message):
        fastdrop.drop_block(**{"x": np.ones((2, 3, 4)), "seed": stream, "training": training, **bad})
    assert stream.offset == 0


def test_bad_input_elsewhere():
    with pytest.raises(TypeError, match="seed is required"):
        fastdrop.drop_block_backward(np.ones((1, 1, 5)), seed=None)
    with pytest.raises(TypeError, match="grad must have"):
        fastdrop.drop_block_backward(np.ones((1, 1, 5), int), seed=1)
    with pytest.raises(TypeError, match="training must be True or False"):
        fastdrop.drop_block(np.ones((1, 1, 5)), training=1)
    with pytest.raises(TypeError, match="seed must be the key of the forward pass"):
        fastdrop.drop_block_backward(np.ones((1, 1, 5)), seed=fastdrop.Stream(1))


# Shared masks, blocks of a larger array -----------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_axes_that_share_a_mask(axes, data_format):
    x = np.ones((4, 3, 9, 7), np.float32)
    rates = {"block_size": 3, "mode": "unscaled", "data_format": data_format}
    shared = [3 if axis and data_format == "channels_last" else axis for axis in axes]
    y = fastdrop.drop_block(x, 0.4, shared_axes=tuple(shared), **rates, **KEY)
    single = tuple(slice(0, 1) if axis in shared else slice(None) for axis in range(4))
    lead = fastdrop.drop_block(x[single], 0.4, **rates, **KEY)
    assert equal_bytes(y, np.broadcast_to(lead, x.shape).copy())
    assert 0 < np.count_nonzero(y) < y.size


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("scaling", [{"per": "sample"}, {"mode": "unscaled"}, {"per": "sample", "shared_axes": 0}])
def test_samples_of_a_larger_batch(engine, scaling, data_format):
    x = values((5, 4, 6, 3), np.float32)
    options = {"p": 0.4, "block_size": 2, "data_format": data_format, **scaling, **KEY}
    for function in (fastdrop.drop_block, fastdrop.drop_block_backward):
        whole = function(x, **options)
        for part in (slice(0, 2), slice(2, 5)):
            where = {"global_shape": x.shape, "global_start": (part.start, 0, 0, 0)}
            assert equal_bytes(function(x[part], **where, **options), whole[part].copy())


def test_what_cannot_be_a_block():
    stream = fastdrop.Stream(1)
    for where in ({"start": 1}, {"global_shape": (2, 3, 8)}):
        with pytest.raises(ValueError, match="if the scale counts the whole batch"):
            fastdrop.drop_block(np.ones((1, 3, 8)), seed=stream, **where)
    for shape in ((1, 4, 8), (1, 3, 9)):
        with pytest.raises(ValueError, match="must have all of axis 1 and 2"):
            fastdrop.drop_block(np.ones((1, 3, 8)), per="sample", seed=stream, global_shape=shape)
    assert stream.offset == 0
