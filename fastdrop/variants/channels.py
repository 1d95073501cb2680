"""Whole channels: one decision per sample and channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core.plan import Call, as_array
from fastdrop._core.types import Backend, DataFormat, FixedSeed, Rate, Seed
from fastdrop.variants._axes import axes_of_layouts, axes_of_maps
from fastdrop.variants._backward import backward_of

__all__ = [
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "spatial_dropout",
    "spatial_dropout_backward",
]


def dropout1d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Drop whole channels of sequences: one decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, L) or (C, L).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the mask bit of index n C + c; without an axis of samples, of index c.

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
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, axes_of_layouts(x, ("NCL", "CL"), "x"))


@backward_of(dropout1d)
def dropout1d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Return the gradient of `dropout1d` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout1d_backward(np.ones((2, 4, 3), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=2)
    array([[6., 0., 0., 0.],
           [0., 6., 6., 0.]], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_layouts(grad, ("NCL", "CL"), "grad"))


def dropout2d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Drop whole channels of images: one decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, H, W) or (N, C, L). Three dimensions are samples, channels and length, as in PyTorch, and **not** one
        image (C, H, W): pass ``x[None]`` for one image.
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the mask bit of index n C + c.

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
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, axes_of_layouts(x, ("NCHW", "NCL"), "x"))


@backward_of(dropout2d)
def dropout2d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Return the gradient of `dropout2d` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout2d_backward(np.ones((2, 4, 3, 3), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(2, 3))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_layouts(grad, ("NCHW", "NCL"), "grad"))


def dropout3d(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Drop whole channels of volumes: one decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C, D, H, W) or (C, D, H, W).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a channel, as in `dropout`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept channels times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an array of another number of dimensions.

    See Also
    --------
    spatial_dropout : any number of dimensions, channels first or last.

    Notes
    -----
    Channel c of sample n has the mask bit of index n C + c; without an axis of samples, of index c.

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
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, axes_of_layouts(x, ("NCDHW", "CDHW"), "x"))


@backward_of(dropout3d)
def dropout3d_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
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
    """Return the gradient of `dropout3d` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.dropout3d_backward(np.ones((2, 4, 2, 2, 2), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(2, 3, 4))
    array([[16.,  0.,  0.,  0.],
           [ 0., 16., 16.,  0.]], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_layouts(grad, ("NCDHW", "CDHW"), "grad"))


def spatial_dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    data_format: DataFormat = "channels_first",
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
    """Drop whole feature maps with any number of spatial dimensions: one decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The first axis is that of the samples. There may be any number of spatial dimensions, including none.
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a map, as in `dropout`.
    data_format : {"channels_first", "channels_last"}
        Whether the channels are the axis after the samples or the last one. (Keras's default is ``"channels_last"``.)
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept maps times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for fewer than two dimensions, or an unknown `data_format`.

    Notes
    -----
    Channel c of sample n has the mask bit of index n C + c in both formats: the same maps are dropped.

    References
    ----------
    .. [1] J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using
       convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.spatial_dropout(np.ones((2, 4, 3, 3), np.float32), 0.5, seed=42)
    >>> y.sum(axis=(2, 3))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, axes_of_maps(x, data_format, "x"))


@backward_of(spatial_dropout)
def spatial_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    data_format: DataFormat = "channels_first",
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
    """Return the gradient of `spatial_dropout` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.spatial_dropout_backward(np.ones((2, 4, 3, 3), np.float32), 0.5, seed=42)
    >>> dx.sum(axis=(2, 3))
    array([[18.,  0.,  0.,  0.],
           [ 0., 18., 18.,  0.]], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_maps(grad, data_format, "grad"))
