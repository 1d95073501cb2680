"""The sections of a docstring, for docstrings that are built from others."""

from __future__ import annotations

import re

__all__ = ["joined", "sections"]

SECTIONS = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")


def sections(text: str) -> tuple[str, dict[str, str]]:
    """Return the text before the first section, and the sections by name."""
    parts = re.split(rf"^({'|'.join(SECTIONS)})\n-+\n", text, flags=re.MULTILINE)
    return parts[0].strip(), {name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def joined(summary: str, parts: dict[str, str]) -> str:
    """Return the docstring of a summary and of sections by name, in numpydoc's order."""
    return "\n\n".join([summary, *(f"{name}\n{'-' * len(name)}\n{parts[name]}" for name in SECTIONS if name in parts)]) + "\n"
