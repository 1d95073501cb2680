"""Noise, blocks and looked-up words: functions whose values are those of NumPy's callers, through an operator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastdrop._core import plan, pointers
from fastdrop._core.checks import as_finite_number, as_positive_count, as_positive_number
from fastdrop.torch._calls import is_compiling, is_usual, source_of
from fastdrop.torch._functions import drop_word_types
from fastdrop.torch._keys import check_source, draw_tensor
from fastdrop.torch._operators import PER
from fastdrop.torch._pairs import concrete
from fastdrop.torch._tensors import check_memory, check_tensor, ndim_of
from fastdrop.torch._variants import Arguments, check_other, placeholder, refuse_shards, untraced, values_of, vary
from fastdrop.variants.words import checked_tokens

__all__ = ["check_rate_of_noise", "concrete_dropout", "drop_block2d", "embedding_dropout", "gaussian_dropout"]

LARGEST = 2**53  # the operators take numbers as float64


def gaussian_dropout(input: Tensor, p: float = 0.5, training: bool = True, **options: Any) -> Tensor:
    """Multiply each element by a normal number of mean 1 and variance p / (1 - p).

    Parameters
    ----------
    input : torch.Tensor
        Any shape.
    p : float, default 0.5
        The rate of the dropout with the same mean and variance, in [0, 1).
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        A new tensor.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.gaussian_dropout(torch.ones(3), 0.1, seed=42)
    tensor([1.0957, 0.9737, 0.5160])
    """
    if not is_compiling():
        check_rate_of_noise(p)
    elif not is_usual((input,), p, training, source_of(options)) or p == 1:
        return untraced(gaussian_dropout, input, p, training, **options)  # type: ignore[no-any-return]
    return vary(input, "gaussian_dropout", (p,), Arguments(training, options))


def check_rate_of_noise(p: Any) -> None:
    """Raise an error for a rate that is not in [0, 1)."""
    if plan.as_rate(p) == 1:
        raise ValueError("p must be in [0, 1) here: at 1 the noise would have an infinite variance")


def drop_block2d(input: Tensor, p: float = 0.1, block_size: int = 7, training: bool = True, **options: Any) -> Tensor:
    """Drop square blocks of feature maps, and scale the kept elements by 1 / (share of kept elements).

    Parameters
    ----------
    input : torch.Tensor
        Of shape (N, C, H, W).
    p : float, default 0.1
        The intended share of dropped elements, in [0, 1].
    block_size : int, default 7
        The length of a block's sides, at least 1.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        The result of `fastdrop.drop_block`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> y = fastdrop.torch.drop_block2d(torch.ones(2, 3, 8, 8), 0.2, 3, seed=42)
    >>> bool(((y == 0) | (y > 1)).all())
    True
    """
    if ndim_of(input) != 4:
        raise ValueError(f"input must have the dimensions (N, C, H, W); got {input.ndim} dimensions")
    if not is_compiling():
        block_size = min(as_positive_count(block_size, "block_size"), LARGEST)  # an operator's numbers are float64
    elif not (type(block_size) is int and 1 <= block_size <= LARGEST and is_usual((input,), p, training, source_of(options))):
        return untraced(drop_block2d, input, p, block_size, training, **options)  # type: ignore[no-any-return]
    return vary(input, "drop_block2d", (p, block_size), Arguments(training, options))


def embedding_dropout(
    input: Tensor,
    p: float = 0.1,
    training: bool = True,
    inplace: bool = False,
    *,
    tokens: Tensor | None = None,
    num_embeddings: int | None = None,
    per: str = "batch",
    **options: Any,
) -> Tensor:
    """Drop word types, which are all occurrences of a word together.

    Parameters
    ----------
    input : torch.Tensor
        The weight matrix of the embedding, of shape (V, D). With `tokens`, the embeddings that were looked up, of shape
        (B, T, D).
    p : float, default 0.1
        Probability of dropping a word type, in [0, 1].
    training : bool, default True
        False returns `input` itself, and so does ``p=0``.
    inplace : bool, default False
        Whether to write the result to `input`. It must be False with `tokens`.
    tokens : torch.Tensor of integers, optional
        The ids that were looked up, of shape (B, T).
    num_embeddings : int, optional
        V, the size of the vocabulary. It must be given with `tokens`, and only then.
    per : {"batch", "sample"}
        ``"batch"``: one decision per word for all sequences. ``"sample"``, only with `tokens`: one per word and sequence.
    **options
        seed, offset and generator, as for `dropout`; without `tokens` also global_shape and global_start.

    Returns
    -------
    torch.Tensor
        The result of `fastdrop.embedding_dropout`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> weight, tokens = torch.ones(4, 2), torch.tensor([[0, 1, 0]])
    >>> fastdrop.torch.embedding_dropout(weight[tokens], 0.5, tokens=tokens, num_embeddings=4, seed=42)[..., 0]
    tensor([[2., 0., 2.]])
    """
    if tokens is None:
        if not isinstance(per, str) or per != "batch" or num_embeddings is not None:
            raise ValueError(
                f"without tokens, per must be 'batch' and num_embeddings None; got per {per!r} and num_embeddings "
                f"{num_embeddings!r}"
            )
        return drop_word_types(input, p, training, inplace, **options)
    if inplace is not False and plan.check_flag(inplace, "inplace"):
        raise ValueError("inplace must be False with tokens")
    if not isinstance(per, str) or per not in PER:
        raise ValueError(f"per must be 'batch' or 'sample'; got {per!r}")
    if num_embeddings is None:
        raise ValueError("num_embeddings must be given with tokens; it is the size of the vocabulary")
    check_other(tokens, "tokens", input)
    if is_compiling() and not (is_usual((input,), p, training, source_of(options)) and fit(tokens, num_embeddings, input)):
        keywords = {"tokens": tokens, "num_embeddings": num_embeddings, "per": per, **options}
        return untraced(embedding_dropout, input, p, training, **keywords)  # type: ignore[no-any-return]

    def check() -> None:
        _, words = checked_tokens(placeholder(input).shape, "input", values_of(tokens), num_embeddings)
        pointers.check((input.shape[0] if per == "sample" else 1, words), 0.0)

    return vary(input, "embedding_dropout", (p, num_embeddings, PER.index(per)), Arguments(training, options, tokens, check))


def fit(tokens: Tensor, num_embeddings: Any, input: Tensor) -> bool:
    """Return whether ids fit the embeddings; the compiler traces this, without the values of the ids."""
    is_integer = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    return (
        is_integer
        and input.ndim == 3
        and tokens.shape == input.shape[:2]
        and type(num_embeddings) is int
        and num_embeddings > 0
        and num_embeddings * input.shape[0] <= LARGEST
    )


def concrete_dropout(input: Tensor, p_logit: Tensor, temperature: float = 0.1, training: bool = True, **options: Any) -> Tensor:
    """Multiply by a soft mask of rate p = sigmoid(p_logit), so that the rate has a gradient.

    Parameters
    ----------
    input : torch.Tensor
        Any shape.
    p_logit : torch.Tensor
        The logit of the rate: one number.
    temperature : float, default 0.1
        The softness of the mask, above 0.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        The result of `fastdrop.concrete_dropout`, with derivatives of any order with respect to both tensors.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.concrete_dropout(torch.ones(4), torch.tensor(-1.0), seed=42)
    tensor([1.3617, 1.3679, 1.3679, 1.3679])
    """
    source = source_of(options)
    if is_compiling():
        fits = type(temperature) in (int, float) and 0 < temperature < math.inf
        if not (is_usual((input, p_logit), 0.0, training, source) and fits):
            return untraced(concrete_dropout, input, p_logit, temperature, training, **options)  # type: ignore[no-any-return]
    else:
        for tensor, name in ((input, "input"), (p_logit, "p_logit")):
            check_tensor(tensor, name, "call input.cpu() first", "fastdrop.torch.concrete_dropout")
            refuse_shards(tensor, "fastdrop.torch.concrete_dropout")
        check_memory(p_logit, "p_logit", input)
        check_source(source, input)
        plan.check_flag(training, "training")
        as_positive_number(temperature, "temperature")
        if p_logit.numel() == 1:
            as_finite_number(values_of(p_logit.double()).item(), "p_logit")
    if p_logit.numel() != 1:
        raise ValueError(f"p_logit must be one number; got shape {tuple(p_logit.shape)}")
    if not training:
        return input
    return concrete(input, p_logit, draw_tensor(source, input.device), float(temperature))
