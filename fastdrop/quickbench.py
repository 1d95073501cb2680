"""The quick benchmark: the activations of a layer on real images, dropped by fastdrop and by what else there is.

Data, contenders and checks are here, measuring is in `fastdrop.timing`, printing in `fastdrop.cli`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop import _settings
from fastdrop.testing import Engine
from fastdrop.timing import Effort, Timing, interleave
from fastdrop.verify import Mismatch, every_engine

__all__ = [
    "BASELINE",
    "QUICK",
    "RATES",
    "SIZES",
    "THOROUGH",
    "Cell",
    "Contender",
    "Found",
    "contenders",
    "machine",
    "run",
    "step_count",
]

Array = NDArray[np.float32]

SIZES = {"64 K": 2**16, "4 M": 2**22, "64 M": 2**26}  # elements: in a core's own cache, in a shared one, in memory
RATES = (0.1, 0.5)
SEED = 42
BASELINE = "copy"
QUICK = Effort(seconds=0.3, least_rounds=3, patience=4)
THOROUGH = Effort(seconds=3, least_rounds=11)

Step = Callable[[str], None]  # is told what begins


def ignore(text: str) -> None:
    """Tell nobody."""


def step_count() -> int:
    """Return how often `run` tells of a step: each array is compared, those of a size are timed, at each rate."""
    return (2 * len(SIZES) + 1) * len(RATES)


# Data ---------------------------------------------------------------------------------------------------------------


def activations() -> Array:
    """Return scikit-learn's 1,797 handwritten digits behind a random layer of 1,024 rectified linear units."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError('the benchmark needs scikit-learn: pip install "fastdrop-kernels[bench]"') from error
    pixels = load_digits().data.astype(np.float32) / 16
    weights = np.random.default_rng(SEED).normal(0, pixels.shape[1] ** -0.5, (pixels.shape[1], 1024)).astype(np.float32)
    layer: Array = np.maximum(pixels @ weights, 0)
    return layer


def data() -> dict[str, Array]:
    """Return the activations, and arrays of each size made of them, over and over."""
    layer = activations()
    return {"activations": layer} | {name: np.resize(layer, n) for name, n in SIZES.items()}


def dropped_bits(engine: Engine, x: Array, p: float) -> NDArray[np.uint32]:
    with engine.using():
        return fastdrop.dropout(x, p, seed=SEED).view(np.uint32)


def require_same_bytes(arrays: dict[str, Array], step: Step) -> list[str]:
    """Check that all that can run here drops the same elements and gives the same bytes; return its names."""
    reference, *others = present = [engine for engine in every_engine() if not engine.missing()]
    for name, p in itertools.product(arrays, RATES):
        step(f"comparing bytes: {name}, p={p}")
        expected = dropped_bits(reference, arrays[name], p)
        for engine in others:
            if not np.array_equal(dropped_bits(engine, arrays[name], p), expected):
                raise Mismatch(f"{engine} and {reference} differ on {name}, p={p}")
    return [str(engine) for engine in present]


# Contenders ---------------------------------------------------------------------------------------------------------

Dropper = Callable[[], Array]


@dataclass(frozen=True)
class Contender:
    """A way to drop elements of an array."""

    label: str
    make: Callable[[Array, Array, float, int], Dropper]  # of the array, room for the result, the rate, the threads


def copy(x: Array, out: Array, p: float, threads: int) -> Dropper:
    def call() -> Array:
        np.copyto(out, x)
        return out

    return call


def by_fastdrop(backend: str | None, new: bool = False) -> Callable[[Array, Array, float, int], Dropper]:
    """Name a backend, or leave it out, as a program does that uses the default."""

    def make(x: Array, out: Array, p: float, threads: int) -> Dropper:
        room, offsets = None if new else out, itertools.count()
        return lambda: fastdrop.dropout(x, p, seed=SEED, offset=next(offsets), out=room, backend=backend)

    return make


def by_numpy(x: Array, out: Array, p: float, threads: int) -> Dropper:
    rng, scale = np.random.default_rng(SEED), np.float32(1 / (1 - p))
    return lambda: x * (rng.random(x.shape, dtype=np.float32) >= p) * scale


def by_torch(x: Array, out: Array, p: float, threads: int) -> Dropper:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    tensor = torch.from_numpy(x)
    return lambda: torch.nn.functional.dropout(tensor, p).numpy()


