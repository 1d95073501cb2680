"""The weights of least magnitude, for both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.arithmetic import compute_type

__all__ = ["find_targets", "store_others"]


def find_targets(weight: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return flags of the `count` weights of least magnitude of each column; of equal ones, the first are flagged."""
    magnitudes = np.abs(weight.astype(compute_type(weight.dtype)))
    magnitudes[np.isnan(magnitudes)] = np.inf
    last = np.partition(magnitudes, count - 1, axis=0)[count - 1]
    below, equal = magnitudes < last, magnitudes == last
    left = count - np.count_nonzero(below, axis=0)
    targets: NDArray[np.bool_] = below | (equal & (np.cumsum(equal, axis=0) <= left))
    return targets


def store_others(weight: NDArray[Any], count: int, out: NDArray[np.bool_]) -> None:
    """Write flags of the other weights to `out`, which has the weights in any shape."""
    np.logical_not(find_targets(weight, count).reshape(out.shape), out=out)
