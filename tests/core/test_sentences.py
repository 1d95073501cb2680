"""Values of a wrong kind get TypeError or ValueError with a sentence from a check, never an error from inside."""

import numpy as np
import pytest

import fastdrop
from fastdrop import federated, losses, nn, schedules, theory, uncertainty
from fastdrop.monitor import Monitor

X = np.ones((2, 3, 4, 5), np.float32)
DEEP = np.ones((1,) * 33)


def both_passes(layer, *inputs):
    return layer.backward(layer(*inputs))


RAGGED = [[0.25, 0.75], [1.0]]

CALLS = {
    "a flag as axes": (
        lambda: fastdrop.dropout(X, shared_axes=True, seed=1),
        TypeError,
        r"shared_axes must be a sequence of integers; got \[True\]",
    ),
    "a flag among axes": (lambda: fastdrop.locked_dropout(X, shared_axes=(0, False), seed=1), TypeError, "shared_axes must be"),
    "text as axes": (lambda: fastdrop.dropout(X, shared_axes="", seed=1), TypeError, "shared_axes must be a sequence of int"),
    "ragged allowed": (lambda: fastdrop.drop_key(X, allowed=RAGGED, seed=1), ValueError, "allowed must be an array, or lists"),
    "ragged tokens": (
        lambda: fastdrop.embedding_dropout(X[0], tokens=[[0], [1, 0]], num_embeddings=2, seed=1),
        ValueError,
        "tokens must be an array, or lists",
    ),
    "a token past the end": (
        lambda: fastdrop.embedding_dropout(X[0], tokens=np.full((3, 4), 9), num_embeddings=2, seed=1),
        ValueError,
        r"tokens must be in \[0, 2\), .*; got 9$",
    ),
    "ragged blocks": (lambda: fastdrop.drop_block(X, 0.1, [[1], [1, 2]], seed=1), TypeError, "block_size must be one size"),
    "a flag as a size": (lambda: fastdrop.dropout(X, noise_shape=(2, 3, True, 5), seed=1), ValueError, "noise_shape must have"),
    "ragged log_alpha": (
        lambda: fastdrop.variational_dropout_backward(np.ones((1, 1)), np.ones((1, 2)), np.ones((2, 1)), RAGGED, seed=1),
        ValueError,
        "log_alpha must be an array, or lists",
    ),
    "ragged x": (
        lambda: fastdrop.dropout(RAGGED, seed=1),
        ValueError,
        "x must be an array, or lists of equal lengths at each depth; got",
    ),
    "ragged grad": (lambda: fastdrop.alpha_dropout_backward(RAGGED, seed=1), ValueError, "grad must be an array, or lists"),
    "ragged mask": (lambda: fastdrop.apply_mask(X, RAGGED), ValueError, "mask must be an array, or lists"),
    "ragged numbers": (lambda: fastdrop.elementary.exp(RAGGED), ValueError, "x must be an array, or lists"),
    "ragged bias": (
        lambda: fastdrop.drop_connect(X, np.ones((5, 2), np.float32), bias=RAGGED, seed=1),
        ValueError,
        "bias must be an array, or lists",
    ),
    "ragged probabilities": (lambda: uncertainty.entropy(RAGGED), ValueError, "probabilities must be an array, or lists"),
    "ragged labels": (
        lambda: uncertainty.calibration([[0.5, 0.5]], [[0], [1, 0]]),
        ValueError,
        "labels must be an array, or lists",
    ),
    "ragged targets": (
        lambda: losses.r_drop_loss([RAGGED[0]], [RAGGED[0]], [[0], [1, 0]]),
        ValueError,
        "targets must be an array, or lists",
    ),
    "ragged rates": (lambda: theory.variance_shift(RAGGED), ValueError, "p must be an array, or lists"),
    "ragged widths": (
        lambda: theory.nuclear_norm_envelope(np.eye(2), None, 0.5, RAGGED),
        TypeError,
        "each of widths must be an integer",
    ),
    "ragged parameters": (
        lambda: federated.extract({"w": RAGGED}, {"w": (None, None)}, {}),
        ValueError,
        "parameter 'w' must be an array, or lists",
    ),
    "ragged parameters of the server": (
        lambda: federated.aggregate({"w": RAGGED}, {"w": (None, None)}, []),
        ValueError,
        "parameter 'w' must be an array, or lists",
    ),
    "ragged input of a watched layer": (
        lambda: Monitor().layer("a", before=RAGGED, after=X),
        ValueError,
        "before must be an array, or lists",
    ),
    "ragged output of a watched layer": (
        lambda: Monitor().layer("a", before=X, after=RAGGED),
        ValueError,
        "after must be an array, or lists",
    ),
    "ragged replacement": (
        lambda: Monitor().layer("a", before=X, after=X, replacement=RAGGED),
        ValueError,
        "replacement must be an array, or lists",
    ),
    "ragged gradient": (
        lambda: Monitor().gradient("a", after=RAGGED, before=X),
        ValueError,
        "after must be an array, or lists",
    ),
    "targets beyond int64": (
        lambda: losses.r_drop_loss([RAGGED[0]], [RAGGED[0]], np.array([2**64 - 1], np.uint64)),
        ValueError,
        "targets must be in .*; got 18446744073709551615$",
    ),
    "log_alpha": (lambda: theory.log_alpha(X, None), TypeError, "log_sigma2 must be an array"),
    "log_alpha_backward": (lambda: theory.log_alpha_backward(X, X, None), TypeError, "log_sigma2 must be an array"),
    "prune": (lambda: theory.prune(X, None), TypeError, "log_sigma2 must be an array"),
    "adl_backward": (lambda: fastdrop.adl_backward(X, None, seed=1), TypeError, "x must be an array"),
    "drop_block": (
        lambda: fastdrop.drop_block(X, start=np.ones(2), seed=1),
        TypeError,
        "start must be an integer >= 0; got array",
    ),
    "concrete_dropout_backward": (
        lambda: fastdrop.concrete_dropout_backward(X, None, 0.0, seed=1),
        TypeError,
        "x must be an array of the shape and dtype of the input; got None",
    ),
    "spatial_concrete_dropout_backward": (
        lambda: fastdrop.spatial_concrete_dropout_backward(X, None, 0.0, seed=1),
        TypeError,
        "x must be an array of the shape and dtype of the input; got None",
    ),
    "adaptive_dropout": (lambda: fastdrop.adaptive_dropout(X, None, seed=1), TypeError, "logits must be an array"),
    "variational_kl": (lambda: losses.variational_kl(DEEP, shape=(3,)), ValueError, "does not broadcast to the shape"),
    "variational_kl_backward": (
        lambda: losses.variational_kl_backward(DEEP, shape=(3,)),
        ValueError,
        "does not broadcast to the shape",
    ),
    "plot_histograms": (lambda: uncertainty.plot_histograms(None), TypeError, "scores must be a mapping"),
    "layer without weights": (lambda: nn.VariationalDropout(None, X), TypeError, "weight must be a numpy.ndarray"),
    "layer without alphas": (lambda: nn.VariationalDropout(X, None), TypeError, "log_alpha must be a numpy.ndarray"),
    "layer with a number as alphas": (lambda: nn.VariationalDropout(X, -1.0), TypeError, "trained in place; got float"),
    "layer with a list as weights": (lambda: nn.DropConnect([[1.0]]), TypeError, "trained in place; got list"),
    "phases": (lambda: schedules.Phases(3, (1,)), TypeError, "schedules must be a sequence; got 3"),
    "lengths of phases": (lambda: schedules.Phases((0.1, 0.2), 3), TypeError, "lengths must be a sequence; got 3"),
    "weights of a network": (lambda: theory.dropout_regularizer(True), TypeError, "weights must be a sequence; got True"),
    "layers of a network": (lambda: theory.dropout_regularizer([], layers=2), TypeError, "layers must be a sequence; got 2"),
    "layer of integers": (
        lambda: nn.DropConnect(np.ones((2, 2), np.int64)),
        TypeError,
        "weight must have a floating-point dtype.*int64",
    ),
    "layer of a type": (lambda: nn.GaussianDropout(log_alpha=type), TypeError, "log_alpha must be real numbers"),
    "outputs of weights": (
        lambda: theory.variance_inflation(np.full(3, 0.5), weights=np.ones((3, 2))),
        ValueError,
        "the outputs of weights must broadcast",
    ),
    "targets": (lambda: uncertainty.Regression(1.0, ["x"]), TypeError, "targets must be real numbers"),
    "a stream's state": (lambda: fastdrop.Stream.from_state_dict(True), TypeError, "state must be a mapping"),
    "a large operand": (lambda: theory.prune(X, 10**400), TypeError, "must be an array of the dtype of the input"),
    "a schedule's configuration": (lambda: schedules.Schedule.from_config("{l"), TypeError, "must be a dictionary"),
    "a schedule without a rate": (
        lambda: schedules.Scaled(lambda step: None, 0.5)(1),
        TypeError,
        "the rate of the schedule must be a finite number; got None",
    ),
    "a layer's estimator": (
        lambda: both_passes(nn.AdaptiveDropout(estimator=np.ones(2)), X, X),
        ValueError,
        "estimator must be one of",
    ),
    "zoneout": (lambda: fastdrop.zoneout(X, None, 0.5, training=False), TypeError, "previous must be an array"),
    "federated": (lambda: federated.extract(3, {}, {}), TypeError, "must be a mapping|mapping"),
}


@pytest.mark.parametrize("name", CALLS)
def test_sentence(name):
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message):
        call()


def test_passes_draw_no_key_for_a_wrong_setting():
    stream = fastdrop.Stream(1)
    with pytest.raises(ValueError, match="num_threads must be an integer >= 1"):
        uncertainty.mc_dropout(X, 0.5, seed=stream, num_threads=0)
    assert stream == fastdrop.Stream(1)


def test_a_block_of_one_index_of_an_axis_of_importance_is_refused():
    """Its scores cannot be told from scores that are the same along the axis."""
    with pytest.raises(ValueError, match="the mean probability is taken over it"):
        fastdrop.importance_dropout(X[:, :1], X[:, :1], axis=1, seed=1, global_shape=X.shape, global_start=(0, 1, 0, 0))
