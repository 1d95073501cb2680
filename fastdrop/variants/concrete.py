"""Concrete dropout (Gal, Hron and Kendall): dropout with a learned rate, whose soft mask has a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_positive_scalar, require, required
from fastdrop._core.concrete import concrete_rate, soft_keep_mean
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, DataFormat, FixedSeed, Seed
from fastdrop.elementary import log
from fastdrop.variants._axes import axes_of_maps
from fastdrop.variants._backward import backward_of

__all__ = [
    "concrete_dropout",
    "concrete_dropout_backward",
    "spatial_concrete_dropout",
    "spatial_concrete_dropout_backward",
]


def concrete_dropout(
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 0.1,
    *,
    epsilon: float = 1e-7,
    exact_mean: bool = False,
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
    """Multiply by a soft mask of rate p = sigmoid(p_logit), so that p has a gradient.

    The result is ``y = x * (1 - s) / (1 - p)``. The soft decision to drop is
    ``s = sigmoid((logit(p) + logit(u)) / temperature)``, with one uniform number u per element. It is near 0 or 1 for most
    elements.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    p_logit : float or array of one element
        The logit of the rate of dropping; clamped to [-16, 16].
    temperature : float, default 0.1
        The softness of the mask, above 0. The paper's code uses 0.1. If 2 / temperature is an integer up to 64 (as for 0.1 and
        2/3), the mask needs no logarithm and no exponential: 1 / s is 1 + r**(1 / temperature), with
        r = (1 - p) (1 - u) / (p u).
    epsilon : float, default 1e-7
        Added to p, 1 - p, u and 1 - u in r, as in the authors' code.
    exact_mean : bool, default False
        True divides by the mean of 1 - s instead of 1 - p, so that the result has the mean of `x` at every rate and
        temperature. `fastdrop.theory.concrete_mean` is the ratio of the two. False is the convention of the paper and of its
        authors' code.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        Element i takes number i of `uniform`. Outside training the result is `x` itself. (The authors' layer also drops at test
        time, for Monte Carlo dropout: pass ``training=True`` for that.)

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a `p_logit` that is not one finite number, a `temperature` that is not above 0, an
        `epsilon` that is not in (0, 1).

    See Also
    --------
    concrete_dropout_backward : the gradients.
    fastdrop.losses.concrete_regularizer : the regularizer to add to the loss.
    fastdrop.theory.concrete_mean : the mean of (1 - s) / (1 - p).

    Notes
    -----
    The mean of (1 - s) / (1 - p) is 1 at p = 0.5, below 1 at smaller rates and above 1 at larger ones:

    =========== ===== ===== ===== ===== ===== ===== =====
    temperature p=0.1   0.2   0.3   0.5   0.7   0.9  0.99
    =========== ===== ===== ===== ===== ===== ===== =====
    0.1         0.999 0.998 0.998 1     1.005 1.012 1.016
    2/3         0.950 0.939 0.946 1     1.127 1.453 2.012
    =========== ===== ===== ===== ===== ===== ===== =====

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.concrete_dropout(np.ones(4, np.float32), -1.0, seed=42).round(4)
    array([1.3617, 1.3679, 1.3679, 1.3679], dtype=float32)
    >>> x = np.ones(10_000)
    >>> float(fastdrop.concrete_dropout(x, 2.2, 2 / 3, seed=42).mean().round(2))  # p = 0.9
    1.45
    >>> float(fastdrop.concrete_dropout(x, 2.2, 2 / 3, exact_mean=True, seed=42).mean().round(2))
    1.0
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    params = soften(p_logit, temperature, epsilon, exact_mean).params
    return numbers.noise(call, x, "concrete", params)[0] if call.is_training else call.unchanged(x, draws_numbers=True)


