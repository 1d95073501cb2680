"""The raw bytes of a stream, piece by piece, for test batteries of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastdrop

__all__ = ["KINDS", "Raw", "pieces"]

PIECE = 2**21  # elements per piece; a multiple of 8, so that the packed bits of one piece end with a whole byte


@dataclass(frozen=True)
class Raw:
    """The data to write: a kind of `KINDS`, the key, and the arguments of the kind."""

    kind: str
    seed: int
    offset: int = 0
    p: float = 0.5
    dtype: DTypeLike = "float32"


# Each kind: the function that makes a piece (of the data, the number of elements, the first index), and the end of the indices.
Kind = tuple[Callable[[Raw, int, int], NDArray[Any]], int]
KINDS: dict[str, Kind] = {
    "words": (lambda raw, n, start: fastdrop.words(n, seed=raw.seed, offset=raw.offset, start=start), 2**50),
    "mask": (lambda raw, n, start: mask(raw, n, start, packed=False), 2**55),
    "packed": (lambda raw, n, start: mask(raw, n, start, packed=True), 2**55),
    "normal": (
        lambda raw, n, start: fastdrop.normal(n, dtype=raw.dtype, seed=raw.seed, offset=raw.offset, start=start),
        2**50,
    ),
}


def mask(raw: Raw, n: int, start: int, *, packed: bool) -> NDArray[Any]:
    return fastdrop.dropout_mask(n, raw.p, seed=raw.seed, offset=raw.offset, start=start, packed=packed)


def pieces(raw: Raw, count: int | None) -> Iterator[memoryview]:
    """Check the arguments, and return the bytes of the first `count` elements, or of all; little-endian on every machine."""
    function, end = KINDS[raw.kind]
    if raw.kind == "normal" and np.dtype(raw.dtype) == np.float64:  # each takes two words
        end //= 2
    if count is not None and not 0 <= count <= end:
        raise ValueError(f'count must be in [0, {end}] for {raw.kind}, or "unlimited"; got {count}')
    function(raw, 0, 0)
    size = end if count is None else count
    made = (function(raw, min(PIECE, size - start), start) for start in range(0, size, PIECE))
    return (piece.astype(piece.dtype.newbyteorder("<"), copy=False).view(np.uint8).data for piece in made)
