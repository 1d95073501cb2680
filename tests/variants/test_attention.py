"""Dropout of attention against loops over rows and keys, closed forms of its moments, its gradients, its arguments."""

import math
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from oracle import fixed, uniform_number

import fastdrop
from fastdrop._core.arithmetic import fixed_sum
from fastdrop.variants._blocks import window_rate
from fastdrop.verify.cases import past_caches

DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
KEY = {"seed": 61, "offset": 62}
SHAPE = (2, 3, 4, 7)
SHARED = {None: (2, 3), 1: (2, 1), (0,): (1, 3), (0, 1): (1, 1)}
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def probabilities(shape=SHAPE, dtype=np.float64):
    logits = np.sin(np.arange(math.prod(shape))).reshape(shape)
    return (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)).astype(dtype)


def compute_type(x):
    return np.float64 if x.dtype == np.float64 else np.float32


def slow_mask(shape, gamma, unit="element", shared=None, window=1, before=0):
    """Return a keep mask: each decision in turn, and the window of keys after each seed; `before` of them begin sooner."""
    batch, heads = SHARED[shared]
    queries = 1 if unit == "key" else shape[2]
    mask = np.ones(shape, bool)
    for b, h, q, place in np.ndindex(*shape[:3], shape[3] + before):
        row = (min(b, batch - 1) * heads + min(h, heads - 1)) * queries + min(q, queries - 1)
        if uniform_number(KEY["seed"], KEY["offset"], row * (shape[3] + before) + place) < fixed(gamma):
            mask[b, h, q, max(place - before, 0) : max(place - before + window, 0)] = False
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


def slow_renormalized(x, mask):
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
@pytest.mark.parametrize("unit", ["element", "key"])
@by_name
def test_elements_are_scaled(engine, dtype, unit, shared):
    x = probabilities(dtype=dtype)
    mask = slow_mask(SHAPE, 0.3, unit, shared)
    scale = compute_type(x)(1 / (1 - 0.3))
    want = np.where(mask, (x.astype(type(scale)) * scale).astype(dtype), dtype(0))
    options = {"unit": unit, "shared_axes": shared, "renormalize": False, **KEY}
    assert same(fastdrop.attention_dropout(x, 0.3, **options), want)
    assert same(fastdrop.attention_dropout_backward(x, 0.3, **options), want)


CASES = [
    ("key", None, 1),
    ("key", (0, 1), 3),
    ("key", None, 9),
    ("key", 1, 1),
    ("element", (0,), 1),
    ("element", None, 2),
]


@pytest.mark.parametrize(("unit", "shared", "window"), CASES)
@pytest.mark.parametrize("exact_rate", [True, False])
@by_name
def test_rows_are_renormalized(engine, dtype, unit, shared, window, exact_rate):
    x = probabilities(dtype=dtype)
    mask = slow_mask(SHAPE, 0.6 / window, unit, shared, window)
    if exact_rate:
        length = min(window, SHAPE[3])
        mask = slow_mask(SHAPE, window_rate(0.6, length), unit, shared, length, length - 1)
    assert 0 < mask.sum() < mask.size
    options = {"unit": unit, "shared_axes": shared, "window": window, "exact_rate": exact_rate, "renormalize": True, **KEY}
    want = slow_renormalized(x, mask)
    assert same(fastdrop.attention_dropout(x, 0.6, **options), want)
    assert same(fastdrop.attention_dropout(np.asfortranarray(x), 0.6, **options), want)
    out = x.copy()
    assert fastdrop.attention_dropout(out, 0.6, out=out, **options) is out
    assert same(out, want)


@pytest.mark.parametrize("through_sum", [True, False])
@by_name
def test_gradients_of_renormalized_rows(engine, dtype, through_sum):
    x, grad = probabilities(dtype=dtype), (5 * probabilities()[::-1] - 1).astype(dtype)
    mask = slow_mask(SHAPE, 0.2, "key", window=2)
    want = slow_gradient(grad, x, mask, through_sum)
    options = {"unit": "key", "window": 2, "exact_rate": False, "through_sum": through_sum, **KEY}
    assert same(fastdrop.attention_dropout_backward(grad, 0.4, x=x, **options), want)
    for out in (x.copy(), grad.copy()):
        given, g = (out, grad) if same(out, x) else (x, out)
        assert fastdrop.attention_dropout_backward(g, 0.4, x=given, out=out, **options) is out
        assert same(out, want)


