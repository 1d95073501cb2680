"""Dropout in attention: of probabilities, of whole heads, of keys before the softmax."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.checks import at_least_one
from fastdrop._core.settings import using
from fastdrop.variants._masks import apply, apply_counted, beside_grad, block_mask, compute_type

__all__ = [
    "attention_dropout",
    "attention_dropout_backward",
    "drop_head",
    "drop_head_backward",
    "drop_key",
    "drop_key_backward",
]

Mode = Literal["element", "column"]
Shared = Literal["none", "heads", "batch", "both"]
EmptyRows = Literal["keep", "fill"]

EPSILON = 1e-8  # added to the sum of a row
SHARED_AXES = {"none": (), "heads": (1,), "batch": (0,), "both": (0, 1)}


# Probabilities ------------------------------------------------------------------------------------------------------


def attention_dropout(
    weights: ArrayLike,
    p: float = 0.1,
    *,
    mode: Mode = "element",
    shared: Shared = "none",
    window: int = 1,
    renormalize: bool | None = None,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop attention probabilities, after the softmax.

    Elements are dropped alone and the others scaled by 1 / (1 - p), as in transformers; or whole columns, that is a
    key for all queries, and each row is divided by what is left of it, as in DropAttention.

    Parameters
    ----------
    weights : array_like of float32, float64, float16 or bfloat16
        Probabilities, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping, in [0, 1].
    mode : {"element", "column"}
        Whether each query has decisions of its own or all queries share them.
    shared : {"none", "heads", "batch", "both"}
        Which other decisions are shared: by the heads, by the samples of the batch, or by both, as flax has it unless
        told otherwise.
    window : int, default 1
        How many consecutive keys are dropped together: each key begins a window with probability p / window, and what
        of a window reaches past the last key is cut off. With windows of more than one, a little less than `p` is
        dropped.
    renormalize : bool, optional
        True divides each row by its sum after the drop plus 1e-8, without the factor 1 / (1 - p); False applies that
        factor, after which rows do not sum to one. By default True in column mode, and False in element mode unless
        `window` is more than 1, where no one factor would be right.
    seed, offset
        As in `dropout`.
    training : bool, default True
        False returns `weights` itself (with `out`, copies it there).
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weights`. Dropped elements are +0.0; so is a renormalised row that lost all its keys.

    Raises
    ------
    TypeError
        `weights` or `out` of another dtype; `p`, `window`, `seed` or `offset` not numbers of their kind.
    ValueError
        `weights` of other than four dimensions, `p` outside [0, 1], a `window` below 1, or above 1 with
        ``renormalize=False``, an unknown `mode` or `shared`, an `out` of another shape or read-only.

    Notes
    -----
    The decision about query i and key j of head h of sample b is that of its C-order index in an array of shape
    (batch, heads, queries, keys), whose size is 1 along each axis that shares decisions: column mode shares the queries.
    The key begins a window where U(index) < p / window.

    The sum of a row is defined to the bit: the second half of the row is added to the first (which has one more if their
    number is odd), and so on until one number is left.

    References
    ----------
    .. [1] L. Zehui, P. Liu, L. Huang, J. Chen, X. Qiu, X. Huang, "DropAttention: a regularization method for
       fully-connected self-attention networks", arXiv:1907.11065 (2019).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weights = np.full((1, 1, 2, 4), 0.25, np.float32)
    >>> fastdrop.attention_dropout(weights, 0.5, seed=42)[0, 0]
    array([[0.5, 0. , 0. , 0. ],
           [0. , 0.5, 0.5, 0. ]], dtype=float32)
    >>> fastdrop.attention_dropout(weights, 0.5, mode="column", seed=0)[0, 0]
    array([[0. , 0.5, 0. , 0.5],
           [0. , 0.5, 0. , 0.5]], dtype=float32)
    """
    array = attention_array(weights, "weights", out)
    rate, renormalize = dropped_how(p, mode, shared, window, renormalize)
    if not training or not renormalize:
        return elements_dropped(weights, rate, array.shape, mode, shared, seed, offset, training, out, backend, num_threads)
    with using(backend=backend, num_threads=num_threads):
        mask = window_mask(array.shape, rate, mode, shared, window, *plan.key_of(seed, offset))
        y = apply(array, mask, 1.0, out)
        for_each_matrix(renormalised, y)
        return y


