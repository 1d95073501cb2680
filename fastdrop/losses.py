"""Losses and regularizers that belong to variants: R-Drop, concrete dropout, variational dropout.

They are computed in float64, and have the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_non_negative_scalar, as_real_array
from fastdrop._core.concrete import concrete_rate
from fastdrop._core.plan import rounding_to_nearest
from fastdrop._core.types import Backend
from fastdrop.elementary import softplus
from fastdrop.variants._variational import check_broadcast

__all__ = [
    "concrete_regularizer",
    "concrete_regularizer_backward",
    "r_drop_loss",
    "r_drop_loss_backward",
    "variational_kl",
    "variational_kl_backward",
]

Form = Literal["paper", "code"]
Floats = NDArray[np.float64]


def r_drop_loss(
    first: ArrayLike,
    second: ArrayLike,
    targets: ArrayLike,
    strength: float = 1.0,
    *,
    mask: ArrayLike | None = None,
    form: Form = "paper",
) -> float:
    """Return the R-Drop loss of two forward passes of one batch with different dropout masks.

    The loss is the cross entropy of both passes plus the divergence between their predictions.

    Parameters
    ----------
    first, second : array_like
        The logits of the two passes, of shape (..., classes). A class whose logit is -inf in both passes is masked: it has
        the probability 0 and adds nothing to the divergence.
    targets : array_like of int
        The classes, of shape (...). The targets of samples that do not count may have any value.
    strength : float, default 1
        The weight of the divergence, finite and >= 0; the paper calls it alpha.
    mask : array_like of bool, optional
        True for the samples that count, of shape (...), and False for padding. By default all samples count.
    form : {"paper", "code"}
        ``"paper"``: the mean over samples of CE(first) + CE(second) + strength D, where CE is the cross entropy and D is half
        the sum of both Kullback-Leibler divergences. ``"code"``, as in the authors' repository: the mean of
        (CE(first) + CE(second)) / 2, plus strength times the **sum** of D over samples.

    Returns
    -------
    float
        The loss; 0 if no sample counts.

    Raises
    ------
    TypeError
        Logits are not real numbers, targets are not integers, or the mask is not of bool.
    ValueError
        Shapes do not fit together, a target is not a class, `strength` is out of range, or `form` is unknown. A logit is -inf
        in one pass only, so that the divergence would be infinite, or all logits of a sample are -inf.

    See Also
    --------
    r_drop_loss_backward : the gradients.

    Notes
    -----
    For two passes with different masks, use two offsets of one seed. Or put every sample into the batch twice, so that its two
    copies get different parts of the mask. The loss and its gradients have the same bits on every machine.

    References
    ----------
    .. [1] X. Liang, L. Wu, J. Li, Y. Wang, Q. Meng, T. Qin, W. Chen, M. Zhang, T.-Y. Liu, "R-Drop: regularized dropout for
       neural networks", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.ones((2, 8)), np.eye(3, 8)
    >>> first, second = (fastdrop.dropout(x, 0.5, seed=1, offset=k) @ weight.T for k in (0, 1))
    >>> round(fastdrop.losses.r_drop_loss(first, second, [0, 2], 0.5), 4)
    4.4504
    """
    return numbers.loss_of_passes(first, second, targets, strength, mask, form)


def r_drop_loss_backward(
    first: ArrayLike,
    second: ArrayLike,
    targets: ArrayLike,
    strength: float = 1.0,
    *,
    mask: ArrayLike | None = None,
    form: Form = "paper",
) -> tuple[Floats, Floats]:
    """Return the gradients of `r_drop_loss` with respect to the logits of both passes.

    Parameters
    ----------
    first, second, targets, strength, mask, form
        As in `r_drop_loss`.

    Returns
    -------
    tuple of two numpy.ndarray
        Gradients of float64, of the shape of the logits. They are 0 for samples that do not count, and for masked classes.

    Raises
    ------
    TypeError, ValueError
        As in `r_drop_loss`.

    Notes
    -----
    If a target is a masked class, the loss is infinite, and the gradient of the sample's cross entropy at this class is -1
    instead of 0.

    With the probabilities P and Q and d = log P - log Q, the gradient of D with respect to the logits of P is
    (P (d - sum(P d)) + P - Q) / 2.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.losses.r_drop_loss_backward([[0.0, 0.0]], [[0.0, 0.0]], [0])
    (array([[-0.5,  0.5]]), array([[-0.5,  0.5]]))
    """
    counts, made = numbers.gradients_of_passes(first, second, targets, strength, mask, form)
    if counts is None:
        return made[0], made[1]
    gradients = [np.zeros((*counts.shape, made.shape[2])) for _ in range(2)]  # one array would have one axis more
    for gradient, part in zip(gradients, made, strict=True):
        gradient[counts] = part
    return gradients[0], gradients[1]


# Concrete dropout ---------------------------------------------------------------------------------------------------


def concrete_regularizer(
    p_logit: Any,
    weights: ArrayLike | Sequence[ArrayLike],
    input_dim: int,
    *,
    weight_regularizer: float = 1e-6,
    dropout_regularizer: float = 1e-5,
) -> np.float64:
    """Return the regularizer of a layer with `concrete_dropout`: the norm of its weights and the negative entropy of the rate.

    ``weight_regularizer * sum(weights**2) / (1 - p) + dropout_regularizer * input_dim * (p log p + (1 - p) log(1 - p))``.

    Parameters
    ----------
    p_logit : float or array of one element
        The logit of the rate, clamped to [-16, 16].
    weights : array, or list or tuple of arrays
        The layer's weights, of float32, float64, float16 or bfloat16. All arrays in the list count. (The authors' Keras code
        counts the kernel only, their PyTorch code all parameters.)
    input_dim : int
        The number of elements per sample that dropout may drop, >= 0.
    weight_regularizer, dropout_regularizer : float
        The two factors, >= 0: ``l**2 / (tau * N)`` and ``2 / (tau * N)`` for prior length scale l, model precision tau and N
        samples. For a cross-entropy loss, use ``1 / (tau * N)`` as the second one.

    Returns
    -------
    numpy.float64
        The value, with the same bits everywhere.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type, `p_logit` is not one finite number, or another number is negative.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> round(float(fastdrop.losses.concrete_regularizer(-1.0, np.ones((3, 2)), 3)), 9)
    -9.259e-06
    """
    terms = regularizer_terms(p_logit, input_dim, weight_regularizer, dropout_regularizer)
    return np.float64(numbers.penalty(as_list(weights), terms.weight, 1.0, terms.keep, terms.entropy))


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
        The gradient with respect to the weights, in their dtypes; a list for a list of weights.

    Raises
    ------
    TypeError, ValueError
        As in `concrete_regularizer`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dp_logit, dweights = fastdrop.losses.concrete_regularizer_backward(-1.0, np.ones((3, 2)), 3)
    >>> round(float(dp_logit), 10), dweights[0].round(9)
    (-3.6911e-06, array([2.736e-06, 2.736e-06]))
    """
    terms, several = regularizer_terms(p_logit, input_dim, weight_regularizer, dropout_regularizer), as_list(weights)
    dlogit = np.float64(numbers.penalty(several, terms.weight, terms.p, terms.keep, terms.entropy_slope))
    if isinstance(weights, (list, tuple)):
        return dlogit, [numbers.scaled(each, terms.slope) for each in several]
    return dlogit, numbers.scaled(several[0], terms.slope)


