"""The shift of the variance, against real masks."""

import math

import numpy as np
import pytest

import fastdrop
from fastdrop import theory

N = 400_000


def correlated(n, features, mean, var, correlation, seed):
    """Return normal variables of this mean, variance and correlation."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, features))
    return mean + math.sqrt(var) * (math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own)


@pytest.mark.parametrize(("p", "mean", "var"), [(0.5, 0.0, 1.0), (0.2, 1.5, 0.5), (0.7, -1.0, 4.0)])
def test_variance_shift_of_real_masks(p, mean, var):
    x = correlated(N, 1, mean, var, 0, 1)
    for mode in ("inverted", "standard"):
        y = fastdrop.dropout(x, p, seed=2, mode=mode)
        outside = fastdrop.dropout(x, p, training=False, mode=mode)
        assert abs(outside.var() / y.var() / theory.variance_shift(p, mean, var) - 1) < 0.015
    assert math.isclose(theory.variance_inflation(p, mean, var), 1 + p / (1 - p) * (1 + mean**2 / var), rel_tol=1e-14)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_variance_shift_through_weights(correlation):
    w = np.array([[1.0, 2.0, -0.5, 1.5], [1.0, -1.0, 1.0, -1.0]])
    x = correlated(N, 4, 0.7, 2.0, correlation, 3)
    found = theory.variance_shift(0.4, 0.7, 2.0, weights=w.T, correlation=correlation)
    assert found.shape == (2,)
    with_masks = fastdrop.dropout(x, 0.4, seed=4) @ w.T
    assert np.allclose((x @ w.T).var(axis=0) / with_masks.var(axis=0), found, rtol=0.015)
    for row, one in zip(w, found, strict=True):
        assert theory.variance_shift(0.4, 0.7, 2.0, weights=row, correlation=correlation) == one


def test_variance_shift_of_uniform_noise():
    x = correlated(N, 1, 0.7, 2.0, 0, 5)
    y = fastdrop.uniform_dropout(x, 0.9, seed=6)
    found = theory.variance_shift(mean=0.7, var=2.0, half_width=0.9)
    assert abs(x.var() / y.var() / found - 1) < 0.005
    assert math.isclose(theory.variance_shift(half_width=0.5), 3 / (3 + 0.25), rel_tol=1e-15)  # the paper's


def test_variance_shift_at_the_ends():
    assert theory.variance_shift(0.0, 3.0, 2.0) == 1.0
    assert theory.variance_shift(1.0) == 0.0
    assert theory.variance_inflation(1.0) == math.inf
    assert isinstance(theory.variance_shift(0.5), float)
    found = theory.variance_shift([[0.0], [1.0]], [0.0, 1.0, 2.0])
    assert found.tolist() == [[1.0] * 3, [0.0] * 3]
    shifts = theory.variance_shift(np.linspace(0, 1, 11), 1.0, 2.0)
    assert (np.diff(shifts) < 0).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_variance_shift_at_any_scale(scale):
    given = {"mean": 1.0, "var": 2.0, "correlation": 0.5}
    for weights in ([1.0, 2.0, -0.5], [[1.0, 0.25], [-2.0, 4.0]]):
        found = theory.variance_shift(0.4, **given, weights=np.multiply(weights, scale))
        np.testing.assert_allclose(found, theory.variance_shift(0.4, **given, weights=weights), rtol=1e-14)
    assert theory.variance_shift([0.0, 0.5], mean=scale).tolist() == [1.0, 0.5 if scale < 1 else 0.0]
    assert theory.variance_inflation(0.0, mean=scale) == 1.0


@pytest.mark.parametrize("half", [-537, -500, 500, 511])
def test_variance_shift_of_any_variance(half):
    given = {"mean": np.ldexp(1.0, half), "var": np.ldexp(1.0, 2 * half)}
    for more in ({}, {"weights": np.ones(100), "correlation": 1.0}):
        assert theory.variance_shift(0.5, **given, **more) == theory.variance_shift(0.5, mean=1.0, var=1.0, **more)
        assert theory.variance_inflation(0.5, **given, **more) == theory.variance_inflation(0.5, mean=1.0, var=1.0, **more)
    assert theory.variance_shift(0.5, var=[1e308, 1.0]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"p must be in \[0, 1\]", {"p": 1.1}),
        (ValueError, r"p must be in \[0, 1\]", {"p": [0.5, np.nan]}),
        (ValueError, "half_width must be finite and >= 0; got -0.1", {"p": None, "half_width": -0.1}),
        (TypeError, "half_width must be real numbers", {"p": None, "half_width": "a"}),
        (TypeError, "either p or half_width must be given", {"half_width": 0.1}),
        (TypeError, "either p or half_width must be given", {"p": None}),
        (ValueError, "p must be an array, or lists", {"p": [[0.5], [0.5, 0.1]]}),
        (TypeError, r"p must be a number in \[0, 1\]", {"p": "a"}),
        (TypeError, "p must be real numbers", {"p": ["a"]}),
        (ValueError, "var finite and above 0", {"var": 0.0}),
        (ValueError, "mean must be finite", {"mean": np.inf}),
        (ValueError, r"correlation must be in \[-1, 1\]", {"correlation": 1.1}),
        (ValueError, "correlation -0.6 is not possible", {"correlation": -0.6, "weights": [1.0, 1.0, 1.0]}),
        (ValueError, "weights must have shape", {"weights": 1.0}),
        (ValueError, "weights must have shape", {"weights": np.ones((2, 2, 2))}),
        (ValueError, "not all be 0", {"weights": [[1.0, 0.0], [1.0, 0.0]]}),
    ],
)
def test_bad_variance_shift(error, words, arguments):
    for function in (theory.variance_shift, theory.variance_inflation):
        with pytest.raises(error, match=words):
            function(**{"p": 0.5, **arguments})
