"""Whole models: swap their layers, or PyTorch's own functions, for fastdrop's."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import ContextDecorator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, TypeVar

import torch
import torch.utils.checkpoint as checkpoints
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

import fastdrop.torch._attention as _attention
import fastdrop.torch._functions as _functions
import fastdrop.torch._layers as _layers
from fastdrop.torch._tensors import is_acceptable

__all__ = ["Report", "convert", "patched", "revert"]

Model = TypeVar("Model", bound=nn.Module)

LAYERS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
OURS: dict[type[nn.Module], type[nn.Module]] = {getattr(nn, name): getattr(_layers, name) for name in LAYERS}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}

FUNCTIONS = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "scaled_dot_product_attention",
)
NATIVE = {name: getattr(nn.functional, name) for name in FUNCTIONS}


# Layers -------------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What `convert` did to a model.

    Attributes
    ----------
    swapped : list of str
        The names of the modules that were swapped for fastdrop's layers.
    left : dict of str to str
        The modules that seem to drop and were not swapped: the reason for each name.
    functions : dict of str to int or None
        How often a forward pass calls each function that `patched` replaces. None without ``example_inputs``.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.convert(torch.nn.Sequential(torch.nn.Dropout(0.1)))
    Report(swapped=['0'], left={}, functions=None)
    """

    swapped: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    functions: dict[str, int] | None = None


def convert(model: nn.Module, *, example_inputs: Any = None) -> Report:
    """Swap a model's dropout layers for fastdrop's, in place. Rates, modes, names and hooks stay.

    The layers draw from PyTorch's default generator. To resume a training with the same masks, save and restore its state
    (``torch.get_rng_state``, ``torch.set_rng_state``).

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    example_inputs : tuple or dict, optional
        Inputs for one trial forward pass: a tuple of positional arguments, or a dictionary of keywords. The pass counts the
        functions of PyTorch that the model calls itself. It changes neither buffers nor the state of PyTorch's default
        generator. Layers with a generator of their own draw from it.

    Returns
    -------
    Report
        The swapped modules, the modules that were left and why, and the functions that were called.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.1))
    >>> fastdrop.torch.convert(model).swapped
    ['1']
    """
    check_model(model)
    if not (example_inputs is None or isinstance(example_inputs, (tuple, list, Mapping))):
        raise TypeError(
            "example_inputs must be a tuple of positional arguments or a dictionary of keywords; "
            f"got {type(example_inputs).__name__}"
        )
    report = Report()
    for name, module in model.named_modules():
        kind = type(module)
        if kind in OURS:
            module.__class__ = OURS[kind]
            report.swapped.append(name)
        elif isinstance(module, _layers.Seeded):
            continue
        elif isinstance(module, tuple(OURS)):
            report.left[name] = f"{kind.__name__} is derived from a layer of PyTorch, and may do something else"
        elif "drop" in kind.__name__.lower():
            report.left[name] = f"{kind.__name__} is not a layer of PyTorch"
        elif isinstance(module, nn.RNNBase):
            if module.dropout:
                report.left[name] = f"{kind.__name__} drops in C++ between its layers, which patched() cannot replace"
        elif isinstance(getattr(module, "dropout", None), float) and module.dropout:
            report.left[name] = f"{kind.__name__} calls functions with its rate: see patched()"
    if example_inputs is not None:
        report.functions = functions_called(model, example_inputs)
    return report


def revert(model: nn.Module) -> None:
    """Undo `convert`: turn the layers into PyTorch's again.

    Parameters
    ----------
    model : torch.nn.Module
        The model. Layers with a seed stay, because PyTorch's layers have no seed.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.1))
    >>> report = fastdrop.torch.convert(model)
    >>> fastdrop.torch.revert(model)
    >>> type(model[0]) is torch.nn.Dropout
    True
    """
    check_model(model)
    for module in model.modules():
        if type(module) in THEIRS and "key" not in module._buffers and "options" not in vars(module):
            module.__class__ = THEIRS[type(module)]


