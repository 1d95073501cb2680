"""The operators that the compiler, `torch.export` and the transforms see: `draw`, `dropout`, `variant`, and two pairs.

Each is pure, but for `draw`. `dropout` and `variant` are their own backward passes: nothing is kept between the passes but a
seed of 8 bytes or a key of 16. `concrete` and `attention` each have another operator for the gradient, which needs the input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, library

import fastdrop
from fastdrop._core.pointers import draw_word, drop_memory
from fastdrop.random import Key
from fastdrop.torch._keys import as_signed, refuse_count, words_of
from fastdrop.torch._tensors import check_memory

__all__ = [
    "EMPTY_ROWS",
    "NO_OPERANDS",
    "PER",
    "UNITS",
    "Operands",
    "Place",
    "Rule",
    "backward_of_dropout",
    "backward_of_pair",
    "backward_of_variant",
    "keep_for_backward",
    "keep_for_pair",
    "keep_for_variant",
    "new_rule",
]

Operands = tuple["Tensor | None", "Tensor | None"]  # bias, residual
NO_OPERANDS: Operands = (None, None)
Place = tuple[Sequence[int], "Sequence[int] | None", "Sequence[int] | None"]  # shared axes, global shape, global start


class Rule(NamedTuple):
    """The operation on the elements of a tensor, with all numbers that a backward pass needs."""

    p: float
    seed: int
    offset: int
    factors: Sequence[float] = ()
    place: Place | None = None

    def backward(self) -> Rule:
        """Return the rule of the backward pass: kept elements times the first factor, dropped ones 0."""
        return self if len(self.factors) < 2 else self._replace(factors=self.factors[:1])


new_rule: Any = functools.partial(tuple.__new__, Rule)  # without the call in Python that the class would make


def operator(schema: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that makes a function a pure operator of the same name on CPU tensors."""

    def define(function: Callable[..., Any]) -> Any:
        return library.custom_op(f"fastdrop::{function.__name__}", function, mutates_args=(), device_types="cpu", schema=schema)

    return define


def empty_like_first(x: Tensor, *rest: Any) -> Tensor:
    """Return the result of an operator for a tensor without memory."""
    for each in rest:
        if isinstance(each, Tensor):
            check_memory(each, "each operand", x)  # of tensors with and without memory, PyTorch calls this function
    return torch.empty_like(x)


def refuse_recomputation(what: str) -> None:
    """Raise an error where the compiler may run an operator again in the backward pass, and it could get another seed then."""
    from torch._functorch import config

    if config.activation_memory_budget < 1 or config.aggressive_recomputation:
        raise RuntimeError(
            f"below an activation_memory_budget of 1 or with aggressive_recomputation the compiler may {what} in the backward "
            "pass, which would make another mask: give the function a seed= that is an integer or a Key, with which gradients "
            "are right in any case"
        )


# draw ---------------------------------------------------------------------------------------------------------------


