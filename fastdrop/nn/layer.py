"""The base class of all layers: passes and their records, modes, parameters, seeds, configuration and state."""

from __future__ import annotations

import json
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.config import decode, differences, encode, find_class, joined
from fastdrop._core.keys import StreamSeed
from fastdrop._core.state import require_entries
from fastdrop.random import Stream

__all__ = ["Layer"]

Self = TypeVar("Self", bound="Layer")
FORMAT = 1  # of states: it changes when an older state can no longer be loaded


class Layer:
    """What every layer has.

    A layer of your own defines `record` and `gradient`. The layers that it contains go into ``children``: they are trained,
    seeded and saved with it. Parameters are given to `add_parameter`, and `gradient` adds to ``own_gradients``.

    Attributes
    ----------
    training : bool
        Whether the layer drops, and `forward` remembers what `backward` needs. `train` and `eval` set it.
    sampling : bool
        Whether the layer drops outside training, too. `eval` sets it.
    max_pending : int
        How many forward passes may wait for their backward passes: 32, unless you set another number on the layer. Beyond
        that the layer warns once and forgets the oldest.
    children : dict of str to Layer
        The layers inside.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> class Square(nn.Layer):
    ...     def record(self, x, again=None):
    ...         return x * x, x
    ...     def gradient(self, grad, record):
    ...         return 2 * grad * record
    >>> layer = Square()
    >>> y = layer(np.array([1.0, 3.0]))
    >>> layer.backward(np.ones(2))
    array([2., 6.])
    """

    max_pending: int = 32

    def __init__(self) -> None:
        self._pending: deque[tuple[Any, Any]] = deque()  # records of forward passes, with the shapes of their outputs
        self._has_warned = False
        self.training, self.sampling = True, False
        self.children: dict[str, Layer] = {}
        self.own_parameters: dict[str, NDArray[Any]] = {}
        self.own_gradients: dict[str, NDArray[Any]] = {}

    # Passes

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """Return `forward` of the same arguments."""
        return self.forward(*inputs, **more)

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """Return the layer's output; in training, remember what `backward` needs.

        Several forward passes may come before their backward passes, which then begin with the last. At most ``max_pending``
        forward passes wait.
        """
        result, record = self.record(*inputs, **more)
        if self.training:
            self._remember(record, getattr(result, "shape", None))
        return result

    def _remember(self, record: Any, shape: Any) -> None:
        self._pending.append((record, shape))
        if len(self._pending) > self.max_pending:
            self._pending.popleft()
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"more than {self.max_pending} forward passes of {type(self).__name__} wait for a backward pass; the "
                    "oldest are forgotten from now on. Call eval() before passes that need no gradient, or set max_pending",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def backward(self, grad: Any, record: Any = None) -> Any:
        """Return the gradient with respect to the input, and add to the parameters' gradients.

        Parameters
        ----------
        grad : array_like
            The gradient with respect to the output, of the output's shape.
        record : optional
            What `record` returned for the forward pass. By default it is the last pass by `forward`, in training, that has
            had no backward pass.

        Raises
        ------
        RuntimeError
            No forward pass waits: there was none, or it was outside training, or `eval` or `forget` came after it.
        ValueError
            A gradient of another shape than the output.
        """
        if record is not None:
            return self.gradient(grad, record)
        if not self._pending:
            raise RuntimeError(
                "backward needs a forward pass in training mode that has had none yet, and that neither eval() nor forget() "
                "came after; for any other pass give the record that record() returned"
            )
        made, shape = self._pending[-1]
        require_shape(grad, shape)
        result = self.gradient(grad, made)
        self._pending.pop()
        return result

    def record(self, *inputs: Any, **more: Any) -> tuple[Any, Any]:
        """Return the output, and a record of the pass for `backward`; the layer itself stores nothing.

        With ``again=``, a record, that pass is made again with the same rates and masks: nothing is drawn.
        """
        raise NotImplementedError(f"{type(self).__name__} has no record(x)")

    def gradient(self, grad: Any, record: Any) -> Any:
        """Return the gradient with respect to the input of the pass that made the record."""
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

    @property
    def training(self) -> bool:
        """Whether the layer drops, and `forward` remembers what `backward` needs."""
        return self._training

    @training.setter
    def training(self, value: bool) -> None:
        self._training = plan.check_flag(value, "training")
        if not self._training:
            self._pending.clear()  # a later backward pass must not take a pass of training for its own

    @property
    def sampling(self) -> bool:
        """Whether the layer drops outside training, too."""
        return self._sampling

    @sampling.setter
    def sampling(self, value: bool) -> None:
        self._sampling = plan.check_flag(value, "sampling")

    def train(self: Self) -> Self:
        """Switch to training, and return the layer."""
        return self._set_mode(True, False)

    def eval(self: Self, *, sampling: bool = False) -> Self:
        """Switch to evaluation, and return the layer. Forward passes that wait for a backward pass are forgotten.

        With ``sampling=True`` the layers go on dropping (Monte Carlo dropout), but remember nothing.
        """
        return self._set_mode(False, plan.check_flag(sampling, "sampling"))

    def _set_mode(self: Self, training: bool, sampling: bool) -> Self:
        for _, layer in self.walk():
            layer.training, layer.sampling = training, sampling
        return self

    def seed(self: Self, seed: StreamSeed) -> Self:
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
        """Advance the schedules inside by so many steps: call it after each update of the weights."""
        number = plan.as_count(steps, "steps")
        for _, layer in self.walk():
            layer.go_on(number)

    def go_on(self, steps: int) -> None:
        """Advance by so many steps, if the layer counts them."""

    # Configuration

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that the layer was made with, by name, without parameters and layers inside."""
        return {}

    def to_config(self) -> dict[str, Any]:
        """Return the configuration: a dictionary that JSON can hold, from which `from_config` makes such a layer again.

        It has the class, its arguments, the shapes and dtypes of the parameters, and the layers inside. Seeds, steps and the
        parameters' numbers are the state: see `state_dict`.
        """
        config = {"class": type(self).__name__, **{key: encode(value, key) for key, value in self.own_config().items()}}
        if self.own_parameters:
            config["parameters"] = {
                key: {"shape": list(value.shape), "dtype": value.dtype.name} for key, value in self.own_parameters.items()
            }
        if self.children:
            config["layers"] = {key: child.to_config() for key, child in self.children.items()}
        return config

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Return a layer of the class and configuration that `to_config` returned; ``nn.Layer.from_config`` takes any class.

        Parameters are 0 until `load_state_dict`, seeds are fresh until `seed`.

        Raises
        ------
        TypeError, ValueError
            A class that is not this one, or not derived from it; a configuration from which no such layer can be made.
        """
        layer: Self = find_class(cls, config).build({key: value for key, value in config.items() if key != "class"})
        different = sentence(layer.to_config(), config, "the configuration")
        if different:
            raise ValueError(f"{type(layer).__name__} cannot be made from this configuration: {different}")
        return layer

    @classmethod
    def build(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Return a layer of this class from its configuration without ``"class"``: `from_config` calls it."""
        own = {key: value for key, value in config.items() if key not in ("parameters", "layers")}
        try:
            return cls(**{key: decode(value, key, Layer.from_config) for key, value in own.items()})
        except TypeError as error:
            raise TypeError(f"{cls.__name__} needs own_config() and build(config) for its arguments: {error}") from None

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
        """Return all that is needed to go on from here: arrays, numbers and a string, fit for ``numpy.savez``.

        It has parameters, streams, steps and the state of schedules under the layers' full names; the configuration, as JSON,
        under ``config``; and the version of all that under ``format``. Take it between two steps: forward passes that wait
        for their backward passes are not in it.
        """
        entries = {joined(name, key): value for name, layer in self.walk() for key, value in layer.own_state().items()}
        return {"format": FORMAT, "config": json.dumps(self.to_config(), allow_nan=False), **entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, or ``numpy.load`` of it; after an error all is as it was.

        Raises
        ------
        ValueError
            A state of another format, or of a model of another configuration (the message names what differs); entries that
            are missing, unknown, or do not fit.
        """
        before = self.state_dict()
        self._require_fit(state, before)
        try:
            self._load(state)
        except BaseException:
            self._load(before)
            raise
        self.forget()

    def _require_fit(self, state: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Raise unless a state has the format, the configuration and the entries of this layer's."""
        whose = f"this {type(self).__name__}"
        if "format" in state and plan.as_count(np.asarray(state["format"])[()], "format") != FORMAT:
            raise ValueError(f"states of this version of fastdrop have the format {FORMAT}; this one has {state['format']}")
        if "config" in state:
            different = sentence(json.loads(before["config"]), json.loads(str(state["config"])), "the state")
            if different:
                raise ValueError(f"the state does not fit {whose}: {different}")
        require_entries(state, before, whose)

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.walk():
            layer.load_own_state({key: state[joined(name, key)] for key in layer.own_state()})

    # Words

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children.items()]
        return (
            f"{type(self).__name__}({self.describe_arguments()}"
            + "".join(f"\n  {line}" for line in lines)
            + "\n" * bool(lines)
            + ")"
        )

    def describe_arguments(self) -> str:
        """Return what `repr` shows of the layer besides the layers inside."""
        return ""


def require_shape(grad: Any, shape: Any) -> None:
    """Raise an error unless a gradient has the shape of the output; a value that is not an array is not checked."""
    if shape is not None and np.shape(grad) != shape:
        raise ValueError(f"grad must have the shape of the output, {shape}; got shape {np.shape(grad)}")


def sentence(here: Mapping[str, Any], there: Mapping[str, Any], whose: str) -> str:
    """Return what differs between a layer's configuration and another one; nothing differs if it is empty."""
    return "; ".join(f"{name} is {one!r} here, {other!r} in {whose}" for name, one, other in differences(here, there))
