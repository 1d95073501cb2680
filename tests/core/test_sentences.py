"""Values of a wrong kind get TypeError or ValueError with a sentence from a check, never an error from inside."""

import numpy as np
import pytest

import fastdrop
from fastdrop import federated, losses, nn, schedules, theory, uncertainty

X = np.ones((2, 3, 4, 5), np.float32)
DEEP = np.ones((1,) * 33)
CALLS = {
    "log_alpha": (lambda: theory.log_alpha(X, None), TypeError, "log_sigma2 must be an array"),
    "log_alpha_backward": (lambda: theory.log_alpha_backward(X, X, None), TypeError, "log_sigma2 must be an array"),
    "prune": (lambda: theory.prune(X, None), TypeError, "log_sigma2 must be an array"),
    "adl_backward": (lambda: fastdrop.adl_backward(X, None, seed=1), TypeError, "x must be an array"),
    "adaptive_dropout": (lambda: fastdrop.adaptive_dropout(X, None, seed=1), TypeError, "logits must be an array"),
    "variational_kl": (lambda: losses.variational_kl(DEEP, shape=(3,)), ValueError, "does not broadcast to the shape"),
    "variational_kl_backward": (
        lambda: losses.variational_kl_backward(DEEP, shape=(3,)),
        ValueError,
        "does not broadcast to the shape",
    ),
    "plot_histograms": (lambda: uncertainty.plot_histograms(None), TypeError, "scores must be a mapping"),
    "layer without weights": (lambda: nn.VariationalDropout(None, X), TypeError, "weight must be an array; got None"),
    "layer without alphas": (lambda: nn.VariationalDropout(X, None), TypeError, "log_alpha must be an array; got None"),
    "phases": (lambda: schedules.Phases(3, (1,)), TypeError, "schedules must be a sequence; got 3"),
    "lengths of phases": (lambda: schedules.Phases((0.1, 0.2), 3), TypeError, "lengths must be a sequence; got 3"),
    "weights of a network": (lambda: theory.dropout_regularizer(True), TypeError, "weights must be a sequence; got True"),
    "layers of a network": (lambda: theory.dropout_regularizer([], layers=2), TypeError, "layers must be a sequence; got 2"),
    "federated": (lambda: federated.extract(3, {}, {}), TypeError, "must be a mapping|mapping"),
}


@pytest.mark.parametrize("name", CALLS)
def test_sentence(name):
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message):
        call()
