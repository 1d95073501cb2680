"""Which backend, instruction set and number of threads: environment, process, context, fork."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import operator
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    from fastdrop._core import native, plan
except ImportError as error:
    if importlib.util.find_spec("fastdrop._core.native") is not None:
        raise
    raise ImportError(
        f"{Path(__file__).parents[1]} is fastdrop's source, without the modules that are compiled when it is installed: "
        'run Python in another folder, or build them here by pip install -e "."'
    ) from error

__all__ = [
    "config",
    "get_backend",
    "get_isa",
    "get_num_threads",
    "set_backend",
    "set_isa",
    "set_num_threads",
    "show_config",
    "using",
]

# name: (module, package it needs besides NumPy)
BACKENDS = {
    "c": (None, None),
    "numba": ("fastdrop._core.backends.numba", "numba"),
    "numpy": ("fastdrop._core.backends.reference", None),
}
MOST_THREADS = 4 * (os.cpu_count() or 1)  # more gain nothing, and OpenMP ends a process that cannot start them
DEFAULT_CACHE = 2**25  # bytes, where the system does not say


def available_backends() -> list[str]:
    """Return the backends whose packages are installed."""
    return [name for name, (_, package) in BACKENDS.items() if package is None or importlib.util.find_spec(package)]


def available_isas() -> list[str]:
    """Return the instruction sets that this build has and this machine can run, the weakest first."""
    return [name for name, runs in native.isas().items() if runs]


def checked_backend(name: Any) -> str:
    if not isinstance(name, str) or name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: the backends are {', '.join(map(repr, BACKENDS))}")
    package = BACKENDS[name][1]
    if package is not None and package not in sys.modules and importlib.util.find_spec(package) is None:
        raise ImportError(f'backend {name!r} needs {package}: pip install "fastdrop-kernels[{package}]"')
    return str(name)


def checked_isa(name: Any) -> str:
    built = native.isas()
    if not isinstance(name, str) or name not in built:
        raise ValueError(f"unknown instruction set {name!r}: this build has {', '.join(map(repr, built))}")
    if not built[name]:
        raise RuntimeError(
            f"this machine cannot run {name!r}; of this build's instruction sets it runs "
            f"{', '.join(map(repr, available_isas()))}"
        )
    return str(name)


def checked_num_threads(number: Any) -> int:
    try:
        threads = operator.index(number)
    except TypeError:
        raise TypeError(f"num_threads must be an integer >= 1; got {number!r} ({type(number).__name__})") from None
    if threads < 1:
        raise ValueError(f"num_threads must be an integer >= 1; got {number!r}")
    return min(threads, MOST_THREADS)


def num_threads_in(text: str) -> int:
    """Return the number of threads that an environment variable names."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"num_threads must be an integer >= 1; got {text!r}") from None
    return checked_num_threads(number)


@functools.lru_cache
def backend_module(name: str) -> types.ModuleType | None:
    module = BACKENDS[name][0]
    return None if module is None else importlib.import_module(module)


def chosen(backend: Any = None, isa: Any = None, num_threads: Any = None) -> plan.Settings:
    """Return checked settings; what is None stays open."""
    if backend is not None:
        backend = checked_backend(backend)
    return plan.Settings(
        backend,
        None if isa is None else checked_isa(isa),
        0 if num_threads is None else checked_num_threads(num_threads),
        None if backend is None else backend_module(backend),
    )


# The machine --------------------------------------------------------------------------------------------------------


def quota(text: str) -> float:
    """Return the processors that a line of cgroup's cpu.max allows: "max 100000", "150000 100000"."""
    allowed, _, period = text.partition(" ")
    return float("inf") if allowed == "max" else int(allowed) / int(period or 100_000)


def cgroup_quota() -> float:
    """Return the processors that this process's control groups allow, those above it included (Linux, version 2)."""
    least = float("inf")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        root = Path("/sys/fs/cgroup")
        folder = root / own.lstrip("/")
        for group in [folder, *folder.parents]:
            if (group / "cpu.max").is_file():
                least = min(least, quota((group / "cpu.max").read_text().strip()))
            if group == root:
                break
    except (OSError, StopIteration, ValueError):
        pass
    return least


