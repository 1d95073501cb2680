"""Multinomial dropout: features are drawn with replacement, each with its own probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_positive_count
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Per, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._masks import check_whole_axes
from fastdrop.variants._probabilities import multinomial_probabilities

__all__ = ["multinomial_dropout", "multinomial_dropout_backward"]


def multinomial_dropout(
    x: ArrayLike,
    k: int,
    probabilities: ArrayLike | None = None,
    *,
    per: Per = "sample",
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
    """Draw features k times with replacement. A feature drawn c times is multiplied by c / (k P); the others are dropped.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Features along the last axis; any other axes are samples.
    k : int
        The number of draws, in [1, 2**32). If k is much smaller than the number of features, about as many features are kept as
        by `dropout` with p = 1 - k / features; otherwise fewer, because a feature can be drawn more than once.
    probabilities : array_like of real numbers, optional
        P, the probability of drawing each feature: one per feature, finite and >= 0. They are divided by their sum. By default
        `fastdrop.theory.multinomial_probabilities` computes them from `x`; this is evolutional dropout. Equal probabilities
        give uniform dropout with replacement.
    per : {"sample", "batch"}
        ``"sample"``, as in the paper: each sample has its own draws. ``"batch"``: all samples share the draws.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value if all
        probabilities are above 0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for a 0-d `x`, a bad `k` or `per`, probabilities that have another shape, are negative, infinite, NaN
        or all 0, or an `x` with infinities or NaN if the probabilities come from it. A block of a larger array must have all
        features and given probabilities.

    Notes
    -----
    Draw t of sample r (counted in C order over all axes but the last) takes word r k + t of ``words(..., seed=seed,
    offset=offset)``; with ``per="batch"``, word t. `start` is the first word. The probabilities are rounded to multiples of
    2**-32, positive ones to at least 2**-32. They add up to 1, so a large one may change by up to about 2**-31 times the number
    of features. In the order of the features, each feature owns that share of the 2**32 words. The factors use the rounded
    probabilities, so that E[y] = x up to the rounding of the factors, except for features of probability 0. k P is rounded to
    float64; c / (k P) is rounded to float64, then to the compute type. A feature that was not drawn, or has probability 0, is
    +0.0.

    References
    ----------
    .. [1] Z. Li, B. Gong, T. Yang, "Improved dropout for shallow and deep learning", NIPS 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.multinomial_dropout(np.ones((2, 4)), 2, seed=42)
    array([[0., 2., 2., 0.],
           [2., 2., 0., 0.]])
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    if probabilities is None and (plan.as_count(start, "start") or global_shape is not None):
        raise ValueError("probabilities must be given for a block of a larger array: by default they come from all of x")
    return draw_features(x, k, probabilities, per, call)


@backward_of(multinomial_dropout)
def multinomial_dropout_backward(
    grad: ArrayLike,
    k: int,
    probabilities: ArrayLike | None,
    *,
    per: Per = "sample",
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
    """Return the gradient of `multinomial_dropout` with respect to `x`; counts and probabilities count as constants.

    Parameters
    ----------
    probabilities : array_like of real numbers
        As in the forward pass; if none were given there, ``fastdrop.theory.multinomial_probabilities(x)``. Outside training
        they are checked, but not used, and may be None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.multinomial_dropout_backward(np.ones((2, 4)), 2, [1, 1, 1, 1], seed=42)
    array([[0., 2., 2., 0.],
           [2., 2., 0., 0.]])
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    if probabilities is None and call.is_training:
        raise TypeError("probabilities must be given: those of the forward pass, by default multinomial_probabilities(x)")
    return draw_features(grad, k, probabilities, per, call)


def draw_features(x: NDArray[Any], k: Any, probabilities: Any, per: Any, call: Call) -> NDArray[Any]:
    """Forward and backward are one: the counts are constants, regenerated from (seed, offset)."""
    shape, trials = x.shape, as_positive_count(k, "k")
    if not shape:
        raise ValueError(f"{call.array_name()} must have features along its last axis; a 0-d array has none")
    if trials >= 2**32:
        raise ValueError(f"k must be below 2**32, the number of random words; got {k}")
    if not plan.is_one_of(per, ("sample", "batch")):
        raise ValueError(f"per must be 'sample', draws per sample, or 'batch', the same for all; got {per!r}")
    check_whole_axes(call, shape, [len(shape) - 1], "features are drawn from all of them")
    if not call.is_training:
        if probabilities is not None:
            numbers.share_words(probabilities, shape[-1])  # which checks them
        numbers.check_draws(call, x, trials, per == "batch")
        return call.unchanged(x)
    if probabilities is None:
        probabilities = multinomial_probabilities(x)
    return numbers.multiply_draws(call, x, trials, probabilities, per == "batch")
