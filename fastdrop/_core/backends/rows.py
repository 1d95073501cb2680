"""Rows that are divided by the sums of their kept elements, in NumPy: the definition of their bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.arithmetic import fixed_sum

__all__ = ["row_quotients"]

Floats = NDArray[Any]  # float32 or float64


def row_quotients(x: Floats, kept: NDArray[np.bool_], grad: Floats | None, is_constant: bool, epsilon: Any) -> Floats:
    """Return keep ? x / total : 0, where total is the sum of a row's kept elements + epsilon.

    With `grad`, return the gradient with respect to x instead: keep ? (grad - d) / total : 0. Here d is the sum of
    grad * (x / total) over the kept elements, or 0 if the sums are constants.
    """
    zero = x.dtype.type(0)
    rows = np.where(kept, x, zero)
    total = fixed_sum(rows) + epsilon
    values = x
    if grad is not None:
        values = grad if is_constant else grad - fixed_sum(np.where(kept, grad, zero) * (rows / total))
    quotients: Floats = np.where(kept, values / total, zero)
    return quotients
