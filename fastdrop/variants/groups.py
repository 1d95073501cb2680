"""Dropout of groups of neighbouring elements: one decision per group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core.plan import Call, as_rate
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["group_dropout", "group_dropout_backward"]


def group_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    group_size: int | Sequence[int],
    axes: int | Sequence[int] = -1,
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
    """Drop groups of neighbours: along the chosen axes, runs of elements share one decision.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape of at least one dimension.
    p : float, default 0.5
        Probability of dropping a group: one number in [0, 1].
    group_size : int or sequence of int
        The number of neighbours in a group: one size for all `axes`, or one size per axis. If a size does not divide the length
        of its axis, the last group is smaller. With a size as large as the axis, all elements along it share one decision.
    axes : int or sequence of int, default -1
        The axes that are cut into groups. Each index along the other axes has its own decisions.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        `global_shape` is cut into groups, so a block may begin and end inside a group. `start` counts groups.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept groups times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a `group_size` below 1 or of another length than `axes`, or axes that `x` does not have.

    See Also
    --------
    spatial_dropout : whole channels.

    Notes
    -----
    The element at (i, j, ...) has the mask bit of the element at (i // g, j // h, ...) in an array of groups. Here g, h, ...
    are the group sizes, 1 along axes that are not cut. The bit's index is the C-order index in the array of groups.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.group_dropout(np.ones(11, np.float32), 0.5, group_size=2, seed=42)
    array([2., 2., 0., 0., 0., 0., 0., 0., 0., 0., 2.], dtype=float32)

    Squares of a plane:

    >>> fastdrop.group_dropout(np.ones((4, 6), np.float32), 0.5, group_size=2, axes=(0, 1), seed=42)
    array([[2., 2., 0., 0., 0., 0.],
           [2., 2., 0., 0., 0., 0.],
           [0., 0., 0., 0., 2., 2.],
           [0., 0., 0., 0., 2., 2.]], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, as_rate(p), groups=(group_size, axes))


@backward_of(group_dropout)
def group_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    group_size: int | Sequence[int],
    axes: int | Sequence[int] = -1,
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
    """Return the gradient of `group_dropout` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.group_dropout_backward(np.ones(11, np.float32), 0.5, group_size=2, seed=42)
    array([2., 2., 0., 0., 0., 0., 0., 0., 0., 0., 2.], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, as_rate(p), groups=(group_size, axes))
