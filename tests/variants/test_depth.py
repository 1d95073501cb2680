"""Stochastic depth and LayerDrop against their formulas, with the oracle's decisions."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, normal, scale_of, times
from oracle import keep

import fastdrop
from fastdrop.schedules import drop_path_rates

SEED, OFFSET = 11, 12


def dropped_paths(x, p, per, mode, training, seed=SEED, offset=OFFSET):
    """Transcribe stochastic depth: one sample at a time."""
    kept = keep(seed, offset, 0, len(x), p) if per == "sample" else keep(seed, offset, 0, 1, p) * len(x)
    result = x.copy()
    for n, flag in enumerate(kept):
        if training:
            path = times(x[n], scale_of(p, x.dtype)) if mode == "inverted" else x[n]
            result[n] = path if flag else 0
        elif mode == "standard":
            result[n] = times(x[n], scale_of(0, x.dtype).dtype.type(1 - p))
    return result


@pytest.mark.parametrize("mode", ["inverted", "standard", "unscaled"])
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_drop_path(engine, dtype, per, mode):
    x = normal((13, 3, 5), dtype)
    for array in (x, np.asfortranarray(x)):
        for offset in (OFFSET, OFFSET + 1, OFFSET + 2):
            for training in (True, False):
                rule = {"per": per, "mode": mode, "seed": SEED, "offset": offset, "training": training}
                want = dropped_paths(x, 0.4, per, mode, training, offset=offset)
                assert_same_bytes(fastdrop.drop_path(array, 0.4, **rule), want)
                assert_same_bytes(fastdrop.drop_path_backward(array, 0.4, **rule), want)


def test_a_batch_is_kept_or_dropped_as_one():
    sums = [fastdrop.drop_path(np.ones((4, 2)), 0.5, per="batch", seed=1, offset=k).sum() for k in range(60)]
    assert set(sums) == {0.0, 16.0}


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_is_added_in_the_same_pass(training):
    x, skip = normal((5, 4), seed=1), normal((5, 4), seed=2)
    path = fastdrop.drop_path(x, 0.5, seed=3, training=training)
    assert_same_bytes(fastdrop.drop_path(x, 0.5, seed=3, training=training, residual=skip), skip + path)


def test_a_shard_of_the_batch():
    x = normal((10, 6))
    whole = fastdrop.drop_path(x, 0.5, seed=3)
    place = {"global_shape": (10, 6), "global_start": (4, 0)}
    assert_same_bytes(fastdrop.dropout(x[4:], 0.5, seed=3, shared_axes=1, **place), whole[4:])
    assert_same_bytes(fastdrop.drop_path(x[4:], 0.5, seed=3, **place), whole[4:])


def test_everything_nothing_and_outside_training():
    x = normal((6, 2))
    assert_same_bytes(fastdrop.drop_path(x, 0.0, seed=1), x)
    assert_same_bytes(fastdrop.drop_path(np.full((6, 2), -np.inf), 1.0, seed=1), np.zeros((6, 2)))
    assert fastdrop.drop_path(x, 0.5, training=False) is x
    assert fastdrop.drop_path(x, 0.5, training=False, mode="unscaled") is x
    assert fastdrop.drop_path(np.ones((0, 3)), 0.5, seed=1).shape == (0, 3)
    assert fastdrop.drop_path(np.float32(1), 0.0, per="batch", seed=1) == 1
    out = np.empty_like(x)
    assert fastdrop.drop_path(x, 0.5, seed=1, out=out) is out


def test_moments_of_paths():
    y = fastdrop.drop_path(np.ones((40_000, 1)), 0.3, seed=5)
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 40_000)
    assert abs(y.var() - 0.3 / 0.7) < 0.02


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "per must be 'sample'", {"per": "rows"}),
        (ValueError, "mode must be 'inverted', 'standard' or 'unscaled'; got 'row'", {"mode": "row"}),
        (TypeError, "training must be True or False; got 1", {"training": 1}),
        (ValueError, "p must be in", {"p": 1.5}),
        (TypeError, "x must have a floating-point dtype", {"x": np.arange(3)}),
        (ValueError, "0-d array", {"x": np.float32(1)}),
        (ValueError, "residual must have the shape", {"residual": np.ones(2)}),
    ],
)
def test_bad_paths(error, words, arguments):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.drop_path(**{"x": np.ones((3, 2)), "p": 0.5, "seed": stream, **arguments})
    assert stream.offset == 0


def test_a_backward_pass_needs_a_seed():
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.drop_path_backward(np.ones(3), 0.5, seed=None)


def test_layers_that_run(engine):
    for p in (0.0, 0.2, 0.5, 1.0):
        assert fastdrop.layer_drop(200, p, seed=SEED, offset=OFFSET).tolist() == keep(SEED, OFFSET, 0, 200, p)
    rates = drop_path_rates(0.9, 20)
    want = [keep(SEED, OFFSET, layer, 1, rate)[0] for layer, rate in enumerate(rates)]
    assert fastdrop.layer_drop(20, rates, seed=SEED, offset=OFFSET).tolist() == want


def test_layer_drop_draws_once_and_only_in_training():
    stream = fastdrop.Stream(1)
    assert fastdrop.layer_drop(5, 0.9, seed=stream, training=False).all()
    assert stream.offset == 0
    assert fastdrop.layer_drop(5, 0.5, seed=stream).tolist() == keep(1, 0, 0, 5, 0.5)
    assert stream.offset == 1
    assert fastdrop.layer_drop(100, 0.5).tolist() != fastdrop.layer_drop(100, 0.5).tolist()
    with pytest.raises(ValueError, match="p must be in"):
        fastdrop.layer_drop(5, 2.0, seed=stream, training=False)
    with pytest.raises(ValueError, match="depth must be >= 0"):
        fastdrop.layer_drop(-1, 0.5, seed=stream)
    with pytest.raises(TypeError, match="depth must be an integer"):
        fastdrop.layer_drop((2, 3), 0.5, seed=stream)
    assert stream.offset == 1


def test_layer_drop_takes_any_seed_and_a_part_of_the_depth(engine):
    whole = fastdrop.layer_drop(30, 0.5, seed=SEED, offset=OFFSET)
    assert fastdrop.layer_drop(30, 0.5, seed=fastdrop.Key(SEED, OFFSET)).tolist() == whole.tolist()
    assert fastdrop.layer_drop(20, 0.5, seed=SEED, offset=OFFSET, start=10).tolist() == whole[10:].tolist()
    bits = np.random.PCG64(4)
    fastdrop.layer_drop(5, 0.5, seed=bits, training=False)
    assert bits.random_raw() == np.random.PCG64(4).random_raw()
    fastdrop.layer_drop(5, 0.5, seed=bits)
    assert fastdrop.layer_drop(3, 0.5, seed=None, training=False).tolist() == [True] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (MemoryError, "allocate", {"depth": 2**50}),
        (OverflowError, "elements", {"depth": 2**62}),
        (OverflowError, "elements", {"start": 2**55 - 1}),
        (TypeError, "seed must be", {"seed": "a"}),
        (ValueError, "offset must be", {"seed": 1, "offset": -1}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
        (TypeError, "training must be True or False", {"training": "no"}),
    ],
)
def test_layer_drop_refuses_in_training_and_outside_it(error, words, arguments, training):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match=words):
        fastdrop.layer_drop(**{"depth": 5, "p": 0.5, "seed": stream, "training": training, **arguments})
    assert stream.offset == 0
