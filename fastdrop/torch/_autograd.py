"""Dropout in eager code, by the operators, and under `torch.func`. The gradient of each is the same operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastdrop._core.pointers import drop_memory, eager_plain, is_plain, register_functions
from fastdrop.torch._keys import as_signed
from fastdrop.torch._operators import (
    NO_OPERANDS,
    Operands,
    Rule,
    backward_of_dropout,
    backward_of_variant,
    keep_for_backward,
    keep_for_variant,
    new_rule,
)
from fastdrop.torch._tensors import has_tangents, is_batch, is_functionalized, is_transformed

__all__ = ["by_operator", "eager", "one_by_one", "variant"]

ops: Any = torch.ops.fastdrop
Function: Any = torch.autograd.Function
empty_like, is_grad_enabled, is_compiling = torch.empty_like, torch.is_grad_enabled, torch.compiler.is_compiling


# Eager --------------------------------------------------------------------------------------------------------------


class Eager(Function):  # type: ignore[misc]
    """Dropout of a plain tensor. Nothing is saved but the rule, which has two integers for the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Rule, in_place: bool) -> Tensor:
        ctx.rule = rule
        if not in_place:
            return drop_memory(x, empty_like(x), rule, NO_OPERANDS)
        ctx.mark_dirty(x)
        ctx.in_place = True
        return drop_memory(x, x, rule, NO_OPERANDS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        rule = ctx.rule
        if len(rule[3]) > 1:  # by its number: every backward pass comes along here
            rule = rule.backward()
        if not is_compiling() and is_plain(grad) and not is_grad_enabled():
            try:
                return drop_memory(grad, empty_like(grad), rule, NO_OPERANDS), None, None
            except RuntimeError:
                if not is_batch(grad):
                    raise
        return eager(grad, rule), None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: Any) -> Tensor:
        result = eager(x, ctx.rule.backward())
        return x.copy_(result) if hasattr(ctx, "in_place") else result  # PyTorch wants the tangent in place as well


class EagerAdd(Function):  # type: ignore[misc]
    """Dropout of ``x + bias``, with a residual added to the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Rule, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        ctx.rule, ctx.bias_shape = rule, None if bias is None else bias.shape
        return drop_memory(x, empty_like(x), rule, (bias, residual))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        of_x, _, of_bias, of_residual = ctx.needs_input_grad
        dx = eager(grad, ctx.rule) if of_x or of_bias else None
        dbias = dx.sum_to_size(ctx.bias_shape) if of_bias and dx is not None else None
        return dx, None, dbias, grad if of_residual else None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, _rule: Any, bias: Tensor | None, residual: Tensor | None) -> Any:
        return eager(x, ctx.rule, False, (bias, residual))  # of operands without a tangent, PyTorch gives zeros


# `Function.apply` without what it does for transforms: `is_plain` has seen that there are none.
register_functions(new_rule, super(Function, Eager).apply, super(Function, EagerAdd).apply)


def eager(x: Tensor, rule: Rule, in_place: bool = False, more: Operands = NO_OPERANDS) -> Tensor:
    """Return ``residual + dropout(x + bias)`` of checked tensors; `more` is (bias, residual)."""
    if is_compiling() or not is_plain(x) or is_batch(x):  # a gradient may be of any kind, and compiled autograd traces this
        return by_operator(x, torch.full((), as_signed(rule.seed), dtype=torch.int64), rule, more)
    return eager_plain(x, rule, in_place, more)


# By the operators ---------------------------------------------------------------------------------------------------


def by_operator(x: Tensor, seed: Tensor, rule: Rule, more: Operands = NO_OPERANDS) -> Tensor:
    """Return the result of `eager` with a tensor as seed, by an operator: for compilers, tensors without memory, transforms."""
    place = rule.place or ((), None, None)
    function = Transformed.apply if (is_transformed() or has_tangents()) and not is_functionalized() else ops.dropout
    arguments = (x, *more, seed, as_signed(rule.offset), rule.p, list(rule.factors), list(place[0]), *place[1:])
    return function(*arguments)  # type: ignore[no-any-return]


class Transformed(Function):  # type: ignore[misc]
    """The operator `dropout` under `torch.func` and in forward mode: gradients, tangents, batches."""

    forward = staticmethod(lambda *arguments: ops.dropout(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        keep_for_backward(ctx, inputs, output)
        ctx.save_for_forward(inputs[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return backward_of_dropout(ctx, grad, Transformed.apply)

    @staticmethod
    def jvp(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor | None, *_: Any) -> Any:
        (seed,) = ctx.saved_tensors
        offset, p, factors, *place = ctx.numbers
        return Transformed.apply(x, bias, residual, seed, offset, p, factors[:1], *place)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, bias: Any, residual: Any, seed: Tensor, *numbers: Any) -> Any:
        """Apply one mask to the whole batch for one seed, as along a shared axis; for a batch of seeds, a mask for each."""
        if in_dims[0] is None or in_dims[1] is not None or in_dims[3] is not None:
            return one_by_one(Transformed.apply, info.batch_size, in_dims, (x, bias, residual, seed, *numbers))
        offset, p, factors, shared, whole, begin = numbers
        x = x.movedim(in_dims[0], 0)
        if residual is not None:
            residual = residual.expand_as(x) if in_dims[2] is None else residual.movedim(in_dims[2], 0)
        if bias is not None:
            bias = bias.expand(x.shape[-1:])  # of 0-d examples, whose only axis is the batch now
        shared = [0, *(axis + 1 for axis in shared)]
        if whole is not None:
            whole, begin = [info.batch_size, *whole], None if begin is None else [0, *begin]
        return Transformed.apply(x, bias, residual, seed, offset, p, factors, shared, whole, begin), 0


def one_by_one(function: Any, size: int, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the results of a function for each element of a batch, stacked, and the axis of the batch."""

    def example(i: int) -> list[Any]:
        pairs = zip(inputs, in_dims, strict=True)
        return [each if dim is None or not isinstance(each, Tensor) else select(each, dim, i) for each, dim in pairs]

    def select(batch: Tensor, dim: int, i: int) -> Tensor:
        """Return an element; of an empty batch zeros, whose results have the right shapes."""
        return batch.select(dim, i) if size else batch.new_zeros(batch.movedim(dim, 0).shape[1:])

    found = [function(*example(i)) for i in range(max(size, 1))]
    if isinstance(found[0], Tensor):
        return torch.stack(found)[:size], 0
    return tuple(torch.stack(each)[:size] for each in zip(*found, strict=True)), (0,) * len(found[0])


# Variants -----------------------------------------------------------------------------------------------------------


class Variant(Function):  # type: ignore[misc]
    """The operator `variant` under `torch.func` and in eager code. Its gradient is its linear part."""

    forward = staticmethod(lambda *arguments: ops.variant(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        keep_for_variant(ctx, inputs, output)
        ctx.save_for_forward(inputs[1], inputs[5])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return backward_of_variant(ctx, grad, ops.variant if is_compiling() else Variant.apply)

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: Any) -> Any:
        seed, other = ctx.saved_tensors
        return Variant.apply(x, seed, ctx.offset, ctx.name, ctx.numbers, other)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return one_by_one(Variant.apply, info.batch_size, in_dims, inputs)


def variant(x: Tensor, key: tuple[Tensor, int], name: str, numbers: Sequence[float], other: Tensor | None) -> Tensor:
    """Return the result of a function of fastdrop that is elementwise, and linear apart from a constant."""
    function = ops.variant if is_compiling() or is_functionalized() else Variant.apply
    return function(x, *key, name, [float(number) for number in numbers], other)  # type: ignore[no-any-return]
