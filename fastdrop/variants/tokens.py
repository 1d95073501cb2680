"""Dropout of tokens: of each sample some tokens or patches are kept; the others are left out, or become +0.0."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._masks import whole_part

__all__ = ["patch_dropout", "patch_dropout_backward", "token_dropout", "token_dropout_backward"]

MASKED_AXES = 32  # NumPy sets no mask of more


def token_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    num_prefix_tokens: int = 0,
    ordered: bool = True,
    gather: bool = True,
    return_indices: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> Any:
    """Keep a random subset, of a fixed size, of the tokens of each sample; nothing is scaled.

    `patch_dropout` is the same function with the defaults of vision transformers.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded tokens, of shape (N, L, D); the axes after the first two may be any.
    p : float, default 0.5
        The share of the tokens to drop, in [0, 1]. Of l tokens, max(1, floor(l (1 - p))) are kept: one for p = 1. For p = 0 all
        stay in their order, also with ``ordered=False``.
    num_prefix_tokens : int, default 0
        The number of tokens at the beginning of each sample (a class token, for example) that are always kept and that are not
        counted in l.
    ordered : bool, default True
        Whether the kept tokens stay in their order. If not, they come in the random order of their choice.
    gather : bool, default True
        Whether to return only the kept tokens. If not, the result has the shape of `x`, and the tokens that are not kept are
        +0.0.
    return_indices : bool, default False
        Whether to return the positions of the kept tokens as well.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray, or a tuple of two
        `out`, or a new array; outside training `x` itself. It holds the kept tokens, prefix first, with the shape
        (N, num_prefix_tokens + k, D); without `gather`, it has the shape of `x`. With `return_indices`, the second array holds
        the kept positions: of int64 and shape (N, k), counted from the first token after the prefix.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; for an `x` of fewer than two axes, or shorter than its prefix.

    Notes
    -----
    The number of kept tokens is exact, although 1 - p is rounded: a product that is at most l 2**-52 below an integer counts as
    this integer. Of 10 tokens with p = 0.8, two are kept.

    Token t of sample n, counted after the prefix, takes element i = n l + t of the stream's 64-bit words: the 32-bit words 2 i
    and 2 i + 1 are its low and high half. The tokens with the k smallest words of a sample are kept; of two equal words, the
    one with the lower index counts as the smaller. `ordered` and `gather` do not change the choice of tokens. The choice
    depends on the words of all tokens of a sample, so the function has no `start` and no `global_shape`.

    ESM's protein models use another technique of this name: it sets the tokens that the training task masked to 0 and rescales
    the others, without a random choice.

    References
    ----------
    .. [1] Y. Liu, C. Matsoukas, F. Strand, H. Azizpour, K. Smith, "PatchDropout: economizing vision transformers using
       patch dropout", WACV 2023.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(12, dtype=np.float32).reshape(2, 6, 1)
    >>> y, kept = fastdrop.token_dropout(x, 0.5, return_indices=True, seed=42)
    >>> y[..., 0]
    array([[ 1.,  2.,  3.],
           [ 9., 10., 11.]], dtype=float32)
    >>> kept
    array([[1, 2, 3],
           [3, 4, 5]])
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads)
    choice = choose(x, "x", p, num_prefix_tokens, (ordered, gather))
    return_indices = plan.check_flag(return_indices, "return_indices")
    result, kept = keep_tokens(x, choice, call)
    return (result, kept) if return_indices else result


