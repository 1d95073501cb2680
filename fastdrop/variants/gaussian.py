"""Gaussian noise: normal numbers that are added to elements or multiplied with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_non_negative_scalar
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._noise import multiply_by_normal, multiply_by_normal_backward
from fastdrop.variants._variational import check_broadcast

__all__ = ["gaussian_dropout", "gaussian_dropout_backward", "gaussian_noise"]


def gaussian_noise(
    x: ArrayLike,
    stddev: float = 1.0,
    *,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Add a normal number times `stddev` to each element. The gradient passes through unchanged.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    stddev : float, default 1
        The standard deviation of the noise, any number >= 0. (Keras refuses numbers above 1.)
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        Element i takes number i of `normal`. Outside training the result is `x` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a `stddev` that is negative, infinite or NaN.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.gaussian_noise(np.ones(3, np.float32), 0.1, seed=42)
    array([1.0287042 , 0.99211764, 0.85478634], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    deviation = as_non_negative_scalar(stddev, "stddev")
    return numbers.noise(call, x, "additive", (deviation,))[0] if call.is_training else call.unchanged(x, draws_numbers=True)


def gaussian_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    log_alpha: ArrayLike | None = None,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply each element by a normal number of mean 1 and variance alpha = p / (1 - p): the moments of dropout at rate `p`.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    p : float, default 0.5
        The rate of the dropout with the same mean and variance, in [0, 1): alpha = p / (1 - p). (In DL4J the rate is the
        probability of keeping.)
    log_alpha : float or numpy.ndarray, optional
        The logarithm of a learned alpha; `p` is then checked, but not used. A number, or an array that broadcasts to `x` (one
        alpha per unit).
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        Element i takes number i of `normal`. Outside training the result is `x` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`: ``x * (1 + sqrt(alpha) * z)``, each operation rounded in the compute type.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for p = 1, for which the variance is infinite (Keras divides by 0); for a `log_alpha` that is not below
        709 or that does not broadcast to `x`.

    See Also
    --------
    gaussian_dropout_backward : the gradients.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to prevent neural
       networks from overfitting", JMLR 15 (2014) 1929-1958, section 10.
    .. [2] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.gaussian_dropout(np.ones(3, np.float32), 0.1, seed=42)
    array([1.0956805 , 0.97372544, 0.5159544 ], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    scale = noise_scale(p, log_alpha)
    return multiply_by_normal(call, x, scale) if call.is_training else unchanged(call, x, "x", scale)


@backward_of(gaussian_dropout)
def gaussian_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    log_alpha: ArrayLike | None = None,
    x: ArrayLike | None = None,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], Any]:
    """Return the gradients of `gaussian_dropout` with respect to its input and, if it is learned, log alpha.

    Parameters
    ----------
    x : array_like, optional
        The input of the forward pass, of the shape and dtype of `grad`. It is required with `log_alpha`, for its gradient, and
        refused without it.

    Returns
    -------
    dx : numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.
    dlog_alpha : numpy.float64, numpy.ndarray or None
        The gradient with respect to `log_alpha`, of float64 and the shape of `log_alpha`; 0 outside training, and None without
        a `log_alpha`. Sums have a fixed order, so that their bits are the same with any number of threads and any backend.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones(3, np.float32)
    >>> dx, dlog_alpha = fastdrop.gaussian_dropout_backward(grad, log_alpha=-2.0, x=x, seed=42)
    >>> dx, round(float(dlog_alpha), 6)
    (array([1.1055967 , 0.9710024 , 0.46578872], dtype=float32), -0.228806)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    scale = noise_scale(p, log_alpha)
    if log_alpha is None:
        if x is not None:
            raise TypeError("x must not be given without log_alpha, because only the gradient of log_alpha needs it")
        return multiply_by_normal(call, grad, scale) if call.is_training else unchanged(call, grad, "grad", scale), None
    if x is None:
        raise TypeError("x must be given with log_alpha, whose gradient needs the input of the forward pass")
    if not call.is_training:
        return unchanged(call, grad, "grad", scale, x=x), np.zeros(np.shape(scale))
    return multiply_by_normal_backward(call, grad, scale, x)


def noise_scale(p: Any, log_alpha: Any) -> Any:
    """Return sqrt(alpha): a number or an array of float64."""
    rate = plan.as_rate(p)
    if log_alpha is not None:
        return numbers.alphas(log_alpha, roots=True)
    if rate == 1:
        raise ValueError("p must be in [0, 1) here: for p = 1 the noise would have an infinite variance")
    with plan.RoundToNearest():
        return math.sqrt(rate / (1 - rate))


def unchanged(call: Call, x: ArrayLike, name: str, scale: Any, /, **others: ArrayLike) -> NDArray[Any]:
    """Return x itself, the result outside training, after the checks of a call in training."""
    if not isinstance(scale, float):
        x = plan.as_array(x, name)
        check_broadcast(scale, x.shape, name)
    return call.unchanged(x, draws_numbers=True, **others)
