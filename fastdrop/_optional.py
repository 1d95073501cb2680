"""What modules borrow from packages that need not be there: figures to draw into, progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes", "missing", "track"]

T = TypeVar("T")


def missing(what: str, error: ImportError, extra: str) -> ImportError:
    """Return the error that says what to install."""
    package = (error.name or "a package").partition(".")[0]
    return ImportError(f'{what} needs {package}: pip install "fastdrop-kernels[{extra}]"', name=error.name)


def axes(given: Axes | None) -> Axes:
    """Return the Axes to draw into: those given, or new ones. Nothing is shown; their figure can be saved or closed."""
    if given is not None:
        return given
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing("a plot", error, "plot") from error
    new: Any = pyplot.subplots(layout="constrained")[1]
    return new  # type: ignore[no-any-return]


def track(items: Iterable[T], what: str, progress: bool, total: int | None = None) -> Iterable[T]:
    """Return the items, with a progress bar where it is wanted."""
    if not progress:
        return items
    try:
        from rich.progress import track as with_bar
    except ImportError as error:
        raise missing("a progress bar", error, "cli") from error
    return with_bar(items, description=what, total=total)
