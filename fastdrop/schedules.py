"""Rates that change in the course of training: small callables, step -> p, that can be pickled.

A step is one update of the weights; the first step is 0. All rates are computed in float64 and rounded to nearest, whatever
rounding mode the process has set. Schedules with an exponential or a cosine use the platform's functions, whose last bit may
differ between platforms. A mask differs then only where a random number falls between two neighbouring floats.

Examples
--------
>>> from fastdrop import schedules
>>> p = schedules.Linear(0.0, 0.5, 100)
>>> p(0), p(50), p(1000)
(0.0, 0.25, 0.5)
>>> p.clipped(0.1, 0.3)(50)
0.25
>>> [q(100) for q in schedules.layerwise(p, 4)]  # a larger rate for deeper layers
[0.125, 0.25, 0.375, 0.5]
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.checks import (
    as_finite_number,
    as_non_negative_number,
    as_positive_count,
    as_positive_number,
    as_share,
    check_iterable,
    scalar,
)
from fastdrop._core.config import decode, encode, find_class
from fastdrop._core.optional import axes
from fastdrop._core.state import collect, distribute, require_entries

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
    "drop_path_rates",
    "layerwise",
    "plot",
    "scheduled_drop_path",
]

StepToRate = Callable[[int], float]
MOST_POINTS = 1000  # the largest number of points of a plotted curve: more than a figure has pixels


def to_schedule(value: Any, name: str = "schedule") -> StepToRate:
    """Return a schedule: the value itself if it is callable, or a constant schedule of a number."""
    if callable(value):
        return value  # type: ignore[no-any-return]
    try:
        return Constant(as_share(value, name))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be schedules or rates in [0, 1]; got {value!r}") from None


def convert(schedule: Schedule, check: Callable[[Any, str], float], *names: str) -> None:
    """Replace numbers that a schedule was made with by those of `check`, so that no other type takes part in a rate."""
    for name in names:
        object.__setattr__(schedule, name, check(getattr(schedule, name), name))  # the dataclass is frozen


class Schedule:
    """The base class of all schedules: a schedule is called with a step and returns a rate.

    To write a schedule of your own, define ``rate(step)``. Its result is clipped to [0, 1].

    Examples
    --------
    >>> from fastdrop.schedules import Schedule
    >>> class Sawtooth(Schedule):
    ...     def rate(self, step):
    ...         return step % 10 / 20
    >>> Sawtooth()(5), Sawtooth()(15)
    (0.25, 0.25)
    """

    def __call__(self, step: int) -> float:
        """Return the rate at a step.

        Parameters
        ----------
        step : int
            The step, counted from 0.

        Returns
        -------
        float
            The rate, in [0, 1].

        Raises
        ------
        TypeError, ValueError
            The step is not an integer >= 0, or the rate is NaN.
        """
        number = plan.as_count(step, "step")
        with plan.RoundToNearest():
            rate = self.rate(number)
            rate = scalar(rate, f"the rate of {type(self).__name__}")
            if math.isnan(rate):
                raise ValueError(f"the rate of {type(self).__name__} must be a number; got {rate!r} at step {number}")
            return min(1.0, max(0.0, rate))

    def rate(self, step: int) -> float:
        """Return the rate at a step that is already checked."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(step)")

    def scaled(self, factor: float) -> Scaled:
        """Return this schedule times a factor; see `Scaled`."""
        return Scaled(self, factor)

    def clipped(self, low: float = 0.0, high: float = 1.0) -> Clipped:
        """Return this schedule with its rate kept between two bounds; see `Clipped`."""
        return Clipped(self, low, high)

    def then(self, after: int, schedule: Any) -> Phases:
        """Return this schedule for `after` steps, followed by another schedule; see `Phases`."""
        return Phases((self, schedule), (after,))

    def plot(self, steps: int, ax: Any = None) -> Any:
        """Draw the rate of the first steps, and return Matplotlib's axes; see `plot` for several curves in one figure."""
        return plot({type(self).__name__: self}, steps, ax)

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedules that this schedule contains, by name."""
        return {}

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that the schedule was made with, by name; by default the attributes of these names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def to_config(self) -> dict[str, Any]:
        """Return the configuration: a dictionary that JSON can hold, from which `from_config` makes the schedule again.

        Examples
        --------
        >>> from fastdrop import schedules
        >>> schedules.Late(0.3, 100).to_config()
        {'class': 'Late', 'p': 0.3, 'cutoff': 100}
        """
        return {"class": type(self).__name__, **{key: encode(value, key) for key, value in self.own_config().items()}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Return the schedule of a configuration that `to_config` returned; ``Schedule.from_config`` takes that of any class.

        Raises
        ------
        TypeError, ValueError
            An unknown class, arguments that the class does not take, or a function in place of a schedule.

        Examples
        --------
        >>> from fastdrop import schedules
        >>> schedules.Schedule.from_config({"class": "Late", "p": 0.3, "cutoff": 100})
        Late(p=0.3, cutoff=100)
        """
        found = find_class(cls, config)
        return found(**{key: decode(value, key, Schedule.from_config) for key, value in config.items() if key != "class"})

    def state_dict(self) -> dict[str, Any]:
        """Return the state that changes in the course of training; it is empty without a `ValidationDriven` inside."""
        return collect(self.parts())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Parameters
        ----------
        state : mapping of str to Any
            The state.

        Raises
        ------
        TypeError, ValueError
            The state is no dictionary; entries are missing or unknown.
        """
        require_entries(state, self.state_dict(), f"the schedule {type(self).__name__}")
        distribute(self.parts(), state)


# Shapes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at all steps.

    Parameters
    ----------
    p : float
        The rate.

    Raises
    ------
    TypeError, ValueError
        The rate is not a number in [0, 1].

    Examples
    --------
    >>> from fastdrop.schedules import Constant
    >>> Constant(0.3)(0), Constant(0.3)(1000)
    (0.3, 0.3)
    """

    p: float

    def __post_init__(self) -> None:
        convert(self, as_share, "p")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p


