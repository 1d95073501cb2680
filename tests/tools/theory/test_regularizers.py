"""The regularizers that dropout amounts to: against sums written out, real masks and finite differences."""

import itertools
import math

import numpy as np
import pytest
from comparisons import normal

import fastdrop
from fastdrop import theory


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
    """The expected loss with masks is that without and the regularizer: over inputs whose moment is exactly C."""
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
        (ValueError, "cov must be the symmetric matrix", lambda: theory.dropout_regularizer(W, np.triu(np.ones((3, 3))))),
        (ValueError, "cov must be finite", lambda: theory.dropout_regularizer(W, np.full((3, 3), np.inf))),
        (ValueError, "cov must be finite", lambda: theory.nuclear_norm_envelope([[1.0]], [[np.inf]], 0.5, 4)),
        (ValueError, "weight must be finite", lambda: theory.nuclear_norm_envelope([[np.nan]], None, 0.5, 4)),
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
