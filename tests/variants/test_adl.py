"""The attention-based dropout layer against its formulas, with the oracle's decision."""

import math

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal
from oracle import keep

import fastdrop
from fastdrop._core import numbers
from fastdrop.verify.cases import spoiled

KEY = {"seed": 61, "offset": 62}
TOLERANCE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}  # of values near 1


def mean_of(values):
    """Return the mean over the first axis, added up as the docstring has it."""
    parts = list(values)
    while len(parts) > 1:
        half = (len(parts) + 1) // 2
        parts = [a + b for a, b in zip(parts, parts[half:], strict=False)] + parts[len(parts) - half : half]
    return parts[0] / parts[0].dtype.type(len(values))


def logistic(value):
    return 1 / (1 + math.exp(-value))


def hidden(x, threshold):
    """Transcribe the drop branch, channels first."""
    y, compute = x.copy(), np.float64 if x.dtype == np.float64 else np.float32
    for sample in y:
        attention = mean_of(sample.astype(compute))
        largest = max(attention.ravel().tolist())
        for place in np.ndindex(attention.shape):
            if not attention[place] < compute(threshold) * compute(largest):
                sample[(slice(None), *place)] = 0
    return y


def stressed(x):
    """Transcribe the importance branch in Python's floats, channels first."""
    y = x.astype(float)
    for sample in y:
        for place in np.ndindex(sample.shape[1:]):
            at = (slice(None), *place)
            sample[at] *= logistic(math.fsum(sample[at]) / len(sample))
    return y


def last(x):
    return np.moveaxis(x, 1, -1)


def close(found, want, dtype):
    assert found.dtype == dtype
    assert np.allclose(found.astype(float), want, rtol=TOLERANCE[str(dtype)], atol=TOLERANCE[str(dtype)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 5, 8])
def test_places_are_dropped(engine, dtype, channels):
    x = np.abs(normal((3, channels, 6, 5), dtype))
    want = hidden(x, 0.7)
    assert 0 < np.count_nonzero(want[0]) < x[0].size
    assert_same_bytes(fastdrop.adl(x, 1.0, 0.7, **KEY), want)
    assert_same_bytes(fastdrop.adl(np.asfortranarray(x), 1.0, 0.7, **KEY), want)
    found = fastdrop.adl(last(x), 1.0, 0.7, data_format="channels_last", **KEY)
    assert_same_bytes(np.ascontiguousarray(np.moveaxis(found, -1, 1)), want)
    grad = fastdrop.adl_backward(np.ones_like(x), x, 1.0, 0.7, **KEY)
    assert_same_bytes(grad, (want != 0).astype(dtype))
    in_place = x.copy()
    assert fastdrop.adl(in_place, 1.0, 0.7, out=in_place, **KEY) is in_place
    assert_same_bytes(in_place, want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 5, 8])
def test_the_importance_map(engine, dtype, channels):
    x, grad = normal((3, channels, 6, 5), dtype), normal((3, channels, 6, 5), dtype, 1)
    found = fastdrop.adl(x, 0.0, **KEY)
    close(found, stressed(x), dtype)
    assert_same_bytes(found, by_reference(fastdrop.adl, x, 0.0, **KEY))
    found_last = fastdrop.adl(last(x), 0.0, data_format="channels_last", **KEY)
    assert_same_bytes(np.ascontiguousarray(np.moveaxis(found_last, -1, 1)), found)
    backward = fastdrop.adl_backward(grad, x, 0.0, **KEY)
    assert_same_bytes(backward, by_reference(fastdrop.adl_backward, grad, x, 0.0, **KEY))
    backward_last = fastdrop.adl_backward(last(grad), last(x), 0.0, data_format="channels_last", **KEY)
    assert_same_bytes(np.ascontiguousarray(np.moveaxis(backward_last, -1, 1)), backward)
    values, slopes = x.astype(float), grad.astype(float)
    map = 1 / (1 + np.exp(-values.mean(axis=1, keepdims=True)))
    want = slopes * map + map * (1 - map) / channels * (slopes * values).sum(axis=1, keepdims=True)
    close(backward, want, dtype)
    for function, args in ((fastdrop.adl, (x,)), (fastdrop.adl_backward, (grad, x))):
        out = np.asfortranarray(args[0])
        assert function(*args, 0.0, out=out, **KEY) is out
        assert_same_bytes(np.ascontiguousarray(out), function(*args, 0.0, **KEY))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_gradient_by_differences(p):
    x, grad, step = normal((2, 3, 4)), normal((2, 3, 4), seed=1), 1e-6
    found = fastdrop.adl_backward(grad, x, p, 0.6, **KEY)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        above, below = ((grad * fastdrop.adl(x + s * shift, p, 0.6, **KEY)).sum() for s in (1, -1))
        assert abs((above - below) / (2 * step) - found[index]) < 1e-8


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 13])
def test_the_order_of_the_sum(channels):
    x = normal((3, channels, 20), np.float32)
    want = np.array([mean_of(sample) for sample in x])[:, np.newaxis]
    assert_same_bytes(numbers.attention_map(x, 1), want)
    assert_same_bytes(np.ascontiguousarray(np.moveaxis(numbers.attention_map(last(x), 2), -1, 1)), want)


