"""The base class of all layers: passes and their records, modes, parameters, seeds, configuration and state."""

from __future__ import annotations

import json
import re
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
from fastdrop._core.sharing import SHARED, Parts, share, shared_parts
from fastdrop._core.state import require_entries, require_state
from fastdrop.random import Stream
from fastdrop.schedules.base import stateful_parts

__all__ = ["Layer"]

Self = TypeVar("Self", bound="Layer")
LAMBDA = re.compile(r'"function": "[^"]*<lambda>"')  # in a configuration
SHARE_ALIKE = (
    f". The layers must share the same streams and schedules as the saved ones did. An early state has no {SHARED!r}: if its "
    "layers shared them too, load {**state, 'config': model.state_dict()['config']}"
)
FORMAT = 1  # the version of states: it changes when an older state can no longer be loaded


class Layer:
    """The base class of all layers.

    A layer of your own defines `record` and `gradient`. Put the layers that it contains into ``children``: they are trained,
    seeded and saved with it. A layer that is only an attribute is refused. Pass each parameter to `add_parameter`, and let
    `gradient` add the gradients of the parameters to ``own_gradients``. Only one thread at a time may use a layer: give each
    thread a copy with its own seed.

    Attributes
    ----------
    training : bool
        Whether the layer drops, and `forward` stores a record for `backward`. `train` and `eval` set it. An
        assignment reaches all layers inside.
    sampling : bool
        Whether the layer also drops outside training. `eval` sets it. An assignment reaches all layers inside.
    max_pending : int
        The largest number of forward passes that wait for their backward passes: 32, unless you set another number on the
        layer. At the next forward pass the layer warns once and forgets the oldest record.
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
    _training: bool
    _sampling: bool

    def __init__(self) -> None:
        self._pending: deque[tuple[Any, Any]] = deque()  # records of forward passes, with the shapes of their outputs
        self._has_warned = False
        self.children: dict[str, Layer] = {}
        self.training, self.sampling = True, False
        self.own_parameters: dict[str, NDArray[Any]] = {}
        self.own_gradients: dict[str, NDArray[Any]] = {}

    # Passes

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """Call `forward` with the same arguments."""
        return self.forward(*inputs, **more)

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """Return the layer's output; in training, store a record of the pass for `backward`.

        Several forward passes may come before their backward passes; `backward` then takes the latest first. At most
        ``max_pending`` forward passes wait.
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
                    f"more than {self.max_pending} forward passes of {type(self).__name__} wait for a backward pass; the layer "
                    "forgets the oldest ones. Call eval() before passes that need no gradient, or set max_pending",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def backward(self, grad: Any, record: Any = None) -> Any:
        """Return the gradient with respect to the input, and add the parameters' gradients to their sums.

        Parameters
        ----------
        grad : array_like
            The gradient with respect to the output, of the output's shape.
        record : optional
            The record that `record` returned for the forward pass. By default it is the record of the latest call of `forward`
            in training that has had no backward pass.

        Raises
        ------
        RuntimeError
            No forward pass waits: there was none, or it was outside training, or `eval` or `forget` was called after it.
        ValueError
            The gradient has another shape than the output.
        """
        if record is not None:
            return self.gradient(grad, record)
        if not self._pending:
            raise RuntimeError(
                "backward needs a forward pass in training mode: call forward() before each backward(), without eval() or "
                "forget() between them; for any other pass, give the record that record() returned"
            )
        made, shape = self._pending[-1]
        require_shape(grad, shape)
        result = self.gradient(grad, made)
        self._pending.pop()
        return result

    def record(self, *inputs: Any, **more: Any) -> tuple[Any, Any]:
        """Return the output, and a record of the pass for `backward`; the layer itself stores nothing.

        With ``again=record`` the recorded pass is repeated with the same rates, learned ones too, and the same masks: no key is
        drawn. A record has no copies of inputs and weights; they must not change before the backward pass.
        """
        raise NotImplementedError(f"{type(self).__name__} must define record(x)")

    def gradient(self, grad: Any, record: Any) -> Any:
        """Return the gradient with respect to the input of the pass that made the record."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(grad, record)")

    def forget(self) -> None:
        """Forget the forward passes that wait for a backward pass."""
        for _, layer in self.walk():
            layer._pending.clear()

    # Layers and parameters inside

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all layers inside, with their full names, such as ``encoder.0``; this layer's name is empty.

        Raises
        ------
        TypeError
            A layer is an attribute and neither in ``children`` nor inside one of them, so that no mode, seed or state would
            reach it.
        """
        for key, value in vars(self).items():
            if isinstance(value, Layer) and not self._contains(value):
                raise TypeError(
                    f"the layer {type(self).__name__}.{key} must be in children, so that it is trained, seeded and saved with "
                    f"{type(self).__name__}: write self.children[{key!r}] = ... in its place"
                )
        yield name, self
        for key, child in self.children.items():
            yield from child.walk(joined(name, key))

    def _contains(self, layer: Layer) -> bool:
        """Return whether a layer is one of the children or inside one of them."""
        children = self.children.values()
        return any(layer is child for child in children) or any(child._contains(layer) for child in children)

    def add_parameter(self, name: str, value: NDArray[Any]) -> None:
        """Add an array as a parameter, which is trained in place."""
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} must be a numpy.ndarray, which is trained in place; got {type(value).__name__}")
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            raise TypeError(f"{name} must have a floating-point dtype, so that it can be trained; got {value.dtype}")
        self.own_parameters[name] = value
        self.own_gradients[name] = np.zeros_like(value)

    @property
    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """The trained arrays by full name. Change them in place."""
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
        """Whether the layer drops, and `forward` stores a record for `backward`."""
        return self._training

    @training.setter
    def training(self, value: bool) -> None:
        flag = plan.check_flag(value, "training")
        for _, layer in self.walk():
            layer._training = flag
        if not flag:
            self.forget()  # a later backward pass must not use a record of training

    @property
    def sampling(self) -> bool:
        """Whether the layer also drops outside training."""
        return self._sampling

    @sampling.setter
    def sampling(self, value: bool) -> None:
        flag = plan.check_flag(value, "sampling")
        for _, layer in self.walk():
            layer._sampling = flag

    def train(self: Self) -> Self:
        """Switch to training, and return the layer."""
        return self._set_mode(True, False)

    def eval(self: Self, *, sampling: bool = False) -> Self:
        """Switch to evaluation, and return the layer. Forward passes that wait for a backward pass are forgotten.

        With ``sampling=True`` the layers continue to drop (Monte Carlo dropout), but store no records.
        """
        return self._set_mode(False, plan.check_flag(sampling, "sampling"))

    def _set_mode(self: Self, training: bool, sampling: bool) -> Self:
        self.training, self.sampling = training, sampling
        return self

    def seed(self: Self, seed: StreamSeed) -> Self:
        """Give each layer inside a stream that is derived from a seed and its full name, and return this layer.

        A layer called ``encoder.0`` gets ``Stream(seed).fold_in("encoder.0")``; this layer gets ``Stream(seed)``. If the seed
        is a `Key` with an offset above 0, the layers inside derive theirs from ``fold_in(key.seed, key.offset)``. So models
        that get the keys of one stream drop independently. This layer itself begins at the offset.
        """
        root = Stream(seed)
        parent = root.fold_in(root.offset) if root.offset else root
        for name, layer in self.walk():
            layer.set_stream(parent.fold_in(name) if name else root)
        return self

    def set_stream(self, stream: Stream) -> None:
        """Replace the layer's stream, if the layer draws keys."""

    def advance(self, steps: int = 1) -> None:
        """Advance the schedules inside by a number of steps. Call it after each update of the weights."""
        number = plan.as_count(steps, "steps")
        for _, layer in self.walk():
            layer.advance_own_step(number)

    def advance_own_step(self, steps: int) -> None:
        """Advance the layer's own step, if it has one."""

    # Configuration

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that the layer was made with, by name, without parameters and layers inside."""
        return {}

    def to_config(self) -> dict[str, Any]:
        """Return the configuration: a dictionary that JSON can hold, from which `from_config` makes such a layer again.

        It has the class, its arguments, the shapes and dtypes of the parameters, and the layers inside. If layers share a
        stream, or a schedule with a state, it has their names. Seeds, steps and the values of the parameters belong to the
        state: see `state_dict`.
        """
        config = {"class": type(self).__name__, **{key: encode(value, key) for key, value in self.own_config().items()}}
        if self.own_parameters:
            config["parameters"] = {
                key: {"shape": list(value.shape), "dtype": value.dtype.name} for key, value in self.own_parameters.items()
            }
        if self.children:
            config["layers"] = {key: child.to_config() for key, child in self.children.items()}
        shared = shared_parts(parts_inside(self))
        return config | {SHARED: shared} if shared else config

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Return a layer of the class and configuration that `to_config` returned; ``nn.Layer.from_config`` takes any class.

        Parameters are 0 until `load_state_dict` is called, and seeds are fresh until `seed` or `load_state_dict` is called.

        Raises
        ------
        TypeError, ValueError
            The class is not this class nor derived from it, or no such layer can be made from the configuration.
        """
        made = find_class(cls, config)
        layer: Self = made.build({key: value for key, value in config.items() if key not in ("class", SHARED)})
        if SHARED in config:
            for _, inner in layer.walk():
                getattr(inner, "stream", None)  # which makes it
            layer = share(layer, parts_inside(layer), config[SHARED])
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
            raise TypeError(f"{cls.__name__} must define own_config() and build(config) for its arguments: {error}") from None

    # State

    def own_parts(self) -> dict[str, Any]:
        """Return the stream and the schedule of this layer, by name, if it has any: parts that several layers may share."""
        stream = getattr(self, "stream", None)
        return {"stream": stream} if isinstance(stream, Stream) else {}

    def own_state(self) -> dict[str, Any]:
        """Return the state of this layer without its children's: numbers, and copies of arrays."""
        return {key: value.copy() for key, value in self.own_parameters.items()}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Load a state that `own_state` returned."""
        for key, value in self.own_parameters.items():
            new = np.asarray(state[key])
            if (new.shape, new.dtype) != (value.shape, value.dtype):
                raise ValueError(
                    f"parameter {key} has shape {value.shape} and dtype {value.dtype}; the state has {new.shape}, {new.dtype}"
                )
            value[...] = new

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which training continues: arrays, numbers and a string, fit for ``numpy.savez``.

        It has parameters, streams, steps and the state of schedules under the layers' full names, the configuration as JSON
        under ``config``, and the version of the state under ``format``. Save it between two steps: it does not contain forward
        passes that wait for their backward passes.
        """
        entries = {joined(name, key): value for name, layer in self.walk() for key, value in layer.own_state().items()}
        return {"format": FORMAT, "config": json.dumps(self.to_config(), allow_nan=False), **entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, or ``numpy.load`` of it. After an error the layer is unchanged.

        A function in place of a schedule is compared by its module and name. If it is a lambda, which has no name, a
        RuntimeWarning says so.

        Raises
        ------
        TypeError
            The state is no mapping, or a number in it has a wrong type.
        ValueError
            The state has another format or another configuration (the message names the differences), or its entries are
            missing, unknown, or do not fit.
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
        """Raise an error unless a state has the format, the configuration and the entries of this layer."""
        whose = f"this {type(self).__name__}"
        require_state(state)
        if "format" in state and plan.as_count(np.asarray(state["format"])[()], "format") != FORMAT:
            raise ValueError(f"the state must have the format {FORMAT} of this version of fastdrop; got {state['format']}")
        if "config" in state:
            different = sentence(json.loads(before["config"]), config_of(state), "the state")
            if different:
                raise ValueError(f"the state does not fit {whose}: {different}{SHARE_ALIKE if SHARED in different else ''}")
            if LAMBDA.search(before["config"]):
                warnings.warn(
                    "the state has a schedule that is a lambda, which may be another one than the layer's: all lambdas have "
                    "the same name. Use a schedule of fastdrop.schedules or a function with a name",
                    RuntimeWarning,
                    stacklevel=3,
                )
        require_entries(state, before, whose)

    def _load(self, state: Mapping[str, Any]) -> None:
        streams: list[tuple[Any, Any]] = [(layer, getattr(layer, "stream", None)) for _, layer in self.walk()]
        for name, layer in self.walk():
            layer.load_own_state({key: state[joined(name, key)] for key in layer.own_state()})
        loaded: dict[int, Stream] = {}
        for layer, before in streams:  # layers that shared a stream share the new one
            if isinstance(before, Stream):
                stream = loaded.setdefault(id(before), layer.stream)
                if stream == layer.stream:
                    layer.set_stream(stream)

    # Text

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children.items()]
        return (
            f"{type(self).__name__}({self.describe_arguments()}"
            + "".join(f"\n  {line}" for line in lines)
            + "\n" * bool(lines)
            + ")"
        )

    def describe_arguments(self) -> str:
        """Return the arguments that `repr` shows besides the layers inside."""
        return ""


def parts_inside(layer: Layer) -> Parts:
    """Yield the streams and the schedules that have a state, with their full names."""
    for name, inner in layer.walk():
        yield from stateful_parts(name, inner.own_parts())


def require_shape(grad: Any, shape: Any) -> None:
    """Raise an error unless a gradient has the shape of the output; None as the shape (of an output without one) allows all."""
    if shape is not None and shape_of(grad) != shape:
        raise ValueError(f"grad must have the shape of the output, {shape}; got shape {shape_of(grad)}")


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, or of a value that can be converted to one, for which NumPy's function is slower."""
    return value.shape if type(value) is np.ndarray else np.shape(value)


def config_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration in a state, or raise an error if it is none."""
    try:
        config = json.loads(str(state["config"]))
    except ValueError:
        config = None
    if not isinstance(config, Mapping):
        raise ValueError(f"the entry config of a state must be a configuration as JSON; got {state['config']!r}")
    return config


def sentence(here: Mapping[str, Any], there: Mapping[str, Any], whose: str) -> str:
    """Return the differences between a layer's configuration and another one as text; empty if there are none."""
    return "; ".join(f"{name} is {one!r} here, {other!r} in {whose}" for name, one, other in differences(here, there))
