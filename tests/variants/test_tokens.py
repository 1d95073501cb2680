"""Dropout of word types, words, tokens and patches against their formulas, with the oracle's decisions."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from oracle import keep, word

import fastdrop

SEED, OFFSET = 21, 22
KEY = {"seed": SEED, "offset": OFFSET}
TOKENS = np.random.default_rng(7).integers(0, 11, (3, 8))


def with_dropped(x, kept, factor):
    """Return x times a factor where kept, +0.0 elsewhere, by the flags of its first axes."""
    result = times(x, factor)
    result[~np.array(kept)] = 0
    return result


# Word types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_word_types_of_a_weight_matrix(engine, dtype):
    weight = normal((300, 4), dtype)
    want = with_dropped(weight, keep(SEED, OFFSET, 0, 300, 0.3), scale_of(0.3, dtype))
    assert_same_bytes(fastdrop.embedding_dropout(weight, 0.3, **KEY), want)
    assert_same_bytes(fastdrop.embedding_dropout_backward(np.asfortranarray(weight), 0.3, **KEY), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_word_types_of_what_was_looked_up(engine, dtype, per):
    x = normal((3, 8, 5), dtype)
    first = [0, 11, 22] if per == "sample" else [0, 0, 0]
    kept = [[keep(SEED, OFFSET, first[b] + int(v), 1, 0.4)[0] for v in TOKENS[b]] for b in range(3)]
    want = with_dropped(x, kept, scale_of(0.4, dtype))
    rule = {"tokens": TOKENS, "num_embeddings": 11, "per": per, **KEY}
    assert_same_bytes(fastdrop.embedding_dropout(x, 0.4, **rule), want)
    assert_same_bytes(fastdrop.embedding_dropout_backward(x, 0.4, **rule), want)
    out = np.empty_like(x)
    assert fastdrop.embedding_dropout(x, 0.4, out=out, **rule) is out
    assert_same_bytes(out, want)


def test_dropping_before_and_after_looking_up_is_the_same():
    weight = normal((11, 3))
    before = fastdrop.embedding_dropout(weight, 0.5, **KEY)[TOKENS]
    assert_same_bytes(fastdrop.embedding_dropout(weight[TOKENS], 0.5, tokens=TOKENS, num_embeddings=11, **KEY), before)


def test_word_types_at_the_ends():
    x, rule = normal((3, 8, 5)), {"tokens": TOKENS.astype(np.uint8), "num_embeddings": 11, "per": "sample"}
    assert_same_bytes(fastdrop.embedding_dropout(x, 0.0, **rule, **KEY), x)
    assert_same_bytes(fastdrop.embedding_dropout(np.full_like(x, np.nan), 1.0, **rule, **KEY), np.zeros_like(x))
    assert fastdrop.embedding_dropout(x, 0.4, training=False, **rule) is x
    none = np.zeros((0, 8), int)
    assert fastdrop.embedding_dropout(np.ones((0, 8, 2)), 0.4, tokens=none, num_embeddings=0, **KEY).shape == (0, 8, 2)


def test_moments_of_word_types():
    tokens = np.random.default_rng(0).integers(0, 1000, (40, 100))
    y = fastdrop.embedding_dropout(np.ones((40, 100, 1)), 0.3, tokens=tokens, num_embeddings=1000, per="sample", seed=2)
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 4000)
    assert abs(y.var() - 0.3 / 0.7) < 0.07


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "per must be", {"per": "word"}),
        (ValueError, "start must be", {"start": -1}),
        (ValueError, "is not inside global_shape", {"global_shape": (3, 8, 5), "global_start": (1, 0, 0)}),
        (TypeError, "training must be True or False", {"training": 1}),
        (ValueError, "num_embeddings must be given", {"num_embeddings": None}),
        (ValueError, "num_embeddings must be >= 0", {"num_embeddings": -1}),
        (ValueError, r"tokens must be in \[0, 5\)", {"num_embeddings": 5}),
        (ValueError, "tokens must be in", {"tokens": TOKENS - 1}),
        (TypeError, "tokens must be an array of integers", {"tokens": TOKENS * 1.0}),
        (ValueError, "tokens must have shape", {"tokens": TOKENS[:2]}),
        (ValueError, "without tokens, x must be a weight matrix", {"tokens": None}),
        (ValueError, "p must be in", {"p": -0.1}),
        (TypeError, "p must be a number", {"p": np.array([0.1, 0.2])}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((3, 8, 5), int)}),
        (ValueError, "out must have the shape", {"out": np.ones((3, 8))}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
    ],
)
def test_bad_word_types(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((3, 8, 5)), "p": 0.5, "tokens": TOKENS, "num_embeddings": 11, "seed": stream}
    with pytest.raises(error, match=words):
        fastdrop.embedding_dropout(**{**good, **arguments})
    assert stream.offset == 0


# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_words(engine, dtype):
    x = normal((4, 50, 3), dtype)
    kept = np.reshape(keep(SEED, OFFSET, 0, 200, 0.2), (4, 50))
    for options, scale in (({"mode": "unscaled"}, 0), ({}, 0.2), ({"mode": "standard"}, 0)):
        want = with_dropped(x, kept, scale_of(scale, dtype))
        assert_same_bytes(fastdrop.word_dropout(x, 0.2, **options, **KEY), want)
        assert_same_bytes(fastdrop.word_dropout_backward(np.asfortranarray(x), 0.2, **options, **KEY), want)


def test_words_at_the_ends():
    x = normal((4, 5, 3))
    assert_same_bytes(fastdrop.word_dropout(x, 0.0, **KEY), x)
    assert_same_bytes(fastdrop.word_dropout(x, 1.0, **KEY), np.zeros_like(x))
    assert fastdrop.word_dropout(x, 0.5, training=False) is x
    assert fastdrop.word_dropout(x, 0.5, mode="unscaled", training=False) is x
    assert_same_bytes(fastdrop.word_dropout(x, 0.5, mode="standard", training=False), x / 2)
    assert fastdrop.word_dropout_backward(x, 0.5, seed=1, training=False) is x
    dropped = (fastdrop.word_dropout(np.ones((400, 100, 1)), seed=3) == 0).mean()
    assert abs(dropped - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 40_000)
    with pytest.raises(ValueError, match="mode must be"):
        fastdrop.word_dropout(x, mode="half")
    with pytest.raises(ValueError, match="0-d array"):
        fastdrop.word_dropout(np.float64(1))
    with pytest.raises(TypeError, match="seed is required"):
        fastdrop.word_dropout_backward(x, seed=None)


# Tokens and patches -------------------------------------------------------------------------------------------------


def chosen(samples, tokens, p, ordered):
    """Transcribe the choice: sort the tokens of a sample by 64-bit keys, which it takes two words each for."""
    result = []
    for n in range(samples):
        keys = []
        for t in range(tokens):
            i = n * tokens + t
            keys.append((word(SEED, OFFSET, 2 * i) + (word(SEED, OFFSET, 2 * i + 1) << 32), t))
        kept = [t for _, t in sorted(keys)][: max(1, int(tokens * (1 - p)))]
        result.append(sorted(kept) if ordered else kept)
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ordered", [True, False])
def test_patches(engine, dtype, ordered):
    x = normal((3, 11, 4), dtype)
    for p, prefix in ((0.5, 1), (0.3, 0), (0.9, 2), (1.0, 1)):
        kept = chosen(3, 11 - prefix, p, ordered)
        rule = {"num_prefix_tokens": prefix, "ordered": ordered, **KEY}
        want = np.stack([np.concatenate([x[n, :prefix], x[n, prefix:][kept[n]]]) for n in range(3)])
        y, indices = fastdrop.patch_dropout(x, p, return_indices=True, **rule)
        assert_same_bytes(y, want)
        assert indices.tolist() == kept
        gradient = np.zeros_like(x)
        for n in range(3):
            for k, t in enumerate([*range(prefix), *(prefix + t for t in kept[n])]):
                gradient[n, t] = want[n, k]
        assert_same_bytes(fastdrop.patch_dropout_backward(y, p, num_tokens=11, **rule), gradient)
        in_place = fastdrop.token_dropout(x, p, gather=False, **rule)
        assert_same_bytes(in_place, gradient)
        assert_same_bytes(fastdrop.token_dropout_backward(x, p, gather=False, **rule), gradient)


def test_equal_keys_go_to_the_lower_index():
    from fastdrop._core import numbers

    halves = np.array([5, 1, 5, 0, 5, 1, 4, 1, 5, 0], np.uint32)  # keys: high 1, 0, 1, 1, 0; low 5, 5, 5, 4, 5
    assert numbers.tokens_by_words(halves, 1, 5, 4, False).tolist() == [[1, 4, 3, 0]]
    halves = np.resize(np.array([7, 0, 3, 0], np.uint32), 2 * 2 * 400)  # keys 7, 3, 7, 3, ...
    kept = [*range(1, 400, 2), *range(0, 200, 2)]
    assert numbers.tokens_by_words(halves, 2, 400, 300, False).tolist() == [kept] * 2
    assert numbers.tokens_by_words(halves, 2, 400, 300, True).tolist() == [sorted(kept)] * 2


def test_the_number_kept_is_exact():
    """int(n * (1 - p)) in double has one too few for 14 of the percentages of 100 tokens."""

    def kept(n, p):
        return fastdrop.token_dropout(np.ones((1, n, 1), np.float32), p, seed=1).shape[1]

    assert kept(10, 0.8) == 2
    for k in range(100):
        assert kept(100, k / 100) == kept(100, 1 - (100 - k) / 100) == 100 - k
        assert fastdrop.patch_dropout(np.ones((1, 101, 1)), k / 100, seed=1).shape[1] == 101 - k
    assert kept(100, 1.0) == 1
    assert kept(100, 0.1 + 0.2) == 70
    for d in (3, 6, 7, 9):
        assert [kept(5 * d, k / d) for k in range(d)] == [5 * (d - k) for k in range(d)]
    assert kept(10, 0.8 + 1e-9) == 1  # less than two tokens, and meant so
    grad = fastdrop.token_dropout_backward(np.ones((1, 2, 1)), 0.8, num_tokens=10, seed=1)
    assert np.count_nonzero(grad) == 2


def test_results_in_place():
    x = normal((2, 6, 3), np.float32)
    for options in ({}, {"ordered": False}, {"num_prefix_tokens": 1}, {"gather": False}):
        want = fastdrop.token_dropout(x, 0.5, **options, **KEY)
        out = np.empty_like(want)
        assert fastdrop.token_dropout(x, 0.5, out=out, **options, **KEY) is out
        assert_same_bytes(out, want)
        more = {**options, "num_tokens": 6, **KEY}
        slopes = fastdrop.token_dropout_backward(want, 0.5, **more)
        room = np.full_like(x, np.nan)
        assert fastdrop.token_dropout_backward(want, 0.5, out=room, **more) is room
        assert_same_bytes(room, slopes)
    whole = x.copy()
    given = whole[:, : want.shape[1] // 2]
    slopes = fastdrop.token_dropout_backward(given.copy(), 0.5, num_tokens=6, **KEY)
    fastdrop.token_dropout_backward(given, 0.5, num_tokens=6, out=whole, **KEY)
    assert_same_bytes(whole, slopes)
    with pytest.raises(ValueError, match="out must have the shape of the result"):
        fastdrop.token_dropout(x, 0.5, out=np.empty_like(x), **KEY)
    out = np.empty_like(x)
    assert fastdrop.token_dropout(x, 0.5, training=False, out=out) is out


def test_every_subset_is_as_likely():
    x = np.ones((6000, 4, 1))
    _, indices = fastdrop.token_dropout(x, 0.5, return_indices=True, seed=4)
    _, counts = np.unique(indices[:, 0] * 4 + indices[:, 1], return_counts=True)
    assert counts.size == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-square of 5 degrees: one in a thousand


def test_tokens_at_the_ends():
    x = normal((2, 5, 3))
    assert_same_bytes(fastdrop.patch_dropout(x, 0.0, seed=1), x)
    assert_same_bytes(fastdrop.patch_dropout_backward(x, 0.0, num_tokens=5, seed=1), x)
    y, indices = fastdrop.patch_dropout(x, 0.5, training=False, return_indices=True)
    assert y is x
    assert indices.tolist() == [[0, 1, 2, 3]] * 2
    assert fastdrop.patch_dropout_backward(x, 0.5, num_tokens=5, seed=1, training=False) is x
    assert fastdrop.patch_dropout(x[:0], 0.5, seed=1).shape == (0, 3, 3)
    assert_same_bytes(fastdrop.patch_dropout(x[:, :1], 0.5, seed=1), x[:, :1])  # a prefix alone
    assert fastdrop.token_dropout(x[..., 0], 0.5, seed=1).shape == (2, 2)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "first two axes", {"x": np.ones(3)}),
        (TypeError, "floating-point dtype", {"x": np.ones((2, 3, 1), int)}),
        (ValueError, "num_prefix_tokens must be at most", {"num_prefix_tokens": 4}),
        (ValueError, "num_prefix_tokens must be >= 0", {"num_prefix_tokens": -1}),
        (ValueError, "p must be in", {"p": 2}),
        (ValueError, "num_threads must be", {"num_threads": 0}),
        (TypeError, "ordered must be True or False", {"ordered": 1}),
        (TypeError, "gather must be True or False", {"gather": "no"}),
        (TypeError, "return_indices must be True or False", {"return_indices": None}),
        (TypeError, "training must be True or False", {"training": "no"}),
        (TypeError, "num_prefix_tokens must be", {"num_prefix_tokens": 1.0}),
    ],
)
def test_bad_tokens(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.token_dropout(**{"x": np.ones((2, 3, 1)), "seed": stream, **arguments})
    assert stream.offset == 0
    fastdrop.token_dropout(np.ones((2, 3, 1)), seed=stream)
    assert stream.offset == 1


def test_bad_gradients_of_tokens():
    grad = np.ones((2, 3, 1))
    with pytest.raises(ValueError, match="num_tokens, the number of tokens of the forward pass, must be given"):
        fastdrop.token_dropout_backward(grad, seed=1)
    with pytest.raises(ValueError, match="grad must have 4 tokens"):
        fastdrop.token_dropout_backward(grad, num_tokens=8, seed=1)
    with pytest.raises(ValueError, match=r"grad must have .*; got 3"):
        fastdrop.token_dropout_backward(grad, num_tokens=1, num_prefix_tokens=2, seed=1)
    with pytest.raises(TypeError, match="seed is required"):
        fastdrop.token_dropout_backward(grad, num_tokens=6, seed=None)
    with pytest.raises(TypeError, match="seed is required"):
        fastdrop.token_dropout_backward(grad, num_tokens=6, seed=None, training=False)


def test_blocks_of_larger_arrays(engine):
    x, tokens = normal((4, 6, 5), np.float32), np.random.default_rng(8).integers(0, 9, (4, 6))
    types = {"tokens": tokens, "num_embeddings": 9}
    for a in (slice(0, 1), slice(1, 4)):
        for b in (slice(0, 2), slice(2, 5)):
            where = {"global_shape": x.shape, "global_start": (a.start, 0, b.start), **KEY}
            want = fastdrop.word_dropout(x, 0.4, **KEY)[a, :, b].copy()
            assert_same_bytes(fastdrop.word_dropout(x[a, :, b], 0.4, **where), want)
            for per in ("batch", "sample"):
                want = fastdrop.embedding_dropout(x, 0.4, **types, per=per, **KEY)[a, :, b].copy()
                part = {**types, "tokens": tokens[a], "per": per, **where}
                for function in (fastdrop.embedding_dropout, fastdrop.embedding_dropout_backward):
                    assert_same_bytes(function(x[a, :, b], 0.4, **part), want)
    want = fastdrop.embedding_dropout(x, 0.4, **types, per="sample", **KEY)[1:]
    part = {**types, "tokens": tokens[1:], "per": "sample", "start": 9}
    assert_same_bytes(fastdrop.embedding_dropout(x[1:], 0.4, **part, **KEY), want)
    matrix = fastdrop.embedding_dropout(x[0], 0.4, **KEY)
    assert_same_bytes(fastdrop.embedding_dropout(x[0, 2:], 0.4, start=2, **KEY), matrix[2:])


def test_engines_agree_on_large_arrays(engine):
    tokens = np.random.default_rng(1).integers(0, 5000, (20, 200))
    x = normal((20, 200, 3), np.float32)
    types = {"tokens": tokens, "num_embeddings": 5000, "per": "sample", "seed": 9}
    assert_same_bytes(fastdrop.embedding_dropout(x, 0.3, **types), by_reference(fastdrop.embedding_dropout, x, 0.3, **types))
    assert_same_bytes(fastdrop.patch_dropout(x, seed=9), by_reference(fastdrop.patch_dropout, x, seed=9))
    assert_same_bytes(fastdrop.word_dropout(x, seed=9), by_reference(fastdrop.word_dropout, x, seed=9))


# Sizes that overflow, and shapes that change ------------------------------------------------------------------------


def test_more_word_types_than_the_stream_has_elements():
    x, tokens = np.ones((4, 3, 2), np.float32), np.zeros((4, 3), np.int64)
    with pytest.raises(OverflowError, match=r"^stream 1 has 2\*\*55 elements"):
        fastdrop.embedding_dropout(x, 0.5, tokens=tokens, num_embeddings=2**62, per="sample", seed=1)


def test_more_tokens_than_the_stream_has_words():
    grad = np.ones((4, 1, 0), np.float32)  # an empty result can be allocated
    with pytest.raises(OverflowError, match=r"^stream 1 has 2\*\*50 words, two per token; 4 samples of"):
        fastdrop.token_dropout_backward(grad, 1.0, num_tokens=2**50, seed=1)


class Changing(np.ndarray):
    """An array that gives a true shape only after it was asked `lies` times."""

    lies = 0

    @property
    def shape(self):
        self.lies -= 1
        return (4, 9, 5) if self.lies >= 0 else np.ndarray.shape.__get__(self)


@pytest.mark.parametrize("lies", range(1, 5))
@pytest.mark.parametrize(
    "drop",
    [
        lambda x: fastdrop.token_dropout(x, 0.5, seed=1),
        lambda x: fastdrop.patch_dropout(x, 0.5, seed=1),
        lambda x: fastdrop.embedding_dropout(x, 0.5, tokens=np.zeros((4, 9), np.int64), num_embeddings=3, seed=1),
    ],
)
def test_a_shape_that_changes_is_an_error_or_changes_nothing(drop, lies):
    x = np.ones((4, 700, 5), np.float32).view(Changing)
    x.lies = lies
    with pytest.raises(ValueError, match=r"must h(ave|old)|there must be|tokens"):
        drop(x)
