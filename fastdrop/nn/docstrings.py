"""Docstrings of layers, completed from those of their functions, which have the same keywords."""

from __future__ import annotations

import inspect
import re
from typing import Any

from fastdrop._core.docstrings import joined, sections

__all__ = ["complete"]

SCHEDULE = "    Or a schedule: a callable step -> value, such as those of `fastdrop.schedules`."
SEED = (
    "int, Key, Stream, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None",
    "    The seed of the layer's own stream. `Layer.seed` replaces it. None, the default, takes fresh entropy. A Key sets the\n"
    "    offset of the first pass, and each pass advances the offset by one. So layers must not get the keys of one stream,\n"
    "    whose offsets overlap: give them the Stream itself, or seed the model.",
)


def complete(cls: Any) -> None:
    """Complete the docstring of a layer: parameters, functions and references.

    The class's own docstring has a summary line, the content that differs from the functions, and an example.
    """
    if "__doc__" not in vars(cls) or cls.__doc__ is None:
        return
    forward, backward = cls.functions
    summary, own = sections(inspect.cleandoc(cls.__doc__))
    theirs = [sections(inspect.cleandoc(function.__doc__ or ""))[1] for function in (forward, backward)]
    own["Parameters"] = parameters(cls, own.get("Parameters", ""), [each.get("Parameters", "") for each in theirs])
    own.setdefault("See Also", f"fastdrop.{forward.__name__} : the function, with its formulas.")
    if "References" in theirs[0]:
        own.setdefault("References", theirs[0]["References"])
    cls.__doc__ = joined(summary, own)


def parameters(cls: Any, own: str, theirs: list[str]) -> str:
    """Return the section of parameters, in the order of the signature; the class's own entries replace the functions'."""
    described = entries("\n".join(theirs)) | {"seed": SEED} | entries(own)
    found = []
    for name in cls.__signature__.parameters:
        kind, text = described.get(name, ("", "    As in the function."))
        found.append(f"{name} : {kind}\n{text}" if kind else f"{name}\n{text}")
        if name == cls.scheduled and name not in entries(own):
            found.append(SCHEDULE)
    return "\n".join(found)


def entries(text: str) -> dict[str, tuple[str, str]]:
    """Return the type and the description of each parameter in a section; the first of two entries counts."""
    found: dict[str, tuple[str, str]] = {}
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        heading, _, description = entry.partition("\n")
        names, _, kind = heading.partition(" : ")
        each = names.split(", ")
        start, word, defaults = kind.partition(", default ")
        kinds = [start + word + default for default in defaults.split(" and ")]  # such as "default 0 and 1" of two names
        for name, own in zip(each, kinds if len(kinds) == len(each) else [kind] * len(each), strict=True):
            found.setdefault(name, (own, description.rstrip()))
    return found
