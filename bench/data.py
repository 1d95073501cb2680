"""The data: activations of a random layer on scikit-learn's handwritten digits, repeated as often as needed."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.machine import free_memory

from .cases import Case
from .contender import SEED, Absent, Array, Job
from .variants import BACKWARD, CALL, FORWARD, Work, variant_named

__all__ = ["activations", "digits", "filled", "job_of"]

PAGE = 4096


@functools.cache
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the 1,797 images of 64 pixels in [0, 1], and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError('the benchmark needs scikit-learn: pip install "fastdrop-kernels[bench]"') from error
    found = load_digits()
    return found.data.astype(np.float32) / 16, found.target.astype(np.int64)


@functools.cache
def activations() -> NDArray[np.float32]:
    """Return the activations of a random layer of 1,024 rectified linear units on the digits."""
    pixels, _ = digits()
    weights = np.random.default_rng(SEED).normal(0, pixels.shape[1] ** -0.5, (pixels.shape[1], 1024)).astype(np.float32)
    layer: NDArray[np.float32] = np.maximum(pixels @ weights, 0)
    return layer


def room(shape: tuple[int, ...], dtype: str) -> Array:
    """Return an array with every page touched that begins 16 bytes after a page boundary, where NumPy puts large arrays.

    The relative position of arrays changes times in a cache by up to a third, so it must not be left to chance.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.ones(nbytes + 2 * PAGE, np.uint8)
    begin = -buffer.ctypes.data % PAGE + 16
    return buffer[begin : begin + nbytes].view(dtype).reshape(shape)


def filled(shape: tuple[int, ...], dtype: str, shift: int = 0) -> Array:
    """Return an array of repeated activations, beginning with the one at index `shift`."""
    values = np.roll(activations().reshape(-1), -shift).astype(dtype)
    made = room(shape, dtype)
    flat = made.reshape(-1)
    for begin in range(0, flat.size, values.size):
        part = flat[begin : begin + values.size]
        part[:] = values[: part.size]
    return made


def require_memory(case: Case, contenders: int) -> None:
    """Raise Absent if a case does not fit in memory: each contender may need an array of its own and a mask."""
    needed = case.nbytes * (6 + contenders)
    if needed > free_memory():
        raise Absent(f"needs about {needed / 1e9:.0f} GB of free memory")


def job_of(case: Case, threads: int, contenders: int = 1) -> Job:
    """Return the work of a case, with every page of its memory touched."""
    if case.dtype == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401  registers the name with NumPy
        except ModuleNotFoundError:
            raise Absent('bfloat16 needs ml_dtypes: pip install "fastdrop-kernels[peers]"') from None
    require_memory(case, contenders)
    x = filled(case.shape, case.dtype)
    p: Any = case.rate
    if p == "each":
        p = np.resize(np.linspace(0, 0.5, 1021, dtype=np.float32), case.shape)
    more: dict[str, Any] = {}
    if "bias" in case.operands:
        more["bias"] = filled(case.shape[-1:], case.dtype, 5)
    if "residual" in case.operands:
        more["residual"] = filled(case.shape, case.dtype, 11)
    if case.what in (FORWARD, BACKWARD, CALL):
        more["variant"] = Work.of(variant_named(case.entry), x, case.what == BACKWARD, room, filled)
    if case.what == "backward":
        more["grads"] = filled(case.shape, case.dtype, 3), room(case.shape, case.dtype)
    return Job(case, x, room(case.shape, case.dtype), p, threads, **more)