class Terms(NamedTuple):
    """The numbers of a regularizer that do not depend on the weights."""

    weight: float  # the factor of the norm, before it is divided by `keep`
    slope: float  # the derivative of the first term by a weight, divided by the weight
    p: float
    keep: float
    entropy: float  # the second term, and its derivative by the logit
    entropy_slope: float


@plan.remembering(256)
def regularizer_terms(p_logit: Any, input_dim: Any, weight_regularizer: Any, dropout_regularizer: Any) -> Terms:
    """Check arguments, and return the numbers that depend on them."""
    weight = as_non_negative_scalar(weight_regularizer, "weight_regularizer")
    strength = as_non_negative_scalar(dropout_regularizer, "dropout_regularizer")
    dimension = plan.as_count(input_dim, "input_dim")
    logit, p, keep = concrete_rate(p_logit)
    log_keep, log_p = (-softplus(np.array([logit, -logit]))).tolist()  # the sign of a logit of 0 does not matter
    entropy = strength * dimension * (p * log_p + keep * log_keep)
    return Terms(weight, 2 * weight / keep, p, keep, entropy, strength * dimension * p * keep * logit)


def as_list(weights: Any) -> list[NDArray[Any]]:
    """Return one array or several."""
    if isinstance(weights, (list, tuple)):
        return [plan.as_array(each, "weights") for each in weights]
    return [plan.as_array(weights, "weights")]


# Variational dropout ------------------------------------------------------------------------------------------------

Approximation = Literal["molchanov", "kingma"]