@pytest.mark.parametrize("keys", range(1, 18))
def test_rows_of_any_length(keys):
    """Sums are folded to the bit, whatever the number of keys."""
    shape = (2, 3, 2, keys)
    x = probabilities(shape, np.float32)
    want = slow_renormalized(x, slow_mask(shape, 0.3, "element"))
    assert same(fastdrop.attention_dropout(x, 0.3, renormalize=True, **KEY), want)


@by_name
def test_rows_of_whole_registers(engine, dtype):
    """The kernels divide them in registers, up to a length; halves of a row may be parts of registers. One row has no sum."""
    for keys in (4, 8, 16, 24, 32, 48, 64, 160, 272, 512, 1024):
        shape = (1, 2, 2, keys)
        x, grad = probabilities(shape, dtype), (5 * probabilities(shape)[:, ::-1] - 1 / keys).astype(dtype)
        x[0, 1, 0] = grad[0, 1, 0] = 0
        mask = slow_mask(shape, 0.3)
        assert same(fastdrop.attention_dropout(x, 0.3, renormalize=True, **KEY), slow_renormalized(x, mask))
        for through_sum in (True, False):
            made = fastdrop.attention_dropout_backward(grad, 0.3, x=x, renormalize=True, through_sum=through_sum, **KEY)
            assert same(made, slow_gradient(grad, x, mask, through_sum))


@by_name
@pytest.mark.parametrize("keys", [16, 48, 96, 272])
def test_a_sum_of_negative_zeros_is_negative(engine, dtype, keys):
    """Nothing is added to the middle number of an odd count, not even +0.0."""
    x, grad = np.zeros((1, 1, 3, keys), dtype), np.full((1, 1, 3, keys), -0.0, dtype)
    made = fastdrop.attention_dropout_backward(grad, 1e-15, x=x, renormalize=True, **KEY)
    assert not np.signbit(made.astype(np.float64)).any()  # -0.0 - -0.0 is +0.0, but -0.0 - +0.0 is -0.0


ROWS = {
    "x": lambda x, grad, out: fastdrop.attention_dropout(x, 0.3, unit="key", out=out, **KEY),
    "grad": lambda grad, x, out: fastdrop.attention_dropout_backward(grad, 0.3, unit="key", x=x, out=out, **KEY),
    "x of grad": lambda x, grad, out: fastdrop.attention_dropout_backward(grad, 0.3, unit="key", x=x, out=out, **KEY),
}


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 3, 700)])  # many rows in one buffer, and one
@pytest.mark.parametrize("name", ROWS)
def test_rows_into_any_memory(engine, name, shape):
    """The result overlaps an operand, or has another layout."""
    given, other = probabilities(shape, np.float32), probabilities(shape, np.float32)[::-1].copy()
    wanted = ROWS[name](given, other, None)
    out = np.zeros(shape[::-1], np.float32).T
    assert same(np.ascontiguousarray(ROWS[name](given, other, out)), wanted)
    for shift in (-8, -1, 1, 5):
        memory = np.zeros(given.size + 20, np.float32)
        operand, out = (memory[at : at + given.size].reshape(shape) for at in (10, 10 + shift))
        operand[...] = given
        assert same(ROWS[name](operand, other, out), wanted)


def test_more_rows_than_numpy_gets_at_a_time():
    x = np.full((1, 1, 350_000, 3), 1 / 3, np.float32)
    c, numpy = (fastdrop.attention_dropout(x, 0.3, renormalize=True, backend=backend, **KEY) for backend in ("c", "numpy"))
    assert same(c, numpy)


@pytest.mark.parametrize("keys", [32, 33, 150, 700])
def test_rows_that_begin_inside_a_cache_line(engine, keys):
    x = probabilities((2, 1, 5, keys), np.float32)
    wanted = fastdrop.attention_dropout(x, 0.3, unit="key", **KEY)
    memory = np.zeros(x.size + 1, np.float32)
    with past_caches():
        assert same(fastdrop.attention_dropout(x, 0.3, unit="key", **KEY), wanted)
        for first in range(2):
            out = memory[first : first + x.size].reshape(x.shape)
            assert same(fastdrop.attention_dropout(x, 0.3, unit="key", out=out, **KEY), wanted)


@pytest.mark.parametrize("window", [2, 9])
def test_windows_over_a_single_row(engine, window):
    """Its decisions are in the order of its elements, but begin before them."""
    x = probabilities((1, 1, 1, 300), np.float32)
    mask = slow_mask(x.shape, window_rate(0.6, window), "key", window=window, before=window - 1)
    assert same(fastdrop.attention_dropout(x, 0.6, unit="key", window=window, **KEY), slow_renormalized(x, mask))


