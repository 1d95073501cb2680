"""Moments of layers and of activation functions: against real masks, quadrature and finite differences."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from comparisons import linear_layer, normal

import fastdrop
from fastdrop import theory

# Linear layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_fast_dropout_moments_of_real_masks(mode):
    x, weight, bias, n = normal((3, 5), seed=1), normal((4, 5), seed=2), normal(4, seed=3), 40_000
    mean, variance = theory.fast_dropout_moments(x, weight.T, 0.3, bias, mode=mode)
    dropped = fastdrop.dropout(np.broadcast_to(x, (n, 3, 5)), 0.3, seed=4, mode=mode)
    y = dropped @ weight.T + bias
    assert (np.abs(y.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    assert np.allclose(y.var(axis=0), variance, rtol=0.05)


def test_fast_dropout_and_drop_connect_have_the_same_moments():
    x, weight, bias = normal((3, 5), seed=1), normal((4, 5), seed=2), normal(4, seed=3)
    for mode in ("standard", "inverted"):
        want = theory.drop_connect_moments(x, weight.T, 0.3, bias=bias, mode=mode, drop_bias=False)
        for found, other in zip(theory.fast_dropout_moments(x, weight.T, 0.3, bias, mode=mode), want, strict=True):
            assert found.tobytes() == other.tobytes()
    one = theory.fast_dropout_moments(x[1], weight.T, 0.3)
    assert one[0].shape == one[1].shape == (4,)
    mean, variance = theory.fast_dropout_moments(x.astype(np.float16), weight.T, 1.0, bias)
    assert (mean == bias).all()
    assert mean.dtype == np.float64
    assert not variance.any()
    default, inverted = (theory.fast_dropout_moments(x, weight.T, 0.3, **mode) for mode in ({}, {"mode": "inverted"}))
    assert all(np.array_equal(found, other) for found, other in zip(default, inverted, strict=True))


@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_gradients_of_fast_dropout_moments(mode):
    operands = [normal((2, 3, 5), seed=1), normal((5, 4), seed=2), normal(4, seed=3)]
    grads = normal((2, 3, 4), seed=4), normal((2, 3, 4), seed=5)

    def loss(x, weight, bias):
        moments = theory.fast_dropout_moments(x, weight, 0.3, bias, mode=mode)
        return sum((g * moment).sum() for g, moment in zip(grads, moments, strict=True))

    without = theory.fast_dropout_moments_backward(*grads, *operands[:2], 0.3, mode=mode)
    found = theory.fast_dropout_moments_backward(*grads, *operands[:2], 0.3, operands[2], mode=mode)
    assert without[2] is None
    assert all(np.array_equal(a, b) for a, b in zip(without[:2], found[:2], strict=True))
    for k, want in enumerate(found):
        assert want.shape == operands[k].shape
        for index in np.ndindex(want.shape):
            sides = []
            for step in (1e-4, -1e-4):
                moved = [operand.copy() for operand in operands]
                moved[k][index] += step
                sides.append(loss(*moved))
            assert abs((sides[0] - sides[1]) / 2e-4 - want[index]) < 1e-8


@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("drop_bias", [True, False])
def test_moments_of_drop_connect(mode, drop_bias):
    x, weight, bias = linear_layer(np.float64, 1)
    rule = {"bias": bias, "mode": mode, "drop_bias": drop_bias}
    mean, variance = theory.drop_connect_moments(x, weight, 0.3, **rule)
    n = 40_000
    y = fastdrop.drop_connect(np.repeat(x, n, axis=0), weight, 0.3, seed=6, **rule)
    assert (np.abs(y.mean(axis=0) - mean[0]) < 5 * np.sqrt(variance[0] / n)).all()
    assert np.allclose(y.var(axis=0), variance[0], rtol=0.05)
    outside = fastdrop.drop_connect(x, weight, 0.3, training=False, **rule)
    assert np.allclose(outside, mean, rtol=1e-13)


def test_moments_at_the_ends():
    x, weight, bias = linear_layer(np.float32)
    for mode in ("standard", "inverted"):
        mean, variance = theory.drop_connect_moments(x, weight, 0.0, bias=bias, mode=mode)
        assert mean.dtype == np.float32
        assert np.allclose(mean, x.astype(float) @ weight + bias, rtol=2e-6, atol=2e-6)
        assert not variance.any()
        for moment in theory.drop_connect_moments(x, weight, 1.0, bias=bias, mode=mode):
            assert not moment.any()


def test_gradients_without_inputs_or_outputs():
    for n, inputs, outputs in ((3, 0, 2), (3, 2, 0), (0, 2, 3)):
        x, weight, bias, grad = np.zeros((n, inputs)), np.zeros((inputs, outputs)), np.zeros(outputs), np.zeros((n, outputs))
        found = theory.fast_dropout_moments_backward(grad, grad, x, weight, 0.5, bias)
        assert [each.shape for each in found] == [x.shape, weight.shape, bias.shape]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("large", [1e30, 1e200, math.inf, math.nan])
def test_a_factor_of_zero_makes_zero_of_anything(dtype, large):
    """Without masks there is no variance, and what is always dropped has no moments. Squares of large numbers are infinite."""
    with np.errstate(over="ignore"):
        x, weight, bias = (np.array(each).astype(dtype) for each in ([[large]], [[2.0]], [large]))
    for mode in ("inverted", "standard"):
        mean, variance = theory.drop_connect_moments(x, weight, 0.0, bias=bias, mode=mode)
        np.testing.assert_array_equal(mean, x * 2 + bias)
        assert variance == 0
        assert theory.drop_connect_moments(x, weight, 1.0, bias=bias, mode=mode) == (0, 0)
        assert theory.fast_dropout_moments(x, weight, 1.0, [3.0], mode=mode) == (3, 0)
        dx, dweight, _ = theory.fast_dropout_moments_backward([[1.0]], [[1.0]], x, weight, 0.0, mode=mode)
        np.testing.assert_array_equal([dx, dweight], [[[2.0]], x.astype(np.float64)])
        dx, dweight, dbias = theory.fast_dropout_moments_backward([[1.0]], [[1.0]], x, weight, 1.0, [3.0], mode=mode)
        assert (dx, dweight, dbias) == (0, 0, 1)


# Activation functions -----------------------------------------------------------------------------------------------


def expectation(function, mean, variance):
    """Return the mean of a function of a normal variable, by quadrature."""
    s, points = math.sqrt(variance), (-mean / math.sqrt(variance), 0)
    density = scipy.stats.norm.pdf
    found, _ = scipy.integrate.quad(lambda t: function(mean + s * t) * density(t), -12, 12, points=points, limit=200)
    return found


GAUSSIANS = list(itertools.product((-10.0, -3.0, -0.5, 0.0, 1.0, 4.0, 9.0), (0.01, 0.5, 4.0, 25.0, 1e4)))


def test_sigmoid_moments_against_quadrature():
    for m, v in GAUSSIANS:
        mean, variance = theory.sigmoid_moments(m, v)
        first, second = (expectation(lambda t, k=k: scipy.special.expit(t) ** k, m, v) for k in (1, 2))
        assert abs(mean - first) < 0.0165
        assert abs(variance - (second - first**2)) < 0.015
    mean, variance = theory.sigmoid_moments(np.array([[-1.0], [2.0]]), np.array([0.0, 1.0, 1e300]))
    assert np.allclose(mean[:, 0], scipy.special.expit([-1.0, 2.0]), rtol=1e-15)
    assert variance[:, 0].tolist() == [0.0, 0.0]
    assert np.allclose(mean[:, 2], 0.5)
    assert np.allclose(variance[:, 2], 0.25)


def test_the_variance_of_the_sigmoid_follows_from_its_mean():
    """The mean's derivative by m is the mean of sigmoid (1 - sigmoid), which gives the second moment: here by differences."""
    for m, v in GAUSSIANS:
        above, below = (theory.sigmoid_moments(m + step, v)[0] for step in (1e-5, -1e-5))
        mean, variance = theory.sigmoid_moments(m, v)
        assert math.isclose(variance, mean - (above - below) / 2e-5 - mean**2, rel_tol=1e-6, abs_tol=1e-10)


