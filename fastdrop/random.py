"""Random numbers that are the same on every machine, with keys and streams of keys as their source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.keys import Key, Stream, fold_in
from fastdrop._core.types import Backend, Seed

__all__ = ["Key", "Stream", "fold_in", "normal", "uniform", "words"]


def words(
    n: int,
    *,
    seed: Seed,
    offset: int = 0,
    out: NDArray[np.uint32] | None = None,
    start: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[np.uint32]:
    """Return random 32-bit words: Philox4x32-10 in counter mode.

    Parameters
    ----------
    n : int
        The number of words, >= 0.
    seed, offset
        As in `dropout`. The seed is Philox's key, and the offset is the upper half of its counter.
    out : numpy.ndarray, optional
        The array to fill: of uint32 and shape ``(n,)``.
    start : int, default 0
        The index of the first word; the last must be below 2**50.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of uint32 and shape ``(n,)``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and if `seed` is None.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> [f"{word:08x}" for word in fastdrop.words(4, seed=0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    return numbers.words(n, plan.Call(seed, offset, True, out, start, None, None, backend, num_threads))


def uniform(
    shape: int | Sequence[int],
    *,
    dtype: DTypeLike = np.float32,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return random numbers that are uniform in the open interval (0, 1): never 0, never 1.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the result.
    dtype : {numpy.float32, numpy.float64}
        float32 takes one word per number and has 2**23 values; float64 takes two words and has 2**52 values.
    seed, offset
        As in `dropout`.
    out : numpy.ndarray, optional
        The array to fill: of `shape` and `dtype`.
    start : int, default 0
        The index of the first number; the last must be below 2**50 (float32) or 2**49 (float64).
    global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of `dtype` and `shape`, in C order.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and if `seed` is None, or `dtype` is another dtype.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.uniform(3, seed=42)
    array([0.6129599 , 0.4685865 , 0.07323176], dtype=float32)
    """
    call = plan.Call(seed, offset, True, out, start, global_shape, global_start, backend, num_threads)
    return numbers.numbers("uniform", shape, dtype, call)


def normal(
    shape: int | Sequence[int],
    *,
    dtype: DTypeLike = np.float32,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return random numbers of the standard normal distribution.

    Number i is the inverse of the distribution function at a uniform number, which depends only on the key and on the index i.
    So any chunk can be computed by itself, and every backend, instruction set and number of threads gives the same bits.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the result.
    dtype : {numpy.float32, numpy.float64}
        float32 uses one word w per number, u = (w + 1/2) / 2**32. float64 uses two words per number; u is that of `uniform`.
    seed, offset
        As in `dropout`.
    out : numpy.ndarray, optional
        The array to fill: of `shape` and `dtype`.
    start : int, default 0
        The index of the first number; the last must be below 2**50 (float32) or 2**49 (float64).
    global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of `dtype` and `shape`, in C order.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and if `seed` is None, or `dtype` is another dtype.

    Notes
    -----
    float32 uses polynomials, one for each power of two of u or 1 - u, which `src_c/fit_normal.py` fits. The absolute error is
    below 7.5e-7, the magnitude at most 6.34, and the numbers never decrease as u increases. float64 uses algorithm AS 241 [1]_
    with fastdrop's logarithm. The relative error is below 1e-14, and the magnitude at most 8.2.

    References
    ----------
    .. [1] M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988)
       477-484.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.normal(3, seed=42)
    array([ 0.2870415, -0.0788236, -1.4521368], dtype=float32)
    """
    call = plan.Call(seed, offset, True, out, start, global_shape, global_start, backend, num_threads)
    return numbers.numbers("normal", shape, dtype, call)
