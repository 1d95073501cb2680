"""Stochastic depth: drop residual paths and whole layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.plan import Call, as_array, as_count, is_one_of
from fastdrop._core.types import Backend, FixedSeed, Mode, Per, Rate, Seed
from fastdrop.variants._axes import ALL_AXES
from fastdrop.variants._backward import backward_of

__all__ = ["drop_path", "drop_path_backward", "layer_drop"]

MOST_LAYERS = 2**24  # far above the depth of any network; more would take seconds in which nothing can interrupt the call


def drop_path(
    x: ArrayLike,
    p: Rate = 0.0,
    *,
    per: Per = "sample",
    mode: Mode = "inverted",
    residual: NDArray[Any] | None = None,
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
    """Drop the path of a residual block, per sample or for the whole batch: stochastic depth.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The output of the block's path, samples along the first axis.
    p : float or numpy.ndarray, default 0
        Probability of dropping the path, in [0, 1]; an array that broadcasts to `x` gives each sample its own rate.
    per : {"sample", "batch"}
        ``"sample"``: one decision per sample. ``"batch"``: one decision for all samples, as in the paper.
    mode : {"inverted", "standard", "unscaled"}
        ``"inverted"``: kept paths are multiplied by 1 / (1 - p) in training, as in the common libraries. ``"standard"``, as in
        the paper: kept paths are unscaled in training, and all paths are multiplied by 1 - p outside training. ``"unscaled"``:
        kept paths are unscaled, and the function is the identity outside training.
    residual : numpy.ndarray, optional
        The block's input, added in the same pass: ``residual + drop_path(x)``. Of the shape and dtype of `x`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        Outside training the result is `x` itself, unless `mode` is ``"standard"`` or a `residual` is given.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; a dropped path is +0.0 and is not read.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for an unknown `per` or `mode`; for ``per="sample"`` with a 0-d array.

    See Also
    --------
    fastdrop.schedules.drop_path_rates : the rates of a network's blocks.

    Notes
    -----
    Sample n is dropped if U(n) < p; the batch is dropped if U(0) < p. The paper's death rate is `p`.

    References
    ----------
    .. [1] G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.drop_path(np.ones((4, 2), np.float32), 0.5, seed=42)
    array([[2., 2.],
           [0., 0.],
           [0., 0.],
           [0., 0.]], dtype=float32)

    The second half of the batch, on another worker:

    >>> half = np.ones((2, 2), np.float32)
    >>> fastdrop.drop_path(half, 0.5, seed=42, global_shape=(4, 2), global_start=(2, 0))
    array([[0., 0.],
           [0., 0.]], dtype=float32)
    """
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, path_axes(x, per), mode=mode, residual=residual)


@backward_of(drop_path)
def drop_path_backward(
    grad: ArrayLike,
    p: Rate = 0.0,
    *,
    per: Per = "sample",
    mode: Mode = "inverted",
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
    """Return the gradient of `drop_path` with respect to its input. The gradient of a `residual` is `grad` itself.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.drop_path_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, path_axes(grad, per), mode=mode)


def path_axes(x: NDArray[Any], per: Any) -> tuple[int, ...]:
    """Return the axes along which a path's decision is shared."""
    ndim = x.ndim
    if not is_one_of(per, ("sample", "batch")):
        raise ValueError(f"per must be 'sample', one decision per sample, or 'batch', one for all; got {per!r}")
    if per == "batch":
        return ALL_AXES[:ndim]
    if not ndim:
        raise ValueError("per='sample' needs an axis of samples, the first axis; a 0-d array has none")
    return ALL_AXES[1:ndim]


def layer_drop(
    depth: int,
    p: Rate,
    *,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[np.bool_]:
    """Choose which layers of a network run in a training step: LayerDrop.

    Nothing is rescaled, in training or outside it. A layer that does not run returns its input, and in the backward pass the
    gradient that it gets. So the backward pass needs only the result of this function.

    Parameters
    ----------
    depth : int
        The number of layers.
    p : float or numpy.ndarray
        Probability of leaving a layer out, in [0, 1]; an array of shape ``(depth,)`` gives each layer its own rate.
    seed, offset, training, start, backend, num_threads
        As in `dropout`. Outside training every layer runs, and no key is drawn. `start` is the number of the first layer,
        if the call is for `depth` layers of a deeper network.

    Returns
    -------
    numpy.ndarray
        Of bool and shape ``(depth,)``: True where the layer runs.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a `depth` that is not an integer >= 0.
    MemoryError
        `depth` is above 2**24; no key was drawn.

    Notes
    -----
    Layer l, counted from 0, is left out if U(l) < p. With one seed the choices are nested: a smaller `p` leaves out a subset
    of the layers that a larger one leaves out.

    References
    ----------
    .. [1] A. Fan, E. Grave, A. Joulin, "Reducing transformer depth on demand with structured dropout", ICLR 2020.

    Examples
    --------
    >>> import fastdrop
    >>> from fastdrop.schedules import drop_path_rates
    >>> fastdrop.layer_drop(6, 0.2, seed=42)
    array([ True, False,  True,  True, False,  True])
    >>> fastdrop.layer_drop(3, drop_path_rates(1.0, 3, "timm"), seed=42)
    array([ True, False, False])
    """
    call = Call(seed, offset, training, None, start, None, None, backend, num_threads)
    layers = as_count(depth, "depth")
    if layers > MOST_LAYERS:
        call.check_place((layers,))
        raise MemoryError(f"cannot allocate {layers} bytes for so many layers; depth must be at most {MOST_LAYERS}")
    return call.mask(layers, p)
