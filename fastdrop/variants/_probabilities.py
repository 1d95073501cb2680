"""Probabilities that are computed from scores: of keeping each element, of drawing each feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import as_real_array, as_share
from fastdrop._core.plan import Call, as_axes

__all__ = ["keep_probabilities", "multinomial_probabilities"]

ROWS = 256  # partial sums of squares: few enough to stay in a cache

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
    probability 1 - p. Scores below 2**-1000 times the power of two above the largest count as 0.

    The level is the least float64 for which the sum of the differences from 1 - p is not negative. The differences are rounded
    to multiples that make their sum exact: for n < 2**d scores, to multiples of 2**(d - 51), and the remainders to multiples of
    2**(2 d - 103). So the result is the same to the bit everywhere. The mean is 1 - p up to rounding.

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
    return numbers.keep_probabilities(given, rate, axes, least, Call())


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
    a fixed order, so they are the same to the bit everywhere: sample r is added to the partial sum r % 256, and the second half
    of the partial sums is added to the first, and so on. Elements below 2**-538 of the largest magnitude count as 0.

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
    given = np.asarray(plan.as_array(x, "x"))  # a subclass may have a maximum of its own
    if not given.ndim:
        raise ValueError("x must have features along its last axis; a 0-d array has none")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        rows = given.reshape(math.prod(given.shape[:-1]), given.shape[-1])
        largest = max(float(rows.max(initial=0)), -float(rows.min(initial=0)))
        if not largest < np.inf:
            raise ValueError("x must be finite, because its second moments give the probabilities; it has infinities or NaN")
        roots = np.sqrt(sum_squares(rows, math.frexp(largest)[1])) if largest else np.ones((1, rows.shape[1]))
        probabilities: NDArray[np.float64] = (roots / fixed_sum(roots))[0]
        return probabilities


def sum_squares(rows: NDArray[Any], exponent: int) -> NDArray[np.float64]:
    """Return the sums of the columns' squares, times 4**-exponent, so that no square overflows.

    Row r is added to the partial sum r % ROWS, in the order of the rows; `fixed_sum` adds the partial sums.
    """
    sums = np.zeros((min(len(rows), ROWS), rows.shape[1]))
    for begin in range(0, len(rows), ROWS):
        piece = rows[begin : begin + ROWS].astype(np.float64)
        for part in (-exponent // 2, -exponent - -exponent // 2):  # one factor could overflow
            piece *= math.ldexp(1.0, part)
        sums[: len(piece)] += piece * piece
    return fixed_sum(sums, 0)
