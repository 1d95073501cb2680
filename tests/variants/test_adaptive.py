"""Adaptive dropout against its formulas, with the oracle's decisions; its estimators against the exact gradient."""

import functools
import itertools
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal
from oracle import uniform_number

import fastdrop
from fastdrop.elementary import sigmoid
from fastdrop.verify.cases import spoiled

SEED, OFFSET = 51, 52
KEY = {"seed": SEED, "offset": OFFSET}
NEED_LOSSES = ("score_function", "arm", "disarm")
RELATIVE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}


def keep_probability(logits, gain, shift):
    """Return P, the argument rounded as stated; the bits of the sigmoid itself are what its own tests answer for."""
    compute = np.float64 if logits.dtype == np.float64 else np.float32
    return sigmoid(compute(gain) * logits.astype(compute) + compute(shift))


def gate(keep, start=0, antithetic=False):
    """Return the mask, an element at a time: U(i) >= 1 - P; or U(i) < P, the other way round."""
    mask = np.empty(keep.shape, bool)
    for i, index in enumerate(np.ndindex(keep.shape)):
        u, p = uniform_number(SEED, OFFSET, start + i), float(keep[index])
        mask[index] = u < p * 2**64 if antithetic else u >= (1 - p) * 2**64
    return mask


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_adaptive_dropout(engine, dtype, mode, antithetic):
    x, logits = normal((13, 20), dtype, 1), normal((13, 20), dtype, 2)
    x[0, :4] = [np.inf, np.nan, -0.0, -np.inf]
    keep = keep_probability(logits, 1.5, -0.25)
    mask = gate(keep, 7, antithetic)
    scale = (1 / keep.astype(float)).astype(keep.dtype) if mode == "inverted" else keep.dtype.type(1)
    want = np.where(mask, x.astype(keep.dtype) * scale, 0).astype(dtype)
    rule = {"mode": mode, "start": 7, **KEY}
    got = fastdrop.adaptive_dropout(np.asfortranarray(x), logits, 1.5, -0.25, antithetic=antithetic, **rule)
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    assert_same_bytes(got[finite], want[finite])
    if not antithetic:
        dx, none = fastdrop.adaptive_dropout_backward(x, logits, 1.5, -0.25, **rule)
        assert none is None
        assert_same_bytes(np.ascontiguousarray(got), dx)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outside_training(engine, dtype):
    x, logits = normal((7, 9), dtype, 1), normal((7, 9), dtype, 2)
    keep = keep_probability(logits, 2.0, 0.5)
    want = (x.astype(keep.dtype) * keep).astype(dtype)
    got = fastdrop.adaptive_dropout(x, logits, 2.0, 0.5, mode="standard", training=False)
    assert np.allclose(got.astype(float), want.astype(float), rtol=RELATIVE[str(dtype)], atol=0)
    grad = normal((7, 9), dtype, 3)
    rule = {"training": False, "x": x, "estimator": "arm", "seed": 1}
    dx, dlogits = fastdrop.adaptive_dropout_backward(grad, logits, 2.0, 0.5, mode="standard", **rule)
    wide, compute = keep.astype(float), grad.astype(float)
    assert np.allclose(dx.astype(float), compute * wide, rtol=RELATIVE[str(dtype)], atol=0)
    exact = 2.0 * compute * x.astype(float) * wide * (1 - wide)
    assert np.allclose(dlogits.astype(float), exact, rtol=4 * RELATIVE[str(dtype)], atol=0)
    for offset in (0, np.int64(0)):
        assert fastdrop.adaptive_dropout(x, logits, training=False, offset=offset) is x
        dx, dlogits = fastdrop.adaptive_dropout_backward(grad, logits, **rule, offset=offset)
        assert dx is grad
    assert_same_bytes(dlogits, np.zeros((7, 9), dtype))


def test_the_gradient_outside_training_by_differences():
    x, logits, grad = normal((3, 4), seed=1), normal((3, 4), seed=2), normal((3, 4), seed=3)
    _, dlogits = fastdrop.adaptive_dropout_backward(
        grad, logits, 1.5, 0.5, mode="standard", training=False, x=x, estimator="straight_through", seed=1
    )
    above, below = (
        fastdrop.adaptive_dropout(x, logits + step, 1.5, 0.5, mode="standard", training=False) for step in (1e-6, -1e-6)
    )
    assert np.allclose(dlogits, grad * (above - below) / 2e-6, rtol=0, atol=1e-9)


