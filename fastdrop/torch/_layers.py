"""The layers, with the signatures of `torch.nn`: each is its function with a rate, and a key of its own where it has a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

import fastdrop.torch._functions as functions
import fastdrop.torch._noise as noise
from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_positive_number, as_share, check_iterable, check_string
from fastdrop.random import fold_in
from fastdrop.torch._keys import as_signed, check_generator, refuse_count
from fastdrop.torch._tensors import is_sharded, is_tracing

__all__ = [
    "AlphaDropout",
    "ConcreteDropout",
    "DropBlock2d",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "LockedDropout",
    "WeightDrop",
]


def has_numbers(key: Tensor | None) -> TypeGuard[Tensor]:
    """Return whether a key can be read: a batch, or a shape without memory, cannot."""
    return type(key) is Tensor and not key.is_meta and not is_functorch_wrapped_tensor(key)


def recorded(layer: nn.Module, proxy: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return the call of a layer as one node of a graph of `torch.fx.symbolic_trace`, as for the layers of `torch.nn`.

    `proxy` is one of the inputs. A class that is derived from a layer may compute more, which would be recorded twice.
    """
    path = proxy.tracer.path_of_module(layer)
    if not path or type(layer).__module__ != __name__:
        raise TypeError(
            f"torch.fx cannot trace {type(layer).__name__}: it records a layer of fastdrop.torch as a whole, and as a part of "
            "another module; for a class that is derived from a layer, is_leaf_module of the Tracer must return True"
        )
    return proxy.tracer.create_proxy("call_module", path, inputs, keywords)


class Seeded(nn.Module):
    """A layer that draws from PyTorch's generator, or counts its calls under its own seed.

    A layer with a seed has a buffer ``key``, which holds the seed and the number of calls and is part of the state dictionary.
    `convert` turns a module of PyTorch into such a layer by a change of its class.
    """

    options: Mapping[str, Any] = MappingProxyType({})  # keywords for the function
    allowed: tuple[str, ...] = ("generator",)  # the names of such keywords

    def take(self, seed: Any, name: str | None, **options: Any) -> None:
        """Check and store the keywords that all layers have."""
        if unknown := options.keys() - set(self.allowed):
            known = ", ".join(("seed", "name", *self.allowed))
            raise TypeError(f"there is no option {', '.join(sorted(unknown))}: the options here are {known}")
        given = {option: value for option, value in options.items() if value is not None}
        if "generator" in given:
            check_generator(given["generator"], seed)
        if given:
            self.options = given
        if seed is None:
            if name is not None:
                raise ValueError("name needs a seed, from which the layer's own seed is derived; got seed=None")
            return
        self._seed = plan.as_word(seed, "seed") if name is None else fold_in(seed, name)
        self.register_buffer("key", torch.empty(2, dtype=torch.int64))
        Seeded.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Set the seed and the count of calls to those with which the layer was made. Without a seed, do nothing."""
        if (key := self.own_key()) is not None and key.numel():
            key.copy_(torch.tensor([as_signed(self._seed), 0]))

    def own_key(self) -> Tensor | None:
        """Return the key, or None without a seed. `distribute_module` makes it a DTensor, with all in each process."""
        key = self._buffers.get("key")
        return key.to_local() if is_sharded(key) else key  # type: ignore[union-attr]

    def call(self, function: Callable[..., Any], p: Any, *arguments: Any) -> Any:
        """Return the result of a function with the layer's options. If it draws under the layer's seed, count the call."""
        if isinstance(arguments[0], torch.fx.Proxy):
            return recorded(self, arguments[0], arguments[:1], {})
        key = self.own_key()
        if key is None or not self.training or p == 0:
            return function(*arguments, **self.options)
        if not key.numel():  # in a process outside of the mesh, where nothing is drawn
            return function(*arguments, **self.options, seed=0)
        if torch.compiler.is_compiling() or is_tracing() or not has_numbers(key):
            made = function(*arguments, **self.options, seed=torch.ops.fastdrop.snapshot(key, True))
            key[1] += 1
            return made
        refuse_count()
        with torch._C._DisableFuncTorch():  # the key is the layer's own, and no part of what a transform transforms
            seed, calls = key.tolist()
        made = function(*arguments, **self.options, seed=seed % 2**64, offset=calls % 2**64)
        with torch._C._DisableFuncTorch():
            key[1] += 1  # last: an input that the function refuses does not count
        return made

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse `torch.jit.script`, which calls this before it compiles a layer."""
        raise RuntimeError(
            f"torch.jit.script cannot compile {type(self).__name__} of fastdrop.torch: use torch.jit.trace or torch.compile; "
            "fastdrop.torch.revert(model) restores the layers that convert(model) replaced"
        )

    def extra_repr(self) -> str:
        """Return the text of PyTorch's layer, and the seed."""
        known = super().extra_repr()
        key = self._buffers.get("key")
        return f"{known}, seed={int(key[0]) % 2**64}, calls={int(key[1])}" if has_numbers(key) else known


