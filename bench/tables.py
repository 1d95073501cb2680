"""What a record says, as rows and cells: the same for the terminal, the page and the README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .cases import Case, Target, read
from .contenders import by_name
from .measure import Estimate
from .records import Record

__all__ = [
    "Cell", "Change", "Loss", "Share", "Verdict", "bytes_moved", "cell", "cells", "changes", "duration", "entries", "equality",
    "factor", "label", "losses", "notes", "overthreaded", "own_mistakes", "role", "rows", "shares", "targets", "title",
    "versions",
]  # fmt: skip


def label(contender: str, isa: str = "") -> str:
    """Return a contender's name for readers."""
    found = by_name()[contender][0].label if contender in by_name() else contender
    return f"{found} ({isa})" if contender == "c" and isa else found


def role(contender: str) -> str:
    """Return fastdrop, peer or yardstick."""
    return by_name()[contender][0].kind if contender in by_name() else "peer"


# Numbers for readers --------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{three(seconds / size)} {unit}"
    return f"{three(seconds * 1e9)} ns"


def three(value: float) -> str:
    """Return a number with three digits, or all before its point."""
    return with_digits(value, (99.95, 9.995, 0.9995))


def factor(value: float) -> str:
    """Return a ratio with what can be told of it."""
    return with_digits(value, (99.5, 9.95, 0.0995))


def with_digits(value: float, limits: tuple[float, ...]) -> str:
    """Return a number with one more digit after its point for each limit that it is below."""
    return f"{value:.{sum(value < limit for limit in limits)}f}"


# Rows and cells -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What one contender took in one case."""

    case: Case
    contender: str
    seconds: float
    ratio: Estimate  # to the case's yardstick

    @property
    def per_element(self) -> float:
        """Nanoseconds an element."""
        return self.seconds / self.case.size * 1e9

    @property
    def gigabytes(self) -> float:
        """Gigabytes of the input a second."""
        return self.case.nbytes / self.seconds / 1e9

    @property
    def whole(self) -> bool:
        """Whether a call is what counts: because it is small, or no work on elements."""
        return self.case.size <= 4096 or self.case.group == "training"

    @property
    def time(self) -> str:
        """The time as its readers want it: of a call, or of an element."""
        return duration(self.seconds) if self.whole else f"{three(self.per_element)}"


def cell(record: Record, case: str, contender: str) -> Cell | None:
    """Return what a contender took; None where it was not timed."""
    if not record.has(case, contender):
        return None
    ratio = record.ratio(case, contender, record.baseline(case))
    return Cell(record.cases[case], contender, record.seconds(case, contender), ratio)


def cells(record: Record, **fields: Any) -> Iterator[Cell]:
    """Yield all that was timed in the cases whose fields are these."""
    for name, case in record.cases.items():
        if all(getattr(case, key) == value for key, value in fields.items()):
            yield from filter(None, (cell(record, name, contender) for contender in record.contenders(name)))


def entries(record: Record) -> dict[str, list[Case]]:
    """Return the record's cases by entry: those of an entry differ in the rate alone."""
    found: dict[str, list[Case]] = {}
    for case in record.cases.values():
        found.setdefault(case.entry, []).append(case)
    return found


def title(entry: str) -> str:
    """Return an entry's title, or its name where the cases of today have no such entry."""
    return next((known.title for known in read().entries if known.name == entry), entry)


def rows(record: Record, cases: Iterable[Case]) -> dict[str, list[Cell | None]]:
    """Return a row for each contender, with a cell for each case."""
    cases = list(cases)
    names = dict.fromkeys(name for case in cases for name in case.contenders if record.has(case.name, name))
    return {name: [cell(record, case.name, name) for case in cases] for name in names}


# Verdicts ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether that is what was wanted; None where it was not measured."""

    target: Target
    measured: Estimate | None
    met: bool | None
    times: tuple[tuple[str, Cell], ...] = ()  # of the two that are compared, and of parts of the work


def targets(record: Record) -> list[Verdict]:
    """Return the target table with what was measured."""
    found = []
    for target in read().targets:
        if not record.has(target.case, target.of, target.against):
            found.append(Verdict(target, None, None))
            continue
        ratio = record.ratio(target.case, target.of, target.against)
        whole = [(label(name), target.case, name) for name in (target.of, target.against)]
        times = [(text, cell(record, case, name)) for text, case, name in (*whole, *target.parts)]
        met = target.met(ratio.value)
        found.append(Verdict(target, ratio, met, tuple((text, timed) for text, timed in times if timed)))
    return found


