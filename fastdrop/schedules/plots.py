"""Plots of schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastdrop._core.checks import as_finite_number, as_positive_count, check_iterable
from fastdrop._core.optional import axes
from fastdrop.schedules.arguments import StepToRate, as_constant_rate

__all__ = ["plot"]

MOST_POINTS = 1000  # of a curve: more than a figure has pixels


def plot(schedules: Mapping[str, StepToRate | float] | Iterable[StepToRate | float], steps: int, ax: Any = None) -> Any:
    """Draw the rates of the first steps.

    Parameters
    ----------
    schedules : mapping of str to callable or float, or iterable of callable or float
        One curve per schedule, or per rate. The keys of a mapping become the legend.
    steps : int
        The number of steps, at least 1.
    ax : matplotlib.axes.Axes, optional
        The axes to draw into. By default a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    TypeError, ValueError
        `steps` is not an integer of at least 1, `ax` is not a Matplotlib Axes, an entry is neither a schedule nor a rate,
        or the value of a schedule is not a finite number.

    Examples
    --------
    >>> from fastdrop.schedules import Early, Late, plot
    >>> ax = plot({"early": Early(0.4, 100), "late": Late(0.4, 100)}, 200)  # doctest: +SKIP
    >>> ax.figure.savefig("rates.png")  # doctest: +SKIP
    """
    count = as_positive_count(steps, "steps")
    check_iterable(schedules, "schedules")
    named = schedules if isinstance(schedules, Mapping) else {f"_{number}": one for number, one in enumerate(schedules)}
    points = sorted({round(k * (count - 1) / (MOST_POINTS - 1)) for k in range(MOST_POINTS)})
    curves = {str(name): rates_at(points, schedule) for name, schedule in named.items()}
    ax = axes(ax)
    for name, rates in curves.items():
        ax.plot(points, rates, label=name)
    ax.set(xlabel="step", ylabel="rate p", ylim=(0, None))
    if any(not name.startswith("_") for name in curves):  # Matplotlib leaves names that begin so out of the legend
        ax.legend()
    return ax


def rates_at(points: Sequence[int], schedule: Any) -> list[float]:
    """Return the rates of a schedule, or of a number that stands for one, at some steps."""
    if not callable(schedule):
        return [as_constant_rate(schedule, "schedule")] * len(points)
    return [as_finite_number(schedule(step), "the rate of the schedule") for step in points]
