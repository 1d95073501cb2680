"""Gaussian noise: normal numbers, added to elements or multiplied with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import non_negative_scalar, real_array
from fastdrop.elementary import exp
from fastdrop.variants._masks import compute_type

__all__ = ["gaussian_dropout", "gaussian_dropout_backward", "gaussian_noise"]


def gaussian_noise(
    x: ArrayLike,
    stddev: float = 1.0,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Add normal numbers times `stddev` to each element. The gradient with respect to `x` is that of the result.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    stddev : float, default 1
        The standard deviation of the noise, any number >= 0. (Keras refuses those above 1.)
    seed, offset, training, out, start, backend, num_threads
        As in `dropout`; element i takes number i of `normal`. Outside training the result is `x` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; `stddev` negative, infinite or NaN.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.gaussian_noise(np.ones(3, np.float32), 0.1, seed=42)
    array([1.0287042 , 0.99211764, 0.85478634], dtype=float32)
    """
    deviation = non_negative_scalar(stddev, "stddev")
    if not training:
        return unchanged(x, seed, offset, out, backend, num_threads)
    return numbers.old_noise(x, "additive", (deviation,), None, False, seed, offset, out, start, backend, num_threads)[0]


def gaussian_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    log_alpha: Any = None,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply each element by a normal number of mean 1 and variance alpha = p / (1 - p), as dropout at rate `p` has it.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    p : float, default 0.5
        The rate of the dropout with the same mean and variance, in [0, 1): alpha = p / (1 - p). (DL4J's is the rate of
        keeping.)
    log_alpha : float or numpy.ndarray, optional
        The logarithm of alpha, where it is learned; `p` is then not used. A number, or an array that broadcasts to `x` (an
        alpha for each unit).
    seed, offset, training, out, start, backend, num_threads
        As in `dropout`; element i takes number i of `normal`. Outside training the result is `x` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`: ``x * (1 + sqrt(alpha) * z)``, each operation rounded in the type that is computed with.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `p` is 1, at which the variance has no bound (Keras divides by 0 there).

    See Also
    --------
    gaussian_dropout_backward : the gradients.

    Notes
    -----
    An array of log_alpha goes through NumPy, in several passes; a number through one pass of the kernels.

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
    scale = scale_of(p, log_alpha)
    if not training:
        return unchanged(x, seed, offset, out, backend, num_threads)
    if np.ndim(scale) == 0:
        return numbers.old_noise(x, "gaussian", (scale,), None, False, seed, offset, out, start, backend, num_threads)[0]
    y, _ = each_scaled(x, None, scale, seed, offset, out, start, backend, num_threads)
    return y


def gaussian_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    seed: Any,
    log_alpha: Any = None,
    x: ArrayLike | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Return the gradient of `gaussian_dropout` with respect to its input; and with respect to log alpha, where it is learned.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result, of the same shape.
    p, log_alpha, seed, offset, training, start
        What the forward pass used; see `dropout_backward`.
    x : array_like, optional
        The forward pass's input, of the shape and dtype of `grad`: needed for the gradient with respect to log alpha.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray or tuple
        The gradient with respect to x; where `x` is given, a pair of it and the gradient with respect to log alpha (of p's own
        alpha, where `log_alpha` is None): a number, or an array of the shape of `log_alpha`, of float64. Sums are taken in a
        fixed order, so that their bits are the same with any number of threads and any backend.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `gaussian_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones(3, np.float32)
    >>> dx, dlog_alpha = fastdrop.gaussian_dropout_backward(grad, 0.1, seed=42, x=x)
    >>> dx, round(float(dlog_alpha), 6)
    (array([1.0956805 , 0.97372544, 0.5159544 ], dtype=float32), -0.20732)
    """
    scale = scale_of(p, log_alpha)
    if not training:
        dx = unchanged(grad, seed, offset, out, backend, num_threads, "grad")
        return dx if x is None else (dx, np.zeros(np.shape(scale)))
    if np.ndim(scale):
        dx, dscaled = each_scaled(grad, x, scale, seed, offset, out, start, backend, num_threads)
        return dx if x is None else (dx, dscaled)
    with_sums = x is not None
    dx, sums = numbers.old_noise(
        grad, "gaussian", (scale,), x, with_sums, seed, offset, out, start, backend, num_threads, True, "x"
    )
    return dx if sums is None else (dx, half_scale(scale) * total(sums))


def half_scale(scale: Any) -> Any:
    """Return sqrt(alpha) / 2: the derivative of sqrt(alpha) with respect to log alpha."""
    return scale * np.float64(0.5)


def total(sums: NDArray[np.float64]) -> np.float64:
    """Return the sum of the tiles' sums, in a fixed order."""
    with plan.RoundToNearest():
        return np.float64(fixed_sum(sums).sum())  # of one number, or of none


