"""Dropout by importance against its formulas, with the oracle's bits and words."""

from fractions import Fraction

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from oracle import keep, keep_laid, word

import fastdrop
from fastdrop import theory
from fastdrop._core import numbers
from fastdrop.verify.cases import spoiled

SEED, OFFSET = 51, 52
KEY = {"seed": SEED, "offset": OFFSET}


# Keep probabilities -------------------------------------------------------------------------------------------------


def filled_exactly(scores, mean, floor):
    """Return the keep probabilities as fractions, by trying every number of them at the floor and at 1.

    Zeros are taken for scores so small that they are the last to leave the floor.
    """
    scores, mean = [Fraction(s) for s in scores], Fraction(mean)
    floor, n = min(Fraction(floor), mean), len(scores)
    tiny = Fraction(1, 10**400)
    ordered = sorted(s or tiny for s in scores)
    for low in range(n + 1):
        for high in range(n + 1 - low):
            middle = ordered[low : n - high]
            rest = n * mean - low * floor - high
            level = rest / sum(middle) if middle else None
            if level < 0 if middle else rest:
                continue
            if not middle:  # any level between what the last at the floor and the first at 1 allow
                level = 1 / ordered[n - high] if high else floor / ordered[-1]
            found = [min(Fraction(1), max(floor, level * (s or tiny))) for s in scores]
            if sum(found) == n * mean:
                return found
    raise AssertionError("no level")


SCORES = [
    [1.0, 2.0, 3.0, 2.0],
    [5.0, 1.0, 1.0, 1.0, 0.5, 100.0],
    [0.0, 0.0, 1.0, 3.0, 0.0],
    [0.0, 0.0],
    [7.0],
    [1e-30, 1.0, 1e30, 2.5, 1e-300],
    [1e308, 1.7e308, 5e-324, 1e307],
    [1e-290, 1.0, 1e20],
    list(np.random.default_rng(1).exponential(size=11)),
    list(np.random.default_rng(2).exponential(size=12) ** 6),
]


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.875, 1.0])
@pytest.mark.parametrize("scores", SCORES, ids=range(len(SCORES)))
def test_keep_probabilities_against_fractions(scores, p, floor):
    found = theory.keep_probabilities(scores, p, floor=floor)
    want = filled_exactly(scores, 1 - p, floor)
    assert np.allclose(found, [float(k) for k in want], rtol=1e-14, atol=1e-15)
    assert abs(found.mean() - (1 - p)) < 1e-15
    assert min(floor, 1 - p) <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(
    ("scores", "total", "floor"),
    [([1.0, 1 + 1e-12, 0.5], 2.5 - 0.75e-12, 0.0), ([1.0, 1 + 1e-12, 2.0], 1 - 0.125e-12, 0.25)],
)
def test_scores_that_nearly_agree(scores, total, floor):
    """Only one of them reaches 1, or leaves the floor, at a level that is known to 13 digits."""
    p = 1 - total / 3
    want = filled_exactly(scores, 1 - p, floor)
    assert (want[0] < want[1] == 1) if floor == 0 else (want[0] == floor < want[1])
    found = theory.keep_probabilities(scores, p, floor=floor)
    assert np.allclose(found, [float(k) for k in want], rtol=0, atol=3e-16)


@pytest.mark.parametrize(
    ("floor", "p"), [(0.033591061028100305, 0.6442726259812664), (0.10819176697626334, 0.5945388220158244)]
)
def test_no_score_falls_below_the_floor(engine, floor, p):
    """The mean is so near to that of one certain element and two at the floor that its product with 3 rounds to below."""
    assert theory.keep_probabilities([0.0, 1.0, 0.0], p, floor=floor).min() >= floor


