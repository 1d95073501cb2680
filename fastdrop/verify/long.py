"""The checks of ``fastdrop verify --long``: random cases until the time is over, large arrays, statistics.

A trial draws a random case and compares an engine with the NumPy backend, which is the definition. A trial that fails names its
case, from which it can be repeated. All that is random comes from one seed.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop._core.machine import free_memory
from fastdrop.verify.cases import (
    DTYPES,
    GEOMETRIES,
    OPS,
    RATES,
    RATES_OF,
    REFERENCE,
    THREADS,
    Case,
    Engine,
    awkward,
    compute,
    equal_bytes,
    threads_on_small_arrays,
)
from fastdrop.verify.runner import (
    ADAPTERS,
    Mismatch,
    Outcome,
    check_adapter,
    checks,
    every_engine,
    outcome,
    run_in_hostile_environment,
)

__all__ = ["long_checks"]

MOST = 10.0**5.3  # elements of a random case
PYTHON_THREADS = 4  # that call at the same time
Draw = np.random.Generator
Progress = Callable[[float, str], None]  # the share of the time that is over, and what runs


def long_checks(minutes: float, seed: int, progress: Progress = lambda share, what: None) -> Iterator[Outcome]:
    """Run the checks of `checks`, and then longer ones until `minutes` have passed.

    Parameters
    ----------
    minutes : float
        The time after which no further trial begins. Each kind of trial runs once at least. Large arrays are left out once
        half of the time is over.
    seed : int
        The seed of the random cases and of the statistics.
    progress : callable, optional
        A function that is called with the share of the time that is over, and the name of what begins.

    Yields
    ------
    Outcome
        One outcome per check; those of the trials at the end.
    """
    began = time.monotonic()

    def over() -> float:
        return (time.monotonic() - began) / (60 * minutes)

    for found in itertools.chain(checks(), statistics(seed), large_arrays(lambda: over() < 0.5)):
        progress(min(1.0, over()), f"{found.engine}, {found.check}")
        yield found
    tallies = [Tally(engine, *trial) for engine in every_engine() if not engine.missing() for trial in TRIALS.items()]
    draw = np.random.default_rng(seed)
    for number in itertools.count(1):
        for tally in tallies:
            progress(min(1.0, over()), f"{tally.engine}, {tally.check}, trial {number}")
            tally.add(draw)
        if over() >= 1:
            break
    yield from (tally.outcome() for tally in tallies)
    yield from random_adapter_cases(draw)


# Random cases -------------------------------------------------------------------------------------------------------


def any_number(draw: Draw, end: float) -> int:
    """Return an integer in [0, end), whose number of digits is random too."""
    return int(min(2 ** draw.uniform(0, np.log2(end)) - 1, end - 1))


def any_key(draw: Draw) -> fastdrop.Key:
    """Return a key of any seed and offset."""
    seed, offset = draw.integers(0, 2**64, 2, dtype=np.uint64)
    return fastdrop.Key(int(seed), int(offset))


def any_rate(draw: Draw) -> float:
    """Return a rate: one of `RATES`, one with few digits, any one."""
    return float(draw.choice([draw.choice(RATES), draw.integers(0, 1025) / 1024, draw.random(), 10 ** draw.uniform(-18, 0)]))


def any_case(draw: Draw) -> Case:
    """Return a random case of any operation."""
    op, key = str(draw.choice(list(OPS))), any_key(draw)
    laid = OPS[op].laid and draw.random() < 0.5
    n = any_number(draw, MOST) + laid  # an array that is laid over another has elements
    end = 2**39 if laid else OPS[op].end - n
    return Case(
        op,
        n,
        start=int(draw.choice([0, any_number(draw, end), end - any_number(draw, min(end, 2**20))])),
        p=any_rate(draw),
        seed=key.seed,
        offset=key.offset,
        geometry=str(draw.choice(list(GEOMETRIES))) if laid else "flat",
        rates=str(draw.choice(list(RATES_OF))) if laid else "one",
        past_caches=bool(draw.random() < 0.3),
    )


def answer(case: Case) -> NDArray[Any]:
    """Return the reference's result."""
    with REFERENCE.using():
        return compute(case)


