"""One layer for each variant of dropout: it names two functions. What they all do is in `Variant`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastdrop
from fastdrop import elementary
from fastdrop._core import plan
from fastdrop._core.state import collect, distribute
from fastdrop.nn._layer import Layer
from fastdrop.random import Stream

__all__ = [
    "ADL",
    "AdaptiveDropout",
    "AlphaDropout",
    "AttentionDropout",
    "ConcreteDropout",
    "DropBlock",
    "DropConnect",
    "DropHead",
    "DropKey",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "GroupDropout",
    "ImportanceDropout",
    "LockedDropout",
    "MultinomialDropout",
    "PatchDropout",
    "Record",
    "Shakeout",
    "SpatialConcreteDropout",
    "SpatialDropout",
    "TargetedDropout",
    "TokenDropout",
    "UniformDropout",
    "Variant",
    "VariationalDense",
    "VariationalDropout",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
]

# What functions are told in each call: by the layer itself, and by who calls it.
BY_THE_LAYER = {"seed", "offset", "training", "num_tokens", "log_alpha"}
BY_THE_CALLER = {"residual", "tokens", "allowed", "bias", "probabilities"}
NOT_OFFERED = {"out", "backend", "num_threads", "start", "global_shape", "global_start", "return_indices"}
NOT_OFFERED |= {"antithetic", "losses", "antithetic_losses"}  # estimators over several passes are the caller's

Function = Callable[..., Any]


class Record(NamedTuple):
    """What the backward pass of a forward pass needs, and the same forward pass made anew: numbers, no mask."""

    p: Any
    seed: int
    offset: int
    dropping: bool
    remembered: dict[str, Any]  # arguments of the backward function that only the forward pass knew


@functools.cache
def names_of(function: Function) -> frozenset[str]:
    """Return the names of a function's arguments."""
    return frozenset(inspect.signature(function).parameters)


def parameters_of(function: Function, rate: str) -> tuple[list[str], list[inspect.Parameter]]:
    """Return the names of a function's arrays, which come before its rate, and its parameters from the rate on."""
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    return names[: names.index(rate)], parameters[names.index(rate) :]


def signature_of(forward: Function, backward: Function, rate: str) -> inspect.Signature:
    """Return what a layer is made with: the rate, what else is not for each call, and a seed."""
    offered: dict[str, inspect.Parameter] = {}
    of_calls = {*BY_THE_LAYER, *BY_THE_CALLER, *NOT_OFFERED, *parameters_of(forward, rate)[0]}
    for function in (forward, backward):
        for parameter in parameters_of(function, rate)[1]:
            if parameter.name not in of_calls:
                offered.setdefault(parameter.name, parameter.replace(annotation=inspect.Parameter.empty))
    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=None)
    return inspect.Signature(sorted([*offered.values(), seed], key=lambda parameter: parameter.kind))


