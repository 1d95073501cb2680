"""Targeted dropout: only weights of small magnitude are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_share
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._masks import check_whole_axes, whole_part

__all__ = ["targeted_dropout", "targeted_dropout_backward"]

Among = Literal["output", "layer"]
Scaling = Literal["inverted", "unscaled"]


def targeted_dropout(
    weight: ArrayLike,
    p: float = 0.5,
    *,
    fraction: float = 0.5,
    among: Among = "output",
    mode: Scaling = "inverted",
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
    """Drop weights of small magnitude, so that a network learns to work without them before it is pruned.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The weights of a layer, outputs along the last axis, as in ``x @ weight``.
    p : float, default 0.5
        Probability of dropping a targeted weight, in [0, 1]; the paper's alpha.
    fraction : float, default 0.5
        The targeted share of the weights, in [0, 1]: those of the least magnitude; the paper's gamma.
    among : {"output", "layer"}
        ``"output"``, as in the paper: magnitudes are compared among the weights of each output. ``"layer"``: among all weights.
        One-dimensional weights belong to one output.
    mode : {"inverted", "unscaled"}
        ``"inverted"``: kept targeted weights are scaled by 1 / (1 - p). ``"unscaled"``, as in the paper: they are not scaled,
        so that the expected value of a targeted weight w is (1 - p) w.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; outside training `weight` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a bad `fraction`, `among` or `mode`, a 0-d array with ``among="output"``, a block without all
        weights that are compared, or 2**32 or more of them.

    Notes
    -----
    Of n compared weights, floor(n fraction) are targeted; a fraction that rounding made too small by up to 2**-52 counts as the
    exact one. Of equal magnitudes, the first in C order is targeted first; NaN counts as infinite. The targeted weight of
    C-order index i is dropped if U(i) < p.

    References
    ----------
    .. [1] A. N. Gomez, I. Zhang, S. R. Kamalakara, D. Madaan, K. Swersky, Y. Gal, G. E. Hinton, "Learning sparse
       networks using targeted dropout", arXiv:1905.13678 (2019).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight = np.array([[5.0, 1.0], [-1.0, 2.0], [2.0, 3.0], [-7.0, 4.0]])  # four inputs, two outputs
    >>> fastdrop.targeted_dropout(weight, 0.5, seed=42)
    array([[ 5.,  0.],
           [ 0.,  0.],
           [ 0.,  3.],
           [-7.,  4.]])
    """
    weight = plan.as_array(weight, "weight")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return drop_targets(weight, weight, p, fraction, among, mode, call, "weight")


@backward_of(targeted_dropout)
def targeted_dropout_backward(
    grad: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    fraction: float = 0.5,
    among: Among = "output",
    mode: Scaling = "inverted",
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
    """Return the gradient of `targeted_dropout` with respect to the weights; the choice of targets counts as a constant.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight = np.array([[5.0], [-1.0], [2.0], [-7.0]])
    >>> fastdrop.targeted_dropout_backward(np.ones((4, 1)), weight, 0.5, seed=42).ravel()
    array([1., 0., 0., 1.])
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    array, given = plan.as_array(weight, "weight"), plan.as_array(grad, "grad")
    if array.shape != given.shape or array.dtype != given.dtype:
        raise ValueError(
            f"weight must have grad's shape {given.shape} and dtype {given.dtype}; got shape {array.shape} and {array.dtype}"
        )
    return drop_targets(given, array, p, fraction, among, mode, call, "grad")


def drop_targets(
    x: NDArray[Any], weight: NDArray[Any], p: Any, fraction: Any, among: Any, mode: Any, call: Call, name: str
) -> NDArray[Any]:
    """Return x with some of its targeted weights dropped, or raise an error for a bad argument."""
    rate, share = plan.as_rate(p), as_share(fraction, "fraction")
    plan.check_mode(mode, ("inverted", "unscaled"))
    if not plan.is_one_of(among, ("output", "layer")):
        raise ValueError(f"among must be 'output', the weights of each output, or 'layer', all weights; got {among!r}")
    shape = weight.shape
    if among == "output" and not shape:
        raise ValueError("among='output' compares the weights of each output, the last axis; a 0-d array has none")
    if not call.is_training:
        return call.drop(x, rate, mode=mode, name=name)
    by_output = among == "output" and len(shape) > 1
    if call.global_shape is not None:
        check_whole_axes(call, shape, range(len(shape) - by_output), "its magnitudes are compared")
    compared = weight.size // max(shape[-1], 1) if by_output else weight.size
    return numbers.drop_targets(call, x, weight, rate, whole_part(compared, share), by_output, mode, name)
