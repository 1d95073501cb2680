"""Compare machines: write one page from the newest record of each machine.

fastdrop bench --record MACHINE.jsonl                        # on each machine
python -m fastdrop.bench.machines --html machines.html *.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import busy, tables
from .records import Record
from .report import document, table

__all__ = ["newest_of_each", "page", "write_page"]

CONTENDERS = ("c", "c-new", "numba", "torch", "torch-rand", "idiom-pcg64", "idiom-sfc64-out", "tensorflow-xla", "jax-threefry")
ENTRIES = ("256", "64K", "4M", "64M")


def machine(record: Record) -> tuple[str, str, int]:
    """Return what tells machines apart: the processor, the instruction set and the number of threads."""
    found = record.environment
    return found["cpu"], found["isa"], found["threads"]


def name(record: Record) -> str:
    cpu, isa, threads = machine(record)
    return f"{cpu}, {isa}" + (f", {threads} threads" if threads > 1 else "")


def newest_of_each(records: Iterable[Record]) -> list[Record]:
    """Return the newest record of each machine, in the order of their names."""
    found: dict[tuple[str, str, int], Record] = {}
    for record in sorted(records, key=lambda record: str(record.environment["date"])):
        found[machine(record)] = record
    return [found[key] for key in sorted(found)]


def page(records: Sequence[Record]) -> str:
    """Return the comparison as HTML text."""
    found = newest_of_each(records)
    lead = (
        f"The newest records of {len(found)} machines. Each ratio compares two times that were measured in the same rounds on "
        "one machine; times of different machines are not divided by one another. The tables of cases give nanoseconds per "
        "element, or the time of a small call, and in brackets the time divided by that of numpy.copyto."
    )
    if len(found) == 1:
        lead = (
            f"There are records of one machine only, {name(found[0])}, so there is nothing to compare yet. To add yours, run "
            "fastdrop bench --record FILE, and put the file into bench/records."
        )
    sections = [("machines", "Machines", machines_table(found))]
    for entry in ENTRIES:
        for rate in (0.1, 0.5):
            if body := case_table(found, f"{entry}-p{rate}"):
                sections.append((f"{entry}-{rate}", f"{tables.title(entry)}, p = {rate}", body))
    return document("Dropout on several machines", lead, sections)


def machines_table(records: Sequence[Record]) -> str:
    rows = [
        ("", [name(one), tables.processors(one.environment), one.environment["build"].split(" -")[0], *state(one)])
        for one in records
    ]
    return table(["machine", "processors", "compiler", "date", "state"], rows, text=[1, 2, 3, 4])


def state(record: Record) -> tuple[str, str]:
    """Return the date of a record, and how busy the machine was."""
    reasons = busy.reasons(record)
    return record.environment["date"][:10], "not recorded" if reasons is None else "busy" if reasons else "quiet"


def case_table(records: Sequence[Record], case: str) -> str:
    """Return the times of a case, one column per machine; an empty text if no machine has it."""
    rows: list[tuple[str, list[Any]]] = []
    for contender in ("copy", *CONTENDERS):
        cells = [tables.cell(one, case, contender) for one in records]
        if any(cells):
            texts = [f"{cell.time} ({tables.factor(cell.ratio.value)})" if cell else "–" for cell in cells]
            rows.append((tables.role(contender), [tables.label(contender), *texts]))
    return table(["", *map(name, records)], rows) if rows else ""


def write_page(records: Sequence[Record], path: Path) -> None:
    """Write the comparison to a file."""
    path.write_text(page(records), encoding="utf-8")


def main() -> None:
    """Write the page of the records that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m fastdrop.bench.machines", description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="a file that fastdrop bench --record wrote")
    parser.add_argument("--html", type=Path, required=True, metavar="FILE", help="the page to write")
    arguments = parser.parse_args()
    try:
        write_page([Record.read(path) for path in arguments.records], arguments.html)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