class Variant(Layer):
    """A layer that drops something.

    A subclass names the functions of its passes:
    ``class Dropout(Variant, forward=fastdrop.dropout, backward=fastdrop.dropout_backward)``, and with ``rate=...`` the
    argument that is the rate, unless it is called p. What comes before that in both functions is remembered between them.
    Parameters of the layer are passed to the functions under their names; their gradients follow that of the input in what the
    backward function returns, in their order.

    Parameters
    ----------
    p : float, numpy.ndarray, or a callable step -> p
        The rate, or its schedule (`fastdrop.schedules`), which `advance` moves on. A pass keeps the rate it began with.
    **options
        The keywords of the function that are the same in all calls.
    seed : int, Stream, numpy.random.SeedSequence, numpy.random.Generator or None
        Of the layer's own stream. A model with a seed sets it (`Layer.seed`); with none at all it is fresh entropy.

    Attributes
    ----------
    p : float, numpy.ndarray or callable
        As given.
    options : dict
        As given.
    step : int
        How often the model has advanced.
    """

    functions: ClassVar[tuple[Function, Function]]
    rate_name: ClassVar[str]
    arrays: ClassVar[list[str]]
    arguments: ClassVar[inspect.Signature]

    def __init_subclass__(cls, forward: Function | None = None, backward: Function | None = None, rate: str = "p") -> None:
        if forward is not None and backward is not None:
            cls.functions, cls.rate_name = (forward, backward), rate
            cls.arrays, cls.arguments = parameters_of(forward, rate)[0], signature_of(forward, backward, rate)
            if "__init__" not in cls.__dict__:
                cls.__signature__ = cls.arguments  # type: ignore[attr-defined]  # for help()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        if not hasattr(self, "functions"):
            raise TypeError(
                f"{type(self).__name__} names no functions of forward and backward passes: use a subclass that does"
            )
        try:
            bound = self.arguments.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}; it takes {self.arguments}") from None
        bound.apply_defaults()
        seed, self.p = bound.arguments.pop("seed"), bound.arguments.pop(self.rate_name)
        self.options: dict[str, Any] = dict(bound.arguments)
        self.step = 0
        self._stream = None if seed is None else seed if isinstance(seed, Stream) else Stream(seed)
        if self.rate_name == "p" and not callable(self.p) and not isinstance(self.p, np.ndarray):
            plan.as_rate(self.p)

    def add_parameters(self, **arrays: NDArray[Any] | None) -> None:
        """Take those that are not None as parameters."""
        for name, array in arrays.items():
            if array is not None:
                self.add_parameter(name, array)

    # Passes

    @property
    def rate(self) -> Any:
        """The rate at this step."""
        return self.p(self.step) if callable(self.p) else self.p

    @property
    def stream(self) -> Stream:
        """Where the layer draws from: once for each pass that drops."""
        if self._stream is None:
            self._stream = Stream()
        return self._stream

    def record(self, *inputs: Any, **more: Any) -> tuple[Any, Record]:
        """Return the output and a record; see `Layer.record`."""
        again = more.pop("again", None)
        more = self.own_parameters | more
        made: Record = self._begin() if again is None else again
        result = self._call(self.functions[0], inputs, made, more)
        if again is None and made.dropping:
            self.stream.next()  # only now: a pass that failed has drawn nothing
        return result, made._replace(remembered=self.remember(*inputs, **more))

    def _begin(self) -> Record:
        dropping = self.training or self.sampling
        seed, offset = (self.stream.seed, self.stream.offset) if dropping else (0, 0)
        return Record(self.rate, seed, offset, dropping, {})

    def remember(self, *inputs: Any, **more: Any) -> dict[str, Any]:
        """Return the arguments of the backward function that only the forward pass knows."""
        given = dict(zip(self.arrays, inputs, strict=False)) | more  # some of the arrays may be parameters, or named
        return {name: value for name, value in given.items() if name in names_of(self.functions[1])}

    def gradient(self, grad: Any, record: Record) -> Any:
        """Return the gradient with respect to the input, and add to those of the parameters; see `Layer.gradient`."""
        result = self._call(self.functions[1], (grad,), record, record.remembered)
        if not self.own_parameters:
            return result
        of_input, *of_parameters = result
        for total, part in zip(
            self.own_gradients.values(), of_parameters, strict=False
        ):  # a bias that is not there has one, too
            total += part
        return of_input

    def _call(self, function: Function, arrays: tuple[Any, ...], made: Record, more: Mapping[str, Any]) -> Any:
        options = {name: value for name, value in self.options.items() if name in names_of(function)}
        numbers = {self.rate_name: made.p, "seed": made.seed, "offset": made.offset, "training": made.dropping}
        return function(*arrays, **numbers, **options, **more)

    # Seeds, steps, state

    def take(self, stream: Stream) -> None:
        """Draw from this stream from now on."""
        self._stream = stream

    def go_on(self, steps: int) -> None:
        """Go on by so many steps."""
        self.step += steps

    def own_state(self) -> dict[str, Any]:
        """Return the stream, the step, what the schedule remembers, and the parameters."""
        return super().own_state() | {"step": self.step} | collect({"stream": self.stream, "p": self.p})

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `own_state` returned."""
        super().load_own_state(state)
        self.step = plan.as_count(state["step"], "step")
        entries = {key.removeprefix("stream."): value for key, value in state.items() if key.startswith("stream.")}
        self._stream = Stream.from_state_dict(entries)
        distribute({"p": self.p}, state)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.p!r}{options})"


# Elements, channels, blocks -----------------------------------------------------------------------------------------


class Dropout(Variant, forward=fastdrop.dropout, backward=fastdrop.dropout_backward):
    """Drops elements: `fastdrop.dropout`. ``forward(x, residual=...)`` adds to the result in the same pass."""


class Dropout1d(Variant, forward=fastdrop.dropout1d, backward=fastdrop.dropout1d_backward):
    """Drops channels of sequences: `fastdrop.dropout1d`."""


class Dropout2d(Variant, forward=fastdrop.dropout2d, backward=fastdrop.dropout2d_backward):
    """Drops channels of images: `fastdrop.dropout2d`."""


class Dropout3d(Variant, forward=fastdrop.dropout3d, backward=fastdrop.dropout3d_backward):
    """Drops channels of volumes: `fastdrop.dropout3d`."""


class SpatialDropout(Variant, forward=fastdrop.spatial_dropout, backward=fastdrop.spatial_dropout_backward):
    """Drops whole feature maps: `fastdrop.spatial_dropout`."""


class LockedDropout(Variant, forward=fastdrop.locked_dropout, backward=fastdrop.locked_dropout_backward):
    """Drops the same features at all time steps: `fastdrop.locked_dropout`."""


class GroupDropout(Variant, forward=fastdrop.group_dropout, backward=fastdrop.group_dropout_backward):
    """Drops groups of neighbours: `fastdrop.group_dropout`."""


class GaussianDropout(Variant, forward=fastdrop.gaussian_dropout, backward=fastdrop.gaussian_dropout_backward):
    """Multiplies elements by normal numbers of mean 1: `fastdrop.gaussian_dropout`.

    Parameters
    ----------
    p, seed
        As in `fastdrop.gaussian_dropout` and `Variant`.
    log_alpha : float or numpy.ndarray, optional
        The logarithm of the variance, to be trained instead of `p`: the parameter ``log_alpha``, of float64.
    """

    def __init__(self, p: Any = 0.5, *, log_alpha: ArrayLike | None = None, seed: Any = None) -> None:
        super().__init__(p, seed=seed)
        if log_alpha is not None:
            self.add_parameter("log_alpha", np.array(log_alpha, np.float64))

    def remember(self, x: Any, **more: Any) -> dict[str, Any]:
        """Return the input and the logarithm, where that is trained."""
        return super().remember(x, **more) if self.own_parameters else {}


def passed_on(grad: Any, stddev: Any = 1.0, *, seed: Any, offset: int = 0, training: bool = True) -> Any:
    """Return the gradient of what adds noise: that of the result."""
    return grad


class GaussianNoise(Variant, forward=fastdrop.gaussian_noise, backward=passed_on, rate="stddev"):
    """Adds normal numbers: `fastdrop.gaussian_noise`. The standard deviation may have a schedule, in [0, 1]."""


class UniformDropout(Variant, forward=fastdrop.uniform_dropout, backward=fastdrop.uniform_dropout_backward, rate="half_width"):
    """Multiplies by uniform numbers around 1: `fastdrop.uniform_dropout`. Its half width may have a schedule, in [0, 1]."""


class AlphaDropout(Variant, forward=fastdrop.alpha_dropout, backward=fastdrop.alpha_dropout_backward):
    """Keeps the mean and the variance of a SELU network: `fastdrop.alpha_dropout`."""


class FeatureAlphaDropout(Variant, forward=fastdrop.feature_alpha_dropout, backward=fastdrop.feature_alpha_dropout_backward):
    """`AlphaDropout` of whole channels: `fastdrop.feature_alpha_dropout`."""


class DropBlock(Variant, forward=fastdrop.drop_block, backward=fastdrop.drop_block_backward):
    """Drops blocks of feature maps: `fastdrop.drop_block`."""


# Rates that are learned ---------------------------------------------------------------------------------------------


class ConcreteDropout(
    Variant, forward=fastdrop.concrete_dropout, backward=fastdrop.concrete_dropout_backward, rate="temperature"
):
    """Learns its rate: `fastdrop.concrete_dropout`.

    Parameters
    ----------
    p : float
        The rate to begin with, between 0 and 1; its logit is the parameter ``p_logit``, of float64.
    temperature : float or callable
        How soft the decisions are; it may have a schedule.
    epsilon, data_format, seed
        As in `fastdrop.concrete_dropout`, `fastdrop.spatial_concrete_dropout` and `Variant`.
    """

    def __init__(self, p: float = 0.1, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        rate = plan.as_rate(p)
        if rate in (0.0, 1.0):
            raise ValueError(f"p must be between 0 and 1, to begin with; got {p!r}")
        self.add_parameter("p_logit", elementary.logit(np.array(rate)))

    @property
    def learned_rate(self) -> float:
        """The rate now."""
        return float(elementary.sigmoid(self.own_parameters["p_logit"]))

    def regularize(self, weights: Any, input_dim: int, **strengths: Any) -> tuple[float, Any]:
        """Return the regularizer's value and its gradient with respect to the weights, and add that of the rate to its own.

        The arguments are those of `fastdrop.concrete_regularizer`. Without it the rate falls to what fits best.
        """
        given = self.own_parameters["p_logit"], weights, input_dim
        of_rate, of_weights = fastdrop.concrete_regularizer_backward(*given, **strengths)
        self.own_gradients["p_logit"] += of_rate
        return float(fastdrop.concrete_regularizer(*given, **strengths)), of_weights


class SpatialConcreteDropout(
    ConcreteDropout,
    forward=fastdrop.spatial_concrete_dropout,
    backward=fastdrop.spatial_concrete_dropout_backward,
    rate="temperature",
):
    """`ConcreteDropout` of whole feature maps: `fastdrop.spatial_concrete_dropout`."""


class VariationalDense(
    Variant, forward=fastdrop.variational_dense, backward=fastdrop.variational_dense_backward, rate="threshold"
):
    """A linear layer that learns the noise of each weight: `fastdrop.variational_dense`.

    Parameters
    ----------
    weights, log_sigma2 : numpy.ndarray
        Of shape (in, out), to be trained in place: the parameters of these names.
    threshold, seed
        As in `fastdrop.variational_dense` and `Variant`.
    bias : numpy.ndarray, optional
        Of shape (out,): the parameter ``bias``.
    """

    def __init__(
        self,
        weights: NDArray[Any],
        log_sigma2: NDArray[Any],
        threshold: Any = 3.0,
        *,
        bias: NDArray[Any] | None = None,
        seed: Any = None,
    ) -> None:
        super().__init__(threshold=threshold, seed=seed)
        self.add_parameters(weights=weights, log_sigma2=log_sigma2, bias=bias)


class VariationalDropout(
    Variant, forward=fastdrop.variational_dropout, backward=fastdrop.variational_dropout_backward, rate="type"
):
    """A linear layer with Kingma, Salimans and Welling's noise of learned variance: `fastdrop.variational_dropout`.

    Parameters
    ----------
    weights, log_alpha : numpy.ndarray
        To be trained in place: the parameters of these names.
    type, max_log_alpha, seed
        As in `fastdrop.variational_dropout` and `Variant`.
    bias : numpy.ndarray, optional
        The parameter ``bias``.
    """

    def __init__(
        self,
        weights: NDArray[Any],
        log_alpha: NDArray[Any],
        type: Any = "A",
        *,
        bias: NDArray[Any] | None = None,
        seed: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(type, seed=seed, **options)
        self.add_parameters(weights=weights, log_alpha=log_alpha, bias=bias)


class AdaptiveDropout(Variant, forward=fastdrop.adaptive_dropout, backward=fastdrop.adaptive_dropout_backward, rate="alpha"):
    """Keeps units with probabilities that follow logits: `fastdrop.adaptive_dropout`, ``forward(x, logits)``.

    With an `estimator`, "straight_through", ``backward(grad)`` returns the gradients of both.
    """

    def remember(self, *inputs: Any, **more: Any) -> dict[str, Any]:
        """Return the logits; and the input, where an estimator needs it."""
        given = super().remember(*inputs, **more)
        if self.options["estimator"] == "none":
            del given["x"]
        return given


# Importance ---------------------------------------------------------------------------------------------------------


class ImportanceDropout(Variant, forward=fastdrop.importance_dropout, backward=fastdrop.importance_dropout_backward):
    """Drops what matters little more often: `fastdrop.importance_dropout`, ``forward(x, scores)``."""


class MultinomialDropout(
    Variant, forward=fastdrop.multinomial_dropout, backward=fastdrop.multinomial_dropout_backward, rate="k"
):
    """Keeps features that are drawn: `fastdrop.multinomial_dropout`, ``forward(x)`` or ``forward(x, probabilities=...)``."""

    def record(self, x: Any, **more: Any) -> tuple[Any, Record]:
        """Return the output and a record; see `Layer.record`."""
        if more.get("probabilities") is None:
            more["probabilities"] = fastdrop.multinomial_probabilities(x)
        return super().record(x, **more)


class ADL(Variant, forward=fastdrop.adl, backward=fastdrop.adl_backward, rate="drop_rate"):
    """Hides the most discriminative places of feature maps, or stresses them: `fastdrop.adl`."""


# Attention ----------------------------------------------------------------------------------------------------------


class AttentionDropout(Variant, forward=fastdrop.attention_dropout, backward=fastdrop.attention_dropout_backward):
    """Drops attention probabilities: `fastdrop.attention_dropout`. It holds on to them if it renormalizes rows."""

    def remember(self, weights: Any, **more: Any) -> dict[str, Any]:
        """Return the probabilities, from which a renormalized row's gradient is computed."""
        renormalized = self.options["renormalize"]
        if renormalized is None:
            renormalized = self.options["mode"] == "column" or self.options["window"] > 1
        return {"weights": weights} if renormalized else {}


