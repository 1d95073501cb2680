"""Descriptions of data, and the distance between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number, as_floats, as_positive_number

__all__ = ["Description", "checked_description", "describe", "distance"]

Description = Mapping[str, float]

MOST_NEIGHBOURS = 1000  # the largest number of samples whose nearest neighbours are searched for
SIZES = ("samples", "features", "classes")  # compared by their ratio


def checked_description(description: Any) -> dict[str, float]:
    """Return a description in Python's numbers, which the store can hold, or raise an error that names the bad entry."""
    if not isinstance(description, Mapping):
        raise TypeError(f"description must be a mapping of names to numbers; got {description!r}")
    checks = {name: as_positive_number if name in SIZES else as_finite_number for name in description}
    return {name: check(description[name], f"description[{name!r}]") for name, check in checks.items()}


def describe(x: ArrayLike, y: ArrayLike) -> dict[str, float]:
    """Return numbers that describe labelled data, by which `search` compares studies.

    Parameters
    ----------
    x : array_like
        The samples, along the first axis.
    y : array_like of int
        The class of each sample.

    Returns
    -------
    dict of str to float
        ``samples``, ``features`` and ``classes`` are the numbers of these. ``balance`` is 1 if all classes are equally
        frequent and tends to 0 if one class has almost all samples (the inverse Simpson index divided by the number of
        classes). ``noise`` is the share of samples whose nearest neighbour has another label, among up to 1,000 evenly spaced
        samples. It is large for noisy labels and for overlapping classes.

    Raises
    ------
    TypeError
        `x` has other elements than real numbers, or `y` has labels that cannot be sorted.
    ValueError
        Shapes do not fit together, there are fewer than two samples or no features, or a number is not finite.

    Examples
    --------
    >>> from fastdrop.tuning import describe
    >>> describe([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1])
    {'samples': 4.0, 'features': 1.0, 'classes': 2.0, 'balance': 1.0, 'noise': 0.0}
    """
    labels, values = np.asarray(plan.to_array(y, "y")), as_floats(x, "x")
    if values.ndim < 1 or labels.shape != values.shape[:1] or len(labels) < 2 or not values.size:
        raise ValueError(f"x must have shape (N, ...) and y (N,), N > 1, with features; got {values.shape} and {labels.shape}")
    if not np.isfinite(values).all():
        raise ValueError("x must be finite; it has NaN or infinities")
    values = values.reshape(len(labels), -1)
    try:
        _, counts = np.unique(labels, return_counts=True)
    except TypeError:
        raise TypeError("y must have labels of one type, which can be sorted; they are of several types") from None
    share = counts / len(labels)
    return {
        "samples": float(len(labels)),
        "features": float(values.shape[1]),
        "classes": float(len(counts)),
        "balance": float(1.0 / (share * share).sum() / len(counts)),
        "noise": disagreement(values, labels),
    }


def disagreement(x: Any, y: Any) -> float:
    """Return the share of samples whose nearest neighbour has another label."""
    some = np.linspace(0, len(y) - 1, min(len(y), MOST_NEIGHBOURS)).astype(np.int64)
    x, y = x[some], y[some]
    x = np.ldexp(x, -np.frexp(np.abs(x).max())[1])  # so that nothing overflows
    x -= np.median(x, axis=0)  # the differences below cancel what lies far from 0
    x /= np.abs(x).max() or 1.0
    squares = (x * x).sum(axis=1)
    apart = squares[:, np.newaxis] - 2.0 * (x @ x.T) + squares
    np.fill_diagonal(apart, np.inf)
    return float((y[apart.argmin(axis=1)] != y).mean())


def distance(a: Description, b: Description) -> float:
    """Return the distance of two descriptions of data.

    Parameters
    ----------
    a, b : mapping of str to float
        The descriptions, as `describe` returns them, or other numbers under the same names in both.

    Returns
    -------
    float
        The Euclidean distance. ``samples``, ``features`` and ``classes`` count by the logarithm of their ratio, other numbers
        by their difference. The distance is infinite if the names differ.

    Raises
    ------
    TypeError, ValueError
        A description has other values than finite numbers, or one of the sizes is not above 0.

    Examples
    --------
    >>> from fastdrop.tuning import distance
    >>> round(distance({"samples": 100, "noise": 0.1}, {"samples": 200, "noise": 0.1}), 3)
    0.693
    """
    one, other = checked_description(a), checked_description(b)
    if one.keys() != other.keys():
        return math.inf
    return math.hypot(
        *(math.log(one[key]) - math.log(other[key]) if key in SIZES else one[key] - other[key] for key in sorted(one))
    )
