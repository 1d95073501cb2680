"""Concrete dropout: dropout whose rate is learned, by a mask that is soft enough to have a gradient (Gal, Hron and Kendall)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import finite_scalar, non_negative_scalar, positive_scalar
from fastdrop._core.types import DataFormat
from fastdrop.elementary import sigmoid, softplus
from fastdrop.variants._axes import axes_of_maps
from fastdrop.variants._masks import compute_type
from fastdrop.variants.gaussian import total, unchanged

__all__ = [
    "concrete_dropout",
    "concrete_dropout_backward",
    "concrete_regularizer",
    "concrete_regularizer_backward",
    "spatial_concrete_dropout",
    "spatial_concrete_dropout_backward",
]

MOST = 16.0  # logits are clamped to [-16, 16]: p or 1 - p is never below 1e-7


class Softness(NamedTuple):
    """What the kernels need of a rate and a temperature (fastdrop.h), and p (1 - p)."""

    params: tuple[float, ...]
    slope_of_rate: float


def rates_of(p_logit: Any) -> tuple[float, float, float]:
    """Return the clamped logit, and p and 1 - p, each with its full relative accuracy."""
    logit = min(max(finite_scalar(p_logit, "p_logit"), -MOST), MOST)
    p, keep = sigmoid(np.array([logit, -logit])).tolist()
    return logit, p, keep


def softness(p_logit: Any, temperature: Any, epsilon: Any) -> Softness:
    """Return the parameters of the mask."""
    t, least = positive_scalar(temperature, "temperature"), positive_scalar(epsilon, "epsilon")
    _, p, keep = rates_of(p_logit)
    with plan.RoundToNearest():
        odds = (keep + least) / (p + least)
        steepness = (1 / (p + least) + 1 / (keep + least)) / t
        return Softness((odds, least, 1 / t, 1 / keep, steepness), p * keep)


def concrete_dropout(
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 0.1,
    *,
    epsilon: float = 1e-7,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply by a softened mask of rate p = sigmoid(p_logit), through which p has a gradient.

    ``y = x * (1 - s) / (1 - p)``, in which s, near 0 or 1 for most elements, is the soft decision to drop:
    ``s = sigmoid((logit(p) + logit(u)) / temperature)`` for a uniform number u of each element.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    p_logit : float or array of one element
        The logit of the rate of dropping; clamped to [-16, 16].
    temperature : float, default 0.1
        How soft: above 0. The paper's code has 0.1. Where 2 / temperature is a whole number up to 64 (0.1, 2/3), no logarithm
        and no exponential is computed: 1 / s is 1 + r**(1 / temperature), with r = (1 - p) (1 - u) / (p u).
    epsilon : float, default 1e-7
        Added to p, 1 - p, u and 1 - u in r, as in the authors' code.
    seed, offset, out, start, backend, num_threads
        As in `dropout`; element i takes the number i of `uniform`.
    training : bool, default True
        Outside it the result is `x` itself. (The authors' layer stays on at test time, for Monte Carlo dropout: pass True.)

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; a `p_logit` that is not one finite number, a `temperature` or `epsilon` that is not above 0.

    See Also
    --------
    concrete_dropout_backward, concrete_regularizer

    Notes
    -----
    The mean of (1 - s) / (1 - p) is not quite 1: 0.998 to 1 for temperature 0.1, 0.94 to 1 for 2/3.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.concrete_dropout(np.ones(4, np.float32), -1.0, seed=42).round(4)
    array([1.3617, 1.3679, 1.3679, 1.3679], dtype=float32)
    """
    params = softness(p_logit, temperature, epsilon).params
    if not training:
        return unchanged(x, seed, offset, out, backend, num_threads)
    return numbers.old_noise(x, "concrete", params, None, False, seed, offset, out, start, backend, num_threads)[0]


def concrete_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 0.1,
    *,
    seed: Any,
    epsilon: float = 1e-7,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], np.float64]:
    """Return the gradients of `concrete_dropout` with respect to its input and to the logit of its rate, in one pass.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result, of the same shape.
    x : array_like
        The forward pass's input, of the shape and dtype of `grad`.
    p_logit, temperature, epsilon, seed, offset, training, start
        What the forward pass used; see `dropout_backward`.
    out, backend, num_threads
        As in `dropout`; `out` takes the gradient with respect to x.

    Returns
    -------
    dx : numpy.ndarray
        `out`, or a new array like `grad`.
    dp_logit : numpy.float64
        Summed in a fixed order, in float64: the same bits with any number of threads and any backend. Where the logit is
        clamped, it is the gradient at the bound.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `concrete_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones(4, np.float32)
    >>> dx, dp_logit = fastdrop.concrete_dropout_backward(grad, x, -1.0, seed=42)
    >>> dx.round(4), round(float(dp_logit), 4)
    (array([1.3617, 1.3679, 1.3679, 1.3679], dtype=float32), 1.4086)
    """
    soft = softness(p_logit, temperature, epsilon)
    if not training:
        return unchanged(grad, seed, offset, out, backend, num_threads, "grad"), np.float64(0)
    dx, sums = numbers.old_noise(
        grad, "concrete", soft.params, x, True, seed, offset, out, start, backend, num_threads, True, "x"
    )
    assert sums is not None
    return dx, np.float64(soft.slope_of_rate) * total(sums)


