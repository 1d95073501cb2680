"""Factors of features that are drawn with replacement, for both backends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_factors"]


def draw_factors(words: NDArray[np.uint32], shares: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the factor of each feature for rows of words, each a draw: its count over the number of draws times its share."""
    rows, k = words.shape
    drawn = (
        np.searchsorted(np.cumsum(shares), words.astype(np.uint64), side="right") + np.arange(rows)[:, np.newaxis] * shares.size
    )
    counts = np.bincount(drawn.reshape(-1), minlength=rows * shares.size).reshape(rows, shares.size)
    factors: NDArray[np.float64] = counts * 2.0**32 / (k * np.maximum(shares, np.uint64(1)).astype(np.float64))
    return factors
