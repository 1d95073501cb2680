"""Stochastic depth and LayerDrop against their formulas, with the oracle's decisions."""

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, normal, scale_of, times
from oracle import keep

import fastdrop

SEED, OFFSET = 11, 12


def dropped_paths(x, p, mode, scale, training, seed=SEED, offset=OFFSET):
    """Transcribe stochastic depth: one sample at a time."""
    kept = keep(seed, offset, 0, len(x), p) if mode == "row" else keep(seed, offset, 0, 1, p) * len(x)
    result = x.copy()
    for n, flag in enumerate(kept):
        if training:
            path = times(x[n], scale_of(p, x.dtype)) if scale is True else x[n]
            result[n] = path if flag else 0
        elif scale == "inference":
            result[n] = times(x[n], scale_of(0, x.dtype).dtype.type(1 - p))
    return result


@pytest.mark.parametrize("scale", [True, "inference", False])
@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_drop_path(engine, dtype, mode, scale):
    x = normal((13, 3, 5), dtype)
    for array in (x, np.asfortranarray(x)):
        for offset in (OFFSET, OFFSET + 1, OFFSET + 2):
            for training in (True, False):
                rule = {"mode": mode, "scale": scale, "seed": SEED, "offset": offset, "training": training}
                want = dropped_paths(x, 0.4, mode, scale, training, offset=offset)
                assert_same_bytes(fastdrop.drop_path(array, 0.4, **rule), want)
                assert_same_bytes(fastdrop.drop_path_backward(array, 0.4, **rule), want)


def test_a_batch_is_kept_or_dropped_as_one():
    sums = [fastdrop.drop_path(np.ones((4, 2)), 0.5, mode="batch", seed=1, offset=k).sum() for k in range(60)]
    assert set(sums) == {0.0, 16.0}


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_is_added_in_the_same_pass(training):
    x, skip = normal((5, 4), seed=1), normal((5, 4), seed=2)
    path = fastdrop.drop_path(x, 0.5, seed=3, training=training)
    assert_same_bytes(fastdrop.drop_path(x, 0.5, seed=3, training=training, residual=skip), skip + path)


def test_a_shard_of_the_batch():
    x = normal((10, 6))
    whole = fastdrop.drop_path(x, 0.5, seed=3)
    shard = fastdrop.dropout(x[4:], 0.5, seed=3, shared_axes=1, global_shape=(10, 6), global_start=(4, 0))
    assert_same_bytes(shard, whole[4:])


def test_everything_nothing_and_outside_training():
    x = normal((6, 2))
    assert_same_bytes(fastdrop.drop_path(x, 0.0, seed=1), x)
    assert_same_bytes(fastdrop.drop_path(np.full((6, 2), -np.inf), 1.0, seed=1), np.zeros((6, 2)))
    assert fastdrop.drop_path(x, 0.5, training=False) is x
    assert fastdrop.drop_path(x, 0.5, training=False, scale=False) is x
    assert fastdrop.drop_path(np.ones((0, 3)), 0.5, seed=1).shape == (0, 3)
    assert fastdrop.drop_path(np.float32(1), 0.0, mode="batch", seed=1) == 1
    out = np.empty_like(x)
    assert fastdrop.drop_path(x, 0.5, seed=1, out=out) is out


def test_moments_of_paths():
    y = fastdrop.drop_path(np.ones((40_000, 1)), 0.3, seed=5)
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 40_000)
    assert abs(y.var() - 0.3 / 0.7) < 0.02


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "mode must be 'row'", {"mode": "rows"}),
        (ValueError, "scale must be True", {"scale": "train"}),
        (ValueError, "scale must be True", {"scale": 1}),
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
    with pytest.raises(TypeError, match="seed must be given"):
        fastdrop.drop_path_backward(np.ones(3), 0.5, seed=None)


def test_rates():
    for depth in (1, 2, 7, 12):
        paper = [layer / depth * 0.3 for layer in range(1, depth + 1)]
        assert fastdrop.drop_path_rates(0.3, depth).tolist() == paper
        assert paper[-1] == 0.3
        assert np.allclose(fastdrop.drop_path_rates(0.3, depth, "timm"), np.linspace(0, 0.3, depth), rtol=1e-15)
    assert fastdrop.drop_path_rates(0.3, 0).shape == fastdrop.drop_path_rates(0.3, 0, "timm").shape == (0,)
    for bad in ((1.5, 3), (0.5, -1), (0.5, 3, "linear")):
        with pytest.raises(ValueError, match=r"must be"):
            fastdrop.drop_path_rates(*bad)


def test_layers_that_run(engine):
    for p in (0.0, 0.2, 0.5, 1.0):
        assert fastdrop.layer_drop(200, p, seed=SEED, offset=OFFSET).tolist() == keep(SEED, OFFSET, 0, 200, p)
    rates = fastdrop.drop_path_rates(0.9, 20)
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
