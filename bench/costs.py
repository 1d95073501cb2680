"""The cost of each variant: the rows of the table of variants, from a record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import tables
from .measure import Estimate
from .records import Record
from .variants import CALL_BOUND, DTYPE_BOUND, OTHER_DTYPES, VARIANTS, Variant

__all__ = ["Cost", "Pass", "costs", "reasons", "slower_than_formulas"]

NUMPY, TORCH = "formula-numpy", "formula-torch"


@dataclass(frozen=True)
class Pass:
    """A pass of a variant: fastdrop's time, and its ratios to plain dropout and to the formulas."""

    cell: tables.Cell  # with the ratio to the copy
    plain: Estimate | None
    numpy: Estimate | None  # fastdrop's time divided by that of the formula; of both passes for a backward pass
    torch: Estimate | None


@dataclass(frozen=True)
class Cost:
    """A row: the passes that were measured, and the small call."""

    variant: Variant
    forward: Pass | None
    backward: Pass | None
    call: tables.Cell | None  # with the ratio to numpy.multiply
    others: dict[str, tuple[tables.Cell | None, tables.Cell | None]]  # both passes in each other dtype, with ratios to the copy

    @property
    def missed_passes(self) -> list[str]:
        """The passes that exceed their bound, in words."""
        wanted = self.variant.wanted
        passes = (("forward", self.forward), ("backward", self.backward))
        return [over(name, one.cell, wanted) for name, one in passes if one and wanted and one.cell.ratio.value > wanted]

    @property
    def missed_call(self) -> list[str]:
        """The small call, in words, if it exceeds its bound."""
        return [over("256 elements", self.call, CALL_BOUND)] if self.call and self.call.ratio.value > CALL_BOUND else []

    @property
    def dear_dtypes(self) -> list[str]:
        """The passes in other dtypes whose ratio to the copy is more than `DTYPE_BOUND` times that in float32, in words."""
        found = []
        for dtype, cells in self.others.items():
            for name, cell, one in zip(("forward", "backward"), cells, (self.forward, self.backward), strict=True):
                times = cell.ratio.value / one.cell.ratio.value if cell and one else 0.0
                if times > DTYPE_BOUND:
                    found.append(f"{dtype} {name} {tables.settled(times, DTYPE_BOUND)} times float32")
        return found


def over(name: str, cell: tables.Cell, bound: float) -> str:
    return f"{name} {tables.settled(cell.ratio.value, bound)} > {bound:g}"


def ratio(record: Record, case: str, one: str, other: str) -> Estimate | None:
    return record.ratio(case, one, other) if record.has(case, one, other) else None


def measured_pass(record: Record, case: str, own: str) -> Pass | None:
    """Return a pass; `own` is the contender with the same work as the formulas."""
    cell = tables.cell(record, case, "c")
    if cell is None:
        return None
    return Pass(cell, ratio(record, case, "c", "dropout"), ratio(record, case, own, NUMPY), ratio(record, case, own, TORCH))


def costs(record: Record) -> list[Cost]:
    """Return the rows that were measured."""
    found = [
        Cost(
            variant,
            measured_pass(record, variant.name, "c"),
            measured_pass(record, f"{variant.name}-backward", "c-both"),
            tables.cell(record, f"{variant.name}-call", "c"),
            {
                dtype: (
                    tables.cell(record, f"{variant.name}-{dtype}", "c"),
                    tables.cell(record, f"{variant.name}-backward-{dtype}", "c"),
                )
                for dtype in OTHER_DTYPES
            },
        )
        for variant in VARIANTS
    ]
    return [cost for cost in found if cost.forward or cost.backward or cost.call]


def reasons(record: Record, cost: Cost) -> list[str]:
    """Return which bounds a row misses, each with the reason and with the times of parts of the work."""
    variant = cost.variant
    both = (
        (cost.missed_passes, variant.limit, "Parts, ns per element", False),
        (cost.missed_call, variant.call_limit, "Parts", True),
    )
    return [
        " ".join(filter(None, [f"Missed: {', '.join(missed)}.", limit, parts(record, variant, heading, of_call)]))
        for missed, limit, heading, of_call in both
        if missed
    ]


def parts(record: Record, variant: Variant, heading: str, of_call: bool) -> str:
    """Return the times of the parts of a pass or of a small call."""
    names = [name for name in variant.parts if name.endswith("-call") == of_call and name != variant.name]
    known = {name.removesuffix("-call"): tables.cell(record, name, "c") for name in names}
    times = "; ".join(f"{name} {cell.time}" for name, cell in known.items() if cell)
    return f"{heading}: {times}." if times else ""


def slower_than_formulas(record: Record) -> Iterator[tuple[str, str, Estimate]]:
    """Yield the pass, the formula and the ratio where a formula is surely faster than fastdrop."""
    for cost in costs(record):
        for ending, one in (("", cost.forward), (", both passes", cost.backward)):
            for name, found in ((NUMPY, one and one.numpy), (TORCH, one and one.torch)):
                if found and found.low > 1:
                    yield cost.variant.name + ending, name, found
