"""Dropout of attention against loops over rows and keys, closed forms of its moments, its gradients, its arguments."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from oracle import fixed, uniform_number

import fastdrop

DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
KEY = {"seed": 61, "offset": 62}
SHAPE = (2, 3, 4, 7)
SHARED = {"none": (2, 3), "heads": (2, 1), "batch": (1, 3), "both": (1, 1)}
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def probabilities(shape=SHAPE, dtype=np.float64):
    logits = np.sin(np.arange(math.prod(shape))).reshape(shape)
    return (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)).astype(dtype)


def compute_type(x):
    return np.float64 if x.dtype == np.float64 else np.float32


def slow_mask(shape, gamma, mode="element", shared="none", window=1):
    """Return a keep mask: each decision in turn, and the window of keys after each seed."""
    batch, heads = SHARED[shared]
    queries = 1 if mode == "column" else shape[2]
    mask = np.ones(shape, bool)
    for b, h, q, k in np.ndindex(shape):
        row = (min(b, batch - 1) * heads + min(h, heads - 1)) * queries + min(q, queries - 1)
        if uniform_number(KEY["seed"], KEY["offset"], row * shape[3] + k) < fixed(gamma):
            mask[b, h, q, k : k + window] = False
    return mask


def folded_sum(numbers):
    """Return the sum of a list: its second half added to its first until one is left."""
    while len(numbers) > 1:
        half = math.ceil(len(numbers) / 2)
        numbers = [a + b for a, b in zip(numbers, numbers[half:], strict=False)] + numbers[len(numbers) - half : half]
    return numbers[0]


def slow_rows(x, mask):
    """Yield the index of each row, its kept elements as the type computed with, and what they are divided by."""
    compute = compute_type(x)
    for index in np.ndindex(x.shape[:3]):
        row = [compute(value) if kept else compute(0) for value, kept in zip(x[index], mask[index], strict=True)]
        yield index, row, folded_sum(row) + compute(1e-8)


def slow_renormalised(x, mask):
    y = np.zeros_like(x)
    for index, row, total in slow_rows(x, mask):
        y[index] = [value / total for value in row]
    return y


def slow_gradient(grad, x, mask, through_sum):
    compute = compute_type(x)
    dx = np.zeros_like(x)
    for index, row, total in slow_rows(x, mask):
        g = [compute(value) if kept else compute(0) for value, kept in zip(grad[index], mask[index], strict=True)]
        dot = folded_sum([a * (value / total) for a, value in zip(g, row, strict=True)]) if through_sum else compute(0)
        dx[index] = [(a - dot) / total if kept else compute(0) for a, kept in zip(g, mask[index], strict=True)]
    return dx


def same(a, b):
    """Equal to the byte, for bfloat16 too."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Probabilities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("mode", ["element", "column"])
@by_name
def test_elements_are_scaled(engine, dtype, mode, shared):
    x = probabilities(dtype=dtype)
    mask = slow_mask(SHAPE, 0.3, mode, shared)
    scale = compute_type(x)(1 / (1 - 0.3))
    want = np.where(mask, (x.astype(type(scale)) * scale).astype(dtype), dtype(0))
    options = {"mode": mode, "shared": shared, "renormalize": False, **KEY}
    assert same(fastdrop.attention_dropout(x, 0.3, **options), want)
    assert same(fastdrop.attention_dropout_backward(x, 0.3, **options), want)


CASES = [
    ("column", "none", 1),
    ("column", "both", 3),
    ("column", "none", 9),
    ("column", "heads", 1),
    ("element", "batch", 1),
    ("element", "none", 2),
]


