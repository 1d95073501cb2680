"""What every layer does, and layers in a row: modes, records of forward passes, parameters, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.state import require_entries
from fastdrop.random import Stream

__all__ = ["Layer", "Sequential"]

Self = TypeVar("Self", bound="Layer")


def joined(name: str, key: str) -> str:
    """Return the full name of what a layer calls `key`; the outermost layer has no name."""
    return f"{name}.{key}" if name else key


class Layer:
    """What every layer has.

    A layer of your own defines `record` and `gradient`. Layers that it is made of go into ``children``, and are then
    trained, seeded and saved with it; parameters are given to `add_parameter`, and `gradient` adds to ``own_gradients``.

    Attributes
    ----------
    training : bool
        Whether `forward` remembers what `backward` needs, and what drops does. Set by `train` and `eval`.
    sampling : bool
        Whether what drops does so outside training, too. Set by `eval`.
    children : dict of str to Layer
        The layers inside.
    """

    def __init__(self) -> None:
        self.training, self.sampling = True, False
        self.children: dict[str, Layer] = {}
        self.own_parameters: dict[str, NDArray[Any]] = {}
        self.own_gradients: dict[str, NDArray[Any]] = {}
        self._pending: list[Any] = []

    # Passes

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """Return the layer's output; in training, remember what `backward` needs.

        Several forward passes may come before their backward passes, which then begin with the last.
        """
        result, record = self.record(*inputs, **more)
        if self.training:
            self._pending.append(record)
        return result

    def backward(self, grad: Any, record: Any = None) -> Any:
        """Return the gradient with respect to the input, and add to the parameters' gradients.

        Parameters
        ----------
        grad : array_like
            The gradient with respect to the output.
        record : optional
            What `record` returned for the forward pass meant. By default it is the last one by `forward`, in training,
            that has had no backward pass.
        """
        if record is not None:
            return self.gradient(grad, record)
        if not self._pending:
            raise RuntimeError(
                "backward needs a forward pass in training mode that has had none yet; for any other pass give the record "
                "that record() returned"
            )
        result = self.gradient(grad, self._pending[-1])
        self._pending.pop()
        return result

    def record(self, *inputs: Any, **more: Any) -> tuple[Any, Any]:
        """Return the output, and a record of the pass for `backward`; the layer itself remembers nothing.

        With ``again=``, a record, that pass is made anew, with its rates and masks: nothing is drawn.
        """
        raise NotImplementedError(f"{type(self).__name__} has no record(x)")

    def gradient(self, grad: Any, record: Any) -> Any:
        """Return the gradient with respect to the input of the pass of which this is the record."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient(grad, record)")

    def forget(self) -> None:
        """Forget forward passes that have had no backward pass."""
        for _, layer in self.walk():
            layer._pending.clear()

    # What is inside

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all inside it, with their full names, such as ``encoder.0``; this one's is empty."""
        yield name, self
        for key, child in self.children.items():
            yield from child.walk(joined(name, key))

    def add_parameter(self, name: str, value: NDArray[Any]) -> None:
        """Take an array as a parameter, to be trained in place."""
        self.own_parameters[name] = value
        self.own_gradients[name] = np.zeros_like(value)

    @property
    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that are trained, by full name: to be changed in place."""
        return MappingProxyType(
            {joined(name, key): value for name, layer in self.walk() for key, value in layer.own_parameters.items()}
        )

    @property
    def gradients(self) -> Mapping[str, NDArray[Any]]:
        """The sums of the parameters' gradients since `zero_gradients`, under the same names."""
        return MappingProxyType(
            {joined(name, key): value for name, layer in self.walk() for key, value in layer.own_gradients.items()}
        )

    def zero_gradients(self) -> None:
        """Set the parameters' gradients to 0."""
        for gradient in self.gradients.values():
            gradient.fill(0)

    # Modes, seeds, steps

    def train(self: Self) -> Self:
        """Switch to training, and return the layer."""
        return self._set_mode(True, False)

    def eval(self: Self, *, sampling: bool = False) -> Self:
        """Switch to evaluation, and return the layer.

        With ``sampling=True`` what drops goes on dropping (Monte Carlo dropout), but nothing is remembered.
        """
        return self._set_mode(False, sampling)

    def _set_mode(self: Self, training: bool, sampling: bool) -> Self:
        for _, layer in self.walk():
            layer.training, layer.sampling = training, sampling
        return self

    def seed(self: Self, seed: Any) -> Self:
        """Give each layer inside the stream that its full name derives from a seed, and return the layer.

        A layer called ``encoder.0`` gets ``Stream(seed).fold_in("encoder.0")``; this one itself, ``Stream(seed)``.
        """
        root = Stream(seed)
        for name, layer in self.walk():
            layer.take(root.fold_in(name) if name else Stream(root.seed))
        return self

    def take(self, stream: Stream) -> None:
        """Draw from this stream from now on, if the layer draws at all."""

    def advance(self, steps: int = 1) -> None:
        """Let the schedules inside go on by so many steps: to be called after each update of the weights."""
        number = plan.as_count(steps, "steps")
        for _, layer in self.walk():
            layer.go_on(number)

    def go_on(self, steps: int) -> None:
        """Go on by so many steps, if the layer counts them."""

    # State

    def own_state(self) -> dict[str, Any]:
        """Return the state of this layer without its children's: numbers, and copies of arrays."""
        return {key: value.copy() for key, value in self.own_parameters.items()}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `own_state` returned."""
        for key, value in self.own_parameters.items():
            new = np.asarray(state[key])
            if (new.shape, new.dtype) != (value.shape, value.dtype):
                raise ValueError(
                    f"parameter {key} has shape {value.shape} and dtype {value.dtype}; the state's has {new.shape}, {new.dtype}"
                )
            value[...] = new

    def state_dict(self) -> dict[str, Any]:
        """Return parameters, streams, steps and what schedules remember: arrays and numbers, fit for ``numpy.savez``.

        It is meant for the time between two steps: forward passes that wait for their backward passes are not in it.
        """
        return {joined(name, key): value for name, layer in self.walk() for key, value in layer.own_state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, or ``numpy.load`` of it; after an error all is as it was.

        Raises
        ------
        ValueError
            Entries that are missing, unknown, or do not fit.
        """
        before = self.state_dict()
        require_entries(state, before, f"this {type(self).__name__}")
        try:
            self._load(state)
        except BaseException:
            self._load(before)
            raise
        self.forget()

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.walk():
            layer.load_own_state({key: state[joined(name, key)] for key in layer.own_state()})


