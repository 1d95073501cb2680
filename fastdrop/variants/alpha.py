"""Alpha dropout, which keeps the mean and the variance: for self-normalizing networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number, as_positive_number
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._axes import axes_of_maps
from fastdrop.variants._backward import backward_of

__all__ = ["alpha_dropout", "alpha_dropout_backward", "feature_alpha_dropout", "feature_alpha_dropout_backward"]

SATURATION = -1.7580993408473766  # the limit of SELU for large negative inputs: -lambda alpha of the paper


def alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    mean: float = 0.0,
    var: float = 1.0,
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
    """Set elements at random to SELU's negative saturation, then restore the mean and the variance.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order; activations of SELU.
    p : float, default 0.5
        Probability of dropping an element: one number in [0, 1]. (The paper writes q for the probability of keeping, and finds
        dropping rates of 0.05 to 0.1 sufficient.)
    mean, var : float, default 0 and 1
        The mean and the variance of the elements of `x`, which the result keeps.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the shape, dtype and memory order of `x`; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a `p` that is an array, a `mean` or `var` that is not finite, a `var` that is not above 0.

    Notes
    -----
    A kept element x becomes a x + b. A dropped element becomes c = a alpha' + b, where alpha' = -1.7580993408473766. With the
    keep probability q = 1 - p,

        a = (q (p (alpha' - mean)**2 / var + 1))**(-1/2),    b = mean - a (q mean + p alpha').

    They are computed in float64 and rounded once to the compute type (float32 for the 16-bit ones); a x is rounded, then the
    sum. PyTorch and Keras give the same values up to rounding. p = 0 leaves `x` unchanged. p = 1 gives the mean everywhere,
    which is the limit of c: zeros by default, as in PyTorch (Keras divides by zero). The mask is the same as in `dropout`. The
    mean and the variance are kept only if `x` has the assumed `mean` and `var`.

    References
    ----------
    .. [1] G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.alpha_dropout(np.zeros(4), 0.5, seed=42)
    array([ 0.77919393, -0.77919393, -0.77919393, -0.77919393])
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    factors = alpha_factors(p, mean, var)
    return call.affine(x, p, factors) if call.is_training else call.unchanged(x)


@backward_of(alpha_dropout)
def alpha_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    mean: float = 0.0,
    var: float = 1.0,
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
    """Return the gradient of `alpha_dropout` with respect to its input: a times `grad` where kept, +0.0 where dropped.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.alpha_dropout_backward(np.ones(4), 0.5, seed=42)
    array([0.88640489, 0.        , 0.        , 0.        ])
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, factor=alpha_factors(p, mean, var)[0])


def feature_alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    mean: float = 0.0,
    var: float = 1.0,
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
    """Apply alpha dropout to whole channels: one decision per sample and channel.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (N, C) or (N, C, ...): the first two axes are samples and channels, as in PyTorch's function.
    p : float, default 0.5
        Probability of dropping a channel: one number in [0, 1].
    mean, var : float, default 0 and 1
        As in `alpha_dropout`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `alpha_dropout`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `alpha_dropout`; and for an array of fewer than two dimensions.

    Notes
    -----
    The values are those of `alpha_dropout`. Channel c of sample n has the bit of index n C + c, as in `spatial_dropout`.

    References
    ----------
    .. [1] G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.feature_alpha_dropout(np.zeros((2, 2, 3)), 0.5, seed=42)[:, :, 0]
    array([[ 0.77919393, -0.77919393],
           [-0.77919393, -0.77919393]])
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    factors, axes = alpha_factors(p, mean, var), axes_of_maps(x, "channels_first", "x")
    return call.affine(x, p, factors, axes) if call.is_training else call.unchanged(x, "x", axes)


@backward_of(feature_alpha_dropout)
def feature_alpha_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    mean: float = 0.0,
    var: float = 1.0,
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
    """Return the gradient of `feature_alpha_dropout` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.feature_alpha_dropout_backward(np.ones((2, 2, 3)), 0.5, seed=42)[:, :, 0]
    array([[0.88640489, 0.        ],
           [0.        , 0.        ]])
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, axes_of_maps(grad, "channels_first", "grad"), factor=alpha_factors(p, mean, var)[0])


Factors = tuple[float, float, float]


@plan.remembering(256)
def alpha_factors(p: Any, mean: Any, var: Any) -> Factors:
    """Return (a, b, c), or raise an error for a bad argument: a kept x becomes a x + b, a dropped one c."""
    p, mean, var = plan.as_rate(p), as_finite_number(mean, "mean"), as_positive_number(var, "var")
    if not plan.sign(p):
        return 1.0, -0.0, mean  # adding -0.0 changes no number: 0.0 would change -0.0
    if p == 1:
        return 0.0, mean, mean  # c tends to the mean as p tends to 1
    with plan.RoundToNearest():
        keep, distance = 1.0 - p, SATURATION - mean
        a = 1.0 / math.sqrt(keep * (p * distance * distance / var + 1.0))
        b = mean - a * (keep * mean + p * SATURATION)
        return a, b, a * SATURATION + b
