"""Dropout of weights against its formulas, with the oracle's decisions."""

import hashlib

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from oracle import fold_in, keep

import fastdrop
from fastdrop.variants import weights

SEED, OFFSET = 31, 32
KEY = {"seed": SEED, "offset": OFFSET}
TOLERANCE = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}  # of sums of a dozen values near 1


# Weight drop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variational", [False, True])
def test_weight_drop(engine, dtype, variational):
    weight = normal((40, 6), dtype)
    kept = keep(SEED, OFFSET, 0, 40 if variational else 240, 0.3)
    want = times(weight, scale_of(0.3, dtype))
    want[~np.array(kept).reshape(40, -1).repeat(6 if variational else 1, axis=1)] = 0
    rule = {"variational": variational, **KEY}
    assert_same_bytes(fastdrop.weight_drop(weight, 0.3, **rule), want)
    assert_same_bytes(fastdrop.weight_drop_backward(np.asfortranarray(weight), 0.3, **rule), want)


@pytest.mark.parametrize("variational", [False, True])
def test_the_raw_weight_outside_training(variational):
    weight = normal((4, 3))
    assert fastdrop.weight_drop(weight, 0.5, variational=variational, training=False) is weight
    assert fastdrop.weight_drop_backward(weight, 0.5, variational=variational, seed=1, training=False) is weight
    assert_same_bytes(fastdrop.weight_drop(weight, 0.0, variational=variational, seed=1), weight)
    assert_same_bytes(fastdrop.weight_drop(weight, 1.0, variational=variational, seed=1), np.zeros((4, 3)))


def test_bad_weight_drop():
    with pytest.raises(ValueError, match="0-d array"):
        fastdrop.weight_drop(np.float64(1), variational=True)
    with pytest.raises(TypeError, match="floating-point dtype"):
        fastdrop.weight_drop(np.ones((2, 2), int))
    with pytest.raises(TypeError, match="seed must be given"):
        fastdrop.weight_drop_backward(np.ones(3), seed=None)


# DropConnect --------------------------------------------------------------------------------------------------------


def connections(n, per, p, out=4, inputs=6):
    """Return the factors of weights and biases of example n."""
    n = n if per == "example" else 0
    weight = np.reshape(keep(SEED, OFFSET, n * out * inputs, out * inputs, p), (out, inputs))
    name = int.from_bytes(hashlib.sha256(b"bias").digest()[:8], "little")
    return weight, np.array(keep(fold_in(SEED, name), OFFSET, n * out, out, p))


def layer(dtype, n=5):
    return normal((n, 6), dtype, 1), normal((4, 6), dtype, 2), normal(4, dtype, 3)


