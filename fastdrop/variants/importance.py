"""Dropout by importance: elements with low scores are dropped more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_real_array, as_share, fixed
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._masks import check_whole_axes

__all__ = ["importance_dropout", "importance_dropout_backward"]


def importance_dropout(
    x: ArrayLike,
    scores: ArrayLike,
    p: float = 0.5,
    *,
    axis: int | Sequence[int] | None = None,
    floor: float = 0.01,
    shared_axes: int | Sequence[int] | None = None,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop elements with low scores more often than those with high scores. Kept ones are divided by their keep probability.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    scores : array_like of real numbers
        The importance of the elements: finite and >= 0, of a shape that broadcasts to that of `x`. For example one score per
        channel, one per token (with a last axis of 1), or attention probabilities.
    p : float, default 0.5
        The mean probability of dropping, in [0, 1].
    axis : int or sequence of int, optional
        The axes of `scores` over which the mean is taken; see `fastdrop.theory.keep_probabilities`. If `scores` has fewer axes
        than `x`, they count from the end, as -1 does, so that they name the same axes of both.
    floor : float, default 0.01
        The least probability of keeping; see `fastdrop.theory.keep_probabilities`. With 0, elements whose score is 0 are always
        dropped; the result is then unbiased only if these elements are 0.
    shared_axes : int or sequence of int, optional
        The axes of `x` along which one decision is shared, as in `dropout`; for example to drop whole tokens.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout` and `fastdrop.theory.keep_probabilities`; for scores of a shape that does not broadcast; for a block
        that has only a part of an axis over which the mean is taken. Outside training the scores' values are not checked.

    Notes
    -----
    Element i with keep probability k is dropped if U(i) < P, with P = 1 - k rounded to float64, and otherwise multiplied by
    1 / (1 - P), rounded to float64, then to the compute type. This is `dropout` with
    ``p = 1 - keep_probabilities(scores, p, axis=axis, floor=floor)``. Where k > 0, E[y] = x and Var[y] = x**2 (1 - k) / k. The
    scores are constants: no gradient flows to them.

    The mean is taken over the given scores. With `start`, give all scores over which the mean of the whole array is taken.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones(8, np.float32)
    >>> fastdrop.importance_dropout(x, [1, 1, 1, 1, 2, 2, 2, 2], 0.25, seed=42)
    array([2., 0., 0., 0., 1., 1., 1., 1.], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, rates_of(x, scores, p, axis, floor, call), shared_axes)


@backward_of(importance_dropout)
def importance_dropout_backward(
    grad: ArrayLike,
    scores: ArrayLike,
    p: float = 0.5,
    *,
    axis: int | Sequence[int] | None = None,
    floor: float = 0.01,
    shared_axes: int | Sequence[int] | None = None,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `importance_dropout` with respect to `x`; the scores count as constants.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.importance_dropout_backward(np.ones(4), [1, 1, 2, 2], 0.25, seed=42)
    array([2., 0., 1., 1.])
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, rates_of(grad, scores, p, axis, floor, call), shared_axes)


def rates_of(x: NDArray[Any], scores: Any, p: Any, axis: Any, floor: Any, call: Call) -> Any:
    """Return the dropping probability per element of `x`, or raise an error for a bad argument."""
    shape, given, rate = x.shape, as_real_array(scores, "scores"), plan.as_rate(p)
    least = as_share(floor, "floor")
    axis = fixed(axis)
    axes = tuple(range(given.ndim)) if axis is None else plan.as_axes(axis, given.ndim, "axis")
    if not plan.broadcasts(given, shape):
        raise ValueError(
            f"scores have shape {given.shape}, which does not broadcast to the shape {shape} of {call.array_name()}"
        )
    if axis is not None and plan.as_axes(axis, len(shape), "axis") != tuple(len(shape) - given.ndim + k for k in axes):
        raise ValueError(
            f"axis must count from the end, as -1 does, because scores have fewer axes than {call.array_name()}: "
            f"got axis {axis!r} for the shapes {given.shape} and {shape}"
        )
    if not call.is_training:
        return rate
    if call.global_shape is not None:
        check_block(call, shape, given.shape, axes)
    return numbers.keep_probabilities(given, rate, axes, least, call, drop=True)


def check_block(call: Call, shape: tuple[int, ...], scores: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Raise an error if a block has only a part of an axis over which the mean of the scores is taken."""
    first = len(shape) - len(scores)
    # Along an axis of length 1, the scores of a block look like scores that are the same along the whole axis.
    varying = [first + axis for axis in axes if scores[axis] > 1 or shape[first + axis] == 1]
    check_whole_axes(call, shape, varying, "the mean probability is taken over it")
