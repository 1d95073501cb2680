"""Watching training: for each layer and step what was dropped and what that did to mean and variance, and the gap.

A `Monitor` writes one line of JSON for each thing it sees, at once, so that the file can be read while training runs and
after it was killed. `read` reads it, `plot` draws it.

Examples
--------
>>> import numpy as np, fastdrop
>>> from fastdrop.monitor import Monitor
>>> monitor = Monitor()  # with a path, to a file
>>> x = np.arange(1, 1001, dtype=np.float32)
>>> seen = monitor.layer("hidden", x, fastdrop.dropout(x, 0.2, seed=42))
>>> round(seen["rate"], 2), round(seen["variance_shift"], 2)
(0.18, 0.51)
>>> monitor.losses(training=0.3, validation=0.5)["gap"]
0.2
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import at_least_one
from fastdrop._core.optional import row_of_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Monitor", "plot", "read"]

Entry = dict[str, Any]


class Monitor:
    """Writes down what layers do, and losses.

    Parameters
    ----------
    path : str or path-like, optional
        Where to: a file of JSON lines, which is made or continued; half a line that a killed run left at its end is cut
        off. Without it the entries are kept in memory.
    every : int, default 1
        Look at layers at every so many steps only.
    sample : int, default 16384
        Look at no more elements of an array than this, evenly spaced: rates are then within about 1 %, and a look takes a
        fraction of a millisecond whatever the array's size.

    Attributes
    ----------
    step : int
        The step that entries get: count it on after each update of the weights. It is 0 at first.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> from fastdrop.monitor import Monitor, read
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> with Monitor(path) as monitor:
    ...     for step in range(3):
    ...         entry = monitor.losses(training=1.0 / (step + 1), validation=1.0)
    ...         monitor.step += 1
    >>> [entry["gap"] for entry in read(path)]
    [0.0, 0.5, 0.6666666666666667]
    """

    def __init__(self, path: Any = None, *, every: int = 1, sample: int = 2**14) -> None:
        self.step = 0
        self.every, self.sample = at_least_one(every, "every"), at_least_one(sample, "sample")
        self.path = None if path is None else Path(path)
        self._kept: list[Entry] = []
        self._watched: list[tuple[Any, str]] = []
        if self.path is not None:
            end_after_last_line(self.path)
        self._file = None if self.path is None else self.path.open("a", encoding="utf-8")

    # What is seen

    def layer(self, name: str, before: ArrayLike, after: ArrayLike, *, training: bool = True) -> Entry:
        """Write down what a layer did to an array.

        Parameters
        ----------
        name : str
            The layer's.
        before, after : array_like
            Its input and its output; looked at and not kept.
        training : bool
            Whether the layer was dropping.

        Returns
        -------
        dict
            What was written. ``rate``: the share of elements that are 0 and were not; of arrays that have become smaller,
            the share that is gone. ``mean_before``, ``variance_before``, ``mean_after``, ``variance_after``: over all
            elements. ``variance_shift``: the variance before over that after, which is what the next layers see in
            evaluation over what they see in training. What is not a finite number is None.

        See Also
        --------
        fastdrop.variance_shift : what the shift should be, in closed form.

        References
        ----------
        .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
           variance shift", CVPR 2019.
        """
        return self._seen(name, self._look(before), self._look(after), training)

    def losses(self, training: float, validation: float) -> Entry:
        """Write down a training and a validation loss; ``gap`` is how much larger the second is."""
        training, validation = float(training), float(validation)
        return self._write({"kind": "losses", "training": training, "validation": validation, "gap": validation - training})

    def _look(self, array: ArrayLike) -> tuple[int, NDArray[np.float64]]:
        """Return the size of an array, and some of its elements: copies, so that it may be overwritten."""
        values = np.asarray(array)
        step = -(-values.size // self.sample) or 1
        while step > 1 and math.gcd(step, values.size) > 1:  # so that no axis is always met at the same place
            step += 1
        return values.size, values.reshape(-1)[::step].astype(np.float64)

    def _seen(
        self, name: str, before: tuple[int, NDArray[np.float64]], after: tuple[int, NDArray[np.float64]], training: bool
    ) -> Entry:
        (size, x), (left, y) = before, after
        entry: Entry = {"kind": "layer", "layer": name, "training": bool(training), "size": size}
        if size == left:
            there = np.count_nonzero(x)
            entry["rate"] = np.count_nonzero((y == 0) & (x != 0)) / there if there else None
        else:
            entry["rate"] = 1 - left / size if left < size else None
        with np.errstate(all="ignore"):
            for when, values in (("before", x), ("after", y)):
                entry[f"mean_{when}"] = values.mean() if values.size else None
                entry[f"variance_{when}"] = values.var() if values.size else None
        earlier, later = entry["variance_before"], entry["variance_after"]
        entry["variance_shift"] = earlier / later if later else None
        return self._write(entry)

    def _write(self, entry: Entry) -> Entry:
        entry = {"step": plan.as_count(self.step, "step"), **{key: plain(value) for key, value in entry.items()}}
        if self._file is None:
            self._kept.append(entry)
        else:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()
        return entry

    # Layers that are watched

    def watch(self, layer: Any, name: str = "") -> Any:
        """Look at all that a layer does from now on, and return the layer.

        Parameters
        ----------
        layer : object
            With a method ``forward(x)``. Of a model of `fastdrop.nn`, all layers inside that drop are watched, under their
            full names. An attribute ``training`` that is False is written down as such.
        name : str, default ""
            The layer's name; of a model, what its layers' names begin with.

        Raises
        ------
        TypeError
            What has no method ``forward``.
        ValueError
            A model in which nothing drops.
        """
        if hasattr(layer, "walk"):
            found = [(full, inner) for full, inner in layer.walk(name) if hasattr(inner, "rate")]
            if not found:
                raise ValueError(f"no layer inside {layer!r} drops anything")
            for full, inner in found:
                self._hook(inner, full, "record", lambda result: result[0])
            return layer
        if not callable(getattr(layer, "forward", None)):
            raise TypeError(f"a layer must have a method forward(x); got {layer!r}")
        self._hook(layer, name, "forward", lambda result: result)
        return layer

    def _hook(self, layer: Any, name: str, method: str, output_of: Callable[[Any], Any]) -> None:
        """Put a function in front of a method of one object, which looks at what goes in and comes out."""
        inner = getattr(layer, method)

        def looking(x: Any, *more: Any, **named: Any) -> Any:
            if self.step % self.every:
                return inner(x, *more, **named)
            before = self._look(x)
            result = inner(x, *more, **named)
            dropping = getattr(layer, "training", True) or getattr(layer, "sampling", False)
            self._seen(name or type(layer).__name__, before, self._look(output_of(result)), dropping)
            return result

        setattr(layer, method, looking)
        self._watched.append((layer, method))

    def close(self) -> None:
        """Stop watching, and close the file."""
        for layer, method in reversed(self._watched):
            vars(layer).pop(method, None)
        self._watched.clear()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # What was seen

    def entries(self) -> list[Entry]:
        """Return all entries so far; those that the file had before, too."""
        return list(self._kept) if self.path is None else list(read(self.path))

    def plot(self) -> list[Axes]:
        """Draw the entries: see `plot`."""
        return plot(self.entries())


def plain(value: Any) -> Any:
    """Return a number as JSON has them, None for what is not finite."""
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


# Files --------------------------------------------------------------------------------------------------------------


def end_after_last_line(path: Path) -> None:
    """Cut off what stands after the last line's end, if the file is there: a line that a killed run did not finish."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        at = file.seek(0, 2)
        while at:
            begin = max(0, at - 4096)
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            if found >= 0:
                at = begin + found + 1
                break
            at = begin
        file.truncate(at)