def test_ends_and_what_is_no_number():
    x = np.array([1.0, -2.0, np.inf, 4.0, 5.0])
    logits = np.array([np.nan, np.inf, -np.inf, 800.0, -800.0])
    for training, mode in itertools.product([True, False], ["inverted", "standard"]):
        if training or mode == "standard":
            got = fastdrop.adaptive_dropout(x, logits, training=training, mode=mode, seed=1 if training else None)
            assert_same_bytes(got, np.array([0, -2, 0, 4, 0.0]))
    assert_same_bytes(
        fastdrop.adaptive_dropout(x, logits, antithetic=True, mode="standard", seed=1), np.array([0, -2, 0, 4, 0.0])
    )
    for estimator in NEED_LOSSES:
        _, slopes = fastdrop.adaptive_dropout_backward(
            x, logits, seed=1, mode="standard", estimator=estimator, losses=3.0, antithetic_losses=1.0
        )
        assert slopes[0] == 0
    nothing = np.zeros_like(x)
    whole = fastdrop.adaptive_dropout(np.full(100_000, 1.0), np.zeros(100_000), 0.0, 1.0, mode="standard", seed=1)
    assert abs(whole.mean() - 1 / (1 + math.exp(-1))) < 0.006  # gain = 0: a constant rate
    assert_same_bytes(fastdrop.adaptive_dropout(nothing, logits, seed=1), nothing)
    assert fastdrop.adaptive_dropout(np.ones((0, 3)), np.ones((0, 3)), seed=1).shape == (0, 3)
    assert fastdrop.adaptive_dropout(np.float32(2), np.float32(99), mode="standard", seed=1) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_with_a_tiny_probability_are_dropped(dtype):
    logits = np.resize(np.array([0.0, -800.0, -60.0, -np.inf], dtype), 5000)  # P of 1/2, 0, 9e-27 and 0
    kept = fastdrop.adaptive_dropout(np.ones(5000, dtype), logits, mode="standard", seed=1) != 0
    assert not kept[logits < 0].any()
    assert 0.4 < kept[logits == 0].mean() < 0.6


def test_no_array_of_rates_is_allocated():
    x, logits, out = (np.zeros((64, 4096), np.float32) for _ in range(3))
    for options in ({"mode": "inverted"}, {"mode": "standard"}, {"antithetic": True}):
        with fastdrop.using(backend="c"):
            tracemalloc.start()
            try:
                fastdrop.adaptive_dropout(x, logits, out=out, **options, **KEY)
                assert tracemalloc.get_traced_memory()[1] < 10_000, options
            finally:
                tracemalloc.stop()


def test_kept_elements_of_small_probability_are_divided_by_it():
    logits = np.full(2**17, -10.0)
    kept = fastdrop.adaptive_dropout(np.ones_like(logits), logits, seed=1)
    assert np.unique(kept).tolist() == [0, 1 / sigmoid(np.array(-10.0))]


def test_out():
    x, logits = normal((5, 6), seed=1), normal((5, 6), seed=2)
    for antithetic in (False, True):
        rule = {"antithetic": antithetic, "mode": "inverted", **KEY}
        want, place = fastdrop.adaptive_dropout(x, logits, **rule), x.copy()
        assert fastdrop.adaptive_dropout(place, logits, out=place, **rule) is place
        assert_same_bytes(place, want)
    place = x.copy()
    given = {"x": place, "estimator": "straight_through", **KEY}
    want = fastdrop.adaptive_dropout_backward(x, logits, **{**given, "x": x})
    for got, other in zip(fastdrop.adaptive_dropout_backward(place, logits, out=place, **given), want, strict=True):
        assert_same_bytes(got, other)  # also where the result takes the place of what the gate's gradient is made of


