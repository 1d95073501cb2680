"""Mask indices of an array's elements, and the blocks of the stream that contain them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_blocks", "indices"]

GROUP = 128  # elements per block


def indices(first: int, sizes: Sequence[int], steps: Sequence[int], element: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the mask indices of elements of an array, which are given by their numbers in C order."""
    index = np.full(element.size, first)
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        element, position = np.divmod(element, size)
        index += position * step
    return index


def distinct_blocks(index: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct blocks of the indices, and for each index the position of its block among them."""
    block = index // GROUP
    low, high = int(block.min()), int(block.max())
    if high - low < index.size:  # close together: no need to sort
        return np.arange(low, high + 1, dtype=np.uint64), block - low
    found, position = np.unique(block, return_inverse=True)
    return found.astype(np.uint64), position
