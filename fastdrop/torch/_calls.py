"""The call that all functions that drop make: check everything, draw a key, and run the operation on the kind of tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fastdrop.torch._native as _native
from fastdrop._core import plan, pointers
from fastdrop._core.checks import fixed
from fastdrop._core.pointers import eager_plain, is_plain
from fastdrop.random import Key
from fastdrop.torch._autograd import by_operator
from fastdrop.torch._keys import DEFAULT, Source, as_int, as_ints, check_source, draw_key, draw_tensor
from fastdrop.torch._operators import NO_OPERANDS, Operands, Place, Rule, new_rule
from fastdrop.torch._tensors import (
    check_in_place,
    check_memory,
    check_tensor,
    has_tangents,
    is_acceptable,
    is_sharded,
    is_transformed,
    lacks_memory,
)

__all__ = ["NOTHING", "Given", "Placement", "Target", "drop", "given_of", "is_usual", "outside", "source_of"]


class Target(NamedTuple):
    """The properties of a function that `drop` needs."""

    name: str
    instead: str  # what an error suggests for a tensor on another device
    factors: Callable[[float], tuple[float, ...]] | None = None  # of a rate, unless they are 1 / (1 - p)
    operand: str = "input"  # the name of the tensor
    as_rate: Callable[[Any], float] = plan.as_rate  # raises the errors of a rate


def target(name: str, **properties: Any) -> Target:
    """Return the properties of the named function that `drop` needs."""
    native = hasattr(torch.nn.functional, name)
    instead = f"call torch.nn.functional.{name} there" if native else "call input.cpu() first"
    return Target(f"fastdrop.torch.{name}", instead, **properties)


class Placement(NamedTuple):
    """The caller's arguments for the place of a mask over a tensor."""

    noise_shape: Any = None
    shared_axes: Any = None
    global_shape: Any = None
    global_start: Any = None

    def resolved(self, ndim: int) -> Place:
        """Return the arguments in integers of Python, with axes counted from the front."""
        noise, shared, whole, begin = self
        if noise is not None:
            axes = [k for k, size in enumerate(noise) if size == 1]
        else:
            given = () if shared is None else (shared,) if isinstance(shared, int) else shared
            if not isinstance(given, (tuple, list)):
                given = plan.as_axes(given, ndim, "shared_axes")
            axes = [as_int(axis + ndim if axis < 0 else axis) for axis in given]
        return tuple(axes), as_ints(whole), as_ints(begin)

    def is_traceable(self, shape: Sequence[int]) -> bool:
        """Return whether a graph can contain the place, and the place is right; the compiler traces this."""
        noise, shared, whole, begin = self
        ndim, sizes = len(shape), shape if whole is None else whole
        axes = () if shared is None else (shared,) if type(shared) is int else shared
        entries = (1,) * ndim if noise is None else noise
        starts = (0,) * ndim if begin is None else begin
        return (
            (noise is None or shared is None)
            and (begin is None or whole is not None)
            and are_integers(axes)
            and all(-ndim <= axis < ndim for axis in axes)
            and len({axis % ndim for axis in axes}) == len(axes)
            and (whole is None or (are_integers(whole) and len(whole) == ndim and math.prod(whole) <= 2**55))
            and are_integers(starts)
            and len(starts) == ndim
            and all(b >= 0 and b + n <= w for b, n, w in zip(starts, shape, sizes, strict=True))
            and isinstance(entries, (tuple, list))
            and len(entries) == ndim
            and all(each is None or (type(each) is int and each in (1, w)) for each, w in zip(entries, sizes, strict=True))
        )


class Given(NamedTuple):
    """The caller's arguments besides the tensor and the rate."""

    source: Source = DEFAULT
    placement: Placement | None = None
    more: Operands = NO_OPERANDS  # bias, residual
    axes: tuple[int, ...] | None = None  # shared axes that the function found itself; all that there is in the placement


NOTHING = Given()
NO_DRAW: Source = (0, 0, None)

