"""Uniform noise against its formula, with the oracle's words."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal
from oracle import word

import fastdrop
from fastdrop.verify.cases import spoiled

SEED, OFFSET = 71, 72
KEY = {"seed": SEED, "offset": OFFSET}


def uniform_of(i, compute):
    """Return the number of element i: 23 bits of one word, or 52 of two, and one half."""
    if compute == np.float32:
        return ((word(SEED, OFFSET, i) >> 9) + 0.5) / 2**23
    bits = word(SEED, OFFSET, 2 * i) | word(SEED, OFFSET, 2 * i + 1) << 32
    return ((bits >> 12) + 0.5) / 2**52


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_uout(engine, dtype):
    x, compute = normal((9, 13), dtype), np.float64 if dtype == np.float64 else np.float32
    noise = np.array([uniform_of(i, compute) for i in range(5, 5 + 117)], compute).reshape(9, 13)
    factors = (compute(2) * noise - compute(1)) * compute(0.3) + compute(1)
    want = (x.astype(compute) * factors).astype(dtype)
    assert_same_bytes(fastdrop.uniform_dropout(x, 0.3, start=5, **KEY), want)
    assert_same_bytes(fastdrop.uniform_dropout_backward(np.asfortranarray(x), 0.3, start=5, **KEY), want)
    assert_same_bytes(fastdrop.uniform_dropout(x[2:], 0.3, start=5 + 26, **KEY), want[2:])
    out = np.asfortranarray(x)
    assert fastdrop.uniform_dropout(out, 0.3, start=5, out=out, **KEY) is out
    assert_same_bytes(np.ascontiguousarray(out), want)


def test_moments_of_uout():
    n, beta = 200_000, 0.5
    factors = fastdrop.uniform_dropout(np.ones(n), beta, seed=3)
    deviation = beta / np.sqrt(3)
    assert abs(factors.mean() - 1) < 5 * deviation / np.sqrt(n)
    assert abs(factors.std() / deviation - 1) < 0.01
    assert 0.5 < factors.min() < 0.5001
    assert 1.4999 < factors.max() < 1.5


def test_the_gradient_of_uout_by_differences():
    x, grad = normal(40), normal(40, seed=1)
    above, below = (fastdrop.uniform_dropout(x + s * 1e-3, 0.4, **KEY) for s in (1, -1))
    assert np.allclose(grad * (above - below) / 2e-3, fastdrop.uniform_dropout_backward(grad, 0.4, **KEY), rtol=1e-10)


def test_uout_at_the_ends():
    x = normal((4, 3))
    assert fastdrop.uniform_dropout(x, training=False) is x
    assert fastdrop.uniform_dropout_backward(x, seed=1, training=False) is x
    assert_same_bytes(fastdrop.uniform_dropout(x, 0.0, seed=1), x)
    assert fastdrop.uniform_dropout(np.ones((0, 3)), seed=1).shape == (0, 3)
    assert fastdrop.uniform_dropout(np.float64(2), 0.1, seed=1).shape == ()
    stream = fastdrop.Stream(SEED, OFFSET)
    assert_same_bytes(fastdrop.uniform_dropout(x, seed=stream), fastdrop.uniform_dropout(x, **KEY))
    assert stream.offset == OFFSET + 1
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required here"):
            fastdrop.uniform_dropout_backward(x, seed=None, training=training)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "half_width must be >= 0", {"half_width": -0.1}),
        (ValueError, "half_width must be a finite number", {"half_width": np.inf}),
        (ValueError, "half_width must be a finite number", {"half_width": "a"}),
        (TypeError, "half_width must be a finite number", {"half_width": None}),
        (ValueError, "start must be >= 0", {"start": -1}),
        (TypeError, "start must be an integer", {"start": 0.5}),
        (OverflowError, "float64 numbers", {"start": 2**49 - 1}),
        (ValueError, "is not inside global_shape", {"global_shape": (1,)}),
        (TypeError, "training must be True or False", {"training": "no"}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 2), int)}),
        (ValueError, "out must have the shape", {"out": np.ones(3)}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
        (ValueError, "offset must not be given with a stream", {"offset": 1}),
    ],
)
def test_bad_uout(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.uniform_dropout(**{"x": np.ones(2), "seed": stream, **arguments})
    assert stream.offset == 0


def test_engines_agree_on_large_arrays(engine):
    x = normal((300, 210), np.float32)
    assert_same_bytes(fastdrop.uniform_dropout(x, 0.3, **KEY), by_reference(fastdrop.uniform_dropout, x, 0.3, **KEY))


def test_a_hostile_floating_point_environment():
    x = normal((30, 40), np.float32) * np.float32(1e-39)
    want = fastdrop.uniform_dropout(x, 0.3, **KEY)
    with spoiled():
        found = fastdrop.uniform_dropout(x, 0.3, **KEY)
    assert_same_bytes(found, want)
