"""Shards: each process drops the same elements of its part that one process would drop there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from fastdrop.torch._autograd import eager
from fastdrop.torch._keys import Source, as_signed, draw_key
from fastdrop.torch._operators import Rule

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["drop"]


def drop(x: Any, in_place: bool, source: Source, rule: Rule, more: Any) -> Tensor:
    """Return ``residual + dropout(x)`` of distributed tensors, with the placements of x; `more` is (bias, residual)."""
    bias, residual = more
    placements, mesh = x.placements, x.device_mesh
    check(x, bias, residual, rule)
    if mesh.get_coordinate() is None:  # a process outside of the mesh, which has no part of the tensor
        draw_key(source)  # as in the other processes, whose next draws are those of this one
        return x if in_place else x.clone()  # type: ignore[no-any-return]
    shared = () if rule.place is None else rule.place[0]
    _, begin = compute_local_shape_and_global_offset(x.shape, mesh, placements)
    seed, offset = agree(source, mesh)
    here = Rule(rule.p, seed, offset, rule.factors, (shared, tuple(x.shape), tuple(begin)))
    made = eager(x.to_local(), here, False, (None, None if residual is None else residual.to_local()))
    y = DTensor.from_local(made, mesh, placements, run_check=False, shape=x.shape, stride=x.stride())
    return x.copy_(y) if in_place else y


def check(x: DTensor, bias: Any, residual: Any, rule: Rule) -> None:
    """Raise an error for arguments that a tensor divided among processes does not support."""
    if any(placement.is_partial() for placement in x.placements):
        raise ValueError(
            "input is a DTensor with a Partial placement, of which each process has a summand and not the values: "
            "redistribute it to Replicate or Shard first"
        )
    if not is_block(x):
        raise ValueError(
            "input is a DTensor whose parts are not blocks of the whole, as flatten() and view() of a sharded axis make them: "
            "redistribute it to Replicate or Shard first"
        )
    if rule.place is not None and rule.place[1] is not None:
        raise ValueError("a DTensor knows its place in the whole: global_shape and global_start are for plain tensors")
    if bias is not None:
        raise NotImplementedError("dropout_add of a DTensor takes no bias: add it to x first")
    if residual is not None and not (
        isinstance(residual, DTensor) and residual.device_mesh == x.device_mesh and residual.placements == x.placements
    ):
        raise ValueError("residual must be a DTensor with the mesh and the placements of input")


def is_block(x: DTensor) -> bool:
    """Return whether each process has consecutive elements along each axis.

    A strided placement makes such parts if the axis is first cut along the later dimensions of the mesh, and evenly.
    Weights are cut so for tensor parallelism and then for data parallelism.
    """
    cuts = [(getattr(each, "dim", None), getattr(each, "split_factor", None)) for each in x.placements]
    for k, (axis, split_factor) in enumerate(cuts):
        if split_factor is not None and axis is not None:
            sizes = [x.device_mesh.size(i) for i, (other, _) in enumerate(cuts) if other == axis]
            later = [x.device_mesh.size(i) for i, (other, _) in enumerate(cuts) if other == axis and i > k]
            if split_factor != math.prod(later) or x.shape[axis] % math.prod(sizes):
                return False
    return True


def agree(source: Source, mesh: DeviceMesh) -> tuple[int, int]:
    """Return the key of a call. The first process of the mesh draws it for all, if it is drawn."""
    seed, offset = draw_key(source)
    if source[0] is None:
        word = torch.tensor(as_signed(seed))
        for axis in range(mesh.ndim):
            torch.distributed.broadcast(word, group=mesh.get_group(axis), group_src=0)
        seed = int(word.item()) % 2**64
    return seed, offset