def attention_dropout_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
    mode: Mode = "element",
    shared: Shared = "none",
    window: int = 1,
    renormalize: bool | None = None,
    weights: ArrayLike | None = None,
    through_sum: bool = True,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `attention_dropout` with respect to the probabilities.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `attention_dropout`'s result.
    p, mode, shared, window, renormalize, offset, training
        What the forward pass was given.
    weights : array_like, optional
        The forward pass's input, of the shape and dtype of `grad`: needed where rows were renormalised.
    through_sum : bool, default True
        False stops the gradient at the rows' sums, as though they were constants.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used; see `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `attention_dropout`; where `seed` is None; where `weights` are missing, or not like `grad`.

    Notes
    -----
    Of a renormalised row w' = M w / S, with S its sum plus 1e-8, the gradient is (M / S) (g - sum(g w')).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weights = np.full((1, 1, 1, 4), 0.25)
    >>> grad = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    >>> fastdrop.attention_dropout_backward(grad, 0.5, seed=42)
    array([[[[2., 0., 0., 0.]]]])
    >>> dw = fastdrop.attention_dropout_backward(grad, 0.5, mode="column", weights=weights, seed=0)
    >>> dw.round(3)
    array([[[[ 0., -2.,  0.,  2.]]]])
    """
    array = attention_array(grad, "grad", out)
    rate, renormalize = dropped_how(p, mode, shared, window, renormalize)
    if not training or not renormalize:
        return elements_dropped(
            grad, rate, array.shape, mode, shared, seed, offset, training, out, backend, num_threads, backward=True
        )
    forward = like_grad(weights, array)
    with using(backend=backend, num_threads=num_threads):
        mask = window_mask(array.shape, rate, mode, shared, window, *plan.key_of(seed, offset, True))
        kept = apply(forward, mask, 1.0, None)
        y = apply(array, mask, 1.0, out)
        for_each_matrix(functools.partial(row_gradients, through_sum=through_sum), y, kept)
        return apply(y, mask, 1.0, y)


def attention_array(x: ArrayLike, name: str, out: Any) -> NDArray[Any]:
    """Return an array of four dimensions, or raise naming it."""
    array = plan.as_array(x, name, out)
    if array.ndim != 4:
        raise ValueError(f"{name} must have four dimensions, batch and heads first; got an array of shape {array.shape}")
    return array


def shared_axes(shared: Any) -> tuple[int, ...]:
    """Return the axes that share decisions, or raise naming what is allowed."""
    if shared not in SHARED_AXES:
        raise ValueError(f"shared must be 'none', 'heads', 'batch' or 'both'; got {shared!r}")
    return SHARED_AXES[shared]


def dropped_how(p: Any, mode: Any, shared: Any, window: Any, renormalize: bool | None) -> tuple[float, bool]:
    """Return the rate and whether rows are renormalised, or raise naming what is wrong."""
    rate = plan.as_rate(p)
    if mode not in ("element", "column"):
        raise ValueError(f"mode must be 'element' or 'column'; got {mode!r}")
    shared_axes(shared)
    at_least_one(window, "window")
    if renormalize is None:
        return rate, mode == "column" or window > 1
    if window > 1 and not renormalize:
        raise ValueError(f"renormalize must be True where windows overlap and no one factor is right; got window {window}")
    return rate, bool(renormalize)


def elements_dropped(
    x: ArrayLike, rate: float, shape: tuple[int, ...], mode: str, shared: str, seed: Any, offset: int, training: bool,
    out: Any, backend: Any, num_threads: Any, backward: bool = False,
) -> NDArray[Any]:  # fmt: skip
    """Drop without renormalising: inverted dropout whose mask is shared along some axes."""
    geometry = (noise_shape(shape, mode, shared), None, None, None)
    return plan.dropout(x, rate, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, geometry)


def noise_shape(shape: tuple[int, ...], mode: str, shared: str) -> tuple[int, ...]:
    """Return the shape of the array of decisions."""
    single = {*SHARED_AXES[shared], 2} if mode == "column" else SHARED_AXES[shared]
    return tuple(min(size, 1) if axis in single else size for axis, size in enumerate(shape))


def window_mask(
    shape: tuple[int, ...], rate: float, mode: str, shared: str, window: int, seed: int, offset: int
) -> NDArray[np.bool_]:
    """Return a mask that broadcasts to `shape`: windows from every key on, those at the end cut off."""
    *lead, keys = noise_shape(shape, mode, shared)
    reach = min(window, max(keys, 1))
    with plan.RoundToNearest():
        gamma = rate / window
    return block_mask(tuple(lead), (keys + reach - 1,), (reach,), gamma, seed, offset)[..., :keys]


# Rows ---------------------------------------------------------------------------------------------------------------


def for_each_matrix(function: Callable[..., NDArray[Any]], y: NDArray[Any], *others: NDArray[Any]) -> None:
    """Replace each head's matrix of y by a function of it and the others', computed in the stream's arithmetic."""
    arrays, type = [np.asarray(array) for array in (y, *others)], compute_type(y.dtype)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        for index in np.ndindex(y.shape[:2]):
            arrays[0][index] = function(*(array[index].astype(type) for array in arrays))


