"""The rows and cells of a record, shared by the terminal, the page and the README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import geometric_mean, median
from typing import Any

from .cases import Case, Target, read
from .contenders import by_name
from .measure import Estimate
from .records import Record
from .variants import BACKWARD, CALL, FORWARD, VARIANT_CASES

__all__ = [
    "Cell", "Change", "Loss", "Share", "Verdict", "answer", "answers", "bytes_moved", "cell", "cells", "changes", "duration",
    "entries", "equality", "factor", "full_title", "label", "losses", "notes", "overthreaded", "own_mistakes", "processors",
    "reason", "role", "rows", "settled", "shares", "targets", "three", "title", "versions",
]  # fmt: skip


def label(contender: str, isa: str = "") -> str:
    """Return a contender's label for readers."""
    found = by_name()[contender][0].label if contender in by_name() else contender
    return f"{found} ({isa})" if contender == "c" and isa else found


def role(contender: str) -> str:
    """Return a contender's role: "fastdrop", "peer" or "yardstick"."""
    return by_name()[contender][0].kind if contender in by_name() else "peer"


# Numbers for readers --------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{three(seconds / size)} {unit}"
    return f"{three(seconds * 1e9)} ns"


def three(value: float) -> str:
    """Return a number with three significant digits, or with all digits before its decimal point."""
    return with_digits(value, (99.95, 9.995, 0.9995))


def factor(value: float) -> str:
    """Return a ratio with as many digits as are meaningful."""
    return with_digits(value, (99.5, 9.95, 0.0995))


def settled(value: float, limit: float) -> str:
    """Return a ratio with as many digits as show on which side of a limit it lies."""
    text = factor(value)
    digits = len(text.partition(".")[2])
    while float(text) == limit != value and digits < 6:
        digits += 1
        text = f"{value:.{digits}f}"
    return text


def with_digits(value: float, limits: tuple[float, ...]) -> str:
    """Return a number with one digit after its decimal point per limit that it is below."""
    return f"{value:.{sum(value < limit for limit in limits)}f}"


# Rows and cells -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """The time of one contender in one case."""

    case: Case
    contender: str
    seconds: float
    ratio: Estimate  # relative to the case's yardstick

    @property
    def per_element(self) -> float:
        """Nanoseconds per element."""
        return self.seconds / self.case.size * 1e9

    @property
    def gigabytes(self) -> float:
        """Gigabytes of the input per second."""
        return self.case.nbytes / self.seconds / 1e9

    @property
    def whole(self) -> bool:
        """Whether to report the time of a whole call: the call is small, or its work is not counted in elements."""
        return self.case.size <= 4096 or self.case.group == "training"

    @property
    def time(self) -> str:
        """The time as text, per call or per element."""
        return duration(self.seconds) if self.whole else f"{three(self.per_element)}"


def cell(record: Record, case: str, contender: str) -> Cell | None:
    """Return the cell of a contender, or None if it was not timed."""
    if not record.has(case, contender):
        return None
    ratio = record.ratio(case, contender, record.baseline(case))
    return Cell(record.cases[case], contender, record.seconds(case, contender), ratio)


def cells(record: Record, **fields: Any) -> Iterator[Cell]:
    """Yield all cells of the cases that have these values in their fields."""
    for name, case in record.cases.items():
        if all(getattr(case, key) == value for key, value in fields.items()):
            yield from filter(None, (cell(record, name, contender) for contender in record.contenders(name)))


def entries(record: Record) -> dict[str, list[Case]]:
    """Return the record's cases by entry; the cases of an entry differ only in the rate."""
    found: dict[str, list[Case]] = {}
    for case in record.cases.values():
        found.setdefault(case.entry, []).append(case)
    return found


def heading(case: Case) -> str:
    """Return what sets a case apart from the others of its entry."""
    if case.what not in VARIANT_CASES:
        return f"p = {case.rate}" if case.rate else ""
    kind = {FORWARD: "forward", BACKWARD: "backward", CALL: "small call"}[case.what]
    return kind if case.dtype == "float32" else f"{kind}, {case.dtype}"


def title(entry: str) -> str:
    """Return an entry's title, or its name if ``cases.toml`` no longer has this entry."""
    return next((known.title for known in read().entries if known.name == entry), entry)


def full_title(case: Case) -> str:
    """Return a case's title with its rate, if it has one rate."""
    return title(case.entry) + (f", p = {case.rate}" if case.rate not in (0, "each") else "")


def reason(case: Case) -> str:
    """Return why a case is measured, in today's words if ``cases.toml`` still has its entry."""
    return next((known.cases[0].why for known in read().entries if known.name == case.entry), case.why)


def rows(record: Record, cases: Iterable[Case]) -> dict[str, list[Cell | None]]:
    """Return one row per contender, with one cell per case."""
    cases = list(cases)
    names = dict.fromkeys(name for case in cases for name in case.contenders if record.has(case.name, name))
    return {name: [cell(record, case.name, name) for case in cases] for name in names}


def answer(record: Record) -> dict[str, float]:
    """Return geometric means of ns per element over three sizes and the rates: of fastdrop, copy, peer and PyTorch."""
    found = answers(record)
    return {
        name: geometric_mean(values.values()) for name, values in found.items() if values and len(values) == len(found["c"])
    }


