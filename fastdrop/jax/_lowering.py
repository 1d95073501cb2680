"""Lowering of the primitive: to a call of the handler on each device, or to a call of Python if there is no handler."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import dispatch
from jax._src.sharding_impls import ShardingContext, SPMDAxisContext
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec

from fastdrop._core import plan, pointers
from fastdrop.jax._callback import compute
from fastdrop.jax._primitive import Rule, primitive

__all__ = ["reject"]

TARGET = "fastdrop_dropout"
MOST = 2**62  # no array has such an axis, but the whole may have a longer one


@functools.cache
def reject() -> str:
    """Register the handler; return the reason for which jaxlib rejects it, or "" if jaxlib accepts it.

    JAX finds its devices first. If the handler were registered before, JAX would check it while it finds them, and a rejected
    handler would leave JAX without a CPU.
    """
    jax.devices("cpu")
    try:
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(pointers.xla_handler()), platform="cpu")
    except Exception as error:  # a jaxlib with another interface may raise anything
        return str(error)
    return ""


@functools.cache
def warn(reason: str) -> None:
    """Warn, once, that calls are slow."""
    warnings.warn(
        "fastdrop.jax calls Python from compiled code, which takes about 180 us per call, because this jaxlib does not accept "
        f"its handler: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


call_handler = jax.ffi.ffi_lowering(TARGET)
overwrite = jax.ffi.ffi_lowering(TARGET, operand_output_aliases={0: 0})  # the result has the memory of x


def lower(ctx: Any, *operands: Any, rule: Rule, local: bool) -> Any:
    """Lower for the CPU. An array that may be divided among devices is lowered by `divided`, which lowers each part."""
    if any(not isinstance(size, int) for size in rule.whole):
        raise NotImplementedError(f"fastdrop.jax needs sizes that are numbers when it compiles; got the shape {rule.whole}")
    if reason := reject():  # JAX keeps no callback of a part alive, so the whole array goes to Python
        warn(reason)
        return mlir.lower_fun(partial(call_python, rule), multiple_results=False)(ctx, *operands)
    if not (local or is_part(ctx.module_context.axis_context)):
        rows = len(ctx.avals_in[1].shape) - 1
        return mlir.lower_fun(divided(rule, rows), multiple_results=False)(with_mesh(ctx), *operands)
    shape = ctx.avals_in[0].shape[len(ctx.avals_in[1].shape) - 1 :]
    first, steps = plan.locate_mask(shape, rule.shared, rule.start, rule.whole, rule.begin)
    room = (min(size - begin, MOST) for size, begin in zip(rule.whole, rule.begin, strict=True))
    attributes = {
        "kind": np.int32(rule.kind),
        "p": np.float64(math.nan if rule.p is None else rule.p),
        "factors": np.array(rule.factors),
        "place": np.array([first, *steps, *room], np.int64),
    }
    return (overwrite if rule.overwrites else call_handler)(ctx, *operands, **attributes)


def refuse(ctx: Any, *operands: Any, rule: Rule, local: bool) -> Any:
    """Lower for another platform."""
    raise NotImplementedError(f"fastdrop.jax runs on the platform cpu; got {', '.join(ctx.module_context.platforms)}")


def call_python(rule: Rule, x: Any, *others: Any) -> Any:
    return jax.pure_callback(partial(compute, rule), jax.ShapeDtypeStruct(x.shape, x.dtype), x, *others)


# Shards -------------------------------------------------------------------------------------------------------------


def is_part(context: Any) -> bool:
    """Return whether the array is a device's part within `jax.shard_map` over some of a mesh's axes.

    XLA cannot partition a call that is already one of a part, so it gathers along the other axes if the part is divided there.
    """
    return isinstance(context, SPMDAxisContext) and bool(context.manual_axes)


def with_mesh(ctx: Any) -> Any:
    """Return a context that has the mesh of x, where x has one and the context has none.

    Without it, XLA gives `divided` a sharding without names. JAX puts the mesh of the arguments into the context, but not that
    of an array that is made within the function, as in the derivative of a sum.
    """
    module, mesh = ctx.module_context, ctx.avals_in[0].sharding.mesh
    context = module.axis_context
    if not isinstance(context, ShardingContext) or context.abstract_mesh is not None:
        return ctx
    if mesh.empty or mesh.size != context.num_devices:
        return ctx
    return ctx.replace(module_context=module.replace(axis_context=replace(context, abstract_mesh=mesh)))


def divided(rule: Rule, rows: int) -> Any:
    """Return the operation on an array that may be divided among devices in any way, without communication."""

    @custom_partitioning
    def function(x: Any, keys: Any, begin: Any, rate: Any) -> Any:
        return primitive.bind(x, keys, begin, rate, rule=rule, local=True)

    def partition(mesh: Any, given: Sequence[Any], result: Any) -> Any:
        parts = divisions(mesh, given[0].shape, result.sharding)
        everywhere = NamedSharding(mesh, PartitionSpec())
        of_keys = NamedSharding(mesh, PartitionSpec(*parts[:rows], None))
        divided_as_x = NamedSharding(mesh, PartitionSpec(*parts))
        body = partial(drop_part, rule, parts[rows:])
        return mesh, body, divided_as_x, (divided_as_x, of_keys, everywhere, everywhere)

    function.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, given, result: given[0].sharding,
        sharding_rule=partial(write_sharding_rule, rows),
    )
    return function


def write_sharding_rule(rows: int, mesh: Any, operands: Sequence[Any], results: Sequence[Any]) -> Any:
    """Return Shardy's rule: the result is divided as x is, and each row's key goes where the row is."""
    axes = [f"x{k}" for k in range(operands[0].rank)]
    rate = "rate" if operands[3].rank else ""
    text = f"{' '.join(axes)}, {' '.join([*axes[:rows], 'word'])}, begin, {rate} -> {' '.join(axes)}"
    return text, {"need_replication_factors": tuple(name for name in ("word", "begin", rate) if name)}


def divisions(mesh: Any, shape: Sequence[int], sharding: Any) -> tuple[Any, ...]:
    """Return the names of the mesh axes along which each axis is divided."""
    if sharding.is_fully_replicated:  # of another class if no operand is on the mesh of `jax.set_mesh`
        return (None,) * len(shape)
    if not isinstance(sharding, NamedSharding):
        raise NotImplementedError(f"fastdrop.jax on the platform cpu needs a NamedSharding; got {sharding}")
    spec = tuple(sharding.spec) + (None,) * (len(shape) - len(sharding.spec))
    for size, names in zip(shape, spec, strict=True):
        number = math.prod(mesh.shape[name] for name in as_names(names))
        if size % number:
            raise NotImplementedError(
                f"fastdrop.jax on the platform cpu needs equal shards: an axis of {size} elements is divided among {number} "
                "devices"
            )
        if number > 1 and size > 2**32:  # the handler gets the first index of a part as uint32
            raise NotImplementedError(
                f"fastdrop.jax divides axes of at most 2**32 elements among devices; got one of {size} elements"
            )
    return spec


def as_names(names: Any) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def drop_part(rule: Rule, parts: Sequence[Any], x: Any, keys: Any, begin: Any, rate: Any) -> Any:
    """Drop from one device's part, whose place follows from the device's place in the mesh."""
    if any(as_names(names) for names in parts):
        sizes = x.shape[keys.ndim - 1 :]
        indices = [jax.lax.axis_index(as_names(names)) if as_names(names) else 0 for names in parts]
        here = [jnp.uint32(index) * jnp.uint32(size) for index, size in zip(indices, sizes, strict=True)]
        begin = jnp.stack(here) + (begin if begin.shape[0] else jnp.uint32(0))
    return primitive.bind(x, keys, begin, rate, rule=rule, local=True)


# `custom_partitioning` needs the devices when it is lowered. JAX looks for primitives that need them before it lowers, so it
# misses one that is first bound in a lowering, as here. There is no public way to announce such a primitive.
dispatch.prim_requires_devices_during_lowering.add(primitive)
mlir.register_lowering(primitive, refuse)
mlir.register_lowering(primitive, lower, platform="cpu")