@pytest.mark.parametrize(("mode", "shared", "window"), CASES)
@by_name
def test_rows_are_renormalised(engine, dtype, mode, shared, window):
    x = probabilities(dtype=dtype)
    mask = slow_mask(SHAPE, 0.6 / window, mode, shared, window)
    assert 0 < mask.sum() < mask.size
    options = {"mode": mode, "shared": shared, "window": window, "renormalize": True, **KEY}
    want = slow_renormalised(x, mask)
    assert same(fastdrop.attention_dropout(x, 0.6, **options), want)
    assert same(fastdrop.attention_dropout(np.asfortranarray(x), 0.6, **options), want)
    out = x.copy()
    assert fastdrop.attention_dropout(out, 0.6, out=out, **options) is out
    assert same(out, want)


@pytest.mark.parametrize("through_sum", [True, False])
@by_name
def test_gradients_of_renormalised_rows(engine, dtype, through_sum):
    x, grad = probabilities(dtype=dtype), (5 * probabilities()[::-1] - 1).astype(dtype)
    mask = slow_mask(SHAPE, 0.2, "column", window=2)
    want = slow_gradient(grad, x, mask, through_sum)
    options = {"mode": "column", "window": 2, "through_sum": through_sum, **KEY}
    assert same(fastdrop.attention_dropout_backward(grad, 0.4, weights=x, **options), want)
    for out in (x.copy(), grad.copy()):
        weights, g = (out, grad) if same(out, x) else (x, out)
        assert fastdrop.attention_dropout_backward(g, 0.4, weights=weights, out=out, **options) is out
        assert same(out, want)


@pytest.mark.parametrize("keys", range(1, 18))
def test_rows_of_any_length(keys):
    """Sums are folded to the bit, whatever the number of keys."""
    shape = (2, 3, 2, keys)
    x = probabilities(shape, np.float32)
    want = slow_renormalised(x, slow_mask(shape, 0.3, "element"))
    assert same(fastdrop.attention_dropout(x, 0.3, renormalize=True, **KEY), want)


def test_what_each_mode_does_by_default():
    x = probabilities()
    for mode, window, renormalize in (("element", 1, False), ("element", 2, True), ("column", 1, True)):
        options = {"mode": mode, "window": window, **KEY}
        default = fastdrop.attention_dropout(x, 0.3, **options)
        assert same(default, fastdrop.attention_dropout(x, 0.3, renormalize=renormalize, **options))
    assert np.allclose(fastdrop.attention_dropout(x, 0.3, mode="column", **KEY).sum(axis=-1), 1, atol=1e-6)


def test_dropped_is_zero_whatever_it_was():
    x = np.full((1, 1, 1, 4), -np.inf)
    x[..., 1:] = np.nan, np.inf, -1
    for mode in ("element", "column"):
        assert same(fastdrop.attention_dropout(x, 1.0, mode=mode, **KEY), np.zeros_like(x))
        assert same(fastdrop.attention_dropout_backward(x, 1.0, mode=mode, weights=x, **KEY), np.zeros_like(x))


def test_one_infinite_gradient_stays_in_its_row():
    x, grad = probabilities((1, 1, 1, 8)), np.ones((1, 1, 1, 8))
    mask = slow_mask(x.shape, 0.5)
    grad[~mask] = np.inf
    dx = fastdrop.attention_dropout_backward(grad, 0.5, weights=x, renormalize=True, **KEY)
    assert np.allclose(dx, 0, atol=1e-6)  # all that is kept has the same gradient


def central_differences(function, x, w):
    step = 2.0**-12
    differences = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = step
        differences[index] = (w * (function(x + nudge) - function(x - nudge))).sum() / (2 * step)
    return differences


@pytest.mark.parametrize("options", [{}, {"mode": "column"}, {"mode": "column", "window": 3}, {"renormalize": True}])
def test_backward_is_the_gradient(options):
    x, w = probabilities((2, 2, 2, 5)), probabilities((2, 2, 2, 5))[::-1] - 0.1
    want = central_differences(lambda v: fastdrop.attention_dropout(v, 0.4, **options, **KEY), x, w)
    assert np.allclose(fastdrop.attention_dropout_backward(w, 0.4, weights=x, **options, **KEY), want, atol=1e-5)


