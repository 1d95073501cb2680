"""What the examples print and draw alike."""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)


def mean_and_spread(values) -> tuple[float, float]:
    """Return the mean over folds or seeds, and the standard deviation between them."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def compared(values, others, words=("smaller", "larger")) -> str:
    """Return how values compare with others, fold by fold or seed by seed: by the mean difference, if above the spread."""
    mean, spread = mean_and_spread(np.subtract(others, values))
    smaller, larger = words
    verdict = smaller if mean > spread else larger if mean < -spread else "the same within the spread"
    return f"{verdict}, by {mean:.3f} ± {spread:.3f} over {len(values)}"


def save_figure(figure, path: Path) -> None:
    """Write a figure, and say where."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    console.print(f"drawn: {path}")
