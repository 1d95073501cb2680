"""Dropout that looks at what it drops: keep probabilities from scores, draws by second moments, small weights first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import real_array, share_of
from fastdrop._core.plan import as_axes
from fastdrop._core.settings import using
from fastdrop.variants._masks import beside_grad, compute_type, stored

__all__ = [
    "importance_dropout",
    "importance_dropout_backward",
    "keep_probabilities",
    "multinomial_dropout",
    "multinomial_dropout_backward",
    "multinomial_probabilities",
    "targeted_dropout",
    "targeted_dropout_backward",
]

Per = Literal["sample", "batch"]
Compared = Literal["output", "layer"]

NEGLIGIBLE = 2.0**-1000  # of the largest score
DRAWS = 2**22  # words that are in memory at a time

# Keep probabilities from scores -------------------------------------------------------------------------------------


def keep_probabilities(
    scores: ArrayLike, p: float = 0.5, *, axis: int | Sequence[int] | None = None, floor: float = 0.01
) -> NDArray[np.float64]:
    """Return keep probabilities that are proportional to scores as far as they can be, with a mean of 1 - p.

    They are min(1, max(floor, level * score)), with the one level for which their mean is 1 - p: as water fills a vessel
    whose walls are at `floor` and 1.

    Parameters
    ----------
    scores : array_like of real numbers
        How important each is: finite and >= 0; attention probabilities, magnitudes, saliencies.
    p : float, default 0.5
        The mean probability of dropping, in [0, 1].
    axis : int or sequence of int, optional
        The axes over which the mean is held, for each place along the others by itself. By default all: one mean for
        the whole array.
    floor : float, default 0.01
        The least probability, in [0, 1]. As 1 / k is the factor of what is kept, it bounds the variance. Where it is
        above 1 - p the mean could not be held: it is then lowered to 1 - p, and all are kept with that probability.

    Returns
    -------
    numpy.ndarray
        Of float64 and the shape of `scores`.

    Raises
    ------
    TypeError
        `scores` that are not real numbers; `p` or `floor` not numbers.
    ValueError
        A score that is negative, infinite or NaN; `p` or `floor` outside [0, 1]; a bad `axis`.

    Notes
    -----
    Equal scores get equal probabilities. A score of 0 stands for one that is infinitely small: it gets `floor` unless
    all others are kept with probability 1 and the mean is still not reached; then the zeros share what is missing
    equally. So with scores that are all 0 each is kept with 1 - p. Scores below 2**-1000 of the largest count as 0.

    The level solves the linear equation of the scores that are neither at the floor nor at 1; which they are is found by
    bisection of the scores in order. Sums are taken in a fixed order (one after another in it; in the equation, the second
    half of a row of scores in order is added to the first, and so on), so that the result is the same to the bit
    everywhere. The mean is 1 - p up to rounding.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.keep_probabilities([1.0, 2.0, 3.0, 2.0], 0.5)
    array([0.25, 0.5 , 0.75, 0.5 ])
    >>> fastdrop.keep_probabilities([[1.0, 1.0, 1.0, 13.0], [0.0, 0.0, 0.0, 1.0]], 0.375, axis=1)
    array([[0.5, 0.5, 0.5, 1. ],
           [0.5, 0.5, 0.5, 1. ]])
    """
    given, rate, least = real_array(scores, "scores"), plan.as_rate(p), share_of(floor, "floor")
    axes = tuple(range(given.ndim)) if axis is None else as_axes(axis, given.ndim, "axis")
    check_values(given)
    if not given.size:
        return np.zeros(given.shape)
    last = tuple(range(given.ndim - len(axes), given.ndim))
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        moved = np.moveaxis(given.astype(np.float64), axes, last)
        rows = moved.reshape(-1, math.prod(given.shape[axis] for axis in axes))
        keep = filled(rows, 1.0 - rate, min(least, 1.0 - rate))
        return np.array(np.moveaxis(keep.reshape(moved.shape), last, axes), order="C")


def check_values(scores: NDArray[Any]) -> None:
    """Raise unless all scores are finite and not negative."""
    good = (scores >= 0) & (scores < np.inf)
    if not good.all():
        index = tuple(map(int, np.argwhere(~good)[0]))
        raise ValueError(f"scores must be finite and >= 0; got {scores[index]} at index {index}")


def filled(scores: NDArray[np.float64], mean: float, floor: float) -> NDArray[np.float64]:
    """Return the keep probabilities of each row of scores, with this mean and floor."""
    _, exponent = np.frexp(scores.max(axis=1, keepdims=True))
    scaled = np.ldexp(scores, -exponent)  # the largest is in [1/2, 1): no product below can overflow
    scaled[scaled < NEGLIGIBLE] = 0.0
    positive = np.count_nonzero(scaled, axis=1, keepdims=True)
    zeros = scores.shape[1] - positive
    of_zeros = np.clip((scores.shape[1] * mean - positive) / np.maximum(zeros, 1), floor, 1.0)
    wanted = scores.shape[1] * mean - zeros * of_zeros  # of the positive ones together
    ordered = np.sort(scaled, axis=1)
    low, high = ends_of(ordered, zeros, wanted, floor)
    place = np.arange(scores.shape[1])
    slope = fixed_sum(np.where((place >= low) & (place < high), ordered, 0.0))
    level = (wanted - (scores.shape[1] - high) - floor * (low - zeros)) / np.where(slope > 0, slope, 1.0)
    keep = np.clip(scaled * level, floor, 1.0)
    keep[scaled >= at(ordered, high)] = 1.0
    probabilities: NDArray[np.float64] = np.where(scaled > 0, keep, of_zeros)
    return probabilities


def ends_of(
    ordered: NDArray[np.float64], zeros: NDArray[np.int64], wanted: NDArray[np.float64], floor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row of scores in order where those at the floor end and where those at 1 begin.

    A score is at 1 if the probabilities are not yet too many at the level that just brings it there, and at the floor if
    they are enough at the level that just lifts it off.
    """
    n, end = ordered.shape[1], np.full(wanted.shape, ordered.shape[1])
    sums = np.concatenate([np.zeros(wanted.shape), np.add.accumulate(ordered, axis=1)], axis=1)  # of the smallest ones

    def total(level: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum of the probabilities of positive scores."""
        between = np.take_along_axis(sums, high, 1) - np.take_along_axis(sums, low, 1)
        found: NDArray[np.float64] = floor * (low - zeros) + level * between + (n - high)
        return found

    def is_full(j: NDArray[np.int64]) -> NDArray[np.bool_]:
        score = at(ordered, j)
        low = first_place(zeros, j, lambda i: at(ordered, i) > floor * score)
        return total(1.0 / score, low, j) <= wanted

    def is_lifted(j: NDArray[np.int64]) -> NDArray[np.bool_]:
        score, above = at(ordered, j), np.minimum(j + 1, n)
        high = first_place(above, end, lambda i: floor * at(ordered, i) >= score)
        return total(floor / score, above, high) < wanted

    return first_place(zeros, end, is_lifted), first_place(zeros, end, is_full)


def at(ordered: NDArray[np.float64], place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the score at one place of each row; past its end, infinity."""
    found: NDArray[np.float64] = np.take_along_axis(ordered, np.minimum(place, ordered.shape[1] - 1), 1)
    found[place == ordered.shape[1]] = np.inf
    return found


def first_place(
    begin: NDArray[np.int64], end: NDArray[np.int64], is_past: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """Return for each row the first place from `begin` on that a growing predicate holds for, or `end`: by bisection."""
    for _ in range(int((end - begin).max(initial=0)).bit_length()):
        middle = (begin + end) // 2
        past = is_past(middle) | (begin >= end)
        begin, end = np.where(past, begin, middle + 1), np.where(past, middle, end)
    return begin


def importance_dropped(
    x: ArrayLike,
    name: str,
    scores: ArrayLike,
    options: tuple[Any, ...],
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
) -> NDArray[Any]:
    """Forward and backward are one: dropout with a rate for each element."""
    p, axis, floor, shared_axes = options
    values, given = plan.as_array(x, name, out), real_array(scores, "scores")
    try:
        np.broadcast_to(given, values.shape)
    except ValueError:
        raise ValueError(
            f"scores have shape {given.shape}, which does not broadcast to {values.shape}, that of {name}"
        ) from None
    geometry = plan.geometry_of(None, shared_axes, None, None)
    rates: Any = plan.as_rate(p)
    if training:
        keep = keep_probabilities(given, rates, axis=axis, floor=floor)
        with plan.RoundToNearest():
            rates = 1.0 - keep
    backward = name == "grad"
    return plan.dropout(x, rates, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, geometry)


def importance_dropout(
    x: ArrayLike,
    scores: ArrayLike,
    p: float = 0.5,
    *,
    axis: int | Sequence[int] | None = None,
    floor: float = 0.01,
    shared_axes: int | Sequence[int] | None = None,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop what matters little more often than what matters much, without bias: what is kept is divided by its probability.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    scores : array_like of real numbers
        How important the elements are, finite and >= 0, of a shape that broadcasts to that of `x`: one a channel, one a
        token (with a last axis of 1), attention probabilities.
    p : float, default 0.5
        The mean probability of dropping, in [0, 1].
    axis : int or sequence of int, optional
        The axes of `scores` over which the mean is held; see `keep_probabilities`.
    floor : float, default 0.01
        The least probability of keeping; see `keep_probabilities`. With 0, what has a score of 0 is dropped always,
        and only where it is 0 itself is the result unbiased.
    shared_axes : int or sequence of int, optional
        The axes of `x` along which one decision is shared, as in `dropout`: with one score a token, whole tokens.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value.

    Raises
    ------
    TypeError, ValueError
        As in `dropout` and `keep_probabilities`; scores of a shape that does not broadcast. Outside training the scores'
        values are not looked at.

    Notes
    -----
    Element i of probability k is dropped where U(i) < 1 - k, and otherwise multiplied by 1 / k, rounded once to the type
    that is computed with: `dropout` with ``p = 1 - keep_probabilities(scores, p, axis=axis, floor=floor)``. E[y] = x,
    Var[y] = x**2 (1 - k) / k. The scores are constants: no gradient flows to them.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones(8, np.float32)
    >>> fastdrop.importance_dropout(x, [1, 1, 1, 1, 2, 2, 2, 2], 0.25, seed=42)
    array([2., 0., 0., 0., 1., 1., 1., 1.], dtype=float32)
    """
    options = (p, axis, floor, shared_axes)
    return importance_dropped(x, "x", scores, options, seed, offset, training, out, backend, num_threads)


def importance_dropout_backward(
    grad: ArrayLike,
    scores: ArrayLike,
    p: float = 0.5,
    *,
    axis: int | Sequence[int] | None = None,
    floor: float = 0.01,
    shared_axes: int | Sequence[int] | None = None,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `importance_dropout` with respect to `x`; the scores count as constants.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `importance_dropout`, of the same shape.
    scores, p, axis, floor, shared_axes, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `importance_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.importance_dropout_backward(np.ones(4), [1, 1, 2, 2], 0.25, seed=42)
    array([2., 0., 1., 1.])
    """
    options = (p, axis, floor, shared_axes)
    return importance_dropped(grad, "grad", scores, options, seed, offset, training, out, backend, num_threads)


# Draws --------------------------------------------------------------------------------------------------------------


def multinomial_probabilities(x: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of evolutional dropout: of each feature, proportional to the root of its second moment.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The mini-batch: features along the last axis; every other axis is summed over.

    Returns
    -------
    numpy.ndarray
        Of float64 and shape ``x.shape[-1:]``; they sum to 1 up to rounding. Where `x` is 0 throughout, or has no
        samples, all are equal.

    Raises
    ------
    TypeError
        `x` of another dtype.
    ValueError
        A 0-d `x`, or infinities or NaN in it.

    Notes
    -----
    sqrt(sum of x_i**2) over the sum of these roots over all features: among all probabilities, those for which the
    second moment of the result of `multinomial_dropout` is least. Computed in float64, with sums in a fixed order: the
    same to the bit everywhere.

    References
    ----------
    .. [1] Z. Li, B. Gong, T. Yang, "Improved dropout for shallow and deep learning", NIPS 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.multinomial_probabilities(np.array([[3.0, 0.0, 1.0], [4.0, 5.0, 0.0]]))
    array([0.45454545, 0.45454545, 0.09090909])
    """
    given = features_of(x, "x")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        rows = given.astype(np.float64).reshape(math.prod(given.shape[:-1]), given.shape[-1])
        largest = np.abs(rows).max(initial=0.0)
        if not largest < np.inf:
            raise ValueError("x must be finite, as its second moments are to give probabilities; it has infinities or NaN")
        rows = np.ldexp(rows, -np.frexp(largest)[1])  # so that no square overflows
        roots = np.sqrt(fixed_sum(rows * rows, 0)) if len(rows) and largest else np.ones((1, rows.shape[1]))
        probabilities: NDArray[np.float64] = (roots / fixed_sum(roots))[0]
        return probabilities


def features_of(x: ArrayLike, name: str, out: Any = None) -> NDArray[Any]:
    """Return an array with an axis of features, or raise naming it."""
    array = plan.as_array(x, name, out)
    if not array.ndim:
        raise ValueError(f"{name} must have features along its last axis; a 0-d array has none")
    return array


def shares_of(probabilities: ArrayLike, features: int) -> NDArray[np.uint64]:
    """Return of how many of the 2**32 words each feature is drawn; of at least one, unless its probability is 0.

    Integers from the first rounding on, so that no order of summation matters.
    """
    given = real_array(probabilities, "probabilities")
    if given.shape != (features,):
        raise ValueError(f"probabilities must have shape {(features,)}, one a feature; got {given.shape}")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        weights = given.astype(np.float64)
        largest = weights.max(initial=0.0)
        if not ((weights >= 0) & (weights < np.inf)).all() or (features and not largest):
            raise ValueError("probabilities must be finite and >= 0, and not all of them 0")
        scaled, positive = np.floor(weights / largest * 2.0**31).astype(np.uint64), weights > 0
    count = np.uint64(np.count_nonzero(positive))
    shares: NDArray[np.uint64] = scaled * (np.uint64(2**32) - count) // scaled.sum() + positive
    left = 2**32 - int(shares.sum())  # less than one for each positive one
    shares[np.flatnonzero(positive)[:left]] += np.uint64(1)
    return shares


def factors_drawn(shares: NDArray[np.uint64], k: int, first: int, rows: int, seed: int, offset: int) -> NDArray[np.float64]:
    """Return what each feature of the rows from `first` on is multiplied by: its count over k times its probability."""
    words = numbers.old_words(rows * k, seed, offset, first * k).astype(np.uint64)
    drawn = np.searchsorted(np.cumsum(shares), words, side="right") + np.repeat(np.arange(rows) * shares.size, k)
    counts = np.bincount(drawn, minlength=rows * shares.size).reshape(rows, shares.size)
    expected = k * np.maximum(shares, np.uint64(1)).astype(np.float64)
    factors: NDArray[np.float64] = counts * 2.0**32 / expected
    return factors


def drawn(
    x: ArrayLike,
    name: str,
    k: int,
    probabilities: ArrayLike | None,
    per: str,
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
) -> NDArray[Any]:
    """Forward and backward are one: the counts are constants, made again from (seed, offset)."""
    array = features_of(x, name, out)
    trials, features = plan.as_count(k, "k"), array.shape[-1]
    if not trials:
        raise ValueError("k must be >= 1, the number of draws; got 0")
    if per not in ("sample", "batch"):
        raise ValueError(f"per must be 'sample', draws for each, or 'batch', the same for all; got {per!r}")
    if not training:
        return plan.dropout(x, 0.0, seed, offset, False, "inverted", out, 0, backend, num_threads, name == "grad")
    shares = shares_of(multinomial_probabilities(array) if probabilities is None else probabilities, features)
    rows = array.reshape(math.prod(array.shape[:-1]), features)
    made = np.empty(rows.shape, array.dtype)
    step = max(1, DRAWS // max(trials, features, 1)) if per == "sample" else max(len(rows), 1)
    with using(backend=backend, num_threads=num_threads):
        key = plan.key_of(seed, offset, name == "grad")
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            for begin in range(0, len(rows) if features else 0, step):
                chunk = rows[begin : begin + step]
                factors = factors_drawn(shares, trials, begin, len(chunk) if per == "sample" else 1, *key)
                type = compute_type(array.dtype)
                made[begin : begin + step] = np.where(factors > 0, chunk.astype(type) * factors.astype(type), type(0))
    return stored(made.reshape(array.shape), array, out)


def multinomial_dropout(
    x: ArrayLike,
    k: int,
    probabilities: ArrayLike | None = None,
    *,
    per: Per = "sample",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Draw features k times with replacement; one that was drawn c times is multiplied by c / (k P), others are dropped.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Features along the last axis; any other axes are samples.
    k : int
        How many draws, at least 1. About as many features are kept as with dropout's p = 1 - k / features.
    probabilities : array_like of real numbers, optional
        P, of which each feature is drawn: one a feature, finite and >= 0; divided by their sum. By default those of
        `multinomial_probabilities`, from `x` itself: evolutional dropout. With equal ones, this is uniform dropout
        with replacement.
    per : {"sample", "batch"}
        Whether each sample has draws of its own, as in the paper, or all the same ones.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself, which is the expected value.

    Raises
    ------
    TypeError
        As in `dropout`; `k` not an integer; probabilities that are not real numbers.
    ValueError
        As in `dropout`; a 0-d `x`; `k` below 1; probabilities of another shape, negative, infinite, NaN or all 0; an
        unknown `per`; an `x` with infinities or NaN where the probabilities come from it.

    Notes
    -----
    Draw t of sample r (counted in C order over all axes but the last) takes word r k + t of ``words(..., seed=seed,
    offset=offset)``, per batch word t. The probabilities are rounded to 2**-32, those above 0 to no less than that, and
    the words are cut up among the features in their order; the rounded ones are also those that are divided by, so that
    E[y] = x exactly. The factor c / (k P) is rounded to float64, then to the type that is computed with; a feature
    that was not drawn, or of probability 0, is +0.0.

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
    return drawn(x, "x", k, probabilities, per, seed, offset, training, out, backend, num_threads)


def multinomial_dropout_backward(
    grad: ArrayLike,
    k: int,
    probabilities: ArrayLike,
    *,
    per: Per = "sample",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `multinomial_dropout` with respect to `x`; counts and probabilities count as constants.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `multinomial_dropout`, of the same shape.
    k, per, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    probabilities : array_like of real numbers
        What the forward pass was given; where that was None, ``multinomial_probabilities(x)``.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `multinomial_dropout`; and where `seed` or `probabilities` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.multinomial_dropout_backward(np.ones((2, 4)), 2, [1, 1, 1, 1], seed=42)
    array([[0., 2., 2., 0.],
           [2., 2., 0., 0.]])
    """
    if probabilities is None:
        raise TypeError("probabilities must be given: those of the forward pass, by default multinomial_probabilities(x)")
    return drawn(grad, "grad", k, probabilities, per, seed, offset, training, out, backend, num_threads)


# Small weights ------------------------------------------------------------------------------------------------------


def targets_of(weight: NDArray[Any], fraction: float, per: str) -> NDArray[np.bool_]:
    """Return which weights are among the smallest ones in magnitude, of each output or of all."""
    if per not in ("output", "layer"):
        raise ValueError(f"per must be 'output', the weights of each output by themselves, or 'layer', all; got {per!r}")
    if per == "output" and not weight.ndim:
        raise ValueError("per 'output' compares the weights of each output, the first axis; a 0-d array has none")
    outputs = len(weight) if per == "output" and weight.ndim > 1 else 1
    rows = weight.reshape(outputs, weight.size // max(outputs, 1))
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        count = math.floor(fraction * rows.shape[1])
        if not count:
            return np.zeros(weight.shape, np.bool_)
        magnitudes = np.abs(rows.astype(compute_type(weight.dtype)))
        magnitudes[np.isnan(magnitudes)] = np.inf
        largest = np.partition(magnitudes, count - 1, axis=1)[:, count - 1 : count]  # of those that are targeted
        below, equal = magnitudes < largest, magnitudes == largest
    left = count - np.count_nonzero(below, axis=1, keepdims=True)
    targets: NDArray[np.bool_] = below | (equal & (np.cumsum(equal, axis=1) <= left))
    return targets.reshape(weight.shape)


def targeted(
    values: ArrayLike,
    name: str,
    weight: ArrayLike,
    options: tuple[Any, ...],
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
) -> NDArray[Any]:
    """`targeted_dropout`, whose values are the weights, and its backward pass, whose are the gradient."""
    p, fraction, per = options
    array = beside_grad(weight, "weight", plan.as_array(values, name, out))
    rate, share, backward = plan.as_rate(p), share_of(fraction, "fraction"), name == "grad"
    rates = np.where(targets_of(array, share, per), rate, 0.0) if training else rate
    return plan.dropout(values, rates, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, factor=1.0)


def targeted_dropout(
    weight: ArrayLike,
    p: float = 0.5,
    *,
    fraction: float = 0.5,
    per: Compared = "output",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop weights that are small already, so that a network learns to do without them: before it is pruned.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The weights of a layer, outputs along the first axis.
    p : float, default 0.5
        Probability of dropping a weight that is targeted, in [0, 1]; the paper's alpha.
    fraction : float, default 0.5
        The part of the weights that is targeted, in [0, 1]: those of the least magnitude; the paper's gamma.
    per : {"output", "layer"}
        Whether magnitudes are compared among the weights of each output, as in the paper, or of the whole layer. Weights
        of one dimension are those of one output.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`. Weights that are kept are not scaled, as in the paper: the expected value
        of one that is targeted is 1 - p of it. Outside training `weight` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; a `fraction` outside [0, 1]; an unknown `per`, or a 0-d array per output.

    Notes
    -----
    Of n weights compared, floor(fraction * n) are targeted, the product rounded in float64. Of equal magnitudes those
    first in C order are targeted first; NaN counts as infinite. The targeted weight of C-order index i is dropped where
    U(i) < p.

    References
    ----------
    .. [1] A. N. Gomez, I. Zhang, S. R. Kamalakara, D. Madaan, K. Swersky, Y. Gal, G. E. Hinton, "Learning sparse
       networks using targeted dropout", arXiv:1905.13678 (2019).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.targeted_dropout(np.array([[5.0, -1.0, 2.0, -7.0], [1.0, 2.0, 3.0, 4.0]]), 0.5, seed=42)
    array([[ 5.,  0.,  0., -7.],
           [ 0.,  2.,  3.,  4.]])
    """
    return targeted(weight, "weight", weight, (p, fraction, per), seed, offset, training, out, backend, num_threads)


def targeted_dropout_backward(
    grad: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    fraction: float = 0.5,
    per: Compared = "output",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `targeted_dropout` with respect to the weights; which are targeted counts as a constant.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `targeted_dropout`, of the same shape.
    weight, p, fraction, per, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `targeted_dropout`; a `weight` of another shape or dtype than `grad`'s; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight = np.array([[5.0, -1.0, 2.0, -7.0]])
    >>> fastdrop.targeted_dropout_backward(np.ones((1, 4)), weight, 0.5, seed=42)
    array([[1., 0., 0., 1.]])
    """
    return targeted(grad, "grad", weight, (p, fraction, per), seed, offset, training, out, backend, num_threads)