def close(got, want, dtype):
    assert got.dtype == dtype
    assert np.abs(got.astype(float) - want).max() <= TOLERANCE[str(dtype)] * max(1, np.abs(want).max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("per", ["example", "batch"])
def test_drop_connect(engine, dtype, per, mode, monkeypatch):
    x, weight, bias = layer(dtype)
    grad = normal((5, 4), dtype, 4)
    scale = 1 / 0.6 if mode == "inverted" else 1.0
    for drop_bias in (True, False):
        y, dx = np.zeros((5, 4)), np.zeros((5, 6))
        dweight, dbias = np.zeros((4, 6)), np.zeros(4)
        for n in range(5):
            kept, kept_bias = connections(n, per, 0.4)
            bias_factor = scale * kept_bias if drop_bias else np.ones(4)
            for o in range(4):
                g = float(grad[n, o])
                y[n, o] = float(bias[o]) * bias_factor[o]
                dbias[o] += g * bias_factor[o]
                for i in range(6):
                    y[n, o] += scale * kept[o, i] * float(weight[o, i]) * float(x[n, i])
                    dx[n, i] += scale * kept[o, i] * float(weight[o, i]) * g
                    dweight[o, i] += scale * kept[o, i] * float(x[n, i]) * g
        rule = {"per": per, "mode": mode, "drop_bias": drop_bias, **KEY}
        for chunk in (weights.CHUNK, 2 * 24, 1):  # all at once; two examples at a time; one
            monkeypatch.setattr(weights, "CHUNK", chunk)
            close(fastdrop.drop_connect(x, weight, 0.4, bias=bias, **rule), y, dtype)
            gradients = fastdrop.drop_connect_backward(grad, x, weight, 0.4, **rule)
            for got, want in zip(gradients, (dx, dweight, dbias), strict=True):
                close(got, want, dtype)


@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("drop_bias", [True, False])
def test_moments_of_drop_connect(mode, drop_bias):
    x, weight, bias = layer(np.float64, 1)
    rule = {"bias": bias, "mode": mode, "drop_bias": drop_bias}
    mean, variance = fastdrop.drop_connect_moments(x, weight, 0.3, **rule)
    n = 40_000
    y = fastdrop.drop_connect(np.repeat(x, n, axis=0), weight, 0.3, seed=6, **rule)
    assert (np.abs(y.mean(axis=0) - mean[0]) < 5 * np.sqrt(variance[0] / n)).all()
    assert np.allclose(y.var(axis=0), variance[0], rtol=0.05)
    outside = fastdrop.drop_connect(x, weight, 0.3, training=False, **rule)
    assert np.allclose(outside, mean, rtol=1e-13)


def test_moments_at_the_ends():
    x, weight, bias = layer(np.float32)
    for mode in ("standard", "inverted"):
        mean, variance = fastdrop.drop_connect_moments(x, weight, 0.0, bias=bias, mode=mode)
        close(mean, x.astype(float) @ weight.T + bias, np.dtype("float32"))
        assert not variance.any()
        for moment in fastdrop.drop_connect_moments(x, weight, 1.0, bias=bias, mode=mode):
            assert not moment.any()


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_drop_connect_by_differences(training):
    x, weight, bias = layer(np.float64)
    grad = normal((5, 4), seed=5)
    rule = {"training": training, **KEY}

    def loss(x, weight, bias):
        return (grad * fastdrop.drop_connect(x, weight, 0.4, bias=bias, **rule)).sum()

    gradients = fastdrop.drop_connect_backward(grad, x, weight, 0.4, **rule)
    for k, want in enumerate(gradients):
        for index in np.ndindex(want.shape):
            step = [np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)]
            step[k][index] = 1e-3
            above, below = (loss(x + s * step[0], weight + s * step[1], bias + s * step[2]) for s in (1, -1))
            assert abs((above - below) / 2e-3 - want[index]) < 1e-9  # linear in each: no error but rounding


def test_drop_connect_at_the_ends():
    x, weight, bias = layer(np.float64)
    plain = x @ weight.T + bias
    assert np.allclose(fastdrop.drop_connect(x, weight, 0.0, bias=bias, seed=1), plain, rtol=1e-13)
    assert np.allclose(fastdrop.drop_connect(x, weight, 0.5, bias=bias, mode="inverted", training=False), plain, rtol=1e-13)
    assert not fastdrop.drop_connect(x, weight, 1.0, bias=bias, seed=1).any()
    assert fastdrop.drop_connect(x[:0], weight, 0.5, bias=bias, seed=1).shape == (0, 4)
    dx, dweight, dbias = fastdrop.drop_connect_backward(np.ones((0, 4)), x[:0], weight, 0.5, seed=1)
    assert (dx.shape, dweight.any(), dbias.any()) == ((0, 6), False, False)
    assert fastdrop.drop_connect(np.ones((3, 0)), np.ones((2, 0)), 0.5, seed=1).tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "x must have shape", {"x": np.ones((2, 5))}),
        (ValueError, "x must have shape", {"weight": np.ones(6)}),
        (TypeError, "weight must have the dtype of x", {"weight": np.ones((4, 6), np.float32)}),
        (ValueError, "bias must have shape", {"bias": np.ones(6)}),
        (TypeError, "bias must have a floating-point dtype", {"bias": np.ones(4, int)}),
        (ValueError, "per must be 'example'", {"per": "row"}),
        (ValueError, "mode must be 'standard'", {"mode": "up"}),
        (ValueError, "p must be in", {"p": 1.1}),
        (TypeError, "p must be a number", {"p": np.full((4, 6), 0.5)}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
    ],
)
def test_bad_drop_connect(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((2, 6)), "weight": np.ones((4, 6)), "seed": stream}
    with pytest.raises(error, match=words):
        fastdrop.drop_connect(**{**good, **arguments})
    assert stream.offset == 0


