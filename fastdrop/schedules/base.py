"""The base class of schedules, and the schedules that it makes of others: scaled, clipped, one after the other."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number, as_non_negative_number, as_positive_count, as_share, check_iterable, scalar
from fastdrop._core.config import decode, encode, find_class, joined
from fastdrop._core.sharing import SHARED, Parts, share, shared_parts
from fastdrop._core.state import collect, distribute, require_entries
from fastdrop.schedules.arguments import StepToRate, as_constant_rate, check_bounds, convert
from fastdrop.schedules.plots import plot

__all__ = ["Clipped", "Constant", "Phases", "Scaled", "Schedule", "stateful_parts", "to_schedule"]


def to_schedule(value: Any, name: str = "schedule") -> StepToRate:
    """Return a schedule: the value itself if it is callable, or a constant schedule of a number."""
    return value if callable(value) else Constant(as_constant_rate(value, name))


def stateful_parts(name: str, parts: Mapping[str, Any]) -> Parts:
    """Yield the parts that have a state, and those inside schedules, with their full names in the object `name`."""
    for key, part in parts.items():
        if getattr(part, "state_dict", dict)():
            yield joined(name, key), part
            yield from stateful_parts(joined(name, key), part.parts() if isinstance(part, Schedule) else {})


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
        names = inspect.signature(type(self)).parameters
        absent = [name for name in names if not hasattr(self, name)]
        if absent:
            raise TypeError(f"{type(self).__name__} must define own_config(), because it has no attribute {', '.join(absent)}")
        return {name: getattr(self, name) for name in names}

    def to_config(self) -> dict[str, Any]:
        """Return the configuration: a dictionary that JSON can hold, from which `from_config` makes the schedule again.

        If one controller is in several places of the schedule, the configuration has their names.

        Examples
        --------
        >>> from fastdrop import schedules
        >>> schedules.Late(0.3, 100).to_config()
        {'class': 'Late', 'p': 0.3, 'cutoff': 100}
        """
        config = {"class": type(self).__name__, **{key: encode(value, key) for key, value in self.own_config().items()}}
        shared = shared_parts(stateful_parts("", self.parts()))
        return config | {SHARED: shared} if shared else config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Return the schedule of a configuration that `to_config` returned; ``Schedule.from_config`` takes that of any class.

        Raises
        ------
        TypeError, ValueError
            An unknown class, a missing argument or one that the class does not take, a damaged value, or a function in place
            of a schedule.

        Examples
        --------
        >>> from fastdrop import schedules
        >>> schedules.Schedule.from_config({"class": "Late", "p": 0.3, "cutoff": 100})
        Late(p=0.3, cutoff=100)
        """
        found = find_class(cls, config)
        given = {key: value for key, value in config.items() if key not in ("class", SHARED)}
        arguments = {key: decode(value, key, Schedule.from_config) for key, value in given.items()}
        taken = inspect.signature(found)
        try:
            taken.bind(**arguments)
        except TypeError as error:
            raise TypeError(f"{found.__name__}: {error}; it takes ({', '.join(taken.parameters)})") from None
        schedule = found(**arguments)
        return share(schedule, stateful_parts("", schedule.parts()), config[SHARED]) if SHARED in config else schedule

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
            The state is not a dictionary; entries are missing or unknown.
        """
        require_entries(state, self.state_dict(), f"the schedule {type(self).__name__}")
        distribute(self.parts(), state)


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
        convert(self, to_schedule, "schedule")
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
        convert(self, to_schedule, "schedule")
        check_bounds(self.low, self.high)
        convert(self, as_share, "low", "high")

    def rate(self, step: int) -> float:
        """Return the rate."""
        return min(self.high, max(self.low, as_finite_number(self.schedule(step), "the rate of the schedule")))

    def parts(self) -> dict[str, StepToRate]:
        """Return the schedule inside."""
        return {"schedule": self.schedule}


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
        object.__setattr__(self, "schedules", tuple(to_schedule(one, "each of schedules") for one in self.schedules))
        object.__setattr__(self, "lengths", tuple(as_positive_count(length, "each of lengths") for length in self.lengths))
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
