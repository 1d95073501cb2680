"""Names for annotations."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from fastdrop._core.keys import FixedSeed, Seed

__all__ = ["Backend", "DataFormat", "FixedSeed", "Mode", "Per", "Rate", "Seed"]

Backend: TypeAlias = Literal["c", "numba", "numpy"]
DataFormat: TypeAlias = Literal["channels_first", "channels_last"]
# How kept values are scaled: in training, outside it, or never.
Mode: TypeAlias = Literal["inverted", "standard", "unscaled"]
# What has a decision of its own: each sample (the first axis), or the whole batch.
Per: TypeAlias = Literal["sample", "batch"]
# The probability of dropping: of all elements, or an array of one per element.
Rate: TypeAlias = float | NDArray[Any]
