"""Argument checks that several modules share. The plan checks the arguments that go to the kernels.

``as_...`` returns the value in the form that the core uses, or raises an error that names it; ``check_...`` only raises. A
*number* is a value that `float` accepts, except a string, which raises ValueError. A *scalar* may also be an array of one
element, such as a learned parameter; a string raises TypeError. A bool is neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.plan import as_real_array

__all__ = [
    "as_finite_number",
    "as_finite_scalar",
    "as_floats",
    "as_non_negative_number",
    "as_non_negative_scalar",
    "as_positive_count",
    "as_positive_number",
    "as_positive_scalar",
    "as_probabilities",
    "as_real_array",
    "as_share",
    "check_indices",
    "check_iterable",
    "check_mapping",
    "check_string",
    "fixed",
    "known_sizes",
    "require",
    "required",
]

ROUNDING = 1e-2  # the largest error of a sum of probabilities: bfloat16 has 8 bits

# Counts and numbers -------------------------------------------------------------------------------------------------


def as_positive_count(value: Any, name: str) -> int:
    """Return a count of at least one."""
    number = plan.as_count(value, name)
    if number < 1:
        raise ValueError(f"{name} must be at least 1; got {number}")
    return number


def known_sizes(shape: Iterable[Any]) -> tuple[int, ...]:
    """Return a shape with 1 for each size that is a symbol; Keras with JAX has such sizes while it infers shapes."""
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def fixed(value: Any) -> Any:
    """Return an iterable as a tuple, which can be read twice and which the caller cannot change; another value as it is.

    A string, which is no sequence of integers, also stays as it is.
    """
    if value is None or isinstance(value, (str, bytes, bytearray)):
        return value
    try:
        return tuple(value)
    except TypeError:  # a number, or a value that a later check refuses
        return value


def require(holds: bool, name: str, what: str, value: Any) -> None:
    """Raise an error that `name` must be `what`, unless the condition holds."""
    if not holds:
        raise ValueError(f"{name} must be {what}; got {value!r}")


def as_finite_number(value: Any, name: str) -> float:
    """Return a finite number."""
    number = value if type(value) is float else as_number(value, name)
    require(math.isfinite(number), name, "a finite number", value)
    return number


def as_number(value: Any, name: str) -> float:
    """Return a number; NaN for a string, or a number that is too large."""
    try:
        plan.check_scalar(value)
        with plan.RoundToNearest():
            return math.nan if isinstance(value, str) else float(value)
    except TypeError:
        raise TypeError(f"{name} must be a finite number; got {value!r} ({type(value).__name__})") from None
    except (ValueError, OverflowError):
        return math.nan


def as_positive_number(value: Any, name: str) -> float:
    """Return a finite number above 0."""
    number = as_finite_number(value, name)
    require(plan.sign(number) > 0, name, "above 0", value)
    return number


def as_non_negative_number(value: Any, name: str) -> float:
    """Return a finite number that is 0 or more."""
    number = as_finite_number(value, name)
    require(plan.sign(number) >= 0, name, ">= 0", value)
    return number


def as_share(value: Any, name: str) -> float:
    """Return a number in [0, 1]."""
    try:
        return plan.as_rate(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a number in [0, 1]; got {value!r}") from None


# Scalars ------------------------------------------------------------------------------------------------------------


def scalar(value: Any, name: str) -> float:
    """Return a number, which may be NaN or infinite."""
    if type(value) is float:
        return value
    try:
        array = np.asarray(value)
        is_number = array.dtype.kind in "iufO" or array.dtype.name == "bfloat16"
        if isinstance(value, (str, bytes)) or not is_number or array.size != 1:
            raise TypeError
        return nearest_double(array.reshape(())[()])
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; got {value!r} ({type(value).__name__})") from None


def nearest_double(number: Any) -> float:
    """Return a number in float64, which is infinite if the number is too large."""
    try:
        with plan.RoundToNearest():
            return float(number)
    except OverflowError:
        return -math.inf if number < 0 else math.inf


def as_finite_scalar(value: Any, name: str) -> float:
    """Return a finite number, given as such or as an array of one element."""
    number = scalar(value, name)
    require(math.isfinite(number), name, "finite", value)
    return number


def as_positive_scalar(value: Any, name: str) -> float:
    """Return a finite number above 0, given as such or as an array of one element."""
    number = scalar(value, name)
    require(math.isfinite(number) and plan.sign(number) > 0, name, "finite and above 0", value)
    return number


def as_non_negative_scalar(value: Any, name: str) -> float:
    """Return a finite number that is 0 or more, given as such or as an array of one element."""
    number = scalar(value, name)
    require(math.isfinite(number) and plan.sign(number) >= 0, name, "finite and >= 0", value)
    return number


# Arrays -------------------------------------------------------------------------------------------------------------


def as_floats(value: ArrayLike, name: str, ndim: int | None = None) -> NDArray[np.float64]:
    """Return real numbers in float64, of `ndim` dimensions if that is given. The caller rounds to nearest."""
    given = as_real_array(value, name)
    if ndim is not None and given.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions; got shape {given.shape}")
    return given.astype(np.float64)


def required(value: Any, name: str) -> Any:
    """Return an operand, or raise an error for None, which would count as a missing one."""
    if value is None:
        raise TypeError(f"{name} must be an array of the shape and dtype of the input; got None")
    return value


def check_mapping(value: object, name: str, kind: str) -> None:
    """Raise an error unless a value is a mapping. The message says which kind it must be."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be {kind}; got {value!r} ({type(value).__name__})")


def check_string(value: object, name: str) -> None:
    """Raise an error unless a value is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {value!r} ({type(value).__name__})")


def check_iterable(value: Any, name: str) -> None:
    """Raise an error unless a value can be iterated over."""
    try:
        iter(value)  # a test for the method is not enough: NumPy's arrays without axes have it and raise
    except TypeError:
        raise TypeError(f"{name} must be a sequence; got {value!r} ({type(value).__name__})") from None


def check_indices(indices: NDArray[Any], size: int, name: str, what: str) -> None:
    """Raise an error unless all indices are in [0, size), a range that the message calls `what`."""
    if not plan.are_indices(indices, size) and indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        least, largest = indices.min(), indices.max()
        found = f"{least}" if least == largest else f"{least} to {largest}"
        raise ValueError(f"{name} must be in [0, {size}), {what}; got {found}")


def as_probabilities(given: ArrayLike) -> NDArray[np.float64]:
    """Return distributions over the classes along the last axis; their sums may have the rounding error of 16-bit types."""
    p = as_floats(given, "probabilities")
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError(f"probabilities must have an axis of classes, the last one; got shape {p.shape}")
    if not ((p >= 0) & (p <= 1 + ROUNDING)).all():
        raise ValueError("probabilities must be in [0, 1], for example after a softmax; some are not")
    sums = p.sum(axis=-1).reshape(-1)
    bad = np.flatnonzero(np.abs(sums - 1.0) > ROUNDING)
    if bad.size:
        raise ValueError(f"probabilities must sum to 1 over the classes; row {bad[0]} sums to {sums[bad[0]]:.6g}")
    return p
