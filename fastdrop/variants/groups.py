"""Masks that share decisions: whole channels, whole sequences, blocks. Each is `dropout` with a geometry.

All scale what they keep by 1 / (1 - p) in training and return their input outside it, as `dropout` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.plan import as_axes, as_sizes
from fastdrop._core.types import Rate

__all__ = ["group_dropout", "group_dropout_backward", "locked_dropout", "locked_dropout_backward"]


def drop(
    x: NDArray[Any],
    p: Rate,
    shared: tuple[int, ...],
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
    backward: bool = False,
) -> NDArray[Any]:
    """Run `dropout` or its backward pass with one decision along the `shared` axes."""
    geometry = (None, shared, None, None)
    return plan.dropout(x, p, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, geometry)


# Sequences ----------------------------------------------------------------------------------------------------------


def time_axes(x: NDArray[Any], time_axis: int, name: str) -> tuple[int, ...]:
    """Return the one axis of time."""
    if not hasattr(time_axis, "__index__"):
        raise TypeError(f"time_axis must be an integer, one axis of {name}; got {time_axis!r} ({type(time_axis).__name__})")
    return as_axes(time_axis, x.ndim, "time_axis")


def locked_dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    time_axis: int = 0,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop the same features of a sequence at all time steps: variational dropout for recurrent networks.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        A batch of sequences; usually (time, samples, features) or (samples, time, features).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a feature of a sequence, as in `dropout`.
    time_axis : int, default 0
        The axis of time, along which one decision is shared: 0 as in the AWD-LSTM's ``LockedDropout``, 1 where the
        samples come first, as in Flair's.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept features times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; and for a `time_axis` that `x` does not have.

    Notes
    -----
    The mask has the shape of `x` without its time axis; feature d of sample b has the bit of index b D + d. The
    number of steps does not enter: with one (seed, offset), a sequence taken a piece or a step at a time gets the
    mask of the whole, and both orders of axes get the same one.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
       NIPS 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.locked_dropout(np.ones((2, 3, 4), np.float32), 0.5, seed=42)
    >>> bool((y[0] == y[1]).all())
    True
    """
    x = np.asanyarray(x)
    shared = time_axes(x, time_axis, "x")
    return drop(x, p, shared, seed, offset, training, out, backend, num_threads)


def locked_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    time_axis: int = 0,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `locked_dropout` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `locked_dropout`, of the same shape.
    p, time_axis, offset, training
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used, as in `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `locked_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.locked_dropout_backward(np.ones((2, 3, 4), np.float32), 0.5, seed=42)
    >>> dx[0]
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.],
           [2., 0., 0., 0.]], dtype=float32)
    """
    grad = np.asanyarray(grad)
    shared = time_axes(grad, time_axis, "grad")
    return drop(grad, p, shared, seed, offset, training, out, backend, num_threads, backward=True)


# Groups -------------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A stretch of an axis in which all groups have one size; or all of an axis that has none. Axis, then groups and places."""

    where: slice
    split: tuple[int, ...]  # the stretch's shape: groups, and places in each
    whole: tuple[int, ...]  # what it is a block of, for `global_shape`
    begin: tuple[int, ...]  # and where, for `global_start`
    noise: tuple[int, ...]  # the shape of the mask


def runs_of(n: int, group: int | None) -> list[Run]:
    """Cut an axis of `n` elements into its whole groups and the smaller last one; empty stretches left out."""
    if group is None:
        return [Run(slice(None), (n,), (n,), (0,), (n,))]
    groups, rest = divmod(n, group)
    noise = (groups + (rest > 0), 1)
    full = Run(slice(0, n - rest), (groups, group), (noise[0], group), (0, 0), noise)
    last = Run(slice(n - rest, n), (1, rest), (noise[0], rest), (groups, 0), noise)
    return [run for run in (full, last) if 0 not in run.split]