@backward_of(token_dropout)
def token_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    num_tokens: int | None = None,
    num_prefix_tokens: int = 0,
    ordered: bool = True,
    gather: bool = True,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `token_dropout` with respect to its input: `grad` at the kept tokens, +0.0 elsewhere.

    Parameters
    ----------
    num_tokens : int, optional
        L, the number of tokens of the input of the forward pass, prefix included. It is required with `gather`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array, of the shape of `token_dropout`'s `x`; outside training `grad` itself.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.token_dropout_backward(np.ones((2, 3, 1), np.float32), 0.5, num_tokens=6, seed=42)[..., 0]
    array([[0., 1., 1., 1., 0., 0.],
           [0., 0., 0., 1., 1., 1.]], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads, backward=True)
    gathered = plan.check_flag(gather, "gather") and call.is_training
    if gathered and num_tokens is None:
        raise ValueError("num_tokens, the number of tokens of the forward pass, must be given if grad is gathered")
    tokens = None if num_tokens is None else plan.as_count(num_tokens, "num_tokens")
    choice = choose(grad, "grad", p, num_prefix_tokens, (ordered, gather), tokens)
    return scatter_tokens(grad, choice, call)


def patch_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    num_prefix_tokens: int = 1,
    ordered: bool = False,
    return_indices: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> Any:
    """Keep a random subset of the patches of each image, and the class token: `token_dropout` with other defaults.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded patches, of shape (N, L, D), the class token first.
    p : float, default 0.5
        The share of the patches to drop; as in `token_dropout`.
    num_prefix_tokens : int, default 1
        The number of tokens at the beginning of each sample that are always kept.
    ordered : bool, default False
        Whether the kept patches stay in their order.
    return_indices : bool, default False
        As in `token_dropout`.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray, or a tuple of two
        As in `token_dropout` with ``gather=True``.

    Raises
    ------
    TypeError, ValueError
        As in `token_dropout`.

    Notes
    -----
    Names and defaults are those of timm's ``PatchDropout``. The Notes of `token_dropout` define the choice of the patches and
    the treatment of ties.

    References
    ----------
    .. [1] Y. Liu, C. Matsoukas, F. Strand, H. Azizpour, K. Smith, "PatchDropout: economizing vision transformers using
       patch dropout", WACV 2023.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    >>> fastdrop.patch_dropout(x, 0.25, seed=42).ravel()
    array([0., 3., 2., 4.], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads)
    choice = choose(x, "x", p, num_prefix_tokens, (ordered, True))
    return_indices = plan.check_flag(return_indices, "return_indices")
    result, kept = keep_tokens(x, choice, call)
    return (result, kept) if return_indices else result


@backward_of(patch_dropout)
def patch_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    num_tokens: int,
    num_prefix_tokens: int = 1,
    ordered: bool = False,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `patch_dropout` with respect to its input.

    Parameters
    ----------
    num_tokens : int
        L, the number of tokens of the input of the forward pass, prefix included.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array, of the shape of `patch_dropout`'s `x`; outside training `grad` itself.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.patch_dropout_backward(np.ones((1, 4, 1), np.float32), 0.25, num_tokens=5, seed=42).ravel()
    array([1., 0., 1., 1., 1.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads, backward=True)
    tokens = plan.as_count(num_tokens, "num_tokens")
    return scatter_tokens(grad, choose(grad, "grad", p, num_prefix_tokens, (ordered, True), tokens), call)


class Choice(NamedTuple):
    """The checked arguments that select the kept tokens."""

    p: float
    prefix: int
    gather: bool
    tokens: int  # of a sample, those of the prefix included
    kept: int  # of the tokens after the prefix, at least one
    counts: tuple[int, int, bool, bool]  # of tokens after the prefix, and of kept ones; whether all are kept; whether in order


def choose(x: NDArray[Any], name: str, p: Any, prefix: Any, flags: tuple[Any, Any], tokens: int | None = None) -> Choice:
    """Return the choice among this number of tokens, by default those of x, or raise an error for a bad argument.

    `flags` are the arguments `ordered` and `gather`.
    """
    if not (type(p) is float and type(prefix) is int and type(flags[0]) is type(flags[1]) is bool):
        p, prefix = plan.as_rate(p), plan.as_count(prefix, "num_prefix_tokens")
        flags = plan.check_flag(flags[0], "ordered"), plan.check_flag(flags[1], "gather")
    return make_choice(x.shape, name, p, prefix, *flags, tokens)  # the shape as the conversions left it


@plan.remembering(256)
def make_choice(
    shape: tuple[int, ...], name: str, p: float, prefix: int, in_order: bool, gathers: bool, tokens: int | None
) -> Choice:
    """Return the choice for an array of a shape."""
    rate, before = plan.as_rate(p), plan.as_count(prefix, "num_prefix_tokens")
    if len(shape) < 2:
        raise ValueError(f"{name} must have samples and tokens as its first two axes; got shape {shape}")
    number = shape[1] if tokens is None else tokens
    if before > max(number, shape[1]):
        raise ValueError(f"num_prefix_tokens must be at most the {shape[1]} tokens of {name}; got {before}")
    free = number - before
    kept = min(free, max(1, whole_part(free, rate, True)))
    return Choice(rate, before, gathers, number, kept, (free, kept, not plan.sign(rate), in_order))


def keep_in_place(x: NDArray[Any], choice: Choice, call: Call) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the array with +0.0 for all tokens that are not kept, and the kept positions after the prefix."""
    with call.arrays(x) as run:
        chosen = numbers.choose_tokens(run.own_call(), len(run.x), choice.counts)
        flags = np.zeros(run.x.shape[:2], np.bool_)
        flags[:, : choice.prefix] = True
        np.put_along_axis(flags, chosen + choice.prefix, True, axis=1)
        run.apply(flags.reshape(flags.shape + (1,) * (run.x.ndim - 2)))
        return run.result(), chosen


