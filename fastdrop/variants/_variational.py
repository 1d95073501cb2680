"""Log alpha of a weight, the logarithm of variance / weight**2 of its noise, and the weights that it prunes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop.elementary import log

__all__ = ["BOUNDS", "check_broadcast", "find_pruned", "unclipped_log_alpha"]

BOUNDS = (-8.0, 8.0)  # log alpha is clipped to them, as in the authors' code


def unclipped_log_alpha(weight: NDArray[Any], log_sigma2: NDArray[Any]) -> NDArray[Any]:
    """Return log alpha of each weight, in the type of the arrays; infinity where the weight is 0."""
    halves = log(np.abs(weight))
    return np.asarray(np.where(weight == 0, weight.dtype.type(np.inf), log_sigma2 - (halves + halves)))


def find_pruned(weight: NDArray[Any], log_sigma2: NDArray[Any], prune_above: float) -> NDArray[np.bool_]:
    """Return the flags of the pruned weights: those whose log alpha, not clipped, is not below `prune_above`, nor NaN."""
    return np.asarray(unclipped_log_alpha(weight, log_sigma2) >= prune_above)


def check_broadcast(log_alpha: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    """Raise an error unless log alphas broadcast to this shape, that of the array called `name`."""
    if not plan.broadcasts(log_alpha, shape):
        raise ValueError(f"log_alpha has shape {log_alpha.shape}, which does not broadcast to the shape {shape} of {name}")
