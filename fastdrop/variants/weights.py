"""Weights of a layer: `weight_drop` drops them, `shakeout` enhances or reverses them. Weights have the shape (in, out)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_non_negative_scalar
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Rate, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["shakeout", "shakeout_backward", "weight_drop", "weight_drop_backward"]

# Weight drop --------------------------------------------------------------------------------------------------------


def weight_drop(
    weight: ArrayLike,
    p: Rate = 0.5,
    *,
    unit: Literal["weight", "output"] = "weight",
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
    """Drop weights of a layer, such as the recurrent ones of an RNN, and scale the others by 1 / (1 - p).

    Call it once per forward pass, and use the result in all time steps.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The weights, of shape (..., in, out).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a unit, in [0, 1]; an array that broadcasts to `weight` gives each weight its own rate.
    unit : {"weight", "output"}
        The unit that has its own decision. ``"weight"``: each weight. ``"output"``: all weights of an output, which have the
        same index of the last axis, a column of the matrix. The authors' code offers the latter as ``variational=True``; its
        matrices are (out, in).
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; outside training `weight` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an unknown `unit`, or ``unit="output"`` with a 0-d array.

    Notes
    -----
    The weight of C-order index i is dropped if U(i) < p; output o is dropped if U(o) < p. The authors' code also drops outputs
    outside training; this function does not.

    References
    ----------
    .. [1] S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.weight_drop(np.ones((2, 4), np.float32), 0.5, seed=42)
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.]], dtype=float32)
    >>> fastdrop.weight_drop(np.ones((2, 4), np.float32), 0.5, unit="output", seed=42)
    array([[2., 0., 0., 0.],
           [2., 0., 0., 0.]], dtype=float32)
    """
    weight = plan.as_array(weight, "weight")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(weight, p, axes_of_unit(weight, unit, ("weight", "output")), name="weight")


@backward_of(weight_drop)
def weight_drop_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    unit: Literal["weight", "output"] = "weight",
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
    """Return the gradient of `weight_drop` with respect to the raw weights.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.weight_drop_backward(np.ones(4, np.float32), 0.5, seed=42)
    array([2., 0., 0., 0.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_unit(grad, unit, ("weight", "output")))


def axes_of_unit(weight: NDArray[Any], unit: Any, allowed: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the axes along which the weights of one unit lie, or raise an error that names the allowed units."""
    if not plan.is_one_of(unit, allowed):
        raise ValueError(f"unit must be {' or '.join(map(repr, allowed))}; got {unit!r}")
    if unit == "weight":
        return None
    shape = weight.shape
    if unit == "input" and len(shape) != 2:
        raise ValueError(f"unit 'input' needs weights of shape (in, out), one row per input; got shape {shape}")
    if not shape:
        raise ValueError("unit 'output' needs an axis of outputs, the last axis of the weights; a 0-d array has none")
    return (1,) if unit == "input" else tuple(range(len(shape) - 1))


# Shakeout -----------------------------------------------------------------------------------------------------------


def shakeout(
    weight: ArrayLike,
    p: float = 0.5,
    c: float = 0.1,
    *,
    unit: Literal["input", "weight"] = "input",
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
    """Enhance or reverse weights at random: Shakeout, which is dropout with a bias towards the weights' signs.

    The weights W become r W + c (r - 1) sign(W), with r = 0 for dropped and r = 1 / (1 - p) for kept weights.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The weights of a layer, of shape (in, out); with ``unit="weight"`` of any shape.
    p : float, default 0.5
        Probability of dropping a unit, in [0, 1]; the paper's tau.
    c : float, default 0.1
        The paper's c, finite and >= 0: a dropped weight becomes ``-c sign(W)``. With 0 this is dropout.
    unit : {"input", "weight"}
        The unit that has its own decision. ``"input"``, as in the paper: all weights of an input, a row of the matrix.
        ``"weight"``: each weight.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`. One call draws one mask for all samples. (In the paper each sample has its own mask.)

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; outside training `weight` itself, the expected value for p < 1.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a bad `c`, an unknown `unit`, or a shape that does not fit it.

    Notes
    -----
    Input i is dropped if U(i) < p; with ``unit="weight"``, the weight of C-order index i.

    T is the compute type (float32 for float16 and bfloat16). The numbers s = T(1 / (1 - p)), b = T(c p / (1 - p)) and d = T(c)
    are computed in float64 and rounded once; for p = 1, s and b are 0. A kept weight becomes W s + b if W > 0, W s - b if W < 0
    and W s otherwise; the product is rounded, then the sum. A dropped weight becomes -d if W > 0, d if W < 0 and +0.0
    otherwise; for c = 0 it is always +0.0. The result is rounded once more to the dtype of the weights.

    References
    ----------
    .. [1] G. Kang, J. Li, D. Tao, "Shakeout: a new regularized deep neural network training scheme", AAAI 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.shakeout(np.array([[4.0, -2.0], [4.0, -2.0]]), 0.5, 0.25, seed=42)
    array([[ 8.25, -4.25],
           [-0.25,  0.25]])
    """
    weight = plan.as_array(weight, "weight")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    axes, rate, reversal = axes_of_unit(weight, unit, ("input", "weight")), plan.as_rate(p), as_non_negative_scalar(c, "c")
    if not call.is_training:
        return call.unchanged(weight, "weight", axes)
    return call.affine(weight, rate, shakeout_factors(rate, reversal), axes, signed=True, name="weight")


def shakeout_factors(p: float, c: float) -> tuple[float, float, float]:
    """Return the scale and the shift of a kept weight, and the magnitude of a dropped weight, whose sign is reversed."""
    if p == 1.0:
        return 0.0, 0.0, c
    with plan.RoundToNearest():
        return 1.0 / (1.0 - p), c * p / (1.0 - p), c


@backward_of(shakeout)
def shakeout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    unit: Literal["input", "weight"] = "input",
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
    """Return the gradient of `shakeout` with respect to the weights.

    The signs of the weights count as constants, so the gradient does not depend on c.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.shakeout_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, plan.as_rate(p), axes_of_unit(grad, unit, ("input", "weight")))