# Estimators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_estimators_by_their_formulas(engine, dtype, mode):
    x, logits, grad = (normal((6, 8), dtype, seed) for seed in (1, 2, 3))
    losses, others = normal(6, seed=4), normal(6, seed=5)
    keep = keep_probability(logits, 1.5, 0.25).astype(float)
    mask, other = gate(keep), gate(keep, antithetic=True)
    u = np.reshape([uniform_number(SEED, OFFSET, i) / 2**64 for i in range(48)], (6, 8))
    product = grad.astype(float) * x.astype(float)
    want = {
        "straight_through": product * (1 - keep) * (1 if mode == "inverted" else keep),
        "score_function": losses[:, None] * (mask - keep),
        "arm": (losses - others)[:, None] * (u - 0.5),
        "disarm": (losses - others)[:, None] * (mask.astype(float) - other) * np.maximum(keep, 1 - keep) / 2,
    }
    path = product * mask / keep * (1 - keep) if mode == "inverted" else 0
    given = {"x": x, "losses": losses, "antithetic_losses": others, "mode": mode, **KEY}
    for estimator, slopes in want.items():
        dx, got = fastdrop.adaptive_dropout_backward(grad, logits, 1.5, 0.25, estimator=estimator, **given)
        assert got.dtype == dtype
        expected = 1.5 * (slopes - path)
        error = 20 * RELATIVE[str(dtype)] * np.abs(expected).max() + (2**-22 if estimator == "arm" else 0)  # u's digits
        assert np.abs(got.astype(float) - expected).max() < error
        assert_same_bytes(dx, fastdrop.adaptive_dropout_backward(grad, logits, 1.5, 0.25, mode=mode, **KEY)[0])


@pytest.mark.parametrize("estimator", ["straight_through", *NEED_LOSSES])
def test_estimators_of_one_number(engine, estimator):
    """An array without axes has the gradients of an array of one element."""
    arrays = {"grad": 1.5, "logits": 0.25, "x": 2.0, "losses": 3.0, "antithetic_losses": 1.0}
    one, several = ({word: np.full(shape, value) for word, value in arrays.items()} for shape in ((), (1,)))
    wanted = fastdrop.adaptive_dropout_backward(**several, estimator=estimator, **KEY)
    for got, want in zip(fastdrop.adaptive_dropout_backward(**one, estimator=estimator, **KEY), wanted, strict=True):
        assert got.shape == ()
        assert_same_bytes(got, want.reshape(()))


def loss_of(y):
    return (y.sum(axis=-1) - 1.5) ** 2


def expected_loss(x, logits, mode):
    """Sum over all masks of one example."""
    keep = 1 / (1 + np.exp(-logits))
    total = 0.0
    for mask in itertools.product([0, 1], repeat=x.size):
        chance = np.prod(np.where(mask, keep, 1 - keep))
        total += chance * loss_of(mask * x / (keep if mode == "inverted" else 1))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("estimator", NEED_LOSSES)
def test_estimators_are_unbiased(estimator, mode):
    """On the mean over many examples, for a loss that is not linear; gain and shift at their defaults."""
    n, x, logits = 100_000, np.array([0.7, -1.2, 2.0]), np.array([0.4, -0.8, 1.1])
    layer = {"logits": np.tile(logits, (n, 1)), "mode": mode, "seed": 6}
    rows = np.tile(x, (n, 1))
    y = fastdrop.adaptive_dropout(rows, **layer)
    others = loss_of(fastdrop.adaptive_dropout(rows, antithetic=True, **layer))
    grad = np.repeat(2 * (y.sum(axis=1, keepdims=True) - 1.5), 3, axis=1)
    given = {"x": rows, "losses": loss_of(y), "antithetic_losses": others, "estimator": estimator}
    _, slopes = fastdrop.adaptive_dropout_backward(grad, **layer, **given)
    for i in range(3):
        step = 1e-5 * np.eye(3)[i]
        exact = (expected_loss(x, logits + step, mode) - expected_loss(x, logits - step, mode)) / 2e-5
        assert abs(slopes[:, i].mean() - exact) < 5 * slopes[:, i].std() / math.sqrt(n)


def test_disarm_varies_less_than_arm():
    n = 20_000
    logits, losses, others = np.full((n, 1), 0.5), np.full(n, 2.0), np.full(n, 1.0)
    given = {"losses": losses, "antithetic_losses": others, "mode": "standard", "seed": 3}
    arm, disarm = (
        fastdrop.adaptive_dropout_backward(logits, logits, estimator=name, **given)[1].var() for name in ("arm", "disarm")
    )
    assert disarm < arm


# Bits and arguments -------------------------------------------------------------------------------------------------


