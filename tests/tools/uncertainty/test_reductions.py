"""Running statistics of passes: against slow transcriptions and closed forms."""

import math

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, softmax

from fastdrop.uncertainty import Classification, Moments, Regression, mc_dropout
from fastdrop.verify.cases import spoiled


def welford(results, type):
    """Return mean and sum of squares of numbers, an operation at a time."""
    mean = m2 = type(0)
    for n, y in enumerate(results, 1):
        d = type(type(y) - mean)
        mean = type(mean + type(d * type(1 / n)))
        m2 = type(m2 + type(d * type(type(y) - mean)))
    return mean, m2


# Statistics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_are_welford_to_the_bit(dtype):
    results = normal((9, 5), dtype)
    moments = Moments()
    for y in results:
        moments.update(y)
    type = np.float64 if dtype == np.float64 else np.float32
    want = [welford(column, type) for column in results.T]
    assert_same_bytes(moments.mean, np.array([mean for mean, _ in want], type))
    assert_same_bytes(moments.m2, np.array([m2 for _, m2 in want], type))
    exact = results.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.variance, exact.var(axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments.std, exact.std(axis=0), rtol=1e-5)


def test_moments_of_large_numbers_do_not_cancel():
    moments = Moments()
    for y in (1e8, 1e8 + 1, 1e8 + 2):
        moments.update(np.array(y))
    assert moments.variance == pytest.approx(2 / 3)


def test_moments_in_chunks_and_in_any_layout():
    results = normal((3, 300, 301), np.float32)  # more than two chunks
    flat, turned = Moments(), Moments()
    for y in results:
        flat.update(y)
        turned.update(y.T)
    assert_same_bytes(turned.mean, np.ascontiguousarray(flat.mean.T))
    assert_same_bytes(turned.m2, np.ascontiguousarray(flat.m2.T))
    i, j = 170, 13
    assert (flat.mean[i, j], flat.m2[i, j]) == welford(results[:, i, j], np.float32)


def test_moments_in_a_hostile_environment():
    results = normal((20, 50), np.float32) * np.float32(1e-20)  # squares are subnormal

    def run():
        moments = Moments()
        for y in results:
            moments.update(y)
        few = mc_dropout(results[0], 0.3, 9, seed=1)
        return moments.mean, moments.m2, moments.variance, moments.std, few.mean, few.m2, few.variance

    calm = run()
    assert calm[1].max() > 0
    with spoiled():
        rough = run()
    for got, want in zip(rough, calm, strict=True):
        assert_same_bytes(got, want)


def test_results_must_keep_their_shape():
    moments = Moments()
    moments.update(np.zeros(3))
    with pytest.raises(ValueError, match=r"same shape; got \(4,\) after \(3,\)"):
        moments.update(np.zeros(4))
    with pytest.raises(TypeError, match="int64"):
        Moments().update(np.zeros(3, np.int64))


# Classification -----------------------------------------------------------------------------------------------------


def test_measures_of_classification():
    passes = softmax(normal((12, 6, 4)) * 2)
    found = Classification()
    for p in passes:
        found.update(p)
    mean = passes.mean(axis=0)
    predictive = -(mean * np.log(mean)).sum(axis=-1)
    expected = -(passes * np.log(passes)).sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(found.predictive_entropy, predictive, rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mutual_information, predictive - expected, rtol=1e-9)
    np.testing.assert_array_equal(found.prediction, mean.argmax(axis=-1))
    votes = np.array([np.bincount(column, minlength=4) for column in passes.argmax(axis=-1).T])
    np.testing.assert_array_equal(found.votes, votes)
    np.testing.assert_allclose(found.variation_ratio, 1 - votes.max(axis=-1) / 12)


def test_measures_have_the_same_bytes_by_every_engine(engine):
    passes, targets = softmax(normal((5, 40, 7)) * 3), normal((40, 7))

    def measured():
        found, regression = Classification(), Regression(2.0, targets)
        for p in passes:
            found.update(p)
            regression.update(p)
        return found.predictive_entropy, found.expected_entropy, found.mutual_information, regression.log_likelihood

    want = by_reference(measured)
    with spoiled():
        rough = measured()
    for got, hostile, expected in zip(measured(), rough, want, strict=True):
        assert_same_bytes(got, expected)
        assert_same_bytes(hostile, expected)


@pytest.mark.parametrize("precision", range(1, 21))
def test_the_log_likelihood_in_a_hostile_environment(precision):
    found = Regression(precision, normal(5))
    found.update(normal(5, seed=1))
    want = found.log_likelihood
    with spoiled():
        rough = found.log_likelihood
    assert_same_bytes(rough, want)


def test_certain_classifiers_that_disagree():
    found = Classification()
    for k in (0, 0, 1, 2):
        found.update(np.eye(3, dtype=np.float32)[[k]])
    assert found.expected_entropy == 0
    assert found.mutual_information == found.predictive_entropy == pytest.approx(1.5 * math.log(2))
    assert found.variation_ratio == 0.5


def test_information_is_never_negative():
    found = Classification()
    for _ in range(10):
        found.update(np.full((5, 7), 1 / 7, np.float32))
    assert (found.mutual_information >= 0).all()
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-6)


def test_ties_go_to_the_first_class():
    found = Classification()
    found.update(np.array([[0.1, 0.45, 0.45]]))
    np.testing.assert_array_equal(found.votes, [[0, 1, 0]])


def test_measures_need_a_pass():
    for name in ("predictive_entropy", "mutual_information", "prediction", "variation_ratio", "expected_entropy"):
        with pytest.raises(ValueError, match="at least one pass"):
            getattr(Classification(), name)


def test_scores_that_are_no_probabilities_change_nothing():
    found = Classification()
    with pytest.raises(ValueError, match="softmax"):
        found.update(np.array([[3.0, -1.0]]))
    assert found.count == 0


# Regression ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_log_likelihood_is_that_of_a_mixture(shape):
    stats = pytest.importorskip("scipy.stats")
    targets, passes, tau = normal(shape), normal((8, *shape), seed=1), 2.5
    found = Regression(tau, targets)
    for y in passes:
        found.update(y)
    densities = stats.norm(passes, 1 / math.sqrt(tau)).pdf(targets)
    if len(shape) == 2:
        densities = densities.prod(axis=-1)
    np.testing.assert_allclose(found.log_likelihood, np.log(densities.mean(axis=0)), rtol=1e-10)
    np.testing.assert_allclose(found.predictive_variance, passes.var(axis=0) + 1 / tau)


def test_log_likelihood_far_away():
    found = Regression(1.0, np.array([0.0]))
    for y in (1e4, 100.0, 1e4):
        found.update(np.array([y]))
    assert found.log_likelihood == pytest.approx(-5000 - math.log(3) - 0.5 * math.log(2 * math.pi))
    found.update(np.array([1e200]))  # whose square is infinite
    assert found.log_likelihood == pytest.approx(-5000 - math.log(4) - 0.5 * math.log(2 * math.pi))


def test_bad_regression():
    for call, match in (
        (lambda: Regression(0.0), "precision"),
        (lambda: Regression(math.inf), "precision"),
        (lambda: Regression(1.0, np.zeros((2, 2, 2))), r"\(N, D\)"),
        (lambda: Regression(1.0, np.zeros(2)).update(np.zeros((2, 1))), r"\(2,\); got \(2, 1\)"),
        (lambda: Regression(1.0).log_likelihood, "needs targets"),
        (lambda: Regression(1.0, np.zeros(2)).log_likelihood, "at least one pass"),
        (lambda: Regression(1.0, np.zeros((3, 0))), "at least one output"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
