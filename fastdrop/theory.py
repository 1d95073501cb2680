"""Closed forms of the effect of dropout: variance shift, fast dropout, and the regularizers that dropout amounts to.

All functions compute in float64 with NumPy and its BLAS. Their last bits may differ between machines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import (
    as_finite_number,
    as_finite_scalar,
    as_floats,
    as_positive_number,
    as_real_array,
    check_iterable,
    required,
)
from fastdrop._core.concrete import soft_keep_mean
from fastdrop._core.numbers import Linear
from fastdrop._core.plan import Call, rounding_to_nearest
from fastdrop._core.types import Backend, Mode
from fastdrop.elementary import sigmoid
from fastdrop.variants._blocks import check_block_size, check_map_sizes, seed_rate
from fastdrop.variants._probabilities import keep_probabilities, multinomial_probabilities
from fastdrop.variants._variational import BOUNDS, find_pruned, unclipped_log_alpha

__all__ = [
    "concrete_mean",
    "drop_block_gamma",
    "drop_connect_moments",
    "dropout_regularizer",
    "dropout_regularizer_backward",
    "fast_dropout_moments",
    "fast_dropout_moments_backward",
    "keep_probabilities",
    "log_alpha",
    "log_alpha_backward",
    "matrix_completion_regularizer",
    "multinomial_probabilities",
    "nuclear_norm_envelope",
    "prune",
    "relu_moments",
    "sigmoid_moments",
    "variance_inflation",
    "variance_shift",
]

Floats = NDArray[np.float64]


# Variance shift -----------------------------------------------------------------------------------------------------


@rounding_to_nearest
def variance_shift(
    p: ArrayLike | None = None,
    mean: ArrayLike = 0.0,
    var: ArrayLike = 1.0,
    *,
    half_width: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    correlation: float = 0.0,
) -> Any:
    """Return the variance of activations at inference divided by their variance in training with dropout.

    A batch normalization that follows dropout divides by the wrong variance at inference: its running variance is that of
    training.

    Parameters
    ----------
    p : float or array_like, optional
        Probability of dropping, in [0, 1]. Give either `p` or `half_width`. The result holds for both modes of `dropout`, and
        for Gaussian noise of the variance p / (1 - p).
    mean, var : float or array_like, default 0 and 1
        Mean and variance of the activations without dropout; `var` is above 0.
    half_width : float or array_like, optional
        The half width of uniform noise instead of dropout, >= 0.
    weights : array_like, optional
        The weights of a linear layer between dropout and the normalization, of shape (in,), or of shape (in, out) for one
        result per output. By default there is no layer between them.
    correlation : float, default 0
        The correlation of any two activations that `weights` add up, in [-1, 1].

    Returns
    -------
    float or numpy.ndarray
        The ratio, in [0, 1], of the shape that the arguments broadcast to. It is 0 where p is 1.

    Raises
    ------
    TypeError
        An argument is not a real number, or not exactly one of `p` and `half_width` is given.
    ValueError
        A number is out of range, shapes do not fit together, or so many activations cannot have this correlation.

    See Also
    --------
    variance_inflation : the inverse.

    Notes
    -----
    For activations of mean c, variance v and correlation rho, multiplied by noise of mean 1 and variance a, the ratio is

        v (1 + rho K) / (v (1 + rho K) + a (c**2 + v)),    K = (sum w)**2 / sum(w**2) - 1.

    Here a is p / (1 - p) for dropout and half_width**2 / 3 for uniform noise, and K is 0 without weights.

    References
    ----------
    .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
       variance shift", CVPR 2019.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.theory.variance_shift(0.5)
    0.5
    >>> fastdrop.theory.variance_shift(0.5, mean=1.0, var=2.0)
    0.4
    >>> round(fastdrop.theory.variance_shift(0.5, weights=[1.0, 1.0, 1.0], correlation=0.5), 3)
    0.667
    >>> fastdrop.theory.variance_shift(half_width=[0.1, 0.3]).round(4)
    array([0.9967, 0.9709])
    """
    signal, excess = signal_and_excess(noise_variance(p, half_width), mean, var, weights, correlation)
    return float_or_array(np.where(np.isinf(excess), 0.0, signal / (signal + excess)))


@rounding_to_nearest
def variance_inflation(
    p: ArrayLike | None = None,
    mean: ArrayLike = 0.0,
    var: ArrayLike = 1.0,
    *,
    half_width: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    correlation: float = 0.0,
) -> Any:
    """Return the factor by which dropout multiplies the variance of activations in training.

    Parameters
    ----------
    p, mean, var, half_width, weights, correlation
        As in `variance_shift`.

    Returns
    -------
    float or numpy.ndarray
        1 / `variance_shift`. Without weights it is 1 + a (1 + mean**2 / var) for noise of the variance a. It is infinite
        where p is 1.

    Raises
    ------
    TypeError, ValueError
        As in `variance_shift`.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.theory.variance_inflation(0.5, mean=1.0, var=2.0)
    2.5
    """
    signal, excess = signal_and_excess(noise_variance(p, half_width), mean, var, weights, correlation)
    return float_or_array(1.0 + excess / signal)


def signal_and_excess(
    noise: Floats, mean: ArrayLike, var: ArrayLike, weights: ArrayLike | None, correlation: Any
) -> tuple[Floats, Floats]:
    """Return the variance without noise and the variance that noise adds, both over the sum of the squared weights."""
    c, v, rho = as_floats(mean, "mean"), as_floats(var, "var"), as_finite_number(correlation, "correlation")
    if not (np.isfinite(c).all() and ((v > 0) & (v < np.inf)).all()):
        raise ValueError(f"mean must be finite, and var finite and above 0; got {mean!r} and {var!r}")
    if not -1 <= rho <= 1:
        raise ValueError(f"correlation must be in [-1, 1]; got {correlation!r}")
    common = np.float64(0.0)
    if weights is not None:
        w = as_floats(weights, "weights")
        if w.ndim not in (1, 2) or not np.isfinite(w).all() or not (w != 0).any(axis=0).all():
            raise ValueError("weights must have shape (in,) or (in, out), be finite, and not all be 0 for an output")
        w = np.ascontiguousarray(w.T)  # sums along the last axis have the same bits for one output and for many
        w = np.ldexp(w, -np.frexp(np.abs(w).max(axis=-1, keepdims=True, initial=0.0))[1])  # so that no square is infinite
        common = w.sum(axis=-1) ** 2 / (w * w).sum(axis=-1) - 1.0
    if not (1.0 + rho * common > 0).all():
        raise ValueError(f"correlation {correlation!r} is not possible with these weights: the variance would not be above 0")
    try:
        signal, excess = v * (1.0 + rho * common), np.where(noise == 0, 0.0, noise * (c * c + v))  # no 0 times infinity
        np.add(signal, excess)  # raises an error unless the shapes broadcast; broadcast_shapes takes 32 axes only
        return signal, excess
    except ValueError:
        shapes = [np.shape(each) for each in (noise, c, v, common)]
        raise ValueError(f"p, mean, var and the outputs of weights must broadcast; got the shapes {shapes}") from None


def noise_variance(p: ArrayLike | None, half_width: ArrayLike | None = None) -> Floats:
    """Return the variance of noise of mean 1: of dropout's factors, or of uniform noise."""
    if (p is None) == (half_width is None):
        raise TypeError("either p or half_width must be given, and not both")
    if p is not None:
        rates = rate_array(p)
        return np.asarray(rates / (1.0 - rates))
    width = as_floats(half_width, "half_width")  # type: ignore[arg-type]
    if not ((width >= 0) & (width < np.inf)).all():
        raise ValueError(f"half_width must be finite and >= 0; got {half_width!r}")
    return np.asarray(width * width / 3.0)


