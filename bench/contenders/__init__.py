"""One file per library; each file defines an `ADAPTER`."""

from __future__ import annotations

import functools
import importlib

from .. import end_to_end
from ..contender import Adapter, Contender

__all__ = ["MODULES", "adapters", "by_name"]

MODULES = (
    "yardsticks",
    "own",
    "numpy_idiom",
    "randomgen_bits",
    "numexpr_where",
    "numba_loop",
    "torch_cpu",
    "torch_own",
    "jax_cpu",
    "jax_own",
    "tensorflow_cpu",
    "keras_layer",
    "mkl_vsl",
)


@functools.cache
def adapters() -> tuple[Adapter, ...]:
    """Return all adapters, installed or not; this imports only NumPy and fastdrop."""
    found = [importlib.import_module(f".{name}", __name__) for name in MODULES]
    return tuple(module.ADAPTER for module in (*found, end_to_end))


@functools.cache
def by_name() -> dict[str, tuple[Contender, Adapter]]:
    """Return every contender with its adapter by name, in the order of the tables."""
    return {contender.name: (contender, adapter) for adapter in adapters() for contender in adapter.contenders}
