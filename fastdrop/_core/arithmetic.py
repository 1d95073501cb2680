"""The compute type of a dtype, sums in a fixed order with the same last bits everywhere, and blocks for several passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["apart", "compute_type", "fixed_sum", "row_blocks"]

BLOCK = 2**16  # elements, few enough to stay in the second-level cache between the passes over them


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


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice | tuple[()]]:
    """Cut an array along its first axis into blocks that stay in the caches; yield their indices."""
    if not shape:
        yield ()
        return
    at_once = max(1, BLOCK // max(1, math.prod(shape[1:])))
    for first in range(0, shape[0], at_once):
        yield slice(first, first + at_once)


def apart(values: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return an array, or a copy if it may share memory with `y`: blocks of `y` are written before the whole array is read."""
    return np.array(values) if np.may_share_memory(values, y) else np.asarray(values)
