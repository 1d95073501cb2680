"""Shared parts of the variants with continuous noise: noise with one scale per element, log variances, ordered sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_real_array
from fastdrop._core.plan import Call
from fastdrop.elementary import exp

__all__ = ["alphas", "log_alphas", "multiply_by_normal", "multiply_by_normal_backward", "sum_to_shape", "total"]

HALF = np.float64(0.5)


# Logarithms of variances --------------------------------------------------------------------------------------------


def log_alphas(log_alpha: Any) -> NDArray[np.float64]:
    """Return logarithms of variances in float64, or raise an error that names them."""
    return as_real_array(log_alpha, "log_alpha", flags=False).astype(np.float64)


def alphas(log_alpha: Any) -> NDArray[np.float64]:
    """Return variances in float64 from their logarithms."""
    alpha = exp(log_alphas(log_alpha))
    if not np.all(alpha < np.inf):
        raise ValueError(f"log_alpha must be below 709, the logarithm of the largest number; got {log_alpha!r}")
    return alpha


# Multiplication by normal numbers -----------------------------------------------------------------------------------


def multiply_by_normal(call: Call, x: ArrayLike, scale: Any) -> NDArray[Any]:
    """Return x * (1 + scale z), z normal, for one scale or for an array of them that broadcasts to x."""
    if isinstance(scale, float):
        return numbers.noise(call, x, "gaussian", (scale,))[0]
    check_scales(scale, np.shape(x))
    return numbers.noise(call, x, "scaled", (), scale, other_name="log_alpha")[0]


def multiply_by_normal_backward(call: Call, grad: ArrayLike, scale: Any, x: ArrayLike) -> tuple[NDArray[Any], Any]:
    """Return the gradients with respect to x and log(scale**2); the latter is summed to the shape of scale."""
    if not isinstance(scale, float):
        return multiply_by_each_backward(call, grad, scale, x)
    dx, sums = numbers.noise(call, grad, "gaussian", (scale,), x, with_sums=True, other_name="x")
    with plan.RoundToNearest():
        return dx, scale * HALF * total(sums)


def multiply_by_each_backward(
    call: Call, grad: ArrayLike, scale: NDArray[np.float64], x: ArrayLike
) -> tuple[NDArray[Any], Any]:
    """Return the gradients with respect to x and log(scale**2) for an array of scales."""
    shape = np.shape(grad)
    check_scales(scale, shape)
    pending = call.arrays(grad, x=x)
    numbers.check_place(shape, pending.compute, call)
    with pending as run:
        values, type = np.asarray(run.x).astype(run.compute), run.compute
        z = numbers.numbers("normal", shape, type, run.own_call())
        products = (values * run.others[0].astype(type)) * z
        slopes = scale * HALF * sum_to_shape(products.astype(np.float64), scale.shape)
        return run.store(values * (type(1) + scale.astype(type) * z)), slopes


def check_scales(scale: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Raise unless the scales broadcast to a shape."""
    try:
        np.broadcast_to(scale, shape)
    except ValueError:
        raise ValueError(f"log_alpha has shape {scale.shape}, which does not broadcast to the shape {shape} of x") from None


# Sums ---------------------------------------------------------------------------------------------------------------


def total(sums: NDArray[np.float64] | None) -> np.float64:
    """Return the sum of the tiles' sums, in a fixed order."""
    assert sums is not None
    return numbers.sum_along(sums, 0)[0]  # type: ignore[no-any-return]


def sum_to_shape(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return sums, in a fixed order, over the axes along which `shape` was broadcast."""
    for _ in range(values.ndim - len(shape)):
        values = numbers.sum_along(values, 0)[0]
    for axis, size in enumerate(shape):
        if size == 1 and values.shape[axis] != 1:
            values = numbers.sum_along(values, axis)
    return values