def row_totals(kept: NDArray[Any]) -> NDArray[Any]:
    """Return what each row is divided by."""
    totals: NDArray[Any] = fixed_sum(kept) + kept.dtype.type(EPSILON)
    return totals


def renormalised(kept: NDArray[Any]) -> NDArray[Any]:
    """Return rows divided by what is left of them."""
    rows: NDArray[Any] = kept / row_totals(kept)
    return rows


def row_gradients(grad: NDArray[Any], kept: NDArray[Any], through_sum: bool) -> NDArray[Any]:
    """Return the gradient with respect to the kept elements of rows."""
    totals = row_totals(kept)
    if through_sum:
        grad = grad - fixed_sum(grad * (kept / totals))
    gradients: NDArray[Any] = grad / totals
    return gradients


# Heads --------------------------------------------------------------------------------------------------------------


def drop_head(
    x: ArrayLike,
    p: float = 0.1,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole attention heads, and scale the others by how many are left.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The heads' outputs, of shape (batch, heads, ..., ...): four dimensions.
    p : float, default 0.1
        Probability of dropping a head, in [0, 1].
    seed, offset
        As in `dropout`.
    training : bool, default True
        False returns `x` itself (with `out`, copies it there).
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`: heads that are kept, times the number of heads over the number kept in their
        sample. A sample that keeps none is +0.0 throughout.

    Raises
    ------
    TypeError
        `x` or `out` of another dtype; `p`, `seed` or `offset` not numbers of their kind.
    ValueError
        `x` of other than four dimensions, `p` outside [0, 1], an `out` of another shape or read-only.

    Notes
    -----
    Head h of sample b is dropped where U(b heads + h) < p. As the factor is counted, not 1 / (1 - p), and nothing can be
    scaled where all is dropped, E[y] = x (1 - p**heads).

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
    return heads_dropped(x, "x", p, seed, offset, training, out, backend, num_threads)


def drop_head_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `drop_head` with respect to its input: the same mask and factors.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `drop_head`'s result.
    p, offset, training
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used; see `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `drop_head`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones((1, 4, 1, 1), np.float32)
    >>> fastdrop.drop_head_backward(grad, 0.5, seed=42)[0, :, 0, 0]
    array([4., 0., 0., 0.], dtype=float32)
    """
    return heads_dropped(grad, "grad", p, seed, offset, training, out, backend, num_threads)


def heads_dropped(
    x: ArrayLike, name: str, p: float, seed: Any, offset: int, training: bool, out: Any, backend: Any, num_threads: Any
) -> NDArray[Any]:
    """Forward and backward are one: the mask is made again from (seed, offset)."""
    rate, array = plan.as_rate(p), attention_array(x, name, out)
    if not training:
        return plan.dropout(x, rate, seed, offset, False, "inverted", out, 0, backend, num_threads, name == "grad")
    with using(backend=backend, num_threads=num_threads):
        key = plan.key_of(seed, offset, name == "grad")
        heads = plan.old_mask(array.shape[:2], rate, *key, False, 0, None, None)
        return apply_counted(array, heads[:, :, None, None], True, out)


# Keys ---------------------------------------------------------------------------------------------------------------


def drop_key(
    logits: ArrayLike,
    p: float = 0.1,
    *,
    shared: Shared = "none",
    fill: float = -np.inf,
    empty_rows: EmptyRows = "keep",
    allowed: ArrayLike | None = None,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop keys before the softmax: each query loses some, and its probabilities sum to one over the others.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        What the softmax is taken of, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping a key for a query, in [0, 1].
    shared : {"none", "heads", "batch", "both"}
        As in `attention_dropout`.
    fill : float, default -inf
        What a dropped logit becomes, rounded to the dtype. Some code has -1e12.
    empty_rows : {"keep", "fill"}
        What becomes of a query that would lose all its keys: ``"keep"`` leaves it all of them (so that p = 1 drops
        nothing); ``"fill"`` does not, and a softmax of -inf alone is NaN.
    allowed : array_like of bool, optional
        True where a query may attend to a key, of a shape that broadcasts to that of `logits`: the causal mask, say. A
        query is then one that would lose all its keys if it would lose those allowed.
    seed, offset
        As in `dropout`.
    training : bool, default True
        False returns `logits` itself (with `out`, copies it there).
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `logits`. Logits that are kept are not scaled.

    Raises
    ------
    TypeError
        `logits` or `out` of another dtype; `p`, `fill`, `seed` or `offset` not numbers of their kind; `allowed` not of
        bool.
    ValueError
        `logits` of other than four dimensions, `p` outside [0, 1], an unknown `shared` or `empty_rows`, an `allowed` that
        does not broadcast, an `out` of another shape or read-only.

    Notes
    -----
    The decision about query i and key j of head h of sample b is that of its C-order index in an array of shape
    (batch, heads, queries, keys), whose size is 1 along each axis that shares decisions. Where decisions are shared but
    `allowed` is not, a row may be left its keys that another loses.

    References
    ----------
    .. [1] B. Li, Y. Hu, X. Nie, C. Han, X. Jiang, T. Guo, L. Liu, "DropKey for vision transformer", CVPR 2023.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> logits = np.ones((1, 1, 2, 4), np.float32)
    >>> fastdrop.drop_key(logits, 0.5, seed=42)[0, 0]
    array([[  1., -inf, -inf, -inf],
           [-inf,   1.,   1., -inf]], dtype=float32)
    """
    array = attention_array(logits, "logits", out)
    rate, wanted = keys_dropped_how(array.shape, p, shared, empty_rows, allowed)
    filling = fill_of(fill, array.dtype)
    if not training:
        return plan.dropout(logits, rate, seed, offset, False, "inverted", out, 0, backend, num_threads)
    with using(backend=backend, num_threads=num_threads):
        mask = key_mask(array.shape, rate, shared, empty_rows, wanted, *plan.key_of(seed, offset))
        y = apply(array, mask, 1.0, out)
        np.copyto(np.asarray(y), filling, where=~mask)
        return y


def drop_key_backward(
    grad: ArrayLike,
    p: float = 0.1,
    *,
    shared: Shared = "none",
    empty_rows: EmptyRows = "keep",
    allowed: ArrayLike | None = None,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `drop_key` with respect to the logits: zero where dropped.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `drop_key`'s result.
    p, shared, empty_rows, allowed, offset, training
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used; see `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `drop_key`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.full((1, 1, 2, 4), 3, np.float32)
    >>> fastdrop.drop_key_backward(grad, 0.5, seed=42)[0, 0]
    array([[3., 0., 0., 0.],
           [0., 3., 3., 0.]], dtype=float32)
    """
    array = attention_array(grad, "grad", out)
    rate, wanted = keys_dropped_how(array.shape, p, shared, empty_rows, allowed)
    if not training:
        return plan.dropout(grad, rate, seed, offset, False, "inverted", out, 0, backend, num_threads, True)
    with using(backend=backend, num_threads=num_threads):
        mask = key_mask(array.shape, rate, shared, empty_rows, wanted, *plan.key_of(seed, offset, True))
        return apply(array, mask, 1.0, out)


def keys_dropped_how(
    shape: tuple[int, ...], p: Any, shared: Any, empty_rows: Any, allowed: Any
) -> tuple[float, NDArray[np.bool_] | None]:
    """Return the rate and what is allowed, or raise naming what is wrong."""
    rate = plan.as_rate(p)
    shared_axes(shared)
    if empty_rows not in ("keep", "fill"):
        raise ValueError(f"empty_rows must be 'keep' or 'fill'; got {empty_rows!r}")
    if allowed is None:
        return rate, None
    wanted = np.asarray(allowed)
    if wanted.dtype != np.bool_:
        raise TypeError(f"allowed must be of bool, True where a query may attend to a key; got {wanted.dtype}")
    try:
        return rate, np.broadcast_to(wanted, shape)
    except ValueError:
        raise ValueError(f"allowed has shape {wanted.shape}, which does not broadcast to the shape {shape}") from None


def fill_of(fill: Any, dtype: np.dtype[Any]) -> Any:
    """Return what dropped logits become, in their dtype."""
    if isinstance(fill, str) or np.ndim(fill) != 0:
        raise TypeError(f"fill must be a number; got {fill!r}")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        return np.asarray(float(fill)).astype(dtype)


def key_mask(
    shape: tuple[int, ...], rate: float, shared: str, empty_rows: str, allowed: NDArray[np.bool_] | None, seed: int, offset: int
) -> NDArray[np.bool_]:
    """Return a mask that broadcasts to `shape`."""
    mask = plan.old_mask(noise_shape(shape, "element", shared), rate, seed, offset, False, 0, None, None)
    if empty_rows == "keep":
        left = mask if allowed is None else mask & allowed
        mask = mask | ~left.any(axis=-1, keepdims=True)
    return mask


def like_grad(weights: ArrayLike | None, grad: NDArray[Any]) -> NDArray[Any]:
    """Return the forward pass's input, or raise naming what is wrong with it."""
    if weights is None:
        raise TypeError("weights must be given: the gradient of a renormalised row takes the forward pass's input")
    return beside_grad(weights, "weights", grad)
