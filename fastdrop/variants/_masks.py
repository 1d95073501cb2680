"""Masks of variants that compute in Python: decisions per part of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.plan import Call, Pass

__all__ = ["apply", "check_whole_axes", "decide", "whole_part"]

ROUNDING = Fraction(1, 2**52)  # the rounding error of a share that was computed in float64


@plan.remembering(1024)
def whole_part(n: int, share: float, rest: bool = False) -> int:
    """Return n * share, rounded down to an integer; if `rest`, n * (1 - share).

    The share is a rounded number. So a share that is too small by up to 2**-52 counts as the exact one: a share of 0.2 of 10 is
    2, and so is a share of 1 - 0.8.
    """
    exact = 1 - Fraction(share) if rest else Fraction(share)
    return min(n, math.floor(n * (exact + ROUNDING)))


# Decisions ----------------------------------------------------------------------------------------------------------


def decide(
    run: Pass, p: Any, axes: Sequence[int], tail: tuple[int, ...] = (), shared_axes: Sequence[int] = ()
) -> NDArray[np.bool_]:
    """Return keep flags: one axis per chosen axis of the array, of size 1 if it is shared, then axes of the sizes `tail`.

    The index of a decision is its C-order index in these flags; for a block, in the flags of the larger array.
    """
    call, shape = run.call, run.x.shape
    sizes = tuple([1 if axis in shared_axes else shape[axis] for axis in axes])
    whole: tuple[int, ...] | None = None
    begin: tuple[int, ...] | None = None
    if call.global_shape is not None:
        first = (0,) * len(shape) if call.global_start is None else call.global_start
        whole = (*[1 if axis in shared_axes else call.global_shape[axis] for axis in axes], *tail)
        begin = (*[0 if axis in shared_axes else first[axis] for axis in axes], *[0] * len(tail))
    seed, offset = run.key
    placed = Call(seed, offset, True, None, call.start, whole, begin)
    return plan.draw_mask((*sizes, *tail), p, placed)


def check_whole_axes(call: Call, shape: tuple[int, ...], axes: Sequence[int], reason: str) -> None:
    """Raise an error if the block of a larger array has only a part of one of these axes."""
    whole = call.global_shape
    if whole is None:
        return
    if len(whole) == len(shape) and any(whole[axis] != shape[axis] for axis in axes):
        names = " and ".join(map(str, axes))
        raise ValueError(
            f"a block of a larger array must have all of axis {names}, because {reason}; got shape {shape} and "
            f"global_shape {whole}"
        )


def apply(run: Pass, mask: NDArray[np.bool_], scale: float = 1.0, fill: float = 0.0) -> NDArray[Any]:
    """Apply a mask that broadcasts to the array. It is packed first, because the kernels read packed masks faster."""
    run.apply(np.packbits(np.broadcast_to(mask, run.x.shape), bitorder="little"), scale, fill=fill)
    return run.result()
