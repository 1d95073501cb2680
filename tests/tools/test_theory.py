"""Closed forms against Monte Carlo over real masks, against SciPy, against sums written out."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from comparisons import DTYPES, assert_same_bytes, normal

import fastdrop
from fastdrop import losses, theory
from fastdrop.variants._blocks import chance_of_any, expected_dropped, solve_rate
from fastdrop.verify.cases import spoiled

# Variance shift -----------------------------------------------------------------------------------------------------

N = 400_000


def correlated(n, features, mean, var, correlation, seed):
    """Return normal variables of this mean, variance and correlation."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, features))
    return mean + math.sqrt(var) * (math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own)


@pytest.mark.parametrize(("p", "mean", "var"), [(0.5, 0.0, 1.0), (0.2, 1.5, 0.5), (0.7, -1.0, 4.0)])
def test_variance_shift_of_real_masks(p, mean, var):
    x = correlated(N, 1, mean, var, 0, 1)
    for mode in ("inverted", "standard"):
        y = fastdrop.dropout(x, p, seed=2, mode=mode)
        outside = fastdrop.dropout(x, p, training=False, mode=mode)
        assert abs(outside.var() / y.var() / theory.variance_shift(p, mean, var) - 1) < 0.015
    assert math.isclose(theory.variance_inflation(p, mean, var), 1 + p / (1 - p) * (1 + mean**2 / var), rel_tol=1e-14)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_variance_shift_through_weights(correlation):
    w = np.array([[1.0, 2.0, -0.5, 1.5], [1.0, -1.0, 1.0, -1.0]])
    x = correlated(N, 4, 0.7, 2.0, correlation, 3)
    found = theory.variance_shift(0.4, 0.7, 2.0, weights=w.T, correlation=correlation)
    assert found.shape == (2,)
    with_masks = fastdrop.dropout(x, 0.4, seed=4) @ w.T
    assert np.allclose((x @ w.T).var(axis=0) / with_masks.var(axis=0), found, rtol=0.015)
    for row, one in zip(w, found, strict=True):
        assert theory.variance_shift(0.4, 0.7, 2.0, weights=row, correlation=correlation) == one


def test_variance_shift_of_uniform_noise():
    x = correlated(N, 1, 0.7, 2.0, 0, 5)
    y = fastdrop.uniform_dropout(x, 0.9, seed=6)
    found = theory.variance_shift(mean=0.7, var=2.0, half_width=0.9)
    assert abs(x.var() / y.var() / found - 1) < 0.005
    assert math.isclose(theory.variance_shift(half_width=0.5), 3 / (3 + 0.25), rel_tol=1e-15)  # the paper's


def test_variance_shift_at_the_ends():
    assert theory.variance_shift(0.0, 3.0, 2.0) == 1.0
    assert theory.variance_shift(1.0) == 0.0
    assert theory.variance_inflation(1.0) == math.inf
    assert isinstance(theory.variance_shift(0.5), float)
    found = theory.variance_shift([[0.0], [1.0]], [0.0, 1.0, 2.0])
    assert found.tolist() == [[1.0] * 3, [0.0] * 3]
    shifts = theory.variance_shift(np.linspace(0, 1, 11), 1.0, 2.0)
    assert (np.diff(shifts) < 0).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_variance_shift_at_any_scale(scale):
    given = {"mean": 1.0, "var": 2.0, "correlation": 0.5}
    for weights in ([1.0, 2.0, -0.5], [[1.0, 0.25], [-2.0, 4.0]]):
        found = theory.variance_shift(0.4, **given, weights=np.multiply(weights, scale))
        np.testing.assert_allclose(found, theory.variance_shift(0.4, **given, weights=weights), rtol=1e-14)
    assert theory.variance_shift([0.0, 0.5], mean=scale).tolist() == [1.0, 0.5 if scale < 1 else 0.0]
    assert theory.variance_inflation(0.0, mean=scale) == 1.0


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"p must be in \[0, 1\]", {"p": 1.1}),
        (ValueError, r"p must be in \[0, 1\]", {"p": [0.5, np.nan]}),
        (ValueError, "half_width must be finite and >= 0; got -0.1", {"p": None, "half_width": -0.1}),
        (TypeError, "half_width must be real numbers", {"p": None, "half_width": "a"}),
        (TypeError, "either p or half_width must be given", {"half_width": 0.1}),
        (TypeError, "either p or half_width must be given", {"p": None}),
        (TypeError, r"p must be a number in \[0, 1\]", {"p": "a"}),
        (TypeError, "p must be real numbers", {"p": ["a"]}),
        (ValueError, "p must be an array, or lists", {"p": [[0.5], [0.5, 0.1]]}),
        (ValueError, "var finite and above 0", {"var": 0.0}),
        (ValueError, "mean must be finite", {"mean": np.inf}),
        (ValueError, r"correlation must be in \[-1, 1\]", {"correlation": 1.1}),
        (ValueError, "correlation -0.6 is not possible", {"correlation": -0.6, "weights": [1.0, 1.0, 1.0]}),
        (ValueError, "weights must have shape", {"weights": 1.0}),
        (ValueError, "weights must have shape", {"weights": np.ones((2, 2, 2))}),
        (ValueError, "not all be 0", {"weights": [[1.0, 0.0], [1.0, 0.0]]}),
    ],
)
def test_bad_variance_shift(error, words, arguments):
    for function in (theory.variance_shift, theory.variance_inflation):
        with pytest.raises(error, match=words):
            function(**{"p": 0.5, **arguments})


