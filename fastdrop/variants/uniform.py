"""Uniform multiplicative noise, which replaces dropout in networks with batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers
from fastdrop._core.checks import as_non_negative_number
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["uniform_dropout", "uniform_dropout_backward"]


def uniform_dropout(
    x: ArrayLike,
    half_width: float = 0.1,
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
    """Multiply each element by 1 + r, with r uniform in (-half_width, half_width). The paper calls this Uout.

    The variance differs between training and inference far less than with dropout; see `fastdrop.theory.variance_shift`.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    half_width : float, default 0.1
        Half the width of the noise's interval, finite and >= 0; the paper's beta. Above 1 the noise can change signs. The noise
        has the variance half_width**2 / 3.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a bad `half_width`.

    Notes
    -----
    T is the compute type: float32 for the 16-bit types. u is the element of ``uniform(x.shape, dtype=T)`` with
    the same seed, offset and start. The factor is 1 + T(half_width) (2 u - 1). The difference is exact; the product, the sum
    and the product with x are rounded once each, and the result once more to the dtype of `x`. float64 uniforms take two words
    each, so the noise of a float64 array is not that of a float32 array.

    References
    ----------
    .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
       variance shift", CVPR 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.uniform_dropout(np.full(3, 10.0, np.float32), 0.1, seed=42)
    array([10.22592 ,  9.937173,  9.146463], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return multiply_by_noise(x, half_width, call)


@backward_of(uniform_dropout)
def uniform_dropout_backward(
    grad: ArrayLike,
    half_width: float = 0.1,
    *,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `uniform_dropout` with respect to its input: `grad` times the same factors.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.uniform_dropout_backward(np.ones(3, np.float32), 0.1, seed=42)
    array([1.022592 , 0.9937173, 0.9146463], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return multiply_by_noise(grad, half_width, call)


def multiply_by_noise(x: ArrayLike, half_width: Any, call: Call) -> NDArray[Any]:
    """Return `x` times the noise's factors, which are constants to the backward pass."""
    width = as_non_negative_number(half_width, "half_width")
    if not call.is_training:
        return call.unchanged(x, draws_numbers=True)
    return numbers.noise(call, x, "uniform", (width,))[0]