def contenders() -> dict[str, Contender]:
    """Return what can be measured here, the copy that all is compared with first."""
    found = {
        BASELINE: Contender("numpy.copyto", copy),
        "c": Contender(f"fastdrop, C ({fastdrop.get_isa()})", by_fastdrop(None)),
        "c-new": Contender("fastdrop, C, new result", by_fastdrop(None, new=True)),
    }
    if not Engine("numba").missing():
        found["numba"] = Contender("fastdrop, Numba", by_fastdrop("numba"))
    found["numpy"] = Contender("fastdrop, NumPy", by_fastdrop("numpy"))
    found["idiom"] = Contender("x * (random >= p) * s", by_numpy)
    if importlib.util.find_spec("torch"):
        found["torch"] = Contender("PyTorch F.dropout", by_torch)
    return found


# Measuring ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What one round of measurements found: every contender on one array at one rate."""

    size: str
    n: int
    p: float
    timings: dict[str, Timing]


def require_result(chosen: dict[str, Contender], x: Array, p: float, key: str, y: Array) -> None:
    """Check a result: a share of about p of the elements that were not 0 is 0 now, and the others are scaled."""
    rate = 0.0 if key == BASELINE else p
    scale, wrong = np.float32(1 / (1 - rate)), 0
    for begin in range(0, x.size, 2**18):  # a piece at a time stays in the caches
        part, made = x[begin : begin + 2**18], y[begin : begin + 2**18]
        wanted = part * scale
        wrong += int(np.count_nonzero((made != 0) & ~(np.abs(made - wanted) <= 1e-6 * wanted)))
    if wrong:
        raise Mismatch(f"{chosen[key].label}: {wrong} elements are neither 0 nor scaled by {scale}")
    alive = int(np.count_nonzero(x))
    share = 1 - int(np.count_nonzero(y)) / alive
    if abs(share - rate) > 6 * math.sqrt(rate * (1 - rate) / alive):
        raise Mismatch(f"{chosen[key].label} drops {share:.4%} instead of {rate:.4%}")


def measure(
    arrays: dict[str, Array],
    chosen: dict[str, Contender],
    threads: int,
    effort: Effort,
    step: Step,
) -> Iterator[Cell]:
    """Check and time the chosen contenders on each size at each rate."""
    for (size, n), p in itertools.product(SIZES.items(), RATES):
        step(f"timing: {size}, p={p}")
        x = arrays[size]
        out = np.ones_like(x)  # every page is touched before it is timed
        calls = {key: contender.make(x, out, p, threads) for key, contender in chosen.items()}
        check = partial(require_result, chosen, x, p)
        yield Cell(size, n, p, interleave(calls, BASELINE, effort, check))


@dataclass(frozen=True)
class Found:
    """What the benchmark found."""

    threads: int
    engines: list[str]  # all of which gave the same bytes
    cells: list[Cell]


def run(chosen: dict[str, Contender], *, threads: int = 1, effort: Effort = QUICK, step: Step = ignore) -> Found:
    """Compare bytes, check results, take times.

    Parameters
    ----------
    chosen : dict of str to Contender
        Of `contenders`, the baseline among them.
    threads : int
        For the contenders that can use more than one.
    effort : Effort
        How long to measure in each cell.
    step : callable, optional
        Is told what begins; `step_count` times in all.

    Returns
    -------
    Found

    Raises
    ------
    ImportError
        Without scikit-learn.
    Mismatch
        Two backends differ, or a contender does not do dropout.
    """
    with fastdrop.using(backend="c", num_threads=threads):
        arrays = data()
        engines = require_same_bytes(arrays, step)
        cells = list(measure(arrays, chosen, threads, effort, step))
    return Found(threads, engines, cells)


def machine() -> list[str]:
    """Say what the figures were measured on, and with which versions."""
    names = {"numpy": "NumPy", "numba": "Numba", "torch": "PyTorch"}
    found = [f"{name} {importlib.metadata.version(key)}" for key, name in names.items() if importlib.util.find_spec(key)]
    versions = [f"fastdrop {fastdrop.__version__}", *found, f"Python {platform.python_version()}"]
    return [f"{processor()}, {_settings.automatic_num_threads()} processors, {platform.system()}", ", ".join(versions)]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
