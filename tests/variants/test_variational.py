"""Variational dropout against its formulas, number by number; its gradients against differences; its divergence, integrated."""

import math
from functools import partial

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal

import fastdrop
from fastdrop.verify.cases import spoiled

SEED, OFFSET = 41, 42
KEY = {"seed": SEED, "offset": OFFSET}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}  # of sums of a few values near 1
CLIP = 8
LOG_ALPHA = {"A": {"layer": (), "unit": (4,), "input": (5, 4)}, "B": {"layer": (), "unit": (4, 1), "weight": (4, 3)}}


def operands(dtype=np.float64):
    """Return x, weights, log_sigma2, bias and a gradient of a layer of 5 examples, 4 inputs and 3 outputs."""
    arrays = (
        normal((5, 4), seed=1),
        normal((4, 3), seed=2),
        normal((4, 3), seed=3) - 1,
        normal(3, seed=4),
        normal((5, 3), seed=5),
    )
    return [array.astype(dtype) for array in arrays]


def close(got, want, dtype):
    want = np.asarray(want, float)
    assert got.dtype == dtype
    assert got.shape == want.shape
    assert np.abs(got.astype(float) - want).max() <= TOLERANCE[str(dtype)] * max(1, np.abs(want).max())


def assert_gradients(loss, arrays, gradients, step=1e-6, tolerance=1e-7):
    """Compare with central differences of `loss` at each number of each array."""
    for k, gradient in enumerate(gradients):
        assert np.shape(gradient) == np.shape(arrays[k])
        for index in np.ndindex(np.shape(gradient)):
            sides = []
            for sign in (1, -1):
                moved = [np.array(array, float) for array in arrays]
                moved[k][index] += sign * step
                sides.append(loss(*moved))
            want = (sides[0] - sides[1]) / (2 * step)
            assert abs(gradient[index] - want) <= tolerance * max(1, abs(want)), (k, index)


def spread(x, weights, variance, bias, dtype, start=0):
    """Return the layer's result for normal weights, a product and a number at a time."""
    z = fastdrop.normal(start + 15, dtype=np.float64 if dtype == np.float64 else np.float32, **KEY)[start:]
    y = np.zeros((5, 3))
    for n in range(5):
        for o in range(3):
            mean = sum(float(x[n, i]) * float(weights[i, o]) for i in range(4)) + float(bias[o])
            square = sum(float(x[n, i]) ** 2 * variance[i, o] for i in range(4))
            y[n, o] = mean + math.sqrt(square + 1e-8) * float(z[3 * n + o])
    return y


