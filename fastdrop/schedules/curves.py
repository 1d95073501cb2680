"""Schedules that are a function of the step alone: general shapes, and those of papers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_positive_number, as_share
from fastdrop.schedules.arguments import convert
from fastdrop.schedules.base import Schedule

__all__ = ["Cosine", "Curriculum", "Early", "Exponential", "Late", "Linear", "Polynomial", "Stepwise"]

# Shapes -------------------------------------------------------------------------------------------------------------


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