@rounding_to_nearest
def variational_kl(
    log_alpha: ArrayLike,
    approximation: Approximation = "molchanov",
    *,
    shape: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> np.float64:
    """Return the divergence of the weights' distribution from the log-uniform prior, summed over the weights.

    Parameters
    ----------
    log_alpha : float or array_like
        The logarithms of the weights' alphas.
    approximation : {"molchanov", "kingma"}
        ``"molchanov"``: for any alpha; it is within 0.01 of the exact integral for log alpha in [-8, 8]. ``"kingma"``: for
        alpha at most 1; it is at most 0.041 below the integral for log alpha in [-8, 0]. Larger alphas count as 1, and their
        gradient is 0.
    shape : sequence of int, optional
        The shape of the weights, to which `log_alpha` broadcasts if weights share an alpha (one per unit, one for the layer).
        The divergence of an alpha counts once per weight that has it. By default each alpha counts once.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.float64
        The divergence. It is at least 0 up to the error of the approximation. At infinite alpha, ``"molchanov"`` gives 0, and
        ``"kingma"`` gives 0.389 as for alpha = 1. The bits are the same everywhere, because the sum has a fixed order: in C
        order the sums of 1,024 elements each, then the sum of these. In each of these sums, the second half of the numbers is
        added to the first half until one number is left.

    Raises
    ------
    TypeError, ValueError
        `log_alpha` is not of real numbers or does not broadcast to `shape`, or `approximation` is unknown.

    Notes
    -----
    Molchanov: ``k1 * sigmoid(-(k2 + k3 * log_alpha)) + softplus(-log_alpha) / 2``, k1 = 0.63576, k2 = 1.87320, k3 = 1.48695.
    Kingma: ``c0 - (log_alpha / 2 + c1 alpha + c2 alpha**2 + c3 alpha**3)``, c1 = 1.16145124, c2 = -1.50204118,
    c3 = 0.58629921. The paper does not give the constant c0. Here it is half the sum of Euler's constant and log 2,
    0.6351814227307391, with which the exact integral is 0 at infinite alpha.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.
    .. [2] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import fastdrop
    >>> round(float(fastdrop.losses.variational_kl(-2.0)), 4)
    1.5405
    >>> round(float(fastdrop.losses.variational_kl(-2.0, shape=(10, 5))), 4)  # one alpha for fifty weights
    77.0266
    """
    given, count = check_alphas(log_alpha, approximation, shape)
    sums = numbers.in_float64(approximation, given, backend, num_threads, summed=True)
    return np.float64(count * float(numbers.sum_to_shape(sums, ())))


@rounding_to_nearest
def variational_kl_backward(
    log_alpha: ArrayLike,
    approximation: Approximation = "molchanov",
    *,
    shape: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[np.float64]:
    """Return the gradient of `variational_kl` with respect to log alpha.

    Parameters
    ----------
    log_alpha, approximation, shape, backend, num_threads
        As in `variational_kl`.

    Returns
    -------
    numpy.ndarray
        The gradient, of float64 and the shape of `log_alpha`. Multiply it by the weight of the divergence in the loss.

    Raises
    ------
    TypeError, ValueError
        As in `variational_kl`.

    See Also
    --------
    fastdrop.theory.log_alpha_backward : the gradients with respect to the weights and their variances.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.losses.variational_kl_backward(np.array([-2.0, 0.0])).round(4)
    array([-0.6175, -0.3591])
    >>> fastdrop.losses.variational_kl_backward(np.array([-2.0, 1.0]), "kingma").round(4)
    array([-0.6065,  0.    ])
    """
    given, count = check_alphas(log_alpha, approximation, shape)
    slopes = numbers.in_float64(f"{approximation}_slope", given, backend, num_threads)
    if count != 1:
        slopes *= count
    return slopes


def check_alphas(log_alpha: Any, approximation: Any, shape: Any) -> tuple[NDArray[Any], float]:
    """Return the checked log alphas, and the number of weights per alpha."""
    given = as_real_array(log_alpha, "log_alpha", flags=False)
    if not plan.is_one_of(approximation, ("molchanov", "kingma")):
        raise ValueError(f"approximation must be 'molchanov' or 'kingma'; got {approximation!r}")
    if shape is None:
        return given, 1.0
    sizes = tuple(plan.as_count(size, "each size in shape") for size in plan.as_sizes(shape, "shape"))
    check_broadcast(given, sizes, "the weights")
    return given, math.prod(sizes) / max(1, given.size)
