"""Mask indices of an array's elements, and the blocks of the stream that contain them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Index", "distinct_blocks", "indices", "part_of", "words_of_pairs"]

GROUP = 128  # elements per block

Index = int | NDArray[np.int64]  # of the first of neighbours, or of each element


def indices(first: int, sizes: Sequence[int], steps: Sequence[int], element: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the mask indices of elements of an array, which are given by their numbers in C order."""
    index = np.full(element.size, first)
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        element, position = np.divmod(element, size)
        index += position * step
    return index


def part_of(index: Index, part: slice) -> Index:
    """Return the index of a part of the elements."""
    return index + part.start if isinstance(index, int) else index[part]


def words_of_pairs(index: Index) -> Index:
    """Return the index of the 32-bit words of pairs: pair i has the words 2 i and 2 i + 1."""
    return 2 * index if isinstance(index, int) else np.add.outer(2 * index, (0, 1)).reshape(-1)


def distinct_blocks(index: NDArray[np.int64], length: int = GROUP) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct blocks of the indices, and for each index the position of its block among them."""
    block = index // length
    low, high = int(block.min()), int(block.max())
    if high - low < index.size:  # close together: no need to sort
        return np.arange(low, high + 1, dtype=np.uint64), block - low
    found, position = np.unique(block, return_inverse=True)
    return found.astype(np.uint64), position
