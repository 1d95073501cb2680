"""Type aliases to annotate functions that pass their arguments on to fastdrop.

Examples
--------
>>> from fastdrop.typing import Rate, Seed
>>> def noisy(x, p: Rate, seed: Seed | None = None):
...     ...
"""

from fastdrop._core.types import Backend, DataFormat, FixedSeed, Mode, Per, Rate, Seed

__all__ = ["Backend", "DataFormat", "FixedSeed", "Mode", "Per", "Rate", "Seed"]