@pytest.mark.parametrize("shape", [(1, 1, 3, 1500), (1, 1, 2, 2500), (2, 1, 1, 9000), (3, 40, 5, 1), (64, 3, 7, 3)])
@pytest.mark.parametrize("unit", ["element", "key"])
def test_long_rows_and_many_short_ones(engine, shape, unit):
    """Against NumPy: rows that are summed in one buffer and in pieces, and more rows than a tile has elements."""
    for dtype in (np.float32, np.float64):
        x, grad = probabilities(shape, dtype), (np.arange(math.prod(shape)) % 11 / 8 - 0.5).reshape(shape).astype(dtype)
        options = {"unit": unit, "renormalize": True, **KEY}
        axes = 2 if unit == "key" else None
        kept = np.broadcast_to(fastdrop.dropout_mask(shape, 0.3, shared_axes=axes, **KEY), shape)
        total = fixed_sum(np.where(kept, x, dtype(0))) + dtype(1e-8)
        assert same(fastdrop.attention_dropout(x, 0.3, **options), np.where(kept, x / total, dtype(0)))
        slope = fixed_sum(np.where(kept, grad * (x / total), dtype(0)))
        wanted = np.where(kept, (grad - slope) / total, dtype(0))
        assert same(fastdrop.attention_dropout_backward(grad, 0.3, x=x, **options), wanted)


def test_what_each_mode_does_by_default():
    x = probabilities()
    for unit, window, renormalize in (("element", 1, False), ("element", 2, True), ("key", 1, True)):
        options = {"unit": unit, "window": window, **KEY}
        default = fastdrop.attention_dropout(x, 0.3, **options)
        assert same(default, fastdrop.attention_dropout(x, 0.3, renormalize=renormalize, **options))
    assert np.allclose(fastdrop.attention_dropout(x, 0.3, unit="key", **KEY).sum(axis=-1), 1, atol=1e-6)


def test_dropped_is_zero_whatever_it_was():
    x = np.full((1, 1, 1, 4), -np.inf)
    x[..., 1:] = np.nan, np.inf, -1
    for unit in ("element", "key"):
        assert same(fastdrop.attention_dropout(x, 1.0, unit=unit, **KEY), np.zeros_like(x))
        assert same(fastdrop.attention_dropout_backward(x, 1.0, unit=unit, x=x, **KEY), np.zeros_like(x))


def test_one_infinite_gradient_stays_in_its_row():
    x, grad = probabilities((1, 1, 1, 8)), np.ones((1, 1, 1, 8))
    mask = slow_mask(x.shape, 0.5)
    grad[~mask] = np.inf
    dx = fastdrop.attention_dropout_backward(grad, 0.5, x=x, renormalize=True, **KEY)
    assert np.allclose(dx, 0, atol=1e-6)  # all that is kept has the same gradient


def central_differences(function, x, w):
    step = 2.0**-12
    differences = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = step
        differences[index] = (w * (function(x + nudge) - function(x - nudge))).sum() / (2 * step)
    return differences


@pytest.mark.parametrize("options", [{}, {"unit": "key"}, {"unit": "key", "window": 3}, {"renormalize": True}])
def test_backward_is_the_gradient(options):
    x, w = probabilities((2, 2, 2, 5)), probabilities((2, 2, 2, 5))[::-1] - 0.1
    want = central_differences(lambda v: fastdrop.attention_dropout(v, 0.4, **options, **KEY), x, w)
    assert np.allclose(fastdrop.attention_dropout_backward(w, 0.4, x=x, **options, **KEY), want, atol=1e-5)


def test_moments_of_columns():
    """Of n equal probabilities with k kept, a row's are 1 / k: E = (1 - p**n) / n, and so the second moment."""
    n, p, draws = 4, 0.4, 100_000
    y = fastdrop.attention_dropout(np.full((100, 1000, 1, n), 1 / n), p, unit="key", **KEY).reshape(draws, n)
    chance = [math.comb(n, k) * (1 - p) ** k * p ** (n - k) for k in range(n + 1)]
    second = sum(chance[k] / k for k in range(1, n + 1)) / n
    mean = (1 - p**n) / n
    error = math.sqrt((second - mean**2) / draws)
    assert (abs(y.mean(axis=0) - mean) < 4.5 * error).all()
    assert y.var(axis=0) == pytest.approx(second - mean**2, rel=0.02)


