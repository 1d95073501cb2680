"""Records: the raw results of a run as JSON lines, and queries on them.

The ``kind`` of a line is ``environment`` (the first line), ``case``, ``samples`` (raw seconds by round), ``checked``,
``skipped``, ``refused`` (a wrong result), ``died``, ``memory`` or ``failed``.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from fastdrop.npyfile import replacement

from .cases import Case
from .measure import Estimate, estimate, paired

__all__ = ["Record", "newest"]

RoundsOf = dict[int, dict[int, float]]  # process -> round -> seconds


@dataclass
class Record:
    """The results of a run."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)
    rounds: dict[tuple[str, str], RoundsOf] = field(default_factory=dict)  # by case and contender

    def add(self, line: dict[str, Any]) -> None:
        """Add a line."""
        self.lines.append(line)
        if line["kind"] == "case":
            case = Case.of({name: value for name, value in line.items() if name != "kind"})
            self.cases[case.name] = case
        elif line["kind"] == "samples":
            rounds = dict(zip(line["rounds"], line["seconds"], strict=True))
            self.rounds.setdefault((line["case"], line["contender"]), {})[line["process"]] = rounds

    @classmethod
    def read(cls, path: Path) -> Record:
        """Return the record in a file.

        Raises
        ------
        ValueError
            The file is not a record.
        """
        made = cls()
        try:
            for text in path.read_text(encoding="utf-8").splitlines():
                made.add(json.loads(text))
            made.environment["date"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is not a record of fastdrop's benchmark") from None
        return made

    def write(self, path: Path) -> None:
        """Write the record to a file, which it replaces when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path) as file:
            file.writelines(f"{json.dumps(line)}\n".encode() for line in self.lines)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of a kind."""
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def environment(self) -> dict[str, Any]:
        """The description of the machine, the build and the versions."""
        found = self.of_kind("environment")
        if not found:
            raise KeyError("environment")
        return found[0]

    def contenders(self, case: str) -> list[str]:
        """Return the names of the contenders that were timed in a case."""
        return [contender for name, contender in self.rounds if name == case]

    def seconds(self, case: str, contender: str) -> float:
        """Return the median of the seconds of one call."""
        return median(value for rounds in self.rounds[case, contender].values() for value in rounds.values())

    def has(self, case: str, *contenders: str) -> bool:
        """Return whether all of them were timed in a case."""
        return all((case, contender) in self.rounds for contender in contenders)

    def ratio(self, case: str, contender: str, against: str) -> Estimate:
        """Return the time of one contender divided by another's, paired within rounds."""
        return _ratio(*(freeze(self.rounds[case, name]) for name in (contender, against)))

    def baseline(self, case: str) -> str:
        """Return the contender that ran in every round: the first of the case, a yardstick."""
        return next(name for name in self.cases[case].contenders if (case, name) in self.rounds)


Frozen = tuple[tuple[int, tuple[tuple[int, float], ...]], ...]


def freeze(rounds: RoundsOf) -> Frozen:
    return tuple((process, tuple(found.items())) for process, found in sorted(rounds.items()))


@functools.cache
def _ratio(one: Frozen, other: Frozen) -> Estimate:
    a, b = dict(one), dict(other)
    both = sorted(a.keys() & b.keys())
    return estimate(paired([dict(a[process]) for process in both], [dict(b[process]) for process in both]))


def newest(folder: Path) -> Path:
    """Return the path of the newest record in a folder, of those with the most entries. A short record only adds a machine.

    Raises
    ------
    ValueError
        The folder contains no record.
    """
    read = [(Record.read(path), path) for path in folder.glob("*.jsonl")]
    dated = [(len({case.entry for case in one.cases.values()}), one.environment["date"], path) for one, path in read]
    if not dated:
        raise ValueError(f"{folder} contains no record; fastdrop bench --record {folder / 'NAME.jsonl'} writes one")
    return max(dated)[2]