# Moments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_fast_dropout_moments_of_real_masks(mode):
    x, weight, bias, n = normal((3, 5), seed=1), normal((4, 5), seed=2), normal(4, seed=3), 40_000
    mean, variance = theory.fast_dropout_moments(x, weight.T, 0.3, bias, mode=mode)
    dropped = fastdrop.dropout(np.broadcast_to(x, (n, 3, 5)), 0.3, seed=4, mode=mode)
    y = dropped @ weight.T + bias
    assert (np.abs(y.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    assert np.allclose(y.var(axis=0), variance, rtol=0.05)


def test_fast_dropout_and_drop_connect_have_the_same_moments():
    x, weight, bias = normal((3, 5), seed=1), normal((4, 5), seed=2), normal(4, seed=3)
    for mode in ("standard", "inverted"):
        want = theory.drop_connect_moments(x, weight.T, 0.3, bias=bias, mode=mode, drop_bias=False)
        for found, other in zip(theory.fast_dropout_moments(x, weight.T, 0.3, bias, mode=mode), want, strict=True):
            assert found.tobytes() == other.tobytes()
    one = theory.fast_dropout_moments(x[1], weight.T, 0.3)
    assert one[0].shape == one[1].shape == (4,)
    mean, variance = theory.fast_dropout_moments(x.astype(np.float16), weight.T, 1.0, bias)
    assert (mean == bias).all()
    assert mean.dtype == np.float64
    assert not variance.any()
    default, inverted = (theory.fast_dropout_moments(x, weight.T, 0.3, **mode) for mode in ({}, {"mode": "inverted"}))
    assert all(np.array_equal(found, other) for found, other in zip(default, inverted, strict=True))


@pytest.mark.parametrize("mode", ["standard", "inverted"])
def test_gradients_of_fast_dropout_moments(mode):
    operands = [normal((2, 3, 5), seed=1), normal((5, 4), seed=2), normal(4, seed=3)]
    grads = normal((2, 3, 4), seed=4), normal((2, 3, 4), seed=5)

    def loss(x, weight, bias):
        moments = theory.fast_dropout_moments(x, weight, 0.3, bias, mode=mode)
        return sum((g * moment).sum() for g, moment in zip(grads, moments, strict=True))

    without = theory.fast_dropout_moments_backward(*grads, *operands[:2], 0.3, mode=mode)
    found = theory.fast_dropout_moments_backward(*grads, *operands[:2], 0.3, operands[2], mode=mode)
    assert without[2] is None
    assert all(np.array_equal(a, b) for a, b in zip(without[:2], found[:2], strict=True))
    for k, want in enumerate(found):
        assert want.shape == operands[k].shape
        for index in np.ndindex(want.shape):
            sides = []
            for step in (1e-4, -1e-4):
                moved = [operand.copy() for operand in operands]
                moved[k][index] += step
                sides.append(loss(*moved))
            assert abs((sides[0] - sides[1]) / 2e-4 - want[index]) < 1e-8


def expectation(function, mean, variance):
    """Return the mean of a function of a normal variable, by quadrature."""
    s, points = math.sqrt(variance), (-mean / math.sqrt(variance), 0)
    density = scipy.stats.norm.pdf
    found, _ = scipy.integrate.quad(lambda t: function(mean + s * t) * density(t), -12, 12, points=points, limit=200)
    return found


GAUSSIANS = list(itertools.product((-10.0, -3.0, -0.5, 0.0, 1.0, 4.0, 9.0), (0.01, 0.5, 4.0, 25.0, 1e4)))


def test_sigmoid_moments_against_quadrature():
    for m, v in GAUSSIANS:
        mean, variance = theory.sigmoid_moments(m, v)
        first, second = (expectation(lambda t, k=k: scipy.special.expit(t) ** k, m, v) for k in (1, 2))
        assert abs(mean - first) < 0.0165
        assert abs(variance - (second - first**2)) < 0.015
    mean, variance = theory.sigmoid_moments(np.array([[-1.0], [2.0]]), np.array([0.0, 1.0, 1e300]))
    assert np.allclose(mean[:, 0], scipy.special.expit([-1.0, 2.0]), rtol=1e-15)
    assert variance[:, 0].tolist() == [0.0, 0.0]
    assert np.allclose(mean[:, 2], 0.5)
    assert np.allclose(variance[:, 2], 0.25)


def test_the_variance_of_the_sigmoid_follows_from_its_mean():
    """The mean's derivative by m is the mean of sigmoid (1 - sigmoid), which gives the second moment: here by differences."""
    for m, v in GAUSSIANS:
        above, below = (theory.sigmoid_moments(m + step, v)[0] for step in (1e-5, -1e-5))
        mean, variance = theory.sigmoid_moments(m, v)
        assert math.isclose(variance, mean - (above - below) / 2e-5 - mean**2, rel_tol=1e-6, abs_tol=1e-10)


def test_relu_moments_against_quadrature():
    for m, v in GAUSSIANS:
        mean, variance = theory.relu_moments(m, v)
        first, second = (expectation(lambda t, k=k: max(t, 0.0) ** k, m, v) for k in (1, 2))
        scale = max(abs(m), math.sqrt(v))
        assert abs(mean - first) < 1e-9 * scale
        assert abs(variance - (second - first**2)) < 1e-8 * scale**2


def test_relu_moments_at_the_ends():
    mean, variance = theory.relu_moments([-2.0, 0.0, 2.0, 1e6, -1e6, 1e200], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert mean.tolist() == [0.0, 0.0, 2.0, 1e6, 0.0, 1e200]
    assert variance.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]  # no loss by cancellation
    rectified = scipy.stats.norm.cdf(-5.0), scipy.stats.norm.pdf(-5.0)
    assert math.isclose(theory.relu_moments(-5.0, 1.0)[0], -5 * rectified[0] + rectified[1], rel_tol=1e-10)


@pytest.mark.parametrize("moments", [theory.sigmoid_moments, theory.relu_moments])
def test_moments_of_many_dimensions(moments):
    m, v = normal(6).reshape(2, *(1,) * 48, 3), np.array([0.5, 1.0, 0.0])
    for found, want in zip(moments(m, v), moments(m.reshape(2, 3), v), strict=True):
        assert found.shape == m.shape
        np.testing.assert_array_equal(found.reshape(2, 3), want)
    shift = theory.variance_shift(0.5, m, v + 1)
    np.testing.assert_array_equal(shift.reshape(2, 3), theory.variance_shift(0.5, m.reshape(2, 3), v + 1))


def test_moments_through_a_layer_and_its_activation():
    """Fast dropout end to end: moments of a wide layer's units against real masks."""
    x, weight, n = np.abs(normal(200, seed=1)), normal((6, 200), seed=2) / 14, 20_000
    mean, variance = theory.fast_dropout_moments(x, weight.T, 0.5)
    units = fastdrop.dropout(np.broadcast_to(x, (n, 200)), 0.5, seed=3) @ weight.T
    found = theory.relu_moments(mean, variance)
    rectified = np.maximum(units, 0)
    assert np.allclose(rectified.mean(axis=0), found[0], atol=0.02)
    assert np.allclose(rectified.var(axis=0), found[1], rtol=0.06, atol=0.01)
    squashed = scipy.special.expit(units)
    found = theory.sigmoid_moments(mean, variance)
    assert np.allclose(squashed.mean(axis=0), found[0], atol=0.02)
    assert np.allclose(squashed.var(axis=0), found[1], atol=0.015)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "x must have shape", lambda: theory.fast_dropout_moments(np.ones(3), np.ones((4, 2)))),
        (ValueError, "x must have shape", lambda: theory.fast_dropout_moments(1.0, np.ones((4, 2)))),
        (ValueError, "weight must have 2 dim", lambda: theory.fast_dropout_moments(np.ones(3), np.ones(3))),
        (ValueError, "bias must have shape", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 0.5, [1.0, 2.0])),
        (ValueError, "p must be in", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 1.5)),
        (ValueError, "mode must be", lambda: theory.fast_dropout_moments([1.0], [[1.0]], 0.5, mode="up")),
        (TypeError, "x must be real", lambda: theory.fast_dropout_moments([1j], [[1.0]])),
        (ValueError, "grad_mean", lambda: theory.fast_dropout_moments_backward([1.0, 2.0], [1.0], [1.0], [[1.0]])),
        (ValueError, "var must be >= 0", lambda: theory.sigmoid_moments(0.0, -1.0)),
        (ValueError, "var must be >= 0", lambda: theory.relu_moments(0.0, [1.0, np.nan])),
        (TypeError, "mean must be real", lambda: theory.relu_moments("a", 1.0)),
        (ValueError, "mean and var must broadcast", lambda: theory.relu_moments(np.ones(3), np.ones(2))),
        (ValueError, "p, mean, var and .* broadcast", lambda: theory.variance_shift(0.5, np.ones(3), np.ones(2))),
        (
            ValueError,
            "bias must have",
            lambda: theory.fast_dropout_moments_backward([1.0], [1.0], [1.0], [[1.0]], 0.5, 1.0),
        ),
    ],
)
def test_bad_moments(error, words, call):
    with pytest.raises(error, match=words):
        call()


