"""DropBlock: contiguous regions of feature maps are dropped together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.plan import Call, Decisions
from fastdrop._core.types import Backend, DataFormat, FixedSeed, Per, Seed
from fastdrop.variants._axes import check_data_format
from fastdrop.variants._backward import backward_of
from fastdrop.variants._blocks import check_block_size, seed_rate
from fastdrop.variants._masks import check_whole_axes

__all__ = ["drop_block", "drop_block_backward"]

Scaling = Literal["inverted", "unscaled"]


def drop_block(
    x: ArrayLike,
    p: float = 0.1,
    block_size: int | Sequence[int] = 7,
    *,
    exact_rate: bool = False,
    shared_axes: int | Sequence[int] | None = None,
    mode: Scaling = "inverted",
    per: Per = "batch",
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
    """Drop blocks of feature maps, and scale the kept elements by 1 / (share of kept elements).

    Each position at which a block fits in the map is a seed with probability gamma (`fastdrop.theory.drop_block_gamma`). The
    blocks of all seeds are set to zero.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (samples, channels, ...) with one, two or three spatial dimensions; see `data_format`.
    p : float, default 0.1
        The intended share of dropped elements, in [0, 1]; the paper's 1 - keep_prob.
    block_size : int or sequence of int, default 7
        The size of a block, or one size per spatial dimension. It may be even. A block larger than the map is cut to its size.
    exact_rate : bool, default False
        False uses the paper's gamma, which ignores that blocks overlap, and so drops less than `p`: 9.3 % instead of p = 0.1 on
        maps of 14 by 14 with blocks of 7. True solves for the gamma that gives an expected dropped share of `p`.
    shared_axes : int or sequence of int, optional
        Axes that share one mask: the channels, or the samples (0), or both. By default each map has its own mask, which the
        paper found to work better than one mask for all channels.
    mode : {"inverted", "unscaled"}
        ``"inverted"``: kept elements are scaled by the size of the mask / its number of kept elements. ``"unscaled"``: they are
        not scaled.
    per : {"batch", "sample"}
        The elements that are counted for the scale. ``"batch"``, as in the paper: the whole mask, so that the values of a
        sample depend on the other samples. ``"sample"``: the mask of each sample.
    data_format : {"channels_first", "channels_last"}
        Whether the channels are axis 1 or the last. The mask is the same for both.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself. Dropped elements are +0.0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an `x` without three to five dimensions, a bad `block_size`, `exact_rate`, `shared_axes`,
        `mode`, `per` or `data_format`. A block of a larger array must have whole samples, and is refused if the scale counts
        the whole batch.

    See Also
    --------
    fastdrop.theory.drop_block_gamma : the rate of seeds.

    Notes
    -----
    Position (i0, i1, ...) is a seed, the first corner of a dropped block, if U(index) < gamma. Here `index` is its C-order
    index in an array of shape (samples, channels, F0 - b0 + 1, ...), with size 1 along shared axes.

    The scale is computed from integer counts in float64 and rounded once to the compute type. If all elements are dropped, the
    result is 0. At p = 1 the paper's gamma is below 1, unless the block is a single element or the whole map; with `exact_rate`
    all elements are dropped.

    References
    ----------
    .. [1] G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((1, 1, 5, 6), np.float32)
    >>> fastdrop.drop_block(x, 0.3, 2, seed=2, mode="unscaled")[0, 0]
    array([[1., 1., 1., 1., 1., 1.],
           [1., 1., 0., 0., 1., 1.],
           [1., 1., 0., 0., 0., 1.],
           [1., 1., 1., 0., 0., 1.],
           [1., 1., 1., 1., 1., 1.]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    maps = check_maps(x, "x", block_size, shared_axes, data_format)
    return drop_from_maps(x, maps, (p, exact_rate), (mode, per), call)


@backward_of(drop_block)
def drop_block_backward(
    grad: ArrayLike,
    p: float = 0.1,
    block_size: int | Sequence[int] = 7,
    *,
    exact_rate: bool = False,
    shared_axes: int | Sequence[int] | None = None,
    mode: Scaling = "inverted",
    per: Per = "batch",
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
    """Return the gradient of `drop_block` with respect to its input: the same mask and scale.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones((1, 1, 6), np.float32)
    >>> fastdrop.drop_block_backward(grad, 0.5, 3, seed=1)
    array([[[2., 2., 0., 0., 0., 2.]]], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    maps = check_maps(grad, "grad", block_size, shared_axes, data_format)
    return drop_from_maps(grad, maps, (p, exact_rate), (mode, per), call)


class Maps(NamedTuple):
    """Feature maps, and the geometry of their masks."""

    shape: tuple[int, ...]
    spatial: tuple[int, ...]
    block: tuple[int, ...]
    mask: Decisions


def check_maps(x: NDArray[Any], name: str, block_size: Any, shared_axes: Any, data_format: Any) -> Maps:
    """Return the maps of an array, or raise an error for a bad argument."""
    return maps_of_shape(x.shape, name, block_size, shared_axes, data_format)


@plan.remembering(256)
def maps_of_shape(shape: tuple[int, ...], name: str, block_size: Any, shared_axes: Any, data_format: Any) -> Maps:
    """Return the maps of an array of a shape, or raise an error for a bad argument."""
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"{name} must have samples, channels and one to three spatial dimensions; got an array of shape {shape}"
        )
    check_data_format(data_format)
    channels = 1 if data_format == "channels_first" else len(shape) - 1
    axes = [axis for axis in range(1, len(shape)) if axis != channels]
    shared = () if shared_axes is None else plan.as_axes(shared_axes, len(shape), "shared_axes")
    if not set(shared) <= {0, channels}:
        raise ValueError(f"shared_axes must be 0 (the samples), {channels} (the channels), or both; got {shared_axes!r}")
    spatial = tuple([shape[axis] for axis in axes])
    block = check_block_size(block_size, spatial)
    mask = Decisions(shape, (0, channels, *axes), shared, tuple(map(max, block, (1,) * len(block))))
    return Maps(shape, spatial, block, mask)


def drop_from_maps(x: NDArray[Any], maps: Maps, rate: tuple[Any, Any], scaling: tuple[Any, Any], call: Call) -> NDArray[Any]:
    """Forward and backward are one: the mask is regenerated. `rate` is (p, exact_rate), `scaling` is (mode, per)."""
    p, exact, (mode, per) = plan.as_rate(rate[0]), plan.check_flag(rate[1], "exact_rate"), scaling
    plan.check_mode(mode, ("inverted", "unscaled"))
    if not plan.is_one_of(per, ("batch", "sample")):
        raise ValueError(f"per must be 'batch' or 'sample'; got {per!r}")
    if not call.is_training:
        return call.unchanged(x)
    if mode == "inverted" and per == "batch" and (plan.as_count(call.start, "start") or call.global_shape is not None):
        raise ValueError(
            "start and global_shape must not be given if the scale counts the whole batch; use per='sample' or mode='unscaled'"
        )
    check_whole_axes(call, maps.shape, range(1, len(maps.shape)), "blocks and counts need whole samples")
    gamma = 0.0 if 0 in maps.shape else seed_rate(p, maps.spatial, maps.block, exact)
    return call.drop_decisions(x, gamma, maps.mask, None if mode == "unscaled" else per)