class DropHead(Variant, forward=fastdrop.drop_head, backward=fastdrop.drop_head_backward):
    """Drops attention heads: `fastdrop.drop_head`."""


class DropKey(Variant, forward=fastdrop.drop_key, backward=fastdrop.drop_key_backward):
    """Drops keys before the softmax: `fastdrop.drop_key`, ``forward(logits, allowed=...)``."""


# Paths, states ------------------------------------------------------------------------------------------------------


class DropPath(Variant, forward=fastdrop.drop_path, backward=fastdrop.drop_path_backward):
    """Drops the path of a residual block: `fastdrop.drop_path`, ``forward(x, residual=...)``."""


class Zoneout(Variant, forward=fastdrop.zoneout, backward=fastdrop.zoneout_backward):
    """Keeps units of a recurrent state as they were: `fastdrop.zoneout`, ``forward(new, previous)``.

    ``backward(grad)`` returns the gradients of both.
    """


# Words and tokens ---------------------------------------------------------------------------------------------------


class WordDropout(Variant, forward=fastdrop.word_dropout, backward=fastdrop.word_dropout_backward):
    """Drops words, each occurrence by itself: `fastdrop.word_dropout`."""


class EmbeddingDropout(Variant, forward=fastdrop.embedding_dropout, backward=fastdrop.embedding_dropout_backward):
    """Drops word types: `fastdrop.embedding_dropout`, ``forward(weight)`` or ``forward(embedded, tokens=tokens)``."""


