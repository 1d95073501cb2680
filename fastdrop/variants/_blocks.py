"""Blocks that are dropped together: their sizes, and the rate of blocks for a given dropping rate."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan

__all__ = ["check_block_size", "check_map_sizes", "seed_rate", "window_rate"]

MOST_TERMS = 2**20  # the largest number of terms of the equation for the exact rate


# Sizes --------------------------------------------------------------------------------------------------------------


def check_sizes(value: Any, name: str, what: str) -> tuple[int, ...]:
    """Return integers in [1, 2**63), or raise an error that names them."""
    try:
        if isinstance(value, (str, bytes)) or any(isinstance(size, (bool, np.bool_)) for size in value):
            raise TypeError
        sizes = tuple(map(operator.index, value))
    except TypeError:
        raise TypeError(f"{name} must be {what}, integers >= 1; got {value!r}") from None
    if not sizes or min(sizes) < 1 or max(sizes) >= 2**63:
        raise ValueError(f"{name} must be {what}, each >= 1 and below 2**63; got {value!r}")
    return sizes


def check_map_sizes(spatial: Any) -> tuple[int, ...]:
    """Return the sizes of a map along its one to three dimensions, or raise an error that names them."""
    sizes = check_sizes(spatial, "spatial", "one to three sizes")
    if len(sizes) > 3:
        raise ValueError(f"spatial must be one to three sizes; got {spatial!r}")
    if math.prod(sizes) >= 2**100:
        raise ValueError(f"spatial sizes must have a product below 2**100; got {spatial!r}")
    return sizes


def check_block_size(block_size: Any, spatial: Sequence[int]) -> tuple[int, ...]:
    """Return the size of a block along each spatial dimension, cut to the size of the map."""
    is_one = hasattr(block_size, "__index__") and np.ndim(block_size) == 0  # every array has that method
    each = [block_size] * len(spatial) if is_one else block_size
    sizes = check_sizes(each, "block_size", "one size, or one for each spatial dimension")
    if len(sizes) != len(spatial):
        raise ValueError(
            f"block_size must be one size, or one for each of {len(spatial)} spatial dimensions; got {block_size!r}"
        )
    return tuple(map(min, sizes, spatial))


# Rates of seeds -----------------------------------------------------------------------------------------------------


def seed_rate(p: float, spatial: tuple[int, ...], block: tuple[int, ...], exact: bool) -> float:
    """Return gamma, the probability that a position of a map is a seed."""
    return exact_seed_rate(p, spatial, block) if exact else paper_seed_rate(p, spatial, block)


@plan.remembering(1024)
def paper_seed_rate(p: float, spatial: tuple[int, ...], block: tuple[int, ...]) -> float:
    """Return the paper's gamma, which ignores that blocks overlap."""
    places = math.prod(size - length + 1 for size, length in zip(spatial, block, strict=True))
    return p * math.prod(spatial) / math.prod(block) / places


@plan.remembering(1024)
def exact_seed_rate(p: float, spatial: tuple[int, ...], block: tuple[int, ...]) -> float:
    """Return the gamma for which the expected dropped share of a map is p."""
    covers = sorted(count_covers(spatial, block).items())
    return solve_rate(p, np.array([n for n, _ in covers]), np.array([float(cells) for _, cells in covers]))


@plan.remembering(1024)
def window_rate(p: float, length: int) -> float:
    """Return the gamma for which an element that `length` windows can cover is dropped with probability p."""
    return p if length == 1 else solve_rate(p, np.array([length]), np.ones(1))


def count_covers(spatial: tuple[int, ...], block: tuple[int, ...]) -> Counter[int]:
    """Return, for each n, the number of cells of a map that n possible blocks cover."""
    most = [min(length, size - length + 1) for size, length in zip(spatial, block, strict=True)]
    if math.prod(most) > MOST_TERMS:
        raise ValueError(
            f"exact_rate has an equation of at most {MOST_TERMS} terms; maps of {spatial} with blocks of {block} have "
            f"{math.prod(most)}"
        )
    total = Counter({1: 1})
    for size, n in zip(spatial, most, strict=True):
        along = dict.fromkeys(range(1, n), 2) | {n: size - 2 * (n - 1)}  # fewer at both edges
        product: Counter[int] = Counter()
        for covers, cells in total.items():
            for more, times in along.items():
                product[covers * more] += cells * times
        total = product
    return total


def chance_of_any(gamma: float, n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1 - (1 - gamma)**n by squaring: a hit in a + b draws is a hit in the first a, or else one in the other b."""
    result, power = np.zeros(n.shape), gamma
    while n.any():
        result = np.where(n & 1, result + (1.0 - result) * power, result)
        power = power + (1.0 - power) * power
        n = n >> 1
    return result


def expected_dropped(gamma: float, n: NDArray[np.int64], cells: NDArray[np.float64]) -> float:
    """Return the expected number of dropped cells; `cells` of them can be covered by `n` blocks."""
    return math.fsum((cells * chance_of_any(gamma, n)).tolist())  # rounded once, whatever the order


def solve_rate(p: float, n: NDArray[np.int64], cells: NDArray[np.float64]) -> float:
    """Return the least float64 gamma for which the expected dropped share of the cells is p."""
    if p in (0.0, 1.0):
        return p
    low, high, middle = 0.0, 1.0, 0.5
    with np.errstate(all="ignore"):
        wanted = p * math.fsum(cells.tolist())
        while low < middle < high:
            low, high = (middle, high) if expected_dropped(middle, n, cells) < wanted else (low, middle)
            middle = (low + high) / 2
    return high