def automatic_num_threads() -> int:
    """Return the processors that this process may use: its affinity, and the floor of its control group's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(cpus, cgroup_quota())))


def last_level_cache() -> int:
    """Return the size of the largest cache that one core sees, in bytes."""
    sizes = [DEFAULT_CACHE // 1024]
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = entry.read_text().strip()
        if text.endswith("K"):
            sizes.append(int(text[:-1]))
    return 1024 * (max(sizes[1:]) if len(sizes) > 1 else sizes[0])


# The process --------------------------------------------------------------------------------------------------------


def from_environment() -> plan.Settings:
    """Return the settings that a process begins with."""

    def read(name: str, check: Any, default: Any) -> Any:
        value = os.environ.get(name)
        if not value:
            return default
        try:
            return check(value)
        except (ValueError, TypeError, RuntimeError, ImportError) as error:
            raise type(error)(f"environment variable {name}: {error}") from None

    backend = read("FASTDROP_BACKEND", checked_backend, "c")
    isa = read("FASTDROP_ISA", checked_isa, available_isas()[-1])
    threads = read("FASTDROP_NUM_THREADS", num_threads_in, automatic_num_threads())
    return chosen(backend, isa, threads)


def set_default(**changes: Any) -> None:
    global process
    process = chosen(**changes).over(process)
    plan.set_process_settings(process)


plan.register_chosen(chosen)
process = from_environment()
plan.set_process_settings(process)
plan.set_bypass_bytes(last_level_cache() // 4)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=plan.set_forked)


def set_backend(name: str) -> None:
    """Choose what computes, for the whole process.

    Parameters
    ----------
    name : {"c", "numba", "numpy"}
        All give the same bytes. ``"c"`` is the fast one; ``"numpy"`` is the definition, written for a reader.

    Raises
    ------
    ValueError
        An unknown name.
    ImportError
        ``"numba"`` without Numba installed.

    See Also
    --------
    using : for a block of code, in this thread or task alone.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.set_backend("numpy")
    >>> fastdrop.get_backend()
    'numpy'
    >>> fastdrop.set_backend("c")
    """
    set_default(backend=name)


def get_backend() -> str:
    """Return the name of the backend in force: ``"c"``, ``"numba"`` or ``"numpy"``.

    Examples
    --------
    >>> import fastdrop
    >>> with fastdrop.using(backend="numpy"):
    ...     fastdrop.get_backend()
    'numpy'
    """
    return str(plan.effective().backend)


def set_isa(name: str) -> None:
    """Choose the instruction set of the C kernels, for the whole process. All give the same bytes.

    Parameters
    ----------
    name : str
        One of ``config()["isas"]``.

    Raises
    ------
    ValueError
        A name that this build does not have.
    RuntimeError
        An instruction set that this machine lacks.

    Examples
    --------
    >>> import fastdrop
    >>> best = fastdrop.get_isa()
    >>> fastdrop.set_isa("portable")
    >>> fastdrop.set_isa(best)
    """
    set_default(isa=name)


def get_isa() -> str:
    """Return the name of the instruction set that the C kernels use.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.get_isa() in fastdrop.config()["isas"]
    True
    """
    return str(plan.effective().isa)


def set_num_threads(number: int) -> None:
    """Choose the most threads that a call of the C backend may use, for the whole process.

    The result does not depend on it. Small arrays stay on one thread whatever is allowed, and so does everything in a
    forked child. At most four a processor are ever started. The Numba and NumPy backends always use one.

    Parameters
    ----------
    number : int
        At least 1.

    Raises
    ------
    ValueError
        A number below 1.
    TypeError
        What is not an integer.

    Examples
    --------
    >>> import fastdrop
    >>> before = fastdrop.get_num_threads()
    >>> fastdrop.set_num_threads(1)
    >>> fastdrop.get_num_threads()
    1
    >>> fastdrop.set_num_threads(before)
    """
    set_default(num_threads=number)


def get_num_threads() -> int:
    """Return the most threads that a call may use.

    Unless set, it is the number of processors that the process may run on, within its control group's quota.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.get_num_threads() >= 1
    True
    """
    return int(plan.effective().num_threads)


@contextmanager
def using(*, backend: str | None = None, isa: str | None = None, num_threads: int | None = None) -> Iterator[None]:
    """Choose backend, instruction set or threads for a block of code, in the current thread or task alone.

    Parameters
    ----------
    backend : {"c", "numba", "numpy"}, optional
        As in `set_backend`.
    isa : str, optional
        As in `set_isa`.
    num_threads : int, optional
        As in `set_num_threads`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones(1000, np.float32)
    >>> y = fastdrop.dropout(x, 0.3, seed=1)
    >>> with fastdrop.using(backend="numpy"):
    ...     same = fastdrop.dropout(x, 0.3, seed=1)
    >>> y.tobytes() == same.tobytes()
    True
    """
    settings = chosen(backend, isa, num_threads)
    outer = plan.override.get()
    token = plan.override.set(settings if outer is None else settings.over(outer))
    try:
        yield
    finally:
        plan.override.reset(token)


def config() -> dict[str, Any]:
    """Return what runs, and on what.

    Returns
    -------
    dict
        ``version``; ``stream``, the number of the rule that makes the bits; ``backend`` in force and the ``backends``
        installed; ``isa`` in force, the ``isas`` that this build has and this machine can run, and ``isas_built``;
        ``num_threads``; ``openmp``, whether the C kernels have it; ``cache_bytes``, the last-level cache;
        ``numpy``, its version.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.config()["stream"]
    1
    """
    return {
        "version": importlib.metadata.version("fastdrop-kernels"),
        "stream": plan.STREAM,
        "backend": get_backend(),
        "backends": available_backends(),
        "isa": get_isa(),
        "isas": available_isas(),
        "isas_built": list(native.isas()),
        "num_threads": get_num_threads(),
        "openmp": native.has_openmp(),
        "cache_bytes": last_level_cache(),
        "numpy": np.__version__,
    }


def show_config() -> None:
    """Print `config`, a line an entry.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.show_config()  # doctest: +ELLIPSIS
    version      ...
    stream       1
    backend      c
    ...
    """
    for name, value in config().items():
        print(f"{name:<12} {', '.join(map(str, value)) if isinstance(value, list) else value}")
