"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import index
from typing import Any, TypeVar, overload

from fastdrop._core.config import entries
from fastdrop._core.keys import StreamSeed
from fastdrop.nn.layer import Layer

__all__ = ["Sequential"]

Self = TypeVar("Self", bound="Sequential")


class Sequential(Layer):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Layer, or one sequence of Layer, or one mapping of str to Layer
        The layers in the order of the forward pass. Without a mapping they are called "0", "1" and so on.
    seed : int, Key, numpy.random.SeedSequence, numpy.random.Generator or numpy.random.BitGenerator, optional
        See `Layer.seed`. It replaces the seeds of the layers inside; without it they keep their own seeds. Layers with the same
        seed drop the same elements.

    Raises
    ------
    TypeError
        An entry is not a layer.
    ValueError
        A name is empty or has a dot, or one layer is in two places.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> model = nn.Sequential(nn.Dropout(0.2), nn.GaussianDropout(0.1), seed=42)
    >>> y = model(np.ones((2, 4), np.float32))
    >>> dx = model.backward(np.ones_like(y))
    >>> len(model), model[0].rate, [type(layer).__name__ for layer in model]
    (2, 0.2, ['Dropout', 'GaussianDropout'])
    >>> model[1:]
    Sequential(
      (1): GaussianDropout(0.1)
    )
    """

    @overload
    def __init__(self, *layers: Layer, seed: StreamSeed = None) -> None: ...
    @overload
    def __init__(self, layers: Sequence[Layer] | Mapping[str, Layer], /, *, seed: StreamSeed = None) -> None: ...
    def __init__(self, *layers: Any, seed: StreamSeed = None) -> None:
        super().__init__()
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], (Sequence, Mapping)) else layers
        self.children = dict(given) if isinstance(given, Mapping) else {str(k): layer for k, layer in enumerate(given)}
        self._check_children()
        if seed is not None:
            self.seed(seed)

    def _check_children(self) -> None:
        for name, layer in self.children.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be fastdrop.nn.Layer objects; got {layer!r} as {name!r}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"a layer's name must be a string, not empty, without dots; got {name!r}")
        first: dict[int, str] = {}
        for name, layer in self.walk():
            if id(layer) in first:
                raise ValueError(
                    f"the layers {first[id(layer)]!r} and {name!r} are one and the same; each place needs its own layer"
                )
            first[id(layer)] = name

    # The layers

    def __len__(self) -> int:
        return len(self.children)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.children.values())

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> Sequential: ...
    def __getitem__(self, key: int | str | slice) -> Layer:
        """Return a layer by its index or its full name; for a slice, a `Sequential` of the same layers with the same names."""
        if isinstance(key, str):
            found = dict(self.walk()).get(key) if key else None
            if found is None:
                raise KeyError(f"no layer is called {key!r}; the layers here are {', '.join(map(repr, self.children))}")
            return found
        if isinstance(key, slice):
            part = Sequential(dict(list(self.children.items())[key]))
            part._training, part._sampling = self.training, self.sampling  # and the layers inside keep their own
            return part
        try:
            at = index(key)
        except TypeError:
            raise TypeError(f"a layer is found by its index, its name or a slice; got {key!r}") from None
        if not -len(self) <= at < len(self):
            raise IndexError(f"the index of a layer must be in [{-len(self)}, {len(self)}); got {key!r}")
        return list(self)[at]

    # Passes

    def record(self, x: Any, again: Any = None) -> tuple[Any, Any]:
        """Return the output, and the records of all layers; see `Layer.record`."""
        earlier = [None] * len(self) if again is None else self._as_records(again, "again")
        records = []
        for layer, one in zip(self, earlier, strict=True):
            x, made = layer.record(x, again=one)
            records.append(made)
        return x, records

    def gradient(self, grad: Any, record: Any) -> Any:
        """Return the gradient with respect to the input of the first layer."""
        records = self._as_records(record, "record")
        for layer, made in zip(reversed(self.children.values()), reversed(records), strict=True):
            grad = layer.gradient(grad, made)
        return grad

    def _as_records(self, value: Any, name: str) -> list[Any]:
        if not isinstance(value, list) or len(value) != len(self):
            raise TypeError(f"{name} must be the list of {len(self)} records that record() returned; got {value!r}")
        return value

    @classmethod
    def build(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Return a `Sequential` from the configurations of its layers; see `Layer.build`."""
        return cls({name: Layer.from_config(one) for name, one in entries(config, "layers").items()})
