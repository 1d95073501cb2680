"""Rates that change in the course of training: small picklable callables, step -> p.

A step is one update of the weights, counted from 0. All rates are computed in double, on the host, rounded to nearest
whatever the process has set. (Those that need an exponential or a cosine take the platform's, whose last bit may differ
elsewhere. A mask then differs only where a random number falls between two neighbouring doubles.)

Examples
--------
>>> from fastdrop import schedules
>>> p = schedules.Linear(0.0, 0.5, 100)
>>> p(0), p(50), p(1000)
(0.0, 0.25, 0.5)
>>> p.clipped(0.1, 0.3)(50)
0.25
>>> [q(100) for q in schedules.layerwise(p, 4)]  # the deeper, the more
[0.125, 0.25, 0.375, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastdrop._core import plan
from fastdrop._core.checks import at_least_one, finite_number, positive_number
from fastdrop._core.state import collect, distribute, require_entries
from fastdrop.variants.depth import drop_path_rates

__all__ = [
    "Clipped",
    "Constant",
    "Cosine",
    "Curriculum",
    "Early",
    "Exponential",
    "Late",
    "Linear",
    "Phases",
    "Polynomial",
    "Scaled",
    "Schedule",
    "Stepwise",
    "ValidationDriven",
    "layerwise",
    "plot",
    "scheduled_drop_path",
]

StepToRate = Callable[[int], float]
MOST_POINTS = 1000  # of a plotted curve: more than a figure has pixels


def checked_rate(value: Any, name: str) -> float:
    """Return a rate, or raise naming it."""
    rate = finite_number(value, name)
    if not 0 <= rate <= 1:
        raise ValueError(f"{name} must be in [0, 1], a probability of dropping; got {value!r}")
    return rate


def schedule_of(value: Any, name: str = "schedule") -> StepToRate:
    """Return a schedule: what is given, if it can be called with a step, or a number as a constant one."""
    return value if callable(value) else Constant(checked_rate(value, name))


class Schedule:
    """What all schedules have: they are called with a step, can be scaled, clipped, followed by others, and plotted.

    One of your own needs ``rate(step)`` alone; what it returns is clipped to [0, 1].
    """

    def __call__(self, step: int) -> float:
        """Return the rate at a step, counted from 0."""
        number = plan.as_count(step, "step")
        with plan.RoundToNearest():
            return min(1.0, max(0.0, self.rate(number)))

    def rate(self, step: int) -> float:
        """Return the rate at a step that has been checked."""
        raise NotImplementedError(f"{type(self).__name__} has no rate(step)")

    def scaled(self, factor: float) -> Scaled:
        """Return this schedule times a factor."""
        return Scaled(self, factor)

    def clipped(self, low: float = 0.0, high: float = 1.0) -> Clipped:
        """Return this schedule, kept between two rates."""
        return Clipped(self, low, high)

    def then(self, after: int, schedule: Any) -> Phases:
        """Return this schedule for so many steps, and another after them, whose steps count from there."""
        return Phases((self, schedule), (after,))

    def plot(self, steps: int, ax: Any = None) -> Any:
        """Draw the rate of the first steps, and return Matplotlib's axes; see `plot` for several in one figure."""
        return plot({type(self).__name__: self}, steps, ax)

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedules that this one is made of, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes in the course of training: nothing, unless there is a `ValidationDriven` inside."""
        return collect(self.parts())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        require_entries(state, self.state_dict(), f"the schedule {type(self).__name__}")
        distribute(self.parts(), state)


# Shapes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at all steps."""

    p: float

    def __post_init__(self) -> None:
        checked_rate(self.p, "p")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p


