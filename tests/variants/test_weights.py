"""Dropout of weights against its formulas, with the oracle's decisions."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from oracle import keep, keep_laid

import fastdrop

SEED, OFFSET = 31, 32
KEY = {"seed": SEED, "offset": OFFSET}


# Weight drop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("unit", ["weight", "output"])
def test_weight_drop(engine, dtype, unit):
    weight = normal((6, 40), dtype)
    kept = keep(SEED, OFFSET, 0, 40 if unit == "output" else 240, 0.3)
    want = times(weight, scale_of(0.3, dtype))
    want[~np.broadcast_to(np.reshape(kept, (-1, 40)), (6, 40))] = 0
    rule = {"unit": unit, **KEY}
    assert_same_bytes(fastdrop.weight_drop(weight, 0.3, **rule), want)
    assert_same_bytes(fastdrop.weight_drop_backward(np.asfortranarray(weight), 0.3, **rule), want)


@pytest.mark.parametrize("unit", ["weight", "output"])
def test_the_raw_weight_outside_training(unit):
    weight = normal((4, 3))
    assert fastdrop.weight_drop(weight, 0.5, unit=unit, training=False) is weight
    assert fastdrop.weight_drop_backward(weight, 0.5, unit=unit, seed=1, training=False) is weight
    assert_same_bytes(fastdrop.weight_drop(weight, 0.0, unit=unit, seed=1), weight)
    assert_same_bytes(fastdrop.weight_drop(weight, 1.0, unit=unit, seed=1), np.zeros((4, 3)))


def test_bad_weight_drop():
    with pytest.raises(ValueError, match="0-d array"):
        fastdrop.weight_drop(np.float64(1), unit="output")
    with pytest.raises(TypeError, match="floating-point dtype"):
        fastdrop.weight_drop(np.ones((2, 2), int))
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.weight_drop_backward(np.ones(3), seed=None)
    for unit in ("row", None, ["weight"]):
        with pytest.raises(ValueError, match="unit must be 'weight' or 'output'; got"):
            fastdrop.weight_drop(np.ones((2, 2)), unit=unit)
    with pytest.raises(TypeError, match="training must be True or False"):
        fastdrop.weight_drop(np.ones((2, 2)), training="no")


def test_an_output_is_a_column_of_a_square_matrix():
    """Weights are (in, out) as in x @ weight: a dropped output is 0 whatever the input."""
    weight, x = np.ones((50, 50)), normal((3, 50))
    y = x @ fastdrop.weight_drop(weight, 0.5, unit="output", **KEY)
    assert ((y == 0).all(axis=0) == ~np.array(keep(SEED, OFFSET, 0, 50, 0.5))).all()


FUNCTIONS = [
    (function, unit)
    for function, units in (
        (fastdrop.weight_drop, ("weight", "output")),
        (fastdrop.weight_drop_backward, ("weight", "output")),
        (fastdrop.shakeout, ("weight", "input")),
        (fastdrop.shakeout_backward, ("weight", "input")),
    )
    for unit in units
]


@pytest.mark.parametrize(("function", "unit"), FUNCTIONS)
def test_blocks_of_larger_weights(engine, function, unit):
    """A block has the decisions of its place, whether `start` or `global_shape` says where it is."""
    weight, rule = normal((30, 44)), {"unit": unit, **KEY}
    whole = function(weight, 0.3, **rule)
    place = {"global_shape": (30, 44), "global_start": (5, 11)}
    assert_same_bytes(function(weight[5:20, 11:40], 0.3, **place, **rule), whole[5:20, 11:40])
    axes = {"weight": (), "output": (0,), "input": (1,)}[unit]
    kept = keep_laid((15, 29), 0.3, SEED, OFFSET, 0, None, axes, **place)
    ones = np.ones((15, 29))
    assert_same_bytes(function(ones, 0.3, **place, **rule) > 0, kept)
    first = {"weight": 7 * 44, "output": 0, "input": 7}[unit]
    assert_same_bytes(function(weight[7:], 0.3, start=first, **rule), whole[7:])


@pytest.mark.parametrize("name", ["weight_drop", "shakeout"])
def test_lists_are_weights(name):
    function = getattr(fastdrop, name)
    weight = [[1.0, -2.0], [3.0, 4.0]]
    assert_same_bytes(function(weight, 0.5, **KEY), function(np.array(weight), 0.5, **KEY))


def test_a_place_that_is_wrong_draws_nothing():
    stream = fastdrop.Stream(1)
    for function, _ in FUNCTIONS[::4]:
        for bad in ({"start": -1}, {"global_shape": (1, 2)}, {"global_start": (0, 0)}):
            with pytest.raises(ValueError, match=r"start|global"):
                function(np.ones((2, 2)), seed=stream, **bad)
    assert stream.offset == 0


# Shakeout -----------------------------------------------------------------------------------------------------------


def shaken(weight, kept, p, c):
    """Transcribe the formula for one weight, each operation rounded to the compute type."""
    compute = np.float64 if weight.dtype == np.float64 else np.float32
    w, sign = compute(weight), np.sign(float(weight))
    if kept:
        value = w * compute(1 / (1 - p))
        value = value + compute(sign) * compute(c * p / (1 - p)) if sign else value
    else:
        value = compute(-c * sign) if sign and c else compute(0)
    return value.astype(weight.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("unit", ["input", "weight"])
def test_shakeout(engine, dtype, unit):
    weight = normal((30, 7), dtype)
    weight[:6, 0] = [0.0, -0.0, 1e-3, -1e-3, 2.0, -2.0]
    kept = np.reshape(keep(SEED, OFFSET, 0, 30 if unit == "input" else 210, 0.3), (30, -1))
    kept = np.broadcast_to(kept, (30, 7))
    for c in (0.0, 0.1, 1.7):
        want = np.array([[shaken(w, k, 0.3, c) for w, k in zip(*row, strict=True)] for row in zip(weight, kept, strict=True)])
        assert_same_bytes(fastdrop.shakeout(weight, 0.3, c, unit=unit, **KEY), want)
    gradient = times(weight, scale_of(0.3, dtype))
    gradient[~kept] = 0
    assert_same_bytes(fastdrop.shakeout_backward(weight, 0.3, unit=unit, **KEY), gradient)


def test_shakeout_without_c_is_dropout():
    weight = np.array([0.0, -0.0, 1.5, -2.5, np.inf, 5e-324] * 9)
    assert_same_bytes(fastdrop.shakeout(weight, 0.3, 0.0, unit="weight", seed=1), fastdrop.dropout(weight, 0.3, seed=1))


def test_a_negative_zero_is_no_dropped_weight(engine):
    for c in (0.0, -0.0):
        assert_same_bytes(fastdrop.shakeout(-np.ones((8, 2)), 1.0, c, **KEY), np.zeros((8, 2)))


def test_moments_of_shakeout():
    n, p, c, w = 40_000, 0.3, 0.5, -0.8
    y = fastdrop.shakeout(np.full(n, w), p, c, unit="weight", seed=2)
    deviation = (abs(w) + c) * np.sqrt(p / (1 - p))  # kept less dropped is (w + c sign(w)) / (1 - p)
    assert abs(y.mean() - w) < 5 * deviation / np.sqrt(n)
    assert abs(y.std() - deviation) < 0.02


def test_the_gradient_of_shakeout_by_differences():
    weight = np.array([[0.7, -1.3, 2.1], [-0.4, 0.9, -3.0]])
    grad, step = normal((2, 3), seed=8), 1e-3
    want = fastdrop.shakeout_backward(grad, 0.4, unit="weight", **KEY)
    above, below = (fastdrop.shakeout(weight + s * step, 0.4, 0.2, unit="weight", **KEY) for s in (1, -1))
    assert np.allclose(grad * (above - below) / (2 * step), want, rtol=0, atol=1e-9)


def test_shakeout_at_the_ends():
    weight = normal((3, 4))
    assert_same_bytes(fastdrop.shakeout(weight, 0.0, 0.5, seed=1), weight)
    assert_same_bytes(fastdrop.shakeout(weight, 1.0, 0.5, seed=1), np.where(weight > 0, -0.5, 0.5))
    assert fastdrop.shakeout(weight, 0.5, training=False) is weight
    assert fastdrop.shakeout_backward(weight, 0.5, seed=1, training=False) is weight
    assert_same_bytes(fastdrop.shakeout(np.full((1, 1), np.nan), 1.0, 0.5, seed=1), np.zeros((1, 1)))
    assert fastdrop.shakeout(np.ones((0, 4)), seed=1).shape == (0, 4)
    in_place = weight.copy()
    assert fastdrop.shakeout(in_place, 0.5, out=in_place, seed=1) is in_place
    assert_same_bytes(in_place, fastdrop.shakeout(weight, 0.5, seed=1))


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "c must be finite", {"c": -0.1}),
        (ValueError, "c must be finite", {"c": np.nan}),
        (ValueError, "c must be finite", {"c": np.inf}),
        (TypeError, "c must be a number", {"c": "0.1"}),
        (TypeError, "c must be a number", {"c": None}),
        (ValueError, "unit must be 'input' or 'weight'", {"unit": "row"}),
        (ValueError, r"shape \(in, out\)", {"weight": np.ones(3)}),
        (TypeError, "training must be True or False", {"training": "no"}),
        (ValueError, "is not inside global_shape", {"global_shape": (2, 1)}),
        (TypeError, "weight must have a floating-point dtype", {"weight": np.ones((2, 2), int)}),
        (ValueError, "p must be in", {"p": -1}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
    ],
)
def test_bad_shakeout(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.shakeout(**{"weight": np.ones((2, 2)), "seed": stream, **arguments})
    assert stream.offset == 0


def test_engines_agree_on_large_weights(engine):
    weight = normal((300, 200), np.float32)
    for function in (fastdrop.weight_drop, fastdrop.shakeout, fastdrop.weight_drop_backward, fastdrop.shakeout_backward):
        assert_same_bytes(function(weight, 0.3, seed=9), by_reference(function, weight, 0.3, seed=9))


@pytest.mark.parametrize("name", ["drop_path", "word_dropout", "weight_drop", "shakeout", "embedding_dropout", "token_dropout"])
def test_a_hostile_floating_point_environment(name):
    """Rounding towards zero and flushed subnormals, set by others, change nothing."""
    from fastdrop._core import native

    x = normal((30, 40), np.float32) * np.float32(1e-39)
    function = getattr(fastdrop, name)
    want = function(x, 0.3, seed=1)
    found = native.float_spoil()
    try:
        got = function(x, 0.3, seed=1)
    finally:
        native.float_end(found)
    assert_same_bytes(got, want)
