"""The intended rate of a layer, and the share that a pass of it dropped, with one measure per technique."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastdrop
from fastdrop.nn import _variants as layers
from fastdrop.nn.variant import Record, Variant
from fastdrop.variants.alpha import alpha_factors
from fastdrop.variants.concrete import soften

__all__ = ["Pass", "dropped_share", "nominal_rate", "replaced_share"]

MOST = 2**14  # the largest number of connections of a mask that are counted


class Pass(NamedTuple):
    """A forward pass of a layer, by evenly spaced elements of its arrays.

    Arrays of the same size are sampled at the same positions.
    """

    x: NDArray[Any]  # elements of the input
    y: NDArray[Any]  # elements of the output
    sizes: tuple[int, int]  # of the whole input and output
    record: Record
    others: dict[str, NDArray[Any]]  # elements of the other arrays that are as large as the input, by name


def replaced_share(x: NDArray[Any], y: NDArray[Any], value: ArrayLike) -> float | None:
    """Return the share of elements that became `value`, among those with another value before; None if there were none."""
    return share_among(y == value, x != value)


def share_among(found: NDArray[np.bool_], others: NDArray[np.bool_]) -> float | None:
    """Return the share of true flags among those of some elements; None if there are none."""
    count = np.count_nonzero(others)
    return float(np.count_nonzero(found & others) / count) if count else None


# Intended rates -----------------------------------------------------------------------------------------------------


@functools.singledispatch
def nominal_rate(layer: Any) -> float | None:
    """Return the intended rate of a layer at this step, set or learned; for rates per element, their mean.

    It is None for a technique without a rate, and for rates that depend on the input.
    """
    return None


@nominal_rate.register
def _(layer: Variant) -> float | None:
    rate = getattr(layer, "rate", None)
    return None if rate is None else float(np.mean(rate))


@nominal_rate.register
def _(layer: layers.ADL) -> float | None:
    return float(layer.current)


# Dropped shares -----------------------------------------------------------------------------------------------------


@functools.singledispatch
def dropped_share(layer: Any, seen: Pass) -> float | None:
    """Return the share that a pass dropped; None for a technique that drops nothing, such as multiplicative noise."""
    return share_among(seen.y == seen.others.get("residual", 0.0), seen.x != 0)


@dropped_share.register(layers.GaussianDropout)
@dropped_share.register(layers.GaussianNoise)
@dropped_share.register(layers.UniformDropout)
@dropped_share.register(layers.VariationalDense)
@dropped_share.register(layers.VariationalDropout)
def _(layer: Variant, seen: Pass) -> float | None:
    return None


@dropped_share.register(layers.AlphaDropout)
@dropped_share.register(layers.FeatureAlphaDropout)
def _(layer: Variant, seen: Pass) -> float | None:
    saturated = alpha_factors(seen.record.value, layer.options["mean"], layer.options["var"])[2]
    compute: Any = np.float64 if seen.y.dtype == np.float64 else np.float32
    return replaced_share(seen.x, seen.y, np.asarray(saturated, compute).astype(seen.y.dtype))


@dropped_share.register
def _(layer: layers.ConcreteDropout, seen: Pass) -> float | None:
    """Return the mean of the soft decisions s to drop: y = x (1 - s) scale."""
    if not seen.record.dropping:
        return 0.0
    x, y = seen.x.astype(np.float64), seen.y.astype(np.float64)
    there = (x != 0) & np.isfinite(x) & np.isfinite(y)
    soft = soften(layer.own_parameters["p_logit"], seen.record.value, layer.options["epsilon"], layer.options["exact_mean"])
    return float(np.mean(1.0 - y[there] / x[there] / soft.scale)) if there.any() else None


@dropped_share.register
def _(layer: layers.DropKey, seen: Pass) -> float | None:
    with np.errstate(over="ignore"):  # -1e12 is -inf in float16
        fill = np.asarray(layer.options["fill"], np.float64).astype(seen.y.dtype)
    return replaced_share(seen.x, seen.y, fill)


@dropped_share.register
def _(layer: layers.Zoneout, seen: Pass) -> float | None:
    return replaced_share(seen.x, seen.y, seen.others["previous"])


@dropped_share.register
def _(layer: layers.TokenDropout, seen: Pass) -> float | None:
    before, after = seen.sizes
    return 1.0 - after / before if after < before else replaced_share(seen.x, seen.y, 0.0)


@dropped_share.register
def _(layer: layers.Shakeout, seen: Pass) -> float | None:
    """Return the share of weights that are reversed: w becomes -c sign(w)."""
    reversal = np.sign(seen.x.astype(np.float64)) * -np.asarray(layer.options["c"], seen.y.dtype).astype(np.float64)
    return replaced_share(seen.x, seen.y, reversal.astype(seen.y.dtype))


@dropped_share.register
def _(layer: layers.DropConnect, seen: Pass) -> float | None:
    """Return the share of connections that the mask drops; the output does not show them."""
    if not seen.record.dropping:
        return 0.0
    size = min(MOST, layer.own_parameters["weight"].size)
    kept = fastdrop.dropout_mask(size, seen.record.value, seed=seen.record.seed, offset=seen.record.offset)
    return float(1.0 - kept.mean())