DOCSTRING = """{summary}

Parameters
----------
{parameters}
seed : int, optional
    The seed of the layer's masks, in [0, 2**64). The number of the call is the offset, and ``state_dict`` has both. By default
    each call draws 64 bits from PyTorch's generator.
name : str, optional
    The name from which, with `seed`, the layer's own seed is derived, as by `fastdrop.fold_in`. Layers that are given one seed
    need different names.
generator : torch.Generator, optional
    The generator to draw from, instead of the default one.

Examples
--------
>>> import torch, fastdrop.torch
>>> layer = fastdrop.torch.{name}({arguments}, seed=42)
>>> y = layer(torch.ones({shape}))
>>> y.shape, int(layer.state_dict()["key"][1])
(torch.Size([{shape}]), 1)
"""

RATE = "p : float, default 0.5\n    Probability of dropping, in [0, 1]."
RATE_OF_NOISE = "p : float, default 0.5\n    The rate of the dropout with the same mean and variance, in [0, 1)."
IN_PLACE = RATE + "\ninplace : bool, default False\n    Whether to write the result to the input."

NOT_IN_PLACE = RATE + "\ninplace : bool, default False\n    Without effect, as in PyTorch's layer: the input is not changed."
OPTIONS = "\nshared_axes, noise_shape\n    As for `fastdrop.dropout`."
BATCH_FIRST = "\nbatch_first : bool, default False\n    Whether time is the second axis."
RATE_AND_BLOCK = (
    "p : float, default 0.1\n    The intended share of dropped elements, in [0, 1].\n"
    "block_size : int, default 7\n    The length of a block's sides, at least 1."
)
RATE_AND_TEMPERATURE = """\
p : float, default 0.1
    The initial rate, above 0 and below 1. ``rate`` is the current one.
temperature : float, default 0.1
    The softness of the mask, above 0."""
PATH = """\
drop_prob : float, default 0
    Probability of dropping a path, in [0, 1].
scale_by_keep : bool, default True
    Whether kept paths are divided by 1 - drop_prob."""

Layer = TypeVar("Layer", bound=type[nn.Module])


def documented(shape: str, parameters: str, arguments: str = "0.5") -> Callable[[Layer], Layer]:
    """Return a decorator that completes the docstring of a layer from its first line."""

    def complete(layer: Layer) -> Layer:
        layer.__doc__ = DOCSTRING.format(
            summary=layer.__doc__, parameters=parameters, name=layer.__name__, arguments=arguments, shape=shape
        )
        return layer

    return complete


