"""Tensors: which ones the kernels take as they are, which go through an operator, and which are refused."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import forward_ad

from fastdrop._core import pointers

__all__ = [
    "DTYPES",
    "check_in_place",
    "check_layout",
    "check_memory",
    "check_tensor",
    "has_tangents",
    "is_acceptable",
    "is_batch",
    "is_functionalized",
    "is_sharded",
    "is_tracing",
    "is_transformed",
    "lacks_memory",
    "ndim_of",
]

DTYPES = {getattr(torch, name): number for name, number in pointers.DTYPES.items()}
MAX_DIMS = pointers.MAX_DIMS

CreationMeta, creation_of = torch._C._autograd.CreationMeta, torch._C._autograd._get_creation_meta
is_traced = torch._C._is_tracing
is_batch = torch._C._functorch.is_legacy_batchedtensor  # as `torch.autograd.grad` makes them with is_grads_batched=True


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` is running; the compiler can trace this."""
    return torch._C._functorch.get_dynamic_layer_stack_depth() > 0


def has_tangents() -> bool:
    """Return whether forward mode is on, for which an operator has no rule; the compiler can trace this."""
    return forward_ad._current_level >= 0


def is_functionalized() -> bool:
    """Return whether `torch.func.functionalize` is running, which has no rule for an `autograd.Function`."""
    if not is_transformed():
        return False
    return any(layer.key() == TransformType.Functionalize for layer in torch._C._functorch.get_interpreter_stack())


def is_tracing() -> bool:
    """Return whether `torch.jit.trace` is running; the compiler can trace this."""
    return not torch.compiler.is_compiling() and is_traced()


def check_tensor(x: Any, name: str, instead: str, function: str) -> None:
    """Raise an error unless `x` is a dense floating-point tensor on the CPU, or has a shape but no memory."""
    is_eager = not torch.compiler.is_compiling()
    if is_eager and pointers.is_plain(x):
        return
    if not is_acceptable(x) or (is_eager and pointers.lacks_storage(x)):
        refuse_tensor(x, name, instead, function)


def is_acceptable(x: Any) -> bool:
    """Return whether `check_tensor` accepts a tensor; the compiler traces this."""
    return (
        isinstance(x, Tensor)
        and x.dtype in DTYPES
        and x.layout is torch.strided
        and not x.is_nested
        and x.ndim <= MAX_DIMS
        and x.device.type in ("cpu", "meta")
    )


def lacks_memory(tensor: Tensor, x: Tensor) -> bool:
    """Return whether an operand is a shape without memory, and the input x is not; the compiler traces this."""
    return tensor.device.type == "meta" and x.device.type != "meta"


def check_memory(tensor: Tensor, name: str, x: Tensor) -> None:
    """Raise an error for an operand without values. The result would have memory, and nothing would be written to it."""
    if lacks_memory(tensor, x):
        raise ValueError(f"{name} must be on {x.device} like the other tensors; got one on {tensor.device}")


def is_sharded(x: Any) -> bool:
    """Return whether x is a `DTensor`, whose parts lie on several processes; the compiler traces this."""
    return type(x).__name__ == "DTensor"


def ndim_of(x: Any, name: str = "input") -> int:
    """Return the number of dimensions of a tensor; the compiler traces this."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(x).__name__}")
    return x.ndim


def check_layout(x: Any, name: str) -> None:
    """Raise an error for what is no dense tensor."""
    ndim_of(x, name)  # raises for other things than tensors
    if x.is_nested or x.is_quantized or x.layout is not torch.strided:
        layout = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout)
        raise TypeError(f"{name} must be a dense tensor, of layout torch.strided; got a tensor of layout {layout}")


def refuse_tensor(x: Any, name: str, instead: str, function: str) -> NoReturn:
    """Raise an error that says why a tensor is refused."""
    check_layout(x, name)
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have dtype {', '.join(map(str, DTYPES))}; got {x.dtype}")
    if x.ndim > MAX_DIMS:
        raise ValueError(f"{name} must have at most {MAX_DIMS} dimensions; got {x.ndim}")
    if x.device.type == "cpu":
        raise ValueError(f"{name} must have memory; its storage was resized to 0")
    raise NotImplementedError(f"{function} takes tensors on the CPU; {name} is on {x.device}: {instead}")


def check_in_place(x: Tensor) -> None:
    """Raise an error unless `x` may be overwritten, with PyTorch's messages."""
    if torch.is_grad_enabled() and x.requires_grad:
        if x.is_leaf:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if x._is_view() and creation_of(x) != CreationMeta.DEFAULT:
            raise RuntimeError(
                "input is a view and is being modified inplace. It was made by a function that returns multiple views, or in "
                "no_grad or inference mode. You should replace the inplace operation by an out-of-place one."
            )
        if x._is_view() and x._base is not None and x._base.is_leaf:
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if x._is_zerotensor():
        raise RuntimeError("a zero tensor has no memory, and must not be updated in place. Please clone() it before.")
    if x.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError("an inference tensor must not be updated in place outside InferenceMode; clone it first.")
    if not is_transformed() and torch._debug_has_internal_overlap(x) == 1:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