def test_relu_moments_against_quadrature():
    for m, v in GAUSSIANS:
        mean, variance = theory.relu_moments(m, v)
        first, second = (expectation(lambda t, k=k: max(t, 0.0) ** k, m, v) for k in (1, 2))
        scale = max(abs(m), math.sqrt(v))
        assert abs(mean - first) < 1e-9 * scale
        assert abs(variance - (second - first**2)) < 1e-8 * scale**2


def test_relu_moments_at_the_ends():
    mean, variance = theory.relu_moments([-2.0, 0.0, 2.0, 1e6, -1e6, 1e200], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert mean.tolist() == [0.0, 0.0, 2.0, 1e6, 0.0, 1e200]
    assert variance.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]  # no loss by cancellation
    mean, variance = theory.relu_moments([-np.inf, -38.400205, -39.0, np.inf, np.nan], 1.0)
    np.testing.assert_array_equal(mean, [0.0, 0.0, 0.0, np.inf, np.nan])
    assert (variance[:4] >= 0).all()
    rectified = scipy.stats.norm.cdf(-5.0), scipy.stats.norm.pdf(-5.0)
    assert math.isclose(theory.relu_moments(-5.0, 1.0)[0], -5 * rectified[0] + rectified[1], rel_tol=1e-10)


@pytest.mark.parametrize("moments", [theory.sigmoid_moments, theory.relu_moments])
def test_moments_of_one_variable_are_arrays_too(moments):
    assert [type(found) for found in moments(1.0, 2.0)] == [np.ndarray, np.ndarray]


