"""Dropout layers for Keras 3, with Keras's arguments and seed generators, on its backends torch, jax and numpy.

A layer's key is the state of its `SeedGenerator`: the seed, and the number of the draw as the offset. So all three backends
have the masks of `fastdrop.dropout`.

Examples
--------
>>> import fastdrop.keras, numpy as np
>>> layer = fastdrop.keras.Dropout(0.5, seed=42)
>>> y = layer(np.ones((2, 4), "float32"), training=True)
>>> bool((np.asarray(y) == fastdrop.dropout(np.ones((2, 4), "float32"), 0.5, seed=42)).all())
True
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import fastdrop
from fastdrop._core import plan, pointers
from fastdrop._core.checks import fixed, known_sizes
from fastdrop._core.optional import missing
from fastdrop._core.plan import Call
from fastdrop.random import Key
from fastdrop.variants.alpha import alpha_factors
from fastdrop.variants.gaussian import noise_scale

try:
    import keras
except ImportError as error:
    if error.name in (None, "keras"):
        raise missing("fastdrop.keras", error, "keras") from error
    package = error.name.partition(".")[0]
    raise ImportError(
        f"fastdrop.keras has layers for Keras's backends torch, jax and numpy, and Keras did not find {package}: "
        "install it, or set KERAS_BACKEND to one of them that is installed, before Keras is imported",
        name=error.name,
    ) from error

__all__ = ["AlphaDropout", "Dropout", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]

LOW_WORD = 2**32 - 1
DTYPES = ("float32", "float64", "float16", "bfloat16")


# Backends -----------------------------------------------------------------------------------------------------------


def drop_with_torch(name: str, x: Any, rate: float, state: Any, place: dict[str, Any]) -> Any:
    """Drop from a tensor. Keras's words are int32 there, with the bits of uint32."""
    function = getattr(importlib.import_module("fastdrop.torch"), name)
    return function(x, rate, training=True, seed=state.long() & LOW_WORD, **place)


def drop_with_jax(name: str, x: Any, rate: float, state: Any, place: dict[str, Any]) -> Any:
    """Drop from an array of JAX. Its key also has the high words of the seed and of the offset, which are 0 here."""
    function = getattr(importlib.import_module("fastdrop.jax"), name)
    numpy = importlib.import_module("jax.numpy")
    words = state.astype("uint32")
    zero = numpy.zeros_like(words[0])
    return function(x, rate, key=numpy.stack([zero, words[0], zero, words[1]]), **place)


def drop_with_numpy(name: str, x: Any, rate: float, state: Any, place: dict[str, Any]) -> Any:
    """Drop from an array of NumPy."""
    key = Key(*(int(word) & LOW_WORD for word in state))
    if name == "alpha_dropout":  # `fastdrop.alpha_dropout` has no noise_shape
        call = Call(key, 0, True, None, 0, None, None, None, None)
        return call.affine(x, rate, alpha_factors(rate, 0.0, 1.0), **place)
    return getattr(fastdrop, name)(x, rate, seed=key, **place)


BACKENDS: dict[str, Callable[..., Any]] = {"torch": drop_with_torch, "jax": drop_with_jax, "numpy": drop_with_numpy}


def check_backend() -> None:
    """Raise an error unless Keras runs on a backend for which there is an adapter."""
    if keras.backend.backend() not in BACKENDS:
        raise NotImplementedError(
            f"fastdrop.keras has layers for the backends torch, jax and numpy; Keras runs on {keras.backend.backend()}"
        )


# Layers -------------------------------------------------------------------------------------------------------------


class Dropping:
    """The base of all layers: it checks the inputs, draws a key, and drops."""

    function = "dropout"  # its name in the adapter
    rate: float
    seed_generator: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        check_backend()
        super().__init__(*arguments, **keywords)

    def place(self, ndim: int) -> dict[str, Any]:
        """Return the arguments that place the mask over inputs of a number of dimensions."""
        shape = getattr(self, "noise_shape", None)
        return {} if shape is None else {"noise_shape": fixed(shape)}

    def check_rate(self) -> None:
        """Raise an error for a rate that only this layer refuses; a caller may change the rate at any time."""

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        """Return the inputs, with elements dropped if `training`."""
        rate = plan.as_rate(self.rate) if training else 0
        if rate == 0:
            return inputs
        if not hasattr(self, "seed_generator"):
            raise ValueError(
                "rate must not change from 0, because Keras gives a layer with the rate 0 no SeedGenerator: make a new layer"
            )
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype not in DTYPES:
            raise TypeError(f"inputs must have dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}; got {dtype}")
        place = self.place(len(inputs.shape))
        self.check_rate()
        pointers.check(known_sizes(inputs.shape), rate, **place)
        drop = BACKENDS[keras.backend.backend()]
        return drop(self.function, inputs, rate, self.seed_generator.next(), place)


