"""fastdrop for thinc and spaCy: an Ops whose dropout masks come from a stream, and a layer that saves no mask.

The installed package registers both, so a configuration selects them by name.

Examples
--------
>>> from thinc.api import get_current_ops, use_ops
>>> with use_ops("fastdrop", seed=42):
...     get_current_ops().get_dropout_mask((2, 4), 0.5)
array([[2., 0., 0., 0.],
       [0., 2., 2., 0.]], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number
from fastdrop._core.optional import missing
from fastdrop.random import Key, Stream
from fastdrop.variants.dropout import dropout

try:
    from thinc.api import Model, NumpyOps, get_current_ops, registry, set_current_ops
    from thinc.types import Padded, Ragged
except ImportError as error:
    raise missing("fastdrop.thinc", error, "thinc") from error

__all__ = ["Dropout", "FastdropOps", "replace_ops", "restore_ops"]

Callback: TypeAlias = Callable[[Any], Any]
replaced: ContextVar[tuple[Any, ...]] = ContextVar("replaced", default=())  # Ops of `replace_ops`: pipelines may be nested


# Ops ----------------------------------------------------------------------------------------------------------------


class FastdropOps(NumpyOps):  # type: ignore[misc]
    """thinc's NumpyOps with fastdrop's masks.

    Each mask is that of the next key of a stream. Copies and pickles carry the stream, so a copy continues where the original
    was.

    Parameters
    ----------
    device_type, device_id
        As in thinc's ``NumpyOps``.
    seed : int, Key, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator, Stream or None
        The seed of the stream, or the stream. None, the default, takes fresh entropy from the system.
    options
        Other options of thinc's ``NumpyOps``.

    Attributes
    ----------
    stream : Stream
        The stream; its offset is the number of masks that were made.

    Raises
    ------
    TypeError, ValueError
        A seed of another kind or outside its range.

    Examples
    --------
    >>> from fastdrop.thinc import FastdropOps
    >>> ops = FastdropOps(seed=42)
    >>> ops.get_dropout_mask((2, 4), 0.5)
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.]], dtype=float32)
    >>> ops.stream
    Stream(seed=42, offset=1)
    """

    name = "fastdrop"

    def __init__(self, device_type: Any = "cpu", device_id: int = -1, *, seed: Any = None, **options: Any) -> None:
        super().__init__(device_type, device_id, **options)
        self.stream = seed if isinstance(seed, Stream) else Stream(seed)
        self.ones = np.ones(0, np.float32)

    def get_dropout_mask(self, shape: Any, drop: float | None) -> NDArray[np.float32]:
        """Return a mask of float32: 1 / (1 - drop) where an element is kept, 0 where it is dropped.

        As in thinc, None and rates up to 0 give ones, rates from 1 on give zeros, and neither draws a key.
        """
        sizes = plan.as_shape(shape)
        if not isinstance(drop, (float, int, np.number, NoneType)):
            drop = as_finite_number(drop, "drop")
        if drop is None or drop <= 0:
            return np.ones(sizes, np.float32)
        if drop >= 1:
            return np.zeros(sizes, np.float32)
        n = math.prod(sizes)
        ones = self.ones
        if len(ones) < n:  # never written, so threads may share it; another thread may put a smaller one there
            self.ones = ones = np.ones(n, np.float32)
        return dropout(ones[:n].reshape(sizes), drop, seed=self.stream, num_threads=1)  # as all of thinc does

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "ones": np.ones(0, np.float32)}

    def __copy__(self) -> FastdropOps:
        made = type(self).__new__(type(self))
        made.__dict__.update(vars(self), stream=Stream.from_state_dict(self.stream.state_dict()))
        return made


# spaCy's callbacks --------------------------------------------------------------------------------------------------


def replace_ops(seed: int) -> Callback:
    """Return the callback ``fastdrop.ops.v1``: spaCy then makes its models with `FastdropOps`.

    spaCy's own name for the Ops of a CPU, ``cpu``, always means NumPy's. So a configuration names this callback::

        [nlp.before_creation]
        @callbacks = "fastdrop.ops.v1"
        seed = 3

    Models keep the Ops with which they were made. ``fastdrop.restore_ops.v1`` as ``after_pipeline_creation`` makes the previous
    Ops current again.

    Parameters
    ----------
    seed : int
        The seed of the stream of all masks, in [0, 2**64).

    Returns
    -------
    callable
        A callback for ``before_creation``, which returns its argument.

    Raises
    ------
    TypeError, ValueError
        A seed that is not an integer in [0, 2**64).

    Examples
    --------
    >>> import fastdrop.thinc
    >>> from thinc.api import get_current_ops
    >>> begin, end = fastdrop.thinc.replace_ops(3), fastdrop.thinc.restore_ops()
    >>> found = begin("the class of a language")
    >>> get_current_ops().stream
    Stream(seed=3, offset=0)
    >>> found = end("a pipeline")
    >>> get_current_ops().name
    'numpy'
    """
    number = plan.as_word(seed, "seed")

    def before_creation(language: Any) -> Any:
        replaced.set((*replaced.get(), get_current_ops()))
        set_current_ops(FastdropOps(seed=number))
        return language

    return before_creation


def restore_ops() -> Callback:
    """Return the callback ``fastdrop.restore_ops.v1``, which makes current again the Ops that ``fastdrop.ops.v1`` replaced.

    Returns
    -------
    callable
        A callback for ``after_creation`` or ``after_pipeline_creation``, which returns its argument. It raises ValueError if
        ``fastdrop.ops.v1`` has not run before it.

    Examples
    --------
    >>> import fastdrop.thinc
    >>> fastdrop.thinc.restore_ops()("a pipeline")
    Traceback (most recent call last):
    ...
    ValueError: fastdrop.restore_ops.v1 needs fastdrop.ops.v1 to run first, as before_creation
    """

    def after_creation(pipeline: Any) -> Any:
        if not replaced.get():
            raise ValueError("fastdrop.restore_ops.v1 needs fastdrop.ops.v1 to run first, as before_creation")
        *others, found = replaced.get()
        set_current_ops(found)
        replaced.set(tuple(others))
        return pipeline

    return after_creation


# The layer ----------------------------------------------------------------------------------------------------------


@registry.layers("fastdrop.Dropout.v1")  # type: ignore[untyped-decorator]
def Dropout(rate: float = 0.0, seed: int | None = None) -> Any:
    """Return thinc's layer ``Dropout.v1`` without a saved mask: the backward pass regenerates it from the call's key.

    The layer has its own seed, and counts its calls. Both are attributes of the model, so they are saved and loaded with it.
    It works with every Ops whose arrays are NumPy's.

    Parameters
    ----------
    rate : float, default 0
        The probability of dropping an element, in [0, 1]. ``thinc.api.set_dropout_rate`` changes it.
    seed : int, optional
        In [0, 2**64). None takes fresh entropy from the system.

    Returns
    -------
    thinc.model.Model
        Of arrays, Ragged, Padded, or lists of arrays, of float32, float64 or float16. A list has one mask, as if its arrays
        were one.

    Raises
    ------
    TypeError, ValueError
        A rate outside [0, 1], or a seed that is not an integer in [0, 2**64).

    Examples
    --------
    >>> import numpy as np, fastdrop.thinc
    >>> layer = fastdrop.thinc.Dropout(0.5, seed=42)
    >>> y, backprop = layer(np.ones((2, 4), np.float32), is_train=True)
    >>> y
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.]], dtype=float32)
    >>> bool((backprop(np.ones((2, 4), np.float32)) == y).all())
    True
    """
    number = Key().seed if seed is None else plan.as_word(seed, "seed")
    attributes = {"dropout_rate": plan.as_rate(rate), "is_enabled": True, "seed": number, "offset": 0}
    return Model("fastdrop", forward, attrs=attributes)


def forward(model: Any, x: Any, is_train: bool) -> tuple[Any, Callback]:
    """Drop elements under the layer's next key; return the result and the backward pass, which stores only the key."""
    rate = plan.as_rate(model.attrs["dropout_rate"]) if is_train and model.attrs["is_enabled"] else 0
    if rate == 0:
        return x, lambda dy: dy
    key = Key(model.attrs["seed"], model.attrs["offset"])
    y = drop(x, rate, key)
    model.attrs["offset"] += 1
    return y, lambda dy: drop(dy, rate, key)


def drop(x: Any, rate: float, key: Key) -> Any:
    """Apply the mask of a key to any of the types that thinc's layers take."""
    if isinstance(x, Ragged):
        return Ragged(dropout(x.data, rate, seed=key), x.lengths)
    if isinstance(x, Padded):
        return Padded(dropout(x.data, rate, seed=key), x.size_at_t, x.lengths, x.indices)
    if isinstance(x, (list, tuple)):
        parts = [plan.as_array(part, "each array in x") for part in x]
        starts = np.cumsum([0, *(part.size for part in parts)])
        return [dropout(part, rate, seed=key, start=int(start)) for part, start in zip(parts, starts, strict=False)]
    return dropout(x, rate, seed=key)
