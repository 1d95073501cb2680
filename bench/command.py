"""The command ``fastdrop bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fastdrop._cli.screens import FAILURE, end, errors_in_one_line, progress_bar, show, table
from fastdrop._cli.signals import stopping_cleanly
from fastdrop._core.settings import checked_isa
from fastdrop.npyfile import require_writable

from . import busy, tables
from .cases import Case, Entry
from .contenders import add_file, by_name
from .records import Record
from .run import QUICK, THOROUGH, run, select, step_count

__all__ = ["bench"]

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="Takes less than a minute: three sizes, compared with the NumPy idiom and PyTorch.")
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Only matching cases, groups or contenders: '64M*', variant, torch. May be repeated.",
)
@click.option("--threads", type=int, default=1, show_default=True, help="The number of threads for every library.")
@click.option("--isa", metavar="NAME", help="The instruction set of fastdrop's C kernels (default: the best one).")
@click.option(
    "--contender",
    "files",
    type=EXISTING,
    multiple=True,
    metavar="FILE",
    help="A Python file with another contender; docs/benchmarks.md shows one. May be repeated.",
)
@click.option("--against", type=EXISTING, metavar="RECORD", help="Compare with an earlier record.")
@click.option("--html", type=FILE, metavar="FILE", help="Write the report as one HTML page that needs no network.")
@click.option("--record", type=FILE, metavar="FILE", help="Write all raw times as JSON lines.")
def bench(
    quick: bool,
    only: tuple[str, ...],
    threads: int,
    isa: str | None,
    files: tuple[Path, ...],
    against: Path | None,
    html: Path | None,
    record: Path | None,
) -> None:
    """Compare speed with other installed libraries.

    The data are the activations of a random layer on scikit-learn's handwritten digits. Results are checked before
    they are timed: fastdrop's backends and instruction sets must give the same bytes, and the other libraries must do
    dropout correctly. A full run with all libraries (pip install "fastdrop-kernels[peers]") takes half an hour.
    """
    with stopping_cleanly(), errors_in_one_line():
        require_files(html, record)
        before = None if against is None else Record.read(against)
        added = [name for path in files for name in add_file(path)]
        selection, mode = select(quick, only, added), QUICK if quick else THOROUGH
        require_isa(isa)

        def finish_entry(found: Record, entry: Entry) -> None:
            if record:  # after each entry, so that a run that is interrupted leaves what it measured
                found.write(record)
            show_entry(found, entry)

        with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
            tell = told_by(bar, step_count(selection, mode))
            found = run(selection, mode, threads=threads, isa=isa, tell=tell, show=finish_entry)
        if record:  # files first, so that they are there even if the screen fails
            found.write(record)
        if html:
            from .report import write_report  # matplotlib takes a second

            write_report(found, html)
        show_end(found, before)
    if tables.own_mistakes(found):
        end("fastdrop's own results are wrong: see above", FAILURE)


def require_files(html: Path | None, record: Path | None) -> None:
    """Check that files can be written before anything is measured."""
    for path in filter(None, (html, record)):
        require_writable(path)
    if html is not None:
        if record is not None and html.resolve() == record.resolve():
            raise ValueError(f"--html and --record must be two files; both are {html}")
        import matplotlib  # noqa: F401  fails now, if it is missing, rather than in half an hour


def require_isa(isa: str | None) -> None:
    try:
        if isa is not None:
            checked_isa(isa)
    except RuntimeError as error:  # this machine lacks it
        raise ValueError(str(error)) from None


def told_by(bar: Progress, steps: int) -> Callable[[str, bool], None]:
    """Return the function that advances a progress bar."""
    task = bar.add_task("starting", total=steps)
    begun = 0

    def tell(text: str, begins: bool) -> None:
        nonlocal begun
        begun += begins
        bar.update(task, description=text, completed=max(0, begun - 1))

    return tell


# Tables during the run --------------------------------------------------------------------------------------------------


MOST_COLUMNS = 3  # of cases side by side, in a terminal of 80 columns
LABEL_WIDTH, CASE_WIDTH = 23, 19  # columns of a terminal that a label and a case need


def show_entry(record: Record, entry: Entry) -> None:
    """Show the cases of an entry side by side."""
    cases = [case for case in entry.cases if record.contenders(case.name)]
    if not cases:
        why = [line["why"] for line in record.of_kind("skipped") if line["case"] in {case.name for case in entry.cases}]
        show("", f"{entry.title}: skipped: {why[0] if why else 'no contender could do it'}")
        return
    together = max(1, min(MOST_COLUMNS, (Console().width - LABEL_WIDTH) // CASE_WIDTH))
    for begin in range(0, len(cases), together):
        show("", entry_table(record, entry.title, cases[begin : begin + together]))


def entry_table(record: Record, title: str, cases: list[Case]) -> Table:
    made = table(title)
    baseline = {"copy": "x copy", "step-none": "x bare"}.get(record.baseline(cases[0].name), "x first")
    for case in cases:
        heading = tables.heading(case).replace(", ", "\n")
        made.add_column(f"{heading}\n{time_heading(record, case)}", justify="right", no_wrap=True, vertical="bottom")
        made.add_column(f"\n{baseline}", justify="right", no_wrap=True, vertical="bottom")
    for name, row in tables.rows(record, cases).items():
        texts = [text for cell in row for text in shown(cell, with_interval=len(cases) < 3)]
        style = {"fastdrop": "bold", "yardstick": "dim"}.get(tables.role(name))
        made.add_row(Text(tables.label(name, record.environment["isa"])), *texts, style=style)
    return made


def time_heading(record: Record, case: Case) -> str:
    cell = tables.cell(record, case.name, record.contenders(case.name)[0])
    return "per call" if cell is None or not cell.time[-1].isdigit() else "ns"


def shown(cell: tables.Cell | None, with_interval: bool) -> tuple[str, str]:
    """Return a time and a ratio; the ratio has the half-width of its interval if the table has room for it."""
    if cell is None:
        return "-", "-"
    ratio = cell.ratio
    spread = 50 * (ratio.high - ratio.low) / ratio.value
    interval = f" ±{spread:2.0f}%" if ratio.low < ratio.high else " " * 5
    return cell.time, tables.factor(ratio.value) + interval * with_interval


# At the end -------------------------------------------------------------------------------------------------------------


def show_end(record: Record, before: Record | None) -> None:
    environment = record.environment
    known = [verdict for verdict in tables.targets(record) if verdict.measured]
    if len(known) > 2:
        show("", targets_table(known))
    for line in record.of_kind("memory"):
        grown = (
            "not known on this system"
            if line["bytes"] is None
            else f"{line['bytes']:,} bytes (target: at most {line['most']:,})"
        )
        show("", f"Memory of a forward and a backward pass beyond inputs and outputs: {grown}")
    if found := tables.losses(record):
        show("", losses_table(record, found))
    if before is not None:
        show("", changes_shown(record, before))
    show("", legend(), "")
    show(f"{environment['cpu']}, {tables.processors(environment)}; {environment['build']}", busy.describe(record))
    show(tables.versions(record))
    threads = environment["threads"]
    show(f"{'One thread' if threads == 1 else f'{threads} threads'} for every library. {equality_sentence(record)}")
    for text in (*tables.notes(record), *(f"used more threads than agreed: {text}" for text in tables.overthreaded(record))):
        show(Text(f"- {text}"))
    for text in tables.own_mistakes(record):
        show(Text(f"WRONG: {text}", "bold red"))


LEGEND = {
    "ns": "nanoseconds per element; small cases show the time per call",
    "x copy": "the time divided by the time of numpy.copyto on the same arrays: the median of the ratios within a round, and "
    "half the width of its 95 % interval (bootstrap)",
    "idiom": "x * (rng.random(x.shape, dtype) >= p) * s",
    "out=": 'writes to allocated memory; so do fastdrop (except "new result"), numexpr, the Numba loops and MKL. All others '
    "allocate their result in each call.",
}


def legend() -> Table:
    made = Table.grid(padding=(0, 2))
    for term, meaning in LEGEND.items():
        made.add_row(Text(term), Text(meaning))
    return made


def equality_sentence(record: Record) -> str:
    """Return a sentence that names the parts of fastdrop that gave the same bytes."""
    found = tables.equality(record)
    names = [name for name in by_name() if any(name in same for same in found.values()) and name not in ("c", "c-new")]
    labels = [tables.label(name).removeprefix("fastdrop, ") for name in names]
    return f"These gave the same bytes: {'; '.join(labels)}." if labels else "No results of fastdrop were compared."


def targets_table(verdicts: list[tables.Verdict]) -> Table:
    made = table("ratio", "target", "measured", "", right=["target", "measured"])
    for verdict in verdicts:
        measured = tables.settled(verdict.measured.value, verdict.target.limit_value) if verdict.measured else "-"
        made.add_row(verdict.target.name, verdict.target.wanted, measured, VERDICTS[verdict.met])
    return made


VERDICTS = {True: Text("met", "green"), False: Text("NOT MET", "red"), None: Text("not measured", "dim")}


def losses_table(record: Record, found: list[tables.Loss]) -> Table:
    made = table("where fastdrop loses", "faster", "by a factor of", right=["by a factor of"])
    for loss in found:
        made.add_row(loss.case.name, tables.label(loss.contender), tables.factor(loss.ratio.value))
    return made


def changes_shown(record: Record, before: Record) -> Table | str:
    """Return the table of rows that differ, or a sentence if there are none; both count the other rows."""
    changes = tables.changes(record, before)
    made = table("changed", "contender", "before", "now", "", right=["before", "now"])
    for change in changes:
        if change.verdict in ("slower", "faster"):
            then, now = (tables.factor(value.value) for value in (change.before, change.now))
            style = "red" if change.verdict == "slower" else "green"
            made.add_row(change.case, tables.label(change.contender), then, now, Text(change.verdict, style))
    unchanged = f"{len(changes) - made.row_count} of {len(changes)} rows: no clear difference"
    if not made.row_count:
        return f"Compared with the earlier record: {unchanged}"
    made.caption = unchanged
    return made
