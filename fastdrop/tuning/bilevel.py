"""Training of dropout rates by bilevel optimization: rates that lead to weights with a small loss on validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.checks import as_finite_number, as_positive_count, as_positive_number
from fastdrop._core.optional import check_progress, row_of_axes, track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Learned", "learned_rates"]

Rates = dict[str, float]
Arrays = Mapping[str, NDArray[Any]]
Train = Callable[[Rates, int], tuple[Arrays, Mapping[str, float]]]

REACH = 0.01  # the norm of the move of all weights for a finite difference


@dataclass(frozen=True)
class Learned:
    """The result of `learned_rates`.

    Attributes
    ----------
    rates : dict of str to float
        The rates at the end, by name.
    history : list of dict of str to float
        The rates after each update.
    losses : list of float
        The loss on the validation data before each update of the rates.

    Examples
    --------
    >>> from fastdrop.tuning import Learned
    >>> Learned({"hidden": 0.3}, [{"hidden": 0.2}, {"hidden": 0.3}], [0.5, 0.4]).rates
    {'hidden': 0.3}
    """

    rates: Rates
    history: list[Rates]
    losses: list[float]

    def plot(self) -> list[Axes]:
        """Draw the rates and the validation loss over the updates, side by side in one figure.

        Returns
        -------
        list of matplotlib.axes.Axes
            Two axes.

        Raises
        ------
        ImportError
            Matplotlib is not installed.
        """
        rates, losses = found = row_of_axes(2)
        for name in self.rates:
            rates.plot([each[name] for each in self.history], label=name)
        rates.set(xlabel="update of the rates", ylabel="p", ylim=(0, 1))
        rates.legend()
        losses.plot(self.losses)
        losses.set(xlabel="update of the rates", ylabel="validation loss")
        return list(found)


class Logits:
    """The logits of the rates, which Adam moves within bounds."""

    def __init__(self, initial_rates: Mapping[str, float], learning_rate: float, bounds: tuple[float, float]) -> None:
        low, high = checked_bounds(bounds)
        if not isinstance(initial_rates, Mapping):
            raise TypeError(f"initial_rates must be a mapping of layers' names to rates; got {initial_rates!r}")
        rates = {name: as_finite_number(p, f"initial_rates[{name!r}]") for name, p in initial_rates.items()}
        for name, p in rates.items():
            if not low <= p <= high:
                raise ValueError(f"rates must start within the bounds {bounds}; initial_rates[{name!r}] is {p!r}")
        if not rates:
            raise ValueError("initial_rates must have a rate for each layer whose rate is trained; it is empty")
        self.low, self.high, self.learning_rate, self.steps = logit(low), logit(high), learning_rate, 0
        self.values = {name: logit(p) for name, p in rates.items()}
        self.moments = dict.fromkeys(initial_rates, (0.0, 0.0))

    @property
    def rates(self) -> Rates:
        """The rates that the logits stand for."""
        return {name: 1.0 / (1.0 + math.exp(-value)) for name, value in self.values.items()}

    def update(self, slopes: Mapping[str, float]) -> None:
        """Move the logits by one step of Adam against their gradients."""
        self.steps += 1
        size = self.learning_rate * math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, slope in slopes.items():
            mean, square = self.moments[name]
            mean, square = mean + 0.1 * (slope - mean), square + 0.001 * (slope * slope - square)
            moved = self.values[name] - size * mean / (math.sqrt(square) + 1e-30)
            self.values[name] = min(max(moved, self.low), self.high)
            self.moments[name] = mean, square


def checked_bounds(bounds: Any) -> tuple[float, float]:
    """Return the bounds of the rates, or raise an error that names them."""
    found = [as_finite_number(each, "each of bounds") for each in bounds] if isinstance(bounds, (tuple, list)) else []
    if len(found) != 2 or not 0 < found[0] < found[1] < 1:
        raise ValueError(f"bounds must be (low, high) with 0 < low < high < 1; got {bounds!r}")
    return found[0], found[1]


def check_parameters(parameters: Any) -> None:
    """Raise an error unless the weights are arrays of floats, which can be moved in place."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters must be a mapping of names to arrays; got {parameters!r}")
    for name, value in parameters.items():
        if not isinstance(value, np.ndarray) or (value.dtype.kind != "f" and value.dtype.name != "bfloat16"):
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
            raise TypeError(f"parameters[{name!r}] must be a numpy.ndarray of floats, which change in place; got {kind}")


def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p) - math.log1p(-p)


