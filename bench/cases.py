"""The cases of ``cases.toml``: what is measured, and what is wanted of it."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

__all__ = ["Case", "Entry", "Target", "matching", "read", "toml"]

FILE = Path(__file__).with_name("cases.toml")


@dataclass(frozen=True)
class Case:
    """One measurement: this work, on this array, at this rate, by these contenders."""

    name: str
    entry: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    rate: float | str  # or "each": a rate an element
    group: str
    why: str
    contenders: tuple[str, ...]
    noise_shape: tuple[int, ...] | None = None
    operands: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of one array."""
        return self.size * {"float64": 8, "float32": 4}.get(self.dtype, 2)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Case:
        """Return the case that was written as JSON or TOML, where there are no tuples."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return cls(**values)

    def fields(self) -> dict[str, Any]:
        """Return what `of` takes."""
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A table of ``cases.toml``: cases that differ in the rate alone, shown side by side."""

    name: str
    title: str
    quick: bool
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Target:
    """What is wanted: the time of one contender in a case, as a multiple of another's, at most `most`, or at least `least`.

    `limit` says what keeps it from being met where it is not, and `parts` names what shows it: times of parts of the work, each
    as what it is, its case and its contender.
    """

    name: str
    case: str
    of: str
    against: str
    most: float | None = None
    least: float | None = None
    limit: str = ""
    parts: tuple[tuple[str, str, str], ...] = ()

    def met(self, ratio: float) -> bool:
        """Return whether a measured ratio is what is wanted."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    @property
    def wanted(self) -> str:
        """The limit, as a reader writes it."""
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


@dataclass(frozen=True)
class Plan:
    """The file."""

    entries: tuple[Entry, ...]
    targets: tuple[Target, ...]
    quick: tuple[str, ...]  # the contenders of a quick run


def toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says. Python has had a reader since 3.11; nothing else of the command line needs one."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        reader = importlib.import_module(name)
    except ModuleNotFoundError:
        raise ImportError(f'the benchmark needs {name}: pip install "fastdrop-kernels[bench]"') from None
    found: dict[str, Any] = reader.loads(path.read_text(encoding="utf-8"))
    return found


@functools.cache
def read() -> Plan:
    """Return what ``cases.toml`` says."""
    found = toml(FILE)
    sets = found["sets"]
    return Plan(
        tuple(entry_of(table, sets) for table in found["case"]),
        tuple(Target(**table) for table in found["target"]),
        tuple(members(["quick"], sets)),
    )


def members(names: Iterable[str], sets: dict[str, list[str]]) -> list[str]:
    """Return the contenders that are named, the sets among them written out."""
    found: list[str] = []
    for name in names:
        found += members(sets[name], sets) if name in sets else [name]
    return list(dict.fromkeys(found))


def entry_of(table: dict[str, Any], sets: dict[str, list[str]]) -> Entry:
    fields = dict(table)
    name, title, quick = fields.pop("name"), fields.pop("title"), fields.pop("quick", False)
    rates = fields.pop("rates", [0.0])  # words have none
    fields["contenders"] = members(fields["contenders"], sets)
    names = [f"{name}-p{rate}" if rate and rate != "each" else name for rate in rates]
    cases = [
        Case.of({"name": own, "entry": name, "rate": rate, "dtype": "float32", **fields})
        for own, rate in zip(names, rates, strict=True)
    ]
    return Entry(name, title, quick, tuple(cases))


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the names that any of the patterns fits; ``*`` and ``?`` as in a shell."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
