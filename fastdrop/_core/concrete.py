"""The rate of a softened mask and its mean, by a quadrature whose last bits are the same everywhere."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import as_finite_scalar

__all__ = ["SoftMean", "concrete_rate", "soft_keep_mean"]

Floats = NDArray[np.float64]

# The eight nodes and weights of Gauss-Legendre quadrature on [-1, 1]. The integrands below vary over about the width of a
# panel, so the error per panel is below 1e-15.
HALF_NODES = (0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363)
HALF_WEIGHTS = (0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763)
NODES = np.array([*(-node for node in reversed(HALF_NODES)), *HALF_NODES])
WEIGHTS = np.array([*reversed(HALF_WEIGHTS), *HALF_WEIGHTS])
NEGLIGIBLE = 40.0  # exp(-40) is 4e-18
MOST = 16.0  # logits are clamped to [-16, 16]: p or 1 - p is never below 1e-7


class SoftMean(NamedTuple):
    """The mean of 1 - s for a soft decision s to drop, and its derivative by the logit of s's rate."""

    value: float
    slope: float


def concrete_rate(p_logit: Any) -> tuple[float, float, float]:
    """Return the clamped logit, p and 1 - p, each with full relative accuracy."""
    logit = min(max(as_finite_scalar(p_logit, "p_logit"), -MOST), MOST)
    return logit, *rates(logit)


@plan.remembering(256)
def rates(logit: float) -> tuple[float, float]:
    """Return p and 1 - p."""
    p, keep = sigmoid(np.array([logit, -logit])).tolist()
    return p, keep


def sigmoid(x: Floats) -> Floats:
    """Return the logistic function, with the same bits everywhere."""
    made: Floats = numbers.elementary("sigmoid", x, None, None, None)
    return made


def soft_keep_mean(keep: float, logit: float, temperature: float, epsilon: float) -> SoftMean:
    """Return the mean of 1 - s, where s = sigmoid((logit + v) / t) and v = log((u + epsilon) / (1 - u + epsilon)), u uniform.

    For t near 0 the mean is `keep`, the probability of v < -logit. The rest is an integral over w = |v + logit| / t. Its
    integrand is sigmoid(-w) times the difference of v's density on both sides of -logit. This density is the logistic one up
    to |v| = `end`. The derivative is the same kind of integral, over the sum of both densities. The caller rounds to nearest.
    """
    t, end = temperature, math.inf
    with np.errstate(all="ignore"):
        if epsilon > 0:
            end = float(numbers.elementary("log", np.array((1.0 + epsilon) / epsilon), None, None, None))
        sides = []
        for sign, height in ((1.0, logit), (-1.0, -logit)):  # the density at -logit + t w and at -logit - t w
            if height + end <= 0.0:
                sides.append((0.0, 0.0))
                continue
            upper = min(reach(height, t), (height + end) / t)
            sides.append(integrals(upper, t, sign, logit))
        (above, slope_above), (below, slope_below) = sides
        mass = 1.0 + 2.0 * epsilon
        return SoftMean(keep + t * mass * (above - below), -mass * (slope_above + slope_below))


def density(v: Floats) -> Floats:
    """Return the logistic density."""
    return sigmoid(v) * sigmoid(-v)


def reach(height: float, t: float) -> float:
    """Return the w above which exp(-w) times the density is negligible. The density rises until t w = height."""
    rise = max(height, 0.0) / t
    bounds = [rise + NEGLIGIBLE, rise + NEGLIGIBLE / t]
    if t < 1.0:
        bounds.append(NEGLIGIBLE / (1.0 - t))
    return min(bounds)


def integrals(upper: float, t: float, sign: float, logit: float) -> tuple[float, float]:
    """Integrate density(sign t w - logit) over w from 0 to `upper`, times sigmoid(-w), and times sigmoid(-w) sigmoid(w)."""
    panels = max(1, math.ceil(upper * max(1.0, t)))
    half = upper / panels / 2.0
    w = (half * (2.0 * np.arange(panels, dtype=np.float64) + 1.0))[:, None] + half * NODES
    falling, weights = sigmoid(-w), density(sign * t * w - logit) * (half * WEIGHTS)
    return add_up(falling * weights), add_up(falling * sigmoid(w) * weights)


def add_up(values: Any) -> float:
    """Return the sum of all values, in a fixed order."""
    return float(fixed_sum(np.ravel(values))[0])
