"""Publish the newest record: run ``python -m fastdrop.bench.publish`` in the checkout.

The command reads the newest record in ``bench/records``. It writes ``docs/benchmarks.html``, the tables in
``docs/benchmarks.md`` and the sentence in README.md, both between two marks. It refuses a record of a busy machine, except with
``--busy``. From all records it writes ``docs/machines.html``. With ``--measure`` it measures a new record first, which takes
about half an hour.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from . import busy, costs, tables
from .figures import size_name
from .records import Record, newest

__all__ = ["headline", "published", "table", "with_block"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
RECORDS, REPORT, MACHINES = Path("bench/records"), Path("docs/benchmarks.html"), Path("docs/machines.html")
README, PAGE = Path("README.md"), Path("docs/benchmarks.md")
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


def headline(record: Record) -> str:
    """Return the README's sentence: fastdrop against a plain copy, beyond the caches and within them, at two rates."""
    cases = [case for case in record.cases.values() if case.entry in ("64K", "64M")]
    factors = {
        (case.entry, str(case.rate)): tables.factor(cell.ratio.value)
        for case, cell in zip(cases, tables.rows(record, cases)["c"], strict=True)
        if cell
    }
    environment = record.environment
    beyond, within = ([factors[size, rate] for rate in ("0.1", "0.5")] for size in ("64M", "64K"))
    return (
        f"**What it costs.** `fastdrop.dropout(x, p, seed=1, out=y)` takes {beyond[0]} times (p = 0.1) and "
        f"{beyond[1]} times (p = 0.5) as long as `numpy.copyto(y, x)` for 64 M float32 elements, which are larger "
        f"than the caches, and {within[0]} and {within[1]} times for 64 K elements, which fit in them. "
        f"Without `out=`, the new result costs its fresh memory as well. Measured on one thread of an {environment['cpu']} "
        f"with {environment['isa']}, {environment['date'][:10]}; [benchmarks](docs/benchmarks.md) has all figures, with the "
        "rows where fastdrop loses. `fastdrop bench --quick` measures your machine.\n"
    )


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
    return "\n".join([machine(record), "", *lines, "", losses(record), *cost_lines(record)]) + "\n"


def cost_lines(record: Record) -> list[str]:
    """Return a table of what each variant costs, in times of the copy; nothing if the record has no variants."""
    found = costs.costs(record)
    if not found:
        return []
    lines = [
        "",
        "What each variant costs, in times of `numpy.copyto` of the same array. A call has about 256 elements, and is given in "
        "times of `numpy.multiply`. The last two columns are fastdrop's time divided by that of the formula in NumPy, for the "
        "forward pass and for both passes.",
        "",
        "| function | wanted | forward | backward | call | of NumPy | both of NumPy |",
        "|---" * 7 + "|",
    ]
    for cost in found:
        passes = cost.forward, cost.backward
        values = (
            [one and one.cell.ratio for one in passes] + [cost.call and cost.call.ratio] + [one and one.numpy for one in passes]
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


def losses(record: Record) -> str:
    """Return a sentence that lists where fastdrop's C kernels lose."""
    lost = tables.losses(record)
    found = [f"{loss.case.name} ({tables.label(loss.contender)}, {tables.factor(loss.ratio.value)})" for loss in lost]
    if not found:
        return "In this record neither another library nor the plain copy is surely faster than the C kernels."
    return (
        f"Cases in which another library or the plain copy is faster than the C kernels, with the factor: {', '.join(found)}."
    )


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


def published(root: Path) -> tuple[Record, dict[Path, str]]:
    """Return the newest record of a checkout, and its pages with their blocks."""
    record = Record.read(newest(root / RECORDS))
    blocks = {README: headline(record), PAGE: table(record)}
    return record, {path: with_block((root / path).read_text(encoding="utf-8"), made) for path, made in blocks.items()}


def require_quiet(record: Record) -> None:
    """Raise ValueError if the record says that its machine was busy."""
    if wrong := busy.reasons(record):
        raise ValueError(f"the machine was busy: {'; '.join(wrong)}. Measure again, or publish the record with --busy")


def main() -> None:
    """Measure if requested, then write the report and the blocks of the two pages."""
    parser = argparse.ArgumentParser(prog="python -m fastdrop.bench.publish", description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the checkout (default: the current folder)")
    parser.add_argument("--measure", metavar="NAME", help="measure first, and write bench/records/NAME.jsonl")
    parser.add_argument("--busy", action="store_true", help="publish a record of a busy machine too; the page says so")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    try:
        if arguments.measure:
            path = root / RECORDS / f"{arguments.measure}.jsonl"
            code = "from fastdrop.__main__ import main; main()"
            subprocess.run([sys.executable, "-c", code, "bench", "--record", path], check=True, cwd=root / RECORDS)
        record, pages = published(root)
        if not arguments.busy:
            require_quiet(record)
        from .machines import write_page
        from .report import write_report

        write_report(record, root / REPORT)
        write_page([Record.read(path) for path in sorted((root / RECORDS).glob("*.jsonl"))], root / MACHINES)
        for path, text in pages.items():
            (root / path).write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