@dataclass(frozen=True)
class Ramp(Schedule):
    """The base class of schedules that go from the rate `start` to the rate `end` in `steps` steps, from step `begin` on."""

    start: float
    end: float
    steps: int
    begin: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        convert(self, as_share, "start", "end")
        convert(self, as_positive_count, "steps")
        convert(self, plan.as_count, "begin")

    def rate(self, step: int) -> float:
        """Return the rate: exactly `start` before the ramp, exactly `end` after it."""
        share = self.share(min(1.0, max(0, step - self.begin) / self.steps))
        return self.start * (1.0 - share) + self.end * share

    def share(self, progress: float) -> float:
        """Return the share of the way from `start` to `end`, after this share of the steps; both are in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} must define share(progress)")


@dataclass(frozen=True)
class Linear(Ramp):
    """A straight line from one rate to another.

    Parameters
    ----------
    start, end : float
        The first and the last rate.
    steps : int
        The number of steps from `start` to `end`, at least 1.
    begin : int, default 0
        The step at which the line begins.

    Raises
    ------
    TypeError, ValueError
        A rate is not in [0, 1], or a number of steps is out of range.

    Examples
    --------
    >>> from fastdrop.schedules import Linear
    >>> p = Linear(0.0, 0.4, 100, begin=50)
    >>> p(50), p(100), p(150)
    (0.0, 0.2, 0.4)
    """

    def share(self, progress: float) -> float:
        """Return the progress itself."""
        return progress


@dataclass(frozen=True)
class Cosine(Ramp):
    """Half a wave of a cosine from one rate to another, flat at both ends.

    Parameters
    ----------
    start, end, steps, begin
        As in `Linear`.

    Raises
    ------
    TypeError, ValueError
        As in `Linear`.

    Examples
    --------
    >>> from fastdrop.schedules import Cosine
    >>> p = Cosine(0.4, 0.0, 100)
    >>> p(0), round(p(50), 3), p(100)
    (0.4, 0.2, 0.0)
    """

    def share(self, progress: float) -> float:
        """Return (1 - cos(pi progress)) / 2."""
        return (1.0 - math.cos(math.pi * progress)) / 2.0


@dataclass(frozen=True)
class Polynomial(Ramp):
    """A power of the remaining time from one rate to another: end + (start - end) (1 - t / steps)**power.

    Parameters
    ----------
    start, end, steps, begin
        As in `Linear`.
    power : float, default 2
        The power, above 0.

    Raises
    ------
    TypeError, ValueError
        As in `Linear`; or the power is not above 0.

    Examples
    --------
    >>> from fastdrop.schedules import Polynomial
    >>> p = Polynomial(0.4, 0.0, 100, power=2)
    >>> p(0), p(50), p(100)
    (0.4, 0.1, 0.0)
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        convert(self, as_positive_number, "power")

    def share(self, progress: float) -> float:
        """Return 1 - (1 - progress)**power."""
        return 1.0 - math.pow(1.0 - progress, self.power)