def test_axes_of_the_mean():
    scores = np.random.default_rng(3).random((4, 3, 6)).astype(np.float32)
    for axis in (1, (0, 2), (-1,), (2, 0, 1)):
        keep = theory.keep_probabilities(scores, 0.3, axis=axis)
        assert np.allclose(keep.mean(axis=axis), 0.7, atol=1e-15)
        order = np.argsort(keep, axis=axis) if isinstance(axis, int) else None
        if order is not None:
            assert (np.diff(np.take_along_axis(scores, order, axis), axis=axis) >= 0).all()
    rows = theory.keep_probabilities(scores, 0.3, axis=2)
    assert_same_bytes(rows[2, 1], theory.keep_probabilities(scores[2, 1], 0.3))
    assert_same_bytes(rows, theory.keep_probabilities(np.asfortranarray(scores), 0.3, axis=2))
    assert_same_bytes(theory.keep_probabilities(scores, 0.3), theory.keep_probabilities(scores, 0.3, axis=(0, 1, 2)))
    assert theory.keep_probabilities(np.ones((0, 3)), axis=1).shape == (0, 3)
    assert theory.keep_probabilities(np.ones((3, 0)), axis=1).shape == (3, 0)
    assert theory.keep_probabilities(2.0, 0.25) == 0.75
    assert theory.keep_probabilities([True, False], 0.5, floor=0).tolist() == [1.0, 0.0]


def test_a_hostile_environment_changes_no_keep_probability():
    scores = np.random.default_rng(4).random((50, 33)) ** 3 * 1e-310  # subnormal
    want = theory.keep_probabilities(scores, 0.6, axis=1)
    draws = theory.multinomial_probabilities(scores)
    with spoiled():
        found = theory.keep_probabilities(scores, 0.6, axis=1)
        found_draws = theory.multinomial_probabilities(scores)
    assert_same_bytes(found, want)
    assert_same_bytes(found_draws, draws)
    assert len(set(want[0])) > 20
    assert len(set(draws)) > 20


# Importance dropout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared_axes", [None, 2])
def test_importance_dropout(engine, dtype, shared_axes):
    x, scores = normal((5, 4, 6), dtype), np.random.default_rng(5).exponential(size=(5, 4, 1)) ** 2
    rule = {"axis": 1, "floor": 0.05, "shared_axes": shared_axes, **KEY}
    k = theory.keep_probabilities(scores, 0.4, axis=1, floor=0.05)
    kept = keep_laid(x.shape, 1 - k, SEED, OFFSET, shared_axes=() if shared_axes is None else shared_axes)
    factor = (1 / (1 - (1 - k))).astype(np.float64 if dtype == np.float64 else np.float32)
    want = np.where(kept, times(x, factor), dtype.type(0))
    assert_same_bytes(fastdrop.importance_dropout(x, scores, 0.4, **rule), want)
    assert_same_bytes(fastdrop.importance_dropout_backward(np.asfortranarray(x), scores, 0.4, **rule), want)
    out = x.copy()
    assert fastdrop.importance_dropout(out, scores, 0.4, out=out, **rule) is out
    assert_same_bytes(out, want)


def test_moments_of_importance_dropout():
    scores, n = np.array([0.1, 0.5, 1.0, 2.0, 9.0]), 40_000
    k = theory.keep_probabilities(scores, 0.5)
    y = fastdrop.importance_dropout(np.ones((n, 5)), scores, 0.5, seed=3)
    assert 0 < k.min() < 0.1 < k.max() == 1
    deviation = np.sqrt((1 - k) / k)
    assert (np.abs(y.mean(axis=0) - 1) <= 5 * deviation / np.sqrt(n)).all()
    assert np.allclose(y.std(axis=0), deviation, rtol=0.05)
    assert abs((y != 0).mean() - 0.5) < 0.005  # the mean rate


def test_importance_dropout_with_equal_scores_is_dropout():
    x = normal((30, 7), np.float32)
    assert_same_bytes(fastdrop.importance_dropout(x, np.ones(7), 0.5, seed=1), fastdrop.dropout(x, 0.5, seed=1))
    assert_same_bytes(fastdrop.importance_dropout(x, 3.0, 0.25, seed=1), fastdrop.dropout(x, 0.25, seed=1))
    assert_same_bytes(fastdrop.importance_dropout(x, np.zeros((30, 1)), 0.5, seed=1), fastdrop.dropout(x, 0.5, seed=1))