def group_sizes(x: NDArray[Any], group_size: int | Sequence[int], axes: int | Sequence[int]) -> dict[int, int]:
    """Return the size of a group along each of the chosen axes."""
    given = as_sizes([axes] if hasattr(axes, "__index__") else axes, "axes")
    if not as_axes(given, x.ndim, "axes"):
        raise ValueError("axes must name at least one axis")
    one_for_all = hasattr(group_size, "__index__")
    sizes = as_sizes((group_size,) * len(given) if one_for_all else group_size, "group_size")
    if len(sizes) != len(given):
        raise ValueError(f"group_size must be one size, or a size for each of axes {given}; got {sizes}")
    if min(sizes) < 1:
        raise ValueError(f"group_size must be at least 1; got {min(sizes)}")
    return {axis % x.ndim: size for axis, size in zip(given, sizes, strict=True)}


def drop_groups(
    x: NDArray[Any],
    p: float,
    sizes: dict[int, int],
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
    backward: bool = False,
) -> NDArray[Any]:
    """Give each group's places an axis of their own, a view, and share one decision along it; a pass a size of groups."""
    rate = plan.as_rate(p)
    if not training:
        return plan.dropout(x, rate, seed, offset, False, "inverted", out, 0, backend, num_threads, backward)
    plan.check(x, rate, seed, offset, out, backend, num_threads, name="grad" if backward else "x")
    seed, offset = plan.key_of(seed, offset, backward)
    y = np.empty_like(x) if out is None else out
    if y is not x and np.may_share_memory(x, y):
        x = x.copy()  # a later pass would read what an earlier one wrote
    for runs in itertools.product(*(runs_of(n, sizes.get(axis)) for axis, n in enumerate(x.shape))):
        where = tuple(run.where for run in runs)
        split, whole, begin, noise = (tuple(itertools.chain(*sides)) for sides in zip(*(run[1:] for run in runs), strict=True))
        a, b = (np.asarray(array)[where].reshape(split) for array in (x, y))
        geometry = (noise, None, whole, begin)
        plan.dropout(a, rate, seed, offset, True, "inverted", b, 0, backend, num_threads, backward, geometry)
    return y


def group_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    group_size: int | Sequence[int],
    axes: int | Sequence[int] = -1,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop blocks of neighbours: along the chosen axes, runs of elements share one decision.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape of at least one dimension.
    p : float, default 0.5
        Probability of dropping a group. One number.
    group_size : int or sequence of int
        How many neighbours make a group: along each of `axes`, or one size for each. Where a size does not divide the
        axis, the last group is smaller; one as large as the axis shares a decision along all of it.
    axes : int or sequence of int, default -1
        The axes that are cut into groups. Each index along the others has decisions of its own.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept groups times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; for a `group_size` below 1 or not one for each axis, or axes that `x` does not have.

    See Also
    --------
    spatial_dropout : whole channels.

    Notes
    -----
    The element at (i, j, ...) has the bit that the element at (i // g, j // h, ...) would have in an array of
    groups, g, h, ... being the sizes, 1 along axes that are not cut: its C-order index in that array.

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
    x = np.asanyarray(x)
    sizes = group_sizes(x, group_size, axes)
    return drop_groups(x, p, sizes, seed, offset, training, out, backend, num_threads)


def group_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    group_size: int | Sequence[int],
    axes: int | Sequence[int] = -1,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `group_dropout` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `group_dropout`, of the same shape.
    p, group_size, axes, offset, training
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used, as in `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `group_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.group_dropout_backward(np.ones(11, np.float32), 0.5, group_size=2, seed=42)
    array([2., 2., 0., 0., 0., 0., 0., 0., 0., 0., 2.], dtype=float32)
    """
    grad = np.asanyarray(grad)
    sizes = group_sizes(grad, group_size, axes)
    return drop_groups(grad, p, sizes, seed, offset, training, out, backend, num_threads, backward=True)
