"""Shared by the tests of the variants: dtypes, arrays, and comparison with the reference."""

import ml_dtypes
import numpy as np

from fastdrop.verify.cases import REFERENCE

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]


def normal(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def linear_layer(dtype, n=5):
    """Return the input of n samples, the weights and the bias of a layer of 6 inputs and 4 outputs."""
    return normal((n, 6), dtype, 1), normal((6, 4), dtype, 2), normal(4, dtype, 3)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def scale_of(p, dtype):
    """Return 1 / (1 - p), rounded once to the compute type."""
    return (np.float64 if dtype == np.float64 else np.float32)(1 / (1 - p))


def times(x, factor):
    """Return x * factor, computed in the factor's type and rounded once to that of x."""
    return (x.astype(factor.dtype) * factor).astype(x.dtype)


def assert_same_bytes(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


def by_reference(function, *args, **kwargs):
    with REFERENCE.using():
        return function(*args, **kwargs)


def assert_gradients(loss, arrays, gradients, step=1e-6, tolerance=1e-7):
    """Compare with central differences of `loss` at each number of each array."""
    for k, gradient in enumerate(gradients):
        assert np.shape(gradient) == np.shape(arrays[k])
        for index in np.ndindex(np.shape(gradient)):
            sides = []
            for sign in (1, -1):
                moved = [np.array(array, float) for array in arrays]
                moved[k][index] += sign * step
                sides.append(loss(*moved))
            want = (sides[0] - sides[1]) / (2 * step)
            assert abs(gradient[index] - want) <= tolerance * max(1, abs(want)), (k, index)
