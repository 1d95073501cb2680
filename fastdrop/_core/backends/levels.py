"""Keep probabilities from scores, for both backends: the definition of the level that gives them their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIGHEST", "fill_up", "store"]

HIGHEST = 2.0**1001  # at this level, all positive scores give 1: they are at least 2**-1000

Floats = NDArray[np.float64]


def fill_up(scores: Floats, mean: float, floor: float) -> Floats:
    """Return min(1, max(floor, level * score)), with the level of each row for which the mean is at least `mean`.

    The level is the least float64, found by bisection of the bits, which are in the order of the numbers. If the mean is too
    small even with all positive scores at 1, those that are 0 share the rest.
    """
    low, high = np.full((len(scores), 1), -1), np.full((len(scores), 1), np.float64(HIGHEST).view(np.int64))
    is_short = excess(scores, high.view(np.float64), mean, floor) < 0
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        is_below = excess(scores, middle.view(np.float64), mean, floor) < 0
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    positive = np.count_nonzero(scores, axis=1, keepdims=True)
    zeros = scores.shape[1] - positive
    rest = np.clip((scores.shape[1] * mean - positive) / np.maximum(zeros, 1), floor, 1.0)
    keep: Floats = np.where(is_short, np.where(scores > 0, 1.0, rest), np.clip(high.view(np.float64) * scores, floor, 1.0))
    return keep


def store(rows: NDArray[Any], n: int, mean: float, floor: float, drop: bool, out: Floats) -> None:
    """Write the keep probabilities of rows of n scores; if `drop`, write 1 minus them."""
    keep = fill_up(rows.astype(np.float64).reshape(-1, n), mean, floor)
    out[...] = (1.0 - keep if drop else keep).reshape(out.shape)


def excess(scores: Floats, level: Floats, mean: float, floor: float) -> Floats:
    """Return each row's sum of (keep probability - mean), the same in every order.

    For n < 2**d terms, each term is rounded to a multiple of 2**(d - 51), and the remainder to one of 2**(2 d - 103). The sums
    of the multiples are exact.
    """
    digits = scores.shape[1].bit_length()
    terms = np.clip(level * scores, floor, 1.0) - mean
    coarse, fine = 1.5 * 2.0 ** (digits + 1), 1.5 * 2.0 ** (2 * digits - 51)
    upper = (terms + coarse) - coarse
    lower = ((terms - upper) + fine) - fine
    sums: Floats = upper.sum(axis=1, keepdims=True) + lower.sum(axis=1, keepdims=True)
    return sums
