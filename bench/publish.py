"""Publish the records: run ``python -m fastdrop.bench.publish`` in the checkout.

The report shows the newest record in ``bench/records`` of those with the most entries. From it the command writes
``docs/benchmarks.html`` and the tables in ``docs/benchmarks.md``. From the newest record of each machine it writes
``docs/machines.html``, the table in README.md and the ranges in ``docs/questions.md``. The tables stand between two marks, the
ranges in known sentences. The command refuses to report wrong results of fastdrop, and a busy machine except with ``--busy``.
With ``--measure`` it measures a new record first, which takes about half an hour.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import busy, costs, machines, tables, variants
from .figures import size_name
from .records import Record, newest

__all__ = ["headline", "published", "table", "with_block"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
RECORDS, REPORT, MACHINES = Path("bench/records"), Path("docs/benchmarks.html"), Path("docs/machines.html")
README, PAGE, QUESTIONS = Path("README.md"), Path("docs/benchmarks.md"), Path("docs/questions.md")
ROWS = {  # contender -> description in the page's table
    "copy": "`numpy.copyto` (no dropout)",
    "c": "fastdrop, `out=` given",
    "c-new": "fastdrop, new result",
    "c-avx2": "fastdrop, AVX2 forced",
    "c-portable": "fastdrop, plain C forced",
    "numba": "fastdrop, Numba backend",
    "numpy": "fastdrop, NumPy backend",
    "idiom-pcg64": "`x * (rng.random(...) >= p) * s`, PCG64",
    "idiom-sfc64-out": "the same with `out=`, SFC64",
    "numba-philox": "a Numba loop on Philox4x32",
    "torch": "PyTorch `F.dropout`",
    "torch-compile": "the same, compiled",
    "jax-threefry": "JAX, jitted",
    "tensorflow": "TensorFlow `stateless_dropout`",
    "mkl-ars5": "MKL's ARS-5, then NumPy",
}


COLUMNS = [  # the README's columns: heading, case, the contender whose time is divided, and the one whose time divides it
    ("64 M, p = 0.1", "64M-p0.1", "c", "copy"),
    ("64 M, p = 0.5", "64M-p0.5", "c", "copy"),
    ("64 K, p = 0.1", "64K-p0.1", "c", "copy"),
    ("64 K, p = 0.5", "64K-p0.5", "c", "copy"),
    ("PyTorch, p = 0.1", "4M-p0.1", "torch", "c"),
    ("PyTorch, p = 0.5", "4M-p0.5", "torch", "c"),
]


RANGES = [  # sentences of the page of questions; {} is the range, over the machines, of the ratio of two contenders' times
    ("`dropout` with `out=` takes {} times as long as `numpy.copyto` for 64 M", "c", "copy", "64M"),
    ("and {} times for 64 K elements, which fit", "c", "copy", "64K"),
    ("forced AVX2 takes up to {} times as long as the copy", "c-avx2", "copy", "64K", "64M"),
    ("Plain C takes {} times as long for 64 M", "c-portable", "copy", "64M"),
    ("and {} times for 64 K.", "c-portable", "copy", "64K"),
    ("Without `out=`, a call on 64 M elements takes {} times as long as with it", "c-new", "c", "64M"),
    ("`numpy.multiply` without `out=` takes {} times as long as with it", "multiply-new", "multiply", "64M"),
]


def headline(records: Iterable[Record]) -> str:
    """Return the README's table: fastdrop against a plain copy, and PyTorch against fastdrop, on each machine."""
    records = machines.newest_of_each(records)
    headings = ["machine", *(heading for heading, *_ in COLUMNS), "date", "machine was"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for record in records:
        found = [record.ratio(*compared) if record.has(*compared) else None for _, *compared in COLUMNS]
        factors = [tables.factor(ratio.value) if ratio else "" for ratio in found]
        lines.append("| " + " | ".join([machines.name(record), *factors, *machines.state(record)]) + " |")
    return "\n".join(
        [
            "**What it costs.** The first four columns give the time of `fastdrop.dropout(x, p, seed=1, out=y)` divided by "
            "that of `numpy.copyto(y, x)`, for float32 elements on one thread. Two arrays of 64 M elements (256 MiB each) are "
            "larger than the caches; two of 64 K elements fit in them. The columns of PyTorch give the time of "
            "`torch.nn.functional.dropout`, which allocates its result, divided by that of fastdrop, which writes to `y`, for "
            "4 M elements. [PyTorch](docs/pytorch.md#what-it-costs) compares both passes on PyTorch's tensors.",
            "",
            *lines,
            "",
            f"{allocation(records)}[Benchmarks](docs/benchmarks.md) has the figures of the newest complete record, with the "
            "rows where fastdrop loses, and [machines](docs/machines.html) compares the machines. `fastdrop bench --quick` "
            "measures yours.",
            "",
        ]
    )


def allocation(records: Iterable[Record]) -> str:
    """Return a sentence about calls that allocate their result; nothing if none was measured."""
    found = ratio_range(records, "c-new", "c", "64M")
    if found is None:
        return ""
    return (
        f"Without `out=`, a call on 64 M elements takes {' to '.join(found)} times as long as with it, because it allocates "
        "its result. "
    )


def ratio_range(records: Iterable[Record], one: str, other: str, *entries: str) -> tuple[str, str] | None:
    """Return the least and the greatest ratio of two contenders' times at both rates, or None if they were not measured."""
    cases = [(f"{entry}-p{p}", one, other) for entry in entries for p in (0.1, 0.5)]
    found = [record.ratio(*case).value for record in records for case in cases if record.has(*case)]
    return (tables.factor(min(found)), tables.factor(max(found))) if found else None


def table(record: Record) -> str:
    """Return the page's block: the machine, a table of three sizes at two rates, and the cases where fastdrop loses."""
    cases = [case for case in record.cases.values() if case.entry in ("64K", "4M", "64M")]
    found = tables.rows(record, cases)
    lines = [
        "| " + " | ".join(["", *(f"{size_name(case.size)}, p = {case.rate}" for case in cases)]) + " |",
        "|---" * (len(cases) + 1) + "|",
    ]
    for name, text in ROWS.items():
        if any(found.get(name, ())):
            values = [f"{cell.time} ({tables.factor(cell.ratio.value)})" if cell else "" for cell in found[name]]
            lines.append("| " + " | ".join([text, *values]) + " |")
    return "\n".join([machine(record), "", *lines, "", *losses(record), *cost_lines(record)]) + "\n"


def cost_lines(record: Record) -> list[str]:
    """Return the table of the variants' costs, in times of the copy; nothing if the record has no variants."""
    found = costs.costs(record)
    if not found:
        return []
    lines = [
        "",
        "The cost of each variant. Forward and backward: time divided by that of `numpy.copyto` of the same array. Small "
        "call: time of a call on about 256 elements, divided by that of `numpy.multiply`. The last columns: time divided by "
        "that of the formula in NumPy and in PyTorch, for the forward pass and for both passes; above 1 the formula is faster. "
        f"Wanted: the bound of each pass, if there is one; the bound of a small call is {variants.CALL_BOUND}.",
        "",
        "| function | wanted | forward | backward | small call | / NumPy | both / NumPy | / PyTorch | both / PyTorch |",
        "|---" * 9 + "|",
    ]
    for cost in found:
        passes = cost.forward, cost.backward
        values = (
            [one and one.cell.ratio for one in passes]
            + [cost.call and cost.call.ratio]
            + [one and one.numpy for one in passes]
            + [one and one.torch for one in passes]
        )
        wanted = f"{cost.variant.wanted:g}" if cost.variant.wanted else ""
        texts = [tables.factor(value.value) if value else "" for value in values]
        lines.append(f"| `{cost.variant.name}` | {wanted} | {' | '.join(texts)} |")
    return lines


def machine(record: Record) -> str:
    """Return a sentence about the machine and the units."""
    environment = record.environment
    versions = environment["versions"]
    named = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "tensorflow-cpu": "TensorFlow", "tensorflow": "TensorFlow"}
    known = ", ".join(f"{title} {versions[name]}" for name, title in named.items() if name in versions)
    cache = max(environment["caches"].values(), default=0) // 2**20
    threads = "One thread" if environment["threads"] == 1 else f"{environment['threads']} threads"
    compiler = " ".join(environment["build"].split()[:2])
    return (
        f"{threads} of an {environment['cpu']} with {environment['isa']} ({tables.processors(environment)}, {cache} MiB "
        f"of last-level cache, {compiler}, {known}), {environment['date'][:10]}. The table gives nanoseconds per float32 "
        "element. In brackets is the time divided by that of `numpy.copyto`, the median of paired ratios. Without `out=`, each "
        "call allocates its result in fresh memory."
    )