def test_importance_dropout_at_the_ends():
    x, scores = normal((4, 3)), np.arange(3.0)
    assert fastdrop.importance_dropout(x, scores, training=False) is x
    assert fastdrop.importance_dropout_backward(x, scores, seed=1, training=False) is x
    assert_same_bytes(fastdrop.importance_dropout(x, scores, 0.0, seed=1), x)
    assert_same_bytes(fastdrop.importance_dropout(np.full((4, 3), np.nan), scores, 1.0, seed=1), np.zeros((4, 3)))
    assert not fastdrop.importance_dropout(x, scores, 0.5, floor=0, seed=1)[:, 0].any()
    assert fastdrop.importance_dropout(np.ones((0, 3)), scores, seed=1).shape == (0, 3)
    assert fastdrop.importance_dropout(np.float64(2), 1.0, 0.0, seed=1) == 2


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"scores must be finite and >= 0; got -1.0 at index \(1,\)", {"scores": [1.0, -1.0, 2.0]}),
        (ValueError, "scores must be finite", {"scores": [1.0, np.nan, 2.0]}),
        (ValueError, "scores must be finite", {"scores": [1.0, np.inf, 2.0]}),
        (TypeError, "scores must be real numbers", {"scores": [1j, 1.0, 2.0]}),
        (TypeError, "scores must be real numbers", {"scores": ["a", "b", "c"]}),
        (ValueError, "scores have shape", {"scores": np.ones(4)}),
        (ValueError, "scores have shape", {"scores": np.ones((1, 2, 3))}),
        (ValueError, "p must be in", {"p": 1.5}),
        (TypeError, "p must be a number", {"p": np.full(3, 0.5)}),
        (ValueError, r"floor must be a number in \[0, 1\]; got 2", {"floor": 2}),
        (TypeError, "floor must be a number", {"floor": None}),
        (ValueError, "axis", {"axis": 2}),
        (ValueError, "shared_axes", {"shared_axes": 2}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 3), int)}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
    ],
)
def test_bad_importance_dropout(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((2, 3)), "scores": np.ones(3), "seed": stream}
    with pytest.raises(error, match=words):
        fastdrop.importance_dropout(**{**good, **arguments})
    assert stream.offset == 0


def test_an_axis_that_scores_and_x_number_differently_is_refused():
    x, scores = np.ones((2, 3)), np.arange(3.0)
    for axis in (0, (0,), [0]):
        with pytest.raises(ValueError, match=r"axis must count from the end, .* scores have fewer axes than x: got axis "):
            fastdrop.importance_dropout(x, scores, axis=axis, seed=1)
        with pytest.raises(ValueError, match=r"because scores have fewer axes than grad: got axis "):
            fastdrop.importance_dropout_backward(x, scores, axis=axis, seed=1, training=False)
    whole = fastdrop.importance_dropout(x, scores[np.newaxis], axis=1, **KEY)
    for axis in (-1, iter([-1])):
        assert_same_bytes(fastdrop.importance_dropout(x, scores, axis=axis, **KEY), whole)
    assert_same_bytes(fastdrop.importance_dropout(x, 1.0, axis=(), **KEY), fastdrop.dropout(x, 0.5, **KEY))


# Multinomial dropout ------------------------------------------------------------------------------------------------


def shares_exactly(probabilities):
    """Transcribe how the words are cut up, in Python integers."""
    positive = [i for i, share in enumerate(probabilities) if share > 0]
    largest = max(probabilities)
    weights = [int(share / largest * 2**31) for share in probabilities]
    shares, total = [0] * len(weights), sum(weights)
    for i in positive:
        shares[i] = 1 + weights[i] * (2**32 - len(positive)) // total
    for i in positive[: 2**32 - sum(shares)]:
        shares[i] += 1
    assert sum(shares) == 2**32
    return shares


