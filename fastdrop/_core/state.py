"""The joint state of several parts: a flat dictionary whose keys begin with the names of the parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastdrop._core.checks import check_mapping

__all__ = ["collect", "distribute", "require_entries", "require_state"]


def collect(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of each part that has one, under ``name.key``."""
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        if hasattr(part, "state_dict")
        for key, value in part.state_dict().items()
    }


def distribute(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load into each part its entries of a state that `collect` returned. After an error, all parts have their old state."""
    before = collect(parts)
    try:
        load(parts, state)
    except BaseException:
        load(parts, before)
        raise


def load(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load into each part its entries of a state."""
    for name, part in parts.items():
        if hasattr(part, "load_state_dict"):
            beginning = f"{name}."
            part.load_state_dict({key[len(beginning) :]: value for key, value in state.items() if key.startswith(beginning)})


def require_state(state: object) -> None:
    """Raise an error unless a state is a dictionary."""
    check_mapping(state, "the state", "a dictionary, as state_dict returns it")


def require_entries(state: Mapping[str, Any], wanted: Iterable[str], whose: str) -> None:
    """Raise an error unless the state is a dictionary with exactly the wanted entries."""
    require_state(state)
    wanted = set(wanted)
    missing, unknown = sorted(wanted - state.keys()), sorted(map(str, state.keys() - wanted))
    if missing or unknown:
        wrong = [f"{what}: {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise ValueError(f"the state does not fit {whose}; {'; '.join(wrong)}")
