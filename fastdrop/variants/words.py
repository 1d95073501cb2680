"""Dropout of words: of word types (all occurrences of a word together), and of single occurrences."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import check_indices
from fastdrop._core.plan import Call, Decisions
from fastdrop._core.types import Backend, FixedSeed, Mode, Per, Rate, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["embedding_dropout", "embedding_dropout_backward", "word_dropout", "word_dropout_backward"]

# Word types ---------------------------------------------------------------------------------------------------------


def embedding_dropout(
    x: ArrayLike,
    p: Rate = 0.1,
    *,
    tokens: ArrayLike | None = None,
    num_embeddings: int | None = None,
    per: Per = "batch",
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
    """Drop word types: all occurrences of a word together. Kept words are scaled by 1 / (1 - p).

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The weight matrix of the embedding, of shape (V, D), with one row per word of the vocabulary. With `tokens`, the
        embeddings that were looked up, of shape (B, T, D).
    p : float or numpy.ndarray, default 0.1
        Probability of dropping a word type, in [0, 1]. An array that broadcasts to the weight matrix is allowed without
        `tokens` only.
    tokens : array_like of int, optional
        The ids that were looked up: B sequences of T tokens, in [0, num_embeddings).
    num_embeddings : int, optional
        V, the size of the vocabulary. It must be given with `tokens`, and only then.
    per : {"batch", "sample"}
        ``"batch"``: one decision per word for all sequences, as in the AWD-LSTM; a weight matrix allows only this.
        ``"sample"``: one decision per word and sequence, as in Gal and Ghahramani's code.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; for tokens that are not integers, not of shape (B, T) or outside the vocabulary; for arguments that do
        not fit together.
    MemoryError
        With `tokens`, the call makes a mask of the whole vocabulary, of one bit per decision, which does not fit into memory.

    See Also
    --------
    word_dropout : drops each occurrence independently.

    Notes
    -----
    Word v is dropped if U(v) < p; with ``per="sample"``, it is dropped in sequence b if U(b V + v) < p. A look-up in the
    dropped matrix and dropping looked-up embeddings with ``per="batch"`` give the same bits; the second costs less for a large
    vocabulary.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
       NIPS 2016.
    .. [2] S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    >>> fastdrop.embedding_dropout(weight, 0.5, seed=42)
    array([[2., 4.],
           [0., 0.],
           [0., 0.],
           [0., 0.]], dtype=float32)

    Two sequences, each with its own decisions; word 1 comes twice in the first:

    >>> tokens = np.array([[0, 1, 1], [0, 1, 2]])
    >>> y = fastdrop.embedding_dropout(weight[tokens], 0.5, tokens=tokens, num_embeddings=4, per="sample", seed=42)
    >>> y[..., 0]
    array([[ 2.,  0.,  0.],
           [ 0.,  6., 10.]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return drop_words(x, p, tokens, num_embeddings, per, call)


@backward_of(embedding_dropout)
def embedding_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.1,
    *,
    tokens: ArrayLike | None = None,
    num_embeddings: int | None = None,
    per: Per = "batch",
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
    """Return the gradient of `embedding_dropout` with respect to its input; that of a dropped word is +0.0.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.embedding_dropout_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return drop_words(grad, p, tokens, num_embeddings, per, call)


def drop_words(x: NDArray[Any], p: Any, tokens: Any, num_embeddings: Any, per: Any, call: Call) -> NDArray[Any]:
    """Forward and backward are one: the mask is a constant."""
    if not plan.is_one_of(per, ("batch", "sample")):
        raise ValueError(f"per must be 'batch' or 'sample'; got {per!r}")
    shape = x.shape
    if tokens is None:
        if len(shape) != 2 or per == "sample" or num_embeddings is not None:
            raise ValueError(
                f"without tokens, {call.array_name()} must be a weight matrix of shape (V, D), per must be 'batch', and "
                f"num_embeddings must be None; got shape {shape}, per {per!r} and num_embeddings {num_embeddings!r}"
            )
        return call.drop(x, p, 1)
    ids, words = checked_tokens(shape, call.array_name(), tokens, num_embeddings)
    rate = plan.as_rate(p)
    if not call.is_training:
        return call.unchanged(x)
    return call.drop_classes(x, rate, mask_of_tokens(shape), ids, words, per == "sample")


def checked_tokens(shape: tuple[int, ...], name: str, tokens: Any, num_embeddings: Any) -> tuple[NDArray[np.int64], int]:
    """Return the tokens of an array of looked-up embeddings and the size of the vocabulary, or raise an error."""
    ids = np.asarray(plan.to_array(tokens, "tokens"))
    if num_embeddings is None:
        raise ValueError("num_embeddings must be given with tokens; it is the size of the vocabulary")
    words = plan.as_count(num_embeddings, "num_embeddings")
    are_indices = plan.are_indices(ids, words)
    if not are_indices and ids.dtype.kind not in "iu":
        raise TypeError(f"tokens must be an array of integers; got {ids.dtype}")
    if len(shape) != 3 or ids.shape != shape[:2]:
        raise ValueError(f"tokens must have shape (B, T) and {name} (B, T, D); got {ids.shape} and {shape}")
    if not are_indices:
        check_indices(ids, words, "tokens", "the vocabulary")
        ids = np.require(ids, np.int64, ("C", "ALIGNED"))
    return ids, words


@functools.lru_cache(maxsize=256)
def mask_of_tokens(shape: tuple[int, ...]) -> Decisions:
    """Return a mask with one decision per token of each sequence."""
    return Decisions(shape, (0, 1))


# Single occurrences -------------------------------------------------------------------------------------------------


def word_dropout(
    x: ArrayLike,
    p: Rate = 0.05,
    *,
    mode: Mode = "inverted",
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
    """Drop whole words of sequences, each occurrence independently.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded words, of shape (N, T, D); or any shape with the embedding along the last axis.
    p : float or numpy.ndarray, default 0.05
        Probability of dropping a word, in [0, 1]; an array that broadcasts to `x` gives each word its own rate.
    mode : {"inverted", "standard", "unscaled"}
        As in `dropout`. The library Flair uses ``"unscaled"``.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a 0-d `x`.

    See Also
    --------
    embedding_dropout : all occurrences of a word together.

    Notes
    -----
    Word t of sequence n is dropped if U(n T + t) < p. This is `dropout` with ``shared_axes=-1``. Before the embedding, the same
    words become another token by ``numpy.where(fastdrop.dropout_mask(tokens.shape, p, seed=key), tokens, unknown)``.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.word_dropout(np.ones((2, 4, 3), np.float32), 0.5, mode="unscaled", seed=42)[..., 0]
    array([[1., 0., 0., 0.],
           [0., 1., 1., 0.]], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, embedding_axis(x), mode=mode)


@backward_of(word_dropout)
def word_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.05,
    *,
    mode: Mode = "inverted",
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
    """Return the gradient of `word_dropout` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.word_dropout_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, embedding_axis(grad), mode=mode)


def embedding_axis(x: NDArray[Any]) -> tuple[int]:
    """Return the last axis, or raise an error for a 0-d array."""
    if not x.ndim:
        raise ValueError("word_dropout needs an axis of embeddings, the last axis; got a 0-d array")
    return (x.ndim - 1,)
