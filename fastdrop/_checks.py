"""Checks of arguments that the modules on top of the functions share; what the functions themselves take, the plan checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import _plan

__all__ = ["at_least_one", "positive", "probabilities_of"]


def at_least_one(value: Any, name: str) -> int:
    """Return a number of things, or raise naming it."""
    number = _plan.count_of(value, name)
    if number < 1:
        raise ValueError(f"{name} must be at least 1; got {number}")
    return number


def positive(value: Any, name: str) -> float:
    """Return a number that is positive and finite, or raise naming it."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {value!r}")
    return float(value)


def probabilities_of(given: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities with classes along the last axis, or raise; what rounding puts above 1 passes."""
    p = np.asarray(given, np.float64)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError(f"probabilities must have an axis of classes, the last one; got shape {p.shape}")
    if not ((p >= 0) & (p <= 1 + 1e-2)).all():
        raise ValueError("probabilities must be in [0, 1] (after a softmax, say); some are not")
    return p
