"""The primitive: one operation on rows of elements, with its rules for types, derivatives and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

__all__ = ["AFFINE", "GAUSSIAN", "INVERTED", "SCALED", "Rule", "primitive"]

MOST_AXES = 64  # as NumPy's arrays have
INVERTED, SCALED, AFFINE, GAUSSIAN = range(4)  # src_c/xla.c has the same numbers


class Rule(NamedTuple):
    """The operation on the elements, and the place of the mask over them: all that is known when a function is traced.

    The kinds use `factors` (a, b, c) in this way: INVERTED not at all; SCALED multiplies kept elements by a; AFFINE makes kept
    elements a x + b and dropped ones c; GAUSSIAN has noise of the standard deviation a.
    """

    kind: int
    p: float | None  # None if the operand `rate` has the number
    factors: tuple[float, float, float]
    start: int
    whole: tuple[int, ...]
    begin: tuple[int, ...]
    shared: tuple[int, ...]
    overwrites: bool = False  # whether XLA gives the result the memory of x, which it copies first if it needs x later

    def derivative(self) -> Rule:
        """Return the rule of the derivative with respect to x, in which dropped elements are 0."""
        return self._replace(kind=SCALED) if self.kind == AFFINE else self

    def with_shared_axis(self, size: int) -> Rule:
        """Return the same mask for each element of a new first axis."""
        return self._replace(whole=(size, *self.whole), begin=(0, *self.begin), shared=(0, *(axis + 1 for axis in self.shared)))

    def without_shared(self, numbers: Sequence[int], instead: int) -> tuple[int, ...]:
        """Return one number per axis, with another one for each axis that shares its decisions."""
        return tuple(instead if axis in self.shared else number for axis, number in enumerate(numbers))


# The operands are x of shape (rows..., shape...), keys of shape (rows..., words), the first index along each axis or an empty
# array, and p as float32 or an empty array. `local` is true if x is one device's part, or is not divided among devices.
primitive = Primitive("fastdrop_dropout")
compiled = jax.jit(
    lambda *operands, rule, local: primitive.bind(*operands, rule=rule, local=local), static_argnames=("rule", "local")
)


@primitive.def_impl
def run(*operands: Any, rule: Rule, local: bool) -> Any:
    """Return the result of an eager call, which is compiled like that of each primitive, even where `jax.jit` is disabled.

    Such a call does not overwrite x, of which XLA would have to make a copy, because the caller has it.
    """
    with jax.disable_jit(False):
        return compiled(*operands, rule=rule._replace(overwrites=False), local=local)


@primitive.def_abstract_eval
def evaluate(x: Any, keys: Any, begin: Any, rate: Any, *, rule: Rule, local: bool) -> Any:
    """Return the type of the result."""
    return x.update(weak_type=False)


def differentiate(primals: Any, tangents: Any, *, rule: Rule, local: bool) -> tuple[Any, Any]:
    """Return the result and its tangent. The operation is linear in x, apart from a constant."""
    if rule.p is None and type(tangents[3]) is not ad.Zero:
        raise NotImplementedError("a mask has no derivative with respect to p: pass jax.lax.stop_gradient(p)")
    y = primitive.bind(*primals, rule=rule, local=local)
    if type(tangents[0]) is ad.Zero:
        return y, ad.Zero.from_primal_value(y)  # type: ignore[attr-defined]
    return y, primitive.bind(tangents[0], *primals[1:], rule=rule.derivative(), local=local)


def transpose(cotangent: Any, x: Any, *others: Any, rule: Rule, local: bool) -> list[Any]:
    """Return the cotangent of x: the same operation, whose mask is the same.

    The given cotangent is seldom needed later, so its memory serves for the result: new memory takes longer than the operation.
    """
    if type(cotangent) is ad.Zero:
        return [ad.Zero(x.aval), None, None, None]
    return [primitive.bind(cotangent, *others, rule=rule._replace(overwrites=True), local=local), None, None, None]


def batch(operands: Any, axes: Any, *, rule: Rule, local: bool) -> tuple[Any, int | None]:
    """Return the results of a batch in one call: one row per key, or, with a single key, an axis that shares its decisions."""
    x, keys, begin, rate = operands
    if len(rule.whole) >= MOST_AXES:
        raise ValueError(f"a batch must have at most {MOST_AXES} axes in all; got {len(rule.whole) + 1}")
    of_x, of_keys, of_begin, of_rate = axes
    if rule.p is not None:  # an operand without elements stays so; `jax.lax.cond` gives it an axis, too
        rate, of_rate = rate.reshape(0), None
    if not begin.size:
        begin, of_begin = begin.reshape(0), None
    if of_rate is not None:
        raise NotImplementedError("jax.vmap over p is not supported: all rows of a call have one p")
    if of_begin is not None:
        raise NotImplementedError("jax.vmap over global_start is not supported: all rows of a call have one place")
    if of_x is None and of_keys is None:  # only an operand without elements had the axis
        return primitive.bind(x, keys, begin, rate, rule=rule, local=local), None
    if of_keys is None:
        rows = keys.ndim - 1
        if begin.shape[0]:
            begin = jnp.concatenate([jnp.zeros(1, begin.dtype), begin])
        moved = jnp.moveaxis(x, of_x, rows)
        return primitive.bind(moved, keys, begin, rate, rule=rule.with_shared_axis(x.shape[of_x]), local=local), rows
    keys = jnp.moveaxis(keys, of_keys, 0)
    x = jnp.broadcast_to(x, (keys.shape[0], *x.shape)) if of_x is None else jnp.moveaxis(x, of_x, 0)
    return primitive.bind(x, keys, begin, rate, rule=rule, local=local), 0


ad.primitive_jvps[primitive] = differentiate
ad.primitive_transposes[primitive] = transpose
batching.primitive_batchers[primitive] = batch
