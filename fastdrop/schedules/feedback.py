"""A schedule that follows the validation loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number, as_non_negative_number, as_positive_number, as_share
from fastdrop._core.state import require_entries
from fastdrop.schedules.arguments import check_bounds
from fastdrop.schedules.base import Schedule

__all__ = ["ValidationDriven"]


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

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in super().own_config().items())
        return f"{type(self).__name__}({arguments})"

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
            The state is not a dictionary; entries are missing or unknown, or the rate is not between `low` and `high`.
        """
        require_entries(state, self.state_dict(), "the schedule ValidationDriven")
        self.p = self._within_bounds(state["p"])