is_compiling, unwrap_if_dead = torch.compiler.is_compiling, torch._C._functorch.unwrap_if_dead


def source_of(options: dict[str, Any], others: Sequence[str] = ()) -> Source:
    """Return the options that define the key. Raise an error for an unknown option; `others` are also known here."""
    unknown = options.keys() - {"seed", "offset", "generator"}
    if unknown:
        allowed = ", ".join(("seed", "offset", "generator", *others))
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}: the options here are {allowed}")
    return options.get("seed"), options.get("offset", 0), options.get("generator")


def given_of(options: dict[str, Any], more: Operands = NO_OPERANDS) -> Given:
    """Return the options that define the key and the placement, or raise an error for an unknown option."""
    placed = [options.pop(name, None) for name in Placement._fields]
    source = source_of(options, Placement._fields)
    return Given(source, None if all(each is None for each in placed) else Placement(*placed), more)


# Eager ----------------------------------------------------------------------------------------------------------------


def drop(x: Tensor, p: Any, training: Any, in_place: Any, function: Target, given: Given) -> Tensor:
    """Return ``residual + dropout(x + bias)``."""
    if is_compiling():
        return traced(x, p, training, in_place, function, given)
    source, placement, more, axes = given
    plain = is_plain(x)
    if plain:
        x = unwrap_if_dead(x)  # a tensor that outlived its transform has no memory of its own
    if not plain or more is not NO_OPERANDS:
        plain = check_operands(x, more, function) and plain
    rate = function.as_rate(p)
    place: Place | None = None
    if plain and axes and axes[-1] < x.ndim:
        place = axes, None, None
    elif placement is not None:
        placement = Placement(*map(fixed, placement))
        pointers.check(x.shape, rate, *placement)
        place = placement.resolved(x.ndim)
    if in_place is not False and (in_place := plan.check_flag(in_place, "inplace")):
        check_in_place(x)
    if source is not DEFAULT:
        check_source(source, x)
    if not (training is True or plan.check_flag(training, "training")) or not rate:
        return x if more is NO_OPERANDS else added(x, more, plain)
    factors = () if function.factors is None else function.factors(rate)
    if plain:
        rule = new_rule((rate, *draw_key(source), factors, place))
        made = None if _native.run is None or in_place else _native.run(x, rule, more)
        return eager_plain(x, rule, in_place, more) if made is None else made
    return elsewhere(x, in_place, source, Rule(rate, 0, 0, factors, place), more)


def check_operands(x: Tensor, more: Operands, function: Target) -> bool:
    """Raise an error unless the tensors fit together; return whether all of them are plain."""
    check_tensor(x, function.operand, function.instead, function.name)
    plain = True
    for tensor, name, shape in zip(more, ("bias", "residual"), (x.shape[-1:], x.shape), strict=True):
        if tensor is not None:
            check_tensor(tensor, name, function.instead, function.name)
            if tensor.dtype != x.dtype:
                raise TypeError(f"{name} must have the dtype of {function.operand}, {x.dtype}; got {tensor.dtype}")
            if tensor.shape != shape:
                raise ValueError(f"{name} must have the shape {tuple(shape)}; got {tuple(tensor.shape)}")
            if not is_plain(tensor):
                check_memory(tensor, name, x)
                if is_sharded(tensor) and not is_sharded(x):
                    raise ValueError(f"{name} must be no DTensor, because {function.operand} is none")
                plain = False
    return plain


def added(x: Tensor, more: Operands, plain: bool) -> Tensor:
    """Return ``residual + (x + bias)``, without dropping."""
    rule = Rule(0.0, 0, 0)
    return eager_plain(x, rule, False, more) if plain else elsewhere(x, False, NO_DRAW, rule, more)


