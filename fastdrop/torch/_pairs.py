"""Functions whose gradient is another operation, differentiable to any order: Concrete Dropout, renormalized attention.

The kernels have the value and the first gradient: a pair of operators. What is differentiated beyond that is the same function
written with PyTorch's operations, on the same uniform numbers or the same mask, so that PyTorch derives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, library

from fastdrop.torch._autograd import one_by_one
from fastdrop.torch._operators import backward_of_pair, keep_for_pair
from fastdrop.torch._tensors import is_functionalized

__all__ = ["concrete", "renormalized"]

EPSILON = 1e-7  # as `fastdrop.concrete_dropout` has them
MOST = 16.0
ADDED = 1e-8  # to the sum of a row, as in `fastdrop.attention_dropout`

ops: Any = torch.ops.fastdrop
Function: Any = torch.autograd.Function
is_compiling = torch.compiler.is_compiling
Formula = Callable[[Tensor, Tensor, Any], Callable[..., Tensor]]  # of x, the seed, and what holds the offset and the numbers


# Pairs of Functions -------------------------------------------------------------------------------------------------


def differentiable(operator: Any, gradient_operator: Any, formula: Formula) -> Callable[..., Tensor]:
    """Return the function of an operator, eager and under `torch.func`, for tensors, a seed, an offset and numbers.

    The formula gives the same function of the tensors, in PyTorch's operations.
    """

    def gradient(x: Tensor, seed: Tensor, ctx: Any) -> Callable[..., Any]:
        """Return the gradient of the formula, a function of the incoming gradient and of the tensors."""
        function = formula(x, seed, ctx)

        def pulled(grad: Tensor, *tensors: Tensor) -> Any:
            found: Any = torch.func.vjp(function, *tensors)[1](grad)
            return found if len(found) > 1 else found[0]

        return pulled

    class Gradient(Function):  # type: ignore[misc]
        """The operator of the gradient, which can be differentiated, too."""

        forward = staticmethod(lambda *arguments: gradient_operator(*arguments))
        setup_context = staticmethod(keep_for_pair)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
            *tensors, seed = ctx.saved_tensors
            pull: Any = torch.func.vjp(gradient(tensors[1], seed, ctx), *tensors)[1]
            return *pull(grads if len(grads) > 1 else grads[0]), None, None, None

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            *tensors, seed = ctx.saved_tensors
            return pushed(gradient(tensors[1], seed, ctx), tensors, tangents)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
            return one_by_one(Gradient.apply, info.batch_size, in_dims, inputs)

    class Value(Function):  # type: ignore[misc]
        """The operator."""

        forward = staticmethod(lambda *arguments: operator(*arguments))
        setup_context = staticmethod(keep_for_pair)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
            return backward_of_pair(ctx, grad, gradient_operator if is_compiling() else Gradient.apply)

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            *tensors, seed = ctx.saved_tensors
            return pushed(formula(tensors[0], seed, ctx), tensors, tangents)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
            return one_by_one(Value.apply, info.batch_size, in_dims, inputs)

    def call(*arguments: Any) -> Tensor:
        function = operator if is_compiling() or is_functionalized() else Value.apply
        return function(*arguments)  # type: ignore[no-any-return]

    return call


def pushed(function: Callable[..., Any], inputs: Any, tangents: Any) -> Any:
    """Return the tangent of a function's result: the gradient of its gradient, which is linear in the incoming gradient."""
    made: Any
    pull: Any
    made, pull, *_ = torch.func.vjp(function, *inputs)
    zeros = torch.zeros_like(made) if isinstance(made, Tensor) else tuple(map(torch.zeros_like, made))
    given = tuple(
        torch.zeros_like(x) if tangent is None else tangent for x, tangent in zip(inputs, tangents[: len(inputs)], strict=True)
    )
    return torch.func.vjp(pull, zeros)[1](given)[0]


# Formulas -----------------------------------------------------------------------------------------------------------


def formula_of_concrete(x: Tensor, seed: Tensor, ctx: Any) -> Callable[..., Tensor]:
    """Return concrete dropout as a formula of x and the logit of its rate."""
    u, (temperature,) = ops.uniform(x.detach(), seed, ctx.offset), ctx.numbers

    def function(x: Tensor, p_logit: Tensor) -> Tensor:
        logit = p_logit.to(u.dtype).reshape(())
        logit = logit + (logit.clamp(-MOST, MOST) - logit).detach()  # the gradient at a bound is that of its inner side
        p, keep = torch.sigmoid(logit), torch.sigmoid(-logit)
        odds = torch.log((keep + EPSILON) / (p + EPSILON)) + torch.log((1 - u + EPSILON) / (u + EPSILON))
        return (x * (torch.sigmoid(odds / temperature) / keep)).to(x.dtype)

    return function


def formula_of_attention(x: Tensor, seed: Tensor, ctx: Any) -> Callable[..., Tensor]:
    """Return attention dropout with renormalized rows as a formula of x."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32  # in which it is computed
    kept = ops.attention(torch.ones_like(x, dtype=dtype), seed, ctx.offset, ctx.numbers) > 0

    def function(x: Tensor) -> Tensor:
        row = torch.where(kept, x.to(dtype), 0.0)
        return (row / (row.sum(-1, keepdim=True) + ADDED)).to(x.dtype)

    return function


# Calls --------------------------------------------------------------------------------------------------------------

run_concrete = differentiable(ops.concrete, ops.concrete_backward, formula_of_concrete)
run_attention = differentiable(ops.attention, ops.attention_backward, formula_of_attention)
for operator in (ops.uniform, ops.attention):  # a formula needs its numbers, or its mask, for each of a batch
    library.register_vmap(
        operator.default,
        lambda info, in_dims, *inputs, operator=operator: one_by_one(operator, info.batch_size, in_dims, inputs),
    )


def concrete(x: Tensor, p_logit: Tensor, key: tuple[Tensor, int], temperature: float) -> Tensor:
    """Return `fastdrop.concrete_dropout`, with derivatives with respect to x and to the logit of the rate."""
    return run_concrete(x, p_logit, *key, [temperature])


def renormalized(x: Tensor, key: tuple[Tensor, int], numbers: Sequence[float]) -> Tensor:
    """Return `fastdrop.attention_dropout` with renormalized rows, with its derivatives."""
    return run_attention(x, *key, [float(number) for number in numbers])
