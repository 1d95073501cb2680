"""Federated dropout: each client trains a part of the network, and a seed of eight bytes names the part.

Which units a client gets depends on (seed, round, client, layer) alone. The server sends the client the rows and columns of
the weights that belong to its units. The client sends the trained part back without saying which units it has: the server
computes them again from the seed.

    seed = client_seed(run, round, client)             # the eight bytes
    kept = kept_units({"hidden": 128}, 0.5, seed)      # by the server, and by the client if it needs them
    part = extract(weights, axes, kept)                # goes to the client, is trained there, comes back
    weights, counts = aggregate(weights, axes, [Update(part, kept, samples), ...])

All results have the same bits on every machine.

References
----------
.. [1] S. Caldas, J. Konecny, H. B. McMahan, A. Talwalkar, "Expanding the reach of federated learning by reducing client
   resource requirements", arXiv:1812.07210, 2018.
.. [2] H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Aguera y Arcas, "Communication-efficient learning of deep networks
   from decentralized data", AISTATS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import dropout_mask, fold_in, words
from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_real_array, check_mapping

__all__ = ["Update", "aggregate", "client_seed", "extract", "kept_units"]

Parameters = Mapping[str, NDArray[Any]]
Axes = Mapping[str, Sequence[str | None]]
Kept = Mapping[str, NDArray[np.int64]]
Count = Literal["fixed", "random"]

MOST_WEIGHT = np.iinfo(np.int64).max
DOMAIN = "federated"  # the name under which rounds and clients derive their seeds


class Update(NamedTuple):
    """The result of one client's training, as `aggregate` takes it.

    Attributes
    ----------
    parameters : mapping of str to numpy.ndarray
        The trained part of the network, with the shapes that `extract` gave.
    kept : mapping of str to numpy.ndarray
        The units of this client, as `kept_units` returns them.
    weight : int
        The weight of this client in the mean, for example its number of samples.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.federated import Update
    >>> Update({"b": np.array([1.0])}, {"hidden": np.array([2])}, weight=30).weight
    30
    """

    parameters: Mapping[str, ArrayLike]
    kept: Kept
    weight: int = 1


def client_seed(seed: int, round: int, client: int | str) -> int:
    """Return the seed of a client in a round: eight bytes that determine all its masks.

    Parameters
    ----------
    seed : int
        The seed of the whole run, in [0, 2**64).
    round : int
        The number of the round, in [0, 2**64).
    client : int or str
        The client's number in [0, 2**64), or its name.

    Returns
    -------
    int
        A seed in [0, 2**64). For the dropout of a layer, use ``fastdrop.fold_in(client_seed(...), layer)``.

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.fold_in`.

    Examples
    --------
    >>> from fastdrop.federated import client_seed
    >>> client_seed(42, round=3, client=7) == client_seed(42, round=7, client=3)
    False
    """
    number = client if isinstance(client, str) else plan.as_word(client, "a client that is no string")
    return fold_in(fold_in(fold_in(seed, DOMAIN), plan.as_word(round, "round")), number)


def kept_units(
    units: Mapping[str, int], p: float | Mapping[str, float], seed: int, *, count: Count = "fixed"
) -> dict[str, NDArray[np.int64]]:
    """Return the units of each layer that a client keeps.

    Parameters
    ----------
    units : mapping of str to int
        The number of units of each layer that is dropped from, by the layer's name.
    p : float or mapping of str to float
        Probability of dropping a unit, in [0, 1]: one number for all layers, or one per layer.
    seed : int
        The client's seed, as `client_seed` returns it.
    count : {"fixed", "random"}
        ``"fixed"``, as in the paper: of n units round((1 - p) n) are kept, but at least one, so that the parts of all clients
        have the same size. ``"random"``: each unit is kept independently with probability 1 - p. Then the number varies
        between clients, and a part may have no unit of a layer.

    Returns
    -------
    dict of str to numpy.ndarray
        The numbers of the kept units per layer, in increasing order.

    Raises
    ------
    TypeError
        `units` is not a mapping, or a number is not of the right kind.
    ValueError
        A number is out of range, `p` lacks a layer, or `count` is unknown.

    Notes
    -----
    ``"fixed"``: the shortest decimal number that stands for p counts as p, and a half is rounded up. Unit i takes the words
    2 i (the low half) and 2 i + 1 (the high half) of ``fastdrop.words(2 * n, seed=fold_in(seed, layer))`` as one integer of
    64 bits. The units with the smallest integers are kept; of two equal ones, the unit with the lower number comes first.
    ``"random"``: unit i is kept where ``fastdrop.dropout_mask(n, p, seed=fold_in(seed, layer))`` is True.

    References
    ----------
    .. [1] S. Caldas, J. Konecny, H. B. McMahan, A. Talwalkar, "Expanding the reach of federated learning by reducing client
       resource requirements", arXiv:1812.07210, 2018.

    Examples
    --------
    >>> from fastdrop.federated import client_seed, kept_units
    >>> kept_units({"hidden": 8}, 0.5, client_seed(42, round=0, client=1))
    {'hidden': array([1, 3, 5, 6])}
    """
    check_mapping(units, "units", "a mapping of layers to their numbers of units")
    rates = p if isinstance(p, Mapping) else dict.fromkeys(units, plan.as_rate(p))
    if rates.keys() != units.keys():
        raise ValueError(f"p must have one rate for each of the layers {listed(units)}; it has {listed(rates)}")
    if not plan.is_one_of(count, ("fixed", "random")):
        raise ValueError(f"count must be 'fixed' or 'random'; got {count!r}")
    number = plan.as_word(seed, "seed")
    choose = fixed_number if count == "fixed" else random_number
    return {
        layer: choose(plan.as_count(size, f"units[{layer!r}]"), plan.as_rate(rates[layer]), fold_in(number, layer))
        for layer, size in units.items()
    }


def listed(names: Iterable[Any]) -> list[Any]:
    """Return names in an order for messages: numbers and strings cannot be compared."""
    return sorted(names, key=repr)


def fixed_number(size: int, p: float, seed: int) -> NDArray[np.int64]:
    """Return a fixed number of kept units: those with the smallest random integers."""
    number = min(size, max(1, math.floor((1 - Fraction(repr(p))) * size + Fraction(1, 2))))
    halves = words(2 * size, seed=seed).astype(np.uint64).reshape(size, 2)
    ranks = halves[:, 1] << np.uint64(32) | halves[:, 0]
    return np.sort(np.argsort(ranks, kind="stable")[:number])


def random_number(size: int, p: float, seed: int) -> NDArray[np.int64]:
    """Return kept units, each kept independently of the others."""
    return np.flatnonzero(dropout_mask(size, p, seed=seed))


def arrays_of(parameters: Any, axes: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of a network, or raise an error unless they and their axes are mappings."""
    check_mapping(parameters, "parameters", "a mapping of names to arrays")
    check_mapping(axes, "axes", "a mapping of the parameters' names to a layer, or None, for each axis")
    return {name: np.asarray(plan.to_array(value, f"parameter {name!r}")) for name, value in parameters.items()}


def extract(parameters: Parameters, axes: Axes, kept: Kept) -> dict[str, NDArray[Any]]:
    """Return the part of a network that has only the kept units.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The whole network, by name.
    axes : mapping of str to sequence of str or None
        For each parameter and each of its axes, the layer whose units the axis counts; None for an axis that stays whole. A
        weight matrix of shape (inputs, hidden units) has ``(None, "hidden")``.
    kept : mapping of str to numpy.ndarray
        The kept units, as `kept_units` returns them.

    Returns
    -------
    dict of str to numpy.ndarray
        Copies of the kept rows and columns.

    Raises
    ------
    TypeError
        `parameters`, `axes` or `kept` is not a mapping.
    ValueError
        The axes do not fit the parameters, or a kept unit does not exist.

    Notes
    -----
    The part has fewer activations. Multiply those of a layer in its forward pass: by the number of units / the number of kept
    ones with ``count="fixed"``, by 1 / (1 - p) with ``count="random"``. Then the input of the next layer is, on average over
    the clients, that of the whole network.

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
    whole = arrays_of(parameters, axes)
    return {name: np.asarray(value[kept_index(name, value.shape, axes, kept)]) for name, value in whole.items()}


def aggregate(
    parameters: Parameters, axes: Axes, updates: Iterable[Update]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """Return the weighted mean of the clients' results per coordinate; a coordinate that no client had does not change.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The server's network of this round, of floats. It is not changed.
    axes : mapping of str to sequence of str or None
        As in `extract`.
    updates : iterable of Update
        The clients' results. They are read one after the other, so that they need not all be in memory.

    Returns
    -------
    parameters : dict of str to numpy.ndarray
        The new network, of the same shapes and dtypes.
    counts : dict of str to numpy.ndarray of int64
        For each coordinate, the sum of the weights of the clients that had it.

    Raises
    ------
    TypeError
        An argument is not a mapping, `updates` does not hold `Update` objects, or an array is not of floats.
    ValueError
        An update has other parameters or shapes than its units make, or its weight is below 1.
    OverflowError
        The sum of the weights is 2**63 or more.

    Notes
    -----
    The weighted sums are taken in float64 in the order of `updates`, divided by the counts, and rounded to the parameter's
    dtype. The same updates in the same order give the same bits.

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
    server = arrays_of(parameters, axes)
    for name, value in server.items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            raise TypeError(f"parameter {name!r} must have a floating-point dtype; got {value.dtype}")
    try:
        each = iter(updates)  # a test for the method is not enough: NumPy's arrays without axes have it and raise
    except TypeError:
        raise TypeError(f"updates must be an iterable of Update objects; got {updates!r}") from None
    totals = {name: np.zeros(value.shape) for name, value in server.items()}
    counts = {name: np.zeros(value.shape, np.int64) for name, value in server.items()}
    for update in each:
        add_update(update, axes, totals, counts)
    return {name: mean(totals[name], counts[name], value) for name, value in server.items()}, counts


def add_update(
    update: Update, axes: Axes, totals: dict[str, NDArray[np.float64]], counts: dict[str, NDArray[np.int64]]
) -> None:
    """Add the weighted parameters of one client to the totals, and its weight to the counts."""
    if not isinstance(update, Update):
        raise TypeError(f"updates must be Update objects; got a {type(update).__name__}")
    weight = as_positive_count(update.weight, "weight")
    check_mapping(update.parameters, "the parameters of an update", "a mapping of names to arrays")
    if update.parameters.keys() != totals.keys():
        raise ValueError(f"an update must have the parameters {listed(totals)}; it has {listed(update.parameters)}")
    for name, given in update.parameters.items():
        where, value = kept_index(name, totals[name].shape, axes, update.kept), as_real_array(given, f"the update of {name!r}")
        if value.shape != counts[name][where].shape:
            raise ValueError(f"the update of {name!r} has shape {value.shape}; its units make {counts[name][where].shape}")
        if weight > MOST_WEIGHT - counts[name].max(initial=0):
            raise OverflowError("the weights of the updates must have a sum below 2**63")
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            totals[name][where] += value.astype(np.float64) * weight
        counts[name][where] += weight


def mean(total: NDArray[np.float64], count: NDArray[np.int64], otherwise: NDArray[Any]) -> NDArray[Any]:
    """Return total / count in the dtype of `otherwise`, and the value of `otherwise` where the count is 0."""
    result = otherwise.copy()
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        np.copyto(result, (total / np.maximum(count, 1)).astype(result.dtype), where=count > 0)
    return result


def kept_index(name: str, shape: tuple[int, ...], axes: Axes, kept: Kept) -> tuple[Any, ...]:
    """Return the index of the kept part of a parameter, or raise an error that names the bad entry."""
    check_mapping(kept, "kept", "a mapping of layers to their kept units")
    layers = axes.get(name)
    if isinstance(layers, str) or not isinstance(layers, Sequence) or len(layers) != len(shape):
        raise ValueError(f"axes must name a layer or None for each axis of {name!r}, of shape {shape}; got {layers!r}")
    return np.ix_(*(units_along(name, layer, size, kept) for layer, size in zip(layers, shape, strict=True)))


def units_along(name: str, layer: str | None, size: int, kept: Kept) -> NDArray[np.int64]:
    """Return the units that are kept along one axis of a parameter."""
    if layer is None:
        return np.arange(size)
    try:
        is_known = layer in kept
    except TypeError:  # a list, for example, is no name
        is_known = False
    if not is_known:
        raise ValueError(f"an axis of {name!r} counts the units of {layer!r}; kept has only {listed(kept)}")
    units = np.asarray(plan.to_array(kept[layer], f"kept[{layer!r}]"))
    if not units.size:
        units = units.astype(np.int64)  # NumPy makes floats of an empty list
    if units.ndim != 1 or units.dtype.kind not in "iu" or (units[1:] <= units[:-1]).any() or (units.size and units[0] < 0):
        raise ValueError(f"kept[{layer!r}] must be an increasing sequence of units")
    if units.size and units[-1] >= size:
        raise ValueError(f"unit {units[-1]} of {layer!r} is kept, but {name!r} has only {size} of them")
    return units
