"""Docstrings of backward functions, completed from those of their forward functions, which have the same keywords."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from fastdrop._core.docstrings import joined, sections

__all__ = ["backward_of"]

Function = TypeVar("Function", bound=Callable[..., Any])

OF_THE_CALL = ("seed", "out", "backend", "num_threads")

GRAD = """\
grad : array_like of float32, float64, float16 or bfloat16
    The gradient with respect to the result of `{forward}`, of the same shape."""
SEED = """\
seed : int, Key or numpy.random.SeedSequence
    The key that the forward pass used. A stream or a generator is refused, because it would give another key."""
RETURNS = """\
numpy.ndarray
    `out`, or a new array like `grad`; outside training, `grad` itself{unless}."""
UNLESS = ' unless `mode` is ``"standard"``'  # for functions with all modes
RAISES = """\
TypeError, ValueError, OverflowError
    As in `{forward}`; and for a seed that is missing or has a state."""


def backward_of(forward: Callable[..., Any]) -> Callable[[Function], Function]:
    """Return a decorator that completes the docstring of the backward function of `forward`.

    The function's own docstring has a summary line, and only the content that differs from `forward`: additional parameters,
    other returns, notes, an example.
    """

    def complete(function: Function) -> Function:
        function.__doc__ = docstring(function, forward)
        return function

    return complete


def docstring(function: Callable[..., Any], forward: Callable[..., Any]) -> str:
    """Return the whole docstring of a backward function, in numpydoc's sections."""
    summary, own = sections(inspect.cleandoc(function.__doc__ or ""))
    own["Parameters"] = parameters(function, own.get("Parameters", ""), forward.__name__)
    mode = inspect.signature(function).parameters.get("mode")
    own.setdefault("Returns", RETURNS.format(unless=UNLESS if mode is not None and mode.annotation == "Mode" else ""))
    own.setdefault("Raises", RAISES.format(forward=forward.__name__))
    own.setdefault("See Also", f"{forward.__name__} : the forward pass, with the meaning of each parameter.")
    return joined(summary, own)


def parameters(function: Callable[..., Any], own: str, forward: str) -> str:
    """Return the section of parameters: those already described, then references to the forward pass for the others."""
    described = {name.strip() for line in re.findall(r"^(\S[^:\n]*)(?: :|$)", own, re.MULTILINE) for name in line.split(",")}
    names = [name for name in inspect.signature(function).parameters if name not in described]
    given = ", ".join(name for name in names if name != "grad" and name not in OF_THE_CALL)
    run = ", ".join(name for name in names if name in OF_THE_CALL and name != "seed")
    parts = [
        GRAD.format(forward=forward) if "grad" in names else "",
        own,
        f"{given}\n    As in the forward pass." if given else "",
        SEED if "seed" in names else "",
        f"{run}\n    As in `dropout`." if run else "",
    ]
    return "\n".join(part for part in parts if part)
