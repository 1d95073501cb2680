"""The compute type of a dtype, rounding to nearest, and sums in a fixed order, whose last bits are the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan

__all__ = ["compute_type", "fixed_sum", "rounding_to_nearest"]

P = ParamSpec("P")
R = TypeVar("R")


def rounding_to_nearest(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that computes with NumPy: the rounding mode of its caller must not change its result."""

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with plan.RoundToNearest():
            return function(*args, **kwargs)

    return computed


def compute_type(dtype: Any) -> type[np.floating[Any]]:
    """Return the compute type of a dtype: float64 for float64, float32 for all others."""
    return np.float64 if dtype == np.float64 else np.float32


def fixed_sum(values: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """Return sums along an axis, which keeps length 1: the second half is added to the first until one number is left.

    If the length is odd, the first half is the longer one. The sum over an empty axis is empty: the axis keeps length 0.
    """
    parts = np.array(np.moveaxis(values, axis, 0))
    n = len(parts)
    while n > 1:
        half = (n + 1) // 2
        parts[: n - half] += parts[half:n]
        n = half
    return np.moveaxis(parts[:1], 0, axis)