class Plain(Seeded):
    """A layer with p and inplace."""

    function: Any
    allowed: tuple[str, ...] = ("generator", "global_shape", "global_start")
    obeys_inplace = True

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        seed: int | None = None,
        name: str | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        plan.as_rate(p)
        super().__init__(p, plan.check_flag(inplace, "inplace"))
        self.take(seed, name, generator=generator, **options)

    def forward(self, input: Tensor) -> Tensor:
        """Drop from the input, in training."""
        in_place = self.inplace and self.obeys_inplace
        return self.call(self.function, self.p, input, self.p, self.training, in_place)  # type: ignore[no-any-return]


@documented("2, 4", IN_PLACE + OPTIONS)
class Dropout(Plain, nn.Dropout):
    """Drop elements: `torch.nn.Dropout` with fastdrop's masks."""

    allowed = (*Plain.allowed, "shared_axes", "noise_shape")
    function = staticmethod(functions.dropout)


@documented("2, 3, 4", IN_PLACE)
class Dropout1d(Plain, nn.Dropout1d):
    """Drop channels of sequences: `torch.nn.Dropout1d` with fastdrop's masks."""

    function = staticmethod(functions.dropout1d)


@documented("2, 3, 4, 4", IN_PLACE)
class Dropout2d(Plain, nn.Dropout2d):
    """Drop channels of images: `torch.nn.Dropout2d` with fastdrop's masks."""

    function = staticmethod(functions.dropout2d)


@documented("2, 3, 4, 4, 4", IN_PLACE)
class Dropout3d(Plain, nn.Dropout3d):
    """Drop channels of volumes: `torch.nn.Dropout3d` with fastdrop's masks."""

    function = staticmethod(functions.dropout3d)


@documented("2, 4", NOT_IN_PLACE)
class AlphaDropout(Plain, nn.AlphaDropout):
    """Drop elements, and keep mean and variance: `torch.nn.AlphaDropout` with fastdrop's masks."""

    function = staticmethod(functions.alpha_dropout)
    allowed = Dropout.allowed
    obeys_inplace = False


@documented("2, 3, 4", NOT_IN_PLACE)
class FeatureAlphaDropout(Plain, nn.FeatureAlphaDropout):
    """Drop channels, and keep mean and variance: `torch.nn.FeatureAlphaDropout` with fastdrop's masks."""

    function = staticmethod(functions.feature_alpha_dropout)
    obeys_inplace = False


@documented("3, 2, 4", IN_PLACE + BATCH_FIRST)
class LockedDropout(Plain, nn.Dropout):
    """Drop the same units at all time steps."""

    allowed = (*Plain.allowed, "batch_first")
    function = staticmethod(functions.locked_dropout)