def losses(record: Record) -> list[str]:
    """Return a table of the cases where fastdrop's C kernels lose."""
    lost = tables.losses(record)
    if not lost:
        return ["In this record neither another library nor the plain copy is surely faster than the C kernels."]
    return [
        "Cases in which another library or the plain copy is faster than the C kernels:",
        "",
        "| case | faster | fastdrop's time / its time |",
        "|---|---|---|",
        *(
            f"| {tables.full_title(loss.case)} | {tables.label(loss.contender)} | {tables.factor(loss.ratio.value)} |"
            for loss in lost
        ),
    ]


def with_block(text: str, made: str) -> str:
    """Return a text with its block replaced.

    Raises
    ------
    ValueError
        The text does not have the two marks once each and in order.
    """
    pattern = f"(?s)({re.escape(BEGIN)}\n).*?({re.escape(END)})"
    if len(re.findall(pattern, text)) != 1:
        raise ValueError(f"the page must have {BEGIN} and {END} once each, in this order")
    return re.sub(pattern, lambda match: match[1] + made + match[2], text)


def with_ranges(text: str, records: Sequence[Record]) -> str:
    """Return the page of questions with the ranges of the records.

    Raises
    ------
    ValueError
        The page does not have each sentence once.
    """
    for sentence, one, other, *entries in RANGES:
        before, after = (r"\s+".join(map(re.escape, part.split())) for part in sentence.split("{}"))
        pattern = rf"({before}\s+)[\d.]+(?:\s+to\s+[\d.]+)?(\s+{after})"
        if len(re.findall(pattern, text)) != 1:
            raise ValueError(f"{QUESTIONS} must have this sentence once, with figures for {{}}: {sentence}")
        if found := ratio_range(records, one, other, *entries):
            figures = found[1] if "up to {}" in sentence else " to ".join(found)
            text = re.sub(pattern, rf"\g<1>{figures}\g<2>", text)
    return text


