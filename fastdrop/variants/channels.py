"""Masks that share decisions: whole channels, whole sequences, blocks. Each is `dropout` with a geometry.

All scale what they keep by 1 / (1 - p) in training and return their input outside it, as `dropout` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.geometry import axes_of, sizes_of
from fastdrop._core.types import Rate

__all__ = [
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "group_dropout",
    "group_dropout_backward",
    "locked_dropout",
    "locked_dropout_backward",
    "spatial_dropout",
    "spatial_dropout_backward",
]

DataFormat = Literal["channels_last", "channels_first"]


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


# Channels -----------------------------------------------------------------------------------------------------------


def spatial_axes(x: NDArray[Any], layouts: Sequence[str], name: str) -> tuple[int, ...]:
    """Return the axes after the channels, where `x` has as many dimensions as one of the layouts, such as "NCHW"."""
    for layout in layouts:
        if len(layout) == x.ndim:
            return tuple(range(layout.index("C") + 1, x.ndim))
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)
    raise ValueError(f"{name} must have the dimensions {wanted}; got shape {x.shape}")


def map_axes(x: NDArray[Any], data_format: DataFormat, name: str) -> tuple[int, ...]:
    """Return the axes that are neither the samples' nor the channels'."""
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be 'channels_last' or 'channels_first'; got {data_format!r}")
    if x.ndim < 2:
        raise ValueError(f"{name} must have an axis of samples and one of channels; got shape {x.shape}")
    return tuple(range(2, x.ndim) if data_format == "channels_first" else range(1, x.ndim - 1))


def dropout1d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole channels of sequences: one decision for each sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, L) or (C, L).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the bit of index n C + c; without an axis of samples, of index c.

    References
    ----------
    .. [1] J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using
       convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout1d(np.ones((2, 4, 3), np.float32), 0.5, seed=42)
    >>> y.sum(axis=2)
    array([[6., 0., 0., 0.],
           [0., 6., 6., 0.]], dtype=float32)
    """
    x = np.asanyarray(x)
    shared = spatial_axes(x, ("NCL", "CL"), "x")
    return drop(x, p, shared, seed, offset, training, out, backend, num_threads)


def dropout1d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `dropout1d` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `dropout1d`, of the same shape.
    p, offset, training
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
        As in `dropout1d`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout1d_backward(np.ones((2, 4, 3), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=2)
    array([[6., 0., 0., 0.],
           [0., 6., 6., 0.]], dtype=float32)
    """
    grad = np.asanyarray(grad)
    shared = spatial_axes(grad, ("NCL", "CL"), "grad")
    return drop(grad, p, shared, seed, offset, training, out, backend, num_threads, backward=True)


def dropout2d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole channels of images: one decision for each sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, H, W) or (N, C, L); three dimensions are
        taken for samples, channels and length, as in PyTorch, **not** for one image (C, H, W): write ``x[None]`` for
        that.
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the bit of index n C + c; without an axis of samples, of index c.

    References
    ----------
    .. [1] J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using
       convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout2d(np.ones((2, 4, 3, 3), np.float32), 0.5, seed=42)
    >>> y.sum(axis=(2, 3))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    x = np.asanyarray(x)
    shared = spatial_axes(x, ("NCHW", "NCL"), "x")
    return drop(x, p, shared, seed, offset, training, out, backend, num_threads)


def dropout2d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `dropout2d` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `dropout2d`, of the same shape.
    p, offset, training
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
        As in `dropout2d`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout2d_backward(np.ones((2, 4, 3, 3), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(2, 3))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    grad = np.asanyarray(grad)
    shared = spatial_axes(grad, ("NCHW", "NCL"), "grad")
    return drop(grad, p, shared, seed, offset, training, out, backend, num_threads, backward=True)


def dropout3d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole channels of volumes: one decision for each sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, D, H, W) or (C, D, H, W).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the bit of index n C + c; without an axis of samples, of index c.

    References
    ----------
    .. [1] J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using
       convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout3d(np.ones((2, 4, 2, 2, 2), np.float32), 0.5, seed=42)
    >>> y.sum(axis=(2, 3, 4))
    array([[16.,  0.,  0.,  0.],
           [ 0., 16., 16.,  0.]], dtype=float32)
    """
    x = np.asanyarray(x)
    shared = spatial_axes(x, ("NCDHW", "CDHW"), "x")
    return drop(x, p, shared, seed, offset, training, out, backend, num_threads)


def dropout3d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `dropout3d` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `dropout3d`, of the same shape.
    p, offset, training
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
        As in `dropout3d`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout3d_backward(np.ones((2, 4, 2, 2, 2), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(2, 3, 4))
    array([[16.,  0.,  0.,  0.],
           [ 0., 16., 16.,  0.]], dtype=float32)
    """
    grad = np.asanyarray(grad)
    shared = spatial_axes(grad, ("NCDHW", "CDHW"), "grad")
    return drop(grad, p, shared, seed, offset, training, out, backend, num_threads, backward=True)


def spatial_dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    data_format: DataFormat = "channels_last",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole feature maps, of any number of spatial dimensions: one decision for each sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Samples first; none, one or more spatial dimensions.
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a map, as in `dropout`.
    data_format : {"channels_last", "channels_first"}
        Whether the channels are the last axis of `x` or the one after the samples. The default is Keras's.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As of `dropout`: kept maps times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; for fewer than two dimensions, or an unknown `data_format`.

    Notes
    -----
    Channel c of sample n has the bit of index n C + c, in both formats: the same maps are dropped.

    References
    ----------
    .. [1] J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using
       convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.spatial_dropout(np.ones((2, 3, 3, 4), np.float32), 0.5, seed=42)
    >>> y.sum(axis=(1, 2))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    x = np.asanyarray(x)
    shared = map_axes(x, data_format, "x")
    return drop(x, p, shared, seed, offset, training, out, backend, num_threads)


def spatial_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    data_format: DataFormat = "channels_last",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `spatial_dropout` with respect to its input: the same mask, made again.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `spatial_dropout`, of the same shape.
    p, data_format, offset, training
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
        As in `spatial_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.spatial_dropout_backward(np.ones((2, 3, 3, 4), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(1, 2))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    grad = np.asanyarray(grad)
    shared = map_axes(grad, data_format, "grad")
    return drop(grad, p, shared, seed, offset, training, out, backend, num_threads, backward=True)


# Sequences ----------------------------------------------------------------------------------------------------------


def time_axes(x: NDArray[Any], time_axis: int, name: str) -> tuple[int, ...]:
    """Return the one axis of time."""
    if not hasattr(time_axis, "__index__"):
        raise TypeError(f"time_axis must be an integer, one axis of {name}; got {time_axis!r} ({type(time_axis).__name__})")
    return axes_of(time_axis, x.ndim, "time_axis")


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
    given = sizes_of([axes] if hasattr(axes, "__index__") else axes, "axes")
    if not axes_of(given, x.ndim, "axes"):
        raise ValueError("axes must name at least one axis")
    one_for_all = hasattr(group_size, "__index__")
    sizes = sizes_of((group_size,) * len(given) if one_for_all else group_size, "group_size")
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
    rate = plan.rate_of(p)
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
