"""Uniform multiplicative noise: dropout's stand-in beside batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import non_negative_number
from fastdrop._core.settings import using
from fastdrop.variants._masks import compute_type, stored

__all__ = ["uout", "uout_backward"]


def uout(
    x: ArrayLike,
    beta: float = 0.1,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply each element by 1 + r, r uniform in (-beta, beta): Uout.

    It shifts the variance between training and inference far less than dropout does; see `variance_shift`.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    beta : float, default 0.1
        The half width of the noise, finite and >= 0. Above 1 the noise turns signs. Its variance is beta**2 / 3.
    seed, offset, training, out, start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; a bad `beta`.

    Notes
    -----
    With T the type that is computed with (float32 for the 16-bit ones) and u the element of ``uniform(x.shape, dtype=T)``
    with the same seed, offset and start, the factor is 1 + T(beta) (2 u - 1): the difference is exact, the product, the
    sum and the product with x are rounded once each, the result once more to the dtype of `x`. As float64 uniforms take
    two words each, the noise of a float64 array is not that of a float32 one.

    References
    ----------
    .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
       variance shift", CVPR 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.uout(np.full(3, 10.0, np.float32), 0.1, seed=42)
    array([10.22592 ,  9.937173,  9.146463], dtype=float32)
    """
    return with_noise(x, "x", beta, seed, offset, training, out, start, backend, num_threads)


def uout_backward(
    grad: ArrayLike,
    beta: float = 0.1,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `uout` with respect to its input: `grad` times the same factors.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `uout`'s result, of the same shape and dtype.
    beta, seed, offset, training, start
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `uout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.uout_backward(np.ones(3, np.float32), 0.1, seed=42)
    array([1.022592 , 0.9937173, 0.9146463], dtype=float32)
    """
    return with_noise(grad, "grad", beta, seed, offset, training, out, start, backend, num_threads)


def with_noise(
    x: ArrayLike,
    name: str,
    beta: Any,
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    start: int,
    backend: str | None,
    num_threads: int | None,
) -> NDArray[Any]:
    """Forward and backward are one: the factors are constants, made again from (seed, offset)."""
    array, width, backward = plan.array_of(x, name, out), non_negative_number(beta, "beta"), name == "grad"
    if not training:
        return plan.dropout(x, 0.0, seed, offset, False, "inverted", out, start, backend, num_threads, backward)
    type = compute_type(array.dtype)
    with using(backend=backend, num_threads=num_threads):
        end = plan.count_of(start, "start") + array.size
        numbers.uniform(0, 0, offset, end, type)  # finds what is wrong before a key is drawn
        noise = numbers.uniform(array.shape, *plan.key_of(seed, offset, backward), start, type)
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            factor = (noise + noise - type(1)) * type(width) + type(1)
            return stored(array.astype(type) * factor, array, out)