# The dense layer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_variational_dense(engine, dtype):
    x, weights, log_sigma2, bias, _ = operands(dtype)
    variance = np.exp(log_sigma2.astype(float))
    got = fastdrop.variational_dense(np.asfortranarray(x), weights, log_sigma2, bias=bias, **KEY)
    close(got, spread(x, weights, variance, bias, dtype), dtype)
    nothing = np.zeros(3, dtype)
    got = fastdrop.variational_dense(x, weights, log_sigma2, start=9, **KEY)
    close(got, spread(x, weights, variance, nothing, dtype, 9), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_variational_dense(engine, dtype):
    x, weights, log_sigma2, bias, grad = operands(dtype)
    z = fastdrop.normal((5, 3), dtype=np.float64 if dtype == np.float64 else np.float32, **KEY)
    want = [np.zeros((5, 4)), np.zeros((4, 3)), np.zeros((4, 3)), np.zeros(3)]
    for n in range(5):
        for o in range(3):
            variances = [math.exp(float(s)) for s in log_sigma2[:, o]]
            root = math.sqrt(sum(float(x[n, i]) ** 2 * variances[i] for i in range(4)) + 1e-8)
            g = float(grad[n, o])
            q = g * float(z[n, o]) / (2 * root)
            for i in range(4):
                want[0][n, i] += g * float(weights[i, o]) + 2 * float(x[n, i]) * q * variances[i]
                want[1][i, o] += g * float(x[n, i])
                want[2][i, o] += q * float(x[n, i]) ** 2 * variances[i]
            want[3][o] += g
    got = fastdrop.variational_dense_backward(grad, x, weights, log_sigma2, bias=bias, **KEY)
    for one, other in zip(got, want, strict=True):
        close(one, other, dtype)
    assert len(fastdrop.variational_dense_backward(grad, x, weights, log_sigma2, **KEY)) == 3


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_variational_dense_by_differences(training):
    x, weights, log_sigma2, bias, grad = operands()
    weights[1, 2] = 1e-3  # one that is pruned outside training

    def loss(x, weights, log_sigma2, bias):
        return (grad * fastdrop.variational_dense(x, weights, log_sigma2, bias=bias, training=training, **KEY)).sum()

    gradients = fastdrop.variational_dense_backward(grad, x, weights, log_sigma2, bias=bias, training=training, **KEY)
    assert_gradients(loss, [x, weights, log_sigma2, bias], gradients)


def test_pruned_outside_training():
    x, weights, log_sigma2, bias, _ = operands()
    weights[0, 0] = 0
    log_alpha = log_sigma2 - np.log(weights**2, where=weights != 0, out=np.full((4, 3), -np.inf))
    for threshold in (3.0, 0.0, -2.0):
        pruned = np.where(log_alpha < threshold, weights, 0)
        assert 0 < np.count_nonzero(pruned) < 12
        got = fastdrop.variational_dense(x, weights, log_sigma2, bias=bias, threshold=threshold, training=False)
        assert np.allclose(got, x @ pruned + bias, rtol=1e-13, atol=1e-13)
        made, kept = fastdrop.prune(weights, log_sigma2, threshold)
        assert_same_bytes(made, pruned)
        assert_same_bytes(kept, log_alpha < threshold)


def test_pruning_keeps_what_is_not_a_number():
    made, kept = fastdrop.prune(np.array([np.nan, 1.0]), np.array([0.0, 5.0]))
    assert np.isnan(made[0])
    assert kept.tolist() == [True, False]


def test_moments_of_variational_dense():
    x, weights, log_sigma2, _, _ = operands()
    n = 20_000
    y = fastdrop.variational_dense(np.repeat(x[:1], n, axis=0), weights, log_sigma2, seed=7)
    mean, variance = x[:1] @ weights, x[:1] ** 2 @ np.exp(log_sigma2)
    assert (np.abs(y.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    assert np.allclose(y.var(axis=0), variance, rtol=0.05)


def test_leading_axes_and_empty_layers():
    x, weights, log_sigma2, _, grad = operands()
    flat = fastdrop.variational_dense(x[:4], weights, log_sigma2, **KEY)
    deep = fastdrop.variational_dense(x[:4].reshape(2, 2, 4), weights, log_sigma2, **KEY)
    assert_same_bytes(deep, flat.reshape(2, 2, 3))
    dx, *_ = fastdrop.variational_dense_backward(grad[:4].reshape(2, 2, 3), x[:4].reshape(2, 2, 4), weights, log_sigma2, **KEY)
    assert dx.shape == (2, 2, 4)
    for rows, inputs, outputs in ((0, 4, 3), (5, 0, 3), (5, 4, 0)):
        x, weights = np.ones((rows, inputs)), np.ones((inputs, outputs))
        y = fastdrop.variational_dense(x, weights, weights, bias=np.ones(outputs), **KEY)
        assert y.shape == (rows, outputs)
        shapes = fastdrop.variational_dense_backward(y, x, weights, weights, bias=np.ones(outputs), **KEY)
        assert [one.shape for one in shapes] == [x.shape, weights.shape, weights.shape, (outputs,)]


def test_no_variance_and_no_input():
    weights = normal((4, 3), seed=2)
    y = fastdrop.variational_dense(np.zeros((5, 4)), weights, np.full((4, 3), -np.inf), **KEY)
    assert_same_bytes(y, np.sqrt(1e-8) * fastdrop.normal((5, 3), dtype=np.float64, **KEY))
    for gradient in fastdrop.variational_dense_backward(np.ones((5, 3)), np.zeros((5, 4)), weights, weights, **KEY):
        assert np.isfinite(gradient).all()


# Kingma's types -----------------------------------------------------------------------------------------------------


def alphas(type, per, seed=6):
    return normal(LOG_ALPHA[type][per], seed=seed) - 1.5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["layer", "unit", "weight"])
def test_type_b(engine, dtype, per):
    x, weights, _, bias, _ = operands(dtype)
    log_alpha = alphas("B", per)
    variance = np.exp(np.broadcast_to(log_alpha, (4, 3))) * weights.astype(float) ** 2
    got = fastdrop.variational_dropout(x, weights, log_alpha, "B", bias=bias, max_log_alpha=None, **KEY)
    close(got, spread(x, weights, variance, bias, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["layer", "unit", "input"])
def test_type_a(engine, dtype, per):
    x, weights, _, bias, _ = operands(dtype)
    log_alpha = alphas("A", per)
    z = fastdrop.normal((5, 4), dtype=np.float64 if dtype == np.float64 else np.float32, **KEY).astype(float)
    noisy = x.astype(float) * (1 + np.exp(log_alpha / 2) * z)
    want = [[sum(noisy[n, i] * float(weights[i, o]) for i in range(4)) + float(bias[o]) for o in range(3)] for n in range(5)]
    close(fastdrop.variational_dropout(x, weights, log_alpha, bias=bias, max_log_alpha=None, **KEY), want, dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("type", "per"), [(type, per) for type in "AB" for per in LOG_ALPHA[type]])
def test_gradients_of_both_types_by_differences(type, per, training):
    x, weights, _, bias, grad = operands()
    log_alpha = alphas(type, per)

    def layer(function, *given):
        x, weights, log_alpha, bias = given[-4:]
        return function(*given[:-4], x, weights, log_alpha, type, bias=bias, training=training, **KEY)

    def loss(*arrays):
        return (grad * layer(fastdrop.variational_dropout, *arrays)).sum()

    arrays = [x, weights, log_alpha, bias]
    gradients = layer(fastdrop.variational_dropout_backward, grad, *arrays)
    assert_gradients(loss, arrays, gradients)


@pytest.mark.parametrize("type", ["A", "B"])
def test_alphas_above_the_bound(type):
    x, weights, _, _, grad = operands()
    log_alpha = np.array([0.5, 0.0, -0.5, 2.0] if type == "A" else [0.5, 0.0, -0.5])
    given = (x, weights, log_alpha, type)
    clamped = fastdrop.variational_dropout(x, weights, np.minimum(log_alpha, 0), type, **KEY)
    assert_same_bytes(fastdrop.variational_dropout(*given, **KEY), clamped)
    slopes = fastdrop.variational_dropout_backward(grad, *given, **KEY)[2]
    assert (slopes == 0).tolist() == (log_alpha > 0).tolist()
    unbounded = fastdrop.variational_dropout(*given, max_log_alpha=None, **KEY)
    assert not np.array_equal(unbounded, clamped)
    assert_same_bytes(fastdrop.variational_dropout(*given, max_log_alpha=2, **KEY), unbounded)
    assert fastdrop.variational_dropout_backward(grad, *given, max_log_alpha=None, **KEY)[2].all()


def test_type_b_per_weight_is_the_dense_layer():
    x, weights, log_sigma2, bias, _ = operands()
    log_alpha = log_sigma2 - np.log(weights**2)
    other = fastdrop.variational_dropout(x, weights, log_alpha, "B", bias=bias, max_log_alpha=None, **KEY)
    assert np.allclose(fastdrop.variational_dense(x, weights, log_sigma2, bias=bias, **KEY), other, rtol=1e-12)


# The divergence -----------------------------------------------------------------------------------------------------


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
        errors["molchanov"].append(fastdrop.variational_kl(log_alpha) - exact)
        if log_alpha <= 0:
            errors["kingma"].append(fastdrop.variational_kl(log_alpha, "kingma") - exact)
    assert np.abs(errors["molchanov"]).max() < 0.01
    assert -0.041 < min(errors["kingma"]) < max(errors["kingma"]) < 0


def test_the_divergence_by_its_formulas():
    log_alpha = np.array([-9.0, -3.0, -0.5, 0.0, 0.7, 4.0])
    molchanov = kingma = 0.0
    for one in log_alpha:
        molchanov += 0.63576 - 0.63576 / (1 + math.exp(-1.87320 - 1.48695 * one)) + 0.5 * math.log(1 + math.exp(-one))
        alpha = min(1.0, math.exp(one))
        kingma += 0.635181422730739 - 0.5 * math.log(alpha) - 1.16145124 * alpha + 1.50204118 * alpha**2 - 0.58629921 * alpha**3
    assert abs(fastdrop.variational_kl(log_alpha) - molchanov) < 1e-12
    assert abs(fastdrop.variational_kl(log_alpha, "kingma") - kingma) < 1e-12
    assert fastdrop.variational_kl(np.inf) == 0
    assert fastdrop.variational_kl(np.ones((0, 3))) == 0


@pytest.mark.parametrize("rule", ["molchanov", "kingma"])
def test_shared_alphas_count_for_each_weight(rule):
    kl, slopes = partial(fastdrop.variational_kl, rule=rule), partial(fastdrop.variational_kl_backward, rule=rule)
    for shape in ((), (4, 1), (3,), (4, 3)):
        log_alpha = normal(shape, seed=7) - 1
        each = np.array(np.broadcast_to(log_alpha, (4, 3)))
        assert math.isclose(kl(log_alpha, shape=(4, 3)), kl(each), rel_tol=1e-13)
        got = slopes(log_alpha, shape=(4, 3))
        assert np.allclose(got, slopes(log_alpha) * (12 / log_alpha.size), rtol=1e-14)
        assert_gradients(partial(kl, shape=(4, 3)), [log_alpha], [got])


def test_the_gradient_above_kingmas_bound():
    assert fastdrop.variational_kl_backward(np.array([1e-9, 3.0]), "kingma").tolist() == [0, 0]
    assert fastdrop.variational_kl_backward(0.0, "kingma") < 0


def test_log_alpha():
    weights = np.array([0.5, -0.5, 1e-30, 0.0, -0.0, 3.0, 1.0])
    log_sigma2 = np.array([-2.0, -2.0, -2.0, -2.0, -np.inf, -30.0, -8.0])
    want = np.array([-2 + 2 * math.log(2), -2 + 2 * math.log(2), CLIP, CLIP, CLIP, -CLIP, -8])
    assert np.allclose(fastdrop.log_alpha_of(weights, log_sigma2), want, rtol=1e-14)
    dweights, dlog_sigma2 = fastdrop.log_alpha_of_backward(np.full(7, 3.0), weights, log_sigma2)
    assert dweights.tolist() == [-12, 12, 0, 0, 0, 0, -6]
    assert dlog_sigma2.tolist() == [3, 3, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_log_alpha_of_every_dtype(engine, dtype):
    _, weights, log_sigma2, _, _ = operands(dtype)
    wide = weights.astype(float), log_sigma2.astype(float)
    close(fastdrop.log_alpha_of(weights, log_sigma2), wide[1] - np.log(wide[0] ** 2), dtype)
    for got, want in zip(
        fastdrop.log_alpha_of_backward(wide[0], weights, log_sigma2), (np.full((4, 3), -2.0), wide[0]), strict=True
    ):
        close(got, want, dtype)


def test_the_gradient_of_the_divergence_down_to_the_weights():
    _, weights, log_sigma2, _, _ = operands()

    def kl(weights, log_sigma2):
        return fastdrop.variational_kl(fastdrop.log_alpha_of(weights, log_sigma2))

    slopes = fastdrop.variational_kl_backward(fastdrop.log_alpha_of(weights, log_sigma2))
    assert_gradients(kl, [weights, log_sigma2], fastdrop.log_alpha_of_backward(slopes, weights, log_sigma2))


# Bits ---------------------------------------------------------------------------------------------------------------


def in_all_ways(dtype):
    """Return the bytes of everything, on a layer of 100 000 outputs."""
    x, weights, grad = normal((500, 30), dtype, 1), normal((30, 200), dtype, 2), normal((500, 200), dtype, 3)
    log_sigma2, log_alpha = normal((30, 200), dtype, 4), normal((30, 1), np.float64, 5) - 1
    given = (x, weights, log_sigma2)
    clipped = fastdrop.log_alpha_of(weights, log_sigma2)
    made = [clipped, *fastdrop.prune(weights, log_sigma2), fastdrop.variational_dense(*given, **KEY)]
    made += fastdrop.variational_dense_backward(grad, *given, bias=weights[0], **KEY)
    for type, alpha in (("A", -1.0), ("A", log_alpha[:, 0]), ("B", log_alpha)):
        made.append(fastdrop.variational_dropout(x, weights, alpha, type, **KEY))
        made += fastdrop.variational_dropout_backward(grad, x, weights, alpha, type, **KEY)
    for rule in ("molchanov", "kingma"):
        slopes = fastdrop.variational_kl_backward(clipped, rule)
        made += [fastdrop.variational_kl(clipped, rule), slopes]
        made += fastdrop.log_alpha_of_backward(slopes, weights, log_sigma2)
    return [np.asarray(one) for one in made]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_engines_agree(engine, dtype):
    """To the byte, products included: the engines share one BLAS."""
    for got, want in zip(in_all_ways(dtype), by_reference(in_all_ways, dtype), strict=True):
        assert_same_bytes(got, want)


def without_products(weights, log_sigma2):
    """Return what no BLAS has a part in."""
    log_alpha = fastdrop.log_alpha_of(weights, log_sigma2)
    made = [log_alpha, *fastdrop.prune(weights, log_sigma2, 1.0)]
    for rule in ("molchanov", "kingma"):
        slopes = fastdrop.variational_kl_backward(log_alpha, rule)
        made += [fastdrop.variational_kl(log_alpha, rule), slopes, *fastdrop.log_alpha_of_backward(slopes, weights, log_sigma2)]
    return [np.asarray(one) for one in made]


def test_in_a_hostile_environment():
    """Rounding towards zero and flushed subnormals, set by others, change nothing."""
    given = normal((90, 70), np.float32, 2), normal((90, 70), np.float32, 4)
    want = without_products(*given)
    with spoiled():
        found = without_products(*given)
    for got, other in zip(found, want, strict=True):
        assert_same_bytes(got, other)


def test_the_arguments_choose_the_backend():
    x, weights, log_sigma2, _, grad = operands()
    for function, given in (
        (fastdrop.variational_dense, (x, weights, log_sigma2)),
        (fastdrop.variational_dense_backward, (grad, x, weights, log_sigma2)),
        (fastdrop.variational_dropout, (x, weights, -1.0)),
        (fastdrop.variational_dropout_backward, (grad, x, weights, -1.0)),
    ):
        with pytest.raises(ValueError, match="unknown backend 'cuda'"):
            function(*given, backend="cuda", **KEY)
        with pytest.raises(ValueError, match="num_threads must be"):
            function(*given, num_threads=0, **KEY)
        function(*given, backend="numpy", num_threads=2, **KEY)


# Arguments ----------------------------------------------------------------------------------------------------------


def test_keys_are_drawn_once():
    x, weights, log_sigma2, _, _ = operands()
    for layer in (
        partial(fastdrop.variational_dense, x, weights, log_sigma2),
        partial(fastdrop.variational_dropout, x, weights, -1.0),
        partial(fastdrop.variational_dropout, x, weights, -1.0, "B"),
    ):
        stream = fastdrop.Stream(SEED, OFFSET)
        assert_same_bytes(layer(seed=stream), layer(**KEY))
        assert stream.offset == OFFSET + 1
        layer(seed=stream, training=False)
        assert stream.offset == OFFSET + 1


@pytest.mark.parametrize("type", ["A", "B"])
def test_the_backward_passes_draw_once_or_not_at_all(type):
    x, weights, _, _, grad = operands()
    stream = fastdrop.Stream(SEED, OFFSET)
    for bad in ({"start": -1}, {"log_alpha": 1e3, "max_log_alpha": None}):
        with pytest.raises(ValueError, match=r"start must be|below 709"):
            fastdrop.variational_dropout_backward(
                **{"grad": grad, "x": x, "weights": weights, "log_alpha": 0.0, "type": type, "seed": stream, **bad}
            )
    got = fastdrop.variational_dropout_backward(grad, x, weights, -1.0, type, seed=stream)
    assert stream.offset == OFFSET + 1
    for one, other in zip(got, fastdrop.variational_dropout_backward(grad, x, weights, -1.0, type, **KEY), strict=True):
        assert_same_bytes(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_the_backward_passes_need_a_seed(training):
    x, weights, log_sigma2, _, grad = operands()
    with pytest.raises(TypeError, match="seed must be given"):
        fastdrop.variational_dense_backward(grad, x, weights, log_sigma2, seed=None, training=training)
    for type in "AB":
        with pytest.raises(TypeError, match="seed must be given"):
            fastdrop.variational_dropout_backward(grad, x, weights, -1.0, type, seed=None, training=training)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"x must have shape \(\.\.\., in\) and weights \(in, out\)", {"x": np.ones((5, 3))}),
        (ValueError, r"x must have shape", {"weights": np.ones(4)}),
        (ValueError, r"x must have shape", {"x": np.float64(1)}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((5, 4), int)}),
        (TypeError, "weights must have the dtype of x, float64", {"weights": np.ones((4, 3), np.float32)}),
        (ValueError, r"bias must have .*shape \(3,\)", {"bias": np.ones(4)}),
        (ValueError, "offset must be", {"offset": -1}),
        (ValueError, "start must be", {"start": -1}),
    ],
)
def test_bad_layers(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((5, 4)), "weights": np.ones((4, 3)), "seed": 1 if "offset" in arguments else stream}
    for function, more in (
        (fastdrop.variational_dense, {"log_sigma2": np.ones((4, 3))}),
        (fastdrop.variational_dropout, {"log_alpha": -1.0, "type": "A"}),
        (fastdrop.variational_dropout, {"log_alpha": -1.0, "type": "B"}),
    ):
        with pytest.raises(error, match=words):
            function(**{**good, **more, **arguments})
    assert stream.offset == 0


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "type must be 'A'", lambda x, w: fastdrop.variational_dropout(x, w, -1.0, "C")),
        (ValueError, "does not broadcast .* of x", lambda x, w: fastdrop.variational_dropout(x, w, np.ones(3))),
        (ValueError, "does not broadcast .* of weights", lambda x, w: fastdrop.variational_dropout(x, w, np.ones(4), "B")),
        (TypeError, "log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, "small")),
        (TypeError, "max_log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, 0.0, max_log_alpha="1")),
        (ValueError, "max_log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, 0.0, max_log_alpha=np.nan)),
        (ValueError, "below 709", lambda x, w: fastdrop.variational_dropout(x, w, 1e3, "B", max_log_alpha=None)),
        (ValueError, "below 709", lambda x, w: fastdrop.variational_dropout(x, w, np.nan)),
        (ValueError, r"log_sigma2 must have .*\(4, 3\)", lambda x, w: fastdrop.variational_dense(x, w, w[:2])),
        (TypeError, "threshold must be", lambda x, w: fastdrop.variational_dense(x, w, w, threshold=None, training=False)),
        (ValueError, "grad must have .*shape", lambda x, w: fastdrop.variational_dense_backward(x, x, w, w, seed=1)),
        (ValueError, "rule must be", lambda x, w: fastdrop.variational_kl(0.0, "exact")),
        (TypeError, "log_alpha must be", lambda x, w: fastdrop.variational_kl(None)),
        (ValueError, "does not broadcast", lambda x, w: fastdrop.variational_kl(np.ones(4), shape=(4, 3))),
        (ValueError, "rule must be", lambda x, w: fastdrop.variational_kl_backward(0.0, "exact")),
        (ValueError, "log_sigma2 must have the shape", lambda x, w: fastdrop.log_alpha_of(w, w[0])),
        (TypeError, "log_sigma2 must have the dtype", lambda x, w: fastdrop.prune(w, w.astype(np.float32))),
        (TypeError, "weights must have a floating", lambda x, w: fastdrop.log_alpha_of(np.ones(3, int), np.ones(3))),
        (ValueError, "grad must have the shape", lambda x, w: fastdrop.log_alpha_of_backward(x, w, w)),
        (ValueError, "threshold must be", lambda x, w: fastdrop.prune(w, w, np.nan)),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call(np.ones((5, 4)), np.ones((4, 3)))