class TokenDropout(Variant, forward=fastdrop.token_dropout, backward=fastdrop.token_dropout_backward):
    """Keeps a random subset of the tokens: `fastdrop.token_dropout`."""

    def remember(self, x: Any, **more: Any) -> dict[str, Any]:
        """Return how many tokens there were."""
        return {"num_tokens": np.shape(x)[1]}


class PatchDropout(TokenDropout, forward=fastdrop.patch_dropout, backward=fastdrop.patch_dropout_backward):
    """Keeps a random subset of the patches: `fastdrop.patch_dropout`."""


# Weights ------------------------------------------------------------------------------------------------------------


class WeightDrop(Variant, forward=fastdrop.weight_drop, backward=fastdrop.weight_drop_backward):
    """Drops recurrent weights, once for each forward pass: `fastdrop.weight_drop`, ``forward(weight)``."""


class TargetedDropout(Variant, forward=fastdrop.targeted_dropout, backward=fastdrop.targeted_dropout_backward):
    """Drops weights among the smallest: `fastdrop.targeted_dropout`, ``forward(weight)``."""


class Shakeout(Variant, forward=fastdrop.shakeout, backward=fastdrop.shakeout_backward):
    """Enhances or reverses weights: `fastdrop.shakeout`, ``forward(weight)``."""


class DropConnect(Variant, forward=fastdrop.drop_connect, backward=fastdrop.drop_connect_backward):
    """A linear layer that drops its connections, others for each example: `fastdrop.drop_connect`.

    Parameters
    ----------
    weight : numpy.ndarray
        Of shape (out, in), to be trained in place: the parameter ``weight``.
    p, per, mode, drop_bias, seed
        As in `fastdrop.drop_connect` and `Variant`.
    bias : numpy.ndarray, optional
        Of shape (out,): the parameter ``bias``.
    """

    def __init__(
        self, weight: NDArray[Any], p: Any = 0.5, *, bias: NDArray[Any] | None = None, seed: Any = None, **options: Any
    ) -> None:
        super().__init__(p, seed=seed, **options)
        self.add_parameters(weight=weight, bias=bias)
