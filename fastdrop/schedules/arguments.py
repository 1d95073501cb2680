"""The arguments of schedules: rates, bounds of rates, and numbers that become float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastdrop._core.checks import as_share

__all__ = ["StepToRate", "as_constant_rate", "check_bounds", "convert"]

StepToRate = Callable[[int], float]


def as_constant_rate(value: Any, name: str) -> float:
    """Return a rate that stands for a schedule, or raise an error that names both."""
    try:
        return as_share(value, name)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a schedule or a rate in [0, 1]; got {value!r}") from None


def check_bounds(low: Any, high: Any) -> None:
    """Raise an error unless two numbers are bounds of a rate."""
    if as_share(low, "low") > as_share(high, "high"):
        raise ValueError(f"low must not be above high; got low {low!r} and high {high!r}")


def convert(schedule: object, check: Callable[[Any, str], Any], *names: str) -> None:
    """Replace arguments of a frozen schedule by what `check` returns, so that no other type takes part in a rate."""
    for name in names:
        object.__setattr__(schedule, name, check(getattr(schedule, name), name))