# The regulariser ----------------------------------------------------------------------------------------------------


def network(widths, seed=1):
    """Return weights and the second moment of the inputs."""
    weights = [normal((out, into), seed=seed + i) for i, (into, out) in enumerate(itertools.pairwise(widths))]
    root = normal((widths[0], widths[0]), seed=seed + 50)
    return weights, root @ root.T / widths[0]


def turned(weights):
    """Return matrices of (out, in), which the transcriptions here have, as fastdrop takes them."""
    return [weight.T for weight in weights]


def by_subsets(weights, cov, p):
    """Transcribe the paper's sum: over all subsets of hidden layers, over one unit of each."""
    a, k, total = p / (1 - p), len(weights) - 1, 0.0
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(values)

    def product(first, last):  # of the layers first .. last - 1
        found = np.eye(weights[first].shape[1] if first < len(weights) else len(weights[-1]))
        for layer in range(first, last):
            found = weights[layer] @ found
        return found

    for size in range(1, k + 1):
        for subset in itertools.combinations(range(1, k + 1), size):
            for units in itertools.product(*(range(len(weights[j - 1])) for j in subset)):
                term = np.sum((product(0, subset[0])[units[0]] @ root) ** 2)
                for (j, i), (next_j, next_i) in itertools.pairwise(zip(subset, units, strict=True)):
                    term *= product(j, next_j)[next_i, i] ** 2
                total += a**size * term * np.sum(product(subset[-1], k + 1)[:, units[-1]] ** 2)
    return total


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 2, 4, 2), (2, 3, 2, 3, 2)])
def test_the_regularizer_against_the_sum_over_subsets(widths):
    weights, cov = network(widths)
    assert math.isclose(theory.dropout_regularizer(turned(weights), cov, 0.3), by_subsets(weights, cov, 0.3), rel_tol=1e-11)


