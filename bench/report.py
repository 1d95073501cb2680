"""The report: one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fastdrop.npyfile import replacement

from . import busy, convergence, costs, tables
from .figures import FIGURES, blocks, planes, size_name
from .instructions import budgets
from .records import Record
from .variants import CALL_BOUND, DTYPE_BOUND, OTHER_DTYPES

__all__ = ["document", "page", "table", "write_report"]

CSS = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --own: #1f6fb4;
        --bad: #b3261e; --good: #1d7a3e; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--page);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1.4rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p, li { max-width: 46rem; }
p.lead, .soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .92rem; margin: 1rem 0; }
a { color: var(--own); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem .22rem 0; text-align: right; vertical-align: top; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; white-space: normal; min-width: 9rem; }
td.text.short, th.text.short { min-width: 0; white-space: nowrap; }
tr.fastdrop td:first-child { color: var(--own); font-weight: 600; }
tr.yardstick td { color: var(--soft); }
.dense table { font-size: .78rem; } .dense th, .dense td { padding-right: .3rem; }
.dense :is(th, td):is(:nth-child(4), :nth-child(9), :nth-child(14)) { padding-left: .7rem; }
thead th { white-space: normal; vertical-align: bottom; }
.met { color: var(--good); } .unmet { color: var(--bad); font-weight: 600; }
.interval, tr.about td { color: var(--soft); font-size: .92em; }
tr:has(+ tr.about) td { border-bottom: 0; } tr.about td { padding: 0 0 .4rem; }
tr.about div { position: sticky; left: 0; max-width: min(60rem, calc(100vw - 2.5rem)); }
tr.groups th { text-align: left; border-bottom: 0; padding: 0 0 0 .9rem; }
figure { margin: .8rem 0; } figure svg { width: 100%; height: auto; display: block; max-width: 44rem; }
.answer { font-size: 1.15rem; } figure svg.narrow { display: none; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --ink: #e6e9ee; --soft: #a3adba; --line: #343c47; --own: #6cb2ef; --bad: #ff8a80; --good: #6fcf8f; }
}
@media (max-width: 36rem) {
  figure svg.wide { display: none; } figure svg.narrow { display: block; }
  th, td { padding-right: .5rem; } .interval { display: block; }
  th:first-child, td:first-child, td.text, th.text { min-width: 7rem; }
  th:first-child, tr:not(.about) td:first-child { position: sticky; left: 0; background: var(--page); }
}
details > summary { cursor: pointer; color: var(--own); }
"""


def write_report(record: Record, path: Path) -> None:
    """Write the report of a record."""
    with replacement(path) as file:
        file.write(page(record).encode())


def page(record: Record) -> str:
    """Return the report as HTML text."""
    environment = record.environment
    lead = (
        f"{environment['cpu']}, {tables.processors(environment)}, {environment['isa']}; "
        f"{threads_text(environment['threads'])} for every library; {environment['date'][:10]}."
    )
    sections = [(name, title, body) for name, title, make in SECTIONS if (body := make(record))]
    return document("Dropout for NumPy arrays, measured", lead, sections)


