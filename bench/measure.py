"""Measure calls side by side: interleaved in one process, in random order, compared within each round.

A machine's speed drifts from minute to minute, so two calls that are timed one after the other cannot be compared. Here every
round runs all calls. The result is the median over the rounds of the ratio within a round, with an interval from a bootstrap
over processes and rounds.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Effort", "Estimate", "Prepared", "Samples", "estimate", "interleave", "paired"]

LEAST_SAMPLE = 2e-3  # seconds; a shorter call is repeated for this time
RESAMPLES = 400


@dataclass(frozen=True)
class Effort:
    """How long to measure calls side by side."""

    seconds: float  # per call; a call that has used them skips the later rounds
    least_rounds: int = 3  # per call, whatever `seconds` says
    patience: float = math.inf  # seconds for all calls; after this time no round begins, except the first
    most_rounds: int = 101


@dataclass(frozen=True)
class Prepared:
    """A call, the context that it runs in, and a check of its first result, which raises if the result is wrong."""

    call: Callable[[], Any]
    using: Callable[[], AbstractContextManager[Any]] = nullcontext
    check: Callable[[Any], None] = lambda result: None


@dataclass
class Samples:
    """The times of one call in the rounds that it took part in, and the total of its seconds and processor seconds."""

    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0

    def add(self, number: int, took: float, wall: float, cpu: float) -> None:
        """Add the sample of a round."""
        self.rounds.append(number)
        self.seconds.append(took)
        self.wall += wall
        self.cpu += cpu

    @property
    def processors(self) -> float:
        """The average number of busy processors; it shows whether a library uses more threads than agreed."""
        return self.cpu / self.wall if self.wall else 0.0


def sample(prepared: Prepared, repeats: int) -> tuple[float, float]:
    """Return the seconds and processor seconds of `repeats` calls; if more than one, a call before them warms the caches."""
    call = prepared.call
    with prepared.using():
        if repeats > 1:
            call()
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            call()
        wall = time.perf_counter() - began
        return wall, time.process_time() - cpu


def repeats_of(prepared: Prepared) -> int:
    """Check a call's result, and return how many times to run the call for one sample."""
    with prepared.using():
        began = time.perf_counter()
        result = prepared.call()
        once = time.perf_counter() - began
    prepared.check(result)
    del result
    if once < LEAST_SAMPLE:
        once = sample(prepared, 2)[0] / 2
    return max(1, round(LEAST_SAMPLE / once))


def not_refused(name: str, error: Exception) -> None:
    raise error


def interleave(
    calls: Mapping[str, Prepared],
    baseline: str,
    effort: Effort,
    seed: int = 0,
    refused: Callable[[str, Exception], None] = not_refused,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Samples]:
    """Measure calls side by side.

    Parameters
    ----------
    calls : mapping of str to Prepared
        The calls to measure. Each result is checked before anything is timed.
    baseline : str
        The call that the others are compared with; it runs in every round.
    effort : Effort
        How long to measure.
    seed : int
        The seed of the order within the rounds.
    refused : callable, optional
        Receives the name and the exception of a call whose first run or check raises. This call is left out.
    begin : callable, optional
        Is called after all checks, before the rounds begin.

    Returns
    -------
    dict of str to Samples
    """
    repeats = {}
    for name, prepared in calls.items():
        try:
            repeats[name] = repeats_of(prepared)
        except Exception as error:
            refused(name, error)
    if baseline not in repeats:
        return {}
    found = {name: Samples() for name in repeats}
    begin()
    order = random.Random(seed)
    end = time.perf_counter() + effort.patience
    for number in range(effort.most_rounds):
        few = number < effort.least_rounds
        due = [name for name in repeats if few or found[name].wall < effort.seconds or name == baseline]
        if number and (due == [baseline] or time.perf_counter() > end):
            break
        for name in order.sample(due, len(due)):
            wall, cpu = sample(calls[name], repeats[name])
            found[name].add(number, wall / repeats[name], wall, cpu)
    return found


# Estimates from samples ---------------------------------------------------------------------------------------------

Rounds = Mapping[int, float]  # round number -> seconds


@dataclass(frozen=True)
class Estimate:
    """A median, its 95 % interval, and the number of values."""

    value: float
    low: float
    high: float
    n: int


def paired(one: Sequence[Rounds], other: Sequence[Rounds]) -> list[NDArray[np.float64]]:
    """Return, for each process, the ratios of two calls in the rounds that ran both."""
    return [
        np.array([a[number] / b[number] for number in sorted(a.keys() & b.keys())])
        for a, b in zip(one, other, strict=True)
        if a.keys() & b.keys()
    ]


def estimate(processes: Sequence[NDArray[np.float64]]) -> Estimate:
    """Return the median of all values and its bootstrap interval, which resamples processes and the values within each."""
    pooled = np.concatenate(processes)
    if len(pooled) == 1:
        return Estimate(float(pooled[0]), float(pooled[0]), float(pooled[0]), 1)
    rng, lengths = np.random.default_rng(0), np.array([len(values) for values in processes])
    longest = lengths.max()
    table = np.array([np.resize(values, longest) for values in processes])
    chosen = rng.integers(len(processes), size=(RESAMPLES, len(processes)))
    drawn = (rng.random((*chosen.shape, longest)) * lengths[chosen][..., None]).astype(int)
    values = table[chosen[..., None], drawn]
    values[np.arange(longest) >= lengths[chosen][..., None]] = np.nan  # shorter processes contribute fewer values
    low, high = np.percentile(medians(values.reshape(RESAMPLES, -1)), (2.5, 97.5))
    return Estimate(float(np.median(pooled)), float(low), float(high), len(pooled))


def medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each row without NaNs; `numpy.nanmedian` takes ten times as long."""
    ordered = np.sort(rows, axis=1)  # NaN last
    n = np.count_nonzero(~np.isnan(rows), axis=1)[:, None]
    middle: NDArray[np.float64] = np.take_along_axis(ordered, np.hstack([(n - 1) // 2, n // 2]), axis=1).mean(axis=1)
    return middle
