"""Names for annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastdrop.random import Key, Stream

__all__ = ["Backend", "DataFormat", "FixedSeed", "Mode", "Per", "Rate", "Seed"]

Backend: TypeAlias = Literal["c", "numba", "numpy"]
DataFormat: TypeAlias = Literal["channels_first", "channels_last"]
# How kept values are scaled: in training, outside it, or never.
Mode: TypeAlias = Literal["inverted", "standard", "unscaled"]
# What has a decision of its own: each sample (the first axis), or the whole batch.
Per: TypeAlias = Literal["sample", "batch"]
# The probability of dropping: of all elements, or an array of one per element.
Rate: TypeAlias = "float | NDArray[Any]"
# A seed without a state gives the same mask each time; a backward function takes no other.
FixedSeed: TypeAlias = "int | Key | np.random.SeedSequence"
Seed: TypeAlias = "FixedSeed | Stream | np.random.Generator | np.random.BitGenerator"
