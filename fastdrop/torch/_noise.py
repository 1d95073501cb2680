"""Noise and blocks: functions whose values are those of NumPy's callers, through an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastdrop._core import plan
from fastdrop.torch._autograd import variant
from fastdrop.torch._calls import source_of
from fastdrop.torch._concrete import concrete
from fastdrop.torch._keys import check_source, draw_tensor
from fastdrop.torch._tensors import check_tensor

__all__ = ["concrete_dropout", "drop_block2d", "gaussian_dropout"]


def refuse_shards(input: Tensor, name: str) -> None:
    """Raise for a distributed tensor: the operators of this module know no place in a whole."""
    if type(input).__name__ == "DTensor":
        raise NotImplementedError(
            f"fastdrop.torch.{name} takes no DTensor: call it with input.to_local() and another seed in each process, or with "
            "input.full_tensor()"
        )


def vary(input: Tensor, name: str, numbers: tuple[Any, ...], training: Any, options: dict[str, Any]) -> Tensor:
    """Return what the function of fastdrop makes of the input; it draws a key unless it changes nothing."""
    source = source_of(options)
    if not torch.compiler.is_compiling():
        check_tensor(input, "input", "call input.cpu() first", f"fastdrop.torch.{name}")
        refuse_shards(input, name)
        check_source(source)
        plan.as_rate(numbers[0])
        plan.check_flag(training, "training")
    if not training or numbers[0] == 0:
        return input
    return variant(input, *draw_tensor(source, input.device), name.removesuffix("2d"), *numbers)


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
    return vary(input, "gaussian_dropout", (p,), training, options)


def drop_block2d(input: Tensor, p: float = 0.1, block_size: int = 7, training: bool = True, **options: Any) -> Tensor:
    """Drop square blocks of feature maps, and scale what is left by how much of it there is.

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
    return vary(input, "drop_block2d", (p, block_size), training, options)


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