library.define("fastdrop::draw", "(int number, *, Device device) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))


@library.impl("fastdrop::draw", "CompositeExplicitAutograd")
def draw(number: int, *, device: torch.device) -> Tensor:
    """Draw 64 bits from PyTorch's default generator; for a tensor without memory, none.

    `number` differs between the draws of a graph, because the compiler would otherwise merge two draws.
    """
    if device.type == "meta":
        return torch.empty((), dtype=torch.int64, device=device)
    return torch.full((), as_signed(draw_word()), dtype=torch.int64, device=device)


@library.register_fake("fastdrop::draw")  # type: ignore[untyped-decorator]
def _(number: int, *, device: torch.device) -> Tensor:
    refuse_recomputation("draw again")
    return torch.empty((), dtype=torch.int64, device=device)


# snapshot -----------------------------------------------------------------------------------------------------------


library.define("fastdrop::snapshot", "(Tensor seed, bool counts) -> Tensor")


@library.impl("fastdrop::snapshot", "CompositeExplicitAutograd")
def snapshot(seed: Tensor, counts: bool) -> Tensor:
    """Return a copy of a seed. The compiler must keep it: of `clone` it assumes that the seed does not change.

    `counts` says that the seed is that of a layer that counts its calls, which a checkpoint must not repeat.
    """
    if counts:
        refuse_count()
    return seed.clone()


@library.register_fake("fastdrop::snapshot")  # type: ignore[untyped-decorator]
def _(seed: Tensor, counts: bool) -> Tensor:
    refuse_recomputation("read a seed in a tensor again")
    return torch.empty_like(seed)


library.register_vmap(
    "fastdrop::snapshot", lambda info, in_dims, *arguments: (torch.ops.fastdrop.snapshot(*arguments), in_dims[0])
)


# dropout ------------------------------------------------------------------------------------------------------------


@operator(
    "(Tensor x, Tensor? bias, Tensor? residual, Tensor seed, SymInt offset, float p, float[]? factors, int[]? shared_axes, "
    "SymInt[]? global_shape, SymInt[]? global_start) -> Tensor"
)
def dropout(x: Tensor, bias: Tensor | None, residual: Tensor | None, seed: Tensor, offset: int, *numbers: Any) -> Tensor:
    """Return ``residual + dropout(x + bias)``. AOTInductor gives None for a list without elements."""
    p, factors, shared_axes, *place = numbers
    for operand, shape in ((bias, x.shape[-1:]), (residual, x.shape)):
        if operand is not None and (operand.dtype != x.dtype or operand.shape != shape):
            raise ValueError(
                f"each operand must have the dtype and the shape of x, {x.dtype} and {tuple(x.shape)}, or of its last axis for "
                f"bias; got {operand.dtype} and {tuple(operand.shape)}"
            )
    rule = Rule(p, *words_of(seed, offset), factors or (), (shared_axes or (), *place))
    return drop_memory(x, torch.empty_like(x), rule, (bias, residual))


dropout.register_fake(empty_like_first)


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the seed and the numbers of a call of `dropout` for the backward pass."""
    _, bias, _, seed, *ctx.numbers = inputs
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.save_for_backward(seed)


def backward_of_dropout(ctx: Any, grad: Tensor, function: Any) -> tuple[Any, ...]:
    """Return the gradients with respect to the inputs of `dropout`, computed by the same operation, `function`."""
    (seed,) = ctx.saved_tensors
    offset, p, factors, *place = ctx.numbers
    of_x, of_bias, of_residual = ctx.needs_input_grad[:3]
    dx = function(grad, None, None, seed, offset, p, (factors or ())[:1], *place) if of_x or of_bias else None
    dbias = dx.sum_to_size(ctx.bias_shape) if of_bias and dx is not None else None
    return dx, dbias, grad if of_residual else None, *[None] * 7


dropout.register_autograd(
    lambda ctx, grad: backward_of_dropout(ctx, grad, torch.ops.fastdrop.dropout), setup_context=keep_for_backward
)


# variant: what NumPy's callers get, elementwise, linear in x and perhaps a constant -----------------------------------

NUMBERS = {  # the names of the numbers of a function
    "gaussian_dropout": ("p",),
    "drop_block": ("p", "block_size"),
    "embedding_dropout": ("p", "num_embeddings", "per"),
    "drop_key": ("p", "fill", "empty_rows", "shared_axes"),
    "concrete_dropout": ("temperature",),  # which is not linear, nor is the next: see `concrete` and `attention`
    "attention_dropout": ("p", "unit", "window", "exact_rate", "shared_axes"),
}
PER, EMPTY_ROWS, UNITS = ("batch", "sample"), ("keep", "fill"), ("element", "key")
# What a number stands for, unless it is itself.
MEANINGS: dict[str, Callable[[float], Any]] = {
    "block_size": int,
    "num_embeddings": int,
    "per": lambda number: PER[int(number)],
    "empty_rows": lambda number: EMPTY_ROWS[int(number)],
    "unit": lambda number: UNITS[int(number)],
    "window": int,
    "exact_rate": bool,
    "shared_axes": lambda number: tuple(axis for axis in (0, 1) if int(number) >> axis & 1),
}
OTHERS = {"embedding_dropout": "tokens", "drop_key": "allowed"}  # the name of another tensor, without a gradient


def linear_part(name: str, numbers: Sequence[float]) -> list[float]:
    """Return the numbers of the function without its constant part, which computes gradients and tangents."""
    return [0.0 if key == "fill" else number for key, number in zip(NUMBERS[name], numbers, strict=True)]


def arguments_of(name: str, numbers: Sequence[float], seed: Tensor, offset: int) -> dict[str, Any]:
    """Return the keywords for a call of one of fastdrop's functions."""
    given: dict[str, Any] = {key: MEANINGS.get(key, float)(number) for key, number in zip(NUMBERS[name], numbers, strict=True)}
    threads = min(torch.get_num_threads(), fastdrop.get_num_threads())
    return {**given, "seed": Key(*words_of(seed, offset)), "num_threads": threads}


def as_array(x: Tensor) -> Any:
    """Return a NumPy view; for bfloat16, which NumPy does not have, a copy in float32, its compute type."""
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy(force=True)


def like(x: Tensor, found: Any) -> Tensor:
    """Return a NumPy result as a tensor with the dtype and the strides of x."""
    return torch.empty_like(x).copy_(torch.from_numpy(found))


@operator("(Tensor x, Tensor seed, SymInt offset, str name, float[] numbers, Tensor? other=None) -> Tensor")
def variant(x: Tensor, seed: Tensor, offset: int, name: str, numbers: Sequence[float], other: Tensor | None = None) -> Tensor:
    """Return the result of a function of fastdrop for x."""
    given = arguments_of(name, numbers, seed, offset)
    if other is not None:
        given[OTHERS[name]] = other.numpy(force=True)
    return like(x, getattr(fastdrop, name)(as_array(x), **given))


variant.register_fake(empty_like_first)


def keep_for_variant(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, seed, ctx.offset, ctx.name, numbers, other = inputs
    ctx.numbers = linear_part(ctx.name, numbers)
    ctx.save_for_backward(seed, other)


def backward_of_variant(ctx: Any, grad: Tensor, function: Any) -> tuple[Any, ...]:
    seed, other = ctx.saved_tensors
    return function(grad, seed, ctx.offset, ctx.name, ctx.numbers, other), None, None, None, None, None


variant.register_autograd(
    lambda ctx, grad: backward_of_variant(ctx, grad, torch.ops.fastdrop.variant), setup_context=keep_for_variant
)


# concrete: the rate is learned ----------------------------------------------------------------------------------------


@operator("(Tensor x, Tensor p_logit, Tensor seed, SymInt offset, float[] numbers) -> Tensor")
def concrete(x: Tensor, p_logit: Tensor, seed: Tensor, offset: int, numbers: Sequence[float]) -> Tensor:
    """Return `fastdrop.concrete_dropout`."""
    given = arguments_of("concrete_dropout", numbers, seed, offset)
    return like(x, fastdrop.concrete_dropout(as_array(x), p_logit.item(), **given))


concrete.register_fake(empty_like_first)


@operator("(Tensor grad, Tensor x, Tensor p_logit, Tensor seed, SymInt offset, float[] numbers) -> (Tensor, Tensor)")
def concrete_backward(
    grad: Tensor, x: Tensor, p_logit: Tensor, seed: Tensor, offset: int, numbers: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to the input and to the logit of the rate."""
    given = arguments_of("concrete_dropout", numbers, seed, offset)
    dx, dlogit = fastdrop.concrete_dropout_backward(as_array(grad), as_array(x), p_logit.item(), **given)
    return like(grad, dx), torch.full_like(p_logit, float(dlogit))


@concrete_backward.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, x: Tensor, p_logit: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), torch.empty_like(p_logit)


@operator("(Tensor x, Tensor seed, SymInt offset) -> Tensor")
def uniform(x: Tensor, seed: Tensor, offset: int) -> Tensor:
    """Return the uniform number with which `concrete` decides about each element of x, in the compute type."""
    dtype = np.float64 if x.dtype == torch.float64 else np.float32
    return torch.from_numpy(fastdrop.uniform(tuple(x.shape), dtype=dtype, seed=Key(*words_of(seed, offset))))


@uniform.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


# attention: rows are renormalized -------------------------------------------------------------------------------------


@operator("(Tensor x, Tensor seed, SymInt offset, float[] numbers) -> Tensor")
def attention(x: Tensor, seed: Tensor, offset: int, numbers: Sequence[float]) -> Tensor:
    """Return `fastdrop.attention_dropout` with renormalized rows."""
    given = arguments_of("attention_dropout", numbers, seed, offset)
    return like(x, fastdrop.attention_dropout(as_array(x), renormalize=True, **given))


attention.register_fake(empty_like_first)


@operator("(Tensor grad, Tensor x, Tensor seed, SymInt offset, float[] numbers) -> Tensor")
def attention_backward(grad: Tensor, x: Tensor, seed: Tensor, offset: int, numbers: Sequence[float]) -> Tensor:
    """Return the gradient with respect to the probabilities."""
    given = arguments_of("attention_dropout", numbers, seed, offset)
    return like(grad, fastdrop.attention_dropout_backward(as_array(grad), renormalize=True, x=as_array(x), **given))


attention_backward.register_fake(empty_like_first)


# The gradients of both pairs ------------------------------------------------------------------------------------------


def keep_for_pair(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the arguments of an operator of a pair: tensors (the last is the seed), an offset and numbers."""
    *tensors, ctx.offset, ctx.numbers = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def backward_of_pair(ctx: Any, grad: Tensor, function: Any) -> tuple[Any, ...]:
    """Return the gradients with respect to an operator's inputs, by its gradient operator or a replacement of that."""
    found = function(grad, *ctx.saved_tensors, ctx.offset, ctx.numbers)
    return *((found,) if isinstance(found, Tensor) else found), None, None, None


concrete.register_autograd(
    lambda ctx, grad: backward_of_pair(ctx, grad, torch.ops.fastdrop.concrete_backward), setup_context=keep_for_pair
)
attention.register_autograd(
    lambda ctx, grad: backward_of_pair(ctx, grad, torch.ops.fastdrop.attention_backward), setup_context=keep_for_pair
)
