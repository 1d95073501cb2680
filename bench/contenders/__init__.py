"""One file per library; each file defines an `ADAPTER`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path

from .. import end_to_end
from ..contender import Adapter, Contender

__all__ = ["MODULES", "adapters", "add_file", "added_files", "by_name"]

MODULES = (
    "yardsticks",
    "own",
    "numpy_idiom",
    "numpy_formulas",
    "randomgen_bits",
    "numexpr_where",
    "numba_loop",
    "torch_cpu",
    "torch_formulas",
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
    return (*(module.ADAPTER for module in (*found, end_to_end)), *ADDED.values())


@functools.cache
def by_name() -> dict[str, tuple[Contender, Adapter]]:
    """Return every contender with its adapter by name, in the order of the tables."""
    return {contender.name: (contender, adapter) for adapter in adapters() for contender in adapter.contenders}


# Contenders from files --------------------------------------------------------------------------------------------------

ADDED: dict[Path, Adapter] = {}


def added_files() -> list[Path]:
    """Return the files whose contenders were added."""
    return list(ADDED)


def add_file(path: Path) -> list[str]:
    """Add the contenders of a Python file that defines an `ADAPTER`, and return their names.

    Raises
    ------
    ValueError
        The file does not define an adapter, or a contender has the name of another one.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    adapter = getattr(module, "ADAPTER", None)
    if not isinstance(adapter, Adapter):
        raise ValueError(f"{path} must define ADAPTER, a fastdrop.bench.contender.Adapter")
    names = [contender.name for contender in adapter.contenders]
    if taken := [name for name in names if name in by_name()]:
        raise ValueError(f"{path}: another contender has the name {taken[0]!r}")
    ADDED[path.resolve()] = adapter
    adapters.cache_clear()
    by_name.cache_clear()
    return names
