"""Continuous noise for the Python backends, and the definition of `src_c/kernels/noise_tpl.h`.

Each noise converts one random number per element (and an operand, for those that have one) to the element's factor or, for
those in `ADDED`, its summand. Each also returns the slope for the gradient of its parameter, or None. Arrays are flat and all
of one type, float32 or float64; parameters are numbers of that type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.backends import elementary

Floats = NDArray[Any]
Made = tuple[Floats, Floats | None]


def gaussian(z: Floats, other: Floats | None, scale: Any) -> Made:
    """Return the factor 1 + scale z."""
    return z.dtype.type(1) + scale * z, z


def additive(z: Floats, other: Floats | None, scale: Any) -> Made:
    """Return the summand scale z."""
    return scale * z, None


def spread(z: Floats, variance: Floats, least: Any) -> Made:
    """Return the summand sqrt(variance + least) z."""
    return np.sqrt(variance + least) * z, None


def spread_slope(z: Floats, variance: Floats, least: Any) -> Made:
    """Return the factor z / (2 sqrt(variance + least)): the derivative of `spread` with respect to the variance."""
    return (z * z.dtype.type(0.5)) / np.sqrt(variance + least), None


def power(r: Floats, exponent: float) -> Floats:
    """Return r**exponent: by squaring and a square root if twice the exponent is an integer up to 64, else by logarithms."""
    doubled = 2 * exponent
    if not (1 <= doubled <= 64 and doubled == int(doubled)):
        exp, log = (
            functions[r.dtype == np.float64] for functions in (elementary.FUNCTIONS["exp"], elementary.FUNCTIONS["log"])
        )
        made: Floats = exp(r.dtype.type(exponent) * log(r))
        return made
    result = np.sqrt(r) if int(doubled) % 2 else np.ones_like(r)
    whole, square = int(exponent), r
    while whole:
        if whole % 2:
            result = result * square
        whole //= 2
        square = square * square
    return result


def concrete(u: Floats, other: Floats | None, *params: Any) -> Made:
    """Return the factor (1 - drop) scale, with the softened decision drop = 1 / (1 + r**exponent)."""
    odds, least, exponent, scale, steepness = params
    one = u.dtype.type(1)
    r = odds * (((one - u) + least) / (u + least))
    drop = one / (one + power(r, float(exponent)))
    kept = (one - drop) * scale
    return kept, kept * scale - (drop * kept) * steepness


def uniform(u: Floats, other: Floats | None, width: Any) -> Made:
    """Return the factor 1 + width (2 u - 1)."""
    one = u.dtype.type(1)
    centred = (u + u) - one
    return one + width * centred, centred


def scaled(z: Floats, scale: Floats) -> Made:
    """Return the factor 1 + scale z, with one scale per element."""
    return z.dtype.type(1) + scale * z, None


def factors(numbers: None, factor: Floats) -> Made:
    """Return the given factor; no number is drawn."""
    return factor, None


def tile_sums(products: Floats, tile: int) -> NDArray[np.float64]:
    """Return the sum of each tile in float64: the second half is added to the first until one number is left."""
    padded = np.zeros(-(-products.size // tile) * tile)
    padded[: products.size] = products
    return fixed_sum(padded.reshape(-1, tile))[:, 0]


NOISES: dict[str, Callable[..., Made]] = {
    "gaussian": gaussian,
    "additive": additive,
    "spread": spread,
    "spread_slope": spread_slope,
    "concrete": concrete,
    "uniform": uniform,
    "scaled": scaled,
    "factors": factors,
}
NUMBERS = dict.fromkeys(NOISES, "normal") | {"concrete": "uniform", "uniform": "uniform", "factors": None}
ADDED = ("additive", "spread")
GIVEN_FACTORS = ("scaled", "factors")  # their operand has the compute type