def require_same(got: NDArray[Any], expected: NDArray[Any], about: object) -> None:
    if not equal_bytes(got, expected):
        raise Mismatch(f"{about}: the bytes are not the reference's")


# Trials: each takes an engine and random numbers, and raises `Mismatch` ------------------------------------------------


def random_case(engine: Engine, draw: Draw) -> None:
    """Compare a random case with the reference's result, with a random number of threads."""
    case, engine = any_case(draw), any_threads(engine, draw)
    with threads_on_small_arrays(), engine.using():
        require_same(compute(case), answer(case), (str(engine), case))


def hostile_settings(engine: Engine, draw: Draw) -> None:
    """Compare a random case under flushed subnormals and rounding toward zero; these must stay set."""
    case, engine = any_case(draw), any_threads(engine, draw)
    with threads_on_small_arrays(), engine.using():
        got, before, after = run_in_hostile_environment(partial(compute, case))
    require_same(got, answer(case), ("hostile", str(engine), case))
    if before != after:
        raise Mismatch(f"{engine}, {case}: the thread's floating-point settings were changed")


def random_cuts(engine: Engine, draw: Draw) -> None:
    """Compare the pieces of an array that is cut anywhere with the whole, and a block of a matrix with that part of it."""
    n, key, p = any_number(draw, MOST) + 2, any_key(draw), any_rate(draw)
    dtype, start = str(draw.choice(DTYPES)), any_number(draw, 2**55 - n)
    x = awkward(n, dtype)
    ends = [0, *np.sort(draw.integers(0, n + 1, int(draw.integers(1, 9)))).tolist(), n]
    with threads_on_small_arrays(), any_threads(engine, draw).using():
        whole = fastdrop.dropout(x, p, seed=key, start=start)
        pieces = [fastdrop.dropout(x[a:b], p, seed=key, start=start + a) for a, b in itertools.pairwise(ends)]
        require_same(np.concatenate(pieces), whole, (dtype, n, p, key, start, ends))
        columns = int(draw.integers(1, n))
        matrix = x[: n // columns * columns].reshape(-1, columns)
        low, high = (np.sort(draw.integers(0, size + 1, 2)) for size in matrix.shape)
        block = np.s_[low[0] : low[1], high[0] : high[1]]
        part = fastdrop.dropout(matrix[block], p, seed=key, global_shape=matrix.shape, global_start=(low[0], high[0]))
        require_same(part, fastdrop.dropout(matrix, p, seed=key)[block], (dtype, matrix.shape, block, p, key))


def python_threads(engine: Engine, draw: Draw) -> None:
    """Compare random cases that several Python threads compute at the same time."""
    cases = [any_case(draw) for _ in range(2 * PYTHON_THREADS)]

    def run(case: Case) -> NDArray[Any]:
        with engine.using():
            return compute(case)

    with threads_on_small_arrays(), ThreadPoolExecutor(PYTHON_THREADS) as pool:
        found = list(pool.map(run, cases))
    for case, got in zip(cases, found, strict=True):
        require_same(got, answer(case), (f"{PYTHON_THREADS} Python threads", str(engine), case))


def any_threads(engine: Engine, draw: Draw) -> Engine:
    """Return the engine with 1 to `THREADS` threads; the Python backends use one."""
    return replace(engine, num_threads=int(draw.integers(1, THREADS + 1))) if engine.isa else engine


Trial = Callable[[Engine, Draw], None]
TRIALS: dict[str, Trial] = {
    "random cases": random_case,
    "hostile settings": hostile_settings,
    "random cuts": random_cuts,
    "Python threads": python_threads,
}


@dataclass
class Tally:
    """The trials of one kind with one engine."""

    engine: Engine
    check: str
    trial: Trial
    number: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, draw: Draw) -> None:
        """Make one trial. An exception counts as its failure."""
        found = outcome(str(self.engine), self.check, self.run(draw))
        self.number += 1
        self.seconds += found.seconds
        if found.passed is False:
            self.failures.append(found.detail)

    def run(self, draw: Draw) -> Callable[[], str]:
        def trial() -> str:
            self.trial(self.engine, draw)
            return ""

        return trial

    def outcome(self) -> Outcome:
        """Return the outcome of all trials, with the first failure if there is one."""
        about = f"{self.number} trials"
        if self.failures:
            about = f"{len(self.failures)} of {about} failed; the first: {self.failures[0]}"
        return Outcome(str(self.engine), self.check, not self.failures, about, self.seconds)


