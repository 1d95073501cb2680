"""Measures of uncertainty that are functions of given numbers: the entropy, and the precision that training implies."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import elementary
from fastdrop._core import plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import as_positive_count, as_positive_number, as_probabilities

__all__ = ["entropy", "model_precision", "shannon_entropy"]


def entropy(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of distributions over classes, in nats.

    Parameters
    ----------
    probabilities : array_like
        The distributions, of shape (..., classes): numbers in [0, 1] whose sum over the classes is 1. The sum may be off by
        0.01, which leaves room for the rounding of 16-bit types.

    Returns
    -------
    numpy.ndarray of float64
        The entropies, of shape (...,). A probability of 0 adds 0.

    Raises
    ------
    TypeError
        The probabilities are not real numbers.
    ValueError
        There is no axis of classes, a number is outside [0, 1], or a sum is not 1.

    Examples
    --------
    >>> from fastdrop.uncertainty import entropy
    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(4)
    array([0.6931, 0.    ])
    """
    return shannon_entropy(as_probabilities(probabilities))


@plan.rounding_to_nearest
def shannon_entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy of distributions along the last axis that are checked already."""
    logs = elementary.log(np.where(p > 0, p, 1.0))
    total: NDArray[np.float64] = 0.0 - fixed_sum(p * logs)[..., 0]
    return total


def model_precision(p: float, length_scale: float, samples: int, weight_decay: float) -> float:
    """Return the precision tau of the observations that training with dropout and weight decay implies.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1).
    length_scale : float
        The length scale l of the prior: large for a function that is expected to vary slowly.
    samples : int
        The number N of training samples.
    weight_decay : float
        The factor lambda of the objective: mean squared error plus lambda ||W||**2.

    Returns
    -------
    float
        tau = (1 - p) l**2 / (2 N lambda).

    Raises
    ------
    TypeError, ValueError
        An argument is not a number above 0, or p is not in [0, 1); or the precision would be 0 or infinite in float64.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
       ICML 2016.

    Examples
    --------
    >>> from fastdrop.uncertainty import model_precision
    >>> model_precision(0.5, length_scale=0.5, samples=64, weight_decay=0.0078125)
    0.125
    """
    rate = plan.as_rate(p)
    if rate == 1.0:
        raise ValueError("p must be below 1, because a network that drops everything has no precision")
    length, count = as_positive_number(length_scale, "length_scale"), as_positive_count(samples, "samples")
    with plan.RoundToNearest():
        precision = (1.0 - rate) * (length * length) / (2.0 * count * as_positive_number(weight_decay, "weight_decay"))
    if not 0.0 < precision < math.inf:
        raise ValueError(f"length_scale, samples and weight_decay must make a finite precision above 0; it is {precision!r}")
    return precision
