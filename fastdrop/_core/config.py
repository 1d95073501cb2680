"""Configurations: dictionaries for JSON from which an object is rebuilt, and the differences between two of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode", "differences", "encode", "entries", "find_class", "zeros"]


def encode(value: Any, name: str) -> Any:
    """Return a value in a form that JSON can hold; an object with a ``to_config`` becomes its configuration.

    A function has no configuration. Its name is recorded, so that two functions can be compared.
    """
    if hasattr(value, "to_config"):
        return value.to_config()
    if isinstance(value, np.ndarray) and value.ndim:
        if value.dtype == np.longdouble:  # JSON has no such numbers
            value = value.astype(np.float64)
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    if isinstance(value, np.longdouble):  # which `item` leaves as it is
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(each, name) for each in value]
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return {"function": f"{named.__module__}.{named.__qualname__}"}
    raise TypeError(f"{name} cannot be written into a configuration; got {value!r} ({type(value).__name__})")


def decode(value: Any, name: str, build: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Return the value that `encode` encoded; `build` makes an object from its configuration."""
    if isinstance(value, list):
        return tuple(decode(each, name, build) for each in value)
    if not isinstance(value, Mapping):
        return value
    try:
        if "array" in value:
            return np.array(value["array"], value["dtype"])
        if "float" in value:
            return float(value["float"])
    except (KeyError, TypeError, ValueError, OverflowError):
        allowed = "{'array': numbers, 'dtype': a name} or {'float': a number}"
        raise ValueError(f"{name} in a configuration must be {allowed}; got {value!r}") from None
    if "function" in value:
        raise ValueError(f"{name} was the function {value['function']}, which a configuration cannot hold; use a Schedule")
    return build(value)


def entries(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the dictionary that a configuration has under a name; an empty one if there is none."""
    found = config.get(name, {})
    if not isinstance(found, Mapping):
        raise TypeError(f"{name} in a configuration must be a dictionary; got {found!r}")
    return found


def zeros(array: Any, name: str) -> NDArray[Any]:
    """Return zeros in place of a parameter; a configuration has only its shape and its dtype."""
    try:
        return np.zeros(array["shape"], array["dtype"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"parameters.{name} in a configuration must have a shape and a dtype; got {array!r}") from None


def find_class(base: type[Any], config: Any) -> type[Any]:
    """Return the class that a configuration names: `base`, or a class derived from it."""
    if not isinstance(config, Mapping) or not isinstance(config.get("class"), str):
        raise TypeError(f"a configuration must be a dictionary with the name of a class under 'class'; got {config!r}")
    found = [cls for cls in derived(base) if cls.__name__ == config["class"]]
    if not found:
        raise ValueError(f"no class {config['class']} is a {base.__name__}; import the module that defines it first")
    modules = sorted({cls.__module__ for cls in found})
    if len(modules) > 1:
        raise ValueError(f"the class {config['class']} is in more than one module: {', '.join(modules)}")
    return found[-1]  # the newest definition: a notebook may define a class several times


def derived(base: type[Any]) -> Iterator[type[Any]]:
    """Yield a class and all classes derived from it."""
    yield base
    for cls in base.__subclasses__():
        yield from derived(cls)


def differences(here: Any, there: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each entry in which two configurations differ, and its two values; a missing one is None."""
    if not isinstance(here, Mapping) or not isinstance(there, Mapping):
        if here != there:
            yield name, here, there
        return
    if here.get("class") != there.get("class"):
        yield joined(name, "class"), here.get("class"), there.get("class")
        return  # all other entries belong to another class
    for key in [*here, *(key for key in there if key not in here)]:
        inner = name if key == "layers" else joined(name, key)
        yield from differences(here.get(key), there.get(key), inner)


def joined(name: str, key: str) -> str:
    """Return the full name of the entry `key` of the object `name`; the outermost object has no name."""
    return f"{name}.{key}" if name else key
