"""The functions: stateless, each one call of the plan that checks its arguments and runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastdrop import _plan

__all__ = ["dropout", "dropout_backward", "dropout_mask", "uniform", "words"]

Mode = Literal["inverted", "standard"]


def dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    mode: Mode = "inverted",
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop elements at random and scale the others.

    Element i is dropped where its uniform number U(i), a function of (seed, offset, i) alone, is below `p`. So the
    mask is the same on every machine, for any number of threads, any memory layout and any way of cutting the array
    up; with one seed, what a smaller `p` drops a larger one drops too; and `dropout_backward` needs nothing stored.

    Parameters
    ----------
    x : array_like of float32 or float64
        Any shape, strides and order. The mask follows the C-order (row-major) index, whatever the layout.
    p : float, default 0.5
        Probability of **dropping** an element, in [0, 1]; exact to 2**-64. (The papers' p is often that of keeping.)
    seed : int, Stream, numpy.random.SeedSequence, numpy.random.Generator or None
        An integer in [0, 2**64); a `Stream`, whose (seed, offset) is used and whose offset is advanced by one; a
        ``SeedSequence``, whose first 64 bits are used; a ``Generator``, from which 64 bits are drawn; None for fresh
        entropy, after which the mask cannot be made again. Nothing is drawn unless `training`.
    offset : int, default 0
        Which call under the seed this is (a step, a layer): in [0, 2**64). Masks of different offsets are independent.
    training : bool, default True
        False turns dropping off: see `mode`.
    mode : {"inverted", "standard"}
        ``"inverted"``: kept elements times 1 / (1 - p) in training; outside training **`x` itself is returned**, not a
        copy (with `out`, its values are copied there). ``"standard"``: kept elements as they are in training; all
        of them times 1 - p outside it.
    out : numpy.ndarray, optional
        Where to put the result: of the shape and dtype of `x`; may be `x` itself.
    start : int, default 0
        The global index of the first element: a chunk of a larger array gets the mask of its place in it. The last
        index must be below 2**55.
    backend : {"c", "numba", "numpy"}, optional
        For this call alone; see `set_backend`.
    num_threads : int, optional
        For this call alone; see `set_num_threads`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the shape, dtype and memory order of `x`. Dropped elements are +0.0, also where `x` is
        NaN, infinite or negative; kept ones are rounded once.

    Raises
    ------
    TypeError
        `x` or `out` of another dtype (or byte order); `p`, `seed`, `offset` or `start` not numbers of their kind.
    ValueError
        `p` outside [0, 1], `seed` or `offset` outside [0, 2**64), `start` negative, an unknown `mode` or `backend`, an
        `out` of another shape or read-only. After an error `out` is as it was.
    OverflowError
        An index past the end of the stream.

    See Also
    --------
    dropout_backward : the gradient.
    dropout_mask : the mask itself.

    Notes
    -----
    For expected values E[y] = x and Var[y] = x**2 p / (1 - p) in inverted mode. An `out` that overlaps `x` in
    memory without being `x` gets the result as if it did not. NaN payloads are not promised to be the same
    everywhere.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to
       prevent neural networks from overfitting", JMLR 15 (2014) 1929-1958.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(1, 9, dtype=np.float32)
    >>> fastdrop.dropout(x, 0.5, seed=42)
    array([ 2.,  0.,  0.,  0.,  0., 12., 14.,  0.], dtype=float32)

    The second half, as a chunk:

    >>> fastdrop.dropout(x[4:], 0.5, seed=42, start=4)
    array([ 0., 12., 14.,  0.], dtype=float32)
    """
    return _plan.dropout(x, p, seed, offset, training, mode, out, start, backend, num_threads, False)


def dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    mode: Mode = "inverted",
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `dropout` with respect to its input.

    The mask is a constant of the forward pass, made again here from the same (seed, offset): nothing was stored.

    Parameters
    ----------
    grad : array_like of float32 or float64
        The gradient with respect to `dropout`'s result, of the same shape.
    p, offset, training, mode, start
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used. Keep the integers: ``seed, offset = stream.next()`` before the forward pass. A
        `Stream` or ``Generator`` passed here draws anew, as everywhere, and so gives the next mask, not the last
        one.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training in inverted mode, `grad` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones(8, np.float32)
    >>> fastdrop.dropout_backward(grad, 0.5, seed=42)
    array([2., 0., 0., 0., 0., 2., 2., 0.], dtype=float32)
    """
    return _plan.dropout(grad, p, seed, offset, training, mode, out, start, backend, num_threads, True)


def dropout_mask(
    shape: int | Sequence[int],
    p: float = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    packed: bool = False,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the mask that `dropout` applies: True where an element is kept.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array that the mask is for.
    p, offset, start, backend, num_threads
        As in `dropout`.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        As in `dropout`.
    packed : bool, default False
        Eight elements to a byte, in C order, the first in the lowest bit:
        ``numpy.packbits(mask, bitorder="little")``.

    Returns
    -------
    numpy.ndarray
        Of bool and of `shape`; or, packed, of uint8 and one dimension, with the bits past the last element 0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42)
    array([[ True, False, False, False],
           [False,  True,  True, False]])
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42, packed=True)
    array([97], dtype=uint8)
    """
    return _plan.dropout_mask(shape, p, seed, offset, packed, start, backend, num_threads)


def words(n: int, *, seed: Any, offset: int = 0, start: int = 0) -> NDArray[np.uint32]:
    """Return random 32-bit words: Philox4x32-10 in counter mode.

    Parameters
    ----------
    n : int
        How many.
    seed, offset
        As in `dropout`: the key, and the upper half of the counter.
    start : int, default 0
        The index of the first word; the last must be below 2**50.

    Returns
    -------
    numpy.ndarray
        Of uint32 and shape ``(n,)``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> [f"{word:08x}" for word in fastdrop.words(4, seed=0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    return _plan.words(n, seed, offset, start)


def uniform(
    shape: int | Sequence[int],
    *,
    seed: Any,
    offset: int = 0,
    start: int = 0,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Return random numbers, uniform in the open interval (0, 1): never 0, never 1.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the result.
    seed, offset
        As in `dropout`.
    start : int, default 0
        The index of the first number; the last must be below 2**50 (float32) or 2**49 (float64).
    dtype : {numpy.float32, numpy.float64}
        float32 takes one word an element and has 2**23 values; float64 takes two and has 2**52.

    Returns
    -------
    numpy.ndarray
        Of `dtype` and `shape`, in C order.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.uniform(3, seed=42)
    array([0.6129599 , 0.4685865 , 0.07323176], dtype=float32)
    """
    return _plan.uniform(shape, seed, offset, start, dtype)
