"""One way for the functions whose operators call NumPy's callers: check everything, draw a key, call the operator.

While a compiler traces, a function first asks whether a graph can have the call and its arguments are right. If not, the call
runs `untraced`, and the checks of eager calls say what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdrop._core import plan
from fastdrop.torch._autograd import variant
from fastdrop.torch._calls import is_compiling, outside, source_of
from fastdrop.torch._keys import check_source, draw_tensor
from fastdrop.torch._tensors import check_layout, check_memory, check_tensor, is_sharded, ndim_of

__all__ = ["Arguments", "check_other", "constant", "key_of", "placeholder", "refuse_shards", "untraced", "values_of", "vary"]

functorch = torch._C._functorch


class Arguments(NamedTuple):
    """The arguments of a function besides the input and the numbers."""

    training: Any
    options: dict[str, Any]
    other: Tensor | None = None
    check: Callable[[], Any] | None = None  # raises the errors of fastdrop's function before a key is drawn


def vary(input: Tensor, name: str, numbers: tuple[Any, ...], given: Arguments) -> Tensor:
    """Return the result of one of fastdrop's linear functions; numbers[0] is the rate."""
    key = key_of(input, f"fastdrop.torch.{name}", numbers[0], given)
    return input if key is None else variant(input, key, name.removesuffix("2d"), numbers, given.other)


def key_of(input: Tensor, function: str, p: Any, given: Arguments) -> tuple[Tensor, int] | None:
    """Check the arguments of a function and draw its key. If the function changes nothing, return None without a draw."""
    source, training = source_of(given.options), given.training
    if not is_compiling():
        check_tensor(input, "input", "call input.cpu() first", function)
        refuse_shards(input, function)
        check_source(source, input)
        plan.as_rate(p)
        plan.check_flag(training, "training")
        if given.check is not None:
            given.check()
    return draw_tensor(source, input.device) if training and p != 0 else None


def call(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Call a function without tracing it."""
    return function(*args, **kwargs)


untraced = outside(call)


def constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function for constants of a traced graph. It returns None where the given function raises an error."""

    def found(*args: Any) -> Any:
        try:
            return function(*args)
        except (TypeError, ValueError, OverflowError):
            return None

    return torch.compiler.assume_constant_result(found)  # type: ignore[no-untyped-call, no-any-return]


def refuse_shards(input: Tensor, function: str) -> None:
    """Raise an error for a distributed tensor, because the operators of variants have no place in a larger tensor."""
    if is_sharded(input):
        raise NotImplementedError(
            f"{function} takes no DTensor: call it with input.to_local() and another seed in each process, or with "
            "input.full_tensor()"
        )


def check_other(tensor: Any, name: str, input: Any) -> None:
    """Raise an error for an operand without a gradient that an operator does not accept."""
    check_layout(tensor, name)
    if is_sharded(tensor):
        raise NotImplementedError(f"{name} must be no DTensor: give {name}.full_tensor() with an input that is none")
    if tensor.device.type not in ("cpu", "meta"):
        raise NotImplementedError(f"{name} must be on the CPU; it is on {tensor.device}")
    ndim_of(input)
    check_memory(tensor, name, input)


def values_of(tensor: Tensor) -> Any:
    """Return the values of a tensor; of one without memory, and of a batch within `vmap`, zeros of its shape."""
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    is_wrapped = functorch.is_functorch_wrapped_tensor(tensor)
    if tensor.device.type == "cpu" and not (is_wrapped or torch._C._len_torch_dispatch_stack()):
        with torch._C._DisableFuncTorch():
            return tensor.numpy(force=True)
    kind = np.bool_ if tensor.dtype == torch.bool else np.float32 if tensor.dtype.is_floating_point else np.int64
    return np.zeros(tuple(tensor.shape), kind)


def placeholder(input: Tensor) -> Any:
    """Return an array of the shape of a tensor, which needs no memory."""
    return np.broadcast_to(np.float32(0), tuple(input.shape))