def test_the_regularizer_of_two_layers():
    (v, u), cov = network((5, 7, 3))
    want = 0.25 / 0.75 * sum((u[:, j] ** 2).sum() * (v[j] @ cov @ v[j]) for j in range(7))
    assert math.isclose(theory.dropout_regularizer([v.T, u.T], cov, 0.25), want, rel_tol=1e-13)
    plain = 0.25 / 0.75 * sum((u[:, j] ** 2).sum() * (v[j] ** 2).sum() for j in range(7))
    assert math.isclose(theory.dropout_regularizer([v.T, u.T], None, 0.25), plain, rel_tol=1e-13)
    assert math.isclose(theory.dropout_regularizer([v.T, u.T], p=0.25), plain, rel_tol=1e-13)


@pytest.mark.parametrize("layers", [None, (1,), (0, 2)])
def test_the_regularizer_of_real_masks(layers):
    """The expected loss with masks is that without and the regulariser: over inputs whose moment is exactly C."""
    weights, _ = network((4, 6, 5, 3))
    inputs, targets, repeats = normal((10, 4), seed=8), normal((10, 3), seed=9), 40_000
    dropped = (0, 1) if layers is None else layers
    rates = (0.2, 0.4)[: len(dropped)]
    x = np.broadcast_to(inputs, (repeats, 10, 4))
    for i, weight in enumerate(weights):
        x = x @ weight.T
        if i in dropped:
            x = fastdrop.dropout(x, rates[dropped.index(i)], seed=10, offset=i)
    losses = ((x - targets) ** 2).sum(axis=2).mean(axis=1)
    plain = ((inputs @ np.linalg.multi_dot([w.T for w in weights]) - targets) ** 2).sum(axis=1).mean()
    found = theory.dropout_regularizer(turned(weights), inputs.T @ inputs / 10, rates, layers=layers)
    assert found > 0.2 * plain
    assert abs(losses.mean() - plain - found) < 5 * losses.std() / math.sqrt(repeats)
    assert losses.std() / math.sqrt(repeats) < 0.005 * found


