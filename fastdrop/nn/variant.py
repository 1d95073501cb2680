"""The base class of the layers that drop, which makes a layer of a forward and a backward function."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args, get_origin

import numpy as np

from fastdrop._core import plan, types
from fastdrop._core.config import decode, entries, zeros
from fastdrop._core.state import collect, distribute
from fastdrop.nn.docstrings import complete
from fastdrop.nn.layer import Layer, require_shape, shape_of
from fastdrop.random import Stream
from fastdrop.schedules import Schedule

__all__ = ["Record", "Variant"]

# Arguments of the functions that are no constructor arguments: the layer sets them, or its caller per pass, or neither.
BY_THE_LAYER = {"seed", "offset", "training", "num_tokens", "log_alpha"}
BY_THE_CALLER = {"residual", "tokens", "allowed", "bias", "probabilities"}
NOT_OFFERED = {"out", "backend", "num_threads", "start", "global_shape", "global_start", "return_indices"}
NOT_OFFERED |= {"antithetic", "losses", "antithetic_losses"}  # a layer cannot run the several passes of these estimators

Function = Callable[..., Any]
Self = TypeVar("Self", bound="Variant")


class Record(NamedTuple):
    """The record of a forward pass, for its backward pass and for its repetition: numbers, but no mask.

    Attributes
    ----------
    value : float or numpy.ndarray
        The scheduled argument, for most layers the rate p, at the step of the pass.
    seed, offset : int
        The key of the mask.
    dropping : bool
        Whether the pass dropped.
    remembered : dict
        Arguments of the backward function that only the forward pass knows: copies of learned rates, and the inputs and the
        weights themselves, which must not change before the backward pass.
    shape : tuple of int
        The shape of the output.
    """

    value: Any
    seed: int
    offset: int
    dropping: bool
    remembered: dict[str, Any]
    shape: tuple[int, ...] | None = None


@functools.cache
def parameter_names(function: Function) -> frozenset[str]:
    """Return the names of a function's arguments."""
    return frozenset(inspect.signature(function).parameters)


def split_parameters(function: Function, scheduled: str) -> tuple[list[str], list[inspect.Parameter]]:
    """Return the names of a function's arrays, which precede the scheduled argument, and the parameters from that on."""
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    return names[: names.index(scheduled)], parameters[names.index(scheduled) :]


def layer_signature(forward: Function, backward: Function, scheduled: str) -> inspect.Signature:
    """Return the signature of a layer's class: the scheduled argument, all arguments that do not vary per call, and a seed."""
    offered: dict[str, inspect.Parameter] = {}
    of_calls = {*BY_THE_LAYER, *BY_THE_CALLER, *NOT_OFFERED, *split_parameters(forward, scheduled)[0]}
    for function in (forward, backward):
        for parameter in split_parameters(function, scheduled)[1]:
            if parameter.name not in of_calls:
                offered.setdefault(parameter.name, parameter)
    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=None)
    return inspect.Signature(sorted([*offered.values(), seed], key=lambda parameter: parameter.kind))


def allowed_words(function: Function, annotation: Any) -> tuple[str, ...]:
    """Return the words that an annotation of a function allows: those of a ``Literal``, or of the alias that it names."""
    words: Any = ()
    if isinstance(annotation, str) and annotation.startswith("Literal["):
        with contextlib.suppress(ValueError):  # "Literal['a'] | None" allows more than words
            words = ast.literal_eval(annotation.removeprefix("Literal"))
    else:
        if isinstance(annotation, str):  # a compiled module does not have the names of its annotations
            annotation = getattr(sys.modules.get(function.__module__), annotation, getattr(types, annotation, None))
        words = get_args(annotation) if get_origin(annotation) is Literal else ()
    return tuple(words) if all(isinstance(word, str) for word in words) else ()


@functools.cache
def option_checks(functions: tuple[Function, Function]) -> dict[str, Callable[[Any, str], Any]]:
    """Return the check of each keyword of two functions that is a flag or one of some words, by its name."""
    found: dict[str, Callable[[Any, str], Any]] = {}
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.annotation in ("bool", bool):
                found[name] = plan.check_flag
            elif words := allowed_words(function, parameter.annotation):
                found[name] = functools.partial(check_word, words)
    return found


def check_word(words: tuple[str, ...], value: Any, name: str) -> None:
    """Raise an error if an argument is none of the allowed words."""
    if not plan.is_one_of(value, words):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}; got {value!r}")


def whole_signature(cls: type[Variant]) -> inspect.Signature:
    """Return the signature of a class: that of its own ``__init__``, with the function's arguments for ``**options``."""
    own = [one for name, one in inspect.signature(cls.__init__).parameters.items() if name != "self"]
    named = [one for one in own if one.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)]
    names = {one.name for one in named}
    rest = [one for one in cls.arguments.parameters.values() if one.name not in names] if len(named) < len(own) else []
    return inspect.Signature(sorted([*named, *rest], key=lambda parameter: parameter.kind))