def test_moments_of_columns():
    """Of n equal probabilities with k kept, a row's are 1 / k: E = (1 - p**n) / n, and so the second moment."""
    n, p, draws = 4, 0.4, 100_000
    y = fastdrop.attention_dropout(np.full((100, 1000, 1, n), 1 / n), p, mode="column", **KEY).reshape(draws, n)
    chance = [math.comb(n, k) * (1 - p) ** k * p ** (n - k) for k in range(n + 1)]
    second = sum(chance[k] / k for k in range(1, n + 1)) / n
    mean = (1 - p**n) / n
    error = math.sqrt((second - mean**2) / draws)
    assert (abs(y.mean(axis=0) - mean) < 4.5 * error).all()
    assert y.var(axis=0) == pytest.approx(second - mean**2, rel=0.02)


def test_the_rate_of_windows():
    """Key k is kept where none of min(k + 1, w) keys begins a window."""
    y = fastdrop.attention_dropout(np.ones((100, 1000, 1, 6)), 0.6, mode="column", window=3, **KEY)
    for k, n in enumerate([1, 2, 3, 3, 3, 3]):
        keep = 0.8**n
        assert abs((y[..., k] > 0).mean() - keep) < 4.5 * math.sqrt(keep * (1 - keep) / 100_000)


# Heads --------------------------------------------------------------------------------------------------------------


@by_name
def test_heads(engine, dtype):
    shape = (20, 3, 4, 5)
    x = (probabilities(shape) - 0.2).astype(dtype)
    want = np.zeros_like(x)
    numbers = set()
    for b in range(20):
        kept = [h for h in range(3) if uniform_number(61, 62, 3 * b + h) >= fixed(0.5)]
        numbers.add(len(kept))
        for h in kept:
            want[b, h] = x[b, h].astype(compute_type(x)) * compute_type(x)(3 / len(kept))
    assert {0, 1, 2} <= numbers
    for function in (fastdrop.drop_head, fastdrop.drop_head_backward):
        assert same(function(x, 0.5, **KEY), want)
        assert same(function(np.asfortranarray(x), 0.5, **KEY), want)
        out = x.copy()
        assert function(out, 0.5, out=out, **KEY) is out
        assert same(out, want)


def test_moments_of_heads():
    heads, p, draws = 4, 0.3, 100_000
    y = fastdrop.drop_head(np.full((draws, heads, 1, 1), 2.0), p, **KEY)[:, :, 0, 0]
    chance = [math.comb(heads, k) * (1 - p) ** k * p ** (heads - k) for k in range(heads + 1)]
    mean, second = 2 * (1 - p**heads), 4 * heads * sum(chance[k] / k for k in range(1, heads + 1))
    assert (abs(y.mean(axis=0) - mean) < 4.5 * math.sqrt((second - mean**2) / draws)).all()
    assert y.var(axis=0) == pytest.approx(second - mean**2, rel=0.02)


def test_backward_of_heads_is_the_gradient():
    x, w = probabilities((2, 3, 2, 2)), probabilities((2, 3, 2, 2))[::-1]
    want = central_differences(lambda v: fastdrop.drop_head(v, 0.4, **KEY), x, w)
    assert want.any()
    assert np.allclose(fastdrop.drop_head_backward(w, 0.4, **KEY), want, atol=1e-9)


# Keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [-np.inf, -1e4])
@pytest.mark.parametrize("shared", SHARED)
@by_name
def test_keys(engine, dtype, shared, fill):
    x = np.sin(np.arange(math.prod(SHAPE))).reshape(SHAPE).astype(dtype)
    x[0, 0, 0, :3] = -0.0
    mask = slow_mask(SHAPE, 0.3, "element", shared)
    options = {"shared": shared, "empty_rows": "fill", **KEY}
    assert same(fastdrop.drop_key(x, 0.3, fill=fill, **options), np.where(mask, x, dtype(fill)))
    assert same(fastdrop.drop_key_backward(x, 0.3, **options), np.where(mask, x, dtype(0)))
    out = np.asfortranarray(x)
    assert fastdrop.drop_key(out, 0.3, fill=fill, out=out, **options) is out
    assert np.array_equal(out, np.where(mask, x, dtype(fill)))