@dataclass(frozen=True)
class Loss:
    """A case in which somebody is ahead of fastdrop's C kernels, and by what factor."""

    case: Case
    contender: str
    ratio: Estimate  # fastdrop's time as a multiple of theirs


def losses(record: Record) -> list[Loss]:
    """Return where a peer, or the copy, is surely ahead: the whole interval lies above 1. The largest factors come first.

    Parts of the work are left out: the whole of it is there.
    """
    found = []
    for name, case in record.cases.items():
        own = next((name for name in ("c", "step-fastdrop") if name in case.contenders), None)
        if own is None or not record.has(name, own) or case.group == "parts":
            continue
        for other in record.contenders(name):
            if role(other) == "fastdrop" or other in ("multiply", "multiply-new", "step-none"):
                continue
            ratio = record.ratio(name, own, other)
            if ratio.low > 1:
                found.append(Loss(case, other, ratio))
    return sorted(found, key=lambda loss: -loss.ratio.value)


@dataclass(frozen=True)
class Change:
    """A contender's time over the yardstick, now and in another record."""

    case: str
    contender: str
    now: Estimate
    before: Estimate

    @property
    def verdict(self) -> str:
        """What can be told: the intervals overlap, or they do not."""
        if self.now.low > self.before.high:
            return "slower"
        return "faster" if self.now.high < self.before.low else "no difference that shows"


def changes(record: Record, other: Record) -> list[Change]:
    """Return how fastdrop's rows differ between two records, each against its own yardstick."""
    found = []
    for name, contender in record.rounds:
        both = record.has(name, contender) and other.has(name, contender)
        if both and role(contender) == "fastdrop" and record.baseline(name) == other.baseline(name):
            now, before = (one.ratio(name, contender, one.baseline(name)) for one in (record, other))
            found.append(Change(name, contender, now, before))
    return found


@dataclass(frozen=True)
class Share:
    """What dropout takes of a step of training."""

    case: Case
    contender: str
    seconds: float
    share: float


def shares(record: Record) -> list[Share]:
    """Return the share of dropout in the steps of training: what a step takes beyond the one without."""
    return [
        Share(found.case, found.contender, found.seconds, 1 - 1 / found.ratio.value)
        for found in cells(record, group="training")
    ]


# Checks and notes -------------------------------------------------------------------------------------------------------


def equality(record: Record) -> dict[str, list[str]]:
    """Return, by case, all of fastdrop whose bytes are the reference's."""
    found: dict[str, list[str]] = {name: [] for name in record.cases}
    for line in record.of_kind("checked"):
        if line["exact"] and line["contender"] not in found[line["case"]]:
            found[line["case"]].append(line["contender"])
    return found


def own_mistakes(record: Record) -> list[str]:
    """Return what fastdrop did wrong: a benchmark that finds such a thing has failed."""
    return [f"{label(line['contender'])}, {line['case']}: {line['why']}" for line in record.of_kind("refused") if line["own"]]


def notes(record: Record) -> list[str]:
    """Return who did not take part, and why, each once."""
    said: dict[tuple[str, str], list[str]] = {}  # who and why, and in which cases
    for kind in ("skipped", "refused", "died"):
        for line in record.of_kind(kind):
            who = label(line["contender"]) if line.get("contender") else line["case"]
            cases = said.setdefault((who, ("wrong: " if kind == "refused" else "") + line["why"]), [])
            cases += [line["case"]] * (line["case"] not in cases)
    together: dict[tuple[str, str], list[str]] = {}  # why and where, and who
    for (who, why), cases in said.items():
        where = f" (in {', '.join(cases)})" if len(cases) < min(4, len(record.cases)) else ""
        together.setdefault((why, where), []).append(who)
    return [f"{'; '.join(who)}: {why}{where}" for (why, where), who in together.items()]


def overthreaded(record: Record) -> list[str]:
    """Return who was busy on more processors than agreed, by a tenth at least."""
    found: dict[str, float] = {}
    for line in record.of_kind("samples"):
        threads = record.environment["threads"]
        if record.cases[line["case"]].group != "threads" and line["processors"] > 1.1 * threads:
            found[line["contender"]] = max(found.get(line["contender"], 0), line["processors"])
    return [f"{label(name)}: up to {value:.1f} processors" for name, value in found.items()]


def versions(record: Record) -> str:
    """Return the versions of all libraries, in a line."""
    known = record.environment["versions"]
    return ", ".join(f"{name} {version}" for name, version in known.items())


def bytes_moved(case: Case) -> int:
    """Return the bytes an element that must be read and written, at least."""
    itemsize = case.nbytes // case.size
    return itemsize * (2 + ("residual" in case.operands))