def spatial_concrete_dropout(
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 2 / 3,
    *,
    data_format: DataFormat = "channels_last",
    epsilon: float = 1e-7,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Concrete dropout of whole feature maps: one soft decision for each sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (samples, ..., channels), or (samples, channels, ...) with ``data_format="channels_first"``.
    p_logit, epsilon, seed, offset, training, out, backend, num_threads
        As in `concrete_dropout`; the map of sample n and channel c takes the number n * channels + c of `uniform`.
    temperature : float, default 2/3
        The authors' for this form.
    data_format : {"channels_last", "channels_first"}
        Where the channels are.

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
    >>> fastdrop.spatial_concrete_dropout(np.ones((1, 2, 3), np.float32), -1.0, seed=42).round(3)
    array([[[0.947, 1.155, 1.361],
            [0.947, 1.155, 1.361]]], dtype=float32)
    """
    soft = softness(p_logit, temperature, epsilon)
    if not training:
        return unchanged(x, seed, offset, out, backend, num_threads)
    array = plan.as_array(x, "x", out)
    factors, _ = map_factors(array, data_format, soft, None, seed, offset, backend, num_threads, "x")
    return multiplied(array, factors, out)


def spatial_concrete_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    p_logit: Any,
    temperature: float = 2 / 3,
    *,
    seed: Any,
    data_format: DataFormat = "channels_last",
    epsilon: float = 1e-7,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], np.float64]:
    """Return the gradients of `spatial_concrete_dropout` with respect to its input and to the logit of its rate.

    Parameters
    ----------
    grad, x
        The gradient with respect to the result, and the forward pass's input, of one shape and dtype.
    p_logit, temperature, data_format, epsilon, seed, offset, training
        What the forward pass used.
    out, backend, num_threads
        As in `dropout`; `out` takes the gradient with respect to x.

    Returns
    -------
    dx : numpy.ndarray
        `out`, or a new array like `grad`.
    dp_logit : numpy.float64
        As in `concrete_dropout_backward`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `spatial_concrete_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = x = np.ones((1, 2, 3), np.float32)
    >>> dx, dp_logit = fastdrop.spatial_concrete_dropout_backward(grad, x, -1.0, seed=42)
    >>> dx[0, 0].round(3), round(float(dp_logit), 3)
    (array([0.947, 1.155, 1.361], dtype=float32), 0.428)
    """
    soft = softness(p_logit, temperature, epsilon)
    if not training:
        return unchanged(grad, seed, offset, out, backend, num_threads, "grad"), np.float64(0)
    array = plan.as_array(grad, "grad", out)
    plan.check(array, 0.0, seed, offset, out, backend, num_threads, x, "grad", "x")
    factors, sums = map_factors(array, data_format, soft, x, seed, offset, backend, num_threads, "grad")
    assert sums is not None
    return multiplied(array, factors, out), np.float64(soft.slope_of_rate) * total(sums)


def map_factors(
    array: NDArray[Any],
    data_format: Any,
    soft: Softness,
    x: Any,
    seed: Any,
    offset: Any,
    backend: Any,
    num_threads: Any,
    name: str,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return what each map is multiplied by, in a shape that broadcasts; and, given x, the parts of the rate's gradient.

    To the kernels a map is one element: of value 1 going forward; its gradient is the sum of its elements' gradients times x.
    """
    axes, type = axes_of_maps(array, data_format, name), compute_type(array.dtype)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(array.shape))
    ones = np.ones(shape, type)
    factors, _ = numbers.old_noise(
        ones, "concrete", soft.params, None, False, *(key := plan.key_of(seed, offset)), None, 0, backend, num_threads
    )
    if x is None:
        return factors, None
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        products = array.astype(np.float64) * np.asarray(x).astype(np.float64)
        for axis in axes:
            products = fixed_sum(products, axis)
    gradients = products.reshape(shape).astype(type)
    _, sums = numbers.old_noise(gradients, "concrete", soft.params, ones, True, *key, None, 0, backend, num_threads, True)
    return factors, sums


def multiplied(array: NDArray[Any], factors: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """Return array * factors, computed in the factors' type and rounded once more to the array's."""
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        made = np.asarray(array).astype(factors.dtype) * factors
        if out is None:
            out = np.empty_like(array)
        out[...] = made
    return out


def weights_of(weights: Any) -> list[NDArray[np.float64]]:
    """Return one array or several, as float64."""
    several = weights if isinstance(weights, (list, tuple)) else [weights]
    return [plan.as_array(each, "weights").astype(np.float64) for each in several]


def regularizers_of(weight_regularizer: Any, dropout_regularizer: Any) -> tuple[float, float]:
    """Return the two factors, checked."""
    of_weights = non_negative_scalar(weight_regularizer, "weight_regularizer")
    return of_weights, non_negative_scalar(dropout_regularizer, "dropout_regularizer")


def concrete_regularizer(
    p_logit: Any,
    weights: ArrayLike | Sequence[ArrayLike],
    input_dim: int,
    *,
    weight_regularizer: float = 1e-6,
    dropout_regularizer: float = 1e-5,
) -> np.float64:
    """Return what `concrete_dropout` of a layer's input adds to the loss: the weights' norm and the rate's negative entropy.

    ``weight_regularizer * sum(weights**2) / (1 - p) + dropout_regularizer * input_dim * (p log p + (1 - p) log(1 - p))``.

    Parameters
    ----------
    p_logit : float or array of one element
        The logit of the rate.
    weights : array or list of arrays
        The layer's weights, of any float dtype. (The authors' Keras code takes the kernel alone, their PyTorch code all
        parameters: what is in the list counts.)
    input_dim : int
        How many elements of a sample are dropped.
    weight_regularizer, dropout_regularizer : float
        ``l**2 / (tau * N)`` and ``2 / (tau * N)`` for prior length scale l, model precision tau and N samples; for a
        cross-entropy loss without the 2.

    Returns
    -------
    numpy.float64
        The same bits everywhere.

    Raises
    ------
    TypeError, ValueError
        For arguments that are not of their kind, or negative.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> round(float(fastdrop.concrete_regularizer(-1.0, np.ones((3, 2)), 3)), 9)
    -9.259e-06
    """
    weight, entropy = regularizers_of(weight_regularizer, dropout_regularizer)
    dimension, squares = plan.as_count(input_dim, "input_dim"), weights_of(weights)
    logit, p, keep = rates_of(p_logit)
    log_keep, log_p = (-softplus(np.array([logit, -logit]))).tolist()
    with plan.RoundToNearest():
        norm = sum((total(fixed_sum((each * each).reshape(-1))) for each in squares), np.float64(0))
        return np.float64(weight * norm / keep + entropy * dimension * (p * log_p + keep * log_keep))


def concrete_regularizer_backward(
    p_logit: Any,
    weights: ArrayLike | Sequence[ArrayLike],
    input_dim: int,
    *,
    weight_regularizer: float = 1e-6,
    dropout_regularizer: float = 1e-5,
) -> tuple[np.float64, Any]:
    """Return the gradients of `concrete_regularizer` with respect to the logit and to the weights.

    Parameters
    ----------
    p_logit, weights, input_dim, weight_regularizer, dropout_regularizer
        As in `concrete_regularizer`.

    Returns
    -------
    dp_logit : numpy.float64
        The gradient with respect to the logit.
    dweights : numpy.ndarray or list of numpy.ndarray
        With respect to the weights, in their dtypes and, for a list, as a list.

    Raises
    ------
    TypeError, ValueError
        As in `concrete_regularizer`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dp_logit, dweights = fastdrop.concrete_regularizer_backward(-1.0, np.ones((3, 2)), 3)
    >>> round(float(dp_logit), 10), dweights[0].round(9)
    (-3.6911e-06, array([2.736e-06, 2.736e-06]))
    """
    weight, entropy = regularizers_of(weight_regularizer, dropout_regularizer)
    dimension, several = plan.as_count(input_dim, "input_dim"), weights_of(weights)
    logit, p, keep = rates_of(p_logit)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        norm = sum((total(fixed_sum((each * each).reshape(-1))) for each in several), np.float64(0))
        dlogit = np.float64(weight * norm * p / keep + entropy * dimension * p * keep * logit)
        given = weights if isinstance(weights, (list, tuple)) else [weights]
        made = [(2 * weight / keep * each).astype(np.asarray(own).dtype) for each, own in zip(several, given, strict=True)]
    return dlogit, made if isinstance(weights, (list, tuple)) else made[0]