def large(dtype):
    """Return x, logits, a gradient and two rows of losses."""
    return [normal((60, 401), dtype, seed) for seed in (1, 2, 3)] + [normal(60, seed=seed) for seed in (4, 5)]


def in_all_ways(x, logits, grad, losses, others):
    made = []
    for mode, training in itertools.product(["standard", "inverted"], [False, True]):
        rule = {"mode": mode, "training": training, "start": 5, **KEY}
        made.append(fastdrop.adaptive_dropout(x, logits, 1.5, -0.5, **rule))
        made.append(fastdrop.adaptive_dropout(x, logits, 1.5, -0.5, antithetic=True, **rule))
        for estimator in ("straight_through", "score_function", "disarm"):
            given = {"x": x, "losses": losses, "antithetic_losses": others, "estimator": estimator, **rule}
            made += fastdrop.adaptive_dropout_backward(grad, logits, 1.5, -0.5, **given)
    return made


@functools.cache
def wanted(dtype):
    """Return the results of the reference."""
    return by_reference(in_all_ways, *large(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_engines_agree(engine, dtype):
    for got, want in zip(in_all_ways(*large(dtype)), wanted(dtype), strict=True):
        assert_same_bytes(got, want)


def test_in_a_hostile_environment():
    """Rounding towards zero and flushed subnormals, set by others, change nothing."""
    given = large(np.float32)
    want = in_all_ways(*given)
    with spoiled():
        found = in_all_ways(*given)
    for got, other in zip(found, want, strict=True):
        assert_same_bytes(got, other)


def test_keys_are_drawn_once():
    x = normal((4, 5))
    stream = fastdrop.Stream(SEED, OFFSET)
    assert_same_bytes(fastdrop.adaptive_dropout(x, x, seed=stream), fastdrop.adaptive_dropout(x, x, **KEY))
    assert stream.offset == OFFSET + 1
    fastdrop.adaptive_dropout(x, x, seed=stream, training=False)
    assert stream.offset == OFFSET + 1
    given = {"x": x, "losses": x[:, 0], "antithetic_losses": x[:, 1], "estimator": "disarm"}
    with pytest.raises(TypeError, match="seed must be the key of the forward pass; a Stream would draw another one"):
        fastdrop.adaptive_dropout_backward(x, x, seed=stream, **given)
    assert stream.offset == OFFSET + 1
    got = fastdrop.adaptive_dropout_backward(x, x, seed=fastdrop.Key(SEED, OFFSET), **given)
    for one, other in zip(got, fastdrop.adaptive_dropout_backward(x, x, **given, **KEY), strict=True):
        assert_same_bytes(one, other)


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 9)])
@pytest.mark.parametrize("where", ["start", "block"])
def test_blocks_of_a_larger_array(engine, rows, where):
    """Masks, antithetic masks and the digits of U(i) are those of the place in the larger array."""
    x, logits, grad, losses, others = (normal(shape, seed=k) for k, shape in enumerate([(9, 12)] * 3 + [(9,)] * 2))
    columns = slice(None) if where == "start" else slice(3, 11)
    begin = {"global_shape": (9, 12), "global_start": (rows.start, 3)}
    place = {"start": rows.start * 12} if where == "start" else begin
    part = (rows, columns)
    for antithetic in (False, True):
        whole = fastdrop.adaptive_dropout(x, logits, antithetic=antithetic, **KEY)
        got = fastdrop.adaptive_dropout(x[part], logits[part], antithetic=antithetic, **place, **KEY)
        assert_same_bytes(got, whole[part])
    for estimator in ("straight_through", *NEED_LOSSES):
        given = {"estimator": estimator, **KEY}
        want = fastdrop.adaptive_dropout_backward(grad, logits, x=x, losses=losses, antithetic_losses=others, **given)
        given |= {"x": x[part], "losses": losses[rows], "antithetic_losses": others[rows], **place}
        for one, other in zip(fastdrop.adaptive_dropout_backward(grad[part], logits[part], **given), want, strict=True):
            assert_same_bytes(one, other[part])