def scale_of(p: Any, log_alpha: Any) -> Any:
    """Return sqrt(alpha): a number or an array of float64."""
    if log_alpha is None:
        rate = plan.as_rate(p)
        if rate == 1:
            raise ValueError("p must be in [0, 1) here: at 1 the noise would have an infinite variance")
        with plan.RoundToNearest():
            return np.float64(math.sqrt(rate / (1 - rate)))
    with plan.RoundToNearest():
        return np.sqrt(alpha_of(log_alpha))


def logs(log_alpha: Any) -> NDArray[np.float64]:
    """Return logarithms of alphas as float64, or raise naming them."""
    return real_array(log_alpha, "log_alpha", flags=False).astype(np.float64)


def alpha_of(log_alpha: Any) -> NDArray[np.float64]:
    """Return alphas of float64."""
    alpha = exp(logs(log_alpha))
    if not np.all(alpha < np.inf):
        raise ValueError(f"log_alpha must be below 709, the logarithm of the largest number; got {log_alpha!r}")
    return alpha


def unchanged(x: Any, seed: Any, offset: Any, out: Any, backend: Any, num_threads: Any, name: str = "x") -> NDArray[Any]:
    """Return what noise leaves outside training: x itself, after the checks of a call in training."""
    array = plan.as_array(x, name, out)
    plan.check(array, 0.0, seed, offset, out, backend, num_threads, name=name)
    if out is None:
        return x if isinstance(x, np.ndarray) else array
    np.copyto(out, array)
    made: NDArray[Any] = out
    return made


def each_scaled(
    x: Any,
    values: Any,
    scale: NDArray[np.float64],
    seed: Any,
    offset: Any,
    out: Any,
    start: Any,
    backend: Any,
    num_threads: Any,
) -> tuple[NDArray[Any], Any]:
    """Multiply by 1 + scale z, a scale for each; and, given the values whose gradients x are, the gradient of log alpha."""
    array = plan.as_array(x, "x" if values is None else "grad", out)
    try:
        np.broadcast_to(scale, array.shape)
    except ValueError:
        raise ValueError(
            f"log_alpha has shape {scale.shape}, which does not broadcast to the shape {array.shape} of the elements"
        ) from None
    name = "x" if values is None else "grad"
    plan.check(array, 0.0, seed, offset, out, backend, num_threads, values, name, "x")
    type = compute_type(array.dtype)
    zeros = np.zeros(array.shape, type)
    z, _ = numbers.old_noise(zeros, "additive", (1.0,), None, False, seed, offset, zeros, start, backend, num_threads)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        y = np.asarray(array).astype(type) * (type(1) + scale.astype(type) * z)
        slopes = None
        if values is not None:
            products = (np.asarray(array).astype(type) * np.asarray(values).astype(type)) * z
            slopes = half_scale(scale) * summed_to(products.astype(np.float64), scale.shape)
        if out is None:
            out = np.empty_like(array)
        out[...] = y
    return out, slopes


def summed_to(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return sums, in a fixed order, over the axes along which `shape` was broadcast."""
    for _ in range(values.ndim - len(shape)):
        values = fixed_sum(values, 0)[0] if len(values) else np.zeros(values.shape[1:])
    for axis, size in enumerate(shape):
        if size == 1 and values.shape[axis] != 1:
            values = (
                fixed_sum(values, axis)
                if values.shape[axis]
                else np.zeros((*values.shape[:axis], 1, *values.shape[axis + 1 :]))
            )
    return values
