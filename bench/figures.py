"""The figures of the report, drawn by matplotlib as SVG, without a window or a network."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from . import tables
from .cases import Case
from .records import Record

__all__ = ["FIGURES", "planes"]

INK, GRID, PAPER = "#010203", "#040506", "#070809"  # stand for the page's colours, which differ in dark mode
PAGE_COLOURS = {INK: "currentColor", GRID: "var(--line)", PAPER: "var(--page)"}
WIDTHS = {"wide": 7.0, "narrow": 3.9}  # inches, so that text is about as large as the page's

STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastdrop",
}
ROLE_COLOURS = {"fastdrop": "#1f6fb4", "peer": "#8a8a8a", "yardstick": "#d08a00"}
COLOURS = {
    "copy": "#d08a00",
    "c": "#1f6fb4",
    "c-new": "#62a8dc",
    "idiom-pcg64": "#8a8a8a",
    "idiom-sfc64-out": "#b0a08a",
    "numba-philox": "#2a9d5c",
    "torch": "#d1495b",
    "jax-threefry": "#8e5bb5",
    "tensorflow": "#e07b39",
}


def drawn(draw: Callable[..., bool], name: str, record: Record, width: str, height: float = 3.6) -> str | None:
    """Return a figure as SVG text, or None if there is nothing to draw."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
        FigureCanvasSVG(figure)
        if not draw(record, figure):
            return None
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    for stand_in, colour in PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    unique = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-{width}-", text)  # several figures share a page
    return unique[unique.index("<svg") :]


def is_narrow(figure: Figure) -> bool:
    return bool(figure.get_figwidth() < WIDTHS["wide"])


def panel(figure: Figure, number: int, k: int) -> Any:
    """Return panel `k` of a number of panels: side by side, or one above the other in a narrow figure."""
    return figure.add_subplot(number, 1, k + 1) if is_narrow(figure) else figure.add_subplot(1, number, k + 1)