def test_rows_that_would_lose_all_their_keys(engine):
    x = np.sin(np.arange(2 * 3 * 5 * 3.0)).reshape(2, 3, 5, 3)
    mask = slow_mask(x.shape, 0.7)
    empty = ~mask.any(axis=-1, keepdims=True)
    assert 0 < empty.sum() < empty.size
    assert same(fastdrop.drop_key(x, 0.7, **KEY), np.where(mask | empty, x, -np.inf))
    assert same(fastdrop.drop_key_backward(x, 0.7, **KEY), np.where(mask | empty, x, 0.0))
    assert same(fastdrop.drop_key(x, 0.7, empty_rows="fill", **KEY), np.where(mask, x, -np.inf))


@pytest.mark.parametrize("shared", SHARED)
def test_a_causal_mask_leaves_every_query_a_key(shared):
    causal = np.tri(7, dtype=bool)
    x = np.where(causal, np.ones((2, 3, 7, 7)), -np.inf)
    y = fastdrop.drop_key(x, 0.8, allowed=causal, shared=shared, **KEY)
    assert (y > -np.inf).any(axis=-1).all()
    assert not (fastdrop.drop_key(x, 0.8, shared=shared, **KEY) > -np.inf).any(axis=-1).all()
    left = (slow_mask(x.shape, 0.8, shared=shared) & causal).any(axis=-1, keepdims=True)
    kept = slow_mask(x.shape, 0.8, shared=shared) | ~left
    assert same(y, np.where(kept, x, -np.inf))
    assert same(fastdrop.drop_key_backward(x, 0.8, allowed=causal, shared=shared, **KEY), np.where(kept, x, 0.0))


def test_how_many_keys_are_dropped():
    y = fastdrop.drop_key(np.zeros((10, 10, 10, 1000)), 0.3, **KEY)
    assert abs((y < 0).mean() - 0.3) < 4.5 * math.sqrt(0.3 * 0.7 / y.size)


# All of them --------------------------------------------------------------------------------------------------------

FORWARD = {
    "attention_dropout": fastdrop.attention_dropout,
    "columns": lambda x, p=0.1, **options: fastdrop.attention_dropout(x, p, **{"mode": "column", **options}),
    "drop_head": fastdrop.drop_head,
    "drop_key": fastdrop.drop_key,
}
BACKWARD = {
    "attention_dropout": fastdrop.attention_dropout_backward,
    "columns": lambda x, p=0.1, **options: fastdrop.attention_dropout_backward(
        x, p, weights=np.ones(np.shape(x), x.dtype), **{"mode": "column", **options}
    ),
    "drop_head": fastdrop.drop_head_backward,
    "drop_key": fastdrop.drop_key_backward,
}
ALL = [*FORWARD.values(), *BACKWARD.values()]
forward = pytest.mark.parametrize("function", FORWARD.values(), ids=FORWARD)


@pytest.mark.parametrize("function", ALL)
def test_outside_training(function):
    x, stream = probabilities(), fastdrop.Stream(1)
    assert function(x, training=False, seed=stream) is x
    assert stream.offset == 0
    out = np.empty_like(x)
    assert function(x, training=False, seed=stream, out=out) is out
    assert same(out, x)


@pytest.mark.parametrize("function", ALL)
def test_a_stream_is_drawn_from_once(function):
    x, stream = probabilities(), fastdrop.Stream(61, 62)
    assert same(function(x, 0.5, seed=stream), function(x, 0.5, **KEY))
    assert stream.offset == 63


