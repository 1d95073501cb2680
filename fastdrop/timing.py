"""Measuring calls against one of them: interleaved in one process, in random order, compared round by round.

A machine's speed drifts from minute to minute, so absolute times of two calls measured one after the other say little
about the two. Here every round runs all of them, and what is reported is the median over the rounds of their ratio.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

__all__ = ["Effort", "Timing", "interleave"]

Call = Callable[[], Any]

LEAST_SAMPLE = 2e-3  # seconds; a faster call is repeated for so long


@dataclass(frozen=True)
class Timing:
    """How long one call takes."""

    seconds: float  # the median over the rounds
    ratio: float  # to the baseline: the median of the ratios within a round
    rounds: int


@dataclass(frozen=True)
class Effort:
    """How long to measure calls side by side."""

    seconds: float  # for each call; one that has had them sits out the later rounds
    least_rounds: int = 3  # for each call, whatever `seconds` says
    patience: float = math.inf  # seconds for all; after them no round begins, except the first
    most_rounds: int = 101


def sample(call: Call, repeats: int) -> float:
    """Return the seconds that a call takes, over some repeats; one call before them brings its data into the caches."""
    if repeats > 1:
        call()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def repeats_of(call: Call, check: Callable[[Any], None]) -> int:
    """Check a call's result, and return how often to run it for one sample."""
    began = time.perf_counter()
    result = call()
    once = time.perf_counter() - began
    check(result)
    if once < LEAST_SAMPLE:
        once = sample(call, 2)
    return max(1, round(LEAST_SAMPLE / once))


def interleave(
    calls: Mapping[str, Call],
    baseline: str,
    effort: Effort,
    check: Callable[[str, Any], None] = lambda name, result: None,
) -> dict[str, Timing]:
    """Measure calls side by side.

    Parameters
    ----------
    calls : mapping of str to callable
        What to measure.
    baseline : str
        The call that the others are compared with; it runs in every round.
    effort : Effort
        How long.
    check : callable, optional
        Is given each call's name and result before the call is timed, to raise where it is wrong.

    Returns
    -------
    dict of str to Timing
    """
    repeats = {name: repeats_of(call, partial(check, name)) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    end = time.perf_counter() + effort.patience
    for number in range(effort.most_rounds):
        few = number < effort.least_rounds
        due = [n for n in calls if few or sum(times[n]) * repeats[n] < effort.seconds or n == baseline]
        if number and (due == [baseline] or time.perf_counter() > end):
            break
        found = {name: sample(calls[name], repeats[name]) for name in order.sample(due, len(due))}
        for name, took in found.items():
            times[name].append(took)
            ratios[name].append(took / found[baseline])
    return {name: Timing(median(times[name]), median(ratios[name]), len(times[name])) for name in calls}
