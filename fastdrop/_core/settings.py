"""The settings (backend, instruction set, number of threads): of the environment, the process and the context."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import operator
import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

try:
    from fastdrop._core import native, plan
except ImportError as error:
    if importlib.util.find_spec("fastdrop._core.native") is not None:
        raise
    raise ImportError(
        f"{Path(__file__).parents[1]} is fastdrop's source, without the modules that the installation compiles: "
        'run Python in another folder, or build them here by pip install -e "."'
    ) from error

from fastdrop._core.machine import MOST_THREADS, automatic_num_threads, last_level_cache
from fastdrop._core.types import Backend

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
    backend_module(name)
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
        if isinstance(number, bool):
            raise TypeError
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
    try:
        return None if module is None else importlib.import_module(module)
    except Exception as error:  # a package that is installed may be broken, or may not fit another one
        raise ImportError(f"backend {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def chosen(backend: Any = None, isa: Any = None, num_threads: Any = None) -> plan.Settings:
    """Return checked settings; a setting that is None stays open."""
    if backend is not None:
        backend = checked_backend(backend)
    return plan.Settings(
        backend,
        None if isa is None else checked_isa(isa),
        0 if num_threads is None else checked_num_threads(num_threads),
        None if backend is None else backend_module(backend),
    )


# The process --------------------------------------------------------------------------------------------------------


MOST_CACHED = 8 * 2**20  # bytes; a virtual machine shares the last-level cache that it sees with other machines
VARIABLES = {"backend": "FASTDROP_BACKEND", "isa": "FASTDROP_ISA", "num_threads": "FASTDROP_NUM_THREADS"}


def bypass_bytes() -> int:
    """Return the number of bytes from which on results are written past the caches."""
    return min(last_level_cache() // 4, MOST_CACHED)


def from_environment() -> tuple[plan.Settings, dict[str, Exception]]:
    """Return the initial settings of a process, and the error of each wrong environment variable, whose setting stays open."""
    checks = {"backend": checked_backend, "isa": checked_isa, "num_threads": num_threads_in}
    found: dict[str, Any] = {"backend": "c", "isa": available_isas()[-1], "num_threads": automatic_num_threads()}
    errors: dict[str, Exception] = {}
    for name, variable in VARIABLES.items():
        if value := os.environ.get(variable):
            try:
                found[name] = checks[name](value)
            except (ValueError, TypeError, RuntimeError, ImportError) as error:
                found[name] = None
                errors[name] = type(error)(f"environment variable {variable}: {error}")
    return chosen(**found), errors


def require_settings() -> None:
    """Raise an error if a setting is still open because its environment variable is wrong."""
    plan.effective()


def is_command() -> bool:
    """Return whether this process runs the command `fastdrop`, which imports the package before its own module."""
    arguments: list[str] = getattr(sys, "argv", None) or [""]  # a program that embeds Python may have none
    if arguments[0] == "-m":  # `runpy` replaces it by the path of the module, but only after it has imported the package
        return [text.removeprefix("-m") for text in sys.orig_argv[-len(arguments) :][:1]] == ["fastdrop"]
    return os.path.basename(arguments[0]) == "fastdrop"


def refuse_open(settings: plan.Settings) -> None:
    """Raise the error of the environment variable whose setting is open. The plan calls this function for open settings."""
    for name, error in environment_errors.items():
        if not getattr(settings, name):
            raise type(error)(*error.args)  # a new error per call, with its own traceback
    raise AssertionError(f"a setting is open: {settings.backend}, {settings.isa}, {settings.num_threads}")


def set_default(settings: plan.Settings) -> None:
    """Set the settings of the process; open ones stay as they are."""
    global process
    process = settings.over(process)
    plan.set_process_settings(process)


process, environment_errors = from_environment()
plan.register_chosen(chosen, refuse_open)
plan.set_process_settings(process)
plan.set_bypass_bytes(bypass_bytes())
if not is_command():  # the command prints the error itself
    for wrong in environment_errors.values():  # no error at import: a program may choose its own settings, or call no function
        warnings.warn(str(wrong), RuntimeWarning, stacklevel=2)


def set_backend(name: Backend) -> None:
    """Choose the backend for the whole process. All backends give the same bytes.

    Parameters
    ----------
    name : {"c", "numba", "numpy"}
        ``"c"`` is the fast backend; ``"numpy"`` is the definition, written to be read.

    Raises
    ------
    ValueError
        An unknown name.
    ImportError
        ``"numba"`` without Numba installed, or with one that cannot be imported.

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
    set_default(chosen(backend=checked_backend(name)))


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
    """Choose the instruction set of the C kernels for the whole process. All instruction sets give the same bytes.

    Parameters
    ----------
    name : str
        One of ``config()["isas"]``.

    Raises
    ------
    ValueError
        The build does not have this instruction set.
    RuntimeError
        The machine does not have this instruction set.

    Examples
    --------
    >>> import fastdrop
    >>> best = fastdrop.get_isa()
    >>> fastdrop.set_isa("portable")
    >>> fastdrop.set_isa(best)
    """
    set_default(chosen(isa=checked_isa(name)))


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
    """Choose the largest number of threads that a call of the C backend may use, for the whole process.

    Results do not depend on it. Small arrays use one thread. So do all calls in a forked child if OpenMP is used. At most
    four threads per processor are started. The Numba and NumPy backends always use one thread.

    Parameters
    ----------
    number : int
        At least 1.

    Raises
    ------
    ValueError
        The number is below 1.
    TypeError
        The number is not an integer.

    Examples
    --------
    >>> import fastdrop
    >>> before = fastdrop.get_num_threads()
    >>> fastdrop.set_num_threads(1)
    >>> fastdrop.get_num_threads()
    1
    >>> fastdrop.set_num_threads(before)
    """
    set_default(chosen(num_threads=checked_num_threads(number)))