@documented("4, 2", PATH)
class DropPath(Seeded):
    """Drop the path of a residual block for each sample, as `timm.layers.DropPath` does."""

    def __init__(
        self,
        drop_prob: float = 0.0,
        scale_by_keep: bool = True,
        *,
        seed: int | None = None,
        name: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep
        as_share(drop_prob, "drop_prob")
        self.take(seed, name, generator=generator)

    def forward(self, input: Tensor) -> Tensor:
        """Drop the paths, in training."""
        arguments = (input, self.drop_prob, self.training, self.scale_by_keep)
        return self.call(functions.drop_path, self.drop_prob, *arguments)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return the rate."""
        return f"drop_prob={self.drop_prob}{super().extra_repr()}"


class Rated(Seeded):
    """A layer with p and without inplace."""

    def __init__(self, p: float, *, seed: int | None = None, name: str | None = None, **options: Any) -> None:
        super().__init__()
        plan.as_rate(p)
        self.p = p
        self.take(seed, name, **options)

    def extra_repr(self) -> str:
        """Return the rate."""
        return f"p={self.p}{super().extra_repr()}"


@documented("2, 4", RATE_OF_NOISE)
class GaussianDropout(Rated):
    """Multiply by normal numbers of mean 1 and variance p / (1 - p)."""

    def __init__(self, p: float = 0.5, **keywords: Any) -> None:
        super().__init__(p, **keywords)
        noise.check_rate_of_noise(p)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply, in training."""
        return self.call(noise.gaussian_dropout, self.p, input, self.p, self.training)  # type: ignore[no-any-return]


@documented("2, 3, 8, 8", RATE_AND_BLOCK, "0.2, 3")
class DropBlock2d(Rated):
    """Drop square blocks of feature maps."""

    def __init__(self, p: float = 0.1, block_size: int = 7, **keywords: Any) -> None:
        super().__init__(p, **keywords)
        self.block_size = as_positive_count(block_size, "block_size")

    def forward(self, input: Tensor) -> Tensor:
        """Drop blocks, in training."""
        arguments = (input, self.p, self.block_size, self.training)
        return self.call(noise.drop_block2d, self.p, *arguments)  # type: ignore[no-any-return]


@documented("2, 4", RATE_AND_TEMPERATURE)
class ConcreteDropout(Rated):
    """Drop by a soft mask with a learned rate."""

    def __init__(self, p: float = 0.1, temperature: float = 0.1, **keywords: Any) -> None:
        super().__init__(p, **keywords)
        if not 0 < np.float32(p) < 1:  # its logit is finite
            raise ValueError(f"p must be above 0 and below 1, because the layer learns its logit; got {p!r}")
        self.temperature = as_positive_number(temperature, "temperature")
        self.p_logit = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the rate, the seed and the count of calls to those with which the layer was made."""
        super().reset_parameters()
        with torch.no_grad():
            self.p_logit.copy_(torch.logit(torch.tensor(float(self.p))))

    @property
    def rate(self) -> float:
        """The rate of dropping."""
        return float(torch.sigmoid(self.p_logit.detach()))

    def forward(self, input: Tensor) -> Tensor:
        """Multiply by the mask, in training."""
        arguments = (input, self.p_logit, self.temperature, self.training)
        return self.call(noise.concrete_dropout, None, *arguments)  # type: ignore[no-any-return]


class WeightDrop(Rated):
    """Drop weights of another module, such as an LSTM's ``weight_hh_l0``, with a new mask for each call.

    Parameters
    ----------
    module : torch.nn.Module
        The module whose weights are dropped. It keeps its parameters, and they are not changed.
    weights : str or sequence of str
        The names of the parameters to drop from, as in ``module.named_parameters()``.
    p : float, default 0.5
        Probability of dropping a weight, in [0, 1].
    **keywords
        seed, name and generator, as for `Dropout`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> layer = fastdrop.torch.WeightDrop(torch.nn.LSTM(4, 5), "weight_hh_l0", 0.5)
    >>> output, state = layer(torch.ones(3, 2, 4))
    """

    def __init__(self, module: nn.Module, weights: Any, p: float = 0.5, **keywords: Any) -> None:
        super().__init__(p, **keywords)
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module; got {type(module).__name__}")
        if not isinstance(weights, str):
            check_iterable(weights, "weights")
        self.module = module
        self.weights = (weights,) if isinstance(weights, str) else tuple(weights)
        for each in self.weights:
            check_string(each, "each of weights")
        known = dict(module.named_parameters())
        if missing := [name for name in self.weights if name not in known]:
            first = ", ".join([*list(known)[:8], *["..."] * (len(known) > 8)])
            raise ValueError(f"{type(module).__name__} has no parameter {', '.join(missing)}; its parameters are {first}")

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Call the module with dropped weights, in training."""
        for each in (*inputs, *keywords.values()):
            if isinstance(each, torch.fx.Proxy):
                return recorded(self, each, inputs, keywords)
        if not self.training:
            return self.module(*inputs, **keywords)
        known = dict(self.module.named_parameters())
        dropped = {name: self.call(functions.weight_drop, self.p, known[name], self.p, True) for name in self.weights}
        return torch.func.functional_call(self.module, dropped, inputs, keywords)