def test_the_rate_of_the_papers_windows():
    """Key k is kept where none of min(k + 1, w) keys begins a window."""
    options = {"unit": "key", "window": 3, "exact_rate": False, **KEY}
    y = fastdrop.attention_dropout(np.ones((100, 1000, 1, 6)), 0.6, **options)
    for k, n in enumerate([1, 2, 3, 3, 3, 3]):
        keep = 0.8**n
        assert abs((y[..., k] > 0).mean() - keep) < 4.5 * math.sqrt(keep * (1 - keep) / 100_000)


@pytest.mark.parametrize("window", [1, 2, 4, 6, 9])
def test_every_key_is_dropped_at_the_rate(window):
    y = fastdrop.attention_dropout(np.ones((100, 1000, 1, 6)), 0.4, unit="key", window=window, **KEY)
    for k in range(6):
        assert abs((y[..., k] > 0).mean() - 0.6) < 4.5 * math.sqrt(0.6 * 0.4 / 100_000)


def test_one_window_drops_neighbours():
    """With a rate so low that windows do not meet, each has its length, or is cut off at an end."""
    y = fastdrop.attention_dropout(np.ones((1, 20_000, 1, 12)), 0.001, unit="key", window=4, **KEY)[0, :, 0]
    rows = y[(y == 0).any(axis=1)]
    assert len(rows) > 30
    for row in rows:
        dropped = np.flatnonzero(row == 0)
        assert dropped[-1] - dropped[0] == len(dropped) - 1
        assert len(dropped) == 4 or dropped[0] == 0 or dropped[-1] == 11