def factors_exactly(rows, k, probabilities, per):
    """Return the factors of each row: count draws one by one."""
    shares = shares_exactly(probabilities)
    ends = np.cumsum(shares).tolist()
    factors = np.zeros((rows, len(shares)))
    for r in range(rows):
        counts = [0] * len(shares)
        for t in range(k):
            drawn = word(SEED, OFFSET, t if per == "batch" else r * k + t)
            counts[next(i for i, end in enumerate(ends) if drawn < end)] += 1
        factors[r] = [float(Fraction(c * 2**32, k * s)) if c else 0 for c, s in zip(counts, shares, strict=True)]
    return factors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_multinomial_dropout(engine, dtype, per):
    x, probabilities = normal((3, 5, 6), dtype), [0.1, 1e-12, 0.3, 0.0, 0.35, 0.25]
    x[0, 0] = np.inf
    factors = factors_exactly(15, 4, probabilities, per).reshape(x.shape)
    with np.errstate(invalid="ignore"):  # infinity by 0
        product = times(x, factors.astype(np.float64 if dtype == np.float64 else np.float32))
    want = np.where(factors > 0, product, dtype.type(0))
    assert_same_bytes(fastdrop.multinomial_dropout(x, 4, probabilities, per=per, **KEY), want)
    assert_same_bytes(fastdrop.multinomial_dropout_backward(np.asfortranarray(x), 4, probabilities, per=per, **KEY), want)
    out = np.asfortranarray(x)
    assert fastdrop.multinomial_dropout(out, 4, probabilities, per=per, out=out, **KEY) is out
    assert_same_bytes(np.ascontiguousarray(out), want)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize(
    ("rows", "features", "k"), [(3000, 7, 5), (3, 5000, 2100), (2, 1024, 1), (40, 1023, 1025), (600, 10, 2000)]
)
def test_draws_of_many_rows_and_features(engine, rows, features, k, per):
    """Blocks of rows, rows in several pieces, more words than are made at a time; threads and steps change nothing."""
    x, probabilities = normal((rows, features), np.float32), np.arange(features) % 5
    want = by_reference(lambda: fastdrop.multinomial_dropout(x, k, probabilities, per=per, **KEY))
    for threads in (1, 3):
        found = fastdrop.multinomial_dropout(x, k, probabilities, per=per, num_threads=threads, **KEY)
        assert_same_bytes(found, want)
        wide = np.zeros((rows, 2 * features), np.float32)
        fastdrop.multinomial_dropout(
            np.asfortranarray(x), k, probabilities, per=per, out=wide[:, ::2], num_threads=threads, **KEY
        )
        assert_same_bytes(wide[:, ::2].copy(), want)
        assert not wide[:, 1::2].any()


def test_words_past_the_end_of_the_stream_are_refused():
    stream = fastdrop.random.Stream(1)
    with pytest.raises(OverflowError, match="words"):
        fastdrop.multinomial_dropout(np.ones((2, 3)), 4, np.ones(3), start=2**50 - 7, seed=stream)
    assert stream.state_dict() == fastdrop.random.Stream(1).state_dict()


def test_shares_sum_to_all_words():
    rng = np.random.default_rng(6)
    cases = [rng.random(n) ** power for n, power in ((1, 1), (2, 1), (7, 3), (1000, 1), (30_000, 8))]
    cases += [np.ones(3), [0.0, 1.0], [1e-300, 1.0, 1e300], [5e-324, 5e-324], np.arange(4), [True, False]]
    for weights in cases:
        weights = np.asarray(weights)
        shares = numbers.share_words(weights, weights.size)
        assert shares.tolist() == shares_exactly(weights.tolist())
        assert ((shares > 0) == (weights > 0)).all()
        wanted = weights.astype(float) / weights.max()
        assert np.allclose(shares / 2.0**32, wanted / wanted.sum(), rtol=1e-4, atol=1e-9)


def test_a_word_on_the_border_is_the_next_features():
    drawn = word(SEED, OFFSET, 0)
    for border, feature in ((drawn, 1), (drawn + 1, 0)):
        shares = np.array([border, 2**32 - border], np.uint64)
        assert numbers.share_words(shares, 2).tolist() == shares.tolist()
        assert np.argmax(fastdrop.multinomial_dropout(np.ones(2), 1, shares, **KEY)) == feature


