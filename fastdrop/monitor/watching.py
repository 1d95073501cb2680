"""Watched layers: methods of one object that also record each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastdrop.monitor.entries import Entry, Sample, gradient_entry, lost_share, pass_entry
from fastdrop.nn._measures import Pass, dropped_share, nominal_rate
from fastdrop.nn.variant import Variant

__all__ = ["Recorder", "Watched", "watch"]


class Recorder(NamedTuple):
    """What a watched method needs of its monitor."""

    is_due: Callable[[], bool]  # whether the pass is to be recorded
    look: Callable[[Any], Sample]
    write: Callable[[Entry], Any]


def watch(layer: Any, name: str, recorder: Recorder) -> Iterator[Watched]:
    """Replace the methods of a layer, or of all layers inside that drop, and yield the watched ones."""
    if hasattr(layer, "walk"):
        found = [(full, inner) for full, inner in layer.walk(name) if isinstance(inner, Variant)]
        if not found:
            raise ValueError(f"layer must contain a layer that drops; got {layer!r}")
        for full, inner in found:
            yield Watched(inner, "record", recorder, seeing_variant(inner, full or type(inner).__name__, recorder))
            yield Watched(inner, "gradient", recorder, seeing_backward(full or type(inner).__name__, recorder))
        return
    if not callable(getattr(layer, "forward", None)):
        raise TypeError(f"a layer must have a method forward(x); got {layer!r}")
    if not hasattr(layer, "__dict__"):
        raise TypeError(f"a layer must be an object without slots, so that its methods can be replaced; got {layer!r}")
    yield Watched(layer, "forward", recorder, seeing_forward(layer, name or type(layer).__name__, recorder))
    if callable(getattr(layer, "backward", None)):
        yield Watched(layer, "backward", recorder, seeing_backward(name or type(layer).__name__, recorder))


def seeing_forward(layer: Any, name: str, recorder: Recorder) -> Callable[..., Any]:
    """Return a function that runs and records a forward pass of any object."""

    def seeing(forward: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
        before = recorder.look(first_array(inputs, named))
        result = forward(*inputs, **named)
        after = recorder.look(result)
        dropping = getattr(layer, "training", True) or getattr(layer, "sampling", False)
        recorder.write(pass_entry(name, before, after, dropping, None, lost_share(before, after, 0.0)))
        return result

    return seeing


def seeing_variant(layer: Variant, name: str, recorder: Recorder) -> Callable[..., Any]:
    """Return a function that runs and records a forward pass of a layer of `fastdrop.nn` that drops."""

    def seeing(record: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
        arrays = dict(zip(layer.arrays, inputs, strict=False)) | named
        before = recorder.look(arrays.pop(layer.arrays[0], None))
        others = {
            key: recorder.look(value).values
            for key, value in arrays.items()
            if key != "again" and value is not None and np.size(value) == before.size
        }
        rate = nominal_rate(layer)
        y, made = record(*inputs, **named)
        after = recorder.look(y)
        dropped = dropped_share(layer, Pass(before.values, after.values, (before.size, after.size), made, others))
        recorder.write(pass_entry(name, before, after, layer.training or layer.sampling, rate, dropped))
        return y, made

    return seeing


def seeing_backward(name: str, recorder: Recorder) -> Callable[..., Any]:
    """Return a function that runs and records a backward pass."""

    def seeing(backward: Callable[..., Any], inputs: tuple[Any, ...], named: Entry) -> Any:
        after = recorder.look(first_array(inputs, named))
        result = backward(*inputs, **named)
        recorder.write(gradient_entry(name, after, recorder.look(result[0] if isinstance(result, tuple) else result)))
        return result

    return seeing


def first_array(inputs: tuple[Any, ...], named: Entry) -> Any:
    """Return the first argument of a pass, wherever it was given."""
    return inputs[0] if inputs else next(iter(named.values()))


class Watched:
    """A method of one object that also records the pass.

    A deep copy or a pickle of the object gets the method itself: it is not watched.
    """

    def __init__(self, layer: Any, method: str, recorder: Recorder, seeing: Callable[..., Any]) -> None:
        self.layer, self.method, self.recorder, self.seeing = layer, method, recorder, seeing
        remove_watched(layer, method, recorder)
        self.inner = getattr(layer, method)
        self.replaced = vars(layer).get(method)  # None for a method of the class
        self.is_removed = False
        setattr(layer, method, self)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the pass, and record it if one is due."""
        is_due = not self.is_removed and self.recorder.is_due()
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


def remove_watched(layer: Any, method: str, recorder: Recorder) -> None:
    """Stop the recording of a method by this recorder, so that no pass is recorded twice."""
    watched = vars(layer).get(method)
    while isinstance(watched, Watched):
        if watched.recorder == recorder:
            watched.remove()
        watched = watched.replaced


def itself(value: Any) -> Any:
    """Return the value, as a copy of a watched method."""
    return value