def test_one_decision_a_batch():
    x = np.abs(normal((4, 2, 3, 3)))
    branches = []
    for offset in range(200):
        y = fastdrop.adl(x, 0.3, 0.5, seed=7, offset=offset)
        drops = not keep(7, offset, 0, 1, 0.3)[0]
        assert_same_bytes(y, hidden(x, 0.5) if drops else fastdrop.adl(x, 0.0, seed=1))
        assert (fastdrop.adl_backward(x, x, 0.3, 0.5, seed=7, offset=offset) == 0).any() == drops
        branches.append(drops)
    assert 40 < sum(branches) < 80


def test_attention_that_is_not_positive():
    def kept(attention, threshold=0.8):
        return (fastdrop.adl(np.array(attention)[np.newaxis, np.newaxis], 1.0, threshold, seed=1) != 0)[0, 0].tolist()

    assert kept([-1.0, -2.0, -3.0]) == [True, True, True]  # 0.8 of a negative maximum is above it
    assert kept([-1.0, -2.0, -3.0], 1.0) == [False, True, True]
    assert kept([0.0, -1.0, 0.0, -0.0]) == [False, True, False, False]
    assert kept([4.0, 3.2, 3.0, -1.0]) == [False, False, True, True]  # strictly below
    assert kept([4.0, -1.0, 3.0], 0.0) == [False, True, False]
    assert kept([np.nan, 1.0, 2.0]) == [False, False, False]
    assert kept([np.inf, 1.0, -np.inf]) == [False, True, True]
    x = np.array([[[np.nan, 1.0]], [[3.0, 1.0]]])
    assert fastdrop.adl(x, 1.0, seed=1)[:, 0].tolist() == [[0.0, 0.0], [0.0, 1.0]]  # each sample by itself


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("name", ["grad", "x"])
def test_the_result_may_overlap_an_operand(name, p):
    values, other = normal((6, 8, 60, 70), seed=1), normal((6, 8, 60, 70), seed=2)  # more than one block of samples
    want = fastdrop.adl_backward(**{"grad": other, "x": other, name: values}, p=p, seed=3)
    for shift in (0, 5, values[0].size):
        memory = np.zeros(values.size + shift)
        given, out = (memory[first : first + values.size].reshape(values.shape) for first in (0, shift))
        given[...] = values
        assert_same_bytes(fastdrop.adl_backward(**{"grad": other, "x": other, name: given}, p=p, seed=3, out=out), want)


def test_adl_at_the_ends():
    x = normal((2, 3, 4))
    assert fastdrop.adl(x, training=False) is x
    assert fastdrop.adl_backward(x, x, seed=1, training=False) is x
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        for p in (0.0, 1.0):
            assert fastdrop.adl(np.ones(shape), p, seed=1).shape == shape
            assert fastdrop.adl_backward(np.ones(shape), np.ones(shape), p, seed=1).shape == shape
    assert fastdrop.adl(np.ones((2, 3)), 1.0, seed=1).tolist() == [[0.0] * 3] * 2  # one place, its own maximum
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required"):
            fastdrop.adl_backward(x, x, seed=None, training=training)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "p must be", {"p": 1.5}),
        (TypeError, "p must be", {"p": None}),
        (ValueError, "threshold must be a number", {"threshold": -0.1}),
        (TypeError, "threshold must be a number", {"threshold": "high"}),
        (ValueError, "data_format must be", {"data_format": "NCHW"}),
        (ValueError, "must have an axis of samples", {"x": np.ones(3)}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 2, 2), int)}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
        (ValueError, "offset", {"offset": -1}),
    ],
)
def test_bad_adl(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.adl(**{"x": np.ones((2, 2, 2)), "seed": stream, **arguments})
    assert stream.offset == 0


@pytest.mark.parametrize("training", [True, False])
def test_bad_adl_backward(training):
    for error, x in ((ValueError, np.ones((2, 2))), (TypeError, np.ones((2, 2, 2), np.float32))):
        with pytest.raises(error, match="x must have the"):
            fastdrop.adl_backward(np.ones((2, 2, 2)), x, seed=1, training=training)
    with pytest.raises(TypeError, match="seed must be the key of the forward pass"):
        fastdrop.adl_backward(np.ones((2, 2, 2)), np.ones((2, 2, 2)), seed=fastdrop.Stream(1), training=training)
    with pytest.raises(TypeError, match="training must be True or False"):
        fastdrop.adl(np.ones((2, 2, 2)), training=1)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_hostile_floating_point_environment(p):
    x = normal((3, 8, 20), np.float32) * np.float32(1e-39)
    want = fastdrop.adl(x, p, seed=1), fastdrop.adl_backward(x, x, p, seed=1)
    with spoiled():
        found = fastdrop.adl(x, p, seed=1), fastdrop.adl_backward(x, x, p, seed=1)
    for a, b in zip(found, want, strict=True):
        assert_same_bytes(a, b)
        assert b.any()