@pytest.mark.parametrize("p", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("window", [2, 3, 4, 100])
def test_the_rate_of_a_windows_beginning(p, window):
    gamma = Fraction(window_rate(p, window))
    assert float(1 - (1 - gamma) ** window) == pytest.approx(p, rel=1e-14)


def test_a_kept_nan_does_not_reach_dropped_elements():
    """Nor does a negative sum: dropped elements are +0.0."""
    x, mask = probabilities(), slow_mask(SHAPE, 0.5, "key")
    for value in (np.nan, np.inf, -1e3):
        x[..., :5] = value
        y = fastdrop.attention_dropout(x, 0.5, unit="key", **KEY)
        assert not y[~mask].any()
        assert not np.signbit(y[~mask]).any()
    dx = fastdrop.attention_dropout_backward(x, 0.5, unit="key", x=np.full_like(x, np.nan), **KEY)
    assert not dx[~mask].any()
    assert not np.signbit(dx[~mask]).any()


def test_renormalized_rows_without_a_drop_are_as_they_were():
    x, grad = 3 * probabilities(dtype=np.float32), probabilities(dtype=np.float32)[::-1].copy()
    for options in ({"unit": "key"}, {"window": 3}, {"renormalize": True}):
        assert same(fastdrop.attention_dropout(x, 0, **options, **KEY), x)
        assert same(fastdrop.attention_dropout_backward(grad, 0, x=x, **options, **KEY), grad)


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


@pytest.mark.parametrize("fill", [-np.inf, -1e4, -0.0])
@pytest.mark.parametrize("shared", SHARED)
@by_name
def test_keys(engine, dtype, shared, fill):
    x = np.sin(np.arange(math.prod(SHAPE))).reshape(SHAPE).astype(dtype)
    x[0, 0, 0, :3] = -0.0
    mask = slow_mask(SHAPE, 0.3, "element", shared)
    options = {"shared_axes": shared, "empty_rows": "fill", **KEY}
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
    y = fastdrop.drop_key(x, 0.8, allowed=causal, shared_axes=shared, **KEY)
    assert (y > -np.inf).any(axis=-1).all()
    assert not (fastdrop.drop_key(x, 0.8, shared_axes=shared, **KEY) > -np.inf).any(axis=-1).all()
    left = (slow_mask(x.shape, 0.8, shared=shared) & causal).any(axis=-1, keepdims=True)
    kept = slow_mask(x.shape, 0.8, shared=shared) | ~left
    assert same(y, np.where(kept, x, -np.inf))
    assert same(fastdrop.drop_key_backward(x, 0.8, allowed=causal, shared_axes=shared, **KEY), np.where(kept, x, 0.0))


def test_how_many_keys_are_dropped():
    y = fastdrop.drop_key(np.zeros((10, 10, 10, 1000)), 0.3, **KEY)
    assert abs((y < 0).mean() - 0.3) < 4.5 * math.sqrt(0.3 * 0.7 / y.size)


# All of them --------------------------------------------------------------------------------------------------------

FORWARD = {
    "attention_dropout": fastdrop.attention_dropout,
    "columns": lambda x, p=0.1, **options: fastdrop.attention_dropout(x, p, **{"unit": "key", **options}),
    "drop_head": fastdrop.drop_head,
    "drop_key": fastdrop.drop_key,
}
BACKWARD = {
    "attention_dropout": fastdrop.attention_dropout_backward,
    "columns": lambda x, p=0.1, **options: fastdrop.attention_dropout_backward(
        x, p, x=np.ones(np.shape(x), x.dtype), **{"unit": "key", **options}
    ),
    "drop_head": fastdrop.drop_head_backward,
    "drop_key": fastdrop.drop_key_backward,
}
ALL = [*FORWARD.values(), *BACKWARD.values()]
forward = pytest.mark.parametrize("function", FORWARD.values(), ids=FORWARD)


@pytest.mark.parametrize("function", ALL)
def test_outside_training(function):
    x, stream = probabilities(), fastdrop.Stream(1)
    seed = stream if function in FORWARD.values() else stream.key()
    assert function(x, training=False, seed=seed) is x
    assert stream.offset == 0
    out = np.empty_like(x)
    assert function(x, training=False, seed=seed, out=out) is out
    assert same(out, x)


@pytest.mark.parametrize("function", BACKWARD.values(), ids=BACKWARD)
def test_a_backward_pass_refuses_a_stream(function):
    for seed in (fastdrop.Stream(1), np.random.default_rng(1)):
        for training in (True, False):
            with pytest.raises(TypeError, match="seed must be the key of the forward pass"):
                function(probabilities(), seed=seed, training=training)


@forward
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
    (ValueError, "start must be", {"start": -1}),
    (ValueError, "is not inside global_shape", {"global_shape": (1, 2, 3, 4), "global_start": (0, 0, 1, 0)}),
    (ValueError, "must have one number per axis", {"global_shape": (1, 2, 3)}),
    (TypeError, "global_shape must be a sequence", {"global_shape": 7}),
    (TypeError, "training must be True or False", {"training": "no"}),
]
BAD = [
    *((function, *bad) for function in ALL for bad in BAD_EVERYWHERE),
    *((FORWARD[name], ValueError, "shared_axes must be", {"shared_axes": 2}) for name in ("attention_dropout", "drop_key")),
    *((FORWARD[name], ValueError, "name an axis twice", {"shared_axes": (0, 0)}) for name in ("attention_dropout", "drop_key")),
    *((FORWARD[name], TypeError, "shared_axes must be", {"shared_axes": "both"}) for name in ("attention_dropout", "drop_key")),
    (fastdrop.attention_dropout, ValueError, "unit must be", {"unit": "row"}),
    (fastdrop.attention_dropout, TypeError, "exact_rate must be True or False", {"exact_rate": 1}),
    (fastdrop.attention_dropout, TypeError, "renormalize must be True or False", {"renormalize": "yes"}),
    (fastdrop.attention_dropout, ValueError, "window must be", {"window": 0}),
    (fastdrop.attention_dropout, TypeError, "window must be", {"window": 1.5}),
    (fastdrop.attention_dropout, ValueError, "renormalize must be", {"window": 2, "renormalize": False}),
    (fastdrop.drop_key, ValueError, "empty_rows must be", {"empty_rows": "drop"}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": "-inf"}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": None}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": Decimal("sNaN")}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": True}),
    (fastdrop.drop_key, TypeError, "fill must be", {"fill": [1.0]}),
    (fastdrop.drop_key, TypeError, "allowed must have the dtype bool", {"allowed": np.ones(4)}),
    (fastdrop.drop_key, ValueError, "does not broadcast", {"allowed": np.ones(3, bool)}),
]


@pytest.mark.parametrize(("function", "error", "message", "bad"), BAD)
def test_bad_input(function, error, message, bad):
    """Nothing is drawn: a stream stays where it is."""
    stream = fastdrop.Stream(1)
    seed = stream if function in FORWARD.values() else 1
    arguments = {"x": np.ones((1, 2, 3, 4)), "p": 0.5, "seed": seed, **bad}
    with pytest.raises(error, match=message):
        function(arguments.pop("x"), arguments.pop("p"), **arguments)
    assert stream.offset == 0


