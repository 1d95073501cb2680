"""The variance of noise of mean 1, such as dropout."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_floats, as_real_array

__all__ = ["Floats", "noise_variance", "rate_array"]

Floats = NDArray[np.float64]


def noise_variance(p: ArrayLike | None, half_width: ArrayLike | None = None) -> Floats:
    """Return the variance of noise of mean 1: of dropout's factors, or of uniform noise."""
    if (p is None) == (half_width is None):
        raise TypeError("either p or half_width must be given, and not both")
    if p is not None:
        rates = rate_array(p)
        return np.asarray(rates / (1.0 - rates))
    width = as_floats(half_width, "half_width")  # type: ignore[arg-type]
    if not ((width >= 0) & (width < np.inf)).all():
        raise ValueError(f"half_width must be finite and >= 0; got {half_width!r}")
    return np.asarray(width * width / 3.0)


def rate_array(p: ArrayLike) -> Floats:
    """Return one probability of dropping or an array of them; each is checked as a single one is."""
    if plan.to_array(p, "p").ndim == 0:
        return np.asarray(plan.as_rate(p))
    rates = as_real_array(p, "p", flags=False).astype(np.float64)
    for bad in rates[~((rates >= 0) & (rates <= 1))]:
        plan.as_rate(float(bad))
    return rates