@dataclass(frozen=True)
class Ramp(Schedule):
    """From the rate `start` to the rate `end` in `steps` steps, from step `begin` on."""

    start: float
    end: float
    steps: int
    begin: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        checked_rate(self.start, "start")
        checked_rate(self.end, "end")
        at_least_one(self.steps, "steps")
        plan.as_count(self.begin, "begin")

    def rate(self, step: int) -> float:
        """Return the rate: exactly `start` before the ramp, exactly `end` after it."""
        share = self.share(min(1.0, max(0, step - self.begin) / self.steps))
        return self.start * (1.0 - share) + self.end * share

    def share(self, progress: float) -> float:
        """Return how much of the way is gone, 0 to 1, after that part of the time."""
        raise NotImplementedError(f"{type(self).__name__} has no share(progress)")


@dataclass(frozen=True)
class Linear(Ramp):
    """From `start` to `end` in a straight line of `steps` steps, from step `begin` on."""

    def share(self, progress: float) -> float:
        """Return the progress itself."""
        return progress


@dataclass(frozen=True)
class Cosine(Ramp):
    """From `start` to `end` in half a wave of `steps` steps, from step `begin` on: flat at both ends."""

    def share(self, progress: float) -> float:
        """Return (1 - cos(pi progress)) / 2."""
        return (1.0 - math.cos(math.pi * progress)) / 2.0


@dataclass(frozen=True)
class Polynomial(Ramp):
    """From `start` to `end` in `steps` steps from step `begin` on: end + (start - end) (1 - t / steps)**power."""

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_number(self.power, "power")

    def share(self, progress: float) -> float:
        """Return 1 - (1 - progress)**power."""
        return 1.0 - math.pow(1.0 - progress, self.power)


@dataclass(frozen=True)
class Exponential(Schedule):
    """From `start` towards `end`: end + (start - end) exp(-gamma t)."""

    start: float
    end: float
    gamma: float

    def __post_init__(self) -> None:
        checked_rate(self.start, "start")
        checked_rate(self.end, "end")
        positive_number(self.gamma, "gamma")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.end + (self.start - self.end) * math.exp(-self.gamma * step)