def answers(record: Record) -> dict[str, dict[str, float]]:
    """Return the same means of each size by contender; "peer" is the fastest other library at each size and rate."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in ("c", "copy", "peer", "torch")}
    for entry in ("64K", "4M", "64M"):
        for case in (case for case in record.cases.values() if case.entry == entry and record.has(case.name, "c", "copy")):
            found = {one.contender: one.per_element for one in cells(record, name=case.name)}
            if others := [value for name, value in found.items() if role(name) == "peer"]:
                found["peer"] = min(others)
            for name in times:
                if name in found:
                    times[name].setdefault(entry, []).append(found[name])
    return {name: {entry: geometric_mean(values) for entry, values in sizes.items()} for name, sizes in times.items() if sizes}


# Verdicts ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A target, the measured ratio, and whether it meets the target; both are None if it was not measured."""

    target: Target
    measured: Estimate | None
    met: bool | None
    times: tuple[tuple[str, Cell], ...] = ()  # the two compared times, and times of parts of the work


def targets(record: Record) -> list[Verdict]:
    """Return a verdict for each target."""
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
    """A case in which another contender is faster than fastdrop's C kernels, and the factor."""

    case: Case
    contender: str
    ratio: Estimate  # fastdrop's time divided by the other's


def losses(record: Record) -> list[Loss]:
    """Return the cases in which a peer, or the copy, is surely faster: the whole interval lies above 1. Largest factors first.

    Parts of the work are left out, because the whole work is a case too, and so are the rows of the table of variants.
    """
    found = []
    for name, case in record.cases.items():
        own = next((name for name in ("c", "step-fastdrop") if name in case.contenders), None)
        if own is None or not record.has(name, own) or case.group == "parts" or case.what in VARIANT_CASES:
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
    """The ratio of a contender's time to the yardstick's, now and in another record."""

    case: str
    contender: str
    now: Estimate
    before: Estimate

    @property
    def verdict(self) -> str:
        """The verdict: slower or faster if the intervals do not overlap."""
        if self.now.low > self.before.high:
            return "slower"
        return "faster" if self.now.high < self.before.low else "no clear difference"


def changes(record: Record, other: Record) -> list[Change]:
    """Compare fastdrop's rows in two records, each relative to its own yardstick."""
    found = []
    for name, contender in record.rounds:
        both = record.has(name, contender) and other.has(name, contender)
        if both and role(contender) == "fastdrop" and record.baseline(name) == other.baseline(name):
            now, before = (one.ratio(name, contender, one.baseline(name)) for one in (record, other))
            found.append(Change(name, contender, now, before))
    return found


@dataclass(frozen=True)
class Share:
    """The share of dropout in the time of a training step."""

    case: Case
    contender: str
    seconds: float
    share: float


def shares(record: Record) -> list[Share]:
    """Return the shares of dropout in training steps: the time that a step takes beyond the step without dropout."""
    return [
        Share(found.case, found.contender, found.seconds, 1 - 1 / found.ratio.value)
        for found in cells(record, group="training")
    ]


# Checks and notes -------------------------------------------------------------------------------------------------------


def equality(record: Record) -> dict[str, list[str]]:
    """Return, by case, the parts of fastdrop whose results have the bytes of the reference."""
    found: dict[str, list[str]] = {name: [] for name in record.cases}
    for line in record.of_kind("checked"):
        if line["exact"] and line["contender"] not in found[line["case"]]:
            found[line["case"]].append(line["contender"])
    return found


def own_mistakes(record: Record) -> list[str]:
    """Return fastdrop's wrong results; a benchmark that finds one has failed."""
    return [f"{label(line['contender'])}, {line['case']}: {line['why']}" for line in record.of_kind("refused") if line["own"]]


def notes(record: Record) -> list[str]:
    """Return which contenders did not take part and why, each reason once."""
    said: dict[tuple[str, str], list[str]] = {}  # (contender, reason) -> cases
    for kind in ("skipped", "refused", "died"):
        for line in record.of_kind(kind):
            who = label(line["contender"]) if line.get("contender") else line["case"]
            cases = said.setdefault((who, ("wrong: " if kind == "refused" else "") + line["why"]), [])
            cases += [line["case"]] * (line["case"] not in cases)
    together: dict[tuple[str, str], list[str]] = {}  # (reason, cases) -> contenders
    for (who, why), cases in said.items():
        where = f" (in {', '.join(cases)})" if len(cases) < min(4, len(record.cases)) else ""
        together.setdefault((why, where), []).append(who)
    return [f"{'; '.join(who)}: {why}{where}" for (why, where), who in together.items()]


def overthreaded(record: Record) -> list[str]:
    """Return the contenders that used more processors than agreed, by at least a tenth, in most processes of a case."""
    used: dict[tuple[str, str], list[float]] = {}
    for line in record.of_kind("samples"):
        if record.cases[line["case"]].group != "threads":
            used.setdefault((line["contender"], line["case"]), []).append(line["processors"])
    found: dict[str, float] = {}
    for (name, _), values in used.items():
        found[name] = max(found.get(name, 0), median(values))
    threads = record.environment["threads"]
    return [f"{label(name)}: {value:.1f} processors" for name, value in found.items() if value > 1.1 * threads]


def processors(environment: dict[str, Any]) -> str:
    """Return the number of the machine's processors, and of those that the benchmark may use if they are fewer."""
    allowed = environment["processors"]
    every = environment.get("machine_processors") or allowed
    return f"{every} processor{'s' * (every > 1)}" + (f", {allowed} of which the benchmark may use" if allowed < every else "")


def versions(record: Record) -> str:
    """Return the versions of all libraries in one line."""
    known = record.environment["versions"]
    return ", ".join(f"{name} {version}" for name, version in known.items())


def bytes_moved(case: Case) -> int:
    """Return the least number of bytes per element that must be read and written."""
    itemsize = case.nbytes // case.size
    return itemsize * (2 + ("residual" in case.operands))