@backward_of(concrete_dropout)
def concrete_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 0.1,
    *,
    epsilon: float = 1e-7,
    exact_mean: bool = False,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], np.float64]:
    """Return the gradients of `concrete_dropout` with respect to its input and to the logit of its rate.

    Both come from one pass over the elements; with `exact_mean`, from two.

    Parameters
    ----------
    x : array_like
        The input of the forward pass, of the shape and dtype of `grad`.

    Returns
    -------
    dx : numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.
    dp_logit : numpy.float64
        The gradient with respect to `p_logit`. It is summed in a fixed order in float64, so its bits are the same with any
        number of threads and any backend. For a clamped logit it is the gradient at the bound. It is 0 outside training.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones(4, np.float32)
    >>> dx, dp_logit = fastdrop.concrete_dropout_backward(grad, x, -1.0, seed=42)
    >>> dx.round(4), round(float(dp_logit), 4)
    (array([1.3617, 1.3679, 1.3679, 1.3679], dtype=float32), 1.4086)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    soft = soften(p_logit, temperature, epsilon, exact_mean)
    grad, given = plan.as_array(grad, "grad"), plan.as_array(required(x, "x"), "x")
    if not call.is_training:
        return call.unchanged(grad, draws_numbers=True, x=given), np.float64(0)
    dx, dp_logit = soft.backward(call, grad, given)
    return dx, dp_logit


def spatial_concrete_dropout(
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 2 / 3,
    *,
    epsilon: float = 1e-7,
    exact_mean: bool = False,
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
    """Apply concrete dropout to whole feature maps: one soft decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (samples, channels, ...), or (samples, ..., channels) with ``data_format="channels_last"``.
    p_logit, epsilon, exact_mean
        As in `concrete_dropout`.
    temperature : float, default 2/3
        As in `concrete_dropout`, with the authors' default for feature maps.
    data_format : {"channels_first", "channels_last"}
        Whether the channels are the second axis or the last.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        The map of sample n and channel c takes the number n * channels + c of `uniform`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `concrete_dropout`; for fewer than two dimensions, or an unknown `data_format`.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.spatial_concrete_dropout(np.ones((1, 3, 2), np.float32), -1.0, seed=42).round(3)
    array([[[0.947, 0.947],
            [1.155, 1.155],
            [1.361, 1.361]]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    soft, axes = soften(p_logit, temperature, epsilon, exact_mean), axes_of_maps(x, data_format, "x")
    if not call.is_training:
        return call.unchanged(x, "x", axes, draws_numbers=True)
    return numbers.noise_of_maps(call, x, "concrete", soft.params, axes)


@backward_of(spatial_concrete_dropout)
def spatial_concrete_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 2 / 3,
    *,
    epsilon: float = 1e-7,
    exact_mean: bool = False,
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
) -> tuple[NDArray[Any], np.float64]:
    """Return the gradients of `spatial_concrete_dropout` with respect to its input and to the logit of its rate.

    Parameters
    ----------
    x : array_like
        The input of the forward pass, of the shape and dtype of `grad`.

    Returns
    -------
    dx : numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.
    dp_logit : numpy.float64
        As in `concrete_dropout_backward`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones((1, 3, 2), np.float32)
    >>> dx, dp_logit = fastdrop.spatial_concrete_dropout_backward(grad, x, -1.0, seed=42)
    >>> dx[0, :, 0].round(3), round(float(dp_logit), 3)
    (array([0.947, 1.155, 1.361], dtype=float32), 0.428)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    soft, axes = soften(p_logit, temperature, epsilon, exact_mean), axes_of_maps(grad, data_format, "grad")
    given = required(x, "x")
    if not call.is_training:
        return call.unchanged(grad, "grad", axes, draws_numbers=True, x=given), np.float64(0)
    dx, made, kept = numbers.noise_of_maps_backward(call, grad, given, "concrete", soft.params, axes, soft.without_steepness)
    with plan.RoundToNearest():
        return dx, soft.slope(made, kept)


# The mask -----------------------------------------------------------------------------------------------------------


class SoftMask(NamedTuple):
    """The kernel parameters for a rate and a temperature (fastdrop.h), and the additional numbers for the logit's gradient.

    `scale` is the factor of 1 - s, and kept = (1 - s) scale. The kernels sum scale kept - steepness s kept. If scale is
    1 / (1 - p), this is the derivative with respect to p; p (1 - p) times that is the derivative with respect to the logit.
    """

    params: tuple[float, ...]
    slope_of_rate: float  # p (1 - p)
    correction: float | None  # the term of the derivative of 1 / scale, per kept; None if scale is 1 / (1 - p)

    @property
    def scale(self) -> float:
        """The factor of 1 - s."""
        return self.params[3]

    @property
    def without_steepness(self) -> tuple[float, ...] | None:
        """The parameters with which the kernels sum scale kept alone; None if the slope does not need this sum."""
        return None if self.correction is None else (*self.params[:-1], 0.0)

    def backward(self, call: Call, grad: ArrayLike, x: ArrayLike) -> tuple[NDArray[Any], np.float64]:
        """Return the gradients with respect to x and to the logit."""
        more = None if self.correction is None else self.sum_kept(call, grad, x)  # before `out`, maybe grad or x, changes
        dx, made = numbers.noise_and_sum(call, grad, "concrete", self.params, x, other_name="x")
        with plan.RoundToNearest():
            return dx, self.slope(made, more)

    def sum_kept(self, call: Call, grad: ArrayLike, x: ArrayLike) -> np.float64:
        """Return the sum of grad x scale kept, of a pass without steepness."""
        place = call.start, call.global_shape, call.global_start
        alone = Call(call.seed, call.offset, True, None, *place, call.backend, call.num_threads, True)
        params = self.without_steepness
        assert params is not None
        return numbers.noise_and_sum(alone, grad, "concrete", params, x, other_name="x")[1]

    def slope(self, made: np.float64, kept: np.float64 | None) -> np.float64:
        """Return the gradient with respect to the logit from the kernels' sum and the sum without steepness."""
        slope = self.slope_of_rate * float(made)  # Python's floats raise no errors of NumPy
        if self.correction is not None and kept is not None:
            slope += self.correction * float(kept)
        return np.float64(slope)


@plan.remembering(256)
def soften(p_logit: Any, temperature: Any, epsilon: Any, exact_mean: Any) -> SoftMask:
    """Return the mask's parameters, or raise an error for a bad argument."""
    t, least = as_positive_scalar(temperature, "temperature"), as_positive_scalar(epsilon, "epsilon")
    require(least < 1, "epsilon", "below 1", epsilon)
    _, p, keep = concrete_rate(p_logit)
    is_exact = plan.check_flag(exact_mean, "exact_mean")
    with plan.RoundToNearest():
        odds = (keep + least) / (p + least)
        both = 1 / (p + least) + 1 / (keep + least)
        if not is_exact:
            return SoftMask((odds, least, 1 / t, 1 / keep, both / t), p * keep, None)
        mean = soft_keep_mean(keep, -float(log(np.array(odds))), t, least)
        scale, slope_of_mean = 1 / mean.value, mean.slope * (p * keep * both)
        correction = -slope_of_mean - p * keep  # the kernels use scale**2 as the derivative of scale, which is wrong here
        return SoftMask((odds, least, 1 / t, scale, both / t), p * keep, correction)
