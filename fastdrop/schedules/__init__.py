"""Rates that change in the course of training: small callables, step -> p, that can be pickled.

A step is one update of the weights; the first step is 0. All rates are computed in float64 and rounded to nearest, whatever
rounding mode the process has set. Schedules with an exponential, a cosine or a power use the platform's functions, whose last
bit may differ between platforms. A mask differs then only where a random number falls between two neighbouring floats.

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

from fastdrop.schedules.base import Clipped, Constant, Phases, Scaled, Schedule
from fastdrop.schedules.curves import Cosine, Curriculum, Early, Exponential, Late, Linear, Polynomial, Stepwise
from fastdrop.schedules.depth import drop_path_rates, layerwise, scheduled_drop_path
from fastdrop.schedules.feedback import ValidationDriven
from fastdrop.schedules.plots import plot

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
