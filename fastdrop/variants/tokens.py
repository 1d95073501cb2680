"""Dropout for sequences: of word types, of words, of tokens and patches."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import check_indices
from fastdrop._core.settings import using
from fastdrop._core.types import Rate

__all__ = [
    "embedding_dropout",
    "embedding_dropout_backward",
    "patch_dropout",
    "patch_dropout_backward",
    "token_dropout",
    "token_dropout_backward",
    "word_dropout",
    "word_dropout_backward",
]

# Word types ---------------------------------------------------------------------------------------------------------


def checked_tokens(tokens: ArrayLike, shape: tuple[int, ...], num_embeddings: int) -> NDArray[np.int64]:
    """Return token ids for embeddings of `shape`, or raise naming what is wrong."""
    ids = np.asarray(tokens)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"tokens must be an array of integers; got {ids.dtype}")
    if len(shape) != 3 or ids.shape != shape[:2]:
        raise ValueError(f"tokens must have shape (B, T) and x (B, T, D); got {ids.shape} and {shape}")
    check_indices(ids, num_embeddings, "tokens", "the vocabulary")
    return ids.astype(np.int64)


def words_kept(tokens: NDArray[np.int64], p: float, num_embeddings: int, seed: Any, offset: int, per: str) -> NDArray[np.bool_]:
    """Return whether each token's word type is kept: one packed bit a word type is made, and those wanted are read."""
    sequences = len(tokens) if per == "sequence" else 1
    packed = plan.old_mask(sequences * num_embeddings, p, seed, offset, True, 0, None, None)
    index = tokens + num_embeddings * np.arange(sequences)[:, np.newaxis]
    kept: NDArray[np.bool_] = (packed[index >> 3] >> (index & 7).astype(np.uint8) & 1).astype(np.bool_)
    return kept


def drop_words(
    x: ArrayLike,
    p: Rate,
    tokens: ArrayLike | None,
    num_embeddings: int | None,
    per: str,
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
    backward: bool,
) -> NDArray[Any]:
    """`embedding_dropout` and its backward pass: one function, as the mask is a constant."""
    name = "grad" if backward else "x"
    values = plan.as_array(x, name)
    if per not in ("batch", "sequence"):
        raise ValueError(f"per must be 'batch' or 'sequence'; got {per!r}")
    if tokens is None:
        if values.ndim != 2 or per == "sequence" or num_embeddings is not None:
            raise ValueError(
                f"without tokens, {name} is the weight matrix, of shape (V, D), per is 'batch' and num_embeddings its V; "
                f"got shape {values.shape}, per {per!r} and num_embeddings {num_embeddings!r}"
            )
        geometry = plan.geometry_of(None, 1, None, None)
        return plan.dropout(x, p, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, geometry)
    if num_embeddings is None:
        raise ValueError("num_embeddings must be given beside tokens: the size of the vocabulary")
    ids = checked_tokens(tokens, values.shape, plan.as_count(num_embeddings, "num_embeddings"))
    rate = plan.as_rate(p)
    if not training:
        return plan.dropout(x, rate, seed, offset, False, "inverted", out, 0, backend, num_threads, backward)
    if out is not None:
        plan.check_out(out, values)
    with using(backend=backend, num_threads=num_threads):
        keep = words_kept(ids, rate, num_embeddings, *plan.key_of(seed, offset, backward), per)
        with plan.RoundToNearest():
            scale = 1.0 / (1.0 - rate) if rate < 1.0 else 0.0
        return plan.apply_mask(values, keep[..., np.newaxis], scale, out, None, None)


