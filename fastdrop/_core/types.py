"""Names for annotations."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

__all__ = ["Mode", "Rate"]

Mode = Literal["inverted", "standard"]  # kept values are scaled in training, or all of them outside it
Rate = float | NDArray[Any]  # of all elements, or one for each
