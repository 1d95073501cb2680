"""The attention-based dropout layer: a network's own activations say where to look, and what to hide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import share_of
from fastdrop._core.settings import using
from fastdrop._core.types import DataFormat
from fastdrop.elementary import sigmoid
from fastdrop.variants._axes import axes_of_maps
from fastdrop.variants._masks import apply, beside_grad, compute_type, stored

__all__ = ["adl", "adl_backward"]


def adl(
    x: ArrayLike,
    drop_rate: float = 0.75,
    threshold: float = 0.8,
    *,
    data_format: DataFormat = "channels_first",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Hide the most discriminative region of feature maps, or stress it: the attention-based dropout layer (ADL).

    The mean over the channels, A, is a map of attention for each sample. With probability `drop_rate` the whole batch
    loses the places where A is high; otherwise all of it is multiplied by sigmoid(A).

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Feature maps: samples along the first axis, any number of spatial dimensions.
    drop_rate : float, default 0.75
        Probability of dropping, in [0, 1], as opposed to multiplying by the importance map.
    threshold : float, default 0.8
        What is dropped is where A is not below `threshold` times its largest value in the sample; in [0, 1]. Public
        code has 0.5, 0.8 and 0.9.
    data_format : {"channels_first", "channels_last"}
        Whether the channels are the second axis or the last.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; nothing is rescaled, as in the paper. Outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; fewer than two dimensions, a `drop_rate` or `threshold` outside [0, 1], an unknown
        `data_format`.

    Notes
    -----
    One decision for the batch: the places are dropped where U(0) < drop_rate.

    A place is kept only where A < threshold * max(A), the maximum over the sample's places. With ReLU before the layer
    A >= 0, as the paper has it. Otherwise, and where all is 0: a negative maximum is less than its product with a
    threshold below 1, and nothing is dropped; a maximum of 0 leaves only places with A < 0; NaN drops all places of its
    sample. As 0 is not below 0, places with A = 0 are dropped where the maximum is 0 or the threshold is.

    In the type that is computed with (float32 for the 16-bit ones): A is the sum over the channels, the second half of
    them added to the first until one is left (the first half has one more if their number is odd), divided by their
    number; its sigmoid is `fastdrop.elementary`'s; the product with it is rounded once more, to the dtype. Dropped
    elements are +0.0.

    References
    ----------
    .. [1] J. Choe, H. Shim, "Attention-based dropout layer for weakly supervised object localization", CVPR 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[[1.0, 2.0, 9.0, 5.0], [1.0, 0.0, 7.0, 7.0]]])  # one sample, two channels, four places
    >>> fastdrop.adl(x, 1.0, seed=42)
    array([[[1., 2., 0., 5.],
            [1., 0., 0., 7.]]])
    >>> fastdrop.adl(x - 4, 0.0, seed=42).round(2)
    array([[[-0.14, -0.09,  4.91,  0.88],
            [-0.14, -0.19,  2.95,  2.64]]])
    """
    array = plan.as_array(x, "x", out)
    rate, level, axes = checked(array, "x", drop_rate, threshold, data_format)
    if not training:
        return plan.dropout(x, 0.0, seed, offset, False, "inverted", out, 0, backend, num_threads)
    with using(backend=backend, num_threads=num_threads):
        drops = is_dropping(rate, *plan.key_of(seed, offset))
        attention = attention_of(array, axes)
        if drops:
            return apply(array, places_kept(attention, level, axes), 1.0, out)
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            result = array.astype(attention.dtype) * sigmoid(attention)
            return stored(result, array, out)


def adl_backward(
    grad: ArrayLike,
    x: ArrayLike,
    drop_rate: float = 0.75,
    threshold: float = 0.8,
    *,
    data_format: DataFormat = "channels_first",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `adl` with respect to its input.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `adl`'s result.
    x : array_like
        `adl`'s input, of the shape and dtype of `grad`.
    drop_rate, threshold, data_format, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`. Where places were dropped, `grad` without them (which they are is a constant);
        otherwise, with s = sigmoid(A) and C channels, grad s + (s (1 - s) / C) sum(grad x), the sum over the channels
        in the order of `adl`'s. Outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `adl`; an `x` of another shape or dtype than `grad`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[[1.0, 2.0, 9.0, 5.0], [1.0, 0.0, 7.0, 7.0]]])
    >>> fastdrop.adl_backward(np.ones((1, 2, 4)), x, 1.0, seed=42)
    array([[[1., 1., 0., 1.],
            [1., 1., 0., 1.]]])
    """
    given = plan.as_array(grad, "grad", out)
    rate, level, axes = checked(given, "grad", drop_rate, threshold, data_format)
    array = beside_grad(x, "x", given)
    if not training:
        return plan.dropout(grad, 0.0, seed, offset, False, "inverted", out, 0, backend, num_threads, True)
    with using(backend=backend, num_threads=num_threads):
        drops = is_dropping(rate, *plan.key_of(seed, offset, True))
        attention = attention_of(array, axes)
        if drops:
            return apply(given, places_kept(attention, level, axes), 1.0, out)
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            values, map = given.astype(attention.dtype), sigmoid(attention)
            total = fixed_sum(values * array.astype(attention.dtype), axes[0])
            slope = map * (1 - map) / attention.dtype.type(array.shape[axes[0]])
            return stored(values * map + slope * total, given, out)


def checked(
    x: NDArray[Any], name: str, drop_rate: Any, threshold: Any, data_format: DataFormat
) -> tuple[float, float, tuple[int, ...]]:
    """Return the rate, the threshold and the axes, the channels' first; or raise naming what is wrong."""
    places = axes_of_maps(x, data_format, name)
    channels = 1 if data_format == "channels_first" else x.ndim - 1
    return share_of(drop_rate, "drop_rate"), share_of(threshold, "threshold"), (channels, *places)


def is_dropping(rate: float, seed: int, offset: int) -> bool:
    """Return whether the batch loses places, as opposed to being multiplied."""
    return not plan.old_mask(1, rate, seed, offset, False, 0, None, None)[0]


def attention_of(x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return the mean over the channels, whose axis keeps length 1, in the type that is computed with."""
    type = compute_type(x.dtype)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        mean: NDArray[Any] = fixed_sum(x.astype(type), axes[0]) / type(x.shape[axes[0]])
        return mean


def places_kept(attention: NDArray[Any], threshold: float, axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where attention is below its largest value in the sample times the threshold."""
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        largest = attention.max(axis=axes, keepdims=True, initial=-np.inf)
        kept: NDArray[np.bool_] = attention < attention.dtype.type(threshold) * largest
        return kept