@forward
def test_fresh_entropy(function):
    x = np.ones((8, 30, 2, 30))
    assert not same(function(x, 0.5), function(x, 0.5))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 4, 0)])
@pytest.mark.parametrize("function", ALL)
def test_nothing(engine, function, shape):
    assert function(np.ones(shape), 0.5, **KEY).shape == shape


def test_the_ends_of_the_rate(engine):
    x = probabilities(dtype=np.float32)
    for function in (fastdrop.attention_dropout, fastdrop.drop_head, fastdrop.drop_key):
        y = function(x, 0, **KEY)
        assert same(y, x)
        assert not np.shares_memory(x, y)
    for function in (fastdrop.attention_dropout, fastdrop.drop_head, FORWARD["columns"], BACKWARD["columns"]):
        assert same(function(x, 1, **KEY), np.zeros_like(x))
    assert same(fastdrop.drop_key(x, 1, **KEY), x)
    assert same(fastdrop.drop_key(x, 1, empty_rows="fill", **KEY), np.full_like(x, -np.inf))
    assert np.allclose(FORWARD["columns"](x, 0, **KEY), x)


BAD_EVERYWHERE = [
    (ValueError, "four dimensions", {"x": np.ones((2, 3, 4))}),
    (TypeError, "must have a floating-point dtype", {"x": np.ones((1, 2, 3, 4), int)}),
    (ValueError, "p must be in", {"p": -0.1}),
    (TypeError, "p must be", {"p": None}),
    (ValueError, "out must have the shape", {"out": np.ones(3)}),
    (ValueError, "unknown backend", {"backend": "abacus"}),
    (ValueError, "offset", {"offset": 2**64}),
]
BAD = [
    *((function, *bad) for function in ALL for bad in BAD_EVERYWHERE),
    *((FORWARD[name], ValueError, "shared must be", {"shared": "rows"}) for name in ("attention_dropout", "drop_key")),
    (fastdrop.attention_dropout, ValueError, "mode must be", {"mode": "row"}),
    (fastdrop.attention_dropout, ValueError, "window must be", {"window": 0}),
    (fastdrop.attention_dropout, TypeError, "window must be", {"window": 1.5}),
    (fastdrop.attention_dropout, ValueError, "renormalize must be", {"window": 2, "renormalize": False}),
    (fastdrop.drop_key, ValueError, "empty_rows must be", {"empty_rows": "drop"}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": "-inf"}),
    (fastdrop.drop_key, TypeError, "allowed must be of bool", {"allowed": np.ones(4)}),
    (fastdrop.drop_key, ValueError, "does not broadcast", {"allowed": np.ones(3, bool)}),
]


@pytest.mark.parametrize(("function", "error", "message", "bad"), BAD)
def test_bad_input(function, error, message, bad):
    """Nothing is drawn: a stream stays where it is."""
    stream = fastdrop.Stream(1)
    arguments = {"x": np.ones((1, 2, 3, 4)), "p": 0.5, "seed": stream, **bad}
    with pytest.raises(error, match=message):
        function(arguments.pop("x"), arguments.pop("p"), **arguments)
    assert stream.offset == 0


def test_bad_input_of_gradients():
    grad = np.ones((1, 2, 3, 4))
    for function in BACKWARD.values():
        with pytest.raises(TypeError, match="seed must be given"):
            function(grad, seed=None)
    with pytest.raises(TypeError, match="weights must be given"):
        fastdrop.attention_dropout_backward(grad, mode="column", seed=1)
    for weights in (np.ones((1, 2, 3, 5)), np.ones((1, 2, 3, 4), np.float32)):
        with pytest.raises(ValueError, match="weights must have"):
            fastdrop.attention_dropout_backward(grad, mode="column", weights=weights, seed=1)


def test_the_oracle_of_this_file():
    assert folded_sum([Fraction(k) for k in range(11)]) == 55
    assert folded_sum([1.0, 1e16, -1e16]) == folded_sum([1.0 + -1e16, 1e16])
