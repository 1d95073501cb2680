"""Monitoring of training: the rate, the dropped share, moments and gradients per layer, and the losses.

A `Monitor` writes one line of JSON per observation, at once. So the file can be read while training runs, and after the
process was killed. `read` reads the file, and `plot` draws it.

Examples
--------
>>> import numpy as np, fastdrop
>>> from fastdrop.monitor import Monitor
>>> monitor = Monitor()  # with a path: writes to a file
>>> x = np.arange(1, 1001, dtype=np.float32)
>>> seen = monitor.layer("hidden", before=x, after=fastdrop.dropout(x, 0.2, seed=42), rate=0.2)
>>> seen["rate"], round(seen["dropped"], 2), round(seen["variance_shift"], 2)
(0.2, 0.18, 0.51)
>>> monitor.losses(training=0.3, validation=0.5)["gap"]
0.2
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_real_array, check_string, scalar
from fastdrop._core.optional import row_of_axes
from fastdrop.nn._measures import Pass, dropped_share, nominal_rate, replaced_share
from fastdrop.nn.variant import Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Monitor", "plot", "read"]

Entry = dict[str, Any]

FIRST_BYTES = b'{"step": '  # of each line of a file
PLOTTED = {  # what a plot needs of an entry of each kind
    "layer": {"step", "layer", "training", "dropped", "rate", "variance_shift"},
    "gradient": {"step", "layer", "norm_before"},
    "losses": {"step", "training", "validation", "gap"},
}


class Sample(NamedTuple):
    """Evenly spaced elements of an array, and the size of the whole array."""

    size: int
    values: NDArray[Any]

    @property
    def norm(self) -> float | None:
        """The Euclidean norm of the whole array, estimated from the elements."""
        if not self.values.size:
            return None
        with np.errstate(all="ignore"):
            values = self.values.astype(np.float64)
            return math.sqrt(float(values @ values) * (self.size / values.size))


class Monitor:
    """A log of the behaviour of layers and of the losses.

    Parameters
    ----------
    path : str or path-like, optional
        The file of JSON lines to write. If it exists, it is continued; an incomplete last line, which a killed process
        leaves, is cut off. Without a path the entries are kept in memory.
    every : int, default 1
        Record watched layers (`watch`) in every `every`-th step only. `layer`, `gradient` and `losses` record at each call.
    sample : int, default 16384
        The largest number of elements of an array to look at; they are evenly spaced. Shares are then accurate to about
        0.01, and an entry takes a fraction of a millisecond for arrays of any size.

    Attributes
    ----------
    step : int
        The step that new entries get. It begins at 0; increase it after each update of the weights.

    Raises
    ------
    TypeError, ValueError
        `every` or `sample` is not an integer above 0, or `path` is a file that no monitor wrote; it stays as it was.

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
        self.every, self.sample = as_positive_count(every, "every"), as_positive_count(sample, "sample")
        self.path = None if path is None else Path(path)
        self._kept: list[Entry] = []
        self._watched: list[Watched] = []
        if self.path is not None:
            end_after_last_line(self.path)
        self._file = None if self.path is None else self.path.open("a", encoding="utf-8")

    # Observations

    def layer(
        self,
        name: str,
        *,
        before: ArrayLike,
        after: ArrayLike,
        training: bool = True,
        rate: float | None = None,
        replacement: ArrayLike | None = 0.0,
    ) -> Entry:
        """Record a forward pass of a layer.

        Parameters
        ----------
        name : str
            The name of the layer.
        before, after : array_like
            The input and the output of the layer. They are read and not kept.
        training : bool
            Whether the layer was dropping.
        rate : float, optional
            The rate that the layer was meant to drop at.
        replacement : float or array_like, default 0
            The value of a dropped element: one number, or an array of the shape of `before`. None for a technique that drops
            nothing, such as Gaussian noise.

        Returns
        -------
        dict
            The entry. A number that is not finite is None in it.

            - ``rate``: the rate that was meant.
            - ``dropped``: of the elements that differed from `replacement` before, the share that equals it after; if the
              array became smaller, the share that is missing.
            - ``mean_before``, ``variance_before``, ``mean_after``, ``variance_after``: over all elements.
            - ``variance_shift``: the variance before divided by the variance after. It is the ratio of the variances that the
              next layers see in evaluation and in training.

        Raises
        ------
        TypeError, ValueError
            An array is not of real numbers, `replacement` has another size, or another argument is of another type.

        See Also
        --------
        fastdrop.theory.variance_shift : the shift in closed form.

        References
        ----------
        .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
           variance shift", CVPR 2019.
        """
        check_string(name, "name")
        given, meant = as_real_array(before, "before"), None if rate is None else scalar(rate, "rate")
        x, y, is_training = self._look(given), self._look(as_real_array(after, "after")), plan.check_flag(training, "training")
        if replacement is not None:
            replacement = as_real_array(detached(replacement), "replacement")
            if replacement.size not in (1, given.size):
                raise ValueError(
                    f"replacement must be one number, or have the shape {given.shape} of before; got {replacement.shape}"
                )
            replacement = replacement.reshape(()) if replacement.size == 1 else self._look(replacement).values  # same places
        return self._write_pass(
            name, (x, y), is_training, meant, None if replacement is None else lost_share(x, y, replacement)
        )

    def gradient(self, name: str, *, before: ArrayLike, after: ArrayLike) -> Entry:
        """Record a backward pass of a layer.

        Parameters
        ----------
        name : str
            The name of the layer.
        before, after : array_like
            The gradients with respect to the input and to the output of the layer. They are read and not kept.

        Returns
        -------
        dict
            The entry. ``norm_after`` and ``norm_before`` are the Euclidean norms of both gradients, and ``zeros`` is the share
            of zeros in the gradient with respect to the input. A number that is not finite is None.

        Raises
        ------
        TypeError, ValueError
            A gradient is not of real numbers, or the name is no string.

        Examples
        --------
        >>> from fastdrop.monitor import Monitor
        >>> entry = Monitor().gradient("hidden", before=[6.0, 0.0], after=[3.0, 4.0])
        >>> entry["norm_after"], entry["norm_before"], entry["zeros"]
        (5.0, 6.0, 0.5)
        """
        check_string(name, "name")
        later, earlier = as_real_array(after, "after"), as_real_array(before, "before")
        return self._write_gradient(name, self._look(later), self._look(earlier))

    def losses(self, training: float, validation: float) -> Entry:
        """Record a training and a validation loss.

        Parameters
        ----------
        training, validation : float
            The losses.

        Returns
        -------
        dict
            The entry. ``gap`` is the validation loss minus the training loss.

        Raises
        ------
        TypeError, ValueError
            A loss is not a number, or is an integer beyond float64.
        """
        training, validation = as_loss(training, "training"), as_loss(validation, "validation")
        return self._write({"kind": "losses", "training": training, "validation": validation, "gap": validation - training})

    def _look(self, array: Any) -> Sample:
        """Return copies of evenly spaced elements, so that the array may be overwritten."""
        values = np.asarray(plan.to_array(detached(array), "array"))
        step = -(-values.size // self.sample) or 1
        while step > 1 and math.gcd(step, values.size) > 1:  # so that the elements are not all at one place of an axis
            step += 1
        return Sample(values.size, values.reshape(-1)[::step].copy())

    def _write_pass(
        self, name: str, arrays: tuple[Sample, Sample], training: bool, rate: float | None, dropped: float | None
    ) -> Entry:
        before, after = arrays
        entry: Entry = {"kind": "layer", "layer": name, "training": bool(training), "size": before.size}
        entry |= {"rate": None if rate is None else float(rate), "dropped": dropped}
        with np.errstate(all="ignore"):
            for when, seen in (("before", before), ("after", after)):
                values = seen.values.astype(np.float64)
                entry[f"mean_{when}"] = values.mean() if values.size else None
                entry[f"variance_{when}"] = values.var() if values.size else None
            earlier, later = entry["variance_before"], entry["variance_after"]
            entry["variance_shift"] = earlier / later if later and earlier is not None else None
        return self._write(entry)

    def _write_gradient(self, name: str, after: Sample, before: Sample) -> Entry:
        zeros = 1 - np.count_nonzero(before.values) / before.values.size if before.values.size else None
        norms = {"norm_after": after.norm, "norm_before": before.norm}
        return self._write({"kind": "gradient", "layer": name, **norms, "zeros": zeros})

    def _write(self, entry: Entry) -> Entry:
        entry = {"step": plan.as_count(self.step, "step"), **{key: json_value(value) for key, value in entry.items()}}
        if self._file is None:
            self._kept.append(entry)
        else:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()
        return entry

    # Watched layers

    def watch(self, layer: Any, name: str = "") -> Any:
        """Record all forward and backward passes of a layer from now on, and return the layer.

        For layers of `fastdrop.nn` the entries have the rate that was meant, set or learned, and the share that was dropped as
        the technique drops: to 0, to the saturation value of alpha dropout, to the previous state of zoneout, by the soft
        mask of concrete dropout. The share is None for a technique that drops nothing, such as Gaussian noise.

        Parameters
        ----------
        layer : object
            A layer or a model of `fastdrop.nn`; all layers inside that drop are watched under their full names. Or any object
            with a method ``forward(x)``, and perhaps ``backward(grad)``. If its attribute ``training`` is False, the entries
            say so.
        name : str, default ""
            The name of the layer; for a model, the beginning of the names of its layers.

        Returns
        -------
        object
            The layer.

        Raises
        ------
        TypeError
            The object has no method ``forward``, or it has slots.
        ValueError
            No layer of the model drops anything.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdrop import nn
        >>> from fastdrop.monitor import Monitor
        >>> monitor, layer = Monitor(), nn.AlphaDropout(0.2, seed=42)
        >>> y = monitor.watch(layer, "hidden").forward(np.arange(1000.0))
        >>> monitor.entries()[0]["rate"], round(monitor.entries()[0]["dropped"], 2)
        (0.2, 0.18)
        """
        if hasattr(layer, "walk"):
            found = [(full, inner) for full, inner in layer.walk(name) if isinstance(inner, Variant)]
            if not found:
                raise ValueError(f"layer must contain a layer that drops; got {layer!r}")
            for full, inner in found:
                self._hook(inner, "record", self._seeing_variant(inner, full or type(inner).__name__))
                self._hook(inner, "gradient", self._seeing_backward(full or type(inner).__name__))
            return layer
        if not callable(getattr(layer, "forward", None)):
            raise TypeError(f"a layer must have a method forward(x); got {layer!r}")
        if not hasattr(layer, "__dict__"):
            raise TypeError(f"a layer must be an object without slots, so that its methods can be replaced; got {layer!r}")
        self._hook(layer, "forward", self._seeing_forward(layer, name or type(layer).__name__))
        if callable(getattr(layer, "backward", None)):
            self._hook(layer, "backward", self._seeing_backward(name or type(layer).__name__))
        return layer

    def _hook(self, layer: Any, method: str, seeing: Callable[..., Any]) -> None:
        """Replace a method of one object by one that also records the pass."""
        watched = Watched(self, layer, method, seeing)
        setattr(layer, method, watched)
        self._watched.append(watched)

    def _seeing_forward(self, layer: Any, name: str) -> Callable[..., Any]:
        """Return a function that runs and records a forward pass of any object."""

        def seeing(forward: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
            before = self._look(first_array(inputs, named))
            result = forward(*inputs, **named)
            after = self._look(result)
            dropping = getattr(layer, "training", True) or getattr(layer, "sampling", False)
            self._write_pass(name, (before, after), dropping, None, lost_share(before, after, 0.0))
            return result

        return seeing

    def _seeing_variant(self, layer: Variant, name: str) -> Callable[..., Any]:
        """Return a function that runs and records a forward pass of a layer of `fastdrop.nn` that drops."""

        def seeing(record: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
            arrays = dict(zip(layer.arrays, inputs, strict=False)) | named
            before = self._look(arrays.pop(layer.arrays[0], None))
            others = {
                key: self._look(value).values
                for key, value in arrays.items()
                if key != "again" and value is not None and np.size(value) == before.size
            }
            rate = nominal_rate(layer)
            y, made = record(*inputs, **named)
            after = self._look(y)
            dropped = dropped_share(layer, Pass(before.values, after.values, (before.size, after.size), made, others))
            self._write_pass(name, (before, after), layer.training or layer.sampling, rate, dropped)
            return y, made

        return seeing

    def _seeing_backward(self, name: str) -> Callable[..., Any]:
        """Return a function that runs and records a backward pass."""

        def seeing(backward: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
            after = self._look(first_array(inputs, named))
            result = backward(*inputs, **named)
            self._write_gradient(name, after, self._look(result[0] if isinstance(result, tuple) else result))
            return result

        return seeing

    def close(self) -> None:
        """Stop watching layers, and close the file."""
        for watched in reversed(self._watched):
            watched.remove()
        self._watched.clear()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Entries

    def entries(self) -> list[Entry]:
        """Return all entries so far, including those that the file had before."""
        return list(self._kept) if self.path is None else list(read(self.path))

    def plot(self) -> list[Axes]:
        """Draw the entries; see `plot`."""
        return plot(self.entries())


class Watched:
    """A method of one object that also records the pass.

    A deep copy or a pickle of the object gets the method itself: it is not watched.
    """

    def __init__(self, monitor: Monitor, layer: Any, method: str, seeing: Callable[..., Any]) -> None:
        self.monitor, self.layer, self.method, self.seeing = monitor, layer, method, seeing
        self.inner = getattr(layer, method)
        self.replaced = vars(layer).get(method)  # None for a method of the class
        self.is_removed = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        is_due = not self.is_removed and plan.as_count(self.monitor.step, "step") % self.monitor.every == 0
        if not is_due or not (inputs or named):  # without an array there is nothing to record
            return self.inner(*inputs, **named)
        return self.seeing(self.inner, inputs, named)

    def remove(self) -> None:
        """Stop recording. The method stays while another monitor's method, which replaced it, calls it."""
        self.is_removed = True
        attributes = vars(self.layer)
        while isinstance(outermost := attributes.get(self.method), Watched) and outermost.is_removed:
            if outermost.replaced is None:
                del attributes[self.method]
            else:
                attributes[self.method] = outermost.replaced

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (self.layer, self.method)) if self.replaced is None else (itself, (self.replaced,))


def itself(value: Any) -> Any:
    """Return the value, as a copy of a watched method."""
    return value


def detached(array: Any) -> Any:
    """Return a tensor of PyTorch as one that NumPy can read, also where it is part of a graph; another value as it is."""
    if not hasattr(array, "detach"):
        return array
    array = array.detach()
    return array.float() if str(array.dtype) == "torch.bfloat16" else array


def first_array(inputs: tuple[Any, ...], named: Entry) -> Any:
    """Return the first argument of a pass, wherever it was given."""
    return inputs[0] if inputs else next(iter(named.values()))


def lost_share(before: Sample, after: Sample, replacement: Any) -> float | None:
    """Return the share of elements that are missing after, or that became `replacement`; None if the array grew."""
    if after.size == before.size:
        return replaced_share(before.values, after.values, replacement)
    return 1 - after.size / before.size if after.size < before.size else None


def as_loss(value: Any, name: str) -> float:
    """Return a loss, which may be the number of any library, NaN or infinite."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes, bytearray, memoryview)):
            raise ValueError  # float would read a number in it
        return float(detached(value))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor without data
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be a number, the loss; got {value!r} ({type(value).__name__})") from None


def json_value(value: Any) -> Any:
    """Return a number that JSON can represent; None for a number that is not finite."""
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


# Files --------------------------------------------------------------------------------------------------------------


def end_after_last_line(path: Path) -> None:
    """Cut off an incomplete last line, which a killed process leaves; raise ValueError unless a `Monitor` wrote the file."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        end = begin_of_line(file, size)
        file.seek(begin_of_line(file, end - 1) if end else 0)
        if not (is_entry(file.readline()) if end else may_begin_entry(file.read())):
            raise ValueError(f"path must be a file that a Monitor wrote, or a new one; {str(path)!r} is another file")
        if end < size:
            file.truncate(end)


def begin_of_line(file: BinaryIO, at: int) -> int:
    """Return the position after the last line break before a position; 0 if there is none."""
    while at > 0:
        begin = max(0, at - 4096)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def may_begin_entry(text: bytes) -> bool:
    """Return whether a text without a line break may be the beginning of a file of a `Monitor`."""
    if not FIRST_BYTES.startswith(text[: len(FIRST_BYTES)]):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True  # half an entry
    return is_entry(text)


def is_entry(line: bytes) -> bool:
    """Return whether a line is an entry of a `Monitor`."""
    try:
        entry = json.loads(line) if line.startswith(FIRST_BYTES) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "kind" in entry


def read(path: Any) -> Iterator[Entry]:
    """Yield the entries of a file that a `Monitor` wrote or is writing.

    Parameters
    ----------
    path : str or path-like
        The file.

    Yields
    ------
    dict
        An entry, as `Monitor.layer`, `Monitor.gradient` and `Monitor.losses` return it. ``kind`` is ``"layer"``,
        ``"gradient"`` or ``"losses"``, and ``step`` is the step.

    Raises
    ------
    ValueError
        A line is not JSON in UTF-8. An incomplete last line is left out.

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
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # it is still being written, or was never finished
            try:
                yield json.loads(line.decode())
            except ValueError as error:  # of the encoding too
                raise ValueError(f"line {number} of {path} is not JSON: {error}") from None


# Plots --------------------------------------------------------------------------------------------------------------


def plot(entries: Iterable[Entry]) -> list[Axes]:
    """Draw the entries of a monitor over the steps: rates, variance shifts, norms of gradients, and losses.

    Parameters
    ----------
    entries : iterable of dict
        Entries, as `read` yields or `Monitor.entries` returns them. Forward passes in evaluation are left out.

    Returns
    -------
    list of matplotlib.axes.Axes
        Four axes, side by side in one figure. The first has two lines per layer: the dropped share, and the intended rate as
        a dashed line.

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
    shares, shifts, norms, gaps = found = row_of_axes(4)
    draw_lines(shares, passes, "dropped")
    draw_lines(shares, passes, "rate", "--")
    draw_lines(shifts, passes, "variance_shift")
    draw_lines(norms, gradients, "norm_before")
    for key in ("training", "validation", "gap"):
        draw_lines(gaps, losses, key, "--" if key == "gap" else "-", label=key)
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


def draw_lines(ax: Axes, layers: dict[str, list[Entry]], key: str, style: str = "-", label: str | None = None) -> None:
    """Draw a number of the entries over the steps, one line per layer; dashed lines of layers have no entry in the legend."""
    for index, (name, entries) in enumerate(layers.items()):
        values = [math.nan if entry[key] is None else entry[key] for entry in entries]
        color: dict[str, Any] = {} if label else {"color": f"C{index}"}
        shown = label or (name if style == "-" else None)
        ax.plot([entry["step"] for entry in entries], values, style, label=shown, **color)
