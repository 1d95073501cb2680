"""Rounding to nearest for functions that compute with NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastdrop._core import plan

__all__ = ["rounding_to_nearest"]

P = ParamSpec("P")
R = TypeVar("R")


def rounding_to_nearest(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that computes with NumPy: the rounding mode of its caller must not change its result."""

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with plan.RoundToNearest():
            return function(*args, **kwargs)

    return computed
