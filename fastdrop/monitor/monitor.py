"""The monitor of a training: what it records, and where."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_real_array, check_string, scalar
from fastdrop.monitor.entries import Entry, Sample, as_loss, detached, gradient_entry, json_value, look, lost_share, pass_entry
from fastdrop.monitor.files import end_after_last_line, read
from fastdrop.monitor.plots import plot
from fastdrop.monitor.watching import Recorder, Watched, watch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Monitor"]


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
        dropped = None if replacement is None else lost_share(x, y, replacement)
        return self._write(pass_entry(name, x, y, is_training, meant, dropped))

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
        return self._write(gradient_entry(name, self._look(later), self._look(earlier)))

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
        return look(array, self.sample)

    def _write(self, entry: Entry) -> Entry:
        entry = {"step": plan.as_count(self.step, "step"), **{key: json_value(value) for key, value in entry.items()}}
        if self._file is None:
            self._kept.append(entry)
        elif self._file.closed:
            raise ValueError(f"the monitor is closed and records nothing more; another Monitor continues its file {self.path}")
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

        A layer that this monitor watches already gets the new name, and each of its passes is still recorded once.

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
        new = list(watch(layer, name, Recorder(self._is_due, self._look, self._write)))
        self._watched = [watched for watched in self._watched if not watched.is_removed] + new
        return layer

    def _is_due(self) -> bool:
        return plan.as_count(self.step, "step") % self.every == 0

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