def test_bad_input_of_gradients():
    grad = np.ones((1, 2, 3, 4))
    for function in BACKWARD.values():
        with pytest.raises(TypeError, match="seed is required"):
            function(grad, seed=None)
    with pytest.raises(TypeError, match="x must be given"):
        fastdrop.attention_dropout_backward(grad, unit="key", seed=1)
    for error, x in ((ValueError, np.ones((1, 2, 3, 5))), (TypeError, np.ones((1, 2, 3, 4), np.float32))):
        with pytest.raises(error, match="x must have"):
            fastdrop.attention_dropout_backward(grad, unit="key", x=x, seed=1)
        for more in ({}, {"unit": "key", "p": 0.0}, {"unit": "key", "training": False}):  # which do not use it
            with pytest.raises(error, match="x must have"):
                fastdrop.attention_dropout_backward(grad, x=x, seed=1, **more)


# Blocks of a larger array -------------------------------------------------------------------------------------------

WHOLE = (4, 3, 6, 5)
BLOCKED = [
    (fastdrop.attention_dropout, {}, 3),
    (fastdrop.attention_dropout, {"unit": "key", "renormalize": False, "shared_axes": 1}, 3),
    (fastdrop.attention_dropout, {"unit": "key", "shared_axes": 0}, None),
    (fastdrop.attention_dropout, {"window": 2}, None),
    (fastdrop.attention_dropout, {"unit": "key", "window": 2, "exact_rate": False}, None),
    (fastdrop.drop_head, {}, 2),
    (fastdrop.drop_head, {}, 3),
    (fastdrop.drop_key, {"shared_axes": 1}, None),
    (fastdrop.drop_key, {"empty_rows": "fill"}, 3),
]


@pytest.mark.parametrize(("function", "options", "cut"), BLOCKED)
def test_a_block_of_a_larger_array(engine, function, options, cut):
    """Cut along the samples and, where it may be, along another axis."""
    x = probabilities(WHOLE, np.float32)
    backward = getattr(fastdrop, f"{function.__name__}_backward")
    more = {"x": x} if function is fastdrop.attention_dropout else {}
    whole, slopes = function(x, 0.4, **options, **KEY), backward(x, 0.4, **options, **more, **KEY)
    for rows in (slice(0, 1), slice(1, 4)):
        for part in (slice(0, 2), slice(2, 9)):
            block = (rows, *[slice(None)] * ((cut or 1) - 1), part if cut else slice(None))
            begin = (rows.start, *[part.start if axis == cut else 0 for axis in (1, 2, 3)])
            where = {"global_shape": WHOLE, "global_start": begin, **KEY}
            assert same(function(x[block], 0.4, **options, **where), whole[block].copy())
            more = {"x": x[block]} if function is fastdrop.attention_dropout else {}
            assert same(backward(x[block], 0.4, **options, **more, **where), slopes[block].copy())


def test_a_chunk_of_rows():
    """`start` counts decisions."""
    x = probabilities(WHOLE, np.float32)
    assert same(fastdrop.drop_head(x[1:], 0.4, start=3, **KEY), fastdrop.drop_head(x, 0.4, **KEY)[1:])
    assert same(fastdrop.drop_key(x[1:], 0.4, start=90, **KEY), fastdrop.drop_key(x, 0.4, **KEY)[1:])
    columns = {"unit": "key", "window": 2, **KEY}
    want = fastdrop.attention_dropout(x, 0.4, **columns)[1:]
    assert same(fastdrop.attention_dropout(x[1:], 0.4, start=3 * 6, **columns), want)


@pytest.mark.parametrize(
    ("function", "options", "shape"),
    [
        (fastdrop.attention_dropout, {"unit": "key"}, (4, 3, 6, 9)),
        (fastdrop.drop_key, {}, (4, 3, 6, 9)),
        (fastdrop.drop_head, {}, (4, 5, 6, 5)),
    ],
)
def test_what_a_block_must_have_all_of(function, options, shape):
    stream = fastdrop.Stream(1)
    with pytest.raises(ValueError, match="a block of a larger array must have all of axis"):
        function(np.ones(WHOLE), seed=stream, global_shape=shape, **options)
    assert stream.offset == 0


def test_the_oracle_of_this_file():
    assert folded_sum([Fraction(k) for k in range(11)]) == 55
    assert folded_sum([1.0, 1e16, -1e16]) == folded_sum([1.0 + -1e16, 1e16])
