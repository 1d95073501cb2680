"""Gradients of the logits that gate a mask, for the Python backends; `gate_slopes` in noise_tpl.h is the same in C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

ESTIMATORS = ("straight_through", "score_function", "disarm", "given")


def slopes(estimator: str, divided: bool, keep: Floats, masks: Sequence[Floats], *arrays: Floats | None) -> Floats:
    """Return slopes of l = gain * logit + shift.

    `masks` are the mask and the antithetic mask, of 1 and 0; `arrays` are the gradient, the input and the losses, None if they
    are not needed. If `divided`, kept elements are divided by their probabilities. All are flat and of one type.
    """
    grad, x, losses = arrays
    one = keep.dtype.type(1)
    drop, (kept, antithetic) = one - keep, masks
    product: Any = None if grad is None or x is None else grad * x
    made: Any = losses
    if estimator == "straight_through":
        made = product * (drop if divided else keep * drop)
    elif estimator == "score_function":
        made = made * (kept - keep)
    elif estimator == "disarm":
        made = made * ((kept - antithetic) * (keep.dtype.type(0.5) * np.maximum(keep, drop)))
    if divided:
        made = made - np.where(kept != 0, product * (one / keep), keep.dtype.type(0)) * drop
    return np.asarray(made)