def random_adapter_cases(draw: Draw) -> Iterator[Outcome]:
    """Yield the checks of the adapters, with random sizes and rates."""
    cases = [(any_number(draw, MOST), any_rate(draw)) for _ in range(20)]
    for name, check in ADAPTERS.items():
        found = check_adapter(name, check, cases)
        yield replace(found, check=f"{found.check}, random") if found.passed is not None else found


# Arrays of more than 2**31 elements ------------------------------------------------------------------------------------

LARGE = 2**31 + 4099
ENDS = (0, 2**31 - 2000, LARGE - 4000)  # the places that are compared


def large_arrays(has_time: Callable[[], bool]) -> Iterator[Outcome]:
    """Yield the checks of arrays of more than 2**31 elements, as far as they fit in half of the free memory and in the time."""
    for name, (function, itemsize) in LARGE_ARRAYS.items():
        needed = int(LARGE * itemsize)
        free = free_memory()
        if not 2 * needed <= free < math.inf:
            known = f"; {free / 2**30:.1f} are free" if free < math.inf else ""
            why = f"needs {2 * needed / 2**30:.1f} GiB of free memory, to use half of it{known}"
            yield Outcome("c", name, None, why, 0.0)
        elif not has_time():
            yield Outcome("c", name, None, "half of the time is over", 0.0)
        else:
            yield outcome("c", name, function)


def large_mask() -> str:
    """Compare parts of a packed mask with masks that begin there."""
    key = fastdrop.Key(71, 72)
    packed = fastdrop.dropout_mask(LARGE + 8 - LARGE % 8, 0.1, packed=True, seed=key, backend="c")
    for place in ENDS:
        first = place // 8
        part = fastdrop.dropout_mask(4000, 0.1, start=8 * first, packed=True, seed=key, backend="c")
        require_same(packed[first : first + 500], part, f"the mask from element {8 * first} on")
    return f"{LARGE} elements"


def large_array(dtype: str) -> str:
    """Compare parts of an array, which is dropped in place, with arrays that begin there."""
    key = fastdrop.Key(73, 74)
    x = np.ones(LARGE, dtype)
    fastdrop.dropout(x, 0.1, seed=key, out=x, backend="c")
    for place in ENDS:
        part = fastdrop.dropout(np.ones(4000, dtype), 0.1, seed=key, start=place, backend="c")
        require_same(x[place : place + 4000], part, f"the {dtype} array from element {place} on")
    return f"{LARGE} elements"


LARGE_ARRAYS: dict[str, tuple[Callable[[], str], float]] = {  # with the bytes per element
    "large mask": (large_mask, 1 / 8),
    "large float16 array": (partial(large_array, "float16"), 2),
    "large float32 array": (partial(large_array, "float32"), 4),
}


# Statistics ---------------------------------------------------------------------------------------------------------


def statistics(first: int) -> Iterator[Outcome]:
    """Yield the statistical tests of masks, whose seeds are counted from `first` on. They need SciPy."""
    try:
        from fastdrop.verify import randomness
    except ImportError as error:
        yield Outcome("masks", "statistics", None, str(error), 0.0)
        return

    def mask(n: int, p: float, *, seed: int, offset: int = 0) -> NDArray[Any]:
        return fastdrop.dropout_mask(n, p, seed=(first + seed) % 2**64, offset=offset)

    def run(test: randomness.Test) -> str:
        found = randomness.judge(test.function(mask, test.light))
        about = f"{found.number} p-values; probabilities {found.extreme:.2g} and {found.uniform:.2g}"
        if not found.passed:
            raise Mismatch(f"{about}, and {randomness.LEAST} is allowed; repeat it with another --seed")
        return about

    for name, test in randomness.TESTS.items():
        yield outcome("masks", name, partial(run, test))