def own_value(value: Any) -> Any:
    """Return an argument for a layer to keep: a `Fraction` or a `Decimal`, which no configuration can hold, as a float.

    An array is copied, and a list becomes a tuple, so that changes by the caller do not reach a backward pass.
    """
    if type(value) is float:  # the test for a `Fraction` takes longer than a call of `dropout`
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return tuple(map(own_value, value))
    return float(value) if isinstance(value, (Fraction, Decimal)) else value


def as_record(value: Any, name: str) -> Record:
    """Return a record of a layer that drops, or raise an error that names the argument."""
    if not isinstance(value, Record):
        raise TypeError(f"{name} must be the record that record() returned; got {value!r}")
    return value


def short_signature(cls: type) -> inspect.Signature:
    """Return the signature of a class in a form short enough for a message."""
    found = inspect.signature(cls)
    return found.replace(parameters=[each.replace(annotation=each.empty) for each in found.parameters.values()])


class Variant(Layer):
    """A layer that drops.

    A subclass names the functions of its passes:
    ``class Dropout(Variant, forward=fastdrop.dropout, backward=fastdrop.dropout_backward)``. One argument may have a schedule:
    ``scheduled=...`` names it; the default is p. The arguments before it are arrays. Between the passes, the layer stores the
    arrays that both functions take. A subclass with parameters calls `set_up` in its ``__init__``, with the arrays by name; the
    layer passes them to the functions under these names. The backward function must return the gradient of the input first,
    and then those of the parameters in their order.

    Parameters
    ----------
    p : float, numpy.ndarray, or a callable step -> p
        The scheduled argument: for most layers the rate, or its schedule (`fastdrop.schedules`), which `advance` advances. A
        backward pass uses the rate of its forward pass.
    **options
        The keywords of the function that are the same in all calls.
    seed : int, Key, Stream, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None
        The seed of the layer's own stream. A model with a seed sets it (`Layer.seed`). None takes fresh entropy. A Key sets the
        offset of the first pass.

    Attributes
    ----------
    p : float, numpy.ndarray or callable
        The scheduled argument as given, under its own name: for most layers ``p``, a rate or its schedule. A layer with another
        scheduled argument has an attribute of that name instead.
    options : dict
        The other arguments, as given.
    step : int
        The number of steps that the layer has advanced.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> from fastdrop import nn
    >>> class RowDropout(nn.Variant, forward=fastdrop.drop_path, backward=fastdrop.drop_path_backward):
    ...     pass
    >>> layer = RowDropout(0.5, seed=42)
    >>> y = layer(np.ones((4, 3), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    functions: ClassVar[tuple[Function, Function]]
    scheduled: ClassVar[str]
    arrays: ClassVar[list[str]]
    arguments: ClassVar[inspect.Signature]
    learned: ClassVar[tuple[str, ...]] = ()  # the parameters that are rates: a record has copies of them

    def __init_subclass__(cls, forward: Function | None = None, backward: Function | None = None, scheduled: str = "p") -> None:
        if forward is not None and backward is not None:
            cls.functions, cls.scheduled = (forward, backward), scheduled
            cls.arrays, cls.arguments = split_parameters(forward, scheduled)[0], layer_signature(forward, backward, scheduled)
            cls.__signature__ = whole_signature(cls)  # type: ignore[attr-defined]  # for help() and for error messages
            complete(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.set_up({}, *arguments, **options)

    def set_up(self, trained: Mapping[str, Any], /, *arguments: Any, **options: Any) -> None:
        """Make the layer from its parameters by name, and from the arguments of `Variant`.

        A subclass with parameters calls it in place of ``super().__init__``. A bias of None is left out.
        """
        super().__init__()
        if not hasattr(self, "functions"):
            raise TypeError(f"{type(self).__name__} has no forward and backward function: use a subclass that names them")
        try:
            bound = self.arguments.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}; it takes {short_signature(type(self))}") from None
        bound.apply_defaults()
        seed, value = bound.arguments.pop("seed"), bound.arguments.pop(self.scheduled)
        if self.scheduled == "p" and not callable(value) and not (isinstance(value, np.ndarray) and value.ndim):
            plan.as_rate(value)
        for name, check in option_checks(self.functions).items():
            if name in bound.arguments:
                check(bound.arguments[name], name)
        setattr(self, self.scheduled, own_value(value))
        self.options: dict[str, Any] = {name: own_value(option) for name, option in bound.arguments.items()}
        self.step = 0
        for name, array in trained.items():
            if name != "bias" or array is not None:  # all others are required
                self.add_parameter(name, array)
        # last, because a generator must not be drawn from if a check fails
        self._stream = None if seed is None else seed if isinstance(seed, Stream) else Stream(seed)

    # Numbers

    @property
    def current(self) -> Any:
        """The scheduled argument at this step, which for most layers is the rate."""
        value = getattr(self, self.scheduled)
        return value(self.step) if callable(value) else value

    @property
    def rate(self) -> Any:
        """The probability of dropping at this step. Layers without such a probability do not have this attribute."""
        if self.scheduled != "p":
            raise AttributeError(f"{type(self).__name__} has no rate; its {self.scheduled} is {self.current!r}")
        return self.current

    @property
    def scaling(self) -> str:
        """The scaling of kept values, for a function without the keyword `mode`."""
        return "inverted"

    @property
    def stream(self) -> Stream:
        """The stream that the layer draws from: once for each pass that drops."""
        if self._stream is None:
            self._stream = Stream()
        return self._stream

    # Passes

    def record(self, *inputs: Any, **more: Any) -> tuple[Any, Record]:
        """Return the output and a record; see `Layer.record`."""
        again = more.pop("again", None)
        made = self._begin() if again is None else as_record(again, "again")
        if self.own_parameters:
            learned = {name: value for name, value in made.remembered.items() if name in self.learned}
            more = self.own_parameters | learned | more
        result = self._call(self.functions[0], inputs, made, more)
        if again is None and made.dropping:
            self.stream.next()  # only now, so that a pass that failed draws no key
        return result, Record(*made[:4], self.remember(*inputs, **more), shape_of(result))

    def _begin(self) -> Record:
        dropping = self.training or self.sampling
        seed, offset = self.stream.key() if dropping else (0, 0)
        learned = {name: self.own_parameters[name].copy() for name in self.learned if name in self.own_parameters}
        return Record(own_value(self.current), seed, offset, dropping, learned)

    def remember(self, *inputs: Any, **more: Any) -> dict[str, Any]:
        """Return the arguments of the backward function that only the forward pass knows."""
        taken = parameter_names(self.functions[1])
        given = dict(zip(self.arrays, inputs, strict=False))  # some arrays may be parameters, or given by keyword
        given |= more
        return {name: value for name, value in given.items() if name in taken}

    def gradient(self, grad: Any, record: Record) -> Any:
        """Return the gradient with respect to the input, and add those of the parameters; see `Layer.gradient`."""
        require_shape(grad, as_record(record, "record").shape)
        result = self._call(self.functions[1], (grad,), record, record.remembered)
        if not self.own_parameters:  # the gradient of an operand that was not given is None
            return result[0] if isinstance(result, tuple) and result[1] is None else result
        of_input, *of_parameters = result
        # a missing bias may also have a gradient
        for total, part in zip(self.own_gradients.values(), of_parameters, strict=False):
            total += part
        return of_input

    def _call(self, function: Function, arrays: tuple[Any, ...], made: Record, more: Mapping[str, Any]) -> Any:
        taken = parameter_names(function)
        options = {name: value for name, value in self.options.items() if name in taken}
        numbers = {self.scheduled: made.value, "seed": made.seed, "offset": made.offset, "training": made.dropping}
        return function(*arrays, **numbers, **options, **more)

    # Seeds, steps, configuration, state

    def set_stream(self, stream: Stream) -> None:
        """Replace the layer's stream."""
        self._stream = stream

    def advance_own_step(self, steps: int) -> None:
        """Advance the layer's step."""
        self.step += steps

    def own_config(self) -> dict[str, Any]:
        """Return the scheduled argument and the options."""
        return {self.scheduled: getattr(self, self.scheduled), **self.options}

    @classmethod
    def build(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Return a layer from its configuration; its parameters are 0. See `Layer.build`."""
        own = {key: decode(value, key, Schedule.from_config) for key, value in config.items() if key != "parameters"}
        taken = inspect.signature(cls).parameters
        for key, array in entries(config, "parameters").items():
            if key in taken:
                own[key] = zeros(array, key)
        return cls(**own)

    def own_parts(self) -> dict[str, Any]:
        """Return the stream, if it was made, and the scheduled argument; see `Layer.own_parts`."""
        stream = {} if self._stream is None else {"stream": self._stream}
        return stream | {self.scheduled: getattr(self, self.scheduled)}

    def own_state(self) -> dict[str, Any]:
        """Return the stream, the step, the state of the schedule, and the parameters."""
        return super().own_state() | {"step": self.step} | collect({"stream": self.stream} | self.own_parts())

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Load a state that `own_state` returned."""
        super().load_own_state(state)
        self.step = plan.as_count(state["step"], "step")
        entries = {key.removeprefix("stream."): value for key, value in state.items() if key.startswith("stream.")}
        self._stream = Stream.from_state_dict(entries)
        distribute({self.scheduled: getattr(self, self.scheduled)}, state)

    def describe_arguments(self) -> str:
        """Return the scheduled argument and the options, as `repr` shows them."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{getattr(self, self.scheduled)!r}{options}"