@dataclass(frozen=True)
class Stepwise(Schedule):
    """`p` times `factor` to the power of how often `every` steps have passed; never above 1."""

    p: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        checked_rate(self.p, "p")
        positive_number(self.factor, "factor")
        at_least_one(self.every, "every")

    def rate(self, step: int) -> float:
        """Return the rate."""
        try:
            return self.p * self.factor ** (step // self.every) if self.p else 0.0
        except OverflowError:
            return 1.0


# Of papers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Early(Schedule):
    """Early dropout: `p` in the first `cutoff` steps, none after them; against underfitting.

    With ``shape="linear"`` the rate falls from `p` to 0, which the last of the early steps has already, as in the
    authors' code. (They give the cutoff in epochs: multiply by the steps of one.)

    References
    ----------
    .. [1] Z. Liu, Z. Xu, J. Jin, Z. Shen, T. Darrell, "Dropout reduces underfitting", ICML 2023.
    """

    p: float
    cutoff: int
    shape: Literal["constant", "linear"] = "constant"

    def __post_init__(self) -> None:
        checked_rate(self.p, "p")
        at_least_one(self.cutoff, "cutoff")
        if self.shape not in ("constant", "linear"):
            raise ValueError(f"shape must be 'constant' or 'linear'; got {self.shape!r}")

    def rate(self, step: int) -> float:
        """Return the rate."""
        if step >= self.cutoff:
            return 0.0
        fallen = step / max(1, self.cutoff - 1) if self.shape == "linear" else 0.0
        return self.p * (1.0 - fallen)


@dataclass(frozen=True)
class Late(Schedule):
    """Late dropout: none in the first `cutoff` steps, `p` after them; see `Early`."""

    p: float
    cutoff: int

    def __post_init__(self) -> None:
        checked_rate(self.p, "p")
        at_least_one(self.cutoff, "cutoff")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p if step >= self.cutoff else 0.0


@dataclass(frozen=True)
class Curriculum(Schedule):
    """Curriculum dropout: from none towards `p`, p (1 - exp(-gamma t)), t in updates of the weights.

    The paper's heuristic for `gamma` is 10 over the number of updates. Its theta is 1 minus this rate. The opposite
    (its "anti-curriculum") is ``Exponential(p, 0.0, gamma)``.

    References
    ----------
    .. [1] P. Morerio, J. Cavazza, R. Volpi, R. Vidal, V. Murino, "Curriculum dropout", ICCV 2017.
    """

    p: float
    gamma: float

    def __post_init__(self) -> None:
        checked_rate(self.p, "p")
        positive_number(self.gamma, "gamma")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p * (1.0 - math.exp(-self.gamma * step))


def layerwise(p: Any, depth: int, rule: Literal["paper", "timm"] = "paper") -> list[Scaled]:
    """Return a schedule for each layer, the deeper the more: `p`, a rate or a schedule, times `drop_path_rates` of 1."""
    return [Scaled(schedule_of(p, "p"), float(share)) for share in drop_path_rates(1.0, depth, rule)]


def scheduled_drop_path(p: float, num_cells: int, steps: int) -> list[Scaled]:
    """Return the rate of dropping paths for each cell: linear in the cell's depth, and in the step until `steps`.

    Cell c, from 0, has p (c + 1) / num_cells min(1, step / steps), as in the code of NASNet.

    References
    ----------
    .. [1] B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le, "Learning transferable architectures for scalable image
       recognition", CVPR 2018.
    """
    return layerwise(Linear(0.0, p, steps), at_least_one(num_cells, "num_cells"))


# Of others ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled(Schedule):
    """A schedule times a factor of 0 or more; never above 1."""

    schedule: Any
    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", schedule_of(self.schedule))
        if finite_number(self.factor, "factor") < 0:
            raise ValueError(f"factor must be 0 or more; got {self.factor!r}")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.factor * float(self.schedule(step))

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedule."""
        return {"schedule": self.schedule}


@dataclass(frozen=True)
class Clipped(Schedule):
    """A schedule, kept between two rates."""

    schedule: Any
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", schedule_of(self.schedule))
        check_bounds(self.low, self.high)

    def rate(self, step: int) -> float:
        """Return the rate."""
        return min(self.high, max(self.low, float(self.schedule(step))))

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedule."""
        return {"schedule": self.schedule}


def check_bounds(low: Any, high: Any) -> None:
    if checked_rate(low, "low") > checked_rate(high, "high"):
        raise ValueError(f"low must not be above high; got low {low!r} and high {high!r}")


@dataclass(frozen=True)
class Phases(Schedule):
    """Schedules one after the other, each counting its steps from its own beginning.

    Parameters
    ----------
    schedules : sequence of schedules or rates
        In their order.
    lengths : sequence of int
        The steps of each but the last, which does not end.

    Examples
    --------
    DropHead's rate falls to 0, and rises again:

    >>> from fastdrop.schedules import Linear, Phases
    >>> p = Phases((Linear(0.2, 0.0, 100), Linear(0.0, 0.2, 900)), (100,))
    >>> p(0), p(50), p(100), p(1000)
    (0.2, 0.1, 0.0, 0.2)
    """

    schedules: Any
    lengths: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedules", tuple(schedule_of(one, "schedules") for one in self.schedules))
        object.__setattr__(self, "lengths", tuple(at_least_one(length, "lengths") for length in self.lengths))
        if len(self.schedules) != len(self.lengths) + 1:
            raise ValueError(
                f"lengths must have one entry fewer than schedules, as the last does not end; got {len(self.lengths)} for "
                f"{len(self.schedules)}"
            )

    def rate(self, step: int) -> float:
        """Return the rate."""
        for schedule, length in zip(self.schedules, self.lengths, strict=False):
            if step < length:
                return float(schedule(step))
            step -= length
        return float(self.schedules[-1](step))

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedules, numbered."""
        return {str(number): schedule for number, schedule in enumerate(self.schedules)}


# Of what is measured ------------------------------------------------------------------------------------------------


class ValidationDriven(Schedule):
    """A rate that follows the generalization gap: up while the gap grows, down while it shrinks.

    Tell it the losses from time to time (`update`), say after each epoch. The rate moves by `change` when the gap,
    validation loss minus training loss, has moved by more than `tolerance` since the rate last moved (or since the
    first update): smaller movements add up, and noise within the tolerance does nothing.

    Parameters
    ----------
    p : float
        The rate to begin with.
    change : float
        By how much it moves, above 0.
    tolerance : float
        How far the gap may go without an answer, 0 or more, in the unit of the loss.
    low, high : float
        The bounds of the rate.

    Attributes
    ----------
    p : float
        The rate now.

    Examples
    --------
    >>> from fastdrop.schedules import ValidationDriven
    >>> p = ValidationDriven(0.2, change=0.1, tolerance=0.05)
    >>> p.update(training_loss=1.0, validation_loss=1.1)
    0.2
    >>> round(p.update(0.8, 1.0), 3), round(p.update(0.7, 0.93), 3)  # a larger gap; as good as the same
    (0.3, 0.3)
    """

    def __init__(self, p: float, *, change: float = 0.05, tolerance: float = 0.0, low: float = 0.0, high: float = 0.8) -> None:
        check_bounds(low, high)
        if not low <= checked_rate(p, "p") <= high:
            raise ValueError(f"p must be between low and high, {low!r} and {high!r}; got {p!r}")
        if finite_number(tolerance, "tolerance") < 0:
            raise ValueError(f"tolerance must be 0 or more; got {tolerance!r}")
        self.p, self.low, self.high = float(p), low, high
        self.change, self.tolerance = positive_number(change, "change"), tolerance
        self._gap = math.nan  # when the rate last moved; none yet

    def rate(self, step: int) -> float:
        """Return the rate now; the step does not enter."""
        return self.p

    def update(self, training_loss: float, validation_loss: float) -> float:
        """Take in new losses, both finite, and return the rate from now on."""
        with plan.RoundToNearest():
            gap = finite_number(validation_loss, "validation_loss") - finite_number(training_loss, "training_loss")
            moved = 0.0 if math.isnan(self._gap) else gap - self._gap
            if abs(moved) > self.tolerance:
                self.p = min(self.high, max(self.low, self.p + math.copysign(self.change, moved)))
                self._gap = gap
            elif math.isnan(self._gap):
                self._gap = gap
        return self.p

    def state_dict(self) -> dict[str, Any]:
        """Return the rate, and the gap when it last moved (NaN before the first update)."""
        return {"p": self.p, "gap": self._gap}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        require_entries(state, self.state_dict(), "the schedule ValidationDriven")
        self.p, self._gap = checked_rate(state["p"], "p"), float(state["gap"])


# Plots --------------------------------------------------------------------------------------------------------------


def plot(schedules: Mapping[str, StepToRate] | Iterable[StepToRate], steps: int, ax: Any = None) -> Any:
    """Draw the rates of the first steps.

    Parameters
    ----------
    schedules : mapping of str to schedule, or iterable of schedules
        A curve each; a mapping's keys become the legend.
    steps : int
        How many, at least 1.
    ax : matplotlib.axes.Axes, optional
        Where to; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    count = at_least_one(steps, "steps")
    if ax is None:
        ax = new_axes()
    named = schedules if isinstance(schedules, Mapping) else {f"_{number}": one for number, one in enumerate(schedules)}
    points = sorted({round(k * (count - 1) / (MOST_POINTS - 1)) for k in range(MOST_POINTS)})
    for name, schedule in named.items():
        ax.plot(points, [schedule(step) for step in points], label=name)
    ax.set(xlabel="step", ylabel="rate p", ylim=(0, None))
    if any(not name.startswith("_") for name in named):  # Matplotlib leaves out what begins so
        ax.legend()
    return ax


def new_axes() -> Any:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ImportError('plots need Matplotlib: pip install "fastdrop-kernels[plot]"') from error
    return pyplot.subplots(layout="constrained")[1]
