"""Dropout in attention: of probabilities, of whole heads, of keys before the softmax."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count
from fastdrop._core.plan import Call, Decisions, Pass
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._blocks import window_rate
from fastdrop.variants._masks import apply, check_whole_axes, decide

__all__ = [
    "attention_dropout",
    "attention_dropout_backward",
    "drop_head",
    "drop_head_backward",
    "drop_key",
    "drop_key_backward",
]

Unit = Literal["element", "key"]
EmptyRows = Literal["keep", "fill"]

QUERIES, KEYS = 2, 3  # axes


# Probabilities ------------------------------------------------------------------------------------------------------


def attention_dropout(
    x: ArrayLike,
    p: float = 0.1,
    *,
    unit: Unit = "element",
    shared_axes: int | Sequence[int] | None = None,
    window: int = 1,
    exact_rate: bool = True,
    renormalize: bool | None = None,
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
    """Drop attention probabilities, after the softmax.

    By default, single elements are dropped and the others are scaled by 1 / (1 - p), as in transformers. With ``unit="key"``,
    whole keys are dropped for all queries together, and each row is divided by the sum of its kept elements, as in
    DropAttention.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Probabilities, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping, in [0, 1].
    unit : {"element", "key"}
        Whether each query has its own decisions, or all queries share the decision about a key.
    shared_axes : int or sequence of int, optional
        Other axes that share decisions: 0 (the samples), 1 (the heads), or both. By default neither does; in flax both do.
    window : int, default 1
        The number of consecutive keys that are dropped together. A window longer than the rows is cut to their length.
    exact_rate : bool, default True
        True: each key is dropped with probability `p`. Windows may begin before the first key, and the probability of a window
        at each position follows from `p`. False, as in the paper: each key begins a window with probability p / window, also
        if the window is cut. Then less than `p` is dropped, because windows overlap, and the first keys of a row are dropped
        least. If `window` is 1, True and False give the same result.
    renormalize : bool, optional
        True divides each row by the sum of its kept elements plus 1e-8. False multiplies kept elements by 1 / (1 - p); then
        rows do not sum to one. The default is True for whole keys and for windows of more than one key, for which no single
        factor is right, and otherwise False.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself. Dropped elements are +0.0, whatever their row holds. A
        renormalized row that lost all its keys is +0.0 too. With ``p=0`` the result equals `x`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an `x` without four dimensions, a bad `unit`, `shared_axes`, `window` or `exact_rate`, a
        `window` above 1 with ``renormalize=False``, a block without all keys of rows that are renormalized.

    Notes
    -----
    The decision about query i and key j of head h of sample b has its C-order index in an array of shape
    (batch, heads, queries, keys), whose size is 1 along each axis that shares decisions. With ``unit="key"``, the size along
    the queries is 1. With windows of w keys and `exact_rate`, the last size is keys + w - 1: position j decides whether a
    window begins at key j - w + 1. It does if U(index) < gamma, with 1 - (1 - gamma)**w = p.

    The sum of a row is defined to the bit: the second half of the row is added to the first (which has one more if their
    number is odd), and so on until one number is left.

    References
    ----------
    .. [1] L. Zehui, P. Liu, L. Huang, J. Chen, X. Qiu, X. Huang, "DropAttention: a regularization method for
       fully-connected self-attention networks", arXiv:1907.11065 (2019).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.full((1, 1, 2, 4), 0.25, np.float32)
    >>> fastdrop.attention_dropout(x, 0.5, seed=42)[0, 0]
    array([[0.5, 0. , 0. , 0. ],
           [0. , 0.5, 0.5, 0. ]], dtype=float32)
    >>> fastdrop.attention_dropout(x, 0.5, unit="key", seed=0)[0, 0]
    array([[0. , 0.5, 0. , 0.5],
           [0. , 0.5, 0. , 0.5]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    rule = check_rule(p, unit, shared_axes, window, exact_rate, renormalize)
    if not renormalizes(x, "x", rule, call):
        return call.drop(x, rule.p, rule.shared_axes)
    return call.divide_rows(x, *rule.decisions(x))


@backward_of(attention_dropout)
def attention_dropout_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
    unit: Unit = "element",
    shared_axes: int | Sequence[int] | None = None,
    window: int = 1,
    exact_rate: bool = True,
    renormalize: bool | None = None,
    x: ArrayLike | None = None,
    through_sum: bool = True,
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
    """Return the gradient of `attention_dropout` with respect to the probabilities.

    Parameters
    ----------
    x : array_like, optional
        The input of the forward pass, of the shape and dtype of `grad`. It is needed if rows are renormalized.
    through_sum : bool, default True
        False treats the sums of the rows as constants.

    Notes
    -----
    Of a renormalized row y = M x / S, with S its sum plus 1e-8, the gradient is (M / S) (g - sum(g y)).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.full((1, 1, 1, 4), 0.25)
    >>> grad = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    >>> fastdrop.attention_dropout_backward(grad, 0.5, seed=42)
    array([[[[2., 0., 0., 0.]]]])
    >>> dx = fastdrop.attention_dropout_backward(grad, 0.5, unit="key", x=x, seed=0)
    >>> dx.round(3)
    array([[[[ 0., -2.,  0.,  2.]]]])
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    rule = check_rule(p, unit, shared_axes, window, exact_rate, renormalize)
    through_sum = plan.check_flag(through_sum, "through_sum")
    if rule.renormalize and x is None and call.is_training:
        raise TypeError("x must be given: the gradient of a renormalized row needs the input of the forward pass")
    if not renormalizes(grad, "grad", rule, call):
        if x is not None:
            plan.check_operand(x, grad, "x")
        return call.drop(grad, rule.p, rule.shared_axes)
    return call.divide_rows_backward(grad, *rule.decisions(grad), x, through_sum)


class Rule(NamedTuple):
    """The unit of dropping and the treatment of the kept probabilities, checked."""

    p: float
    shared_axes: tuple[int, ...]
    window: int
    is_exact: bool
    renormalize: bool

    def decisions(self, x: NDArray[Any]) -> tuple[float, Decisions]:
        """Return the probability that a window begins, and the mask of windows over probabilities `x`."""
        return decisions_of_windows(x.shape, self.p, self.shared_axes, self.window, self.is_exact)


@plan.remembering(256)
def check_rule(p: Any, unit: Any, shared_axes: Any, window: Any, exact_rate: Any, renormalize: Any) -> Rule:
    """Return the rule with every default filled in, or raise an error for a bad argument."""
    if not plan.is_one_of(unit, ("element", "key")):
        raise ValueError(f"unit must be 'element' or 'key'; got {unit!r}")
    length, axes = as_positive_count(window, "window"), check_shared_axes(shared_axes)
    exact = plan.check_flag(exact_rate, "exact_rate")
    divides = divides_rows(unit, length, None if renormalize is None else plan.check_flag(renormalize, "renormalize"))
    if length > 1 and not divides:
        raise ValueError(f"renormalize must be True for a window above 1, which has no single factor; got window {length}")
    if unit == "key":
        axes = (*axes, QUERIES)
    return Rule(plan.as_rate(p), axes, length, exact, divides)


def divides_rows(unit: str, window: int, renormalize: bool | None) -> bool:
    """Return whether the rule divides rows by their sums, for arguments that were checked."""
    return bool(unit == "key" or window > 1 if renormalize is None else renormalize)


@plan.remembering(256)
def decisions_of_windows(
    shape: tuple[int, ...], p: float, shared_axes: tuple[int, ...], window: int, is_exact: bool
) -> tuple[float, Decisions]:
    """Return the probability that a window of keys begins, and their mask; a window past an end of the row is cut off."""
    length = min(window, max(shape[KEYS], 1))
    before = length - 1 if is_exact else 0
    gamma = window_rate(p, length) if is_exact else p / window
    return gamma, Decisions(shape, (0, 1, QUERIES, KEYS), shared_axes, (length,), (before, length - 1))


def check_shared_axes(shared_axes: Any) -> tuple[int, ...]:
    """Return the axes (samples, heads) that share decisions, or raise an error that names the allowed ones."""
    axes = () if shared_axes is None else plan.as_axes(shared_axes, 4, "shared_axes")
    if not set(axes) <= {0, 1}:
        raise ValueError(f"shared_axes must be 0 (the samples), 1 (the heads), or both; got {shared_axes!r}")
    return axes


def check_heads(x: NDArray[Any], name: str) -> tuple[int, ...]:
    """Return the shape of a four-dimensional array, or raise an error that names the array."""
    shape = x.shape
    if len(shape) != 4:
        raise ValueError(f"{name} must have four dimensions, batch and heads first; got an array of shape {shape}")
    return shape


def renormalizes(x: NDArray[Any], name: str, rule: Rule, call: Call) -> bool:
    """Return whether rows are divided by their sums. They are not outside training, nor for p = 0."""
    shape = check_heads(x, name)
    if not rule.renormalize or not plan.sign(rule.p) or not call.is_training:
        return False
    if call.global_shape is not None:
        check_whole_axes(call, shape, [KEYS], "rows are divided by their sums")
    return True


# Heads --------------------------------------------------------------------------------------------------------------


def drop_head(
    x: ArrayLike,
    p: float = 0.1,
    *,
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
    """Drop whole attention heads, and scale the others by the count of kept heads.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The heads' outputs, of shape (batch, heads, ..., ...): four dimensions.
    p : float, default 0.1
        Probability of dropping a head, in [0, 1].
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself. Kept heads are multiplied by the number of heads / the
        number of kept heads in their sample. If a sample keeps no head, all its elements are +0.0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an `x` without four dimensions, a block without all heads.

    Notes
    -----
    Head h of sample b is dropped if U(b heads + h) < p. The factor comes from the count of kept heads instead of 1 / (1 - p),
    and a sample whose heads are all dropped stays 0; so E[y] = x (1 - p**heads).

    References
    ----------
    .. [1] W. Zhou, T. Ge, F. Wei, M. Zhou, K. Xu, "Scheduled DropHead: a regularization method for transformer models",
       Findings of EMNLP 2020.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((2, 4, 1, 1), np.float32)
    >>> fastdrop.drop_head(x, 0.5, seed=42)[:, :, 0, 0]
    array([[4., 0., 0., 0.],
           [0., 2., 2., 0.]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return drop_heads(x, "x", p, call)


@backward_of(drop_head)
def drop_head_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
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
    """Return the gradient of `drop_head` with respect to its input: the same mask and factors.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones((1, 4, 1, 1), np.float32)
    >>> fastdrop.drop_head_backward(grad, 0.5, seed=42)[0, :, 0, 0]
    array([4., 0., 0., 0.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return drop_heads(grad, "grad", p, call)


def drop_heads(x: NDArray[Any], name: str, p: Any, call: Call) -> NDArray[Any]:
    """Forward and backward are one: the mask is regenerated from (seed, offset)."""
    rate, shape = plan.as_rate(p), check_heads(x, name)
    if not call.is_training:
        return call.unchanged(x)
    check_whole_axes(call, shape, [1], "the scale depends on the number of kept heads")
    return call.drop_decisions(x, rate, mask_of_heads(shape), "sample")


@functools.lru_cache(maxsize=256)
def mask_of_heads(shape: tuple[int, ...]) -> Decisions:
    """Return a mask with one decision per sample and head."""
    return Decisions(shape, (0, 1))


# Keys ---------------------------------------------------------------------------------------------------------------


def drop_key(
    x: ArrayLike,
    p: float = 0.1,
    *,
    shared_axes: int | Sequence[int] | None = None,
    fill: float = -np.inf,
    empty_rows: EmptyRows = "keep",
    allowed: ArrayLike | None = None,
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
    """Drop keys before the softmax: each query loses some keys, and its probabilities over the other keys sum to one.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The logits, before the softmax, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping a key for a query, in [0, 1].
    shared_axes : int or sequence of int, optional
        Axes that share decisions: 0 (the samples), 1 (the heads), or both. By default neither does.
    fill : float, default -inf
        The value of a dropped logit, rounded to the dtype. Some implementations use -1e12.
    empty_rows : {"keep", "fill"}
        The treatment of a query that would lose all its keys. ``"keep"``: the query keeps all keys (so p = 1 drops none).
        ``"fill"``: the query loses all keys, and a softmax over only -inf is NaN.
    allowed : array_like of bool, optional
        True where a query may attend to a key, of a shape that broadcasts to that of `x`; the causal mask, for example. Then a
        query that would lose all its allowed keys counts as a query that would lose all its keys.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself. Kept logits are not scaled, because the softmax normalizes
        the rows.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for an `x` without four dimensions, a bad `shared_axes`, `fill`, `empty_rows` or `allowed`, a block
        without all keys of its rows if ``empty_rows="keep"``.

    Notes
    -----
    The decision about query i and key j of head h of sample b has its C-order index in an array of shape
    (batch, heads, queries, keys), whose size is 1 along each axis that shares decisions. If rows share decisions but differ in
    `allowed`, one of them may keep keys that another loses.

    References
    ----------
    .. [1] B. Li, Y. Hu, X. Nie, C. Han, X. Jiang, T. Guo, L. Liu, "DropKey for vision transformer", CVPR 2023.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((1, 1, 2, 4), np.float32)
    >>> fastdrop.drop_key(x, 0.5, seed=42)[0, 0]
    array([[  1., -inf, -inf, -inf],
           [-inf,   1.,   1., -inf]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    filling, rule = check_fill(fill), check_keys(x, "x", p, shared_axes, empty_rows, allowed)
    if not call.is_training:
        return call.unchanged(x)
    return drop_keys(x, rule, filling, call)


@backward_of(drop_key)
def drop_key_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
    shared_axes: int | Sequence[int] | None = None,
    empty_rows: EmptyRows = "keep",
    allowed: ArrayLike | None = None,
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
    """Return the gradient of `drop_key` with respect to the logits: zero where dropped.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.full((1, 1, 2, 4), 3, np.float32)
    >>> fastdrop.drop_key_backward(grad, 0.5, seed=42)[0, 0]
    array([[3., 0., 0., 0.],
           [0., 3., 3., 0.]], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    rule = check_keys(grad, "grad", p, shared_axes, empty_rows, allowed)
    if not call.is_training:
        return call.unchanged(grad)
    return drop_keys(grad, rule, 0.0, call)


def drop_keys(x: NDArray[Any], rule: KeyRule, fill: float, call: Call) -> NDArray[Any]:
    """Return x with `fill` in place of dropped keys."""
    if rule.keeps_empty_rows:
        check_whole_axes(call, rule.shape, [KEYS], "a row that would lose all its keys keeps them")
    if plan.sign(fill) and math.isfinite(fill):
        dtype = plan.as_array(x, "x").dtype
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            fill = float(np.asarray(fill).astype(dtype))  # of the dtype, not of the compute type
    if rule.allowed is None:
        return call.fill_keys(x, rule.p, rule.decisions, fill, rule.keeps_empty_rows)
    with call.arrays(x, placed=rule.shape) as run:
        return apply(run, rule.mask(run), fill=fill)


class KeyRule(NamedTuple):
    """The checked arguments that decide about keys."""

    shape: tuple[int, ...]
    p: float
    shared_axes: tuple[int, ...]
    keeps_empty_rows: bool
    allowed: NDArray[np.bool_] | None
    decisions: Decisions

    def mask(self, run: Pass) -> NDArray[np.bool_]:
        """Return keep flags, of size 1 along shared axes, if some keys are not allowed."""
        mask = decide(run, self.p, range(4), (), self.shared_axes)
        if self.keeps_empty_rows and self.allowed is not None:
            mask = mask | ~(mask & self.allowed).any(axis=-1, keepdims=True)
        return mask


def check_keys(x: NDArray[Any], name: str, p: Any, shared_axes: Any, empty_rows: Any, allowed: Any) -> KeyRule:
    """Return the rule for an array, or raise an error for a bad argument."""
    return make_keys(check_heads(x, name), p, shared_axes, empty_rows, allowed)


@plan.remembering(256)
def make_keys(shape: tuple[int, ...], p: Any, shared_axes: Any, empty_rows: Any, allowed: Any) -> KeyRule:
    """Return the rule for an array of a shape, or raise an error for a bad argument."""
    rate, axes = plan.as_rate(p), check_shared_axes(shared_axes)
    if not plan.is_one_of(empty_rows, ("keep", "fill")):
        raise ValueError(f"empty_rows must be 'keep' or 'fill'; got {empty_rows!r}")
    decisions = Decisions(shape, (0, 1, QUERIES, KEYS), axes)
    return KeyRule(shape, rate, axes, empty_rows == "keep", check_allowed(allowed, shape), decisions)


def check_allowed(allowed: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return the flags of the allowed keys, or raise an error for bad flags."""
    if allowed is None:
        return None
    wanted = np.asarray(plan.to_array(allowed, "allowed"))
    if wanted.dtype != np.bool_:
        raise TypeError(f"allowed must have the dtype bool, True where a query may attend to a key; got {wanted.dtype}")
    try:
        return np.broadcast_to(wanted, shape)
    except ValueError:
        raise ValueError(
            f"allowed has shape {wanted.shape}, which does not broadcast to the shape {shape} of the logits"
        ) from None


def check_fill(fill: Any) -> float:
    """Return the value of dropped logits, or raise an error that names it."""
    if type(fill) is float:
        return fill
    try:
        plan.check_scalar(fill)
        if isinstance(fill, (str, bytes, bytearray)):
            raise TypeError
        with plan.RoundToNearest():
            return float(fill)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"fill must be a number in the range of float64; got {fill!r} ({type(fill).__name__})") from None
