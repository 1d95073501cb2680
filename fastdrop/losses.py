"""R-Drop: the loss of two passes with different masks that are to agree.

In float64 with NumPy's exp and log: unlike what drops, to rounding, not to the bit.
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
    """Two passes, checked: one row a sample that counts."""

    counts: NDArray[np.bool_]  # which samples do
    log_p: Floats
    log_q: Floats
    targets: NDArray[np.int64]
    of_entropy: float  # what each cross entropy is multiplied by, and each divergence
    of_divergence: float


def r_drop_loss(
    first: ArrayLike,
    second: ArrayLike,
    targets: ArrayLike,
    alpha: float = 1.0,
    *,
    mask: ArrayLike | None = None,
    form: Form = "paper",
) -> float:
    """Return the loss of two forward passes of one batch with different dropout masks, drawn together: R-Drop.

    Parameters
    ----------
    first, second : array_like
        The logits of the two passes, of shape (..., classes).
    targets : array_like of int
        The classes, of shape (...); those of samples that do not count may be anything.
    alpha : float, default 1
        The weight of the divergence, finite and >= 0.
    mask : array_like of bool, optional
        True for the samples that count, of shape (...): padding does not.
    form : {"paper", "code"}
        ``"paper"``: the mean over samples of CE(first) + CE(second) + alpha D, where CE is the cross entropy and D half the
        sum of both Kullback-Leibler divergences. ``"code"``, as the authors' repository has it: the mean of
        (CE(first) + CE(second)) / 2, plus alpha times the **sum** of D over samples.

    Returns
    -------
    float
        0 where no sample counts.

    Raises
    ------
    TypeError
        Logits that are not real numbers, targets that are not integers, a mask that is not of bool.
    ValueError
        Shapes that do not go together, a target that is no class, a bad `alpha`, an unknown `form`.

    Notes
    -----
    The two passes take two offsets of one stream, or one batch that holds every sample twice: then elements have masks of
    their own as they are. In float64 with NumPy's exp and log: the last bits are not promised.

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
    passes = checked(first, second, targets, alpha, mask, form)
    rows = np.arange(len(passes.targets))
    entropies = -(passes.log_p[rows, passes.targets] + passes.log_q[rows, passes.targets])
    divergences = 0.5 * (np.exp(passes.log_p) - np.exp(passes.log_q)) * (passes.log_p - passes.log_q)
    return float(passes.of_entropy * entropies.sum() + passes.of_divergence * divergences.sum())


def r_drop_loss_backward(
    first: ArrayLike,
    second: ArrayLike,
    targets: ArrayLike,
    alpha: float = 1.0,
    *,
    mask: ArrayLike | None = None,
    form: Form = "paper",
) -> tuple[Floats, Floats]:
    """Return the gradients of `r_drop_loss` with respect to the logits of both passes.

    Parameters
    ----------
    first, second, targets, alpha, mask, form
        As in `r_drop_loss`.

    Returns
    -------
    tuple of two numpy.ndarray
        Of float64 and the shape of the logits; 0 for samples that do not count. With probabilities P and Q and
        d = log P - log Q, that of D by the logits of P is (P (d - sum(P d)) + P - Q) / 2.

    Raises
    ------
    TypeError, ValueError
        As in `r_drop_loss`.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.r_drop_loss_backward([[0.0, 0.0]], [[0.0, 0.0]], [0])
    (array([[-0.5,  0.5]]), array([[-0.5,  0.5]]))
    """
    passes = checked(first, second, targets, alpha, mask, form)
    p, q, difference = np.exp(passes.log_p), np.exp(passes.log_q), passes.log_p - passes.log_q
    gradients = []
    for own, other, d in ((p, q, difference), (q, p, -difference)):
        of_entropy = own.copy()
        of_entropy[np.arange(len(own)), passes.targets] -= 1.0
        of_divergence = 0.5 * (own * (d - (own * d).sum(axis=1, keepdims=True)) + own - other)
        gradient = np.zeros((*passes.counts.shape, own.shape[1]))
        gradient[passes.counts] = passes.of_entropy * of_entropy + passes.of_divergence * of_divergence
        gradients.append(gradient)
    return gradients[0], gradients[1]


def checked(first: ArrayLike, second: ArrayLike, targets: ArrayLike, alpha: Any, mask: ArrayLike | None, form: Any) -> Passes:
    """Return the two passes, or raise naming what is wrong."""
    logits, others, classes = floats_of(first, "first"), floats_of(second, "second"), np.asarray(targets)
    if logits.shape != others.shape or not logits.ndim or classes.shape != logits.shape[:-1]:
        raise ValueError(
            f"first and second must have one shape (..., classes) and targets its (...); got {logits.shape}, {others.shape} "
            f"and {classes.shape}"
        )
    if classes.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers; got {classes.dtype}")
    weight = non_negative_number(alpha, "alpha")
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
    return Passes(counts, log_softmax(logits[counts]), log_softmax(others[counts]), chosen, *factors)


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities of each row."""
    if not logits.size:
        return logits
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
