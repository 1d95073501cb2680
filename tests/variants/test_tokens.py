"""Dropout of tokens and patches against its definition, with the oracle's words."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal
from lying_arrays import Changing
from oracle import word

import fastdrop

SEED, OFFSET = 21, 22
KEY = {"seed": SEED, "offset": OFFSET}


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
        fastdrop.token_dropout_backward(grad, num_tokens=3, seed=None, training=False)


@pytest.mark.parametrize("gather", [True, False])
def test_outside_training_a_gradient_has_all_tokens(gather):
    grad = np.ones((2, 3, 1))
    with pytest.raises(ValueError, match=r"grad must have 6 tokens, as the result of the forward pass .*; got 3"):
        fastdrop.token_dropout_backward(grad, num_tokens=6, gather=gather, seed=1, training=False)
    with pytest.raises(ValueError, match=r"grad must have 6 tokens, as the result of the forward pass .*; got 3"):
        fastdrop.patch_dropout_backward(grad, num_tokens=6, seed=1, training=False)
    assert fastdrop.token_dropout_backward(grad, num_tokens=3, gather=gather, seed=1, training=False) is grad
    assert fastdrop.token_dropout_backward(grad, gather=gather, seed=1, training=False) is grad


# Engines, sizes that overflow, shapes that change -------------------------------------------------------------------


def test_engines_agree_on_large_arrays(engine):
    x = normal((20, 200, 3), np.float32)
    assert_same_bytes(fastdrop.patch_dropout(x, seed=9), by_reference(fastdrop.patch_dropout, x, seed=9))


def test_more_tokens_than_the_stream_has_words():
    grad = np.ones((4, 1, 0), np.float32)  # an empty result can be allocated
    with pytest.raises(OverflowError, match=r"^stream 1 has 2\*\*50 words, two per token; 4 samples of"):
        fastdrop.token_dropout_backward(grad, 1.0, num_tokens=2**50, seed=1)


@pytest.mark.parametrize("lies", range(1, 5))
@pytest.mark.parametrize("drop", [fastdrop.token_dropout, fastdrop.patch_dropout])
def test_a_shape_that_changes_is_an_error_or_changes_nothing(drop, lies):
    x = np.ones((4, 700, 5), np.float32).view(Changing)
    x.lies = lies
    with pytest.raises(ValueError, match=r"must h(ave|old)|there must be|tokens"):
        drop(x, 0.5, seed=1)


def test_the_mask_of_a_masked_array_goes_with_its_tokens():
    """NumPy leaves the mask out where the shape changes, so that a masked value would become a valid one."""
    x = np.ma.masked_array(np.arange(48, dtype=np.float32).reshape(3, 8, 2))
    x[0, 1], x[1, 2:7, 1] = np.ma.masked, np.ma.masked
    call = {"p": 0.5, "seed": 42, "num_prefix_tokens": 1}
    y, tokens = fastdrop.token_dropout(x, return_indices=True, **call)
    kept = np.concatenate([np.zeros((3, 1), np.int64), tokens + 1], axis=1)[..., np.newaxis]
    assert y.mask.any()
    assert np.array_equal(y.mask, np.take_along_axis(x.mask, kept, axis=1))
    back = fastdrop.token_dropout_backward(y, num_tokens=8, **call)
    assert np.array_equal(np.take_along_axis(back.mask, kept, axis=1), y.mask)
    assert back.mask.sum() == y.mask.sum()
    plain = fastdrop.token_dropout(np.ma.masked_array(x.data), **call)
    assert not np.ma.getmaskarray(plain).any()


@pytest.mark.parametrize("drop", [fastdrop.token_dropout, fastdrop.patch_dropout])
def test_a_mask_of_more_axes_than_numpy_can_set_is_refused(drop):
    deep, stream = np.ma.masked_array(np.ones((2, 3) + (1,) * 31, np.float32)), fastdrop.Stream(1)
    with pytest.raises(ValueError, match="x must have at most 32 axes if it is a masked array; got 33"):
        drop(deep, 0.5, seed=stream)
    assert stream.offset == 0
    assert drop(deep[..., 0], 0.5, seed=stream).ndim == 32


def test_no_samples_need_no_memory():
    assert fastdrop.patch_dropout(np.empty((0, 10**12, 1), np.float32), 0.5, seed=1).shape == (0, 5 * 10**11, 1)
