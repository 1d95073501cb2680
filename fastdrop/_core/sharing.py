"""Streams and schedules in several places of a model: their names for a configuration, and how they are shared again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

__all__ = ["SHARED", "Parts", "share", "shared_parts"]

T = TypeVar("T")
Parts = Iterator[tuple[str, Any]]  # with their full names

SHARED = "shared parts"  # the entry of a configuration; no argument has such a name


def shared_parts(found: Parts) -> list[list[str]]:
    """Return the full names of each part that is in more than one place."""
    places: dict[int, list[str]] = {}
    parts = list(found)  # which keeps them all, so that no two have one id
    for name, part in parts:
        places.setdefault(id(part), []).append(name)
    return [names for names in places.values() if len(names) > 1]


def share(whole: T, found: Parts, groups: Any) -> T:
    """Return a layer or a schedule with one part in all places of each group; the first place gives it."""
    parts = dict(found)
    try:
        pairs = [(parts[first], parts[name]) for first, *others in groups for name in (first, *others)]
    except (KeyError, TypeError, ValueError):
        allowed = f"lists of names such as {list(parts)[:2]}"
        raise ValueError(f"{SHARED} in a configuration must be {allowed}; got {groups!r}") from None
    if any(type(first) is not type(other) for first, other in pairs):
        raise ValueError(f"{SHARED} in a configuration must name parts of one class in each list; got {groups!r}")
    made: dict[int, Any] = {}  # the copies of the parts, by the identity of each part
    for names in sorted(groups, key=lambda names: max(name.count(".") for name in names), reverse=True):  # inner parts first
        one = copy.deepcopy(parts[names[0]], made)
        made |= {id(parts[name]): one for name in names}
    return copy.deepcopy(whole, made)