def get_num_threads() -> int:
    """Return the largest number of threads that a call may use.

    By default it is the number of processors that the process may run on, within the quota of its control group.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.get_num_threads() >= 1
    True
    """
    return int(plan.effective().num_threads)


@contextmanager
def using(*, isa: str | None = None, backend: Backend | None = None, num_threads: int | None = None) -> Iterator[None]:
    """Choose the backend, the instruction set or the number of threads for a block of code, in the current thread or task.

    Parameters
    ----------
    isa : str, optional
        As in `set_isa`.
    backend : {"c", "numba", "numpy"}, optional
        As in `set_backend`.
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
    block = Block(chosen(backend, isa, num_threads))
    before = plan.override.get()
    try:
        set_blocks((*blocks.get(), block))
        yield
    finally:
        try:
            set_blocks(tuple(open_block for open_block in blocks.get() if open_block is not block))
        except MemoryError:  # the block stays in the list, but its settings are open from now on
            block.settings.become(None)
            if (in_force := plan.override.get()) is not None and in_force is not before:
                in_force.become(before)
            raise


@dataclass(frozen=True, eq=False)
class Block:
    """One `using` block that has begun and not ended."""

    settings: plan.Settings


# The blocks of this thread or task, the outermost first. Blocks of two generators may end in any order. The block of a
# generator that is garbage-collected may end in another context. So the end of a block removes that block and no other.
blocks: ContextVar[tuple[Block, ...]] = ContextVar("fastdrop_blocks", default=())


def set_blocks(now: tuple[Block, ...]) -> None:
    """Put these blocks, and no others, in force."""
    merged = None
    for block in now:
        merged = block.settings if merged is None else block.settings.over(merged)
    blocks.set(now)
    plan.override.set(merged)


def config() -> dict[str, Any]:
    """Return the settings in force, and the properties of this build and this machine.

    Returns
    -------
    dict
        ``version``; ``stream``, the number of the rule that defines the bits; ``backend``, the one in force, and ``backends``,
        the installed ones; ``isa``, the instruction set in force, ``isas``, those that this build has and this machine can
        run, and ``isas_built``; ``num_threads``; ``threading``, the kind of the C kernels' threads, ``"openmp"`` or
        ``"posix"``; ``cache_bytes``, the size of the last-level cache; ``numpy``, the version of NumPy.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.config()["stream"]
    1
    """
    import importlib.metadata  # slow to import, so not with the package

    return {
        "version": importlib.metadata.version("fastdrop-kernels"),
        "stream": plan.STREAM,
        "backend": get_backend(),
        "backends": available_backends(),
        "isa": get_isa(),
        "isas": available_isas(),
        "isas_built": list(native.isas()),
        "num_threads": get_num_threads(),
        "threading": native.threading(),
        "cache_bytes": last_level_cache(),
        "numpy": np.__version__,
    }


def show_config() -> None:
    """Print `config`, one line per entry.

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