class Sequential(Layer):
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer, or mapping of str to Layer
        In the order of the forward pass. In a sequence they are called "0", "1" and so on.
    seed : int, numpy.random.SeedSequence, numpy.random.Generator, optional
        See `Layer.seed`. It replaces the seeds of the layers inside; without one they keep theirs.

    Raises
    ------
    TypeError
        What is not a layer.
    ValueError
        A name that is empty or has a dot; one layer in two places.
    """

    def __init__(self, layers: Sequence[Layer] | Mapping[str, Layer], seed: Any = None) -> None:
        super().__init__()
        self.children = dict(layers) if isinstance(layers, Mapping) else {str(k): layer for k, layer in enumerate(layers)}
        self._check_children()
        if seed is not None:
            self.seed(seed)

    def _check_children(self) -> None:
        for name, layer in self.children.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be of fastdrop.nn.Layer; got {layer!r} as {name!r}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"a layer's name must be a string, not empty, without dots; got {name!r}")
        first: dict[int, str] = {}
        for name, layer in self.walk():
            if id(layer) in first:
                raise ValueError(
                    f"the layers {first[id(layer)]!r} and {name!r} are one and the same; each place needs a layer of its own"
                )
            first[id(layer)] = name

    def record(self, x: Any, again: Any = None) -> tuple[Any, Any]:
        """Return the output, and the records of all layers; see `Layer.record`."""
        records = []
        for number, layer in enumerate(self.children.values()):
            x, made = layer.record(x, again=None if again is None else again[number])
            records.append(made)
        return x, records

    def gradient(self, grad: Any, record: Any) -> Any:
        """Return the gradient with respect to the input of the first layer."""
        for layer, made in zip(reversed(self.children.values()), reversed(record), strict=True):
            grad = layer.gradient(grad, made)
        return grad
