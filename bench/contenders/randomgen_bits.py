"""randomgen's bit generators with NumPy's distributions: Philox4x32, which fastdrop uses too, and AES."""

from __future__ import annotations

import importlib
from typing import Any

from ..contender import Adapter
from .numpy_idiom import both


def philox(seed: int) -> Any:
    return importlib.import_module("randomgen").Philox(seed, number=4, width=32)


def aes(seed: int) -> Any:
    return importlib.import_module("randomgen").AESCounter(seed)


ADAPTER = Adapter(
    (
        *both("randomgen-philox", "randomgen Philox", philox),
        *both("randomgen-aes", "randomgen AES", aes),
    ),
    module="randomgen",
    distributions=("randomgen",),
)