def test_moments_of_multinomial_dropout():
    n, k, p = 40_000, 3, np.array([0.1, 0.2, 0.3, 0.4])
    y = fastdrop.multinomial_dropout(np.ones((n, 4)), k, p, seed=4)
    variance = (1 - p) / (k * p)
    assert (np.abs(y.mean(axis=0) - 1) < 5 * np.sqrt(variance / n)).all()
    assert np.allclose(y.var(axis=0), variance, rtol=0.05)
    assert np.allclose(np.cov(y.T)[0, 1:], -1 / k, rtol=0.15)  # -P_i P_j / (k P_i P_j)
    assert np.allclose(y @ p, 1, atol=1e-8)  # all draws are somebody's


def test_probabilities_are_the_roots_of_second_moments(engine):
    x = normal((50, 3, 6), np.float32) * np.arange(6, dtype=np.float32)
    found = theory.multinomial_probabilities(x)
    roots = np.sqrt((x.astype(float) ** 2).sum(axis=(0, 1)))
    assert np.allclose(found, roots / roots.sum(), rtol=1e-14)
    assert_same_bytes(found, theory.multinomial_probabilities(np.asfortranarray(x)))
    assert_same_bytes(found, theory.multinomial_probabilities(np.ma.masked_greater(x, 1)))  # whose maximum is another one
    assert_same_bytes(fastdrop.multinomial_dropout(x, 2, **KEY), fastdrop.multinomial_dropout(x, 2, found, **KEY))
    assert np.allclose(theory.multinomial_probabilities(x.astype(float) * 1e300), found, rtol=1e-14)
    assert theory.multinomial_probabilities(np.zeros((3, 4))).tolist() == [0.25] * 4
    assert theory.multinomial_probabilities(np.zeros((0, 4))).tolist() == [0.25] * 4


def test_multinomial_dropout_at_the_ends():
    x = normal((4, 3))
    assert fastdrop.multinomial_dropout(x, 2, training=False) is x
    assert fastdrop.multinomial_dropout_backward(x, 2, np.ones(3), seed=1, training=False) is x
    assert fastdrop.multinomial_dropout(np.ones((0, 3)), 2, seed=1).shape == (0, 3)
    assert fastdrop.multinomial_dropout(np.ones((3, 0)), 2, seed=1).shape == (3, 0)
    assert_same_bytes(fastdrop.multinomial_dropout(x[:, :1], 7, seed=1), x[:, :1])  # the only one is drawn each time
    with pytest.raises(ValueError, match="0-d array"):
        fastdrop.multinomial_dropout(np.float64(1), 2)
    with pytest.raises(TypeError, match="probabilities must be given"):
        fastdrop.multinomial_dropout_backward(x, 2, None, seed=1)
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required"):
            fastdrop.multinomial_dropout_backward(x, 2, np.ones(3), seed=None, training=training)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "k must be at least 1", {"k": 0}),
        (ValueError, "k must be >= 0", {"k": -1}),
        (TypeError, "k must be an integer", {"k": 1.5}),
        (ValueError, "per must be 'sample'", {"per": "row"}),
        (ValueError, "probabilities must have shape", {"probabilities": [0.5, 0.5]}),
        (ValueError, "probabilities must be finite", {"probabilities": [0.5, -0.5, 1.0]}),
        (ValueError, "probabilities must be finite", {"probabilities": [0.5, np.nan, 1.0]}),
        (ValueError, "probabilities must be finite", {"probabilities": [0.5, np.inf, 1.0]}),
        (ValueError, "not all of them 0", {"probabilities": np.zeros(3)}),
        (TypeError, "probabilities must be real", {"probabilities": ["a", "b", "c"]}),
        (ValueError, "x must be finite", {"x": np.full((2, 3), np.nan)}),
        (ValueError, "x must be finite", {"x": np.full((2, 3), -np.inf)}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((2, 3), int)}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
        (TypeError, r"start must be an integer >= 0; got array\(\[0, 1\]\)", {"start": np.array([0, 1])}),
        (TypeError, "start must be an integer >= 0; got 'a'", {"start": "a"}),
    ],
)
def test_bad_multinomial_dropout(error, words, arguments):
    stream = fastdrop.Stream(1)
    for training in (True, False)[: 1 if words == "x must be finite" else 2]:  # outside training x needs no probabilities
        with pytest.raises(error, match=words):
            fastdrop.multinomial_dropout(**{"x": np.ones((2, 3)), "k": 2, "seed": stream, "training": training, **arguments})
        assert stream.offset == 0


