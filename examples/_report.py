"""Shared functions of the examples for printing and drawing."""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)


def mean_and_spread(values) -> tuple[float, float]:
    """Return the mean and the standard deviation over folds or seeds."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def compared(values, others, unit, words=("smaller", "larger")) -> str:
    """Return how values compare with others, pair by pair: the mean difference, its spread, and the number of pairs.

    `unit` names the pairs in the plural, such as "folds".
    """
    if len(values) < 2:
        return f"not comparable: a comparison takes two {unit} or more"
    mean, spread = mean_and_spread(np.subtract(others, values))
    difference = f"{words[0] if mean > 0 else words[1]} by {abs(mean):.3f} ± {spread:.3f}"
    verdict = difference if abs(mean) > spread else f"the same within the spread ({difference})"
    return f"{verdict} over {len(values)} {unit}"


def conclude(lines, short: bool) -> None:
    """Print conclusions, or, after a short run, that it allows none."""
    found = list(lines)
    for line in ["This run is too short to draw conclusions from it."] if short else found:
        console.print(line)


def save_figure(figure, path: Path) -> None:
    """Write a figure, and print its path."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    console.print(f"figure written to {path}")