@pytest.mark.parametrize("layers", [None, (1,), (0, 1, 2)])
def test_the_gradient_of_the_regularizer_by_differences(layers):
    weights, cov = network((3, 4, 2, 3))
    weights = turned(weights)
    found = theory.dropout_regularizer_backward(weights, cov, 0.3, layers=layers)
    for k, gradient in enumerate(found):
        assert gradient.shape == weights[k].shape
        for index in np.ndindex(gradient.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [weight.copy() for weight in weights]
                moved[k][index] += step
                sides.append(theory.dropout_regularizer(moved, cov, 0.3, layers=layers))
            assert abs((sides[0] - sides[1]) / 2e-5 - gradient[index]) < 1e-6 * max(1, np.abs(gradient).max())


def test_the_gradient_of_two_layers():
    (v, u), cov = network((5, 7, 3))
    of_v, of_u = turned(theory.dropout_regularizer_backward([v.T, u.T], cov, 0.25))
    a, shares = 1 / 3, np.einsum("ji,ik,jk->j", v, cov, v)
    assert np.allclose(of_u, 2 * a * shares * u, rtol=1e-12)
    assert np.allclose(of_v, 2 * a * (u**2).sum(axis=0)[:, np.newaxis] * (v @ cov), rtol=1e-12)


def test_the_envelope_is_a_bound():
    for seed in range(20):
        weights, cov = network((4, 5, 3, 2), seed=100 * seed)
        product = np.linalg.multi_dot(weights[::-1])
        bound = theory.nuclear_norm_envelope(product.T, cov, 0.3, (5, 3))
        assert 0 < bound < theory.dropout_regularizer(turned(weights), cov, 0.3)
    values, vectors = np.linalg.eigh(cov)
    nuclear = np.linalg.svd(product @ (vectors * np.sqrt(values)) @ vectors.T, compute_uv=False).sum()
    a = 0.3 / 0.7
    assert math.isclose(bound, (a / 5 + a / 3 + a * a / 15) * nuclear**2, rel_tol=1e-12)


def equalised(product, cov, width):
    """Return the factors of a product, whose units all have the same share of the nuclear norm; width is a power of 2."""
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(values)) @ vectors.T
    left, singular, right = np.linalg.svd(product @ root, full_matrices=False)
    hadamard = np.ones((1, 1))
    while len(hadamard) < width:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    turn = hadamard[: len(singular)] / math.sqrt(width)
    u = left * np.sqrt(singular) @ turn
    v = turn.T @ (np.sqrt(singular)[:, np.newaxis] * right) @ np.linalg.inv(root)
    return [v, u]


