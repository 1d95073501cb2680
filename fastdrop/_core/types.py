"""Type aliases for annotations."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.keys import FixedSeed, Seed

__all__ = ["Backend", "DataFormat", "FixedSeed", "Mode", "Number", "Per", "Rate", "Seed"]

Backend: TypeAlias = Literal["c", "numba", "numpy"]
DataFormat: TypeAlias = Literal["channels_first", "channels_last"]
# The scaling convention of kept values: in training, outside training, or never.
Mode: TypeAlias = Literal["inverted", "standard", "unscaled"]
# The unit of a decision: each sample (an index of the first axis), or the whole batch.
Per: TypeAlias = Literal["sample", "batch"]
# A real number: for type checkers, of NumPy's classes only float64 is a float.
Number: TypeAlias = float | np.floating[Any]
# The probability of dropping: one number for all elements, or an array with one per element.
Rate: TypeAlias = Number | NDArray[Any]