class Spatial(Dropping):
    """The base of the layers that drop whole channels."""

    def place(self, ndim: int) -> dict[str, Any]:
        first = getattr(self, "data_format", "channels_last") == "channels_first"
        return {"shared_axes": tuple(range(2, ndim)) if first else tuple(range(1, ndim - 1))}


register = keras.saving.register_keras_serializable(package="fastdrop")


@register
class Dropout(Dropping, keras.layers.Dropout):
    """`keras.layers.Dropout` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping, in [0, 1].
    noise_shape : sequence of int, optional
        Shape of the mask: 1 along axes that share a decision.
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    **keywords
        As for every layer of Keras.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> layer = fastdrop.keras.Dropout(0.5, noise_shape=(None, 1), seed=42)
    >>> y = np.asarray(layer(np.ones((2, 4), "float32"), training=True))
    >>> bool((y == y[:, :1]).all())
    True
    """


@register
class SpatialDropout1D(Spatial, keras.layers.SpatialDropout1D):
    """`keras.layers.SpatialDropout1D` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping a channel, in [0, 1].
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    name, dtype
        As for every layer of Keras.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> layer = fastdrop.keras.SpatialDropout1D(0.5, seed=42)
    >>> y = np.asarray(layer(np.ones((2, 3, 4), "float32"), training=True))
    >>> bool((y == y[:, :1]).all())
    True
    """


@register
class SpatialDropout2D(Spatial, keras.layers.SpatialDropout2D):
    """`keras.layers.SpatialDropout2D` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping a channel, in [0, 1].
    data_format : str, optional
        "channels_first" or "channels_last"; by default Keras's own setting.
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    name, dtype
        As for every layer of Keras.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> layer = fastdrop.keras.SpatialDropout2D(0.5, data_format="channels_first", seed=42)
    >>> y = np.asarray(layer(np.ones((2, 3, 4, 4), "float32"), training=True))
    >>> bool((y == y[:, :, :1]).all())
    True
    """


@register
class SpatialDropout3D(Spatial, keras.layers.SpatialDropout3D):
    """`keras.layers.SpatialDropout3D` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping a channel, in [0, 1].
    data_format : str, optional
        "channels_first" or "channels_last"; by default Keras's own setting.
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    name, dtype
        As for every layer of Keras.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> layer = fastdrop.keras.SpatialDropout3D(0.5, data_format="channels_first", seed=42)
    >>> y = np.asarray(layer(np.ones((2, 3, 2, 4, 4), "float32"), training=True))
    >>> bool((y == y[:, :, :1]).all())
    True
    """


@register
class AlphaDropout(Dropping, keras.layers.AlphaDropout):
    """`keras.layers.AlphaDropout` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping, in [0, 1].
    noise_shape : sequence of int, optional
        Shape of the mask: 1 along axes that share a decision.
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    **keywords
        As for every layer of Keras.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> x = np.ones((2, 4), "float32")
    >>> y = fastdrop.keras.AlphaDropout(0.5, seed=42)(x, training=True)
    >>> bool((np.asarray(y) == fastdrop.alpha_dropout(x, 0.5, seed=42)).all())
    True
    """

    function = "alpha_dropout"


@register
class GaussianDropout(Dropping, keras.layers.GaussianDropout):
    """`keras.layers.GaussianDropout` with fastdrop's noise.

    Parameters
    ----------
    rate : float
        The rate of the dropout with the same mean and variance, in [0, 1).
    seed : int, optional
        Seed of the layer's `SeedGenerator`.
    **keywords
        As for every layer of Keras.

    Raises
    ------
    ValueError
        For a rate of 1, for which the variance is infinite.

    Examples
    --------
    >>> import fastdrop.keras, numpy as np
    >>> x = np.ones((2, 4), "float32")
    >>> y = fastdrop.keras.GaussianDropout(0.5, seed=42)(x, training=True)
    >>> bool((np.asarray(y) == fastdrop.gaussian_dropout(x, 0.5, seed=42)).all())
    True
    """

    function = "gaussian_dropout"

    def __init__(self, rate: float, seed: int | None = None, **keywords: Any) -> None:
        super().__init__(rate, seed=seed, **keywords)
        self.check_rate()

    def check_rate(self) -> None:
        """Raise an error for a rate of 1."""
        noise_scale(self.rate, None)