def read(path: Any) -> Iterator[Entry]:
    """Yield the entries of a file that a `Monitor` wrote, or is writing.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    dict
        See `Monitor.layer` and `Monitor.losses`; ``kind`` is ``"layer"`` or ``"losses"``, ``step`` the step.

    Raises
    ------
    ValueError
        A line that is not JSON, other than a last one without an end.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastdrop.monitor import read
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> with open(path, "w") as file:
    ...     written = file.write('{"step": 0, "kind": "losses"}' + chr(10) + '{"step": 1, "ki')
    >>> list(read(path))
    [{'step': 0, 'kind': 'losses'}]
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return  # still being written, or never finished
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} of {path} is not JSON: {error}") from None


# Plots --------------------------------------------------------------------------------------------------------------


def plot(entries: Iterable[Entry]) -> list[Axes]:
    """Draw what was seen: measured rates and variance shifts over the steps, a line a layer; losses and their gap.

    Parameters
    ----------
    entries : iterable of dict
        What `read` yields or `Monitor.entries` returns. Of layers only what they did in training.

    Returns
    -------
    list of matplotlib.axes.Axes
        Three, side by side in one figure.

    Examples
    --------
    >>> from fastdrop.monitor import plot, read
    >>> figure = plot(read("run.jsonl"))[0].figure  # doctest: +SKIP
    >>> figure.savefig("run.png")  # doctest: +SKIP
    """
    seen = list(entries)
    layers: dict[str, list[Entry]] = {}
    for entry in seen:
        if entry["kind"] == "layer" and entry["training"]:
            layers.setdefault(entry["layer"], []).append(entry)
    rates, shifts, losses = found = row_of_axes(3)
    for name, those in layers.items():
        for ax, key in ((rates, "rate"), (shifts, "variance_shift")):
            ax.plot([entry["step"] for entry in those], numbers(those, key), label=name)
    rates.set(xlabel="step", ylabel="share dropped", title="measured rate")
    shifts.set(xlabel="step", ylabel="variance in evaluation / in training", title="variance shift")
    shifts.axhline(1.0, color="0.6", linewidth=0.8)
    those = [entry for entry in seen if entry["kind"] == "losses"]
    for key in ("training", "validation", "gap"):
        losses.plot([entry["step"] for entry in those], numbers(those, key), "--" if key == "gap" else "-", label=key)
    losses.set(xlabel="step", ylabel="loss", title="generalization gap")
    for ax, drawn in zip(found, (layers, layers, those), strict=True):
        if drawn:
            ax.legend()
    return list(found)


def numbers(entries: list[Entry], key: str) -> list[float]:
    """Return an entry's number for each, NaN where there is none."""
    return [math.nan if entry[key] is None else entry[key] for entry in entries]