def test_multinomial_dropout_draws_once():
    stream, x = fastdrop.Stream(SEED, OFFSET), normal((9, 5))
    assert_same_bytes(fastdrop.multinomial_dropout(x, 3, seed=stream), fastdrop.multinomial_dropout(x, 3, **KEY))
    assert stream.offset == OFFSET + 1


# Targeted dropout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["unscaled", "inverted"])
@pytest.mark.parametrize(
    ("among", "inputs", "outputs"), [("output", 20, 6), ("output", 40, 6), ("output", 40, 27), ("layer", 20, 6)]
)
def test_targeted_dropout(engine, dtype, among, inputs, outputs, mode):
    weight = np.round(normal((inputs // 5, 5, outputs), dtype).astype(float) * 2).astype(dtype)  # with many ties
    weight[..., 2] = -np.inf
    weight[0, ::2, 2] = np.nan
    n = weight.size
    kept = np.array(keep(SEED, OFFSET, 0, n, 0.4))
    want, factors = weight.reshape(-1).copy(), np.ones(n, dtype)
    scale = dtype.type(1) if mode == "unscaled" else scale_of(0.4, dtype)
    for row in [np.arange(n)] if among == "layer" else np.arange(n).reshape(inputs, outputs).T:
        magnitude = [np.inf if np.isnan(want[i]) else abs(float(want[i])) for i in row]
        ranked = sorted(range(len(row)), key=lambda j: (magnitude[j], j))
        for i in row[ranked[: int(0.7 * len(row))]]:
            want[i], factors[i] = (times(want[i], scale), scale) if kept[i] else (0, 0)
    want = want.reshape(weight.shape)
    rule = {"fraction": 0.7, "among": among, "mode": mode, **KEY}
    assert_same_bytes(fastdrop.targeted_dropout(weight, 0.4, **rule), want)
    assert n / 6 < np.count_nonzero(want == 0) - np.count_nonzero(weight == 0) < n / 3  # of 0.7 n targets, some are 0 already
    found = fastdrop.targeted_dropout_backward(np.ones_like(weight), np.asfortranarray(weight), 0.4, **rule)
    assert_same_bytes(found, factors.reshape(weight.shape))


def test_targeted_dropout_at_the_ends():
    weight = np.array([[3.0, -1.0, 2.0], [0.5, 0.5, 0.5]]).T
    rule = {"fraction": 2 / 3, "seed": 1}
    assert fastdrop.targeted_dropout(weight, training=False) is weight
    assert fastdrop.targeted_dropout_backward(weight, weight, seed=1, training=False) is weight
    assert fastdrop.targeted_dropout(weight, 1.0, **rule).T.tolist() == [[3.0, 0.0, 0.0], [0.0, 0.0, 0.5]]
    ends = fastdrop.targeted_dropout(weight, 1.0, among="layer", **rule)
    assert ends.T.tolist() == [[3.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    assert fastdrop.targeted_dropout(weight[:, 0], 1.0, **rule).tolist() == [3.0, 0.0, 0.0]
    assert fastdrop.targeted_dropout(np.float64(2), 1.0, fraction=1, among="layer", seed=1) == 0
    assert_same_bytes(fastdrop.targeted_dropout(weight, 0.0, **rule), weight)
    assert_same_bytes(fastdrop.targeted_dropout(weight, 1.0, fraction=0, seed=1), weight)
    assert not fastdrop.targeted_dropout(weight, 1.0, fraction=1, seed=1).any()
    for shape in ((0, 3), (3, 0), (0,), (2, 0, 3)):
        assert fastdrop.targeted_dropout(np.ones(shape), 0.5, seed=1).shape == shape


@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_more_weights_than_are_counted(backend):
    """The counts have 32 bits. This is refused before memory is taken: the weights repeat one number."""
    stream, weight = fastdrop.Stream(1), np.broadcast_to(np.float16(0), 2**32)
    with pytest.raises(OverflowError, match=r"at most 2\*\*32 - 1 weights can be compared with each other; got 4294967296"):
        fastdrop.targeted_dropout(weight, among="layer", seed=stream, backend=backend)
    assert stream.offset == 0


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "fraction must be a number", {"fraction": 1.5}),
        (TypeError, "fraction must be a number", {"fraction": "x"}),
        (ValueError, "among must be 'output'", {"among": "row"}),
        (ValueError, "mode must be 'inverted' or 'unscaled'", {"mode": "standard"}),
        (TypeError, "training must be True or False", {"training": 0}),
        (ValueError, "0-d array", {"weight": np.float64(1)}),
        (TypeError, "weight must have a floating-point dtype", {"weight": np.ones((2, 2), int)}),
        (ValueError, "p must be in", {"p": -1}),
        (TypeError, "p must be a number", {"p": np.full((2, 2), 0.5)}),
        (ValueError, "out must have the shape", {"out": np.ones(2)}),
    ],
)
def test_bad_targeted_dropout(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.targeted_dropout(**{"weight": np.ones((2, 2)), "seed": stream, **arguments})
    assert stream.offset == 0
    with pytest.raises(ValueError, match="weight must have grad's shape"):
        fastdrop.targeted_dropout_backward(np.ones((2, 2)), np.ones(4), seed=1)
    with pytest.raises(TypeError, match="seed is required"):
        fastdrop.targeted_dropout_backward(np.ones((2, 2)), np.ones((2, 2)), seed=None)


def test_the_number_of_targets_is_exact():
    """Percentages of 100 weights, and thirds: floor(fraction * n) in double has one too few for some."""
    weight = np.arange(1.0, 101.0)
    for k in range(101):
        assert np.count_nonzero(fastdrop.targeted_dropout(weight, 1.0, fraction=k / 100, seed=1)) == 100 - k
    for n, d in ((3, 3), (6, 3), (30, 7)):
        for k in range(d + 1):
            y = fastdrop.targeted_dropout(np.arange(1.0, n + 1), 1.0, fraction=k / d, seed=1)
            assert np.count_nonzero(y) == n - n * k // d
    assert np.count_nonzero(fastdrop.targeted_dropout(weight, 1.0, fraction=0.1 + 0.2, seed=1)) == 70


# Blocks of a larger array -------------------------------------------------------------------------------------------


def test_blocks_of_scored_weighed_and_drawn_arrays(engine):
    x, scores = normal((6, 4, 5), np.float32), np.random.default_rng(3).random((6, 1, 5))
    key = {"seed": SEED, "offset": OFFSET}
    whole = fastdrop.importance_dropout(x, scores, 0.4, axis=2, **key)
    targets = fastdrop.targeted_dropout(x, 0.4, **key)
    draws = {per: fastdrop.multinomial_dropout(x, 3, np.ones(5), per=per, **key) for per in ("sample", "batch")}
    for a in (slice(0, 1), slice(1, 6)):
        for b in (slice(0, 2), slice(2, 4)):
            where = {"global_shape": x.shape, "global_start": (a.start, b.start, 0), **key}
            part = x[a, b]
            assert_same_bytes(fastdrop.importance_dropout(part, scores[a], 0.4, axis=2, **where), whole[a, b].copy())
            for per, want in draws.items():
                for function in (fastdrop.multinomial_dropout, fastdrop.multinomial_dropout_backward):
                    assert_same_bytes(function(part, 3, np.ones(5), per=per, **where), want[a, b].copy())
    for c in (slice(0, 2), slice(2, 5)):
        where = {"global_shape": x.shape, "global_start": (0, 0, c.start), **key}
        assert_same_bytes(fastdrop.targeted_dropout(x[..., c], 0.4, **where), targets[..., c].copy())
    assert_same_bytes(fastdrop.multinomial_dropout(x[2:], 3, np.ones(5), start=2 * 4 * 3, **key), draws["sample"][2:])


def test_what_a_block_must_have_all_of():
    stream, x = fastdrop.Stream(1), np.ones((2, 3))
    where = {"global_shape": (2, 4), "seed": stream}
    calls = [
        lambda: fastdrop.importance_dropout(x, np.ones((2, 3)), axis=1, **where),
        lambda: fastdrop.importance_dropout(x, np.ones((2, 3)), **where),
        lambda: fastdrop.multinomial_dropout(x, 2, np.ones(3), **where),
        lambda: fastdrop.targeted_dropout(x.T, global_shape=(4, 2), seed=stream),
        lambda: fastdrop.targeted_dropout(x, among="layer", **where),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a block of a larger array must have all of axis"):
            call()
    for part in ({"global_shape": (3, 3)}, {"start": 1}):
        with pytest.raises(ValueError, match="probabilities must be given for a block"):
            fastdrop.multinomial_dropout(x, 2, seed=stream, **part)
    assert stream.offset == 0


# All of them --------------------------------------------------------------------------------------------------------


def calls(x):
    """Return a call of each function, forward and backward."""
    scores = np.abs(x.astype(float))
    tiny = scores[0] * 1e-280
    return {
        "importance": lambda: fastdrop.importance_dropout(x, scores, 0.3, axis=1, seed=9),
        "importance backward": lambda: fastdrop.importance_dropout_backward(x, scores, 0.3, axis=1, seed=9),
        "multinomial": lambda: fastdrop.multinomial_dropout(x, 20, seed=9),
        "multinomial backward": lambda: fastdrop.multinomial_dropout_backward(x, 20, tiny, seed=9),
        "targeted": lambda: fastdrop.targeted_dropout(x, 0.3, seed=9),
        "targeted backward": lambda: fastdrop.targeted_dropout_backward(x, x, 0.3, seed=9),
    }


def test_engines_agree_on_large_arrays(engine):
    for call in calls(normal((300, 210), np.float32)).values():
        assert_same_bytes(call(), by_reference(call))


@pytest.mark.parametrize(
    "call",
    [
        lambda: fastdrop.multinomial_dropout(normal((8000, 300), np.float32), 10_000, seed=9),
        lambda: fastdrop.targeted_dropout(normal((4000, 3000), np.float32), 0.3, seed=9),
    ],
    ids=["multinomial", "targeted"],
)
def test_threads_that_work_for_long(call):
    """They run at the same time, and none uses the memory of another."""
    with fastdrop.using(backend="c", num_threads=1):
        want = call()
    with fastdrop.using(backend="c", num_threads=3):
        assert_same_bytes(call(), want)


@pytest.mark.parametrize("name", calls(np.ones((1, 1))))
def test_a_hostile_floating_point_environment(name):
    call = calls(normal((30, 40), np.float32) * np.float32(1e-39))[name]
    want = call()
    with spoiled():
        found = call()
    assert_same_bytes(found, want)


def test_one_draw_per_sample_of_a_block(engine):
    x, probabilities = np.ones((7, 7, 36), np.float32), np.arange(36.0)
    with engine.using():
        whole = fastdrop.multinomial_dropout(x, 1, probabilities, seed=68)
        part = fastdrop.multinomial_dropout(x[:4, 4:5], 1, probabilities, seed=68, global_shape=x.shape, global_start=(0, 4, 0))
    assert part.tobytes() == whole[:4, 4:5].tobytes()


@pytest.mark.parametrize(("shape", "k"), [((1, 1), 2**32), ((4, 2), 2**62)])
def test_more_draws_than_words_are_refused(shape, k):
    stream = fastdrop.Stream(3)
    with pytest.raises(ValueError, match=r"k must be below 2\*\*32"):
        fastdrop.multinomial_dropout(np.ones(shape, np.float32), k, np.ones(shape[1]), seed=stream)
    assert stream.next() == fastdrop.Stream(3).next()
