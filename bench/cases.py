"""Read ``cases.toml``: the cases to measure and the targets to meet."""

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

from .variants import BACKWARD, CALL, FORWARD, VARIANTS, Variant

__all__ = ["Case", "Entry", "Target", "matching", "read", "toml"]

FILE = Path(__file__).with_name("cases.toml")


@dataclass(frozen=True)
class Case:
    """One measurement: the kind of work, the array, the rate and the contenders."""

    name: str
    entry: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    rate: float | str  # or "each": one rate per element
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
        """The size of one array in bytes."""
        return self.size * {"float64": 8, "float32": 4}.get(self.dtype, 2)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Case:
        """Return a case from fields read from JSON or TOML, which have lists instead of tuples."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return cls(**values)

    def fields(self) -> dict[str, Any]:
        """Return the fields, as `of` takes them."""
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A table of ``cases.toml``: cases that differ only in the rate. Reports show them side by side."""

    name: str
    title: str
    quick: bool
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Target:
    """A target: the time of contender `of`, divided by that of `against`, is at most `most` or at least `least`.

    `limit` says why the target may be missed. `parts` names times of parts of the work that show this; each part is a
    description, a case and a contender.
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
        """Return whether a measured ratio meets the target."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    @property
    def limit_value(self) -> float:
        """The limit, `most` or `least`."""
        found = self.most if self.most is not None else self.least
        assert found is not None
        return found

    @property
    def wanted(self) -> str:
        """The limit as text."""
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


@dataclass(frozen=True)
class Plan:
    """The content of the file."""

    entries: tuple[Entry, ...]
    targets: tuple[Target, ...]
    quick: tuple[str, ...]  # the contenders of a quick run


def toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Python 3.10 has no TOML reader; no other part of the command line needs one."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        reader = importlib.import_module(name)
    except ModuleNotFoundError:
        raise ImportError(f'the benchmark needs {name}: pip install "fastdrop-kernels[bench]"') from None
    found: dict[str, Any] = reader.loads(path.read_text(encoding="utf-8"))
    return found


@functools.cache
def read() -> Plan:
    """Return the content of ``cases.toml``."""
    found = toml(FILE)
    sets = found["sets"]
    return Plan(
        (*(entry_of(table, sets) for table in found["case"]), *(entry_of_variant(variant, sets) for variant in VARIANTS)),
        tuple(Target(**table) for table in found["target"]),
        tuple(members(["quick"], sets)),
    )


def members(names: Iterable[str], sets: dict[str, list[str]]) -> list[str]:
    """Return the named contenders; names of sets are replaced by their members."""
    found: list[str] = []
    for name in names:
        found += members(sets[name], sets) if name in sets else [name]
    return list(dict.fromkeys(found))


def entry_of(table: dict[str, Any], sets: dict[str, list[str]]) -> Entry:
    fields = dict(table)
    name, title, quick = fields.pop("name"), fields.pop("title"), fields.pop("quick", False)
    rates = fields.pop("rates", [0.0])  # random words have no rate
    fields["contenders"] = members(fields["contenders"], sets)
    names = [f"{name}-p{rate}" if rate and rate != "each" else name for rate in rates]
    cases = [
        Case.of({"name": own, "entry": name, "rate": rate, "dtype": "float32", **fields})
        for own, rate in zip(names, rates, strict=True)
    ]
    return Entry(name, title, quick, tuple(cases))


def entry_of_variant(variant: Variant, sets: dict[str, list[str]]) -> Entry:
    """Return the entry of a row of `VARIANTS`: its forward pass, its backward pass, a small call, and other dtypes."""
    kinds = {FORWARD: "", BACKWARD: "-backward", CALL: "-call"}
    if variant.backward is None:
        del kinds[BACKWARD]

    def case(what: str, dtype: str) -> Case:
        is_other = dtype != "float32"
        return Case(
            name=variant.name + kinds[what] + (f"-{dtype}" if is_other else ""),
            what=what,
            shape=variant.shape(what),
            dtype=dtype,
            group="costs of dtypes" if is_other else "costs",
            contenders=tuple(members(["other dtype" if is_other else what], sets)),
            entry=variant.name,
            rate=0.0,
            why=f"what fastdrop.{variant.function} costs",
        )

    others = [case(what, dtype) for dtype in variant.other_dtypes for what in kinds if what != CALL]
    return Entry(variant.name, variant.name, False, (*(case(what, "float32") for what in kinds), *others))


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the names that match any of the patterns; ``*`` and ``?`` work as in a shell."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