@pytest.mark.parametrize("width", [4, 16])
def test_equalised_factors_attain_the_envelope(width):
    (first, second), cov = network((6, 4, 3))
    product = second @ first
    weights = equalised(product, cov, width)
    assert np.allclose(weights[1] @ weights[0], product, rtol=1e-9)
    bound = theory.nuclear_norm_envelope(product.T, cov, 0.4, width)
    assert math.isclose(theory.dropout_regularizer(turned(weights), cov, 0.4), bound, rel_tol=1e-9)
    gradient = turned(theory.dropout_regularizer_backward(turned(weights), cov, 0.4))
    assert math.isclose(sum((g * w).sum() for g, w in zip(gradient, weights, strict=True)), 4 * bound, rel_tol=1e-9)
    weights[0][0] *= 1.1  # other factors of the same product
    weights[1][:, 0] /= 1.1
    weights[0][1:] *= 1.2
    weights[1][:, 1:] /= 1.2
    assert math.isclose(theory.dropout_regularizer(turned(weights), cov, 0.4), bound, rel_tol=1e-9)  # scale does not count
    others = [np.diag([1.0, 0.5, 2.0, 1.0]) @ first, second @ np.diag([1.0, 2.0, 0.5, 1.0])]
    least = theory.nuclear_norm_envelope(product.T, cov, 0.4, 4)
    assert theory.dropout_regularizer(turned(others), cov, 0.4) > 1.01 * least


def test_matrix_completion_of_real_masks():
    u, v, matrix = normal((4, 3), seed=1), normal((5, 3), seed=2), normal((4, 5), seed=3)
    rows, columns = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.1, 0.2, 0.25, 0.15])
    found = theory.matrix_completion_regularizer(u, v, 0.4, row_probabilities=rows, column_probabilities=columns)
    n = 40_000
    masks = fastdrop.dropout(np.ones((n, 4, 5, 3)), 0.4, seed=4)  # a mask for each entry that is drawn
    errors = (matrix - np.einsum("ik,nijk,jk->nij", u, masks, v)) ** 2
    losses = np.einsum("nij,i,j->n", errors, rows, columns)
    plain = rows @ (matrix - u @ v.T) ** 2 @ columns
    assert abs(losses.mean() - plain - found) < 5 * losses.std() / math.sqrt(n)
    assert losses.std() / math.sqrt(n) < 0.015 * found
    weighted = np.sqrt(rows)[:, np.newaxis] * (u @ v.T) * np.sqrt(columns)
    assert 0 < theory.nuclear_norm_envelope(weighted.T, None, 0.4, 3) < found
    uniform = theory.matrix_completion_regularizer(u, v, 0.4)
    assert math.isclose(uniform, theory.dropout_regularizer([v, u.T], None, 0.4) / 20, rel_tol=1e-13)


def test_the_regularizer_at_the_ends():
    weights, cov = network((3, 4, 2))
    weights = turned(weights)
    assert theory.dropout_regularizer(weights, cov, 0.0) == 0.0
    assert theory.dropout_regularizer(weights[:1], cov, 0.5) == 0.0  # no hidden layer
    assert theory.dropout_regularizer(weights, cov, 0.5, layers=()) == 0.0
    assert not any(g.any() for g in theory.dropout_regularizer_backward(weights, cov, 0.0))
    assert theory.nuclear_norm_envelope(weights[0], cov, 0.0, 4) == 0.0
    assert theory.matrix_completion_regularizer(weights[0], weights[0], 0.0) == 0.0


W = (np.ones((3, 4)), np.ones((4, 2)))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "p must be below 1", lambda: theory.dropout_regularizer(W, None, 1.0)),
        (ValueError, r"p must be in \[0, 1\]", lambda: theory.dropout_regularizer(W, None, -0.1)),
        (ValueError, "p must be one number, or one for each", lambda: theory.dropout_regularizer(W, None, [0.1, 0.2])),
        (ValueError, "at least one layer", lambda: theory.dropout_regularizer([])),
        (ValueError, r"weights\[1\] must take the 4 outputs", lambda: theory.dropout_regularizer([W[0], W[0]])),
        (ValueError, r"weights\[0\] must have 2 dim", lambda: theory.dropout_regularizer([np.ones(3)])),
        (TypeError, r"weights\[0\] must be real", lambda: theory.dropout_regularizer([np.array([["a"]])])),
        (ValueError, "layers must be increasing", lambda: theory.dropout_regularizer(W, layers=(1, 0))),
        (ValueError, "layers must be increasing", lambda: theory.dropout_regularizer(W, layers=(2,))),
        (TypeError, "each of layers must be an integer", lambda: theory.dropout_regularizer(W, layers=(0.5,))),
        (ValueError, "cov must have shape", lambda: theory.dropout_regularizer(W, np.eye(4))),
        (ValueError, "cov must be symmetric", lambda: theory.dropout_regularizer(W, np.triu(np.ones((3, 3))))),
        (ValueError, "no negative eigenvalues", lambda: theory.nuclear_norm_envelope(W[0], -np.eye(3), 0.5, 4)),
        (ValueError, "widths must be >= 1", lambda: theory.nuclear_norm_envelope(W[0], None, 0.5, 0)),
        (ValueError, "widths must be >= 1", lambda: theory.nuclear_norm_envelope(W[0], None, 0.5, ())),
        (TypeError, "weights must be a sequence", lambda: theory.dropout_regularizer(np.array(0.5))),
        (TypeError, "widths must be a sequence", lambda: theory.nuclear_norm_envelope(W[0], None, 0.5, np.float64)),
        (TypeError, "each of widths must be an integer", lambda: theory.nuclear_norm_envelope(W[0], None, 0.5, 1.5)),
        (ValueError, "u and v must have the same number", lambda: theory.matrix_completion_regularizer(W[0], W[1])),
        (
            ValueError,
            "row_probabilities must have shape",
            lambda: theory.matrix_completion_regularizer(W[0].T, W[0].T, row_probabilities=[1.0]),
        ),
        (
            ValueError,
            "column_probabilities must have shape",
            lambda: theory.matrix_completion_regularizer(W[0].T, W[0].T, column_probabilities=[1.0, 0.0, -1.0, 0.0]),
        ),
    ],
)
def test_bad_regularizer(error, words, call):
    with pytest.raises(error, match=words):
        call()


