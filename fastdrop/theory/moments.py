"""Mean and variance of a layer's output over all masks, and of an activation function's output."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_floats
from fastdrop._core.numbers import Linear
from fastdrop._core.plan import rounding_to_nearest
from fastdrop.elementary import sigmoid
from fastdrop.theory.noise import Floats

__all__ = ["drop_connect_moments", "fast_dropout_moments", "fast_dropout_moments_backward", "relu_moments", "sigmoid_moments"]

# Linear layers ------------------------------------------------------------------------------------------------------


def linear_moments(
    rows: NDArray[Any],
    weight: NDArray[Any],
    p: float,
    bias: NDArray[Any] | None,
    mode: str,
    drop_bias: bool,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean and the variance of a linear layer whose inputs or connections are dropped: the moments are the same.

    `weight` has shape (out, in). The function checks nothing and keeps the dtype of the operands. In inverted mode the
    moments are 0 where p is 1. Infinity and NaN times a factor of 0 are 0.
    """
    kept, dropped = moment_factors(p, mode)
    zeros = np.zeros((*rows.shape[:-1], len(weight)), rows.dtype)
    mean = (rows @ weight.T) * kept if kept else zeros
    variance = (rows * rows) @ (weight * weight).T * dropped if dropped else zeros.copy()
    if bias is not None and not drop_bias:
        mean += bias
    elif bias is not None:
        mean += bias * kept if kept else 0
        variance += bias * bias * dropped if dropped else 0
    return mean, variance


def moment_factors(p: float, mode: str) -> tuple[float, float]:
    """Return the mean and the variance of the factor that multiplies an element."""
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
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    bias: ArrayLike | None = None,
    *,
    mode: Literal["inverted", "standard"] = "inverted",
) -> tuple[Floats, Floats]:
    """Return the mean and the variance of the output of a linear layer over all dropout masks of its input: fast dropout.

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
    mode: Literal["inverted", "standard"] = "inverted",
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
    samples = math.prod(shape[:-1])
    flat, means, variances = (array.reshape(samples, array.shape[-1]) for array in (rows, dmean, dvar))
    dx = kept * (dmean @ matrix.T) if kept else np.zeros_like(rows)
    dweight = kept * (flat.T @ means) if kept else np.zeros_like(matrix)
    if dropped:  # infinity times a factor of 0 is 0 here too
        dx += 2.0 * dropped * rows * (dvar @ (matrix * matrix).T)
        dweight += 2.0 * dropped * matrix * ((flat * flat).T @ variances)
    return dx, dweight, None if biases is None else means.sum(axis=0)


@rounding_to_nearest
def drop_connect_moments(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    mode: Literal["inverted", "standard"] = "inverted",
    drop_bias: bool = True,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean and the variance of `fastdrop.drop_connect` over all masks: the Gaussian of the paper's inference.

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


# Activation functions -----------------------------------------------------------------------------------------------


def checked_normal(mean: ArrayLike, var: ArrayLike) -> tuple[Floats, Floats]:
    """Return the moments of a normal variable in float64, or raise an error that names the bad argument."""
    center, spread = as_floats(mean, "mean"), as_floats(var, "var")
    if not (spread >= 0).all():
        raise ValueError(f"each element of var must be >= 0; got {var!r}")
    try:
        np.equal(center, spread)  # for its check of the shapes: np.broadcast_shapes takes no more than 32 dimensions
    except ValueError:
        raise ValueError(f"mean and var must broadcast; got the shapes {center.shape} and {spread.shape}") from None
    return center, spread


@rounding_to_nearest
def sigmoid_moments(mean: ArrayLike, var: ArrayLike) -> tuple[Any, Any]:
    """Return the mean and the variance of the sigmoid of a normal variable, by the probit approximation.

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
    return found, np.asarray(found * (1.0 - found) * (1.0 - flattening))


@rounding_to_nearest
def relu_moments(mean: ArrayLike, var: ArrayLike) -> tuple[Any, Any]:
    """Return the mean and the variance of the positive part of a normal variable.

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
    first = np.where(below == 0, 0.0, np.maximum(m * below + s * density, 0.0))  # no infinity times 0
    share = below + r * r * below * above + r * density * (above - below) - density * density
    return np.where(is_random, first, np.maximum(m, 0.0)), np.asarray(v * np.maximum(share, 0.0) * is_random)


def normal_cdf(x: Floats) -> Floats:
    """Return the normal distribution function, by the C library's erfc."""
    found: Floats = np.vectorize(math.erfc, otypes=[np.float64])(x / -math.sqrt(2.0)) / 2.0
    return found
