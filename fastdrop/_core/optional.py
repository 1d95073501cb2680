"""Access to optional packages: Matplotlib's figures and rich's progress bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastdrop._core import plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes", "check_progress", "missing", "row_of_axes", "track"]

T = TypeVar("T")


def missing(what: str, error: ImportError, extra: str) -> ImportError:
    """Return an error that says which package to install for `what`."""
    package = (error.name or extra).partition(".")[0]
    return ImportError(f'{what} needs {package}: pip install "fastdrop-kernels[{extra}]"', name=error.name)


def axes(given: Axes | None) -> Axes:
    """Return the given axes, or new ones. The figure is not shown; the caller saves or closes it."""
    if given is None:
        return row_of_axes(1)[0]
    try:
        from matplotlib.axes import Axes
    except ImportError as error:
        raise missing("a plot", error, "plot") from error
    if not isinstance(given, Axes):
        raise TypeError(f"ax must be a matplotlib.axes.Axes, or None for a new figure; got {given!r}")
    return given


def row_of_axes(number: int) -> Sequence[Axes]:
    """Return new axes side by side in one figure."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing("a plot", error, "plot") from error
    figure = pyplot.figure(figsize=(6.4 * number**0.5, 4.0), layout="constrained")
    new: Any = figure.subplots(1, number, squeeze=False)
    return list(new[0])


def check_progress(progress: Any) -> None:
    """Raise an error unless `track` can follow this flag. Call it before a key is drawn or a file is written."""
    if plan.check_flag(progress, "progress"):
        try:
            import rich.progress  # noqa: F401
        except ImportError as error:
            raise missing("a progress bar", error, "cli") from error


def track(items: Iterable[T], what: str, progress: bool, total: int | None = None) -> Iterable[T]:
    """Return the items, with a progress bar if `progress` is true, after `check_progress`."""
    if not progress:
        return items
    from rich.progress import track as with_bar

    return with_bar(items, description=what, total=total)