def document(title: str, lead: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return a page of sections, each with its anchor, its title and its HTML."""
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    bodies = "".join(f'<section id="{name}"><h2>{escape(heading)}</h2>{body}</section>\n' for name, heading, body in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fastdrop: {escape(title)}</title><style>{CSS}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p><nav>{links}</nav>\n{bodies}</body></html>\n'
    )


def threads_text(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


# Pieces -----------------------------------------------------------------------------------------------------------------


class Markup(str):
    """Text that is already HTML."""


VERDICTS = {
    True: Markup('<span class="met">met</span>'),
    False: Markup('<span class="unmet">not met</span>'),
    None: "not measured",
}


def html(value: Any) -> str:
    return value if isinstance(value, Markup) else escape(str(value)).replace("p = ", "p&nbsp;=&nbsp;")  # a rate stays whole


def table(
    headings: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Any]]],
    text: Sequence[int] = (),
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """Return a table; a row is a class and its cells, and `text` lists the columns besides the first that contain text.

    A row with a single cell spans the table, and its text stays in view. `groups` has headings above several columns.
    """

    def kind(k: int) -> str:
        return ' class="text"' if k in text else ""

    def cells(row: Sequence[Any]) -> str:
        if len(row) < len(headings):
            return f'<td colspan="{len(headings)}"><div>{html(row[0])}</div></td>'
        return "".join(f"<td{kind(k)}>{html(cell)}</td>" for k, cell in enumerate(row))

    above = "".join(f'<th colspan="{n}">{html(heading)}</th>' for heading, n in groups)
    head = (f'<tr class="groups">{above}</tr>' if groups else "") + "<tr>"
    head += "".join(f"<th{kind(k)}>{html(heading)}</th>" for k, heading in enumerate(headings)) + "</tr>"
    body = "".join(f'<tr class="{name}">{cells(row)}</tr>' for name, row in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def figure(name: str, about: str) -> Callable[[Record], str]:
    """Return the function that makes a figure with its description, or an empty text if there is nothing to draw."""

    def make(record: Record) -> str:
        drawings = [(width, FIGURES[name](record, width)) for width in ("wide", "narrow")]
        named = [
            svg.replace("<svg ", f'<svg class="{width}" role="img" aria-label="{escape(about)}" ', 1)
            for width, svg in drawings
            if svg is not None
        ]
        return f"<p>{escape(about)}</p><figure>{''.join(named)}</figure>" if named else ""

    return make


def with_interval(value: Any, limit: float | None = None) -> Markup:
    """Return an estimate and its interval; the estimate has enough digits to tell it from a limit."""
    text = tables.factor(value.value) if limit is None else tables.settled(value.value, limit)
    if value.low == value.high:
        return Markup(text)
    return Markup(f'{text} <span class="interval">[{tables.factor(value.low)}, {tables.factor(value.high)}]</span>')


def items(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html(text)}</li>" for text in texts) + "</ul>"


# Sections ---------------------------------------------------------------------------------------------------------------


def why_not(verdict: tables.Verdict) -> str:
    """Return why a target is missed, with the times that show it."""
    times = "; ".join(f"{text} {timed.time}{'' if timed.whole else ' ns'}" for text, timed in verdict.times)
    each = "" if any(timed.whole for _, timed in verdict.times) else " per element"
    return f"{verdict.target.limit} Measured{each}: {times}."


def targets_section(record: Record) -> str:
    rows = []
    for verdict in tables.targets(record):
        measured = with_interval(verdict.measured, verdict.target.limit_value) if verdict.measured else "–"
        rows.append(("", [verdict.target.name, VERDICTS[verdict.met], measured, verdict.target.wanted]))
        if verdict.met is False:
            rows.append(("about", [why_not(verdict)]))
    for line in record.of_kind("memory"):
        measured = "–" if line["bytes"] is None else f"{line['bytes']:,} B"
        fits = None if line["bytes"] is None else line["bytes"] <= line["most"]
        name = f"memory of a forward and a backward pass of {size_name(line['elements'])} beyond inputs and outputs"
        rows.append(("", [name, VERDICTS[fits], measured, f"≤ {line['most']:,} B"]))
    return (
        "<p>These targets were set before the kernels were written. Each is a ratio of two times measured in the same rounds, "
        "with a 95 % bootstrap interval. A missed target is followed by the reason and by times of parts of the work from the "
        "same run.</p>" + table(["ratio", "", "measured", "target"], rows)
    )


def losses_section(record: Record) -> str:
    found = tables.losses(record)
    if not found:
        return "<p>In this record no contender is surely faster than the C kernels in any case, not even numpy.copyto.</p>"
    rows = [("", [tables.full_title(loss.case), tables.label(loss.contender), with_interval(loss.ratio)]) for loss in found]
    return (
        "<p>The table lists every case in which another library, or the plain copy, is faster than fastdrop's C kernels and "
        "the whole interval says so.</p>" + table(["case", "faster than fastdrop", "by a factor of"], rows, text=[1])
    )


def shares_section(record: Record) -> str:
    drawing = figure(
        "training",
        "A training step in PyTorch (forward, backward, update) on scikit-learn's digits: without dropout, with "
        "torch.nn.Dropout, and with masks from fastdrop, which the backward pass regenerates.",
    )(record)
    rows = []
    for share in tables.shares(record):
        row = [
            tables.full_title(share.case),
            tables.label(share.contender),
            tables.duration(share.seconds),
            f"{share.share:.1%}",
        ]
        rows.append((tables.role(share.contender), row))
    return drawing and drawing + table(["network", "", "time per step", "share of dropout"], rows, text=[1])


def answer_section(record: Record) -> str:
    """Return the answer: one sentence and one figure."""
    drawing = figure("answer", ABOUT["answer"])(record)
    found = tables.answer(record)
    if not found or not drawing:
        return ""
    others = [
        f"{name} takes {tables.factor(found[key] / found['c'])} times as long as fastdrop"
        for key, name in (("peer", "The fastest other library at each size"), ("torch", "PyTorch's F.dropout"))
        if key in found
    ]
    sentence = (
        f"fastdrop.dropout takes {found['c']:.2f} ns per float32 element, {tables.factor(found['c'] / found['copy'])} times as "
        f"long as numpy.copyto (geometric means over three sizes, p = 0.1 and p = 0.5). {'. '.join(others)}."
    )
    return f'<p class="answer">{escape(sentence)}</p>{drawing}<p class="soft">{escape(busy.describe(record))}</p>'


def costs_section(record: Record) -> str:
    """Return the table of the variants' costs, and the convergence of the techniques."""
    found = costs.costs(record)
    rows: list[tuple[str, list[Any]]] = []
    for cost in found:
        reasons = costs.reasons(record, cost)
        wanted = f"≤ {cost.variant.wanted:g}" if cost.variant.wanted else "–"
        cells = [pass_cells(one) for one in (cost.forward, cost.backward)]
        call = (cost.call.time, tables.factor(cost.call.ratio.value)) if cost.call else ("–", "–")
        rows.append(("", [cost.variant.name, wanted, VERDICTS[not reasons], *cells[0], *cells[1], *call]))
        rows += [("about", [reason]) for reason in reasons]
    if not rows:
        return ""
    met = len([cost for cost in found if not costs.reasons(record, cost)])
    each = ["ns", "× copy", "× dropout", "/ NumPy", "/ PyTorch"]
    groups = [("", 1), ("bounds", 2), ("forward", 5), ("backward", 5), ("256 elements", 2)]
    headings = ["function", "× copy", "", *each, *each, "time", "× multiply"]
    return (
        f"<p>{escape(ABOUT['costs'])} {met} of {len(found)} rows meet all their bounds.</p>"
        f"<div class='dense'>{table(headings, rows, groups=groups)}</div>"
        + slower_list(record)
        + dtypes_table(record)
        + convergence_table()
    )


def pass_cells(one: costs.Pass | None) -> list[str]:
    if one is None:
        return ["–"] * 5
    ratios = [one.cell.ratio, one.plain, one.numpy, one.torch]
    return [one.cell.time, *(tables.factor(found.value) if found else "–" for found in ratios)]


def dtypes_table(record: Record) -> str:
    """Return the ratios to the copy in each dtype, with the passes that exceed the bound."""
    found = [cost for cost in costs.costs(record) if any(any(cells) for cells in cost.others.values())]
    if not found:
        return ""
    rows: list[tuple[str, list[Any]]] = []
    for cost in found:
        float32 = [tables.factor(one.cell.ratio.value) if one else "–" for one in (cost.forward, cost.backward)]
        others = [tables.factor(cell.ratio.value) if cell else "–" for cells in cost.others.values() for cell in cells]
        rows.append(("", [cost.variant.name, *float32, *others]))
        if cost.dear_dtypes:
            rows.append(("about", [f"Above {DTYPE_BOUND:g}: {', '.join(cost.dear_dtypes)}."]))
    headings = [f"{dtype}, {way}" for dtype in ("float32", *OTHER_DTYPES) for way in ("forward", "backward")]
    return f"<h3>Other dtypes</h3><p>{escape(ABOUT['dtypes'])}</p>" + table(["function", *headings], rows)


def convergence_table() -> str:
    """Return the techniques' costs until a network reached a validation loss, if this installation has the record."""
    record = convergence.read()
    if record is None:
        return ""
    about = (
        f"Epochs and processor seconds of training until the validation loss is {record['loss']:g}: medians over the folds "
        f"that reached it within {record['most']} epochs. The networks learn 200 of scikit-learn's digits, a tenth of them "
        f"with wrong labels (examples/convergence.py, {record['date']})."
    )
    rows = []
    for one in convergence.techniques(record):
        costs_text = [f"{one.epochs:g}", f"{one.seconds:.3f}"] if one.seconds is not None else ["–", "–"]
        rows.append(("", [f"{one.network}: {one.name}", f"{one.reached} of {one.folds}", *costs_text]))
    return f"<h3>Convergence</h3><p>{escape(about)}</p>" + table(["technique", "folds", "epochs", "seconds"], rows)


def slower_list(record: Record) -> str:
    """Return where a formula is surely faster."""
    lost = [
        f"{name}: {tables.label(formula)} is faster by a factor of {tables.factor(found.value)}"
        for name, formula, found in costs.slower_than_formulas(record)
    ]
    if not lost:
        return "<p>No formula in NumPy or PyTorch is surely faster than fastdrop's function.</p>"
    return "<h3>Where a formula is faster</h3>" + items(lost)


def variants_section(record: Record) -> str:
    """Return a table of the variants: fastdrop's time, its ratio to the copy, and the fastest peer."""
    rows = []
    for case in record.cases.values():
        if case.group not in ("variant", "dtype", "mask", "rate") or not record.has(case.name, "c"):
            continue
        own = tables.cell(record, case.name, "c")
        others = [cell for cell in tables.cells(record, name=case.name) if tables.role(cell.contender) == "peer"]
        best = min(others, key=lambda cell: cell.seconds, default=None)
        ahead = f"{tables.label(best.contender)}: {tables.factor(best.seconds / own.seconds)}" if best and own else "–"
        if own:
            rows.append(("", [tables.full_title(case), f"{own.per_element:.3f}", with_interval(own.ratio), ahead]))
    headings = ["case", "ns per element", "time / time of numpy.copyto", "fastest peer: its time / time of fastdrop"]
    return table(headings, rows, text=[3]) if rows else ""


def roofline_section(record: Record) -> str:
    drawing = figure(
        "roofline",
        "Two limits bound the speed of dropout. Memory must move 8 bytes per float32 element. The generator's own speed "
        "(random words of 64 K elements) gives the slanted roofs. p = 0.5 needs one plane of bits, p = 0.1 about "
        f"{planes(0.1):.1f} planes for a tile of 4,096 elements. Circles are 64 K elements, squares 64 M; p = 0.5 is on the "
        "left, p = 0.1 on the right.",
    )(record)
    rows = []
    for cell in sorted(tables.cells(record, group="size"), key=lambda cell: (cell.case.size, cell.case.rate)):
        if cell.contender == "c":
            moved, needed = tables.bytes_moved(cell.case), blocks(cell.case)
            speeds = [f"{moved / cell.per_element:.1f}", f"{needed / cell.per_element:.3f}"]
            rows.append(("", [tables.full_title(cell.case), moved, f"{needed:.4f}", *speeds]))
    headings = ["case", "bytes per element", "Philox blocks per element", "GB/s moved", "blocks per ns"]
    text = table(headings, rows) if rows else ""
    return drawing and drawing + text + instructions_details()


def instructions_details() -> str:
    """Return the instruction budgets of the current kernels."""
    compiler, counted = budgets()
    isas = list(counted)
    rows = [("", [kernel, *(f"{counted[isa].get(kernel, 0):.3f}" for isa in isas)]) for kernel in counted[isas[0]]]
    about = f"Instructions per element of the kernels ({compiler}), counted by valgrind's callgrind, which has no AVX-512"
    return f"<details><summary>{escape(about)}</summary>{table(['kernel', *isas], rows)}</details>"


def all_section(record: Record) -> str:
    """Return every case with all its times."""
    equal = tables.equality(record)
    parts = []
    for entry, cases in tables.entries(record).items():
        found = tables.rows(record, cases)
        if not found:
            continue
        pairs = [(tables.heading(case) or "time", f"× {record.baseline(case.name)}") for case in cases]
        headings = ["", *(text for pair in pairs for text in pair)]
        rows = []
        for name, row in found.items():
            texts = [text for cell in row for text in ((cell.time, with_interval(cell.ratio)) if cell else ("–", "–"))]
            rows.append((tables.role(name), [tables.label(name, record.environment["isa"]), *texts]))
        same = sorted({name for case in cases for name in equal[case.name]})
        bytes_text = f" Same bytes as the reference: {', '.join(same)}." if same else ""
        why = tables.reason(cases[0])
        about = f"<p class='soft'>{escape(why[0].upper() + why[1:])}.{bytes_text}</p>"
        parts.append(f"<h3>{escape(tables.title(entry))}</h3>{about}{table(headings, rows)}")
    return (
        "<p>A time without a unit is in nanoseconds per element; a time with a unit is per call. Each ratio is the time "
        "divided by the yardstick's time in the same round, with its interval.</p>" + "".join(parts)
    )


def equality_section(record: Record) -> str:
    mistakes = tables.own_mistakes(record)
    equal = {case: names for case, names in tables.equality(record).items() if names}
    every = len([case for case in record.cases.values() if case.group != "training" and record.contenders(case.name)])
    lead = (
        f"In {len(equal)} of {every} cases, fastdrop's results were compared with the NumPy reference byte for byte before "
        f"timing. {'Not all were equal:' if mistakes else 'All were equal.'}"
    )
    rows = [("", [case, ", ".join(names)]) for case, names in equal.items()]
    return (
        f"<p>{escape(lead)}</p>{items(mistakes) if mistakes else ''}<details><summary>Which engines, case by case</summary>"
        + table(["case", "same bytes as the reference"], rows, text=[1]) + "</details>"
    )  # fmt: skip


def environment_section(record: Record) -> str:
    found = record.environment
    caches = ", ".join(f"{name} {size // 1024:,} KiB" for name, size in found["caches"].items())
    rows = [
        ("processor", found["cpu"]),
        ("processors", tables.processors(found)),
        ("data caches (first processor)", caches or "not known"),
        ("memory available", f"{found['memory_bytes'] / 2**30:.1f} GiB" if found["memory_bytes"] else "not known"),
        ("transparent huge pages", found["huge_pages"] or "not known"),
        ("system", found["system"]),
        ("load at the start", ", ".join(f"{value:.2f}" for value in found["load"])),
        ("during the run", busy.describe(record)),
        ("Python", found["python"]),
        ("fastdrop's build", found["build"]),
        ("instruction set; all that run here", f"{found['isa']}; {', '.join(found['isas'])}"),
        ("threads", found["threads"]),
        ("versions", tables.versions(record)),
        ("date", found["date"]),
    ]
    body = table(["", ""], [("", [name, value]) for name, value in rows], text=[1])
    if notes := tables.notes(record):
        body += "<h3>Contenders that did not take part, and why</h3>" + items(notes)
    if spinning := tables.overthreaded(record):
        body += (
            "<h3>Contenders that used more processors than agreed</h3><p>The processor time is that of the whole process, so "
            "threads that another library left spinning count too. fastdrop itself starts no thread here.</p>" + items(spinning)
        )
    return body


def method_section(record: Record) -> str:
    processes = 1 + max((line["process"] for line in record.of_kind("samples")), default=0)
    repeated = "There is one process" if processes == 1 else f"This is repeated in {processes} processes, in turns"
    return items(
        [
            f"All contenders of a case run in one process, in rounds, in random order within each round. {repeated}; one "
            "process measures the rows of the table of variants.",
            "A ratio is the median over all rounds of the ratio within a round. Its interval comes from a bootstrap that "
            "resamples processes and, within each process, rounds. With few rounds the interval is rough.",
            "A call shorter than 2 ms is repeated for 2 ms. One call before brings its data into the caches. Small arrays are "
            "therefore measured in the caches, and large arrays in memory.",
            "The data are the activations of a random layer of 1,024 rectified linear units on scikit-learn's 1,797 digits, "
            "repeated as often as needed. About half of them are 0. Every page is touched before timing starts. Arrays begin "
            "16 bytes after a page boundary, where NumPy puts large arrays.",
            "Each result is checked before its contender is timed. fastdrop's results must have the bytes of the NumPy "
            "reference. The results of the others must have the right rate (within 7 standard deviations) and the right kept "
            "values. A contender with a wrong result is not timed.",
            "Every library is set to the same number of threads by its own means. The processor time of each is measured, "
            "and each contender that used more processors than agreed is named above.",
            "Fresh memory: contenders without out= allocate their result in every call, as their users do. fastdrop and the "
            "idiom are measured both ways.",
            "The raw times of every round are in the record from which this page was made.",
        ]
    )  # fmt: skip


def bias_section(record: Record) -> str:
    return "<p>fastdrop's authors chose the cases, and they know their own library best.</p>" + items(
        [
            "The cases are arrays on a CPU in NumPy's memory, for which fastdrop was made. If you train on a GPU, or your "
            "arrays belong to another library, you gain less or nothing.",
            "PyTorch, JAX, TensorFlow and Keras are called on their own arrays, without conversions. They are designed for "
            "whole graphs on many threads; a single operation on one thread is not their strength.",
            "PyTorch's F.dropout has two paths on CPUs. On Intel's processors MKL draws the mask; on all others, AMD's "
            "included, a slower loop does (bernoulli_scalar_kernel in ATen asks for the vendor). The row rand_like does not "
            "depend on it: uniform numbers, a comparison and multiplications in place, the best that a user of PyTorch can "
            "write by hand.",
            "XLA and torch.compile can fuse dropout with neighbouring operations. This saving appears only in the cases that "
            "have such operations.",
            "We wrote the Numba loops, the MKL calls and the idiom with out= as well as we could. Experts on those libraries "
            "may write them faster. Corrections are welcome.",
            "fastdrop draws only as many bits as it needs to decide each element, and its p is exact to 2^-64. The idiom "
            "draws full uniforms, which a program could use for something else.",
            "These figures are from one machine. Run the benchmark on yours.",
        ]
    )


ABOUT = {
    "answer": "Nanoseconds per float32 element for fastdrop, for a copy without dropout, for the fastest other library and for "
    "PyTorch's F.dropout: geometric means over p = 0.1 and p = 0.5 at three sizes, and over all of them.",
    "costs": "Each public function on one thread, float32, with out= where there is one. × copy, × dropout and × multiply: its "
    "time divided by that of numpy.copyto, of plain dropout (p = 0.1) and of numpy.multiply on the same array. / NumPy and / "
    "PyTorch: its time divided by that of the formula as a user writes it; below 1 fastdrop is faster. Under backward they "
    "compare both passes of both sides, because a formula stores its mask. The formula in PyTorch makes the gradient of its "
    "first array only, but fastdrop also makes those of weights and rates. Bounds were set before the work on the kernels: for "
    f"both passes of some functions, in times of the copy; for every small call, {CALL_BOUND} times numpy.multiply.",
    "dtypes": "The time divided by that of numpy.copyto on an array of the same dtype. A bfloat16 element has half the bytes "
    "of a float32 element, so its copy takes half as long. Its random bits and its arithmetic, which is that of float32, take "
    "as long as those of a float32 element.",
    "peers": "All contenders on the same array. Blue is fastdrop, orange a yardstick that does no dropout.",
    "throughput": "Elements per nanosecond. The dashed line is numpy.copyto, the speed of memory. L1, L2 and L3 mark the sizes "
    "at which input and output fill a cache.",
    "ratios": "The time divided by the time of numpy.copyto on the same arrays: below 1 is faster than the copy.",
    "latency": "The time of one whole call in Python, including checks and dispatch.",
    "isas": "The same call with each instruction set.",
    "threads": "The speedup of fastdrop's C kernels on several threads over one thread, paired within rounds.",
}

SECTIONS: tuple[tuple[str, str, Callable[[Record], str]], ...] = (
    ("answer", "The answer", answer_section),
    ("targets", "Targets", targets_section),
    ("losses", "Where fastdrop loses", losses_section),
    ("peers", "Side by side", figure("peers", ABOUT["peers"])),
    ("size", "Speed by size", figure("throughput", ABOUT["throughput"])),
    ("ratio", "Compared with the copy, by size", figure("ratios", ABOUT["ratios"])),
    ("calls", "Small arrays", figure("latency", ABOUT["latency"])),
    ("isas", "Instruction sets", figure("isas", ABOUT["isas"])),
    ("threads", "Threads", figure("threads", ABOUT["threads"])),
    ("costs", "What each variant costs", costs_section),
    ("variants", "Element types, masks, operations", variants_section),
    ("roofline", "What limits it", roofline_section),
    ("training", "The cost of dropout in training", shares_section),
    ("all", "All times", all_section),
    ("equality", "The same bytes", equality_section),
    ("environment", "Environment and versions", environment_section),
    ("method", "Method", method_section),
    ("bias", "Bias of this benchmark", bias_section),
)  # fmt: skip
