"""Rates that grow with the depth of a layer."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_share
from fastdrop.schedules.base import Scaled, to_schedule
from fastdrop.schedules.curves import Linear

__all__ = ["drop_path_rates", "layerwise", "scheduled_drop_path"]


def drop_path_rates(p: float, depth: int, rule: Literal["paper", "timm"] = "paper") -> NDArray[np.float64]:
    """Return the rate of dropping the path of each block of a network: linear in the block's depth, up to `p`.

    Parameters
    ----------
    p : float
        The rate of the last block, in [0, 1].
    depth : int
        The number of blocks, in [0, 2**32).
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
        `p` is not a number in [0, 1], `depth` is out of range or not an integer, or `rule` is unknown.

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
    if count >= 2**32:
        raise ValueError(f"depth must be below 2**32; got {count}")
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
    return layerwise(Linear(0.0, as_share(p, "p"), steps), as_positive_count(num_cells, "num_cells"))
