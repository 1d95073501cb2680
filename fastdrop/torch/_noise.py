"""Noise, blocks, keys and looked-up words: functions whose values are those of NumPy's callers, through an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdrop._core import plan
from fastdrop.torch._autograd import variant
from fastdrop.torch._calls import source_of
from fastdrop.torch._concrete import concrete
from fastdrop.torch._functions import drop_word_types
from fastdrop.torch._keys import check_source, draw_tensor
from fastdrop.torch._operators import EMPTY_ROWS, PER
from fastdrop.torch._tensors import check_tensor, is_transformed
from fastdrop.variants.attention import check_fill, check_keys, check_shared_axes
from fastdrop.variants.tokens import Lookup

__all__ = ["concrete_dropout", "drop_block2d", "drop_key", "embedding_dropout", "gaussian_dropout"]


def refuse_shards(input: Tensor, name: str) -> None:
    """Raise for a distributed tensor: the operators of this module know no place in a whole."""
    if type(input).__name__ == "DTensor":
        raise NotImplementedError(
            f"fastdrop.torch.{name} takes no DTensor: call it with input.to_local() and another seed in each process, or with "
            "input.full_tensor()"
        )


class Arguments(NamedTuple):
    """The arguments of a function besides the input and the numbers."""

    training: Any
    options: dict[str, Any]
    other: Tensor | None = None
    check: Callable[[], Any] | None = None  # raises the errors of fastdrop's function before a key is drawn


def vary(input: Tensor, name: str, numbers: tuple[Any, ...], given: Arguments) -> Tensor:
    """Return the result of a function of fastdrop; a key is drawn unless the function changes nothing."""
    source, training = source_of(given.options), given.training
    if not torch.compiler.is_compiling():
        check_tensor(input, "input", "call input.cpu() first", f"fastdrop.torch.{name}")
        refuse_shards(input, name)
        check_source(source)
        plan.as_rate(numbers[0])
        plan.check_flag(training, "training")
        if given.check is not None:
            given.check()
    if not training or numbers[0] == 0:
        return input
    return variant(input, draw_tensor(source, input.device), name.removesuffix("2d"), numbers, given.other)


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
    if p == 1:
        raise ValueError("p must be in [0, 1) here: at 1 the noise would have an infinite variance")
    return vary(input, "gaussian_dropout", (p,), Arguments(training, options))


def drop_block2d(input: Tensor, p: float = 0.1, block_size: int = 7, training: bool = True, **options: Any) -> Tensor:
    """Drop square blocks of feature maps, and scale the rest to make up for them.

    Parameters
    ----------
    input : torch.Tensor
        Of shape (N, C, H, W).
    p : float, default 0.1
        How much is meant to be dropped.
    block_size : int, default 7
        The size of a block.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.drop_block`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> y = fastdrop.torch.drop_block2d(torch.ones(2, 3, 8, 8), 0.2, 3, seed=42)
    >>> bool(((y == 0) | (y > 1)).all())
    True
    """
    if input.ndim != 4:
        raise ValueError(f"input must have the dimensions (N, C, H, W); got {input.ndim} dimensions")
    if not isinstance(block_size, int) or block_size < 1:
        raise ValueError(f"block_size must be an integer >= 1; got {block_size!r}")
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
        Whether to write the result to `input`; without `tokens` only.
    tokens : torch.Tensor of integers, optional
        The ids that were looked up, of shape (B, T).
    num_embeddings : int, optional
        V, the size of the vocabulary. It must be given with `tokens`, and only then.
    per : {"batch", "sample"}
        One decision per word for all sequences, or, with `tokens`, one per word and sequence.
    **options
        seed, offset and generator, as for `dropout`; without `tokens` also global_shape and global_start.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.embedding_dropout`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> weight, tokens = torch.ones(4, 2), torch.tensor([[0, 1, 0]])
    >>> fastdrop.torch.embedding_dropout(weight[tokens], 0.5, tokens=tokens, num_embeddings=4, seed=42)[..., 0]
    tensor([[2., 0., 2.]])
    """
    if tokens is None:
        if per != "batch" or num_embeddings is not None:
            raise ValueError(
                f"without tokens, per must be 'batch' and num_embeddings None; got per {per!r} and num_embeddings "
                f"{num_embeddings!r}"
            )
        return drop_word_types(input, p, training, inplace, **options)
    if inplace:
        raise ValueError("inplace must be False with tokens")
    if per not in PER:
        raise ValueError(f"per must be 'batch' or 'sample'; got {per!r}")
    if num_embeddings is None:
        raise ValueError("num_embeddings must be given with tokens; it is the size of the vocabulary")
    check_other(tokens, "tokens")

    def check() -> None:
        Lookup(values_of(tokens), num_embeddings, per).checked(placeholder(input), "input")

    return vary(input, "embedding_dropout", (p, num_embeddings, PER.index(per)), Arguments(training, options, tokens, check))


def drop_key(
    input: Tensor,
    p: float = 0.1,
    training: bool = True,
    *,
    shared_axes: int | Sequence[int] | None = None,
    fill: float = -math.inf,
    empty_rows: str = "keep",
    allowed: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Drop keys before the softmax: each query loses some keys, and its probabilities over the other keys sum to one.

    Parameters
    ----------
    input : torch.Tensor
        The logits, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping a key for a query, in [0, 1].
    training : bool, default True
        False returns `input` itself, and so does ``p=0``.
    shared_axes : int or sequence of int, optional
        Axes that share decisions: 0 (the samples), 1 (the heads), or both.
    fill : float, default -inf
        The value of a dropped logit.
    empty_rows : {"keep", "fill"}
        Whether a query that would lose all its keys keeps or loses them.
    allowed : torch.Tensor of bool, optional
        True where a query may attend to a key, of a shape that broadcasts to that of `input`.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.drop_key`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.drop_key(torch.ones(1, 1, 2, 4), 0.5, seed=42)[0, 0]
    tensor([[1., -inf, -inf, -inf],
            [-inf, 1., 1., -inf]])
    """
    numbers = numbers_of_keys(fill, empty_rows, shared_axes)
    if allowed is not None:
        check_other(allowed, "allowed")

    def check() -> None:
        given = None if allowed is None else values_of(allowed)
        check_keys(placeholder(input), "input", p, shared_axes, empty_rows, given)

    return vary(input, "drop_key", (p, *numbers), Arguments(training, options, allowed, check))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def numbers_of_keys(fill: Any, empty_rows: Any, shared_axes: Any) -> tuple[float, int, int]:
    """Return the arguments of `drop_key` as the operator has them, or raise an error for a bad one."""
    if empty_rows not in EMPTY_ROWS:
        raise ValueError(f"empty_rows must be 'keep' or 'fill'; got {empty_rows!r}")
    return check_fill(fill), EMPTY_ROWS.index(empty_rows), sum(1 << axis for axis in check_shared_axes(shared_axes))


