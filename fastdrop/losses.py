"""R-Drop: the loss of two passes with different masks, whose predictions shall agree.

The functions compute in float64 with NumPy's exp and log. Their last bits may differ between machines.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.checks import check_indices, floats_of, non_negative_number

__all__ = ["r_drop_loss", "r_drop_loss_backward"]

Form = Literal["paper", "code"]
Floats = NDArray[np.float64]


class Passes(NamedTuple):
    """Two checked passes, with one row per sample that counts."""

    counts: NDArray[np.bool_]  # True for the samples that count
    log_p: Floats
    log_q: Floats
    log_ratio: Floats  # log_p - log_q; 0 for a class that both passes mask
    targets: NDArray[np.int64]
    entropy_factor: float  # multiplies the cross entropy of each sample
    divergence_factor: float  # multiplies the divergence of each sample


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
        The loss; 0 where no sample counts.

    Raises
    ------
    TypeError
        Logits are not real numbers, targets are not integers, or the mask is not of bool.
    ValueError
        Shapes do not fit together, a target is not a class, `strength` is out of range, or `form` is unknown. A class is -inf
        in one pass only, where the divergence is infinite, or a sample has no class with a logit above -inf.

    See Also
    --------
    r_drop_loss_backward : the gradients.

    Notes
    -----
    For two passes with different masks, use two offsets of one seed. Or put every sample into the batch twice: its two copies
    have different elements of the mask.

    References
    ----------
    .. [1] X. Liang, L. Wu, J. Li, Y. Wang, Q. Meng, T. Qin, W. Chen, M. Zhang, T.-Y. Liu, "R-Drop: regularized dropout for
       neural networks", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.ones((2, 8)), np.eye(3, 8)
    >>> first, second = (fastdrop.dropout(x, 0.5, seed=1, offset=k) @ weight.T for k in (0, 1))
    >>> round(fastdrop.r_drop_loss(first, second, [0, 2], 0.5), 4)
    4.4504
    """
    passes = checked_passes(first, second, targets, strength, mask, form)
    rows = np.arange(len(passes.targets))
    entropies = -(passes.log_p[rows, passes.targets] + passes.log_q[rows, passes.targets])
    divergences = 0.5 * (np.exp(passes.log_p) - np.exp(passes.log_q)) * passes.log_ratio
    return float(passes.entropy_factor * entropies.sum() + passes.divergence_factor * divergences.sum())


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
    With the probabilities P and Q and d = log P - log Q, the gradient of D with respect to the logits of P is
    (P (d - sum(P d)) + P - Q) / 2.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.r_drop_loss_backward([[0.0, 0.0]], [[0.0, 0.0]], [0])
    (array([[-0.5,  0.5]]), array([[-0.5,  0.5]]))
    """
    passes = checked_passes(first, second, targets, strength, mask, form)
    p, q = np.exp(passes.log_p), np.exp(passes.log_q)
    gradients = []
    for own, other, d in ((p, q, passes.log_ratio), (q, p, -passes.log_ratio)):
        entropy_gradient = own.copy()
        entropy_gradient[np.arange(len(own)), passes.targets] -= 1.0
        divergence_gradient = 0.5 * (own * (d - (own * d).sum(axis=1, keepdims=True)) + own - other)
        gradient = np.zeros((*passes.counts.shape, own.shape[1]))
        gradient[passes.counts] = passes.entropy_factor * entropy_gradient + passes.divergence_factor * divergence_gradient
        gradients.append(gradient)
    return gradients[0], gradients[1]


def checked_passes(
    first: ArrayLike, second: ArrayLike, targets: ArrayLike, strength: Any, mask: ArrayLike | None, form: Any
) -> Passes:
    """Return the two passes, or raise an error that names the bad argument."""
    logits, others, classes = floats_of(first, "first"), floats_of(second, "second"), np.asarray(targets)
    if logits.shape != others.shape or not logits.ndim or classes.shape != logits.shape[:-1]:
        raise ValueError(
            "first and second must have the same shape (..., classes), and targets the shape (...); "
            f"got {logits.shape}, {others.shape} and {classes.shape}"
        )
    if classes.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers; got {classes.dtype}")
    weight = non_negative_number(strength, "strength")
    if form not in ("paper", "code"):
        raise ValueError(f"form must be 'paper' or 'code'; got {form!r}")
    counts = np.ones(classes.shape, np.bool_) if mask is None else np.asarray(mask)
    if counts.dtype != np.bool_:
        raise TypeError(f"mask must be of bool, True for samples that count; got {counts.dtype}")
    if counts.shape != classes.shape:
        raise ValueError(f"mask must have the shape of targets, {classes.shape}; got {counts.shape}")
    chosen = classes[counts].astype(np.int64)
    check_indices(chosen, logits.shape[-1], "targets", "the classes")
    share = 1.0 / max(chosen.size, 1)
    factors = (share, weight * share) if form == "paper" else (0.5 * share, weight)
    return Passes(counts, *log_probabilities(logits[counts], others[counts]), chosen, *factors)


def log_probabilities(logits: Floats, others: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the logarithms of the probabilities of each row of both passes, and the differences of the logarithms."""
    masked = np.isneginf(logits)
    if (masked != np.isneginf(others)).any():
        raise ValueError("first and second must mask the same classes: a logit that is -inf in one must be -inf in the other")
    if masked.size and masked.all(axis=1).any():
        raise ValueError("every sample must have a class that is not masked; the logits of a sample are all -inf")
    log_p, log_q = log_softmax(logits), log_softmax(others)
    return log_p, log_q, np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=~masked)


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities of each row."""
    if not logits.size:
        return logits
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
