"""Probabilities that are computed from scores: of keeping each element, of drawing each feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import as_real_array, as_share
from fastdrop._core.plan import as_axes

__all__ = ["keep_probabilities", "multinomial_probabilities"]

NEGLIGIBLE = 2.0**-1000  # of the largest score

# Keep probabilities from scores -------------------------------------------------------------------------------------


def keep_probabilities(
    scores: ArrayLike, p: float = 0.5, *, axis: int | Sequence[int] | None = None, floor: float = 0.01
) -> NDArray[np.float64]:
    """Return keep probabilities that are proportional to scores as far as they can be, with a mean of 1 - p.

    They are min(1, max(floor, level * score)), with the one level for which their mean is 1 - p ("water filling").

    Parameters
    ----------
    scores : array_like of real numbers
        The importance of each element, finite and >= 0: attention probabilities, magnitudes or saliencies, for example.
    p : float, default 0.5
        The mean probability of dropping, in [0, 1].
    axis : int or sequence of int, optional
        The axes over which the mean is taken, separately for each place along the other axes. By default all axes: one mean
        for the whole array.
    floor : float, default 0.01
        The least probability, in [0, 1]. It bounds the variance, because kept elements are multiplied by 1 / k for a keep
        probability k. A floor above 1 - p is lowered to 1 - p, because the mean could not be 1 - p otherwise; then all
        elements are kept with that probability.

    Returns
    -------
    numpy.ndarray
        Of float64 and the shape of `scores`.

    Raises
    ------
    TypeError
        `scores` that are not real numbers; `p` or `floor` not numbers.
    ValueError
        A score that is negative, infinite or NaN; `p` or `floor` outside [0, 1]; a bad `axis`.

    Notes
    -----
    Equal scores get equal probabilities. A score of 0 gets `floor`, unless the mean is below 1 - p even though all others are
    kept with probability 1; then all zeros get the same larger probability. So if all scores are 0, each is kept with
    probability 1 - p. Scores below 2**-1000 of the largest count as 0.

    The level solves a linear equation of the scores that are neither at the floor nor at 1. A bisection of the sorted scores
    finds these scores. Sums have a fixed order, so that the result is the same to the bit everywhere: the bisection adds one
    sorted score after another, and the equation adds the second half of the sorted scores to the first, and so on. The mean is
    1 - p up to rounding.

    Examples
    --------
    >>> from fastdrop import theory
    >>> theory.keep_probabilities([1.0, 2.0, 3.0, 2.0], 0.5)
    array([0.25, 0.5 , 0.75, 0.5 ])
    >>> theory.keep_probabilities([[1.0, 1.0, 1.0, 13.0], [0.0, 0.0, 0.0, 1.0]], 0.375, axis=1)
    array([[0.5, 0.5, 0.5, 1. ],
           [0.5, 0.5, 0.5, 1. ]])
    """
    given, rate, least = as_real_array(scores, "scores"), plan.as_rate(p), as_share(floor, "floor")
    axes = tuple(range(given.ndim)) if axis is None else as_axes(axis, given.ndim, "axis")
    check_values(given)
    if not given.size:
        return np.zeros(given.shape)
    last = tuple(range(given.ndim - len(axes), given.ndim))
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        moved = np.moveaxis(given.astype(np.float64), axes, last)
        rows = moved.reshape(-1, math.prod(given.shape[axis] for axis in axes))
        keep = fill_up(rows, 1.0 - rate, min(least, 1.0 - rate))
        return np.array(np.moveaxis(keep.reshape(moved.shape), last, axes), order="C")


def check_values(scores: NDArray[Any]) -> None:
    """Raise an error unless all scores are finite and not negative."""
    good = (scores >= 0) & (scores < np.inf)
    if not good.all():
        index = tuple(map(int, np.argwhere(~good)[0]))
        raise ValueError(f"scores must be finite and >= 0; got {scores[index]} at index {index}")


def fill_up(scores: NDArray[np.float64], mean: float, floor: float) -> NDArray[np.float64]:
    """Return the keep probabilities of each row of scores, with this mean and floor."""
    _, exponent = np.frexp(scores.max(axis=1, keepdims=True))
    scaled = np.ldexp(scores, -exponent)  # the largest is in [1/2, 1): no product below can overflow
    scaled[scaled < NEGLIGIBLE] = 0.0
    positive = np.count_nonzero(scaled, axis=1, keepdims=True)
    zeros = scores.shape[1] - positive
    of_zeros = np.clip((scores.shape[1] * mean - positive) / np.maximum(zeros, 1), floor, 1.0)
    wanted = scores.shape[1] * mean - zeros * of_zeros  # the sum of the probabilities of positive scores
    ordered = np.sort(scaled, axis=1)
    low, high = find_ends(ordered, zeros, wanted, floor)
    place = np.arange(scores.shape[1])
    slope = fixed_sum(np.where((place >= low) & (place < high), ordered, 0.0))
    level = (wanted - (scores.shape[1] - high) - floor * (low - zeros)) / np.where(slope > 0, slope, 1.0)
    keep = np.clip(scaled * level, floor, 1.0)
    keep[scaled >= score_at(ordered, high)] = 1.0
    probabilities: NDArray[np.float64] = np.where(scaled > 0, keep, of_zeros)
    return probabilities


def find_ends(
    ordered: NDArray[np.float64], zeros: NDArray[np.int64], wanted: NDArray[np.float64], floor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each row of sorted scores, the end of the scores at the floor and the begin of the scores at 1.

    A score is at 1 if the sum of probabilities is not above the wanted one at the level that just raises the score to 1. It is
    at the floor if the sum is at least the wanted one at the level that just raises the score above the floor.
    """
    n, end = ordered.shape[1], np.full(wanted.shape, ordered.shape[1])
    sums = np.concatenate([np.zeros(wanted.shape), np.add.accumulate(ordered, axis=1)], axis=1)  # of the smallest scores

    def total(level: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum of the probabilities of positive scores."""
        between = np.take_along_axis(sums, high, 1) - np.take_along_axis(sums, low, 1)
        found: NDArray[np.float64] = floor * (low - zeros) + level * between + (n - high)
        return found

    def is_full(j: NDArray[np.int64]) -> NDArray[np.bool_]:
        score = score_at(ordered, j)
        low = first_position(zeros, j, lambda i: score_at(ordered, i) > floor * score)
        return total(1.0 / score, low, j) <= wanted

    def is_lifted(j: NDArray[np.int64]) -> NDArray[np.bool_]:
        score, above = score_at(ordered, j), np.minimum(j + 1, n)
        high = first_position(above, end, lambda i: floor * score_at(ordered, i) >= score)
        return total(floor / score, above, high) < wanted

    return first_position(zeros, end, is_lifted), first_position(zeros, end, is_full)


def score_at(ordered: NDArray[np.float64], position: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the score at one position of each row; infinity past the end of the row."""
    found: NDArray[np.float64] = np.take_along_axis(ordered, np.minimum(position, ordered.shape[1] - 1), 1)
    found[position == ordered.shape[1]] = np.inf
    return found


def first_position(
    begin: NDArray[np.int64], end: NDArray[np.int64], is_past: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """Return, for each row, the first position from `begin` on where a monotone predicate holds, or `end`, by bisection."""
    for _ in range(int((end - begin).max(initial=0)).bit_length()):
        middle = (begin + end) // 2
        past = is_past(middle) | (begin >= end)
        begin, end = np.where(past, begin, middle + 1), np.where(past, middle, end)
    return begin


# Probabilities of draws ---------------------------------------------------------------------------------------------


def multinomial_probabilities(x: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of evolutional dropout: per feature, proportional to the root of its second moment.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The mini-batch: features along the last axis; every other axis is summed over.

    Returns
    -------
    numpy.ndarray
        Of float64 and shape ``x.shape[-1:]``; they sum to 1 up to rounding. If all of `x` is 0, or `x` has no samples, all
        probabilities are equal.

    Raises
    ------
    TypeError
        `x` of another dtype.
    ValueError
        A 0-d `x`, or infinities or NaN in it.

    Notes
    -----
    The probability of a feature is sqrt(sum of x_i**2), divided by the sum of these roots over all features. These
    probabilities minimize the second moment of the result of `multinomial_dropout`. They are computed in float64, with sums in
    a fixed order, so they are the same to the bit everywhere.

    References
    ----------
    .. [1] Z. Li, B. Gong, T. Yang, "Improved dropout for shallow and deep learning", NIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import theory
    >>> theory.multinomial_probabilities(np.array([[3.0, 0.0, 1.0], [4.0, 5.0, 0.0]]))
    array([0.45454545, 0.45454545, 0.09090909])
    """
    given = plan.as_array(x, "x")
    if not given.ndim:
        raise ValueError("x must have features along its last axis; a 0-d array has none")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        rows = given.astype(np.float64).reshape(math.prod(given.shape[:-1]), given.shape[-1])
        largest = np.abs(rows).max(initial=0.0)
        if not largest < np.inf:
            raise ValueError("x must be finite, because its second moments give the probabilities; it has infinities or NaN")
        rows = np.ldexp(rows, -np.frexp(largest)[1])  # no square overflows
        roots = np.sqrt(fixed_sum(rows * rows, 0)) if len(rows) and largest else np.ones((1, rows.shape[1]))
        probabilities: NDArray[np.float64] = (roots / fixed_sum(roots))[0]
        return probabilities
