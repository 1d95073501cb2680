"""Losses against their formulas, and their gradients against differences."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.special
from comparisons import DTYPES, assert_gradients, assert_same_bytes, normal

import fastdrop
from fastdrop import losses, theory
from fastdrop._core import numbers
from fastdrop.verify.cases import engines


def loss_of(first, second, targets, alpha, counts, form):
    """Transcribe the loss."""
    entropy = divergence = 0.0
    for a, b, target, count in zip(first, second, targets, counts, strict=True):
        if count:
            p, q = scipy.special.softmax(a), scipy.special.softmax(b)
            entropy -= math.log(p[target]) + math.log(q[target])
            divergence += 0.5 * (scipy.special.kl_div(p, q).sum() + scipy.special.kl_div(q, p).sum())
    n = sum(counts)
    return (entropy + alpha * divergence) / n if form == "paper" else entropy / (2 * n) + alpha * divergence


@pytest.fixture
def passes():
    return normal((6, 5), seed=1) * 3, normal((6, 5), seed=2) * 3, np.array([0, 4, 2, 1, 3, 3])


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("counts", [[True] * 6, [True, False, True, True, False, True]])
def test_r_drop(passes, form, counts):
    want = loss_of(*passes, 0.7, counts, form)
    assert math.isclose(fastdrop.losses.r_drop_loss(*passes, 0.7, mask=counts, form=form), want, rel_tol=1e-12)
    if all(counts):
        assert math.isclose(fastdrop.losses.r_drop_loss(*passes, 0.7, form=form), want, rel_tol=1e-12)
    folded = [array.reshape(2, 3, *array.shape[1:]) for array in (*passes, np.array(counts))]
    assert math.isclose(fastdrop.losses.r_drop_loss(*folded[:3], 0.7, mask=folded[3], form=form), want, rel_tol=1e-12)
    gradients = fastdrop.losses.r_drop_loss_backward(*passes, 0.7, mask=counts, form=form)
    for k, gradient in enumerate(gradients):
        for index in np.ndindex(6, 5):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in passes]
                moved[k][index] += step
                sides.append(loss_of(*moved, 0.7, counts, form))
            assert abs((sides[0] - sides[1]) / 2e-5 - gradient[index]) < 1e-8
    folded_gradients = fastdrop.losses.r_drop_loss_backward(*folded[:3], 0.7, mask=folded[3], form=form)
    assert np.array_equal(folded_gradients[1].reshape(6, 5), gradients[1])


@pytest.mark.parametrize("classes", [1, 7, 8, 9, 16, 127, 128, 129, 255, 1000])
def test_r_drop_has_the_same_bits_everywhere(engine, classes):
    """Its exponentials and logarithms are those of `fastdrop.elementary`, and its sums have the order of NumPy."""
    first, second = normal((3, classes), seed=3), normal((3, classes), seed=4)
    shifted = np.stack([each - each.max(axis=1, keepdims=True) for each in (first, second)])
    powers = fastdrop.elementary.exp(shifted)
    sums = np.add.reduce(powers, axis=2, keepdims=True)
    logs, (p, q) = shifted - fastdrop.elementary.log(sums), powers * (1 / sums)
    entropy = np.add.reduce(-logs[:, :, 0].sum(axis=0))
    ratio = logs[0] - logs[1]
    divergence = np.add.reduce(0.5 * (p - q) * ratio, axis=None)
    passes = first, second, np.zeros(3, np.int64)
    assert fastdrop.losses.r_drop_loss(*passes, form="code") == 0.5 * (1.0 / 3) * entropy + divergence
    slopes = fastdrop.losses.r_drop_loss_backward(*passes, form="code")
    targets = np.arange(classes) == 0
    for found, own, other, d in zip(slopes, (p, q), (q, p), (ratio, -ratio), strict=True):
        total = np.add.reduce(own * d, axis=1, keepdims=True)
        assert np.array_equal(found, 0.5 * (1.0 / 3) * (own - targets) + 0.5 * (own * (d - total) + own - other))


def test_passes_that_agree_have_the_cross_entropy_alone(passes):
    first, _, targets = passes
    for alpha in (0.0, 5.0):
        loss = fastdrop.losses.r_drop_loss(first, first, targets, alpha)
        assert math.isclose(loss, loss_of(first, first, targets, 0.0, [True] * 6, "paper"), rel_tol=1e-13)
    large = np.array([[1e4, 0.0], [0.0, -1e4]])
    assert fastdrop.losses.r_drop_loss(large, large, [0, 0]) == 0.0
    assert fastdrop.losses.r_drop_loss(first, first, targets, mask=np.zeros(6, bool)) == 0.0
    assert fastdrop.losses.r_drop_loss(np.ones((0, 3)), np.ones((0, 3)), np.ones(0, int)) == 0.0
    assert not fastdrop.losses.r_drop_loss_backward(first, first, targets, mask=np.zeros(6, bool))[0].any()


def test_logits_with_as_many_axes_as_numpy_allows():
    logits, more = np.array([[0.5, 2.0], [-1.0, 0.25]]), (1,) * 62
    made = fastdrop.losses.r_drop_loss_backward(*[logits.reshape(2, *more, 2)] * 2, np.zeros((2, *more), int))
    want = fastdrop.losses.r_drop_loss_backward(logits, logits, [0, 0])
    for found, gradient in zip(made, want, strict=True):
        np.testing.assert_array_equal(found.reshape(2, 2), gradient)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_a_class_that_both_passes_mask_does_not_count(passes, form):
    """A class with the logit -inf in both passes: the loss is that without the class, and its gradient is 0."""
    first, second, targets = passes
    masked = [np.insert(logits, 2, -np.inf, axis=1) for logits in (first, second)]
    shifted = targets + (targets >= 2)
    assert math.isclose(
        fastdrop.losses.r_drop_loss(*masked, shifted, 0.7, form=form),
        fastdrop.losses.r_drop_loss(first, second, targets, 0.7, form=form),
        rel_tol=1e-14,
    )
    for found, want in zip(
        fastdrop.losses.r_drop_loss_backward(*masked, shifted, 0.7, form=form),
        fastdrop.losses.r_drop_loss_backward(first, second, targets, 0.7, form=form),
        strict=True,
    ):
        assert (found[:, 2] == 0).all()
        np.testing.assert_allclose(np.delete(found, 2, axis=1), want, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("mask", [None, []])
def test_no_samples_have_no_loss(form, mask):
    """An empty list has no integers and no flags, and no others either."""
    nothing = np.zeros((0, 3))
    for targets in ([], np.zeros(0, np.uint8)):
        assert fastdrop.losses.r_drop_loss(nothing, nothing, targets, mask=mask, form=form) == 0
        gradients = fastdrop.losses.r_drop_loss_backward(nothing, nothing, targets, mask=mask, form=form)
        assert [gradient.shape for gradient in gradients] == [(0, 3), (0, 3)]


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "first and second must have the same shape", {"second": np.ones((2, 4))}),
        (ValueError, "first and second must have the same shape", {"targets": [0, 1, 2]}),
        (TypeError, "targets must be integers", {"targets": [0.0, 1.0]}),
        (ValueError, "mask must have the shape of targets", {"mask": []}),
        (ValueError, r"targets must be in \[0, 3\)", {"targets": [0, 3]}),
        (ValueError, r"targets must be in \[0, 3\)", {"targets": [-1, 0]}),
        (TypeError, "first must be real numbers", {"first": [[1j] * 3] * 2}),
        (ValueError, "strength must be >= 0", {"strength": -1}),
        (ValueError, "strength must be a finite number", {"strength": np.nan}),
        (TypeError, "mask must be of bool", {"mask": [1, 0]}),
        (ValueError, "mask must have the shape of targets", {"mask": [True]}),
        (ValueError, "form must be 'paper'", {"form": "sum"}),
        (ValueError, "must mask the same classes", {"second": [[1.0, -np.inf, 1.0], [1.0, 1.0, 1.0]]}),
        (ValueError, "every sample must have a class", {"first": [[-np.inf] * 3] * 2, "second": [[-np.inf] * 3] * 2}),
    ],
)
def test_bad_r_drop(error, words, arguments):
    good = {"first": np.ones((2, 3)), "second": np.ones((2, 3)), "targets": [0, 1]}
    for function in (fastdrop.losses.r_drop_loss, fastdrop.losses.r_drop_loss_backward):
        with pytest.raises(error, match=words):
            function(**{**good, **arguments})


# Concrete dropout ---------------------------------------------------------------------------------------------------


def test_concrete_regularizer():
    rng = np.random.default_rng(6)
    weights, logit, h = [rng.normal(size=(7, 5)), rng.normal(size=5)], -1.7, 1e-6
    how = {"weight_regularizer": 3e-3, "dropout_regularizer": 2e-2}
    p = 1 / (1 + np.exp(-logit))
    want = 3e-3 * sum((w**2).sum() for w in weights) / (1 - p) + 2e-2 * 7 * (p * np.log(p) + (1 - p) * np.log(1 - p))
    assert losses.concrete_regularizer(logit, weights, 7, **how) == pytest.approx(want, rel=1e-12)
    dlogit, (dkernel, dbias) = losses.concrete_regularizer_backward(logit, weights, 7, **how)
    rise = [losses.concrete_regularizer(logit + s * h, weights, 7, **how) for s in (1, -1)]
    assert dlogit == pytest.approx((rise[0] - rise[1]) / (2 * h), rel=1e-6)
    np.testing.assert_allclose(dkernel, 2 * 3e-3 * weights[0] / (1 - p))
    np.testing.assert_allclose(dbias, 2 * 3e-3 * weights[1] / (1 - p))


@pytest.mark.parametrize("strength", [0.0, 2e-2])
def test_the_order_of_the_operations_of_the_regularizer(strength):
    terms = losses.regularizer_terms(-1.7, 7, 3e-3, strength)
    for weight in normal(20).tolist():
        value, (slope, _) = (
            function(-1.7, weight, 7, weight_regularizer=3e-3, dropout_regularizer=strength)
            for function in (losses.concrete_regularizer, losses.concrete_regularizer_backward)
        )
        assert value == 3e-3 * (weight * weight) / terms.keep + terms.entropy
        assert slope == 3e-3 * (weight * weight) * terms.p / terms.keep + terms.entropy_slope


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_of_one_weight_is_an_array(dtype):
    one, several = (losses.concrete_regularizer_backward(0.5, np.full(shape, 3, dtype), 1)[1] for shape in ((), (1,)))
    assert type(one) is np.ndarray
    assert_same_bytes(one, several.reshape(()))


class Weights(np.ndarray):
    pass


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_has_the_order_and_the_class_of_the_weights(dtype):
    weights = np.arange(24).astype(dtype).reshape(2, 3, 4).transpose(1, 0, 2)
    (made,) = losses.concrete_regularizer_backward(0.5, [weights], 1)[1]
    assert made.strides == weights.strides
    of_class = numbers.scaled(weights.view(Weights), 0.5)
    assert type(of_class) is Weights
    assert_same_bytes(of_class.view(np.ndarray), (weights.astype(np.float64) * 0.5).astype(dtype))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_regularizer": -1}, ValueError, "weight_regularizer must be finite and >= 0"),
        ({"dropout_regularizer": "1"}, TypeError, "dropout_regularizer must be a number"),
        ({"input_dim": 2.5}, TypeError, "input_dim must be an integer"),
        ({"p_logit": np.nan}, ValueError, "p_logit"),
    ],
)
def test_bad_input_to_the_concrete_regularizer(arguments, error, message):
    for function in (losses.concrete_regularizer, losses.concrete_regularizer_backward):
        with pytest.raises(error, match=message):
            function(**{"p_logit": -1.0, "weights": np.ones(3), "input_dim": 3, **arguments})


# Variational dropout ------------------------------------------------------------------------------------------------


def exact_kl(log_alpha):
    """Integrate E log|z + 1/sqrt(alpha)|, z normal, less its value at infinite alpha; on both sides of its singularity."""
    integrate = pytest.importorskip("scipy.integrate")
    shift, ends = math.exp(-log_alpha / 2), 12.0
    middle = max(-ends, -shift)

    def integrand(z):
        return math.log(abs(z + shift)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    sides = [integrate.quad(integrand, *side, limit=400)[0] for side in ((-ends, middle), (middle, ends))]
    return sum(sides) + (np.euler_gamma + math.log(2)) / 2


def test_the_divergence_against_the_integral():
    errors = {"molchanov": [], "kingma": []}
    for log_alpha in np.linspace(-8, 8, 33):
        exact = exact_kl(log_alpha)
        errors["molchanov"].append(losses.variational_kl(log_alpha) - exact)
        if log_alpha <= 0:
            errors["kingma"].append(losses.variational_kl(log_alpha, "kingma") - exact)
    assert np.abs(errors["molchanov"]).max() < 0.01
    assert -0.041 < min(errors["kingma"]) < max(errors["kingma"]) < 0


def test_the_divergence_by_its_formulas():
    log_alpha = np.array([-9.0, -3.0, -0.5, 0.0, 0.7, 4.0])
    molchanov = kingma = 0.0
    for one in log_alpha:
        molchanov += 0.63576 - 0.63576 / (1 + math.exp(-1.87320 - 1.48695 * one)) + 0.5 * math.log(1 + math.exp(-one))
        alpha = min(1.0, math.exp(one))
        kingma += 0.635181422730739 - 0.5 * math.log(alpha) - 1.16145124 * alpha + 1.50204118 * alpha**2 - 0.58629921 * alpha**3
    assert abs(losses.variational_kl(log_alpha) - molchanov) < 1e-12
    assert abs(losses.variational_kl(log_alpha, "kingma") - kingma) < 1e-12
    assert losses.variational_kl(np.inf) == 0
    assert losses.variational_kl(np.ones((0, 3))) == 0


@pytest.mark.parametrize("approximation", ["molchanov", "kingma"])
def test_the_divergence_has_equal_bits_on_every_engine(approximation):
    given = np.concatenate([normal(105_003, seed=3) * 6, [0.0, -0.0, 1e-300, -800.0, 800.0, 0.5]])

    def both():
        slopes = losses.variational_kl_backward(given, approximation)
        return losses.variational_kl(given, approximation), slopes.tobytes()

    with fastdrop.using(backend="numpy"):
        want = both()
    for engine in engines():
        if not engine.missing():
            with engine.using():
                assert both() == want, str(engine)


@pytest.mark.parametrize("approximation", ["molchanov", "kingma"])
def test_the_divergence_of_other_dtypes_and_layouts_is_that_of_float64(approximation):
    wide = np.round(normal((60, 70), seed=4) * 256) / 64  # exact in each type
    for given in (wide.astype(np.float32), wide.astype(np.float16), np.asfortranarray(wide.astype(np.float32)), wide.T[::-1]):
        same = np.ascontiguousarray(given, np.float64)
        assert losses.variational_kl(given, approximation) == losses.variational_kl(same, approximation)
        made, want = (losses.variational_kl_backward(a, approximation) for a in (given, same))
        assert made.dtype == np.float64
        assert np.array_equal(made, want)


def test_the_order_of_the_divergences_sum():
    given = normal(5000, seed=5)
    sums = np.zeros(5 * 1024)
    sums[:5000] = [losses.variational_kl(one) for one in given]
    sums = sums.reshape(5, 1024)
    while sums.shape[1] > 1:
        sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
    a, b, c, d, e = sums[:, 0]
    assert losses.variational_kl(given) == ((a + d) + c) + (b + e)


@pytest.mark.parametrize("approximation", ["molchanov", "kingma"])
def test_shared_alphas_count_for_each_weight(approximation):
    kl = partial(losses.variational_kl, approximation=approximation)
    slopes = partial(losses.variational_kl_backward, approximation=approximation)
    for shape in ((), (4, 1), (3,), (4, 3)):
        log_alpha = normal(shape, seed=7) - 1
        each = np.array(np.broadcast_to(log_alpha, (4, 3)))
        assert math.isclose(kl(log_alpha, shape=(4, 3)), kl(each), rel_tol=1e-13)
        got = slopes(log_alpha, shape=(4, 3))
        assert np.allclose(got, slopes(log_alpha) * (12 / log_alpha.size), rtol=1e-14)
        assert_gradients(partial(kl, shape=(4, 3)), [log_alpha], [got])


def test_the_gradient_above_kingmas_bound():
    assert losses.variational_kl_backward(np.array([1e-9, 3.0]), "kingma").tolist() == [0, 0]
    assert losses.variational_kl_backward(0.0, "kingma") < 0


def test_the_gradient_of_the_divergence_down_to_the_weights():
    weight, log_sigma2 = normal((4, 3), seed=2), normal((4, 3), seed=3) - 1

    def kl(weight, log_sigma2):
        return losses.variational_kl(theory.log_alpha(weight, log_sigma2))

    slopes = losses.variational_kl_backward(theory.log_alpha(weight, log_sigma2))
    assert_gradients(kl, [weight, log_sigma2], theory.log_alpha_backward(slopes, weight, log_sigma2))


@pytest.mark.parametrize("function", [losses.variational_kl, losses.variational_kl_backward])
@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "approximation must be", {"approximation": "exact"}),
        (ValueError, "approximation must be", {"approximation": ["kingma"]}),
        (TypeError, "log_alpha must be", {"log_alpha": None}),
        (ValueError, "does not broadcast", {"log_alpha": np.ones(4), "shape": (4, 3)}),
        (TypeError, "shape must be a sequence", {"shape": 4}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
    ],
)
def test_bad_divergences(function, error, words, arguments):
    with pytest.raises(error, match=words):
        function(**{"log_alpha": 0.0, **arguments})


def test_lists_of_log_alphas():
    assert losses.variational_kl([-1.0, -2.0]) == losses.variational_kl(np.array([-1.0, -2.0]))


def test_kl_of_more_weights_than_an_array_has():
    with pytest.raises(OverflowError, match=r"shape \(8589934592, 8589934592\) has 2\*\*63 bytes or more"):
        losses.variational_kl(0.0, shape=(2**33, 2**33))


@pytest.mark.parametrize("factor", [0.0, 1e-300, 2.0**-133 * 1.1, 2.22e-6, 0.1234, 1 + 2**-20, 3.3, 1e10, 1e300])
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if np.dtype(dtype).itemsize == 2])
def test_products_of_numbers_of_16_bits(dtype, factor):
    """Each is rounded once, from float64."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    for given in (every, every.reshape(256, 256).T, np.tile(every, (2, 1))[:, ::-1]):
        with np.errstate(all="ignore"):
            wanted = (given.astype(np.float64) * factor).astype(dtype)
        for engine in engines():
            if not engine.missing():
                with engine.using():
                    assert_same_bytes(numbers.scaled(given, factor), wanted)
