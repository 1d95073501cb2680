"""Masks of blocks, in NumPy: for the backends in Python."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["drop_blocks"]

WORD = 64  # bits


def doublings(length: int) -> Iterator[int]:
    """Yield shifts. OR-ing a mask with itself, shifted by each in turn, spreads one element over `length` elements."""
    covered = 1
    while covered < length:
        shift = min(covered, length - covered)
        yield shift
        covered += shift


def or_shifted(words: NDArray[np.uint64], shift: int) -> NDArray[np.uint64]:
    """Return a bit string, lowest bit first, OR-ed with itself shifted up by `shift`."""
    whole, part = divmod(shift, WORD)
    out = words.copy()
    if whole < words.size:
        out[whole:] |= words[: words.size - whole] << np.uint64(part)
        if part:
            out[whole + 1 :] |= words[: words.size - whole - 1] >> np.uint64(WORD - part)
    return out


def drop_blocks(
    seeds: NDArray[np.uint8], maps: int, sizes: tuple[int, ...], block: tuple[int, ...], out: NDArray[np.uint8]
) -> None:
    """Write packed keep bits of maps: 0 on each block whose first corner is a seed. A seed is a 0 in `seeds`.

    `seeds` has a bit for each possible first corner of a block inside a map: of sizes ``sizes - block + 1``. No block crosses
    an edge, so the maps are one bit string in which a step along any axis is a shift.
    """
    corners = (maps, *[size - length + 1 for size, length in zip(sizes, block, strict=True)])
    n = maps * math.prod(sizes)
    flags = np.zeros(-(-n // WORD) * WORD, np.bool_)
    free = np.unpackbits(seeds, count=math.prod(corners), bitorder="little").view(np.bool_).reshape(corners)
    flags[:n].reshape((maps, *sizes))[tuple(map(slice, corners))] = ~free
    words = np.packbits(flags, bitorder="little").view("<u8").astype(np.uint64, copy=False)
    step = 1
    for size, length in zip(reversed(sizes), reversed(block), strict=True):
        for shift in doublings(length):
            words = or_shifted(words, shift * step)
        step *= size
    kept = (~words).astype("<u8", copy=False).view(np.uint8)
    out[: kept.size] = kept
