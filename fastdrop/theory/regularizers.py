"""The regularizers that dropout of a linear network, or of a matrix factorization, amounts to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastdrop._core import plan
from fastdrop._core.checks import as_floats, check_iterable, require
from fastdrop._core.plan import rounding_to_nearest
from fastdrop.theory.noise import Floats, noise_variance, rate_array

__all__ = [
    "dropout_regularizer",
    "dropout_regularizer_backward",
    "matrix_completion_regularizer",
    "nuclear_norm_envelope",
]


@rounding_to_nearest
def dropout_regularizer(
    weights: Sequence[ArrayLike],
    cov: ArrayLike | None = None,
    p: float | Sequence[float] = 0.5,
    *,
    layers: Sequence[int] | None = None,
) -> float:
    """Return the explicit regularizer of dropout in a linear network: the term that it adds to the expected squared loss.

    For inputs x with the second moment C = E[x^T x], the expected squared loss with (inverted) dropout is the loss without
    dropout plus E||f(x, mask) - f(x)||**2. The function returns this term.

    Parameters
    ----------
    weights : sequence of array_like
        The matrices of the layers from first to last, each of shape (in, out): f(x) = x W[0] W[1] ... W[-1].
    cov : array_like, optional
        The second moment C, of shape (in, in), symmetric. By default it is the identity, as for matrix factorization.
    p : float or sequence of float, default 0.5
        Probability of dropping, in [0, 1), or one probability for each of `layers`.
    layers : sequence of int, optional
        The layers whose outputs are dropped, as increasing indices into `weights`. By default all layers but the last: the
        hidden units.

    Returns
    -------
    float
        The term, >= 0 for a positive semidefinite `cov`. For two layers, f(x) = x V U with the columns v_j of V and the rows
        u_j of U, it is a * sum_j(||u_j||**2 v_j^T C v_j), where a = p / (1 - p).

    Raises
    ------
    TypeError
        An argument is not a real number, or an index is not an integer.
    ValueError
        Shapes do not fit together, `cov` is not finite and symmetric, `p` is outside [0, 1), or `layers` are not increasing
        indices.

    See Also
    --------
    dropout_regularizer_backward : the gradient with respect to the weights.
    nuclear_norm_envelope : a lower bound that depends on the product of the weights alone.

    Notes
    -----
    The function takes O(k d**3) operations for k layers of d units. For each layer it computes S, the second moment of the
    output without dropout, and D, the amount that dropout adds to it. A layer with the weights W turns D into W^T D W. Dropout
    of its output then adds a diag(S + D). The regularizer is the trace of the last D. It equals the paper's sum over all
    subsets of dropped layers.

    References
    ----------
    .. [1] P. Mianjy, R. Arora, "On dropout and nuclear norm regularization", ICML 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.theory.dropout_regularizer([np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([[1.0], [2.0]])], np.eye(2), 0.5)
    41.0
    """
    matrices, second, noise = linear_network(weights, cov, p, layers)
    return float(np.trace(moments_through(matrices, second, noise)[-1][1]))


@rounding_to_nearest
def dropout_regularizer_backward(
    weights: Sequence[ArrayLike],
    cov: ArrayLike | None = None,
    p: float | Sequence[float] = 0.5,
    *,
    layers: Sequence[int] | None = None,
) -> list[Floats]:
    """Return the gradient of `dropout_regularizer` with respect to each of the weights.

    Parameters
    ----------
    weights, cov, p, layers
        As in `dropout_regularizer`.

    Returns
    -------
    list of numpy.ndarray
        The gradients, of float64 and of the shapes of the weights. For two layers, f(x) = x V U, the gradient with respect to
        u_j is 2 a (v_j^T C v_j) u_j, and with respect to v_j it is 2 a ||u_j||**2 C v_j.

    Raises
    ------
    TypeError, ValueError
        As in `dropout_regularizer`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weights = [np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([[1.0], [2.0]])]
    >>> first, second = fastdrop.theory.dropout_regularizer_backward(weights, np.eye(2), 0.5)
    >>> first, second
    (array([[ 2., 24.],
           [ 4.,  0.]]), array([[10.],
           [36.]]))
    """
    matrices, second, noise = linear_network(weights, cov, p, layers)
    slope = np.eye(len(matrices[-1]))  # of the output's trace, by the second moment without noise; with noise, more
    excess = np.zeros_like(slope)
    gradients = []
    before = moments_through(matrices, second, noise)[:-1]
    for matrix, a, (moment, more) in zip(reversed(matrices), reversed(noise), reversed(before), strict=True):
        excess = excess + a * np.diag(np.diag(slope + excess))
        gradients.append((2.0 * (excess @ matrix @ (moment + more) + slope @ matrix @ more)).T)
        slope, excess = matrix.T @ slope @ matrix, matrix.T @ excess @ matrix
    return gradients[::-1]


def linear_network(
    weights: Sequence[ArrayLike], cov: ArrayLike | None, p: Any, layers: Sequence[int] | None
) -> tuple[list[Floats], Floats, list[float]]:
    """Return the matrices as (out, in), the second moment of the input, and the variance of the noise after each layer."""
    check_iterable(weights, "weights")
    if layers is not None:
        check_iterable(layers, "layers")
    matrices = [as_floats(weight, f"weights[{i}]", 2).T for i, weight in enumerate(weights)]
    if not matrices:
        raise ValueError("weights must be the matrices of at least one layer; got none")
    for i, (first, second) in enumerate(itertools.pairwise(matrices)):
        if second.shape[1] != first.shape[0]:
            shape = second.T.shape
            raise ValueError(f"weights[{i + 1}] must take the {first.shape[0]} outputs of the layer before; got {shape}")
    dropped = list(range(len(matrices) - 1)) if layers is None else [plan.as_count(i, "each of layers") for i in layers]
    if dropped != sorted(set(dropped)) or (dropped and dropped[-1] >= len(matrices)):
        raise ValueError(f"layers must be increasing indices of the {len(matrices)} weights; got {layers!r}")
    noise = [0.0] * len(matrices)
    for i, a in zip(dropped, noise_variances(p, len(dropped)), strict=True):
        noise[i] = a
    return matrices, second_moment(cov, matrices[0].shape[1]), noise


def noise_variances(p: Any, count: int) -> list[float]:
    """Return the variance of the factors of inverted dropout, for one p or for one p per layer, `count` times."""
    rates = rate_array(p)
    if rates.ndim and rates.shape != (count,):
        raise ValueError(f"p must be one number, or one for each of the {count} layers that are dropped; got {p!r}")
    if (rates == 1).any():
        raise ValueError(f"p must be below 1: with nothing kept, the term that dropout adds to the loss is infinite; got {p!r}")
    found: list[float] = np.broadcast_to(noise_variance(rates), (count,)).tolist()
    return found


def second_moment(cov: ArrayLike | None, features: int) -> Floats:
    """Return the second moment of the inputs, or raise an error that names the fault."""
    if cov is None:
        return np.eye(features)
    matrix = as_floats(cov, "cov")
    require(bool(np.isfinite(matrix).all()), "cov", "finite", cov)
    if matrix.shape != (features, features):
        raise ValueError(f"cov must have shape {(features, features)}, one row per input; got {matrix.shape}")
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-6 * np.abs(matrix).max(initial=0.0)):
        raise ValueError("cov must be the symmetric matrix of the second moments of the inputs; it is not symmetric")
    return matrix


def moments_through(matrices: list[Floats], second: Floats, noise: list[float]) -> list[tuple[Floats, Floats]]:
    """Return the second moment without noise and its excess with noise, for the input and for the output of each layer."""
    moment, excess = second, np.zeros_like(second)
    found = [(moment, excess)]
    for matrix, a in zip(matrices, noise, strict=True):
        moment, excess = matrix @ moment @ matrix.T, matrix @ excess @ matrix.T
        excess = excess + a * np.diag(np.diag(moment + excess))
        found.append((moment, excess))
    return found


@rounding_to_nearest
def nuclear_norm_envelope(
    weight: ArrayLike, cov: ArrayLike | None, p: float | Sequence[float], widths: int | Sequence[int]
) -> float:
    """Return a lower bound of `dropout_regularizer` over all networks whose weights have the same product.

    Parameters
    ----------
    weight : array_like
        The product W of all weights, of shape (in, out).
    cov : array_like or None
        The second moment C of the input; None for the identity.
    p : float or sequence of float
        Probability of dropping, in [0, 1), or one probability for each of `widths`.
    widths : int or sequence of int
        The number of units of each layer that is dropped.

    Returns
    -------
    float
        (prod_i (1 + a_i / d_i) - 1) ||C^(1/2) W||_*^2 with a_i = p_i / (1 - p_i) and widths d_i, where ||.||_* is the sum of
        the singular values.

    Raises
    ------
    TypeError, ValueError
        As in `dropout_regularizer`; or `weight` is not finite, a width is below 1, or `cov` has negative eigenvalues.

    Notes
    -----
    With one hidden layer the bound is (a / d) ||C^(1/2) W||_*^2. The networks that attain it have the same product
    ||u_j|| ||C^(1/2) v_j|| for all units: dropout regularizes the nuclear norm, and makes the units equally important.

    References
    ----------
    .. [1] P. Mianjy, R. Arora, "On dropout and nuclear norm regularization", ICML 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> round(fastdrop.theory.nuclear_norm_envelope(np.diag([3.0, 1.0]), None, 0.5, 4), 6)
    4.0
    """
    matrix = as_floats(weight, "weight", 2).T
    require(bool(np.isfinite(matrix).all()), "weight", "finite", weight)
    is_one = not isinstance(widths, (list, tuple)) and np.ndim(widths) == 0
    each: Any = [widths] if is_one else widths
    check_iterable(each, "widths")
    sizes = [plan.as_count(size, "each of widths") for size in each]
    if not sizes or min(sizes) < 1:
        raise ValueError(f"widths must be >= 1, one for each layer that is dropped; got {widths!r}")
    noise = noise_variances(p, len(sizes))
    values, vectors = np.linalg.eigh(second_moment(cov, matrix.shape[1]))
    if values.size and values[0] < -1e-9 * np.abs(values).max():
        raise ValueError(f"cov must have no negative eigenvalues; the least is {values[0]}")
    singular = np.linalg.svd(matrix @ vectors * np.sqrt(np.maximum(values, 0.0)), compute_uv=False)
    factor = math.expm1(math.fsum(math.log1p(a / size) for a, size in zip(noise, sizes, strict=True)))
    return factor * float(singular.sum()) ** 2


@rounding_to_nearest
def matrix_completion_regularizer(
    u: ArrayLike,
    v: ArrayLike,
    p: float = 0.5,
    *,
    row_probabilities: ArrayLike | None = None,
    column_probabilities: ArrayLike | None = None,
) -> float:
    """Return the term that dropout of the factors' columns adds to the expected squared loss of matrix completion.

    Entry (i, j) of a matrix is drawn with the probability r_i c_j and fitted by u_i . (mask * v_j). The expected loss is the
    loss without dropout plus this term. The envelope of the term is the square of a weighted trace norm.

    Parameters
    ----------
    u, v : array_like
        The factors, of shapes (rows, d) and (columns, d).
    p : float, default 0.5
        Probability of dropping each of the d columns, in [0, 1). Kept columns are scaled by 1 / (1 - p).
    row_probabilities, column_probabilities : array_like, optional
        The probabilities r and c, of shapes (rows,) and (columns,). By default all rows are equally probable, and all columns.

    Returns
    -------
    float
        a * sum_k((sum_i r_i u_ik**2) (sum_j c_j v_jk**2)), where a = p / (1 - p). It is at least the `nuclear_norm_envelope`
        of diag(sqrt(r)) U V^T diag(sqrt(c)) for `p` and the width d.

    Raises
    ------
    TypeError, ValueError
        An argument is not a real number, shapes do not fit together, `p` is outside [0, 1), or probabilities are negative.

    References
    ----------
    .. [1] R. Arora, P. Bartlett, P. Mianjy, N. Srebro, "Dropout: explicit forms and capacity control", arXiv:2003.03397
       (2020).

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.theory.matrix_completion_regularizer([[1.0, 2.0], [3.0, 0.0]], [[1.0, 1.0]], 0.5)
    7.0
    """
    left, right = as_floats(u, "u", 2), as_floats(v, "v", 2)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"u and v must have the same number of columns; got shapes {left.shape} and {right.shape}")
    rows = entry_probabilities(row_probabilities, len(left), "row_probabilities")
    columns = entry_probabilities(column_probabilities, len(right), "column_probabilities")
    (a,) = noise_variances(plan.as_rate(p), 1)
    return a * float(((rows @ (left * left)) * (columns @ (right * right))).sum())


def entry_probabilities(given: ArrayLike | None, count: int, name: str) -> Floats:
    """Return probabilities of rows or columns, equal ones by default, or raise an error that names the fault."""
    if given is None:
        return np.full(count, 1.0 / max(count, 1))
    found = as_floats(given, name)
    if found.shape != (count,) or not ((found >= 0) & (found < np.inf)).all():
        raise ValueError(f"{name} must have shape {(count,)} and be finite and >= 0; got {given!r}")
    return found
