"""Dropout of word types and of words against their formulas, with the oracle's decisions."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from lying_arrays import Changing
from oracle import keep

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


@pytest.mark.parametrize("start", [np.uint8(200), np.int8(100)], ids=repr)
def test_the_classes_of_a_block_begin_at_a_number_of_any_type(start):
    """The sum of start and the index of the block's first class is larger than the type of start."""
    place = {"global_shape": (30, 8, 5), "global_start": (20, 0, 0)}
    rule = {"tokens": TOKENS, "num_embeddings": 11, "per": "sample", **place, **KEY}
    x = normal((3, 8, 5))
    want = fastdrop.embedding_dropout(x, 0.4, start=int(start), **rule)
    assert_same_bytes(fastdrop.embedding_dropout(x, 0.4, start=start, **rule), want)


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


# Blocks, engines, and sizes that overflow ---------------------------------------------------------------------------


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
    assert_same_bytes(fastdrop.word_dropout(x, seed=9), by_reference(fastdrop.word_dropout, x, seed=9))


def test_more_word_types_than_the_stream_has_elements():
    x, tokens = np.ones((4, 3, 2), np.float32), np.zeros((4, 3), np.int64)
    with pytest.raises(OverflowError, match=r"^stream 1 has 2\*\*55 elements"):
        fastdrop.embedding_dropout(x, 0.5, tokens=tokens, num_embeddings=2**62, per="sample", seed=1)


def test_more_word_types_than_memory_has_bits():
    x, stream = np.ones((4, 3, 2), np.float32), fastdrop.Stream(1)
    types = {"tokens": np.zeros((4, 3), np.int64), "num_embeddings": 2**52}
    for per, decisions in (("batch", f"{2**52} decisions$"), ("sample", f"{2**54} decisions, {2**52} per sample$")):
        with pytest.raises(MemoryError, match=f"^cannot allocate a mask of one bit for each of {decisions}"):
            fastdrop.embedding_dropout(x, 0.5, per=per, seed=stream, **types)
    assert stream.offset == 0


@pytest.mark.parametrize("lies", range(1, 5))
def test_a_shape_that_changes_is_an_error_or_changes_nothing(lies):
    x = np.ones((4, 700, 5), np.float32).view(Changing)
    x.lies = lies
    with pytest.raises(ValueError, match=r"must h(ave|old)|there must be|tokens"):
        fastdrop.embedding_dropout(x, 0.5, tokens=np.zeros((4, 9), np.int64), num_embeddings=3, seed=1)