def plain(axis: Any) -> None:
    """Label the powers of ten of a logarithmic axis with plain numbers."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")


def curves(record: Record, rate: float) -> dict[str, list[tables.Cell]]:
    """Return the cells of plain float32 dropout at a rate by contender, ordered by size."""
    found: dict[str, list[tables.Cell]] = {}
    for cell in tables.cells(record, what="dropout", dtype="float32", rate=rate, noise_shape=None, operands=()):
        if cell.case.group in ("size", "call") and cell.contender in COLOURS:
            found.setdefault(cell.contender, []).append(cell)
    return {name: sorted(found[name], key=lambda cell: cell.case.size) for name in COLOURS if len(found.get(name, ())) > 1}


def size_name(n: int) -> str:
    """Return a number of elements in short form, such as "64 K"."""
    for unit, size in (("M", 2**20), ("K", 2**10)):
        if n >= size and n % size == 0:
            return f"{n // size} {unit}"
    return str(n)


def mark_sizes(axes: Any, record: Record, sizes: Iterable[int]) -> None:
    """Label the axis of sizes, and mark the sizes at which input and output fill a cache."""
    axes.set_xscale("log", base=2)
    labelled: list[int] = []
    for size in sorted(set(sizes)):
        labelled += [size] * (not labelled or size >= 8 * labelled[-1])  # nearer labels would collide
    axes.set_xticks(labelled, [size_name(n) for n in labelled], rotation=30)
    axes.set_xlabel("elements (float32)")
    for name, size in record.environment["caches"].items():
        axes.axvline(size / 8, color="#bbbbbb", linestyle=":", linewidth=1)
        place: Any = {"xy": (size / 8, 1), "xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
        axes.annotate(name, **place, fontsize=9)


def by_size(value: Callable[[tables.Cell], float], heading: str, record: Record, figure: Figure) -> bool:
    """Draw a quantity against the size, one panel per rate."""
    panels = {rate: found for rate in (0.1, 0.5) if "c" in (found := curves(record, rate))}
    for k, (rate, found) in enumerate(panels.items()):
        axes = panel(figure, len(panels), k)
        for name, cells in found.items():
            style = {"linestyle": "--"} if name == "copy" else {"marker": "o", "markersize": 3.5}
            width = 2.2 if name == "c" else 1.3
            points = [cell.case.size for cell in cells], [value(cell) for cell in cells]
            axes.plot(*points, color=COLOURS[name], linewidth=width, label=tables.label(name), **style)
        axes.set_yscale("log")
        plain(axes.yaxis)
        mark_sizes(axes, record, (cell.case.size for cells in found.values() for cell in cells))
        axes.set_title(f"p = {rate}", loc="left", pad=14)
        if k == 0:
            axes.set_ylabel(heading)
    if panels:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=2 if is_narrow(figure) else 3,
            fontsize=7.5 if is_narrow(figure) else 9,
            frameon=False,
        )
    return bool(panels)


def throughput(record: Record, figure: Figure) -> bool:
    return by_size(lambda cell: 1 / cell.per_element, "elements per nanosecond", record, figure)


def ratios(record: Record, figure: Figure) -> bool:
    return by_size(lambda cell: cell.ratio.value, "time / time of numpy.copyto", record, figure)


def bars(axes: Any, cells: Sequence[tables.Cell], isa: str) -> None:
    """Draw ratios to the yardstick as bars with intervals, the fastest on top."""
    cells = sorted(cells, key=lambda cell: -cell.ratio.value)
    values = [cell.ratio.value for cell in cells]
    errors = [[v - cell.ratio.low for v, cell in zip(values, cells, strict=True)],
              [cell.ratio.high - v for v, cell in zip(values, cells, strict=True)]]  # fmt: skip
    errors = [[max(0.0, error) for error in side] for side in errors]
    colours = [ROLE_COLOURS[tables.role(cell.contender)] for cell in cells]
    axes.barh(range(len(cells)), values, xerr=errors, color=colours, height=0.72, ecolor=INK, capsize=1.5)
    axes.set_yticks(range(len(cells)), [tables.label(cell.contender, isa) for cell in cells])
    for k, cell in enumerate(cells):
        axes.annotate(f" {tables.factor(cell.ratio.value)}", (max(cell.ratio.high, values[k]), k), va="center", fontsize=9)
    axes.set_xscale("log")
    plain(axes.xaxis)
    axes.set_xlim(min(0.5, *values) * 0.8, max(values) * 4)
    axes.set_ylim(-0.6, len(cells) - 0.4)
    axes.grid(axis="y", visible=False)


def peers(record: Record, figure: Figure) -> bool:
    """Draw all contenders on 4 M elements."""
    best = f"c-{record.environment['isa']}"  # the same kernels as "c"
    found = [cell for cell in tables.cells(record, entry="4M", rate=0.1) if cell.contender != best]
    if not found:
        return False
    axes = figure.add_subplot()
    bars(axes, found, record.environment["isa"])
    axes.set_xlabel("time / time of numpy.copyto; 4 M, p = 0.1", loc="right")
    return True


ON_PAPER: Any = {
    "fontsize": 9,
    "padding": 1.5,
    "bbox": {"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
}  # a label on top of lines


def isas(record: Record, figure: Figure) -> bool:
    """Draw the instruction sets in cache and in memory."""
    names = [f"c-{isa}" for isa in record.environment["isas"]]
    cases = [record.cases[name] for name in ("64K-p0.1", "64K-p0.5", "64M-p0.1", "64M-p0.5") if name in record.cases]
    axes = figure.add_subplot()
    drawn_any = False
    for k, name in enumerate(names):
        present = [(j, tables.cell(record, case.name, name)) for j, case in enumerate(cases)]
        points = [(j + (k - 1) * 0.26, cell.ratio.value) for j, cell in present if cell]
        if points:
            drawn_any = True
            places, heights = zip(*points, strict=True)
            bar = axes.bar(places, heights, width=0.24, label=name.removeprefix("c-"))
            axes.bar_label(bar, [tables.factor(y) for _, y in points], rotation=90 * is_narrow(figure), **ON_PAPER)
    axes.axhline(1, color=COLOURS["copy"], linestyle="--", label="numpy.copyto")
    axes.set_yscale("log")
    plain(axes.yaxis)
    axes.set_xticks(range(len(cases)), [f"{size_name(case.size)}\np = {case.rate}" for case in cases])
    axes.set_ylabel("time / time of numpy.copyto")
    figure.legend(loc="outside lower center", ncols=2 if is_narrow(figure) else 4, fontsize=9, frameon=False)
    axes.margins(y=0.25)
    return drawn_any


def threads(record: Record, figure: Figure) -> bool:
    """Draw the speedup of several threads over one."""
    axes = figure.add_subplot()
    most = 1
    for case in record.cases.values():
        if case.group != "threads":
            continue
        counts = sorted(int(name[2:-1]) for name in record.contenders(case.name) if name.startswith("c-"))
        if len(counts) > 1:
            speedups = [record.ratio(case.name, "c-1t", f"c-{n}t").value for n in counts]
            axes.plot(counts, speedups, "o-", label=f"{size_name(case.size)} elements")
            most = max(most, counts[-1])
    axes.plot([1, most], [1, most], color="#bbbbbb", linestyle=":", label="linear speedup")
    axes.set_xticks(range(1, most + 1) if most <= 8 else [2**k for k in range(most.bit_length())])
    axes.set_xlabel("threads (float32, p = 0.1)")
    axes.set_ylabel("speedup over one thread")
    axes.legend(frameon=False, fontsize=9)
    return most > 1


def latency(record: Record, figure: Figure) -> bool:
    """Draw the time of a whole call on small arrays."""
    cases = [case for case in record.cases.values() if case.group == "call" and case.rate == 0.1]
    bars_of = [sorted(tables.cells(record, name=case.name), key=lambda cell: -cell.seconds) for case in cases]
    grid = figure.add_gridspec(max(len(cases), 1), 1, height_ratios=[len(found) + 2 for found in bars_of] or None)
    for k, (case, found) in enumerate(zip(cases, bars_of, strict=True)):
        axes = figure.add_subplot(grid[k, 0])
        colours = [ROLE_COLOURS[tables.role(cell.contender)] for cell in found]
        axes.barh(range(len(found)), [cell.seconds * 1e6 for cell in found], color=colours, height=0.72)
        axes.set_yticks(range(len(found)), [tables.label(cell.contender) for cell in found])
        for j, cell in enumerate(found):
            axes.annotate(f" {tables.duration(cell.seconds)}", (cell.seconds * 1e6, j), va="center", fontsize=9)
        least, most = found[-1].seconds * 1e6, found[0].seconds * 1e6
        if most > 10 * least:
            axes.set_xscale("log")
            plain(axes.xaxis)
        axes.set_xlim(right=most * (8 if most > 10 * least else 1.4))
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.set_title(tables.title(case.entry), loc="right", fontsize=9)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("microseconds per call, p = 0.1" if k == len(cases) - 1 else "", loc="right")
    return bool(cases)


# The roofline -----------------------------------------------------------------------------------------------------------


def planes(p: float, together: int = 4096) -> float:
    """Return the average number of bit planes that decide `together` elements.

    After k planes an element is undecided with probability 2**-k. No plane is generated past the last 1 in p's binary digits.
    """
    digits = math.ldexp(p, 64)
    last = 64 - (int(digits) & -int(digits)).bit_length() + 1
    return float(sum(1 - (1 - 2.0**-k) ** together for k in range(last)))


def blocks(case: Case) -> float:
    """Return the Philox blocks per element that a case needs; a block gives one digit for 128 elements."""
    return planes(float(case.rate)) / 128


def block_rate(record: Record, isa: str) -> float | None:
    """Return the measured Philox blocks per nanosecond of an instruction set; a block has four words."""
    cell = tables.cell(record, "words", f"c-{isa}")
    return None if cell is None else 1 / cell.per_element / 4


def roofline(record: Record, figure: Figure) -> bool:
    """Draw speed against Philox blocks per element, under the roofs of the generator and of memory."""
    axes = figure.add_subplot()
    roofs = {isa: rate for isa in record.environment["isas"] if (rate := block_rate(record, isa))}
    if not roofs:
        return False
    span = [1 / 256, 0.25]
    for k, (isa, rate) in enumerate(roofs.items()):
        axes.plot(span, [rate / x for x in span], "-", color=f"C{k}", linewidth=1, label=f"generator, {isa}")
        for size, marker in (("64K", "o"), ("64M", "s")):
            found = [cell for cell in tables.cells(record, entry=size) if cell.contender == f"c-{isa}"]
            axes.plot([blocks(cell.case) for cell in found], [1 / cell.per_element for cell in found], marker, color=f"C{k}")
    for size, style in (("64K", "--"), ("64M", ":")):
        if (copy := tables.cell(record, f"{size}-p0.1", "copy")) is not None:
            text = f"numpy.copyto, {size_name(copy.case.size)}"
            axes.axhline(1 / copy.per_element, color=COLOURS["copy"], linestyle=style, label=text)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain(axes.xaxis)
    plain(axes.yaxis)
    axes.set_xlabel("Philox blocks per element")
    axes.set_ylabel("elements per nanosecond")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2 if is_narrow(figure) else 3)
    return True


def training(record: Record, figure: Figure) -> bool:
    """Draw a training step without dropout, with PyTorch's dropout and with fastdrop's."""
    cases = [case for case in record.cases.values() if case.group == "training" and record.contenders(case.name)]
    for k, case in enumerate(cases):
        axes = panel(figure, len(cases), k)
        found = list(tables.cells(record, name=case.name))
        colours = [ROLE_COLOURS[tables.role(cell.contender)] for cell in found]
        bar = axes.bar(range(len(found)), [cell.seconds * 1e3 for cell in found], color=colours)
        axes.bar_label(bar, [tables.duration(cell.seconds) for cell in found], fontsize=9)
        axes.set_xticks(range(len(found)), ["no dropout", "nn.Dropout", "fastdrop"][: len(found)])
        axes.set_title(f"{case.entry}, p = {case.rate}", loc="left")
        axes.set_ylabel("milliseconds per step" if k == 0 else "")
        axes.grid(axis="x", visible=False)
    return bool(cases)


ANSWERS = {"copy": "numpy.copyto", "c": "fastdrop", "peer": "fastest other library", "torch": "PyTorch F.dropout"}
ANSWER_COLOURS = {"copy": COLOURS["copy"], "c": COLOURS["c"], "peer": COLOURS["idiom-pcg64"], "torch": COLOURS["torch"]}


def answer(record: Record, figure: Figure) -> bool:
    """Draw fastdrop, the copy, the fastest peer and PyTorch at three sizes, and their geometric means."""
    found, means = tables.answers(record), tables.answer(record)
    if len(found.get("c", ())) < 2:
        return False
    axes = figure.add_subplot()
    groups = [*found["c"], "mean"]
    for k, name in enumerate(name for name in ANSWERS if name in found):
        values = [{**found[name], "mean": means.get(name, math.nan)}.get(group, math.nan) for group in groups]
        bar = axes.barh(
            [j + k * 0.2 for j in range(len(groups))], values, 0.18, color=ANSWER_COLOURS[name], label=ANSWERS[name]
        )
        axes.bar_label(bar, ["" if math.isnan(value) else tables.three(value) for value in values], padding=2, fontsize=9)
    axes.set_yticks(
        [j + 0.3 for j in range(len(groups))], [*(f"{group[:-1]} {group[-1]}" for group in groups[:-1]), "geometric\nmean"]
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    plain(axes.xaxis)
    axes.margins(x=0.15)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ns per float32 element (less is better)")
    figure.legend(loc="outside lower center", ncols=2 if is_narrow(figure) else 4, fontsize=9, frameon=False)
    return True


DRAWINGS: dict[str, tuple[Callable[..., bool], float, float]] = {  # name: the function, and the heights of both widths
    "answer": (answer, 3.6, 4.4),
    "throughput": (throughput, 4.4, 7.5),
    "ratios": (ratios, 4.4, 7.5),
    "peers": (peers, 8.6, 8.6),
    "isas": (isas, 3.6, 3.8),
    "threads": (threads, 3.6, 3.4),
    "latency": (latency, 9.5, 9.5),
    "roofline": (roofline, 4.6, 4.8),
    "training": (training, 3.6, 6.0),
}


def sized(name: str) -> Callable[[Record, str], str | None]:
    draw, *heights = DRAWINGS[name]
    return lambda record, width: drawn(draw, name, record, width, heights[width == "narrow"])


# name -> function that draws the figure in one of `WIDTHS`
FIGURES: dict[str, Callable[[Record, str], str | None]] = {name: sized(name) for name in DRAWINGS}