def keep_tokens(x: NDArray[Any], choice: Choice, call: Call) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the kept tokens, gathered or in place, and their positions after the prefix."""
    if not call.is_training:
        return call.unchanged(x), np.tile(np.arange(choice.counts[0]), (x.shape[0], 1))
    if not choice.gather:
        return keep_in_place(x, choice, call)
    check_mask(x, "x")
    kept, chosen = numbers.move_tokens(call, x, choice.prefix, choice.counts)
    if isinstance(x, np.ma.MaskedArray) and isinstance(kept, np.ma.MaskedArray):  # NumPy keeps no mask of another shape
        kept.mask = np.ma.getmaskarray(x)[positions(chosen, choice.prefix)]
    return kept, chosen


def scatter_tokens(grad: NDArray[Any], choice: Choice, call: Call) -> NDArray[Any]:
    """Return the gradient of `keep_tokens`."""
    given, gathered = grad.shape[1], choice.gather and call.is_training
    expected = choice.prefix + choice.kept if gathered else choice.tokens
    if choice.counts[0] < 0 or given != expected:
        raise ValueError(
            f"grad must have {max(expected, 0)} tokens, as the result of the forward pass with num_tokens {choice.tokens}, "
            f"p {choice.p} and num_prefix_tokens {choice.prefix}; got {given}"
        )
    if not call.is_training:
        return call.unchanged(grad)
    if not choice.gather:
        return keep_in_place(grad, choice, call)[0]
    check_mask(grad, "grad")
    moved, chosen = numbers.move_tokens(call, grad, choice.prefix, choice.counts, scatter=True)
    if isinstance(grad, np.ma.MaskedArray) and isinstance(moved, np.ma.MaskedArray):
        mask = np.zeros(moved.shape, np.bool_)
        mask[positions(chosen, choice.prefix)] = np.ma.getmaskarray(grad)
        moved.mask = mask
    return moved


def check_mask(x: NDArray[Any], name: str) -> None:
    """Raise an error if the mask of a masked array could not be moved with its tokens."""
    if isinstance(x, np.ma.MaskedArray) and x.ndim > MASKED_AXES:
        raise ValueError(f"{name} must have at most {MASKED_AXES} axes if it is a masked array; got {x.ndim}")


def positions(chosen: NDArray[np.int64], prefix: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the prefix and the chosen tokens, along the axes of samples and tokens."""
    samples = len(chosen)
    first = np.broadcast_to(np.arange(prefix), (samples, prefix))
    return np.arange(samples)[:, np.newaxis], np.concatenate([first, chosen + prefix], axis=1)
