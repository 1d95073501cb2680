"""The noise of the weights in variational dropout, and the weights that are pruned."""

import math

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, normal

import fastdrop
from fastdrop import losses, theory
from fastdrop.verify.cases import spoiled

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


def test_log_alpha():
    weight = np.array([0.5, -0.5, 1e-30, 0.0, -0.0, 3.0, 1.0])
    log_sigma2 = np.array([-2.0, -2.0, -2.0, -2.0, -np.inf, -30.0, -8.0])
    want = np.array([-2 + 2 * math.log(2), -2 + 2 * math.log(2), 8, 8, 8, -8, -8])
    assert np.allclose(theory.log_alpha(weight, log_sigma2), want, rtol=1e-14)
    dweights, dlog_sigma2 = theory.log_alpha_backward(np.full(7, 3.0), weight, log_sigma2)
    assert dweights.tolist() == [-12, 12, 0, 0, 0, 0, -6]
    assert dlog_sigma2.tolist() == [3, 3, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_log_alpha_of_every_dtype(engine, dtype):
    weight, log_sigma2 = normal((4, 3), dtype, 2), normal((4, 3), dtype, 3)
    wide = weight.astype(float), log_sigma2.astype(float)
    gradients = theory.log_alpha_backward(wide[0], weight, log_sigma2)
    found = {"log alpha": theory.log_alpha(weight, log_sigma2), "dweight": gradients[0], "dlog_sigma2": gradients[1]}
    want = {"log alpha": wide[1] - np.log(wide[0] ** 2), "dweight": np.full((4, 3), -2.0), "dlog_sigma2": wide[0]}
    for name, got in found.items():
        assert got.dtype == dtype
        assert np.abs(got.astype(float) - want[name]).max() <= TOLERANCE[str(dtype)] * max(1, np.abs(want[name]).max())


def test_pruning_keeps_what_is_not_a_number():
    made, kept = theory.prune(np.array([np.nan, 1.0]), np.array([0.0, 5.0]))
    assert np.isnan(made[0])
    assert kept.tolist() == [True, False]
    made, kept = theory.prune(np.array(1.0), np.array(0.0))
    assert (type(made), type(kept)) == (np.ndarray, np.ndarray)  # also of one weight


def test_pruning_compares_what_is_not_clipped():
    """A bound outside [-8, 8] is a bound too."""
    weight, log_sigma2, x = np.array([1e-9, 1.0, 1e3]), np.array([0.0, 0.0, 0.0]), np.ones((1, 3))
    for prune_above, want in ((9.0, [0, 1, 1e3]), (50.0, weight), (-9.0, [0, 0, 1e3])):
        assert theory.prune(weight, log_sigma2, prune_above)[0].tolist() == list(want)
        layer = {"weight": weight[:, None], "log_sigma2": log_sigma2[:, None], "prune_above": prune_above, "training": False}
        assert fastdrop.variational_dense(x, **layer).tolist() == [[np.sum(want)]]


def without_products(weight, log_sigma2):
    """Return the results that do not come from a BLAS."""
    log_alpha = theory.log_alpha(weight, log_sigma2)
    made = [log_alpha, *theory.prune(weight, log_sigma2, 1.0)]
    for approximation in ("molchanov", "kingma"):
        slopes = losses.variational_kl_backward(log_alpha, approximation)
        made += [
            losses.variational_kl(log_alpha, approximation),
            slopes,
            *theory.log_alpha_backward(slopes, weight, log_sigma2),
        ]
    return [np.asarray(one) for one in made]


def test_in_a_hostile_environment():
    """Rounding towards zero and flushed subnormals, set by others, change nothing."""
    given = normal((90, 70), np.float32, 2), normal((90, 70), np.float32, 4)
    want = without_products(*given)
    with spoiled():
        found = without_products(*given)
    for got, other in zip(found, want, strict=True):
        assert_same_bytes(got, other)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "log_sigma2 must have the shape", lambda w: theory.log_alpha(w, w[0])),
        (TypeError, "log_sigma2 must have the dtype", lambda w: theory.prune(w, w.astype(np.float32))),
        (TypeError, "weight must have a floating", lambda w: theory.log_alpha(np.ones(3, int), np.ones(3))),
        (ValueError, "grad must have the shape", lambda w: theory.log_alpha_backward(w[:2], w, w)),
        (TypeError, "grad must be real numbers", lambda w: theory.log_alpha_backward(["a"], w, w)),
        (ValueError, "prune_above must be", lambda w: theory.prune(w, w, np.nan)),
        (ValueError, "out must have the shape", lambda w: theory.prune(w, w, out=w[0])),
    ],
)
def test_bad_log_alphas(error, words, call):
    with pytest.raises(error, match=words):
        call(np.ones((4, 3)))


def test_out_and_lists_of_log_alphas():
    weight, log_sigma2 = normal((4, 3), seed=2), normal((4, 3), seed=3)
    place = weight.copy()
    assert theory.prune(place, log_sigma2, 0.5, out=place)[0] is place
    assert_same_bytes(place, theory.prune(weight, log_sigma2, 0.5)[0])
    got = theory.log_alpha(weight.tolist(), log_sigma2.tolist())
    assert_same_bytes(got, theory.log_alpha(weight, log_sigma2, out=place))