def test_drop_connect_draws_once_and_only_in_training():
    x, weight, bias = layer(np.float64)
    grad = np.ones((5, 4))
    stream = fastdrop.Stream(SEED, OFFSET)
    drawn = fastdrop.drop_connect(x, weight, bias=bias, seed=stream)
    assert stream.offset == OFFSET + 1
    assert_same_bytes(drawn, fastdrop.drop_connect(x, weight, bias=bias, **KEY))
    fastdrop.drop_connect(x, weight, seed=stream, training=False)
    assert stream.offset == OFFSET + 1
    for training in (True, False):
        with pytest.raises(TypeError, match="seed must be given"):
            fastdrop.drop_connect_backward(grad, x, weight, seed=None, training=training)
    with pytest.raises(ValueError, match="grad must have shape"):
        fastdrop.drop_connect_backward(grad[:2], x, weight, seed=1)


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
@pytest.mark.parametrize("per", ["unit", "weight"])
def test_shakeout(engine, dtype, per):
    weight = normal((7, 30), dtype)
    weight[0, :6] = [0.0, -0.0, 1e-3, -1e-3, 2.0, -2.0]
    kept = np.reshape(keep(SEED, OFFSET, 0, 210, 0.3), (7, 30))
    kept = np.broadcast_to(kept[0], (7, 30)) if per == "unit" else kept
    for c in (0.0, 0.1, 1.7):
        want = np.array([[shaken(w, k, 0.3, c) for w, k in zip(*row, strict=True)] for row in zip(weight, kept, strict=True)])
        assert_same_bytes(fastdrop.shakeout(weight, 0.3, c, per=per, **KEY), want)
    gradient = times(weight, scale_of(0.3, dtype))
    gradient[~kept] = 0
    assert_same_bytes(fastdrop.shakeout_backward(weight, 0.3, per=per, **KEY), gradient)


def test_shakeout_without_c_is_dropout():
    weight = np.array([0.0, -0.0, 1.5, -2.5, np.inf, 5e-324] * 9)
    assert_same_bytes(fastdrop.shakeout(weight, 0.3, 0.0, per="weight", seed=1), fastdrop.dropout(weight, 0.3, seed=1))


def test_moments_of_shakeout():
    n, p, c, w = 40_000, 0.3, 0.5, -0.8
    y = fastdrop.shakeout(np.full(n, w), p, c, per="weight", seed=2)
    deviation = (abs(w) + c) * np.sqrt(p / (1 - p))  # kept less dropped is (w + c sign(w)) / (1 - p)
    assert abs(y.mean() - w) < 5 * deviation / np.sqrt(n)
    assert abs(y.std() - deviation) < 0.02


def test_the_gradient_of_shakeout_by_differences():
    weight = np.array([[0.7, -1.3, 2.1], [-0.4, 0.9, -3.0]])
    grad, step = normal((2, 3), seed=8), 1e-3
    want = fastdrop.shakeout_backward(grad, 0.4, per="weight", **KEY)
    above, below = (fastdrop.shakeout(weight + s * step, 0.4, 0.2, per="weight", **KEY) for s in (1, -1))
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
        (ValueError, "per must be 'unit'", {"per": "row"}),
        (ValueError, r"shape \(out, in\)", {"weight": np.ones(3)}),
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