def published(root: Path) -> tuple[Record, dict[Path, str]]:
    """Return the record that a checkout reports, and its pages with their figures."""
    record, records = Record.read(newest(root / RECORDS)), machines.newest_of_each(records_in(root))
    return record, pages(root, headline(records), table(record), records)


def pages(root: Path, headline: str = "", table: str = "", records: Sequence[Record] = ()) -> dict[Path, str]:
    """Return the pages of a checkout with these blocks and the ranges of these records."""
    texts = {path: (root / path).read_text(encoding="utf-8") for path in (README, PAGE, QUESTIONS)}
    return {
        README: with_block(texts[README], headline),
        PAGE: with_block(texts[PAGE], table),
        QUESTIONS: with_ranges(texts[QUESTIONS], records),
    }


def records_in(root: Path) -> list[Record]:
    """Return the records of a checkout."""
    return [Record.read(path) for path in sorted((root / RECORDS).glob("*.jsonl"))]


def require_quiet(record: Record) -> None:
    """Raise ValueError if the record says that its machine was busy."""
    if wrong := busy.reasons(record):
        raise ValueError(f"the machine was busy: {'; '.join(wrong)}. Measure again, or publish the record with --busy")


def require_right(records: Iterable[Record]) -> None:
    """Raise ValueError if a record has wrong results of fastdrop."""
    if wrong := dict.fromkeys(text for record in records for text in tables.own_mistakes(record)):
        raise ValueError(f"fastdrop's results were wrong: {'; '.join(wrong)}. Mend the mistake, and measure again")


def main() -> None:
    """Measure if requested, then write the report and the blocks of the two pages."""
    parser = argparse.ArgumentParser(prog="python -m fastdrop.bench.publish", description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the checkout (default: the current folder)")
    parser.add_argument("--measure", metavar="NAME", help="measure first, and write bench/records/NAME.jsonl")
    parser.add_argument("--busy", action="store_true", help="publish a record of a busy machine too; the page says so")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    try:
        from .report import write_report  # now, and not after the measurement: matplotlib may be missing

        pages(root)
        if arguments.measure:
            path = root / RECORDS / f"{arguments.measure}.jsonl"
            code = "from fastdrop.__main__ import main; main()"
            subprocess.run([sys.executable, "-c", code, "bench", "--record", path], check=True, cwd=root / RECORDS)
        record, texts = published(root)
        require_right([record, *machines.newest_of_each(records_in(root))])
        if not arguments.busy:
            require_quiet(record)
        write_report(record, root / REPORT)
        machines.write_page(records_in(root), root / MACHINES)
        for path, text in texts.items():
            (root / path).write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
