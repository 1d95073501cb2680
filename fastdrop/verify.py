"""Checks of the machine at hand: that everything which can run here gives the bytes that are promised.

The expected bytes are known answers, written by other programs, and the NumPy backend's, which is the definition.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop import _native, _settings

__all__ = ["Engine", "Outcome", "checks", "first_difference", "installed_engines"]


@dataclass(frozen=True)
class Engine:
    """A backend, and for C an instruction set: something that can compute the stream."""

    backend: str
    isa: str | None = None

    def __str__(self) -> str:
        return f"{self.backend}, {self.isa}" if self.isa else self.backend

    def using(self, num_threads: int | None = None) -> AbstractContextManager[None]:
        """Have the library's functions run on it, in a block of code."""
        return fastdrop.using(backend=self.backend, isa=self.isa, num_threads=num_threads)

    def philox(self, counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
        """One block of the generator."""
        module = _settings.backend_module(self.backend)
        return tuple(_native.philox(self.isa, counter, key) if module is None else module.philox(counter, key))


@dataclass(frozen=True)
class Outcome:
    """How a check ended; `passed` is None where there was nothing to check, and `detail` says why."""

    engine: str
    check: str
    passed: bool | None
    detail: str
    seconds: float


class Mismatch(Exception):
    """A check failed: the text says where."""


REFERENCE = Engine("numpy")


def installed_engines() -> tuple[list[Engine], dict[str, str]]:
    """Return what can run here, the reference first; and the backends that do not load, with the reason of each."""
    engines, missing = [], {}
    for backend in sorted(_settings.BACKENDS, key=lambda name: name != REFERENCE.backend):
        try:
            _settings.checked_backend(backend)
            _settings.backend_module(backend)
        except ImportError as error:
            missing[backend] = str(error)
        else:
            isas = _settings.available_isas() if backend == "c" else [None]
            engines += [Engine(backend, isa) for isa in isas]
    return engines, missing


def checks() -> Iterator[Outcome]:
    """Run every check on everything that can run here.

    Yields
    ------
    Outcome
        As each check ends. A check that raises has failed: nothing is raised from here.

    Examples
    --------
    >>> from fastdrop import verify
    >>> all(outcome.passed is not False for outcome in verify.checks())
    True
    """
    engines, missing = installed_engines()
    with REFERENCE.using():
        expected = [(case, case.run()) for case in cases()]
    for engine in engines:
        for check in checks_of(engine):
            yield outcome(engine, check, expected)
    for backend, reason in missing.items():
        yield Outcome(backend, "installed", None, reason, 0.0)


def checks_of(engine: Engine) -> list[Check]:
    found = [known_answers, float_environment]
    if engine != REFERENCE:
        found.insert(1, bytes_of_reference)
    if engine.backend == "numba":
        found.insert(0, first_use)
    if engine.isa:
        found.append(contraction)
    return found


def outcome(engine: Engine, check: Check, expected: Expected) -> Outcome:
    began = time.perf_counter()
    try:
        detail, passed = check(engine, expected), True
    except Exception as error:  # whatever a broken build raises, the other checks go on
        detail, passed = str(error) if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}", False
    name = check.__name__.replace("_", " ")
    return Outcome(str(engine), name, passed, detail, time.perf_counter() - began)


# The cases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A call of the library, the same for every engine."""

    name: str
    run: Callable[[], NDArray[Any]]


Expected = list[tuple[Case, NDArray[Any]]]
Check = Callable[[Engine, Expected], str]

TILE = 4096  # elements that the C kernels work on at a time
SIZES = (0, 1, 31, 127, 128, 129, TILE - 1, TILE, TILE + 1, 2 * TILE + 3)
STARTS = (0, 1, 127, 2**39 - 1, 2**55 - SIZES[-1])
RATES = (0.0, 2.0**-64, 0.001, 0.1, 1 / 3, 0.5, 0.999, 1.0)
DTYPES: tuple[type[np.floating[Any]], ...] = (np.float32, np.float64)
LARGE = 3 * 8 * TILE + 5  # enough for three threads
SEED, OFFSET = 0x0123456789ABCDEF, 2**32 + 7