# Rates of DropBlock --------------------------------------------------------------------------------------------------


def expected_share(gamma, spatial, block):
    """Return the expected share of cells dropped: for each cell, the places that cover it counted one by one."""
    places = list(itertools.product(*(range(size - length + 1) for size, length in zip(spatial, block, strict=True))))
    total = Fraction(0)
    for cell in itertools.product(*map(range, spatial)):
        n = sum(all(p <= c < p + b for p, c, b in zip(place, cell, block, strict=True)) for place in places)
        total += 1 - (1 - Fraction(gamma)) ** n
    return float(total / math.prod(spatial))


@pytest.mark.parametrize("p", [1e-12, 0.1, 0.5, 0.999])
@pytest.mark.parametrize(("spatial", "block"), [((14, 14), (7, 7)), ((5, 9), (4, 3)), ((3, 4, 5), (2, 2, 2)), ((11,), (11,))])
def test_the_exact_gamma_solves_its_equation(spatial, block, p):
    gamma = theory.drop_block_gamma(p, spatial, block, exact_rate=True)
    assert expected_share(gamma, spatial, block) == pytest.approx(p, rel=1e-13)


@pytest.mark.parametrize("p", [1e-300, 1e-12, 0.1, 1 / 3, 0.7, 1 - 2**-53])
def test_the_last_bit_of_the_exact_gamma(p):
    """Where one place covers all cells gamma is p itself; elsewhere the next double below drops too little."""
    assert theory.drop_block_gamma(p, (8,), 8, exact_rate=True) == p
    n, cells = np.array([1, 2, 3]), np.array([2.0, 2.0, 4.0])
    gamma = solve_rate(p, n, cells)
    assert expected_dropped(np.nextafter(gamma, 0), n, cells) < p * 8 <= expected_dropped(gamma, n, cells)
    assert chance_of_any(gamma, n[:1]) == gamma


def test_the_papers_gamma():
    assert theory.drop_block_gamma(0.1, (14, 14), 7) == pytest.approx(0.1 / 49 * 14**2 / 8**2, rel=1e-15)
    assert theory.drop_block_gamma(0.2, (5, 9, 4), (2, 3, 9)) == pytest.approx(0.2 * 180 / 24 / (4 * 7 * 1), rel=1e-15)
    assert expected_share(theory.drop_block_gamma(0.1, (14, 14), 7), (14, 14), (7, 7)) == pytest.approx(0.0929, abs=5e-5)
    assert theory.drop_block_gamma(1.0, (14, 14), 1) == 1.0


@pytest.mark.parametrize("spatial", [(10**12,), (2**40, 2**40), (10**6, 4)])
def test_the_rate_of_huge_maps_is_found_at_once(spatial):
    for exact_rate in (False, True):
        assert 0.09 / 9 < theory.drop_block_gamma(0.1, spatial, (9, 1)[: len(spatial)], exact_rate=exact_rate) < 0.12 / 9