def test_lists():
    x, logits = [[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [-1.0, 2.0]]
    arrays = np.array(x), np.array(logits)
    assert_same_bytes(fastdrop.adaptive_dropout(x, logits, **KEY), fastdrop.adaptive_dropout(*arrays, **KEY))
    given = {"estimator": "arm", "losses": [1.0, 2.0], "antithetic_losses": [0.0, 1.0], **KEY}
    got = fastdrop.adaptive_dropout_backward(x, logits, x=x, **given)
    for one, other in zip(got, fastdrop.adaptive_dropout_backward(*arrays, x=arrays[0], **given), strict=True):
        assert_same_bytes(one, other)


def test_the_expected_value_is_the_input_by_default():
    x, logits = np.full(100_000, 2.0), np.linspace(-1, 1, 100_000)
    assert abs(fastdrop.adaptive_dropout(x, logits, seed=5).mean() - 2) < 0.05


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 3), int)}),
        (TypeError, "logits must be an array", {"logits": None}),
        (TypeError, "logits must have the dtype of the input", {"logits": np.ones((2, 3), int)}),
        (ValueError, "mode must be 'inverted' or 'standard'", {"mode": "unscaled"}),
        (TypeError, "training must be True or False", {"training": "no"}),
        (ValueError, "is not inside global_shape", {"global_shape": (1, 3)}),
        (TypeError, "logits must have the dtype of the input", {"logits": np.ones((2, 3), np.float32)}),
        (ValueError, "logits must have the shape", {"logits": np.ones(3)}),
        (TypeError, "gain must be a number", {"gain": "1"}),
        (ValueError, "gain must be finite", {"gain": np.inf}),
        (ValueError, "shift must be finite", {"shift": np.nan}),
        (TypeError, "shift must be a number", {"shift": None}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
        (ValueError, "num_threads must be", {"num_threads": 0}),
        (ValueError, "start must be", {"start": -1}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
    ],
)
def test_bad_adaptive_dropout(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((2, 3)), "logits": np.ones((2, 3)), "seed": stream, **arguments}
    with pytest.raises(error, match=words):
        fastdrop.adaptive_dropout(**good)
    with pytest.raises(error, match=words.replace("x must", "grad must")):
        fastdrop.adaptive_dropout_backward(good.pop("x"), **{**good, "seed": 1})
    assert stream.offset == 0


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "estimator must be one of 'none', 'straight_through'", {"estimator": "reinforce"}),
        (ValueError, "'straight_through' needs x here", {"estimator": "straight_through"}),
        (ValueError, "'score_function' needs losses here", {"estimator": "score_function"}),
        (ValueError, "'score_function' needs x", {"estimator": "score_function", "losses": np.ones(2), "mode": "inverted"}),
        (ValueError, "'score_function' needs x", {"estimator": "score_function", "losses": np.ones(2), "training": False}),
        (ValueError, "'arm' needs antithetic_losses here", {"estimator": "arm", "losses": np.ones(2)}),
        (ValueError, "'disarm' needs losses and antithetic_losses here", {"estimator": "disarm"}),
        (ValueError, r"losses must have the shape \(2,\)", {"estimator": "score_function", "losses": np.ones(3)}),
        (ValueError, r"losses must have the shape \(2,\)", {"estimator": "score_function", "losses": np.ones((2, 3))}),
        (ValueError, r"antithetic_losses must have", {"estimator": "arm", "losses": 1.0, "antithetic_losses": np.ones((2, 3))}),
        (TypeError, "losses must be real", {"estimator": "score_function", "losses": ["a", "b"]}),
        (ValueError, "x must have the shape", {"estimator": "straight_through", "x": np.ones(3)}),
        (ValueError, "estimator must be one of", {"estimator": ["arm"]}),
        (TypeError, "seed is required here", {"seed": None}),
        (TypeError, "seed is required here", {"seed": None, "training": False}),
    ],
)
def test_bad_backward_passes(error, words, arguments):
    good = {"grad": np.ones((2, 3)), "logits": np.ones((2, 3)), "mode": "standard", "seed": 1}
    with pytest.raises(error, match=words):
        fastdrop.adaptive_dropout_backward(**{**good, **arguments})


def test_an_antithetic_pass_needs_a_seed():
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.adaptive_dropout(np.ones(3), np.ones(3), antithetic=True)
    with pytest.raises(TypeError, match="antithetic must be True or False"):
        fastdrop.adaptive_dropout(np.ones(3), np.ones(3), antithetic="no", seed=1)
