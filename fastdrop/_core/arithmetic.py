"""The compute type of a dtype, and sums in a fixed order, whose last bits are the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["compute_type", "fixed_sum"]


def compute_type(dtype: Any) -> type[np.floating[Any]]:
    """Return the compute type of a dtype: float64 for float64, float32 for all others."""
    return np.float64 if dtype == np.float64 else np.float32


def fixed_sum(values: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """Return sums along an axis, which keeps length 1: the second half is added to the first until one number is left.

    If the length is odd, the first half is the longer one. The sum over an empty axis is empty: the axis keeps length 0.
    """
    given = np.moveaxis(values, axis, 0)
    n = (len(given) + 1) // 2  # the first step reads the array, the others work on its result
    parts = np.array(given[:n])
    parts[: len(given) - n] += given[n:]
    while n > 1:
        half = (n + 1) // 2
        parts[: n - half] += parts[half:n]
        n = half
    return np.moveaxis(parts[:1], 0, axis)