def check_other(tensor: Any, name: str) -> None:
    """Raise unless an operator can take a tensor that has no gradient."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")
    if tensor.device.type not in ("cpu", "meta"):
        raise NotImplementedError(f"{name} must be on the CPU; it is on {tensor.device}")


def values_of(tensor: Tensor) -> Any:
    """Return the values of a tensor; zeros of its shape within a transform or a compiler, where it has none."""
    if tensor.device.type == "cpu" and not (is_transformed() or torch._C._len_torch_dispatch_stack()):
        return tensor.numpy(force=True)
    kind = np.bool_ if tensor.dtype == torch.bool else np.float32 if tensor.dtype.is_floating_point else np.int64
    return np.zeros(tuple(tensor.shape), kind)


def placeholder(input: Tensor) -> Any:
    """Return an array of the shape of a tensor, which needs no memory."""
    return np.broadcast_to(np.float32(0), tuple(input.shape))


def concrete_dropout(input: Tensor, p_logit: Tensor, temperature: float = 0.1, training: bool = True, **options: Any) -> Tensor:
    """Multiply by a softened mask of rate sigmoid(p_logit), through which the rate has a gradient.

    Parameters
    ----------
    input : torch.Tensor
        Any shape.
    p_logit : torch.Tensor
        The logit of the rate, one number.
    temperature : float, default 0.1
        How soft: above 0.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.concrete_dropout`, with derivatives of any order with respect to both tensors.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.concrete_dropout(torch.ones(4), torch.tensor(-1.0), seed=42)
    tensor([1.3617, 1.3679, 1.3679, 1.3679])
    """
    source = source_of(options)
    if not torch.compiler.is_compiling():
        for tensor, name in ((input, "input"), (p_logit, "p_logit")):
            check_tensor(tensor, name, "call input.cpu() first", "fastdrop.torch.concrete_dropout")
            refuse_shards(tensor, "concrete_dropout")
        check_source(source)
        plan.check_flag(training, "training")
        if not temperature > 0:
            raise ValueError(f"temperature must be a finite number > 0; got {temperature!r}")
    if p_logit.numel() != 1:
        raise ValueError(f"p_logit must be one number; got shape {tuple(p_logit.shape)}")
    if not training:
        return input
    return concrete(input, p_logit, *draw_tensor(source, input.device), float(temperature))
