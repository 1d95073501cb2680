"""Multiplication by normal numbers, which several variants share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.plan import Call

__all__ = ["multiply_by_normal", "multiply_by_normal_backward"]


def multiply_by_normal(call: Call, x: ArrayLike, scale: Any) -> NDArray[Any]:
    """Return x * (1 + scale z), z normal, for one scale or for an array of them that broadcasts to x."""
    if isinstance(scale, float):
        return numbers.noise(call, x, "gaussian", (scale,))[0]
    return numbers.noise(call, x, "scaled", (), scale, other_name="log_alpha")[0]


def multiply_by_normal_backward(call: Call, grad: ArrayLike, scale: Any, x: ArrayLike) -> tuple[NDArray[Any], Any]:
    """Return the gradients with respect to x and log(scale**2); the latter is summed to the shape of scale."""
    if not isinstance(scale, float):
        return numbers.scaled_backward(call, grad, x, scale)
    dx, made = numbers.noise_and_sum(call, grad, "gaussian", (scale,), x, other_name="x")
    with plan.RoundToNearest():
        return dx, np.float64(float(scale) * 0.5 * float(made))  # Python's floats raise no errors of NumPy
