"""How a mask lies over an array: from a caller's keywords to a first index and a step for each axis.

The mask has an index space of its own. Element (i0, i1, ...) of the array has the bit of index
``first + i0 * steps[0] + i1 * steps[1] + ...``; the step of an axis that shares one decision is 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["axes_of", "blocks_of", "indices", "mask_geometry"]

GROUP = 128  # elements to a block

ELEMENTS_END = 2**55


def sizes_of(value: Any, name: str) -> tuple[int, ...]:
    """Return a sequence of integers as a tuple, or raise naming it."""
    try:
        return tuple(operator.index(size) for size in value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers; got {value!r}") from None


def axes_of(axes: Any, ndim: int, name: str) -> tuple[int, ...]:
    """Return one axis or several, negative ones counted from the end, as a sorted tuple."""
    is_one = hasattr(axes, "__index__") and np.ndim(axes) == 0  # every array has that method
    given = sizes_of([axes] if is_one else axes, name)
    for axis in given:
        if not -ndim <= axis < ndim:
            raise ValueError(f"{name} {given} are out of range for an array of {ndim} dimensions")
    found = tuple(sorted(axis % ndim for axis in given))
    if len(set(found)) < len(found):
        raise ValueError(f"{name} {given} name an axis twice")
    return found


def shared_of(shape: tuple[int, ...], noise_shape: Any, shared_axes: Any) -> set[int]:
    """Return the axes along which one decision is shared."""
    if noise_shape is None:
        return set() if shared_axes is None else set(axes_of(shared_axes, len(shape), "shared_axes"))
    if shared_axes is not None:
        raise ValueError("noise_shape and shared_axes say the same in two ways: give one of them")
    try:
        noise = tuple(size if given is None else operator.index(given) for given, size in zip(noise_shape, shape, strict=True))
    except (TypeError, ValueError):
        raise ValueError(
            f"noise_shape must have a size, 1 or None for each axis of shape {shape}; got {noise_shape!r}"
        ) from None
    if any(size not in (1, length) for size, length in zip(noise, shape, strict=True)):
        raise ValueError(f"noise_shape {noise} does not broadcast to shape {shape}: each size must be 1, None or the array's")
    return {axis for axis, (size, length) in enumerate(zip(noise, shape, strict=True)) if size == 1 and length != 1}


def block_of(shape: tuple[int, ...], global_shape: Any, global_start: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the larger array and where in it the block begins."""
    if global_shape is None:
        if global_start is not None:
            raise ValueError("global_start needs global_shape, the shape of the larger array")
        return shape, (0,) * len(shape)
    whole = sizes_of(global_shape, "global_shape")
    begin = (0,) * len(whole) if global_start is None else sizes_of(global_start, "global_start")
    if not len(whole) == len(begin) == len(shape):
        raise ValueError(
            f"global_shape {whole} and global_start {begin} must have a number for each axis of the block's shape {shape}"
        )
    if any(b < 0 or b + n > w for b, n, w in zip(begin, shape, whole, strict=True)):
        raise ValueError(f"a block of shape {shape} from {begin} on is not inside global_shape {whole}")
    return whole, begin


def mask_geometry(
    shape: Sequence[int], start: int, noise_shape: Any, shared_axes: Any, global_shape: Any, global_start: Any
) -> tuple[int, tuple[int, ...]]:
    """Return (first, steps) of the mask over an array of `shape`, or raise naming what is wrong."""
    shape = tuple(shape)
    whole, begin = block_of(shape, global_shape, global_start)
    shared = shared_of(whole, noise_shape, shared_axes)
    if 0 in shape:  # no element, no index: where it would be may be past the end of the stream
        return 0, (0,) * len(shape)
    noise = [1 if axis in shared else size for axis, size in enumerate(whole)]
    steps = [0 if axis in shared else math.prod(noise[axis + 1 :]) for axis in range(len(noise))]
    first = start + sum(b * step for b, step in zip(begin, steps, strict=True))
    last = first + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if last >= ELEMENTS_END:
        raise OverflowError(f"stream 1 has 2**55 elements; this mask would reach index {last}")
    return first, tuple(step if n > 1 else 0 for n, step in zip(shape, steps, strict=True))


def indices(first: int, sizes: Sequence[int], steps: Sequence[int], begin: int, n: int) -> NDArray[np.int64]:
    """Return the mask's index of each of the elements begin .. begin + n - 1 of an array, in C order."""
    element = np.arange(begin, begin + n)
    index = np.full(n, first)
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        element, position = np.divmod(element, size)
        index += position * step
    return index


def blocks_of(index: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the blocks that the indices lie in, each once, and for each index the position of its block among them."""
    block = index // GROUP
    low, high = int(block.min()), int(block.max())
    if high - low < index.size:  # close together: no need to sort
        return np.arange(low, high + 1, dtype=np.uint64), block - low
    found, position = np.unique(block, return_inverse=True)
    return found.astype(np.uint64), position