@dataclass(frozen=True)
class Exponential(Schedule):
    """An exponential approach from one rate to another: end + (start - end) exp(-gamma t).

    Parameters
    ----------
    start, end : float
        The first rate, and the rate that is approached.
    gamma : float
        The speed per step, above 0.

    Raises
    ------
    TypeError, ValueError
        A rate is not in [0, 1], or `gamma` is not above 0.

    Examples
    --------
    >>> from fastdrop.schedules import Exponential
    >>> p = Exponential(0.5, 0.1, 0.01)
    >>> p(0), round(p(100), 3), round(p(1000), 3)
    (0.5, 0.247, 0.1)
    """

    start: float
    end: float
    gamma: float

    def __post_init__(self) -> None:
        convert(self, as_share, "start", "end")
        convert(self, as_positive_number, "gamma")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.end + (self.start - self.end) * math.exp(-self.gamma * step)


@dataclass(frozen=True)
class Stepwise(Schedule):
    """A rate that is multiplied by a factor after every `every` steps; it never goes above 1.

    Parameters
    ----------
    p : float
        The first rate.
    factor : float
        The factor, above 0.
    every : int
        The number of steps between two changes, at least 1.

    Raises
    ------
    TypeError, ValueError
        The rate is not in [0, 1], or another number is out of range.

    Examples
    --------
    >>> from fastdrop.schedules import Stepwise
    >>> p = Stepwise(0.8, 0.5, every=100)
    >>> p(99), p(100), p(200)
    (0.8, 0.4, 0.2)
    """

    p: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        convert(self, as_share, "p")
        convert(self, as_positive_number, "factor")
        convert(self, as_positive_count, "every")

    def rate(self, step: int) -> float:
        """Return the rate."""
        try:
            return self.p * self.factor ** (step // self.every) if self.p else 0.0
        except OverflowError:
            return 1.0


# Published schedules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Early(Schedule):
    """Early dropout: the rate `p` in the first `cutoff` steps and 0 after them, against underfitting.

    Parameters
    ----------
    p : float
        The first rate.
    cutoff : int
        The number of steps with dropout, at least 1. The paper gives it in epochs: multiply by the steps per epoch.
    shape : {"constant", "linear"}
        ``"constant"``: the rate is `p` until `cutoff`. ``"linear"``: it falls from `p` in the first step to 0 in the last step
        before `cutoff`, as in the authors' code.

    Raises
    ------
    TypeError, ValueError
        The rate is not in [0, 1], `cutoff` is below 1, or `shape` is unknown.

    References
    ----------
    .. [1] Z. Liu, Z. Xu, J. Jin, Z. Shen, T. Darrell, "Dropout reduces underfitting", ICML 2023.

    Examples
    --------
    >>> from fastdrop.schedules import Early
    >>> p = Early(0.4, 100)
    >>> p(99), p(100)
    (0.4, 0.0)
    """

    p: float
    cutoff: int
    shape: Literal["constant", "linear"] = "constant"

    def __post_init__(self) -> None:
        convert(self, as_share, "p")
        convert(self, as_positive_count, "cutoff")
        if not plan.is_one_of(self.shape, ("constant", "linear")):
            raise ValueError(f"shape must be 'constant' or 'linear'; got {self.shape!r}")

    def rate(self, step: int) -> float:
        """Return the rate."""
        if step >= self.cutoff:
            return 0.0
        fallen = step / max(1, self.cutoff - 1) if self.shape == "linear" else 0.0
        return self.p * (1.0 - fallen)


@dataclass(frozen=True)
class Late(Schedule):
    """Late dropout: the rate 0 in the first `cutoff` steps and `p` after them.

    Parameters
    ----------
    p : float
        The rate after `cutoff`.
    cutoff : int
        The number of steps without dropout, at least 1.

    Raises
    ------
    TypeError, ValueError
        The rate is not in [0, 1], or `cutoff` is below 1.

    References
    ----------
    .. [1] Z. Liu, Z. Xu, J. Jin, Z. Shen, T. Darrell, "Dropout reduces underfitting", ICML 2023.

    Examples
    --------
    >>> from fastdrop.schedules import Late
    >>> p = Late(0.4, 100)
    >>> p(99), p(100)
    (0.0, 0.4)
    """

    p: float
    cutoff: int

    def __post_init__(self) -> None:
        convert(self, as_share, "p")
        convert(self, as_positive_count, "cutoff")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p if step >= self.cutoff else 0.0


@dataclass(frozen=True)
class Curriculum(Schedule):
    """Curriculum dropout: a rate that rises from 0 towards `p`, p (1 - exp(-gamma t)), for step t.

    Parameters
    ----------
    p : float
        The rate that is approached. The paper's theta is 1 minus the rate.
    gamma : float
        The speed per step, above 0. The paper's heuristic is 10 divided by the number of all steps.

    Raises
    ------
    TypeError, ValueError
        The rate is not in [0, 1], or `gamma` is not above 0.

    See Also
    --------
    Exponential : ``Exponential(p, 0.0, gamma)`` is the paper's "anti-curriculum", whose rate falls.

    References
    ----------
    .. [1] P. Morerio, J. Cavazza, R. Volpi, R. Vidal, V. Murino, "Curriculum dropout", ICCV 2017.

    Examples
    --------
    >>> from fastdrop.schedules import Curriculum
    >>> p = Curriculum(0.5, 10 / 1000)
    >>> p(0), round(p(100), 3), round(p(1000), 3)
    (0.0, 0.316, 0.5)
    """

    p: float
    gamma: float

    def __post_init__(self) -> None:
        convert(self, as_share, "p")
        convert(self, as_positive_number, "gamma")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.p * (1.0 - math.exp(-self.gamma * step))


def drop_path_rates(p: float, depth: int, rule: Literal["paper", "timm"] = "paper") -> NDArray[np.float64]:
    """Return the rate of dropping the path of each block of a network: linear in the block's depth, up to `p`.

    Parameters
    ----------
    p : float
        The rate of the last block, in [0, 1].
    depth : int
        The number of blocks.
    rule : {"paper", "timm"}
        ``"paper"``: l / depth * p for l = 1 .. depth, so that the input has rate 0. ``"timm"``:
        l / (depth - 1) * p for l = 0 .. depth - 1, so that the first block has rate 0, even if it is the only one.

    Returns
    -------
    numpy.ndarray
        Of float64 and shape ``(depth,)``.

    Raises
    ------
    TypeError, ValueError
        `p` is not a number in [0, 1], `depth` is negative or not an integer, or `rule` is unknown.

    References
    ----------
    .. [1] G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> from fastdrop.schedules import drop_path_rates
    >>> drop_path_rates(0.5, 4)
    array([0.125, 0.25 , 0.375, 0.5  ])
    >>> drop_path_rates(0.5, 3, "timm")
    array([0.  , 0.25, 0.5 ])
    """
    last, count = plan.as_rate(p), plan.as_count(depth, "depth")
    if not plan.is_one_of(rule, ("paper", "timm")):
        raise ValueError(f"rule must be 'paper' or 'timm'; got {rule!r}")
    begin = 1 if rule == "paper" else 0
    with plan.RoundToNearest():
        return np.arange(begin, count + begin) / max(1, count - 1 + begin) * last


def layerwise(p: Any, depth: int, rule: Literal["paper", "timm"] = "paper") -> list[Scaled]:
    """Return one schedule per layer, with a larger rate for deeper layers: `p` times ``drop_path_rates(1.0, depth, rule)``.

    Parameters
    ----------
    p : float or callable
        The rate of the deepest layer, or its schedule.
    depth : int
        The number of layers.
    rule : {"paper", "timm"}
        As in `drop_path_rates`.

    Returns
    -------
    list of Scaled
        The schedules, from the first layer to the deepest.

    Raises
    ------
    TypeError, ValueError
        As in `drop_path_rates`; or `p` is neither a schedule nor a rate.

    Examples
    --------
    >>> from fastdrop.schedules import layerwise
    >>> [p(0) for p in layerwise(0.4, 4)]
    [0.1, 0.2, 0.30000000000000004, 0.4]
    """
    return [Scaled(to_schedule(p, "p"), float(share)) for share in drop_path_rates(1.0, depth, rule)]


def scheduled_drop_path(p: float, num_cells: int, steps: int) -> list[Scaled]:
    """Return the schedule of each cell's drop-path rate, linear in the cell's depth and in the step: ScheduledDropPath.

    Cell c, counted from 0, has the rate p (c + 1) / num_cells min(1, step / steps), as in the code of NASNet.

    Parameters
    ----------
    p : float
        The last rate of the last cell.
    num_cells : int
        The number of cells, at least 1.
    steps : int
        The number of steps in which the rates rise, at least 1.

    Returns
    -------
    list of Scaled
        The schedules, from the first cell to the last.

    Raises
    ------
    TypeError, ValueError
        The rate is not in [0, 1], or another number is out of range.

    References
    ----------
    .. [1] B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le, "Learning transferable architectures for scalable image
       recognition", CVPR 2018.

    Examples
    --------
    >>> from fastdrop.schedules import scheduled_drop_path
    >>> [p(50) for p in scheduled_drop_path(0.4, 2, 100)]
    [0.1, 0.2]
    """
    return layerwise(Linear(0.0, p, steps), as_positive_count(num_cells, "num_cells"))


# Schedules made of others -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled(Schedule):
    """A schedule times a factor; its rate never goes above 1.

    Parameters
    ----------
    schedule : callable or float
        A schedule, or a rate.
    factor : float
        The factor, >= 0.

    Raises
    ------
    TypeError, ValueError
        `schedule` is neither a schedule nor a rate, or `factor` is below 0.

    Examples
    --------
    >>> from fastdrop.schedules import Linear, Scaled
    >>> Scaled(Linear(0.0, 0.4, 100), 0.5)(100)
    0.2
    """

    schedule: Any
    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", to_schedule(self.schedule))
        convert(self, as_non_negative_number, "factor")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.factor * as_finite_number(self.schedule(step), "the rate of the schedule")

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedule inside."""
        return {"schedule": self.schedule}


@dataclass(frozen=True)
class Clipped(Schedule):
    """A schedule whose rate is kept between two bounds.

    Parameters
    ----------
    schedule : callable or float
        A schedule, or a rate.
    low, high : float, default 0 and 1
        The bounds, in [0, 1]; `low` is not above `high`.

    Raises
    ------
    TypeError, ValueError
        `schedule` is neither a schedule nor a rate, or a bound is out of range.

    Examples
    --------
    >>> from fastdrop.schedules import Clipped, Linear
    >>> p = Clipped(Linear(0.0, 0.4, 100), 0.1, 0.3)
    >>> p(0), p(50), p(100)
    (0.1, 0.2, 0.3)
    """

    schedule: Any
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", to_schedule(self.schedule))
        check_bounds(self.low, self.high)
        convert(self, as_share, "low", "high")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return min(self.high, max(self.low, as_finite_number(self.schedule(step), "the rate of the schedule")))

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedule inside."""
        return {"schedule": self.schedule}


def check_bounds(low: Any, high: Any) -> None:
    """Raise an error unless two numbers are bounds of a rate."""
    if as_share(low, "low") > as_share(high, "high"):
        raise ValueError(f"low must not be above high; got low {low!r} and high {high!r}")


@dataclass(frozen=True)
class Phases(Schedule):
    """Schedules one after the other; each counts its steps from its own beginning.

    Parameters
    ----------
    schedules : sequence of callable or float
        Schedules or rates, in order.
    lengths : sequence of int
        The number of steps of each schedule but the last, which does not end.

    Raises
    ------
    TypeError, ValueError
        A schedule is neither a schedule nor a rate, a length is below 1, or there is not one length fewer than schedules.

    Examples
    --------
    The rate of DropHead falls to 0 and rises again:

    >>> from fastdrop.schedules import Linear, Phases
    >>> p = Phases((Linear(0.2, 0.0, 100), Linear(0.0, 0.2, 900)), (100,))
    >>> p(0), p(50), p(100), p(1000)
    (0.2, 0.1, 0.0, 0.2)
    """

    schedules: Any
    lengths: Any

    def __post_init__(self) -> None:
        for name in ("schedules", "lengths"):
            check_iterable(getattr(self, name), name)
        object.__setattr__(self, "schedules", tuple(to_schedule(one, "schedules") for one in self.schedules))
        object.__setattr__(self, "lengths", tuple(as_positive_count(length, "lengths") for length in self.lengths))
        if len(self.schedules) != len(self.lengths) + 1:
            raise ValueError(
                "lengths must have one entry fewer than schedules, because the last schedule does not end; "
                f"got {len(self.lengths)} for {len(self.schedules)}"
            )

    def rate(self, step: int) -> float:
        """Return the rate."""
        for schedule, length in zip(self.schedules, self.lengths, strict=False):
            if step < length:
                return scalar(schedule(step), "the rate of the schedule")
            step -= length
        return scalar(self.schedules[-1](step), "the rate of the schedule")

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedules by their numbers."""
        return {str(number): schedule for number, schedule in enumerate(self.schedules)}


# Feedback -----------------------------------------------------------------------------------------------------------


class ValidationDriven(Schedule):
    """A controller that holds the generalization gap at a target by moving the rate.

    The gap is the validation loss minus the training loss. Call `update` with both losses at regular intervals, for example
    after each epoch. The rate rises while the gap is above the target and falls while it is below:
    p + gain (gap - target), moved by at most `max_change` per update and kept between `low` and `high`. The rate stays where
    the gap meets the target. A large gap that does not change raises the rate until `high`.

    Parameters
    ----------
    p : float
        The first rate.
    target : float
        The gap to hold, in the unit of the loss. Use a small gap that you would accept. At 0 the rate rises until the
        network no longer overfits at all, which usually costs accuracy.
    gain : float, default 0.1
        The change of the rate per update and per unit of the loss, above 0. A larger gain reacts faster. A gain that is too
        large makes the rate swing, because training reacts to a new rate with delay.
    max_change : float, default 0.05
        The largest change of the rate per update, above 0.
    tolerance : float, default 0
        The rate does not move while the gap is within this distance of the target; >= 0. Use it against noise.
    low, high : float, default 0 and 0.8
        The bounds of the rate.

    Attributes
    ----------
    p : float
        The current rate.

    Raises
    ------
    TypeError, ValueError
        A number is out of range, or `p` is not between `low` and `high`.

    Examples
    --------
    >>> from fastdrop.schedules import ValidationDriven
    >>> p = ValidationDriven(0.2, target=0.1, gain=0.5, max_change=0.1)
    >>> round(p.update(training_loss=0.5, validation_loss=0.7), 3)  # a gap of 0.2 is 0.1 above the target
    0.25
    >>> round(p.update(0.5, 1.5), 3), round(p.update(0.5, 0.6), 3)  # far above it; on it
    (0.35, 0.35)
    """

    def __init__(
        self,
        p: float,
        *,
        target: float,
        gain: float = 0.1,
        max_change: float = 0.05,
        tolerance: float = 0.0,
        low: float = 0.0,
        high: float = 0.8,
    ) -> None:
        check_bounds(low, high)
        self.low, self.high = float(low), float(high)
        self.p = self._first_rate = self._within_bounds(p)
        self.target, self.gain = as_finite_number(target, "target"), as_positive_number(gain, "gain")
        self.max_change = as_positive_number(max_change, "max_change")
        self.tolerance = as_non_negative_number(tolerance, "tolerance")

    def _within_bounds(self, p: Any) -> float:
        """Return a rate that is between the bounds, or raise."""
        rate = as_share(p, "p")
        if not self.low <= rate <= self.high:
            raise ValueError(f"p must be between low and high, {self.low!r} and {self.high!r}; got {p!r}")
        return rate

    def rate(self, step: int) -> float:
        """Return the current rate; it does not depend on the step."""
        return self.p

    def update(self, training_loss: float, validation_loss: float) -> float:
        """Move the rate according to new losses.

        Parameters
        ----------
        training_loss, validation_loss : float
            The losses, both finite and computed without dropout.

        Returns
        -------
        float
            The new rate.

        Raises
        ------
        TypeError, ValueError
            A loss is not a finite number. The rate does not change then.
        """
        with plan.RoundToNearest():
            gap = as_finite_number(validation_loss, "validation_loss") - as_finite_number(training_loss, "training_loss")
            excess = gap - self.target
            if abs(excess) > self.tolerance:
                change = min(self.max_change, max(-self.max_change, self.gain * excess))
                self.p = min(self.high, max(self.low, self.p + change))
        return self.p

    def own_config(self) -> dict[str, Any]:
        """Return the arguments; `p` is the first rate."""
        return super().own_config() | {"p": self._first_rate}

    def state_dict(self) -> dict[str, Any]:
        """Return the current rate, which is all that changes."""
        return {"p": self.p}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Parameters
        ----------
        state : mapping of str to Any
            The state.

        Raises
        ------
        TypeError, ValueError
            The state is no dictionary; entries are missing or unknown, or the rate is not between `low` and `high`.
        """
        require_entries(state, self.state_dict(), "the schedule ValidationDriven")
        self.p = self._within_bounds(state["p"])


# Plots --------------------------------------------------------------------------------------------------------------


def plot(schedules: Mapping[str, StepToRate] | Iterable[StepToRate], steps: int, ax: Any = None) -> Any:
    """Draw the rates of the first steps.

    Parameters
    ----------
    schedules : mapping of str to callable, or iterable of callable
        One curve per schedule. The keys of a mapping become the legend.
    steps : int
        The number of steps, at least 1.
    ax : matplotlib.axes.Axes, optional
        The axes to draw into. By default a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    TypeError, ValueError
        `steps` is not an integer of at least 1, `ax` is no axes, or a schedule returns no finite number.

    Examples
    --------
    >>> from fastdrop.schedules import Early, Late, plot
    >>> ax = plot({"early": Early(0.4, 100), "late": Late(0.4, 100)}, 200)  # doctest: +SKIP
    >>> ax.figure.savefig("rates.png")  # doctest: +SKIP
    """
    count = as_positive_count(steps, "steps")
    check_iterable(schedules, "schedules")
    named = schedules if isinstance(schedules, Mapping) else {f"_{number}": one for number, one in enumerate(schedules)}
    points = sorted({round(k * (count - 1) / (MOST_POINTS - 1)) for k in range(MOST_POINTS)})
    curves = {
        str(name): [as_finite_number(to_schedule(schedule)(step), "the rate of the schedule") for step in points]
        for name, schedule in named.items()
    }
    ax = axes(ax)
    for name, rates in curves.items():
        ax.plot(points, rates, label=name)
    ax.set(xlabel="step", ylabel="rate p", ylim=(0, None))
    if any(not name.startswith("_") for name in curves):  # Matplotlib leaves names that begin so out of the legend
        ax.legend()
    return ax
