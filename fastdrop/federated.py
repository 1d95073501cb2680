"""Federated dropout: each client trains a part of the network, named by a seed of eight bytes.

Which units a client gets follows from (seed, round, client, layer) alone. The server sends it those rows and columns of
the weights; of what comes back it knows the places without being told, as it makes the same masks again.

    seed = client_seed(run, round, client)             # the eight bytes
    kept = kept_units({"hidden": 128}, 0.5, seed)      # by the server, and by the client if it likes
    part = extract(weights, axes, kept)                # goes to the client, is trained there, comes back
    weights, counts = aggregate(weights, axes, [Update(part, kept, samples), ...])

All of it is the same to the bit on every machine.

References
----------
.. [1] S. Caldas, J. Konecny, H. B. McMahan, A. Talwalkar, "Expanding the reach of federated learning by reducing client
   resource requirements", arXiv:1812.07210, 2018.
.. [2] H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Aguera y Arcas, "Communication-efficient learning of deep networks
   from decentralized data", AISTATS 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import at_least_one
from fastdrop.random import fold_in

__all__ = ["Update", "aggregate", "client_seed", "extract", "kept_units"]

Parameters = Mapping[str, NDArray[Any]]
Axes = Mapping[str, Sequence[str | None]]
Kept = Mapping[str, NDArray[np.int64]]

DOMAIN = "federated"  # under which name rounds and clients derive their seeds


class Update(NamedTuple):
    """What a client sends back, and what the server knows of it.

    Attributes
    ----------
    parameters : mapping of str to numpy.ndarray
        The client's part of the network, trained: of the shapes that `extract` gave.
    kept : mapping of str to numpy.ndarray
        What `kept_units` says for this client.
    weight : int
        How much it counts: the number of its samples, say.
    """

    parameters: Mapping[str, ArrayLike]
    kept: Kept
    weight: int = 1


def client_seed(seed: int, round: int, client: int | str) -> int:
    """Return the seed of a client in a round: eight bytes that name all its masks.

    Parameters
    ----------
    seed : int
        Of the whole run, in [0, 2**64).
    round : int
        In [0, 2**64).
    client : int or str
        Its number in [0, 2**64), or its name.

    Returns
    -------
    int
        In [0, 2**64). For a layer's own dropout, ``fastdrop.fold_in(client_seed(...), layer)``.

    Raises
    ------
    TypeError, ValueError
        As `fastdrop.fold_in`.

    Examples
    --------
    >>> from fastdrop.federated import client_seed
    >>> client_seed(42, round=3, client=7) == client_seed(42, round=7, client=3)
    False
    """
    return fold_in(fold_in(fold_in(seed, DOMAIN), round), client)


def kept_units(units: Mapping[str, int], p: float | Mapping[str, float], seed: int) -> dict[str, NDArray[np.int64]]:
    """Return which units of each layer a client keeps.

    Parameters
    ----------
    units : mapping of str to int
        The number of units of each layer that is dropped from, by the layer's name.
    p : float or mapping of str to float
        Probability of dropping a unit, in [0, 1], of all layers or of each.
    seed : int
        What `client_seed` returned.

    Returns
    -------
    dict of str to numpy.ndarray
        The units' numbers, rising: those where ``dropout_mask(n, p, seed=fold_in(seed, layer))`` is True.

    Raises
    ------
    TypeError, ValueError
        As `fastdrop.dropout_mask`.

    Examples
    --------
    >>> from fastdrop.federated import client_seed, kept_units
    >>> kept_units({"hidden": 8}, 0.5, client_seed(42, round=0, client=1))
    {'hidden': array([0, 1, 2, 5])}
    """
    rates = p if isinstance(p, Mapping) else dict.fromkeys(units, p)
    if rates.keys() != units.keys():
        raise ValueError(f"p must have a rate for each of the layers {sorted(units)}; it has {sorted(rates)}")
    return {
        layer: np.flatnonzero(plan.old_mask(size, plan.as_rate(rates[layer]), fold_in(seed, layer), 0, False, 0, None, None))
        for layer, size in units.items()
    }


def extract(parameters: Parameters, axes: Axes, kept: Kept) -> dict[str, NDArray[Any]]:
    """Return the part of a network that has only the units kept.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The whole network, by name.
    axes : mapping of str to sequence of str or None
        For each parameter, the layer whose units each of its axes counts; None for an axis that stays whole. A weight
        matrix of shape (inputs, hidden units) has ``(None, "hidden")``.
    kept : mapping of str to numpy.ndarray
        What `kept_units` returned.

    Returns
    -------
    dict of str to numpy.ndarray
        Copies: rows and columns gathered.

    Raises
    ------
    ValueError
        Axes that do not fit the parameters, or units that do not exist.

    Notes
    -----
    The part's activations are fewer: times 1 / (1 - p) in its forward pass they make the next layer's input what it is in
    the whole network, on average.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.federated import extract
    >>> weights = {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(3)}
    >>> part = extract(weights, {"w": (None, "hidden"), "b": ("hidden",)}, {"hidden": np.array([0, 2])})
    >>> part["w"], part["b"].shape
    (array([[0., 2.],
           [3., 5.]]), (2,))
    """
    return {name: value[places(name, value.shape, axes, kept)] for name, value in parameters.items()}


def aggregate(
    parameters: Parameters, axes: Axes, updates: Iterable[Update]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """Return the mean of what the clients made of each coordinate; a coordinate that no client had stays as it was.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The server's network of this round. It is not changed.
    axes : mapping of str to sequence of str or None
        As in `extract`.
    updates : iterable of Update
        From the clients; looked at one after the other, so that they need not all be in memory.

    Returns
    -------
    parameters : dict of str to numpy.ndarray
        The new network, of the same shapes and dtypes.
    counts : dict of str to numpy.ndarray of int64
        For each coordinate the sum of the weights of the clients that had it.

    Raises
    ------
    ValueError
        An update with other parameters or of other shapes than its units make, or a weight below 1.

    Notes
    -----
    Weighted sums are taken in float64 in the order of `updates`, divided by the counts, and rounded to the parameter's dtype:
    the same updates in the same order give the same bits.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.federated import Update, aggregate
    >>> server, axes = {"b": np.zeros(3)}, {"b": ("hidden",)}
    >>> updates = [
    ...     Update({"b": np.array([1.0, 1.0])}, {"hidden": np.array([0, 1])}, weight=3),
    ...     Update({"b": np.array([5.0])}, {"hidden": np.array([1])}, weight=1),
    ... ]
    >>> aggregate(server, axes, updates)
    ({'b': array([1., 2., 0.])}, {'b': array([3, 4, 0])})
    """
    totals = {name: np.zeros(value.shape) for name, value in parameters.items()}
    counts = {name: np.zeros(value.shape, np.int64) for name, value in parameters.items()}
    for update in updates:
        weight = at_least_one(update.weight, "weight")
        if update.parameters.keys() != parameters.keys():
            raise ValueError(f"an update must have the parameters {sorted(parameters)}; it has {sorted(update.parameters)}")
        for name, given in update.parameters.items():
            where, value = places(name, totals[name].shape, axes, update.kept), np.asarray(given)
            if value.shape != counts[name][where].shape:
                raise ValueError(f"the update of {name!r} has shape {value.shape}; its units make {counts[name][where].shape}")
            with plan.RoundToNearest(), np.errstate(all="ignore"):
                totals[name][where] += value.astype(np.float64) * weight
            counts[name][where] += weight
    return {name: mean(totals[name], counts[name], value) for name, value in parameters.items()}, counts


def mean(total: NDArray[np.float64], count: NDArray[np.int64], otherwise: NDArray[Any]) -> NDArray[Any]:
    """Return total / count in the dtype of `otherwise`, whose value stands where nothing was counted."""
    result = otherwise.copy()
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        np.copyto(result, (total / np.maximum(count, 1)).astype(result.dtype), where=count > 0)
    return result


def places(name: str, shape: tuple[int, ...], axes: Axes, kept: Kept) -> tuple[Any, ...]:
    """Return the index of the part of a parameter that has only the units kept, or raise naming what does not fit."""
    layers = axes.get(name)
    if layers is None or len(layers) != len(shape):
        raise ValueError(f"axes must name a layer or None for each axis of {name!r}, of shape {shape}; got {layers!r}")
    return np.ix_(*(units_of(name, layer, size, kept) for layer, size in zip(layers, shape, strict=True)))


def units_of(name: str, layer: str | None, size: int, kept: Kept) -> NDArray[np.int64]:
    """Return the units kept along one axis of a parameter."""
    if layer is None:
        return np.arange(size)
    if layer not in kept:
        raise ValueError(f"an axis of {name!r} counts the units of {layer!r}; kept has only {sorted(kept)}")
    units = np.asarray(kept[layer])
    if units.ndim != 1 or units.dtype.kind not in "iu" or (np.diff(units) <= 0).any() or (units.size and units[0] < 0):
        raise ValueError(f"kept[{layer!r}] must be a rising sequence of units")
    if units.size and units[-1] >= size:
        raise ValueError(f"unit {units[-1]} of {layer!r} is kept, but {name!r} has only {size} of them")
    return units