def check_model(model: Any) -> None:
    """Raise an error for what is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")


def functions_called(model: nn.Module, example_inputs: Any) -> dict[str, int]:
    """Return how often one forward pass calls each function that `patched` replaces, with copies of the buffers."""
    seen: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen[name] += 1
            return function(*args, **kwargs)

        return call

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    args, kwargs = ((), dict(example_inputs)) if isinstance(example_inputs, Mapping) else (tuple(example_inputs), {})
    before = replace({name: counted(name, getattr(nn.functional, name)) for name in FUNCTIONS})
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.func.functional_call(model, buffers, args, kwargs)
    finally:
        replace(before)
    return dict(seen)


# Functions ----------------------------------------------------------------------------------------------------------


def replacement(name: str) -> Any:
    """Return a function that calls fastdrop's function for the tensors that it accepts, and PyTorch's for others."""
    native, ours = NATIVE[name], getattr(_functions, name, None) or getattr(_attention, name)
    first = next(iter(inspect.signature(ours).parameters))

    def function(*args: Any, **kwargs: Any) -> Any:
        """Call fastdrop's function if the tensor is a dense floating-point tensor on the CPU."""
        x, given = args[0] if args else kwargs.get(first), (*args, *kwargs.values())
        if type(x).__name__ == "NestedTensor":  # a class that knows PyTorch's own functions alone
            return native(*args, **kwargs)
        if has_torch_function(given):  # as in all functions of PyTorch: a mode or a class may do something else
            return handle_torch_function(function, given, *args, **kwargs)
        return (ours if x is not None and is_acceptable(x) and x.is_cpu else native)(*args, **kwargs)

    function.__module__ = "torch.nn.functional"  # pickle and torch.fx find it by its module and name
    function.__name__ = function.__qualname__ = name
    function.__doc__ = native.__doc__
    vars(function)["__prepare_scriptable__"] = lambda: SCRIPTED.get(name, native)
    return function


def replace(functions: dict[str, Any], module: Any = nn.functional) -> dict[str, Any]:
    """Set functions of a module; return those that were there."""
    before = {name: getattr(module, name) for name in functions}
    for name, function in functions.items():
        setattr(module, name, function)
    return before


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Optional[Tensor] = None,  # noqa: UP045  # TorchScript does not know `Tensor | None`
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Optional[float] = None,  # noqa: UP045
    enable_gqa: bool = False,
) -> Tensor:
    """Call PyTorch's function. TorchScript needs a Python function in place of ours, and PyTorch's is not one."""
    return torch._C._nn.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


SCRIPTED = {"scaled_dot_product_attention": scaled_dot_product_attention}
REPLACEMENTS = {name: replacement(name) for name in FUNCTIONS}


def repeatable(function: Any) -> Any:
    """Return the function of an activation checkpoint, which runs in the context also when the backward pass repeats it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with patched():
            return function(*args, **kwargs)

    return call


class Reentrant(checkpoints.CheckpointFunction):
    """PyTorch's operation for ``use_reentrant=True``."""

    native = checkpoints.CheckpointFunction

    @classmethod
    def apply(cls, function: Any, *arguments: Any) -> Any:
        """Run PyTorch's operation on the function."""
        return cls.native.apply(repeatable(function), *arguments)  # type: ignore[no-untyped-call]


def not_reentrant(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return PyTorch's generator for ``use_reentrant=False``, which repeats the function."""
    return NOT_REENTRANT(repeatable(function), *args, **kwargs)


GENERATOR = "_checkpoint_without_reentrant_generator"  # a private name, which another version may lack
NOT_REENTRANT: Any = getattr(checkpoints, GENERATOR, None)
CHECKPOINTS = {"CheckpointFunction": Reentrant} | ({GENERATOR: not_reentrant} if NOT_REENTRANT else {})


class patched(ContextDecorator):  # a function to its users
    """Replace PyTorch's dropout functions by fastdrop's, as a context manager or a decorator.

    Within the context, `torch.nn.functional.dropout`, its variants and `scaled_dot_product_attention` are fastdrop's for dense
    floating-point tensors on the CPU. This holds in the whole process, also if modules and other libraries call them by these
    names. A name that ``from torch.nn.functional import dropout`` has bound before, and `torch.dropout`, stay PyTorch's. Other
    tensors, such as nested ones, go to PyTorch's functions.

    An activation checkpoint that is made within the context repeats its function within it, wherever the backward pass runs.

    Call a compiled model within the context each time: the compiler notices that the functions changed, and compiles again.
    Enter the context outside of a function that is compiled with ``fullgraph=True``, because a graph cannot contain it.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator object at ...>
    >>> layer = torch.nn.Dropout(0.5)
    >>> with fastdrop.torch.patched():
    ...     y = layer(torch.ones(4))
    """

    lock = threading.Lock()
    depth = 0
    before: ClassVar[tuple[dict[str, Any], ...]] = ()  # what the outermost context has found

    def __enter__(self) -> patched:
        """Replace the functions, unless an outer context has done so."""
        with patched.lock:
            if not patched.depth:
                patched.before = replace(REPLACEMENTS), replace(CHECKPOINTS, checkpoints)
            patched.depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        """Put back what was there, at the end of the outermost context."""
        with patched.lock:
            patched.depth -= 1
            if not patched.depth:
                functions, of_checkpoints = patched.before
                replace(functions)
                replace(of_checkpoints, checkpoints)
