"""The native operator, on request: eager calls in C++, compiled on the user's machine and kept in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

import fastdrop
from fastdrop._core import native, pointers
from fastdrop.torch._autograd import eager
from fastdrop.torch._operators import Rule

__all__ = ["build", "load"]

NAME = "fastdrop_torch"
SOURCE = Path(__file__).with_name("native.cpp")
HEADERS = Path(fastdrop.__file__).with_name("include")
LIBRARIES = ("c10", "torch", "torch_cpu", "torch_python")

drop: Any = None  # the functions of the native operator, if it is loaded
run: Any = None


def build(*, force: bool = False) -> Path:
    """Compile the native operator, with which eager calls avoid Python, and use it from now on.

    The library stays in the user's cache (``XDG_CACHE_HOME``, or ``~/.cache``) under the versions of fastdrop, PyTorch and
    Python, and each later ``import fastdrop.torch`` loads it. Seeds, bits, errors and gradients are the same with and without
    it. After an upgrade of fastdrop, PyTorch or Python it is not found, and fastdrop works without it.

    Parameters
    ----------
    force : bool, default False
        Whether to compile again if the library is already there.

    Returns
    -------
    pathlib.Path
        The path of the library.

    Raises
    ------
    RuntimeError
        There is no C++ compiler, the compiler fails, or the cache cannot be written.

    Examples
    --------
    >>> import fastdrop.torch
    >>> library = fastdrop.torch.build()  # doctest: +SKIP
    """
    library = place()
    if force or not is_intact(library):
        try:
            store(library)
        except OSError as error:
            raise RuntimeError(
                f"the native operator needs a cache that can be written, and {library.parent} cannot ({error.strerror}): "
                "set XDG_CACHE_HOME"
            ) from None
    connect(library)
    return library


def store(library: Path) -> None:
    """Compile the library and put it in its place."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder, library.name)
        compile_to(made)
        checksum(library).write_text(digest(made))
        os.replace(made, library)  # at once: another process may be loading it


def compile_to(library: Path) -> None:
    """Compile the source file."""
    from torch.utils.cpp_extension import get_cxx_compiler, include_paths, library_paths

    compiler: str = get_cxx_compiler()  # type: ignore[no-untyped-call]
    includes = [*include_paths("cpu"), sysconfig.get_path("include"), str(HEADERS)]
    command = [*compiler.split(), "-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", str(SOURCE)]
    command += [f"-I{folder}" for folder in includes] + [f"-L{folder}" for folder in library_paths("cpu")]
    command += [f"-l{name}" for name in LIBRARIES] + [f'-DFASTDROP_BUILD="{versions()}"', "-o", str(library)]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(
            f"the native operator needs a C++ compiler, and {compiler!r} does not run ({error.strerror}): "
            "install g++ or clang++, or set CXX"
        ) from None
    if done.returncode:
        raise RuntimeError(f"{compiler!r} cannot compile the native operator:\n{done.stderr[-2000:]}")


# The place of the library --------------------------------------------------------------------------------------------


def versions() -> str:
    """Return the versions of fastdrop, PyTorch and Python, and a digest of the sources: the library depends on all of them."""
    made_of = hashlib.sha256(SOURCE.read_bytes() + (HEADERS / "fastdrop.h").read_bytes()).hexdigest()[:8]
    return f"{fastdrop.__version__}-torch{torch.__version__}-{sysconfig.get_config_var('SOABI')}-{made_of}"


def place() -> Path:
    """Return the path of the library for these versions, whether it exists or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "fastdrop", versions(), f"{NAME}.so")


def checksum(library: Path) -> Path:
    """Return the file that holds the digest of a library."""
    return library.with_suffix(".sha256")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_intact(library: Path) -> bool:
    """Return whether a library is there and is the one that was built."""
    return library.is_file() and checksum(library).is_file() and digest(library).encode() == checksum(library).read_bytes()


# Use ------------------------------------------------------------------------------------------------------------------


def load() -> None:
    """Use the library that an earlier `build` has stored. Warn once about a broken library, and do not use it."""
    try:
        library = place()
        if library.is_file():
            if not is_intact(library):
                raise ImportError("the file is not the one that was built")
            connect(library)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        warnings.warn(
            f"the native operator of fastdrop.torch is not used ({error}): fastdrop works without it; "
            "`fastdrop torch-build --force` builds it again",
            RuntimeWarning,
            stacklevel=3,
        )


def connect(library: Path) -> None:
    """Load a library, give it the addresses of the kernels, and use it for eager calls."""
    global drop, run
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(library))
    spec = importlib.util.spec_from_file_location(NAME, library, loader=loader)
    if spec is None:
        raise ImportError(f"{library} is not a module")
    module: Any = importlib.util.module_from_spec(spec)
    if module.build != versions():
        raise ImportError(f"the file was built for {module.build}")
    module.connect(published(native), published(pointers), again)
    drop, run = module.drop, module.run


def published(module: Any) -> Any:
    """Return the addresses that a compiled module publishes."""
    return module.__pyx_capi__


def again(grad: torch.Tensor, *numbers: Any) -> torch.Tensor:
    """Return the result for a gradient that the native operator leaves to Python; bit k of `shared` is that of axis k."""
    p, seed, offset, has_factor, factor, shared = numbers
    axes = tuple(axis for axis in range(grad.ndim) if shared >> axis & 1)
    return eager(grad, Rule(p, seed, offset, (factor,) if has_factor else (), (axes, None, None) if axes else None))