def embedding_dropout(
    x: ArrayLike,
    p: Rate = 0.1,
    *,
    tokens: ArrayLike | None = None,
    num_embeddings: int | None = None,
    per: Literal["batch", "sequence"] = "batch",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop word types: all occurrences of a word together. Kept ones are scaled by 1 / (1 - p).

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The embeddings' weight matrix, of shape (V, D), a row for each word of the vocabulary. With `tokens`, what was
        looked up in it: of shape (B, T, D).
    p : float, default 0.1
        Probability of dropping a word type, in [0, 1]. For the weight matrix also an array that broadcasts to it.
    tokens : array_like of int, optional
        The ids that were looked up: B sequences of T tokens, in [0, num_embeddings).
    num_embeddings : int, optional
        V, the size of the vocabulary. To be given with `tokens`, and only then.
    per : {"batch", "sequence"}
        ``"batch"``: one decision for a word in all sequences, as in the AWD-LSTM; the only one for a weight matrix.
        ``"sequence"``: each sequence decides anew, as in Gal and Ghahramani's code.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; tokens that are not integers, not of shape (B, T) or outside the vocabulary; arguments that do
        not go together.

    See Also
    --------
    word_dropout : each occurrence by itself.

    Notes
    -----
    Word v is dropped where U(v) < p; per sequence, in sequence b, where U(b V + v) < p. Looking words up in the
    dropped matrix, and dropping what was looked up, per batch, give the same bits; the second is the cheaper where the
    vocabulary is large.

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
    >>> y = fastdrop.embedding_dropout(weight[tokens], 0.5, tokens=tokens, num_embeddings=4, per="sequence", seed=42)
    >>> y[..., 0]
    array([[ 2.,  0.,  0.],
           [ 0.,  6., 10.]], dtype=float32)
    """
    return drop_words(x, p, tokens, num_embeddings, per, seed, offset, training, out, backend, num_threads, False)


def embedding_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.1,
    *,
    tokens: ArrayLike | None = None,
    num_embeddings: int | None = None,
    per: Literal["batch", "sequence"] = "batch",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `embedding_dropout` with respect to its input; a dropped word's is +0.0.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `embedding_dropout`'s result, of the same shape.
    p, tokens, num_embeddings, per, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`.

    Raises
    ------
    TypeError, ValueError
        As in `embedding_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.embedding_dropout_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([2., 0., 0., 0.], dtype=float32)
    """
    return drop_words(grad, p, tokens, num_embeddings, per, seed, offset, training, out, backend, num_threads, True)


# Words --------------------------------------------------------------------------------------------------------------


def drop_occurrences(x: ArrayLike, p: Rate, seed: Any, offset: int, training: bool, backward: bool, *run: Any) -> NDArray[Any]:
    """`word_dropout` and its backward pass; `run` is (out, backend, num_threads)."""
    if not np.ndim(x):
        raise ValueError("word_dropout needs the embedding's axis, the last; got a 0-d array")
    out, backend, num_threads = run
    mode = "standard" if training else "inverted"  # never scaled: not in training, not outside it
    geometry = plan.geometry_of(None, -1, None, None)
    return plan.dropout(x, p, seed, offset, training, mode, out, 0, backend, num_threads, backward, geometry)


def word_dropout(
    x: ArrayLike,
    p: Rate = 0.05,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop whole words of sequences, each occurrence by itself; nothing is scaled.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded words, of shape (N, T, D); or any shape with the embedding along the last axis.
    p : float or numpy.ndarray, default 0.05
        Probability of dropping a word, in [0, 1]; an array that broadcasts to `x` gives each word its own.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; a 0-d `x`.

    See Also
    --------
    embedding_dropout : all occurrences of a word together.

    Notes
    -----
    Word t of sequence n is dropped where U(n T + t) < p. Kept words are as they are, as in the library Flair, which
    this function follows; `dropout` with ``shared_axes=-1`` drops the same ones and scales.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.word_dropout(np.ones((2, 4, 3), np.float32), 0.5, seed=42)[..., 0]
    array([[1., 0., 0., 0.],
           [0., 1., 1., 0.]], dtype=float32)
    """
    return drop_occurrences(x, p, seed, offset, training, False, out, backend, num_threads)


def word_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.05,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `word_dropout` with respect to its input.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `word_dropout`'s result, of the same shape.
    p, seed, offset, training
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
        As in `word_dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.word_dropout_backward(np.ones((4, 1), np.float32), 0.5, seed=42).ravel()
    array([1., 0., 0., 0.], dtype=float32)
    """
    return drop_occurrences(grad, p, seed, offset, training, True, out, backend, num_threads)


# Tokens and patches -------------------------------------------------------------------------------------------------


def number_kept(tokens: int, p: float) -> int:
    """Return how many of so many tokens are kept: int(tokens (1 - p)), one at least."""
    with plan.RoundToNearest():
        return min(tokens, max(1, int(tokens * (1.0 - p))))


def choose_tokens(samples: int, tokens: int, p: float, ordered: bool, seed: int, offset: int) -> NDArray[np.int64]:
    """Return the positions of the tokens kept, of shape (samples, number_kept(tokens, p))."""
    if p == 0.0:
        return np.broadcast_to(np.arange(tokens), (samples, tokens))
    halves = numbers.old_words(2 * samples * tokens, seed, offset, 0).astype(np.uint64).reshape(samples, tokens, 2)
    keys = halves[..., 1] << np.uint64(32) | halves[..., 0]
    kept = np.argsort(keys, axis=1, kind="stable")[:, : number_kept(tokens, p)]
    return np.sort(kept, axis=1) if ordered else kept


def checked_choice(x: ArrayLike, p: float, num_prefix_tokens: Any, name: str) -> tuple[NDArray[Any], float, int]:
    """Return an array of (N, L, ...), the rate, and the number of tokens that are always kept, or raise naming one."""
    values, rate = plan.as_array(x, name), plan.as_rate(p)
    if values.ndim < 2:
        raise ValueError(f"{name} must have samples and tokens as its first two axes; got shape {values.shape}")
    prefix = plan.as_count(num_prefix_tokens, "num_prefix_tokens")
    if prefix > values.shape[1]:
        raise ValueError(f"num_prefix_tokens must be at most the {values.shape[1]} tokens of {name}; got {prefix}")
    return values, rate, prefix


def with_prefix(kept: NDArray[np.int64], prefix: int) -> NDArray[np.int64]:
    """Return positions in the whole sequence: those of the prefix, then those of the tokens kept."""
    first = np.broadcast_to(np.arange(prefix), (len(kept), prefix))
    return np.concatenate([first, kept + prefix], axis=1)


def flags_of(positions: NDArray[np.int64], like: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask that broadcasts to an array of (N, L, ...): True at the positions of each sample."""
    flags = np.zeros(like.shape[:2], np.bool_)
    np.put_along_axis(flags, positions, True, axis=1)
    return flags.reshape(flags.shape + (1,) * (like.ndim - 2))


def token_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    num_prefix_tokens: int = 0,
    ordered: bool = True,
    gather: bool = True,
    return_indices: bool = False,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Keep a random subset of the tokens of each sample, of a fixed size; nothing is scaled.

    `patch_dropout` is the same with the defaults of vision transformers.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded tokens, of shape (N, L, D); what follows the first two axes may have any shape.
    p : float, default 0.5
        The part of the tokens to drop, in [0, 1]. Of l tokens max(1, int(l (1 - p))) are kept, computed in float64: one
        stays at p = 1. With p = 0 all stay in their places, whatever `ordered` says.
    num_prefix_tokens : int, default 0
        So many tokens at the beginning of each sample (a class token) are always kept, and not counted in l.
    ordered : bool, default True
        Whether the tokens kept stay in their order. If not, they come in the random order they were chosen in.
    gather : bool, default True
        Whether to return the tokens kept alone. If not, the result has the shape of `x` and the same choice is kept in
        its place; the others are +0.0.
    return_indices : bool, default False
        Whether to return the positions of the tokens kept as well.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: `x` itself is returned.

    Returns
    -------
    numpy.ndarray, or a tuple of two
        The tokens kept, prefix first: of shape (N, num_prefix_tokens + k, D); or of the shape of `x`. Then, if asked
        for, the positions kept, of int64 and shape (N, k), counted from the first token after the prefix.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; an `x` of fewer than two axes, or shorter than its prefix.

    Notes
    -----
    Token t of sample n, counted after the prefix, of l there, takes element i = n l + t of the stream's 64-bit words:
    32-bit words 2 i and 2 i + 1, low and high half. The k smallest of a sample are kept; of two that are equal, the
    token of the lower index counts as the smaller. `ordered` and `gather` do not change which tokens are kept. (Another
    technique of this name, of ESM's protein models, sets to 0 the tokens that its training task masked and rescales the
    others; that involves no random choice.)

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
    values, rate, prefix = checked_choice(x, p, num_prefix_tokens, "x")
    samples, tokens = values.shape[0], values.shape[1] - prefix
    with using(backend=backend, num_threads=num_threads):
        if not training:
            kept = np.tile(np.arange(tokens), (samples, 1))
            result = plan.dropout(x, rate, seed, offset, False, "inverted", None, 0, None, None)
        else:
            kept = choose_tokens(samples, tokens, rate, ordered, *plan.key_of(seed, offset))
            positions = with_prefix(kept, prefix)
            if gather:
                result = values[np.arange(samples)[:, np.newaxis], positions]
            else:
                result = plan.apply_mask(values, flags_of(positions, values), 1.0, None, None, None)
    return (result, kept) if return_indices else result


def token_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    num_tokens: int | None = None,
    num_prefix_tokens: int = 0,
    ordered: bool = True,
    gather: bool = True,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `token_dropout` with respect to its input: scattered to the tokens kept, +0.0 elsewhere.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `token_dropout`'s result, of the same shape.
    num_tokens : int, optional
        L, the number of tokens that the forward pass was given, prefix included. To be given if it gathered.
    p, num_prefix_tokens, ordered, gather, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        Of the shape of `token_dropout`'s `x`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `token_dropout`; where `seed` is None; a `num_tokens` that `grad` does not go with.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.token_dropout_backward(np.ones((2, 3, 1), np.float32), 0.5, num_tokens=6, seed=42)[..., 0]
    array([[0., 1., 1., 1., 0., 0.],
           [0., 0., 0., 1., 1., 1.]], dtype=float32)
    """
    values, rate, prefix = checked_choice(grad, p, num_prefix_tokens, "grad")
    if not training:
        return plan.dropout(grad, rate, seed, offset, False, "inverted", None, 0, backend, num_threads, True)
    if gather and num_tokens is None:
        raise ValueError("num_tokens must be given: the number of tokens of the forward pass, which a gather forgets")
    whole = values.shape[1] if num_tokens is None else plan.as_count(num_tokens, "num_tokens")
    tokens = whole - prefix
    expected = prefix + number_kept(tokens, rate) if gather else whole
    if tokens < 0 or values.shape[1] != expected:
        raise ValueError(
            f"grad has {values.shape[1]} tokens; of num_tokens {whole}, with p {rate} and num_prefix_tokens {prefix}, "
            f"the forward pass returns {max(expected, 0)}"
        )
    with using(backend=backend, num_threads=num_threads):
        kept = choose_tokens(len(values), tokens, rate, ordered, *plan.key_of(seed, offset, True))
        positions = with_prefix(kept, prefix)
        if not gather:
            return plan.apply_mask(values, flags_of(positions, values), 1.0, None, None, None)
        result = np.zeros((len(values), whole, *values.shape[2:]), values.dtype)
        result[np.arange(len(values))[:, np.newaxis], positions] = values
        return result


def patch_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    num_prefix_tokens: int = 1,
    ordered: bool = False,
    return_indices: bool = False,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Keep a random subset of the patches of each image, and the class token: `token_dropout` with other defaults.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Embedded patches, of shape (N, L, D), the class token first.
    p : float, default 0.5
        The part of the patches to drop; as in `token_dropout`.
    num_prefix_tokens : int, default 1
        So many tokens at the beginning of each sample are always kept.
    ordered : bool, default False
        Whether the patches kept stay in their order.
    return_indices, seed, offset, training, backend, num_threads
        As in `token_dropout`.

    Returns
    -------
    numpy.ndarray, or a tuple of two
        As of `token_dropout`, which gathers.

    Raises
    ------
    TypeError, ValueError
        As in `token_dropout`.

    Notes
    -----
    Names and defaults are those of timm's ``PatchDropout``. Which patches are kept, and what a tie means, is what
    `token_dropout` says.

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
    return token_dropout(
        x,
        p,
        num_prefix_tokens=num_prefix_tokens,
        ordered=ordered,
        return_indices=return_indices,
        seed=seed,
        offset=offset,
        training=training,
        backend=backend,
        num_threads=num_threads,
    )


def patch_dropout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    num_tokens: int,
    num_prefix_tokens: int = 1,
    ordered: bool = False,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `patch_dropout` with respect to its input.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `patch_dropout`'s result, of the same shape.
    num_tokens : int
        L, the number of tokens that the forward pass was given, prefix included.
    p, num_prefix_tokens, ordered, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        Of the shape of `patch_dropout`'s `x`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `token_dropout_backward`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.patch_dropout_backward(np.ones((1, 4, 1), np.float32), 0.25, num_tokens=5, seed=42).ravel()
    array([1., 0., 1., 1., 1.], dtype=float32)
    """
    return token_dropout_backward(
        grad,
        p,
        num_tokens=num_tokens,
        num_prefix_tokens=num_prefix_tokens,
        ordered=ordered,
        seed=seed,
        offset=offset,
        training=training,
        backend=backend,
        num_threads=num_threads,
    )
