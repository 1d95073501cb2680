"""Dropout of groups of neighbouring elements: one decision per group."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.plan import Call, as_axes, as_rate, as_sizes, locate_block
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
        Probability of dropping a group. One number.
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
    return drop_groups(call, np.asanyarray(x), p, group_size, axes)


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
    return drop_groups(call, np.asanyarray(grad), p, group_size, axes)


class Cut(NamedTuple):
    """A part of an axis in which all groups have one size. An axis without groups is one part with tuples of one entry."""

    where: slice
    split: tuple[int, ...]  # the shape of this part: groups, and positions in each
    whole: tuple[int, ...]  # the shape of the larger array, in the same form
    begin: tuple[int, ...]  # the first index of this part in the larger array


def cut_axis(n: int, whole: int, begin: int, size: int | None) -> list[Cut]:
    """Cut n elements, from `begin` on in an axis of length `whole`, into a partial group, whole groups, a partial group."""
    if size is None:
        return [Cut(slice(None), (n,), (whole,), (begin,))]
    head = min(n, -begin % size)
    body = (n - head) // size * size
    cuts = []
    for a, b, groups in ((0, head, 1), (head, head + body, body // size), (head + body, n, 1)):
        if b > a:
            places = (b - a) // groups
            cuts.append(Cut(slice(a, b), (groups, places), (-(-whole // size), places), ((begin + a) // size, 0)))
    return cuts


def group_sizes(ndim: int, group_size: int | Sequence[int], axes: int | Sequence[int]) -> dict[int, int]:
    """Return the size of a group along each of the chosen axes."""
    given = as_sizes([axes] if hasattr(axes, "__index__") else axes, "axes")
    if not as_axes(given, ndim, "axes"):
        raise ValueError("axes must name at least one axis")
    sizes = as_sizes((group_size,) * len(given) if hasattr(group_size, "__index__") else group_size, "group_size")
    if len(sizes) != len(given):
        raise ValueError(f"group_size must be one size, or one size per axis of {given}; got {sizes}")
    if min(sizes) < 1:
        raise ValueError(f"group_size must be at least 1; got {min(sizes)}")
    return {axis % ndim: size for axis, size in zip(given, sizes, strict=True)}


def drop_groups(call: Call, x: NDArray[Any], p: Any, group_size: Any, axes: Any) -> NDArray[Any]:
    """Return x with whole groups dropped: one pass per group size, each over a view with an axis of positions in the group."""
    rate, sizes = as_rate(p), group_sizes(x.ndim, group_size, axes)
    whole, begin = locate_block(x.shape, call.global_shape, call.global_start)
    check_stream(call, [(*place, sizes.get(axis, 1)) for axis, place in enumerate(zip(x.shape, whole, begin, strict=True))])
    if not call.is_training:
        return call.unchanged(x)
    cuts_of_axes = [cut_axis(x.shape[k], whole[k], begin[k], sizes.get(k)) for k in range(x.ndim)]
    with call.arrays(x) as run:
        overlaps = run.y is not x and np.may_share_memory(x, run.y)
        source = x.copy() if overlaps else x  # a later pass would read what an earlier one wrote
        for cuts in itertools.product(*cuts_of_axes):
            where = tuple(cut.where for cut in cuts)
            split, larger, first = (tuple(itertools.chain(*sides)) for sides in zip(*(cut[1:] for cut in cuts), strict=True))
            lengths = itertools.accumulate(len(cut.split) for cut in cuts)
            places = tuple(end - 1 for end, cut in zip(lengths, cuts, strict=True) if len(cut.split) == 2)
            a, b = (np.asarray(array)[where].reshape(split) for array in (source, run.y))
            Call(*run.key, True, b, call.start, larger, first).drop(a, rate, places)
        return run.result()


def check_stream(call: Call, axes: list[tuple[int, int, int, int]]) -> None:
    """Raise an error unless the groups of a block have indices in the stream; an axis is (n, whole, begin, size of a group)."""
    groups = [-(-whole // size) for _, whole, _, size in axes]
    first = [begin // size for _, _, begin, size in axes]
    touched = [-(-(begin + n) // size) - begin // size if n else 0 for n, _, begin, size in axes]
    Call(None, 0, True, None, call.start, groups, first).check_place(touched)
