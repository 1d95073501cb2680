"""What the variants that compute in Python share: checks, results, masks of blocks, factors counted from a mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan

__all__ = ["apply", "apply_counted", "beside_grad", "block_mask", "compute_type", "stored"]

WORD = 64  # bits


def compute_type(dtype: Any) -> type[np.floating[Any]]:
    """Return the type that arrays of a dtype are computed with."""
    return np.float64 if dtype == np.float64 else np.float32


def beside_grad(x: ArrayLike, name: str, grad: NDArray[Any]) -> NDArray[Any]:
    """Return an input of the forward pass that a backward pass takes beside the gradient, or raise naming it."""
    array = plan.as_array(x, name)
    if array.shape != grad.shape or array.dtype != grad.dtype:
        raise ValueError(
            f"{name} must have grad's shape {grad.shape} and dtype {grad.dtype}; got shape {array.shape} and {array.dtype}"
        )
    return array


def stored(result: NDArray[Any], like: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """Return a result in `out`, or in a new array like another one, rounded to its dtype."""
    made = np.empty_like(like) if out is None else out
    made[...] = result
    return made


# Blocks -------------------------------------------------------------------------------------------------------------


def doublings(length: int) -> Iterator[int]:
    """Yield the shifts that spread one element over `length`, when a mask is or-ed with itself shifted by each in turn."""
    covered = 1
    while covered < length:
        shift = min(covered, length - covered)
        yield shift
        covered += shift


def or_shifted(words: NDArray[np.uint64], shift: int) -> NDArray[np.uint64]:
    """Return a string of bits, the first in the lowest place, or-ed with itself moved up by `shift`."""
    whole, part = divmod(shift, WORD)
    out = words.copy()
    if whole < words.size:
        out[whole:] |= words[: words.size - whole] << np.uint64(part)
        if part:
            out[whole + 1 :] |= words[: words.size - whole - 1] >> np.uint64(WORD - part)
    return out


def block_mask(
    lead: tuple[int, ...], spatial: tuple[int, ...], block: tuple[int, ...], gamma: float, seed: int, offset: int
) -> NDArray[np.bool_]:
    """Return a mask of shape ``lead + spatial``, False on every block whose first corner is a seed, True elsewhere.

    A seed is drawn with probability `gamma` at each place from which a block lies inside: its index is the C-order one
    in an array of ``lead + (spatial - block + 1)``. As no block crosses an edge, the mask is one string of bits in which
    a step along any axis is a shift.
    """
    shape = (*lead, *spatial)
    if 0 in shape:
        return np.ones(shape, np.bool_)
    places = (*lead, *(size - length + 1 for size, length in zip(spatial, block, strict=True)))
    free = plan.old_mask(places, gamma, seed, offset, False, 0, None, None)
    if places == shape:
        return free
    n = math.prod(shape)
    flags = np.zeros(-(-n // WORD) * WORD, np.bool_)
    flags[:n].reshape(shape)[tuple(map(slice, places))] = ~free
    words = np.packbits(flags, bitorder="little").view("<u8").astype(np.uint64, copy=False)
    step = 1
    for size, length in zip(reversed(spatial), reversed(block), strict=True):
        for shift in doublings(length):
            words = or_shifted(words, shift * step)
        step *= size
    kept = (~words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(kept, count=n, bitorder="little").view(np.bool_).reshape(shape)


def apply(x: NDArray[Any], mask: NDArray[np.bool_], scale: float, out: NDArray[Any] | None) -> NDArray[Any]:
    """Apply a mask that broadcasts to x, packed first: the kernels' own form, which they need not gather bit by bit."""
    packed = np.packbits(np.broadcast_to(mask, x.shape), bitorder="little")
    return plan.apply_mask(x, packed, scale, out, None, None)


# Counts -------------------------------------------------------------------------------------------------------------


def factors_of(size: int, kept: NDArray[Any]) -> NDArray[np.float64]:
    """Return size / kept, and 0 where nothing is kept."""
    factors = np.zeros(kept.shape)
    with plan.RoundToNearest():
        np.divide(float(size), kept, out=factors, where=kept > 0)
    return factors


def apply_counted(x: NDArray[Any], mask: NDArray[np.bool_], by_sample: bool, out: NDArray[Any] | None) -> NDArray[Any]:
    """Apply a mask; scale by its size over the number that it keeps, counted over all of it or in each sample (axis 0)."""
    if not by_sample:
        scale = factors_of(mask.size, np.asarray(np.count_nonzero(mask)))
        return apply(x, mask, float(scale), out)
    kept = np.count_nonzero(mask, axis=tuple(range(1, mask.ndim)), keepdims=True)
    y = apply(x, mask, 1.0, out)  # exact, so that the product below is what is rounded, once
    values, type = np.asarray(y), compute_type(y.dtype)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        scale = factors_of(math.prod(mask.shape[1:]), kept).astype(type)
        np.multiply(values, scale, out=values, dtype=type, casting="unsafe")
    return y