def learned_rates(
    parameters: Arrays,
    train: Train,
    update: Callable[[Arrays], Any],
    validate: Callable[[int], tuple[float, Arrays]],
    initial_rates: Mapping[str, float],
    *,
    steps: int,
    every: int = 1,
    learning_rate: float = 0.02,
    bounds: tuple[float, float] = (0.001, 0.95),
    progress: bool = False,
) -> Learned:
    """Train weights and rates in turn: the weights on training data, and the rates on validation data.

    The validation loss of given weights does not depend on a rate, but training with another rate leads to other weights. So
    the gradient of a rate is the gradient of the validation loss after one more step of training. It needs to know how the
    gradient of the training loss depends on the rate. Masks that are relaxed (`fastdrop.concrete_dropout`) give this as a
    gradient with respect to the logit of the rate.

    Parameters
    ----------
    parameters : mapping of str to numpy.ndarray
        The weights, which `update` changes in place. They are moved for a moment and restored to the bit.
    train : callable
        ``train(rates, step)`` returns two mappings of gradients of the training loss on the batch of a step: with respect to
        the weights, under the names of `parameters`, and with respect to the logit log(p / (1 - p)) of each rate, under the
        names of `initial_rates`. It is called several times per step, with moved weights, and must use the same batch and the
        same noise each time.
    update : callable
        ``update(gradients)`` takes one step of an optimizer with the gradients with respect to the weights.
    validate : callable
        ``validate(step)`` returns the loss on validation data without dropout, and its gradients with respect to the weights.
    initial_rates : mapping of str to float
        The first rate of each layer.
    steps : int
        The number of updates of the weights.
    every : int, default 1
        The number of updates of the weights per update of the rates. An update of the rates takes two more calls of `train` and
        one call of `validate`.
    learning_rate : float, default 0.02
        The learning rate of Adam for the logits of the rates.
    bounds : tuple of float, default (0.001, 0.95)
        The bounds of the rates.
    progress : bool, default False
        Show a progress bar (with rich).

    Returns
    -------
    Learned
        The rates, their history, and the validation losses.

    Raises
    ------
    TypeError, ValueError
        A number is out of range, a rate does not start within the bounds, `parameters` are not arrays of floats, `progress` is
        not a bool, or gradients are missing, of another shape or not finite.
    ImportError
        `progress` is True and rich is not installed.

    Notes
    -----
    Let v be the gradient of the validation loss with respect to the weights w, and L the training loss. The gradient with
    respect to a logit l is ``-(dL/dl(w + e v) - dL/dl(w - e v)) / (2 e)`` times the learning rate of the weights, which has no
    effect with Adam. This looks one step ahead and assumes the same curvature in all directions.

    The rates fit a training of this length: they rise when the weights begin to overfit. Validation data that chose the rates
    no longer measure the generalization; use other data for that.

    References
    ----------
    .. [1] H. Liu, K. Simonyan, Y. Yang, "DARTS: differentiable architecture search", ICLR 2019.
    .. [2] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    Training pulls one weight to 1, and dropout adds p / (1 - p) times its square to the loss. The best weight for validation
    is 0.6, which training reaches with p = 0.4:

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
    every, steps = as_positive_count(every, "every"), as_positive_count(steps, "steps")
    check_progress(progress)
    check_parameters(parameters)
    logits = Logits(initial_rates, as_positive_number(learning_rate, "learning_rate"), bounds)
    history: list[Rates] = []
    losses: list[float] = []
    for step in track(range(steps), "steps", progress):
        update(train(logits.rates, step)[0])
        if (step + 1) % every == 0:
            loss, direction = validate(step)
            losses.append(float(loss))
            rates = logits.rates
            logits.update(slopes_along(parameters, direction, partial(logit_gradients, train, rates, step), rates))
            history.append(logits.rates)
    return Learned(logits.rates, history, losses)


def logit_gradients(train: Train, rates: Rates, step: int) -> Mapping[str, float]:
    """Return the gradients with respect to the logits alone."""
    return train(rates, step)[1]


def slopes_along(
    parameters: Arrays, direction: Arrays, gradients: Callable[[], Mapping[str, float]], names: Mapping[str, Any]
) -> Rates:
    """Return minus the derivative of each logit's gradient of the training loss, along a direction of the weights."""
    fits = isinstance(direction, Mapping) and direction.keys() == parameters.keys()
    if not fits or any(np.shape(direction[name]) != value.shape for name, value in parameters.items()):
        raise ValueError("validate must return a gradient for each of the parameters, with the same name and the same shape")
    square = sum(float(np.vdot(value, value)) for value in direction.values())
    if not square < math.inf:
        raise ValueError("validate must return finite gradients")
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
        raise ValueError(f"train must return a finite gradient with respect to the logit of each of the rates {sorted(names)}")
    return {name: -(float(ahead[name]) - float(behind[name])) / (2 * reach) for name in names}