def values(n: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Ordinary numbers, every seventh replaced by one of those that go wrong first."""
    limits = np.finfo(dtype)
    special = [
        np.nan,
        np.inf,
        -np.inf,
        -0.0,
        limits.max,
        -limits.max,
        limits.smallest_subnormal,
        limits.tiny / 3,
        -limits.tiny,
    ]
    x = np.linspace(-3, 3, n).astype(dtype)
    x[::7] = np.resize(np.array(special, dtype), x[::7].size)
    return x


def cases() -> Iterator[Case]:
    """Yield the table: every size with every rate, the starts going round; then what needs size; then words."""
    for (n, p), start in zip(itertools.product(SIZES, RATES), itertools.cycle(STARTS), strict=False):
        key = {"p": p, "seed": SEED, "offset": OFFSET, "start": start}
        about = f"n={n} p={p:g} start={start}"
        for dtype in DTYPES:
            yield Case(f"dropout {dtype.__name__} {about}", partial(fastdrop.dropout, values(n, dtype), **key))
        yield Case(f"mask {about}", partial(fastdrop.dropout_mask, n, **key))
        yield Case(f"packed mask {about}", partial(fastdrop.dropout_mask, n, packed=True, **key))
    for dtype in DTYPES:
        yield from large_cases(dtype)
    for n, start in itertools.product((1, 6, TILE + 3), (0, 3, 2**34 - 2)):
        stream = {"seed": SEED, "offset": OFFSET, "start": start}
        yield Case(f"words n={n} start={start}", partial(fastdrop.words, n, **stream))
        for dtype in DTYPES:
            yield Case(f"uniform {dtype.__name__} n={n} start={start}", partial(fastdrop.uniform, n, dtype=dtype, **stream))


def large_cases(dtype: type[np.floating[Any]]) -> Iterator[Case]:
    """Yield calls that are large enough for threads: memory layouts, in place, standard mode."""
    x = values(LARGE + 3, dtype)
    square = x[: 300 * 327].reshape(327, 300)
    layouts = {"flat": x[:-3], "Fortran-ordered": square.T, "reversed": x[::-1], "stepped": square[::2, 1::3]}
    for name, array in layouts.items():
        yield Case(f"dropout {x.dtype} {name}", partial(fastdrop.dropout, array, 0.1, seed=SEED, offset=OFFSET))
    yield Case(f"dropout {x.dtype} in place", partial(in_place, x[3:], 0.3))
    for training in (True, False):
        run = partial(fastdrop.dropout, x[1:], 0.1, seed=SEED, mode="standard", training=training)
        yield Case(f"dropout {x.dtype} standard, training={training}", run)


def in_place(x: NDArray[Any], p: float) -> NDArray[Any]:
    out = x.copy()
    return fastdrop.dropout(out, p, seed=SEED, out=out)


# The checks ---------------------------------------------------------------------------------------------------------


def first_difference(got: NDArray[Any], expected: NDArray[Any]) -> str | None:
    """Say where two arrays differ, to the bit, or None. A NaN equals a NaN, as its payload is not promised."""
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return f"{got.dtype} of shape {got.shape} instead of {expected.dtype} of shape {expected.shape}"
    bits = f"u{got.dtype.itemsize}"
    a, b = np.ravel(got), np.ravel(expected)
    differs = a.view(bits) != b.view(bits)
    if a.dtype.kind == "f":
        differs &= ~(np.isnan(a) & np.isnan(b))
    if not differs.any():
        return None
    k = int(differs.argmax())
    return f"element {k} is {a[k]!s} instead of {b[k]!s}, {int(differs.sum())} of {a.size} differ"


def require_same(name: str, got: NDArray[Any], expected: NDArray[Any]) -> None:
    difference = first_difference(got, expected)
    if difference:
        raise Mismatch(f"{name}: {difference}")


def require_equal(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise Mismatch(f"{name}: {got} instead of {expected}")


def first_use(engine: Engine, expected: Expected) -> str:
    """Not a check: takes the compilation out of the time of those that follow."""
    with engine.using():
        for case, _ in expected:
            case.run()
    return "compiled"


def known_answers(engine: Engine, expected: Expected) -> str:
    golden = json.loads(data_file("stream1_golden.json"))
    rows = [line for line in data_file("philox4x32_10.kat").splitlines() if line and not line.startswith("#")]
    for row in rows:
        counter, key, out = (tuple(int(word, 16) for word in part.split()) for part in row.replace("->", "|").split("|"))
        require_equal(f"philox {row}", engine.philox(counter, key), out)
    with engine.using():
        for entry in golden["words"]:
            made = fastdrop.words(len(entry["words"]), **key_of(entry))
            require_equal(f"words of {key_of(entry)}", [f"{word:08x}" for word in made], entry["words"])
        for entry in golden["keep"]:
            mask = fastdrop.dropout_mask(entry["n"], entry["p"], packed=True, **key_of(entry))
            require_equal(f"mask of {key_of(entry)}, p={entry['p']}", mask.tobytes().hex(), entry["packed_little"])
        for entry in golden["fold_in"]:
            made = fastdrop.fold_in(int(entry["seed"]), int(entry["data"]))
            require_equal(f"fold_in({entry['seed']}, {entry['data']})", made, int(entry["result"]))
    return f"{len(rows) + sum(len(golden[part]) for part in ('words', 'keep', 'fold_in'))} answers"


def data_file(name: str) -> str:
    return importlib.resources.files("fastdrop.data").joinpath(name).read_text()


def key_of(entry: dict[str, Any]) -> dict[str, int]:
    return {name: int(entry[name]) for name in ("seed", "offset", "start")}


def bytes_of_reference(engine: Engine, expected: Expected) -> str:
    for threads in (1, 3):
        with engine.using(num_threads=threads):
            for case, answer in expected:
                require_same(f"{case.name}, {threads} threads", case.run(), answer)
    return f"{len(expected)} cases, 1 and 3 threads"


def float_environment(engine: Engine, expected: Expected) -> str:
    """With subnormals flushed and rounding toward zero in the calling thread: the same bytes, and left as it was."""
    calm = own_arithmetic()
    some = [(case, answer) for case, answer in expected if answer.dtype.kind == "f" and (answer.size > TILE)]
    for threads in (1, 3):
        with engine.using(num_threads=threads):
            for case, answer in some:
                name = f"{case.name}, {threads} threads, flushing and rounding toward zero"
                made, before, after = in_hostile_environment(case.run)
                require_equal(f"{name}: the calling thread's own arithmetic afterwards", after, before)
                require_same(name, made, answer)
    if before == calm:
        return "nothing to check: this machine has no such settings, or they cannot be reached"
    return f"{len(some)} cases, 1 and 3 threads"


def in_hostile_environment(run: Callable[[], NDArray[Any]]) -> tuple[NDArray[Any], list[float], list[float]]:
    found = _native.float_spoil()
    try:
        before = own_arithmetic()
        return run(), before, own_arithmetic()
    finally:
        _native.float_end(found)


def own_arithmetic() -> list[float]:
    """Compute what depends on the calling thread's rounding, and on its treatment of subnormals."""
    third, smallest = np.array([3.0]), np.array([2.0**-1074])
    return [float((1.0 / third)[0]), float((-1.0 / third)[0]), float((smallest * 1.0)[0])]


def contraction(engine: Engine, expected: Expected) -> str:
    if _native.contracts(engine.isa):
        raise Mismatch("a * b + c is computed with one rounding: the build lacks -ffp-contract=off")
    return "a * b + c has two roundings"
