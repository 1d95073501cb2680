"""Concrete Dropout, differentiable to any order: values and gradients by the kernels, further derivatives by PyTorch.

The kernels have the value and the first gradient. What is differentiated beyond that is the same function written with
PyTorch's operations, on the same uniform numbers, so that PyTorch derives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastdrop.torch._autograd import one_by_one
from fastdrop.torch._operators import backward_of_concrete, keep_for_concrete

__all__ = ["concrete"]

EPSILON = 1e-7  # as `fastdrop.concrete_dropout` has them
MOST = 16.0

ops: Any = torch.ops.fastdrop
Function: Any = torch.autograd.Function


class Concrete(Function):  # type: ignore[misc]
    """The operator `concrete` under `torch.func`, and eager."""

    forward = staticmethod(lambda *arguments: ops.concrete(*arguments))
    setup_context = staticmethod(keep_for_concrete)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return backward_of_concrete(ctx, grad, ConcreteBackward.apply)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *tensors, seed = ctx.saved_tensors
        return pushed(value(tensors[0], seed, ctx), tensors, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return one_by_one(Concrete.apply, info.batch_size, in_dims, inputs)


class ConcreteBackward(Function):  # type: ignore[misc]
    """The operator `concrete_backward`, which can be differentiated, too."""

    forward = staticmethod(lambda *arguments: ops.concrete_backward(*arguments))
    setup_context = staticmethod(keep_for_concrete)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        *tensors, seed = ctx.saved_tensors
        return *torch.func.vjp(gradient(tensors[1], seed, ctx), *tensors)[1](grads), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *tensors, seed = ctx.saved_tensors
        return pushed(gradient(tensors[1], seed, ctx), tensors, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return one_by_one(ConcreteBackward.apply, info.batch_size, in_dims, inputs)


def value(x: Tensor, seed: Tensor, ctx: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return Concrete Dropout of x and the logit of its rate, in PyTorch's operations."""
    u, temperature = ops.uniform(x.detach(), seed, ctx.offset), ctx.temperature

    def function(x: Tensor, p_logit: Tensor) -> Tensor:
        logit = p_logit.to(u.dtype).reshape(())
        logit = logit + (logit.clamp(-MOST, MOST) - logit).detach()  # the gradient at a bound is that of its inner side
        p, keep = torch.sigmoid(logit), torch.sigmoid(-logit)
        odds = torch.log((keep + EPSILON) / (p + EPSILON)) + torch.log((1 - u + EPSILON) / (u + EPSILON))
        return (x * (torch.sigmoid(odds / temperature) / keep)).to(x.dtype)

    return function


def gradient(x: Tensor, seed: Tensor, ctx: Any) -> Callable[..., Any]:
    """Return the gradient of the same, a function of the gradient that comes in, of x and of the logit."""
    function = value(x, seed, ctx)
    return lambda grad, x, p_logit: torch.func.vjp(function, x, p_logit)[1](grad)


def pushed(function: Callable[..., Any], inputs: Any, tangents: Any) -> Any:
    """Return the tangent of a function's result: the gradient of its gradient, which is linear in the incoming one."""
    made: Any
    pull: Any
    made, pull, *_ = torch.func.vjp(function, *inputs)
    zeros = torch.zeros_like(made) if isinstance(made, Tensor) else tuple(map(torch.zeros_like, made))
    given = tuple(
        torch.zeros_like(x) if tangent is None else tangent for x, tangent in zip(inputs, tangents[: len(inputs)], strict=True)
    )
    return torch.func.vjp(pull, zeros)[1](given)[0]


def concrete(x: Tensor, p_logit: Tensor, seed: Tensor, offset: int, temperature: float) -> Tensor:
    """Return `fastdrop.concrete_dropout`, with derivatives with respect to x and to the logit of the rate."""
    function = ops.concrete if torch.compiler.is_compiling() else Concrete.apply
    return function(x, p_logit, seed, offset, temperature)  # type: ignore[no-any-return]