def elsewhere(x: Tensor, in_place: bool, source: Source, rule: Rule, more: Operands) -> Tensor:
    """Return the result of `drop` for tensors that are not plain: shards, shapes without memory, transforms, negated views."""
    if is_sharded(x):
        import fastdrop.torch._shards as _shards

        return _shards.drop(x, in_place, source, rule, more)
    seed, offset = draw_tensor(source, x.device)
    made = by_operator(x, seed, rule._replace(offset=offset), more)
    return x.copy_(made) if in_place else made


# Compiled -------------------------------------------------------------------------------------------------------------


def traced(x: Tensor, p: Any, training: Any, in_place: Any, function: Target, given: Given) -> Tensor:
    """Return the result of `drop` while a compiler traces. Wrong or untraceable arguments go to eager code, which raises."""
    source, placement, more, _ = given
    if not (
        is_usual((x, *more), p, training, source)
        and isinstance(in_place, bool)
        and not is_transformed()
        and (placement is None or placement.is_traceable(x.shape))
        and (more[0] is None or (more[0].dtype == x.dtype and more[0].shape == x.shape[-1:]))
        and (more[1] is None or (more[1].dtype == x.dtype and more[1].shape == x.shape))
    ):
        return untraced(x, p, training, in_place, function, given)  # type: ignore[no-any-return]
    if not training or p == 0:
        return x if more[0] is None and more[1] is None else added(x, more, False)
    seed, offset = draw_tensor(source, x.device)
    factors = () if function.factors is None else function.factors(known_number(p))
    place = None if placement is None else placement.resolved(x.ndim)
    made = by_operator(x, seed, Rule(float(p), 0, offset, factors, place), more)
    return x.copy_(made) if in_place else made


def known_number(p: float) -> float:
    """Return a rate that a function outside the graph can take: after some changes the compiler makes it symbolic."""
    from torch.fx.experimental.symbolic_shapes import guard_scalar  # slow to import, and there while a compiler traces

    return guard_scalar(float(p))


def outside(function: Callable[..., Tensor]) -> Any:
    """Return the function, run as eager code where a compiler traces."""

    def call(*args: Any, **kwargs: Any) -> Tensor:
        was = torch.compiler._is_compiling_flag
        torch.compiler._is_compiling_flag = False  # which `torch.export` with strict=False leaves on in code that is not traced
        try:
            return function(*args, **kwargs)
        finally:
            torch.compiler._is_compiling_flag = was

    return torch.compiler.disable(  # type: ignore[no-untyped-call]
        call, reason="this call of fastdrop.torch is not for a graph, or it is wrong"
    )


untraced = outside(drop)


def is_usual(tensors: Sequence[Any], p: Any, training: Any, source: Source) -> bool:
    """Return whether the arguments are right and a graph can contain the call; the compiler traces this."""
    return (
        all(tensor is None or (is_acceptable(tensor) and not is_sharded(tensor)) for tensor in tensors)
        and not any(isinstance(each, Tensor) and lacks_memory(each, tensors[0]) for each in (*tensors[1:], source[0]))
        and isinstance(p, (int, float))
        and not isinstance(p, bool)
        and 0 <= p <= 1
        and isinstance(training, bool)
        and is_traceable(source)
        and not has_tangents()
    )


def is_traceable(source: Source) -> bool:
    """Return whether a graph can contain a seed: None, a tensor, a number or a key."""
    seed, offset, generator = source
    if generator is not None or not is_word(offset):
        return False
    if isinstance(seed, Tensor):
        return (
            not is_sharded(seed)
            and seed.dtype in (torch.int64, torch.uint64)
            and (seed.ndim == 0 or (seed.shape == (2,) and offset == 0))
        )
    return seed is None or is_word(seed) or (isinstance(seed, Key) and offset == 0)


def are_integers(values: Any) -> bool:
    """Return whether all of a sequence are Python integers and no flags; the compiler traces this."""
    return isinstance(values, (tuple, list)) and all(type(each) is int for each in values)


def is_word(value: Any) -> bool:
    """Return whether a number fits in 64 bits; the compiler traces this."""
    return type(value) is int and 0 <= value < 2**64
