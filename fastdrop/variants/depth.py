"""Stochastic depth: dropping the paths of a residual network, and whole layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.types import Rate

__all__ = ["drop_path", "drop_path_backward", "drop_path_rates", "layer_drop"]


def shared_path_axes(x: ArrayLike, mode: str) -> range:
    """Return the axes along which a path's decision is shared."""
    ndim = np.ndim(x)
    if mode == "batch":
        return range(ndim)
    if mode != "row":
        raise ValueError(f"mode must be 'row', a decision for each sample, or 'batch', one for all; got {mode!r}")
    if not ndim:
        raise ValueError("mode 'row' decides for each index of the first axis; a 0-d array has none")
    return range(1, ndim)


def scaling_of(scale: Any, training: bool) -> Literal["inverted", "standard"]:
    """Return the mode of `dropout` that scales as `scale` says."""
    if scale is True:
        return "inverted"
    if scale is False:
        return "standard" if training else "inverted"  # kept values as they are; the identity outside training
    if scale == "inference":
        return "standard"
    raise ValueError(
        f"scale must be True (1 / (1 - p) in training), 'inference' (1 - p outside training) or False (never); got {scale!r}"
    )


def drop_path(
    x: ArrayLike,
    p: Rate = 0.0,
    *,
    mode: Literal["row", "batch"] = "row",
    scale: bool | Literal["inference"] = True,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    residual: NDArray[Any] | None = None,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop the path of a residual block, for each sample or for the whole batch: stochastic depth.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The output of the block's path, samples along the first axis.
    p : float or numpy.ndarray, default 0
        Probability of dropping the path, in [0, 1]; an array that broadcasts to `x` gives each sample its own.
    mode : {"row", "batch"}
        ``"row"``: a decision for each sample. ``"batch"``: one for all, as in the paper.
    scale : {True, "inference", False}
        True: kept paths times 1 / (1 - p) in training, as the common libraries have it. ``"inference"``: kept paths as
        they are, and all paths times 1 - p outside training, as in the paper. False: never scaled.
    seed, offset, training, out, backend, num_threads
        As in `dropout`. Outside training the result is `x` itself, unless `scale` or `residual` say otherwise.
    residual : numpy.ndarray, optional
        The block's input, added in the same pass: ``residual + drop_path(x)``. Of the shape and dtype of `x`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; a dropped path is +0.0 and is not read.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; an unknown `mode` or `scale`; rows of a 0-d array.

    See Also
    --------
    drop_path_rates : the rates of a network's blocks.

    Notes
    -----
    Sample n is dropped where U(n) < p; the batch where U(0) < p. The paper's death rate is `p`. For a shard of a
    larger batch call `dropout` with ``shared_axes`` and ``global_shape``: it gives the same bits.

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
    """
    geometry = plan.geometry_of(None, shared_path_axes(x, mode), None, None)
    scaling = scaling_of(scale, training)
    return plan.dropout(x, p, seed, offset, training, scaling, out, 0, backend, num_threads, False, geometry, None, residual)


def drop_path_backward(
    grad: ArrayLike,
    p: Rate = 0.0,
    *,
    mode: Literal["row", "batch"] = "row",
    scale: bool | Literal["inference"] = True,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `drop_path` with respect to its input.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `drop_path`'s result. (It is the gradient of a `residual`, too.)
    p, mode, scale, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`.

    Raises
    ------
    TypeError, ValueError
        As in `drop_path`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.drop_path_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    geometry = plan.geometry_of(None, shared_path_axes(grad, mode), None, None)
    scaling = scaling_of(scale, training)
    return plan.dropout(grad, p, seed, offset, training, scaling, out, 0, backend, num_threads, True, geometry)


def drop_path_rates(p: float, depth: int, rule: Literal["paper", "timm"] = "paper") -> NDArray[np.float64]:
    """Return the rate of dropping the path of each block of a network: linear in its depth, up to `p`.

    Parameters
    ----------
    p : float
        The last block's rate, in [0, 1].
    depth : int
        How many blocks there are.
    rule : {"paper", "timm"}
        ``"paper"``: l / depth * p for l = 1 .. depth, so that the input is what has rate 0. ``"timm"``:
        l / (depth - 1) * p for l = 0 .. depth - 1, so that the first block has rate 0 (the only one, if it is).

    Returns
    -------
    numpy.ndarray
        Of float64 and shape ``(depth,)``.

    Raises
    ------
    TypeError, ValueError
        `p` not a number in [0, 1], `depth` negative or no integer, an unknown `rule`.

    References
    ----------
    .. [1] G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.drop_path_rates(0.5, 4)
    array([0.125, 0.25 , 0.375, 0.5  ])
    >>> fastdrop.drop_path_rates(0.5, 3, "timm")
    array([0.  , 0.25, 0.5 ])
    """
    last, count = plan.as_rate(p), plan.as_count(depth, "depth")
    if rule not in ("paper", "timm"):
        raise ValueError(f"rule must be 'paper' or 'timm'; got {rule!r}")
    begin = 1 if rule == "paper" else 0
    with plan.RoundToNearest():
        return np.arange(begin, count + begin) / max(1, count - 1 + begin) * last


def layer_drop(
    depth: int,
    p: Rate,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[np.bool_]:
    """Choose which layers of a network run in a training step: LayerDrop.

    Nothing is rescaled, in training or outside it. A layer that does not run passes its input on, and in the backward
    pass the gradient; so the result is all that the backward pass needs.

    Parameters
    ----------
    depth : int
        How many layers there are.
    p : float or numpy.ndarray
        Probability of leaving a layer out, in [0, 1]; an array of shape ``(depth,)`` gives each layer its own.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: every layer runs.

    Returns
    -------
    numpy.ndarray
        Of bool and shape ``(depth,)``: True where the layer runs.

    Raises
    ------
    TypeError, ValueError
        As in `dropout_mask`, but that `seed` may be None.

    Notes
    -----
    Layer l, counted from 0, is left out where U(l) < p. With one seed the choices are nested: a smaller `p` leaves
    out fewer of the same layers.

    References
    ----------
    .. [1] A. Fan, E. Grave, A. Joulin, "Reducing transformer depth on demand with structured dropout", ICLR 2020.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.layer_drop(6, 0.2, seed=42)
    array([ True, False,  True,  True, False,  True])
    >>> fastdrop.layer_drop(3, fastdrop.drop_path_rates(1.0, 3, "timm"), seed=42)
    array([ True, False, False])
    """
    if seed is None or not training:
        seed = plan.key_of(None, 0)[0]  # nothing of the caller's is drawn from; the other arguments are checked all the same
    count = plan.as_count(depth, "depth")
    keep = plan.old_mask(count, p, seed, offset, False, 0, backend, num_threads)
    return keep if training else np.ones_like(keep)
