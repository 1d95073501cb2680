"""The operation on NumPy arrays, for use with a jaxlib that does not accept the handler."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan, pointers
from fastdrop.jax._primitive import AFFINE, GAUSSIAN, INVERTED, Rule
from fastdrop.random import Key
from fastdrop.variants.gaussian import gaussian_dropout

__all__ = ["compute"]


def compute(rule: Rule, x: Any, keys: Any, begin: Any, rate: Any) -> Any:
    """Return the result for all rows."""
    x, keys, begin = np.asarray(x, order="C"), np.asarray(keys), np.asarray(begin)
    if rule.p is None:
        with plan.RoundToNearest():  # XLA's threads flush subnormal numbers, and a negative p must not pass for 0
            rule = rule._replace(p=plan.as_rate(float(np.asarray(rate))))
    if begin.size:
        rule = rule._replace(begin=tuple(int(a) + b for a, b in zip(begin, rule.begin, strict=True)))
    y = np.empty_like(x)
    rows = keys.shape[:-1]
    for row in np.ndindex(rows):
        high, low, *more = (int(word) for word in keys[row])
        key = Key(high << 32 | low, more[0] << 32 | more[1] if more else 0)
        (multiply_row if rule.kind == GAUSSIAN else drop_row)(rule, x[(*row, ...)], y[(*row, ...)], key)
    return y


def drop_row(rule: Rule, x: NDArray[Any], y: NDArray[Any], key: Key) -> None:
    factors = () if rule.kind == INVERTED else rule.factors if rule.kind == AFFINE else rule.factors[:1]
    pointers.drop(
        x.ctypes.data,
        y.ctypes.data,
        x.shape,
        None,
        pointers.DTYPES[x.dtype.name],
        rule.p,
        key.seed,
        key.offset,
        factors=factors,
        start=rule.start,
        shared_axes=rule.shared,
        global_shape=rule.whole,
        global_start=rule.begin,
    )


def multiply_row(rule: Rule, x: NDArray[Any], y: NDArray[Any], key: Key) -> None:
    """Multiply by the factors, of which there is one for all elements along a shared axis."""
    compute = np.float64 if x.dtype == np.float64 else np.float32
    factors = gaussian_dropout(
        np.ones(rule.without_shared(x.shape, 1), compute),
        rule.p,  # type: ignore[arg-type]
        seed=key,
        start=rule.start,
        global_shape=rule.without_shared(rule.whole, 1),
        global_start=rule.without_shared(rule.begin, 0),
    )
    with plan.RoundToNearest():
        y[...] = x.astype(compute) * factors
