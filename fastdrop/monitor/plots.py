"""The plots of a monitor's entries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastdrop._core.optional import row_of_axes
from fastdrop.monitor.entries import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

PLOTTED = {  # what a plot needs of an entry of each kind
    "layer": {"step", "layer", "training", "dropped", "rate", "variance_shift"},
    "gradient": {"step", "layer", "norm_before"},
    "losses": {"step", "training", "validation", "gap"},
}


def plot(entries: Iterable[Entry]) -> list[Axes]:
    """Draw the entries of a monitor over the steps: rates, variance shifts, norms of gradients, and losses.

    Parameters
    ----------
    entries : iterable of dict
        Entries, as `read` yields or `Monitor.entries` returns them. Forward passes in evaluation are left out.

    Returns
    -------
    list of matplotlib.axes.Axes
        Four axes, side by side in one figure. A layer has the same color wherever it is shown. The first has two lines per
        layer: the dropped share, and the intended rate as a dashed line.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        An entry is not one of a `Monitor`.

    Examples
    --------
    >>> from fastdrop.monitor import plot, read
    >>> figure = plot(read("run.jsonl"))[0].figure  # doctest: +SKIP
    >>> figure.savefig("run.png")  # doctest: +SKIP
    """
    seen = list(entries)
    for entry in seen:
        if not isinstance(entry, dict) or "kind" not in entry or not PLOTTED.get(str(entry["kind"]), set()) <= entry.keys():
            raise ValueError(f"entries must be entries of a Monitor, as read yields them; got {entry!r}")
    passes = group_by_layer(entry for entry in seen if entry["kind"] == "layer" and entry["training"])
    gradients = group_by_layer(entry for entry in seen if entry["kind"] == "gradient")
    losses = {"": [entry for entry in seen if entry["kind"] == "losses"]}
    colors = {name: f"C{index}" for index, name in enumerate(passes | gradients)}  # a layer has one color on all axes
    gradients = {name: gradients[name] for name in colors if name in gradients}
    shares, shifts, norms, gaps = found = row_of_axes(4)
    draw_lines(shares, passes, "dropped", colors)
    draw_lines(shares, passes, "rate", colors, "--")
    draw_lines(shifts, passes, "variance_shift", colors)
    draw_lines(norms, gradients, "norm_before", colors)
    for key in ("training", "validation", "gap"):
        draw_lines(gaps, losses, key, {}, "--" if key == "gap" else "-", label=key)
    shares.set(xlabel="step", ylabel="share dropped; rate in dashes", title="rate")
    shifts.set(xlabel="step", ylabel="variance in evaluation / in training", title="variance shift")
    shifts.axhline(1.0, color="0.6", linewidth=0.8)
    norms.set(xlabel="step", ylabel="norm, with respect to the input", title="gradient")
    gaps.set(xlabel="step", ylabel="loss", title="generalization gap")
    for ax, drawn in zip(found, (passes, passes, gradients, losses[""]), strict=True):
        if drawn:
            ax.legend()
    return list(found)


def group_by_layer(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return entries by the name of their layer."""
    layers: dict[str, list[Entry]] = {}
    for entry in entries:
        layers.setdefault(entry["layer"], []).append(entry)
    return layers


def draw_lines(
    ax: Axes,
    layers: dict[str, list[Entry]],
    key: str,
    colors: dict[str, str],
    style: str = "-",
    label: str | None = None,
) -> None:
    """Draw a number of the entries over the steps, one line per layer; dashed lines of layers have no entry in the legend."""
    for name, entries in layers.items():
        values = [math.nan if entry[key] is None else entry[key] for entry in entries]
        shown = label or (name if style == "-" else None)
        ax.plot([entry["step"] for entry in entries], values, style, label=shown, color=colors.get(name))
