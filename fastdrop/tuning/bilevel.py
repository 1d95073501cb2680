"""Rates that are trained: so that the weights which training at these rates leads to do well on validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.checks import at_least_one, positive_number
from fastdrop._core.optional import row_of_axes, track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Learned", "learned_rates"]

Rates = dict[str, float]
Arrays = Mapping[str, NDArray[Any]]
Train = Callable[[Rates, int], tuple[Arrays, Mapping[str, float]]]

REACH = 0.01  # how far weights are moved for a difference, all together


@dataclass(frozen=True)
class Learned:
    """Rates that were trained.

    Attributes
    ----------
    rates : dict of str to float
        At the end.
    history : list of dict of str to float
        After each update of the rates.
    losses : list of float
        On the validation data, before each update of the rates.
    """

    rates: Rates
    history: list[Rates]
    losses: list[float]

    def plot(self) -> list[Axes]:
        """Draw the rates and the validation loss over the updates, side by side in one figure."""
        rates, losses = found = row_of_axes(2)
        for name in self.rates:
            rates.plot([each[name] for each in self.history], label=name)
        rates.set(xlabel="update of the rates", ylabel="p", ylim=(0, 1))
        rates.legend()
        losses.plot(self.losses)
        losses.set(xlabel="update of the rates", ylabel="validation loss")
        return list(found)


class Logits:
    """Rates by their logits, which are moved against gradients (Adam) within bounds."""

    def __init__(self, start: Mapping[str, float], learning_rate: float, bounds: tuple[float, float]) -> None:
        low, high = bounds
        if not 0 < low < high < 1:
            raise ValueError(f"bounds must be 0 < low < high < 1; got {bounds!r}")
        for name, p in start.items():
            if not low <= p <= high:
                raise ValueError(f"rates must start within the bounds {bounds}; start[{name!r}] is {p!r}")
        if not start:
            raise ValueError("start must have a rate for each layer whose rate is to be trained; it has none")
        self.low, self.high, self.learning_rate, self.steps = logit(low), logit(high), learning_rate, 0
        self.values = {name: logit(p) for name, p in start.items()}
        self.moments = dict.fromkeys(start, (0.0, 0.0))

    @property
    def rates(self) -> Rates:
        return {name: 1.0 / (1.0 + math.exp(-value)) for name, value in self.values.items()}

    def update(self, slopes: Mapping[str, float]) -> None:
        self.steps += 1
        size = self.learning_rate * math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, slope in slopes.items():
            mean, square = self.moments[name]
            mean, square = mean + 0.1 * (slope - mean), square + 0.001 * (slope * slope - square)
            moved = self.values[name] - size * mean / (math.sqrt(square) + 1e-30)
            self.values[name] = min(max(moved, self.low), self.high)
            self.moments[name] = mean, square


def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p) - math.log1p(-p)


def learned_rates(
    parameters: Arrays,
    train: Train,
    update: Callable[[Arrays], Any],
    validate: Callable[[int], tuple[float, Arrays]],
    start: Mapping[str, float],
    *,
    steps: int,
    every: int = 1,
    learning_rate: float = 0.02,
    bounds: tuple[float, float] = (0.001, 0.95),
    progress: bool = False,
) -> Learned:
    """Train weights and rates in turn: the weights on training data, the rates on validation data, through the weights.

    A rate does nothing for the validation loss of given weights; what it changes is where training leads. So its gradient
    is that of the validation loss after one more step of training, which takes how the training loss's gradient depends on the
    rate: the relaxation of the masks (`fastdrop.concrete_dropout`) makes that a gradient by the rate's logit.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The weights, which `update` changes in place. They are moved for a moment and put back to the bit.
    train : callable
        ``train(rates, step)`` returns the gradients of the training loss on the batch of a step: by the weights, under the
        names of `parameters`, and by the logit log(p / (1 - p)) of each rate, under the names of `start`. It is called
        more than once for a step, with weights moved, and must take the same batch and the same noise.
    update : callable
        ``update(gradients)`` takes one step of an optimizer with the gradients by the weights.
    validate : callable
        ``validate(step)`` returns the loss on validation data, with nothing dropped, and its gradients by the weights.
    start : mapping of str to float
        For each layer the rate to begin with.
    steps : int
        Updates of the weights.
    every : int, default 1
        The rates are updated after each so many of them. An update takes two more calls of `train`, and one of `validate`.
    learning_rate : float, default 0.02
        Of the rates' logits, by Adam.
    bounds : tuple of float, default (0.001, 0.95)
        Within which rates stay.
    progress : bool, default False
        Show a progress bar (by rich).

    Returns
    -------
    Learned

    Raises
    ------
    ValueError
        Rates that do not start within the bounds, gradients that are missing or not finite.

    Notes
    -----
    With v the gradient of the validation loss by the weights w and L the training loss, the gradient by a logit l is
    ``-(dL/dl(w + e v) - dL/dl(w - e v)) / (2 e)`` times the weights' learning rate, which Adam makes immaterial. It looks one
    step ahead and takes the curvature to be alike in all directions. The rates are those for training as long as this: they
    rise as weights begin to overfit. Validation data that choose rates are used up: judge by others.

    References
    ----------
    .. [1] H. Liu, K. Simonyan, Y. Yang, "DARTS: differentiable architecture search", ICLR 2019.
    .. [2] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    One weight, drawn to 1 by training and held back by dropout, which adds p / (1 - p) times its square; validation wants
    0.6, and so p = 0.4:

    >>> import numpy as np
    >>> from fastdrop.tuning import learned_rates
    >>> w = np.array([1.0])
    >>> def train(rates, step):
    ...     penalty = rates["hidden"] / (1 - rates["hidden"])
    ...     return {"w": w - 1 + penalty * w}, {"hidden": float(penalty * w @ w / 2)}
    >>> def update(gradients):
    ...     w[:] -= 0.3 * gradients["w"]
    >>> def validate(step):
    ...     return float((w - 0.6) @ (w - 0.6) / 2), {"w": w - 0.6}
    >>> round(learned_rates({"w": w}, train, update, validate, {"hidden": 0.1}, steps=1000).rates["hidden"], 2)
    0.4
    """
    every = at_least_one(every, "every")
    logits = Logits(start, positive_number(learning_rate, "learning_rate"), bounds)
    history: list[Rates] = []
    losses: list[float] = []
    for step in track(range(at_least_one(steps, "steps")), "steps", progress):
        update(train(logits.rates, step)[0])
        if (step + 1) % every == 0:
            loss, direction = validate(step)
            losses.append(float(loss))
            rates = logits.rates
            logits.update(slopes_along(parameters, direction, partial(of_logits, train, rates, step), rates))
            history.append(logits.rates)
    return Learned(logits.rates, history, losses)


def of_logits(train: Train, rates: Rates, step: int) -> Mapping[str, float]:
    """Return the gradients by the logits alone."""
    return train(rates, step)[1]


def slopes_along(
    parameters: Arrays, direction: Arrays, gradients: Callable[[], Mapping[str, float]], names: Mapping[str, Any]
) -> Rates:
    """Return minus the derivative of the training loss's gradient by each logit, as the weights move in a direction."""
    square = sum(float(np.vdot(value, value)) for value in direction.values())
    if direction.keys() != parameters.keys() or not square < math.inf:
        raise ValueError("validate must return a finite gradient for each of the parameters, under the same names")
    if square == 0.0:
        return dict.fromkeys(names, 0.0)
    reach, kept = REACH / math.sqrt(square), {name: value.copy() for name, value in parameters.items()}
    found = []
    try:
        for sign in (reach, -reach):
            for name, value in parameters.items():
                value[...] = kept[name] + value.dtype.type(sign) * direction[name]
            found.append(gradients())
    finally:
        for name, value in parameters.items():
            value[...] = kept[name]
    ahead, behind = found
    if ahead.keys() != names.keys() or not all(math.isfinite(float(each[name])) for each in found for name in names):
        raise ValueError(f"train must return a finite gradient by the logit of each of the rates {sorted(names)}")
    return {name: -(float(ahead[name]) - float(behind[name])) / (2 * reach) for name in names}
