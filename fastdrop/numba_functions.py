"""Dropout for functions that Numba compiles: in `@njit`, in `prange` and with ``cache=True``.

Compiled code calls the C kernels directly, on one thread per call. It names the kernels by symbol, and this module registers
the address of each symbol. So a function that Numba has cached finds the kernels in another process, too.

Examples
--------
>>> import numba, numpy as np
>>> from fastdrop.numba_functions import dropout
>>> @numba.njit
... def drop_rows(x, out):
...     for i in range(len(x)):
...         dropout(x[i], 0.5, 42, 0, i * x.shape[1], out[i])
...     return out
>>> x = np.ones((2, 4), np.float32)
>>> drop_rows(x, np.empty_like(x))
array([[2., 0., 0., 0.],
       [0., 2., 2., 0.]], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop import random
from fastdrop._core import native
from fastdrop._core.optional import missing
from fastdrop.variants import dropout as plain

try:
    from llvmlite import binding
    from numba import types
    from numba.core.errors import NumbaTypeError
    from numba.extending import overload, register_jitable
except ImportError as error:
    raise missing("fastdrop.numba_functions", error, "numba") from error

__all__ = ["dropout", "fold_in"]


def find_symbol(name: str, result: Any, *arguments: Any) -> Any:
    """Return a C function of fastdrop_simple.h, under a symbol whose name contains the version of the interface."""
    symbol = f"fastdrop_v1_{name}"
    binding.add_symbol(symbol, native.addresses()[name])
    return types.ExternalFunction(symbol, result(*arguments))


NUMBERS = (types.float64, types.uint64, types.uint64, types.uint64, types.int32)  # p, seed, offset, start, threads
fd_drop = find_symbol("fd_drop", types.int32, types.uintp, types.uintp, types.int64, types.int32, *NUMBERS)
fd_derive = find_symbol("fd_derive", types.uint64, types.uint64, types.uint64)

DTYPES = {types.float32: 0, types.float64: 1}  # FD_FLOAT32, FD_FLOAT64
BAD_P, BAD_START = (native.error_texts()[error] for error in (2, 4))
MISALIGNED, OVERLAP = "x and out must be aligned to their elements", "out must be x, or must not overlap it"
ALLOWED = "a C-contiguous array of float32 or float64"


def dropout(x: NDArray[Any], p: float, seed: int, offset: int, start: int, out: NDArray[Any]) -> NDArray[Any]:
    """Drop elements at random and scale the others, as `fastdrop.dropout`, on one thread.

    Parameters
    ----------
    x : numpy.ndarray of float32 or float64
        C-contiguous, of any shape.
    p : float
        Probability of dropping an element, in [0, 1].
    seed, offset : int
        The key, in [0, 2**64). Pass numbers that come from outside compiled code as ``np.uint64``: a compiled function that was
        called with smaller Python integers before refuses one from 2**63 on.
    start : int
        The index of the first element in a larger array; the last index must be below 2**55.
    out : numpy.ndarray
        Where to put the result: `x` itself, or an array of its dtype and shape that does not overlap it.

    Returns
    -------
    numpy.ndarray
        `out`.

    Raises
    ------
    ValueError
        In compiled code: a `p` outside [0, 1], a negative number, an `out` of another shape or one that overlaps `x`, an array
        that is not aligned, an index past the end of the stream. Numba does not carry every exception out of a loop over
        `prange`, so check the arguments before the loop.
    TypeError, ValueError, OverflowError
        In other code: as in `fastdrop.dropout`, which accepts an `out` that overlaps `x`, and arrays that are not aligned.
    numba.core.errors.TypingError
        In compiled code, when it is compiled: another layout or dtype.

    Examples
    --------
    >>> import numpy as np, fastdrop.numba_functions
    >>> x = np.arange(1, 5, dtype=np.float32)
    >>> fastdrop.numba_functions.dropout(x, 0.5, 42, 0, 0, np.empty_like(x))
    array([2., 0., 0., 0.], dtype=float32)
    """
    return plain.dropout(x, p, seed=seed, offset=offset, start=start, out=out, num_threads=1)


def fold_in(seed: int, data: int) -> int:
    """Derive a seed from a seed and a number, as `fastdrop.fold_in`.

    Parameters
    ----------
    seed, data : int
        In [0, 2**64).

    Returns
    -------
    int
        In [0, 2**64); in compiled code a uint64.

    Raises
    ------
    ValueError
        A negative number.
    numba.core.errors.TypingError
        In compiled code, when it is compiled: arguments that are not integers.

    Examples
    --------
    >>> import fastdrop.numba_functions
    >>> fastdrop.numba_functions.fold_in(42, 7)
    18189261930134888871
    """
    return random.fold_in(seed, data)


# Typing -------------------------------------------------------------------------------------------------------------


def check_array(array: Any, name: str) -> None:
    """Raise an error unless a type is one of the arrays that the kernels take."""
    if not isinstance(array, types.Array) or array.dtype not in DTYPES or array.layout != "C" or not array.aligned:
        raise NumbaTypeError(f"{name} must be {ALLOWED}; got {array}")


def check_integer(number: Any, name: str) -> None:
    """Raise an error unless a type is an integer; a bool is not one."""
    if not isinstance(number, (types.Integer, types.IntegerLiteral)):
        raise NumbaTypeError(f"{name} must be an integer in [0, 2**64); got {number}")


@register_jitable
def is_negative(number: Any) -> Any:
    """Return whether a signed integer is below 0; comparing an unsigned one with 0 would go through floating point."""
    return np.int64(number) < 0 and number < 1


@overload(dropout)
def compile_dropout(x: Any, p: Any, seed: Any, offset: Any, start: Any, out: Any) -> Callable[..., Any]:
    """Check the types, and return what Numba compiles for them."""
    check_array(x, "x")
    check_array(out, "out")
    if out.dtype != x.dtype or out.ndim != x.ndim or not out.mutable:
        raise NumbaTypeError(f"out must be a writable array with the dtype and the dimensions of x, {x}; got {out}")
    if not isinstance(p, (types.Float, types.Integer)):
        raise NumbaTypeError(f"p must be a number in [0, 1]; got {p}")
    for number, name in ((seed, "seed"), (offset, "offset"), (start, "start")):
        check_integer(number, name)
    dtype = DTYPES[x.dtype]

    def run(x: Any, p: Any, seed: Any, offset: Any, start: Any, out: Any) -> Any:
        if out.shape != x.shape:
            raise ValueError("out must have the shape of x")
        if is_negative(seed) or is_negative(offset) or is_negative(start):
            raise ValueError("seed, offset and start must be >= 0")
        error = fd_drop(x.ctypes.data, out.ctypes.data, x.size, dtype, p, seed, offset, start, 1)
        if error == 2:
            raise ValueError(BAD_P)
        if error == 4:
            raise ValueError(BAD_START)
        if error == 7:  # Numba takes every array of NumPy for an aligned one
            raise ValueError(MISALIGNED)
        if error:
            raise ValueError(OVERLAP)
        return out

    return run


@overload(fold_in)
def compile_fold_in(seed: Any, data: Any) -> Callable[..., Any]:
    """Check the types, and return what Numba compiles for them."""
    check_integer(seed, "seed")
    check_integer(data, "data")

    def run(seed: Any, data: Any) -> Any:
        if is_negative(seed) or is_negative(data):
            raise ValueError("seed and data must be >= 0")
        return fd_derive(seed, data)

    return run
