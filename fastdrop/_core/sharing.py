"""Streams and schedules that several layers share: their names for a configuration, and how they are shared again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastdrop._core.config import joined
from fastdrop.schedules.base import Schedule

if TYPE_CHECKING:
    from fastdrop.nn.layer import Layer

__all__ = ["SHARED", "share", "shared_parts"]

SHARED = "shared parts"  # the entry of a configuration; no argument has such a name


def shared_parts(layer: Layer) -> list[list[str]]:
    """Return the full names of each part with a state that is in more than one place of the layers inside."""
    places: dict[int, list[str]] = {}
    found = list(stateful_parts(layer))
    for name, part in found:
        places.setdefault(id(part), []).append(name)
    return [names for names in places.values() if len(names) > 1]


def share(layer: Any, groups: Any) -> Any:
    """Return the layer with one part in all places of each group; the first place gives it."""
    for _, inner in layer.walk():
        getattr(inner, "stream", None)  # which makes it
    found = dict(stateful_parts(layer))
    try:
        pairs = [(found[first], found[name]) for first, *others in groups for name in (first, *others)]
    except (KeyError, TypeError, ValueError):
        allowed = f"lists of names such as {list(found)[:2]}"
        raise ValueError(f"{SHARED} in a configuration must be {allowed}; got {groups!r}") from None
    if any(type(first) is not type(other) for first, other in pairs):
        raise ValueError(f"{SHARED} in a configuration must name parts of one class in each list; got {groups!r}")
    return copy.deepcopy(layer, {id(other): first for first, other in pairs})  # a part may be deep inside a schedule


def stateful_parts(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Yield the streams and the schedules that have a state, with their full names."""
    for name, inner in layer.walk():
        yield from with_parts(name, inner.own_parts())


def with_parts(name: str, parts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts that have a state, and the parts inside them."""
    for key, part in parts.items():
        if getattr(part, "state_dict", dict)():
            yield joined(name, key), part
            yield from with_parts(joined(name, key), part.parts() if isinstance(part, Schedule) else {})