def rate_array(p: ArrayLike) -> Floats:
    """Return one probability of dropping or an array of them; each is checked as a single one is."""
    if plan.to_array(p, "p").ndim == 0:
        return np.asarray(plan.as_rate(p))
    rates = as_real_array(p, "p", flags=False).astype(np.float64)
    for bad in rates[~((rates >= 0) & (rates <= 1))]:
        plan.as_rate(float(bad))
    return rates


def float_or_array(value: Any) -> Any:
    """Return a float for an array without dimensions."""
    return value if np.ndim(value) else float(value)


# Moments ------------------------------------------------------------------------------------------------------------


def linear_moments(
    rows: NDArray[Any],
    weight: NDArray[Any],
    p: float,
    bias: NDArray[Any] | None,
    mode: str,
    drop_bias: bool,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and variance of a linear layer whose inputs or connections are dropped; both cases have the same moments.

    `weight` has shape (out, in). The function checks nothing and keeps the dtype of the operands. In inverted mode the
    moments are 0 where p is 1.
    """
    kept, dropped = moment_factors(p, mode)
    mean, variance = (rows @ weight.T) * kept, (rows * rows) @ (weight * weight).T * dropped
    if bias is not None:
        mean += bias * kept if drop_bias else bias
        variance += bias * bias * dropped if drop_bias else 0
    return mean, variance


def moment_factors(p: float, mode: str) -> tuple[float, float]:
    """Return mean and variance of the factor that multiplies an element."""
    if mode == "standard":
        return 1.0 - p, p * (1.0 - p)
    return (1.0, p / (1.0 - p)) if p < 1.0 else (0.0, 0.0)


def checked_layer(x: ArrayLike, weight: ArrayLike, p: Any, bias: ArrayLike | None, mode: Any) -> tuple[Any, ...]:
    """Return x, the weight, p and the bias of a linear layer, in float64, or raise an error that names the bad argument."""
    rows, matrix = as_floats(x, "x"), as_floats(weight, "weight", 2)
    if not rows.ndim or rows.shape[-1] != matrix.shape[0]:
        raise ValueError(f"x must have shape (..., in) and weight (in, out); got {rows.shape} and {matrix.shape}")
    if not plan.is_one_of(mode, ("inverted", "standard")):
        raise ValueError(f"mode must be 'inverted' or 'standard'; got {mode!r}")
    biases = None if bias is None else as_floats(bias, "bias")
    if biases is not None and biases.shape != matrix.shape[1:]:
        raise ValueError(f"bias must have shape {matrix.shape[1:]}; got {biases.shape}")
    return rows, matrix, plan.as_rate(p), biases


@rounding_to_nearest
def fast_dropout_moments(
    x: ArrayLike, weight: ArrayLike, p: float = 0.5, bias: ArrayLike | None = None, *, mode: Mode = "inverted"
) -> tuple[Floats, Floats]:
    """Return mean and variance of the output of a linear layer over all dropout masks of its input: fast dropout.

    A sum of many dropped inputs tends to a normal distribution. Fast dropout samples or integrates the normal distribution
    of these moments instead of drawing masks.

    Parameters
    ----------
    x : array_like
        The input of the layer, of shape (..., in). Its elements are dropped.
    weight : array_like
        The weights, of shape (in, out).
    p : float, default 0.5
        Probability of dropping, in [0, 1]. (The paper's p is the probability of keeping.)
    bias : array_like, optional
        The bias, of shape (out,). It is not dropped.
    mode : {"inverted", "standard"}
        ``"inverted"``: kept elements are scaled by 1 / (1 - p). ``"standard"``, the paper: they are not scaled.

    Returns
    -------
    tuple of two numpy.ndarray
        Mean and variance, of float64 and shape (..., out). In inverted mode they are x W + b and
        p / (1 - p) (x * x) (W * W), and where p is 1 they are b and 0. In standard mode they are (1 - p) x W + b and
        p (1 - p) (x * x) (W * W).

    Raises
    ------
    TypeError, ValueError
        Shapes do not fit together, an argument is not a real number, `p` is outside [0, 1], or `mode` is unknown.

    See Also
    --------
    drop_connect_moments : the same moments if connections are dropped.
    sigmoid_moments, relu_moments : the moments after an activation function.

    References
    ----------
    .. [1] S. Wang, C. Manning, "Fast dropout training", ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> mean, var = fastdrop.theory.fast_dropout_moments([1.0, 2.0], [[3.0], [-1.0]], 0.5, [10.0])
    >>> mean, var
    (array([11.]), array([13.]))
    """
    rows, matrix, rate, biases = checked_layer(x, weight, p, bias, mode)
    return linear_moments(rows, matrix.T, rate, biases, mode, False)


@rounding_to_nearest
def fast_dropout_moments_backward(
    grad_mean: ArrayLike,
    grad_var: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    bias: ArrayLike | None = None,
    *,
    mode: Mode = "inverted",
) -> tuple[Floats, Floats, Floats | None]:
    """Return the gradients of `fast_dropout_moments` with respect to input, weights and bias.

    Parameters
    ----------
    grad_mean, grad_var : array_like
        The gradients with respect to the mean and the variance, of shape (..., out). A sample mean + sqrt(var) * e whose
        gradient is g has the gradients g and g e / (2 sqrt(var)).
    x, weight, p, bias, mode
        The arguments of the forward pass.

    Returns
    -------
    tuple of three
        The gradients with respect to `x`, `weight` and `bias`, of float64 and of the shapes of these. The last one is None
        if there is no bias.

    Raises
    ------
    TypeError, ValueError
        As in `fast_dropout_moments`; or the gradients do not have the shape of the moments.

    Examples
    --------
    >>> import fastdrop
    >>> operands = [1.0, 2.0], [[3.0], [-1.0]], 0.5, [10.0]
    >>> dx, dweight, dbias = fastdrop.theory.fast_dropout_moments_backward([1.0], [1.0], *operands)
    >>> dx, dweight, dbias
    (array([21.,  3.]), array([[ 7.],
           [-6.]]), array([1.]))
    """
    rows, matrix, rate, biases = checked_layer(x, weight, p, bias, mode)
    shape = (*rows.shape[:-1], matrix.shape[1])
    dmean, dvar = as_floats(grad_mean, "grad_mean"), as_floats(grad_var, "grad_var")
    if dmean.shape != shape or dvar.shape != shape:
        raise ValueError(f"grad_mean and grad_var must have shape {shape}; got {dmean.shape} and {dvar.shape}")
    kept, dropped = moment_factors(rate, mode)
    dx = kept * (dmean @ matrix.T) + 2.0 * dropped * rows * (dvar @ (matrix * matrix).T)
    flat, means, variances = (array.reshape(-1, array.shape[-1]) for array in (rows, dmean, dvar))
    dweight = kept * (flat.T @ means) + 2.0 * dropped * matrix * ((flat * flat).T @ variances)
    return dx, dweight, None if biases is None else means.sum(axis=0)


def checked_normal(mean: ArrayLike, var: ArrayLike) -> tuple[Floats, Floats]:
    """Return the moments of a normal variable in float64, or raise an error that names the bad argument."""
    center, spread = as_floats(mean, "mean"), as_floats(var, "var")
    if not (spread >= 0).all():
        raise ValueError("var must be >= 0 throughout")
    try:
        np.equal(center, spread)  # for its check of the shapes: np.broadcast_shapes takes no more than 32 dimensions
    except ValueError:
        raise ValueError(f"mean and var must broadcast; got the shapes {center.shape} and {spread.shape}") from None
    return center, spread


@rounding_to_nearest
def sigmoid_moments(mean: ArrayLike, var: ArrayLike) -> tuple[Any, Any]:
    """Return mean and variance of the sigmoid of a normal variable, by the probit approximation.

    Parameters
    ----------
    mean, var : array_like
        Mean and variance of the normal variable; the variance is >= 0.

    Returns
    -------
    tuple of two numpy.ndarray
        Mean and variance, of float64 and of the shape that the arguments broadcast to.

    Raises
    ------
    TypeError, ValueError
        An argument is not a real number, the variance is negative, or the shapes do not broadcast.

    Notes
    -----
    For a normal variable of mean m and variance s**2, the mean is M = sigmoid(k m) with k = 1 / sqrt(1 + pi s**2 / 8).
    This is the approximation of Spiegelhalter and Lauritzen [1]_ and of MacKay [2]_: the normal distribution function
    Phi(sqrt(pi / 8) x), which has the same slope at 0, replaces the sigmoid. Wang and Manning use it for the mean in fast
    dropout. Their variance is another one: it approximates the square of the sigmoid by a shifted and scaled sigmoid.

    The variance here is M (1 - M) (1 - k), a form that Daunizeau gives too, with a fitted constant instead of pi / 8 [3]_.
    It follows from the mean: the derivative of the exact mean by m is the mean of sigmoid (1 - sigmoid). The derivative of
    M is taken as k M (1 - M), and with M this gives the second moment.

    Compared with numerical integration, for m from -10 to 10 and s**2 up to 10,000, the mean is off by at most 0.016 and the
    variance by at most 0.015. For a small variance that is much: as s tends to 0, use (M (1 - M))**2 s**2 instead.

    References
    ----------
    .. [1] D. J. Spiegelhalter, S. L. Lauritzen, "Sequential updating of conditional probabilities on directed graphical
       structures", Networks 20 (1990).
    .. [2] D. J. C. MacKay, "The evidence framework applied to classification networks", Neural Computation 4 (1992).
    .. [3] J. Daunizeau, "Semi-analytical approximations to statistical moments of sigmoid and softmax mappings of normal
       variables", arXiv:1703.00091, 2017.

    Examples
    --------
    >>> import fastdrop
    >>> mean, var = fastdrop.theory.sigmoid_moments(0.0, 4.0)
    >>> float(mean), round(float(var), 4)
    (0.5, 0.0941)
    """
    m, v = checked_normal(mean, var)
    flattening = 1.0 / np.sqrt(1.0 + math.pi / 8.0 * v)
    found = sigmoid(flattening * m)
    return found, found * (1.0 - found) * (1.0 - flattening)


@rounding_to_nearest
def relu_moments(mean: ArrayLike, var: ArrayLike) -> tuple[Any, Any]:
    """Return mean and variance of the positive part of a normal variable.

    Parameters
    ----------
    mean, var : array_like
        Mean and variance of the normal variable; the variance is >= 0.

    Returns
    -------
    tuple of two numpy.ndarray
        Mean and variance, of float64 and of the shape that the arguments broadcast to. Where the given variance is 0, they are
        max(m, 0) and 0.

    Raises
    ------
    TypeError, ValueError
        As in `sigmoid_moments`.

    Notes
    -----
    The moments are exact. For mean m, variance s**2, r = m / s, and the normal density phi and distribution function Phi, the
    mean is m Phi(r) + s phi(r), and the second moment is (m**2 + s**2) Phi(r) + m s phi(r).

    Examples
    --------
    >>> import fastdrop
    >>> mean, var = fastdrop.theory.relu_moments([0.0, 3.0], [1.0, 0.0])
    >>> mean.round(4), var.round(4)
    (array([0.3989, 3.    ]), array([0.3408, 0.    ]))
    """
    m, v = checked_normal(mean, var)
    s, is_random = np.sqrt(v), v > 0
    r = np.clip(m / np.where(is_random, s, 1.0), -40.0, 40.0)  # beyond these Phi is 0 or 1, and phi is 0
    density, below, above = np.exp(-0.5 * r * r) / math.sqrt(2.0 * math.pi), normal_cdf(r), normal_cdf(np.negative(r))
    first = m * below + s * density
    share = below + r * r * below * above + r * density * (above - below) - density * density
    return np.where(is_random, first, np.maximum(m, 0.0)), v * np.maximum(share, 0.0) * is_random


def normal_cdf(x: Floats) -> Floats:
    """Return the normal distribution function, by the C library's erfc."""
    found: Floats = np.vectorize(math.erfc, otypes=[np.float64])(x / -math.sqrt(2.0)) / 2.0
    return found


# Regularizers -------------------------------------------------------------------------------------------------------


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
        The term, >= 0. For two layers, f(x) = x V U with the columns v_j of V and the rows u_j of U, it is
        a * sum_j(||u_j||**2 v_j^T C v_j), where a = p / (1 - p).

    Raises
    ------
    TypeError
        An argument is not a real number, or an index is not an integer.
    ValueError
        Shapes do not fit together, `cov` is not symmetric, `p` is outside [0, 1), or `layers` are not increasing indices.

    See Also
    --------
    dropout_regularizer_backward : the gradient with respect to the weights.
    nuclear_norm_envelope : a lower bound that depends on the product of the weights alone.

    Notes
    -----
    The function takes O(k d**3) operations for k layers of d units. It follows the second moment of each layer's output and
    the excess D of that moment with dropout. A layer turns D into W^T D W. Dropout then adds a diag(S + D), where S is the
    moment without dropout. The result is the trace of D at the end. It equals the paper's sum over all subsets of dropped
    layers.

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
        raise ValueError("p must be below 1: with nothing kept, the term that dropout adds to the loss is infinite")
    found: list[float] = np.broadcast_to(noise_variance(rates), (count,)).tolist()
    return found


def second_moment(cov: ArrayLike | None, features: int) -> Floats:
    """Return the second moment of the inputs, or raise an error that names the fault."""
    if cov is None:
        return np.eye(features)
    matrix = as_floats(cov, "cov")
    if matrix.shape != (features, features):
        raise ValueError(f"cov must have shape {(features, features)}, one row per input; got {matrix.shape}")
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-6 * np.abs(matrix).max(initial=0.0)):
        raise ValueError("cov must be symmetric: the second moments of the inputs")
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
        As in `dropout_regularizer`; or a width is below 1, or `cov` has negative eigenvalues.

    Notes
    -----
    With one hidden layer the bound is (a / d) ||C^(1/2) W||_*^2. Networks whose units all have the same product
    ||u_j|| ||C^(1/2) v_j|| attain it: dropout regularizes the nuclear norm, and makes the units equally important.

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
    each: Any = [widths] if np.ndim(widths) == 0 else widths
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


# Rates --------------------------------------------------------------------------------------------------------------


@rounding_to_nearest
def drop_block_gamma(
    p: float, spatial: Sequence[int], block_size: int | Sequence[int] = 7, *, exact_rate: bool = False
) -> float:
    """Return the probability that `fastdrop.drop_block` makes a position of a feature map the seed of a block.

    Parameters
    ----------
    p : float
        The intended share of dropped elements, in [0, 1].
    spatial : sequence of int
        The size of the map along each of its one to three dimensions, at least 1.
    block_size : int or sequence of int, default 7
        As in `fastdrop.drop_block`.
    exact_rate : bool, default False
        False: the paper's formula. True: the solution of an equation, so that the expected share dropped is `p`.

    Returns
    -------
    float
        In [0, 1], the same to the bit everywhere.

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.drop_block`; and for a map and a block whose equation would have more than 2**20 terms.

    Notes
    -----
    With sizes F and blocks of b, the paper's gamma is p prod(F) / prod(b) / prod(F - b + 1). The exact gamma is the least
    float64 number that solves

        mean over the cells of (1 - (1 - gamma)**n) = p

    where n is the number of positions whose block covers the cell. It is found by bisection and cached.

    Examples
    --------
    >>> from fastdrop import theory
    >>> theory.drop_block_gamma(0.1, (14, 14), 7)
    0.00625
    >>> round(theory.drop_block_gamma(0.1, (14, 14), 7, exact_rate=True), 6)
    0.006764
    """
    rate, sizes = plan.as_rate(p), check_map_sizes(spatial)
    return seed_rate(rate, sizes, check_block_size(block_size, sizes), plan.check_flag(exact_rate, "exact_rate"))


# Concrete dropout ---------------------------------------------------------------------------------------------------


@rounding_to_nearest
def concrete_mean(p: float, temperature: float) -> float:
    """Return the mean of (1 - s) / (1 - p), the factor that `concrete_dropout` multiplies elements by.

    It is the ratio of the mean of the result to that of the input. `concrete_dropout` with ``exact_mean=True`` divides by
    this ratio.

    Parameters
    ----------
    p : float
        The rate of dropping, in [0, 1).
    temperature : float
        The softness of the decisions, above 0.

    Returns
    -------
    float
        The mean, with a relative error below 1e-12. It is 1 for p = 0 and p = 0.5, below 1 between them and above 1 for larger
        p. As p tends to 1, it tends to pi t / sin(pi t) if the temperature t is below 1, and has no bound otherwise.

    Raises
    ------
    TypeError, ValueError
        `p` is outside [0, 1), or `temperature` is not above 0.

    Notes
    -----
    The decision to drop is s = sigmoid((logit(p) + logit(u)) / t) for a uniform number u. The mean of 1 - s is the integral
    over v = logit(u) of the logistic density times sigmoid(-(logit(p) + v) / t). Gauss-Legendre quadrature computes it on both
    sides of v = -logit(p). The mean does not include the small epsilon of the authors' code; that of `concrete_dropout` does.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import fastdrop.theory
    >>> [round(fastdrop.theory.concrete_mean(p, 2 / 3), 4) for p in (0.1, 0.5, 0.9, 0.99)]
    [0.9497, 1.0, 1.4529, 2.0125]
    """
    rate, t = plan.as_rate(p), as_positive_number(temperature, "temperature")
    if rate == 1.0:
        raise ValueError("p must be in [0, 1) here: the mean has no value for p = 1")
    if rate == 0.0:
        return 1.0
    keep = 1.0 - rate
    return soft_keep_mean(keep, math.log(rate / keep), t, 0.0).value / keep


# DropConnect --------------------------------------------------------------------------------------------------------


@rounding_to_nearest
def drop_connect_moments(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    mode: Mode = "inverted",
    drop_bias: bool = True,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and variance of the result of `fastdrop.drop_connect` over all masks: the Gaussian of the paper's inference.

    The paper draws samples of this Gaussian, applies the activation function to each, and averages.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The input of the layer, of shape (..., in).
    weight, p, bias, mode, drop_bias
        As in `fastdrop.drop_connect`.

    Returns
    -------
    tuple of two numpy.ndarray
        Mean and variance, of shape (..., out) and the dtype of `x`. In inverted mode they are x W + b and p / (1 - p) ((x * x)
        (W * W) + b * b), and 0 if p is 1. A bias that is not dropped is added to the mean only. In standard mode the factors
        are 1 - p and p (1 - p) instead of 1 and p / (1 - p).

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.drop_connect`.

    Notes
    -----
    The moments are computed in the dtype of `x`; those of float16 and bfloat16 in float32.

    References
    ----------
    .. [1] L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect",
       ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.array([[1.0, 2.0]]), np.array([[3.0], [-1.0]])
    >>> mean, var = fastdrop.theory.drop_connect_moments(x, weight, 0.5)
    >>> mean, var
    (array([[1.]]), array([[13.]]))

    The paper's inference, with a ReLU:

    >>> samples = np.random.default_rng(0).normal(mean, np.sqrt(var), (1000, 1, 1))
    >>> np.maximum(samples, 0).mean(axis=0).shape
    (1, 1)
    """
    layer, rate = Linear(x, weight, bias), plan.as_rate(p)
    drops_bias = plan.check_flag(drop_bias, "drop_bias")
    moments = linear_moments(layer.rows, layer.weight.T, rate, layer.bias, plan.check_mode(mode), drops_bias)
    mean, var = (layer.rounded(moment).reshape(layer.result_shape) for moment in moments)
    return mean, var


# Variational dropout ------------------------------------------------------------------------------------------------


@rounding_to_nearest
def log_alpha(
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return log alpha = log(sigma**2 / weight**2) of each weight, clipped to [-8, 8].

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The means, of any shape.
    log_sigma2 : array_like
        The logarithms of the variances, of the shape and dtype of `weight`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; it is 8 where a mean is 0. The bits are the same everywhere.

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes do not fit together.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.theory.log_alpha(np.array([1.0, 0.01, 0.0]), np.array([-10.0, -5.0, -10.0])).round(4)
    array([-8.    ,  4.2103,  8.    ])
    """
    call = Call(training=False, out=out, backend=backend, num_threads=num_threads)
    with call.arrays(weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")) as run:
        found = unclipped_log_alpha(np.asarray(run.x).astype(run.compute), run.others[0].astype(run.compute))
        return run.store(np.clip(found, *BOUNDS))


@rounding_to_nearest
def log_alpha_backward(
    grad: ArrayLike,
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of `log_alpha` with respect to means and logarithms of variances.

    Parameters
    ----------
    grad : array_like of real numbers
        The gradient with respect to log alpha, of the shape of `weight`: `fastdrop.losses.variational_kl_backward` returns it.
    weight, log_sigma2, backend, num_threads
        As in `log_alpha`.

    Returns
    -------
    tuple of two numpy.ndarray
        Of the shape and dtype of `weight`: -2 grad / weight and grad; both 0 where log alpha was clipped, also at means of 0.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha`; and for a `grad` of another shape.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight, log_sigma2 = np.array([0.5, 0.0]), np.array([-4.0, -4.0])
    >>> slopes = fastdrop.losses.variational_kl_backward(fastdrop.theory.log_alpha(weight, log_sigma2))
    >>> dweight, dlog_sigma2 = fastdrop.theory.log_alpha_backward(slopes, weight, log_sigma2)
    >>> dweight.round(4), dlog_sigma2.round(4)
    (array([2.2565, 0.    ]), array([-0.5641,  0.    ]))
    """
    outer = as_real_array(grad, "grad", flags=False)
    with Call(training=False, backend=backend, num_threads=num_threads).arrays(
        weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")
    ) as run:
        means = np.asarray(run.x).astype(run.compute)
        if outer.shape != means.shape:
            raise ValueError(f"grad must have the shape of weight, {means.shape}; got {outer.shape}")
        found = unclipped_log_alpha(means, run.others[0].astype(run.compute))
        inside = (found >= BOUNDS[0]) & (found <= BOUNDS[1])
        slopes = np.where(inside, outer, 0).astype(run.compute)
        dweight = np.divide(-(slopes + slopes), means, out=np.zeros_like(means), where=inside)
        return dweight.astype(run.x.dtype), slopes.astype(run.x.dtype)


@rounding_to_nearest
def prune(
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    prune_above: float = 3.0,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return weights with 0 in place of those with too much noise, and the flags of the kept weights.

    Parameters
    ----------
    weight, log_sigma2
        As in `log_alpha`.
    prune_above : float, default 3
        Weights whose log alpha is not below this number are pruned: 3 is the dropout rate 0.95.
    out, backend, num_threads
        As in `dropout`; `out` takes the weights.

    Returns
    -------
    tuple of two numpy.ndarray
        The weights, `out` or a new array like `weight`; and a bool per weight, True where it was kept. A NaN is kept.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha`; and for a `prune_above` that is not a finite number.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.theory.prune(np.array([1.0, 0.01]), np.array([-4.0, -4.0]))
    (array([1., 0.]), array([ True, False]))
    """
    least = as_finite_scalar(prune_above, "prune_above")
    call = Call(training=False, out=out, backend=backend, num_threads=num_threads)
    with call.arrays(weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")) as run:
        means, log_variances = np.asarray(run.x).astype(run.compute), run.others[0].astype(run.compute)
        pruned = find_pruned(means, log_variances, least)
        made = run.store(run.x)
        made[pruned] = 0
        return made, ~pruned