def test_an_equation_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="an equation of at most 1048576 terms"):
        theory.drop_block_gamma(0.1, (2**21 + 1,), 2**20 + 1, exact_rate=True)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "spatial", {"spatial": (3, 0)}),
        (TypeError, "spatial", {"spatial": 14}),
        (TypeError, "spatial", {"spatial": "14"}),
        (TypeError, "spatial", {"spatial": (True, 3)}),
        (ValueError, "spatial must be one to three sizes", {"spatial": ()}),
        (ValueError, "spatial must be one to three sizes", {"spatial": (2, 2, 2, 2)}),
        (ValueError, "below 2", {"spatial": (2**63,)}),
        (ValueError, "block_size", {"block_size": 2**64}),
        (TypeError, "exact_rate must be True or False", {"exact_rate": None}),
        (ValueError, "p must be in", {"p": 2}),
    ],
)
def test_bad_rates_of_blocks(error, words, arguments):
    with pytest.raises(error, match=words):
        theory.drop_block_gamma(**{"p": 0.1, "spatial": (5, 5), "block_size": 2, **arguments})


# Concrete dropout ---------------------------------------------------------------------------------------------------


def concrete_mean_by_bisection(p, t):
    """Integrate over u with adaptive quadrature, cut where the decision turns."""
    turn = np.log((1 - p) / p)
    cuts = sorted({-60.0, 60.0, *(turn + t * np.array([-40, -20, -5, -1, 0, 1, 5, 20, 40])), -5.0, 0.0, 5.0})

    def integrand(v):
        return scipy.special.expit(v) * scipy.special.expit(-v) * scipy.special.expit((turn - v) / t)

    parts = [scipy.integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-13, limit=200)[0] for a, b in itertools.pairwise(cuts)]
    return math.fsum(parts) / (1 - p)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("t", [1e-3, 0.1, 2 / 3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.2, 0.5, 0.9, 0.99, 1 - 1e-6])
def test_concrete_mean(p, t):
    assert math.isclose(theory.concrete_mean(p, t), concrete_mean_by_bisection(p, t), rel_tol=1e-12)


def test_concrete_mean_at_the_ends():
    assert theory.concrete_mean(0.0, 0.1) == 1
    assert math.isclose(theory.concrete_mean(0.5, 0.3), 1, rel_tol=1e-15)
    assert [round(theory.concrete_mean(p, 2 / 3), 2) for p in (0.9, 0.99)] == [1.45, 2.01]
    limit = math.pi * 0.4 / math.sin(math.pi * 0.4)
    assert math.isclose(theory.concrete_mean(1 - 1e-12, 0.4), limit, rel_tol=1e-10)
    for bad, error in (((1.0, 0.1), ValueError), ((-0.1, 0.1), ValueError), ((0.5, 0), ValueError), (("0.5", 0.1), TypeError)):
        with pytest.raises(error, match="must be"):
            theory.concrete_mean(*bad)


# DropConnect --------------------------------------------------------------------------------------------------------


def connected(dtype, n=5):
    """Return the input, the weights and the bias of a layer of 6 inputs and 4 outputs."""
    return normal((n, 6), dtype, 1), normal((6, 4), dtype, 2), normal(4, dtype, 3)


@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("drop_bias", [True, False])
def test_moments_of_drop_connect(mode, drop_bias):
    x, weight, bias = connected(np.float64, 1)
    rule = {"bias": bias, "mode": mode, "drop_bias": drop_bias}
    mean, variance = theory.drop_connect_moments(x, weight, 0.3, **rule)
    n = 40_000
    y = fastdrop.drop_connect(np.repeat(x, n, axis=0), weight, 0.3, seed=6, **rule)
    assert (np.abs(y.mean(axis=0) - mean[0]) < 5 * np.sqrt(variance[0] / n)).all()
    assert np.allclose(y.var(axis=0), variance[0], rtol=0.05)
    outside = fastdrop.drop_connect(x, weight, 0.3, training=False, **rule)
    assert np.allclose(outside, mean, rtol=1e-13)


def test_moments_at_the_ends():
    x, weight, bias = connected(np.float32)
    for mode in ("standard", "inverted"):
        mean, variance = theory.drop_connect_moments(x, weight, 0.0, bias=bias, mode=mode)
        assert mean.dtype == np.float32
        assert np.allclose(mean, x.astype(float) @ weight + bias, rtol=2e-6, atol=2e-6)
        assert not variance.any()
        for moment in theory.drop_connect_moments(x, weight, 1.0, bias=bias, mode=mode):
            assert not moment.any()


# Variational dropout ------------------------------------------------------------------------------------------------

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