@pytest.mark.parametrize("moments", [theory.sigmoid_moments, theory.relu_moments])
def test_moments_of_many_dimensions(moments):
    m, v = normal(6).reshape(2, *(1,) * 48, 3), np.array([0.5, 1.0, 0.0])
    for found, want in zip(moments(m, v), moments(m.reshape(2, 3), v), strict=True):
        assert found.shape == m.shape
        np.testing.assert_array_equal(found.reshape(2, 3), want)
    shift = theory.variance_shift(0.5, m, v + 1)
    np.testing.assert_array_equal(shift.reshape(2, 3), theory.variance_shift(0.5, m.reshape(2, 3), v + 1))


def test_moments_through_a_layer_and_its_activation():
    """Fast dropout end to end: moments of a wide layer's units against real masks."""
    x, weight, n = np.abs(normal(200, seed=1)), normal((6, 200), seed=2) / 14, 20_000
    mean, variance = theory.fast_dropout_moments(x, weight.T, 0.5)
    units = fastdrop.dropout(np.broadcast_to(x, (n, 200)), 0.5, seed=3) @ weight.T
    found = theory.relu_moments(mean, variance)
    rectified = np.maximum(units, 0)
    assert np.allclose(rectified.mean(axis=0), found[0], atol=0.02)
    assert np.allclose(rectified.var(axis=0), found[1], rtol=0.06, atol=0.01)
    squashed = scipy.special.expit(units)
    found = theory.sigmoid_moments(mean, variance)
    assert np.allclose(squashed.mean(axis=0), found[0], atol=0.02)
    assert np.allclose(squashed.var(axis=0), found[1], atol=0.015)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "x must have shape", lambda: theory.fast_dropout_moments(np.ones(3), np.ones((4, 2)))),
        (ValueError, "x must have shape", lambda: theory.fast_dropout_moments(1.0, np.ones((4, 2)))),
        (ValueError, "weight must have 2 dim", lambda: theory.fast_dropout_moments(np.ones(3), np.ones(3))),
        (ValueError, "bias must have shape", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 0.5, [1.0, 2.0])),
        (ValueError, "p must be in", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 1.5)),
        (ValueError, "mode must be", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 0.5, mode="up")),
        (TypeError, "x must be real", lambda: theory.fast_dropout_moments([1j], [[1.0]])),
        (ValueError, "grad_mean", lambda: theory.fast_dropout_moments_backward([1.0, 2.0], [1.0], [1.0], [[1.0]])),
        (ValueError, "var must be >= 0", lambda: theory.sigmoid_moments(0.0, -1.0)),
        (ValueError, "var must be >= 0", lambda: theory.relu_moments(0.0, [1.0, np.nan])),
        (TypeError, "mean must be real", lambda: theory.relu_moments("a", 1.0)),
        (ValueError, "mean and var must broadcast", lambda: theory.relu_moments(np.ones(3), np.ones(2))),
        (ValueError, "p, mean, var and .* broadcast", lambda: theory.variance_shift(0.5, np.ones(3), np.ones(2))),
        (
            ValueError,
            "bias must have",
            lambda: theory.fast_dropout_moments_backward([1.0], [1.0], [1.0], [[1.0]], 0.5, 1.0),
        ),
    ],
)
def test_bad_moments(error, words, call):
    with pytest.raises(error, match=words):
        call()
