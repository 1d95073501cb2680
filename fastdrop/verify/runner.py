"""Checks that every backend and instruction set that runs on this machine gives the promised bytes.

The expected bytes are known answers from other programs, and those of the NumPy backend, which is the definition.
"""

from __future__ import annotations

import importlib
import importlib.resources
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop._core import native
from fastdrop.verify.cases import (
    DTYPES,
    OPS,
    REFERENCE,
    THREADED_SIZE,
    THREADS,
    TILE,
    Case,
    Engine,
    cases,
    compute,
    engines,
    equal_bytes,
    laid_cases,
    threads_on_small_arrays,
    zoo,
)
from fastdrop.verify.distributions import describe_others, find_others

__all__ = ["Mismatch", "Outcome", "checks", "every_engine"]


@dataclass(frozen=True)
class Outcome:
    """The result of a check; `passed` is None if the check was skipped, and `detail` says why."""

    engine: str
    check: str
    passed: bool | None
    detail: str
    seconds: float


class Mismatch(Exception):
    """A check failed; the text names the place."""


def every_engine() -> list[Engine]:
    """Return each backend and, for C, each instruction set, the reference first; some may be `missing`."""
    return [REFERENCE, *dict.fromkeys(replace(engine, num_threads=None) for engine in engines())]


def check_distributions() -> str:
    """Check that no other distribution has installed a package `fastdrop` over this one."""
    if names := find_others():
        raise Mismatch(describe_others(names))
    return "no other one has a package fastdrop"


def checks() -> Iterator[Outcome]:
    """Run every check with every backend and instruction set that runs here.

    Yields
    ------
    Outcome
        One outcome per check, when it ends. An exception in a check counts as its failure and is not raised.

    Examples
    --------
    >>> from fastdrop import verify
    >>> all(outcome.passed is not False for outcome in verify.checks())
    True
    """
    yield outcome("install", "one distribution", check_distributions)
    with REFERENCE.using():
        table = [Row(name, run, run()) for name, run in calls()]
    for engine in every_engine():
        if reason := engine.missing():
            yield Outcome(str(engine), "installed", None, reason, 0.0)
            continue
        for check in list_checks(engine):
            yield outcome(str(engine), check.__name__, partial(check, engine, table))
    yield from itertools.starmap(check_adapter, ADAPTERS.items())


def list_checks(engine: Engine) -> list[Check]:
    found: list[Check] = [known_answers, float_environment]
    if engine != REFERENCE:
        found.insert(1, bytes_of_reference)
    if engine.backend == "numba":
        found.insert(0, first_use)
    if engine.isa:
        found.append(contraction)
    return found


def outcome(engine: str, check: str, run: Callable[[], str]) -> Outcome:
    began = time.perf_counter()
    try:
        detail, passed = run(), True
    except Exception as error:  # a broken build may raise any exception; the other checks continue
        detail, passed = described(error), False
    return Outcome(engine, check.replace("_", " "), passed, detail, time.perf_counter() - began)


def described(error: Exception) -> str:
    return str(error) if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}"


# Adapters -----------------------------------------------------------------------------------------------------------


AdapterCases = Sequence[tuple[int, float]]  # numbers of elements, and rates
ADAPTER_CASES: AdapterCases = list(itertools.product((0, 1, 7, TILE + 1), (0.1, 0.5, 1.0)))


def check_adapter(name: str, check: Callable[[AdapterCases], str], cases: AdapterCases = ADAPTER_CASES) -> Outcome:
    """Run the check of an adapter, if the library that it is for is installed."""
    try:
        with backend_for_keras():
            importlib.import_module(name)
    except ModuleNotFoundError as error:  # it is missing, or, for Keras, its backend is
        return Outcome(name, "installed", None, str(error), 0.0)
    except Exception as error:  # it is broken; the other checks continue
        return Outcome(name, "installed", False, described(error), 0.0)
    return outcome(name, check.__name__, partial(check, cases))


def configured_backend() -> str:
    """Return the backend in Keras's file of settings, which Keras writes with its default."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((folder / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


@contextmanager
def backend_for_keras() -> Iterator[None]:
    """Name an installed backend to Keras if its default, TensorFlow, is not installed: it could not be imported."""
    chosen = os.environ.get("KERAS_BACKEND") or configured_backend() != "tensorflow" or find_spec("tensorflow")
    installed = [name for name in ("jax", "torch") if find_spec(name)]
    if chosen or not installed:
        yield
        return
    os.environ["KERAS_BACKEND"] = installed[0]
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]  # Keras reads it once, when it is imported


AdapterRun = Callable[[NDArray[Any], float, int], Sequence[NDArray[Any]]]


def compare(cases: AdapterCases, dtypes: Sequence[str], run: AdapterRun) -> str:
    """Compare an adapter's result and gradient for arrays, rates and seeds with NumPy's; the incoming gradient is the array."""
    for dtype, (n, p) in itertools.product(dtypes, cases):
        x = np.arange(1, n + 1).astype(dtype)
        wanted = fastdrop.dropout(x, p, seed=n)
        for what, found in zip(("result", "gradient"), run(x, p, n), strict=False):
            if not equal_bytes(np.asarray(found), wanted):
                raise Mismatch(f"{dtype}, {n} elements, p = {p}: the {what} must have the bytes of an array's")
    return ", ".join(dtypes)


def bytes_of_tensors(cases: AdapterCases) -> str:
    """Check the adapter for PyTorch."""
    import torch

    from fastdrop import torch as adapter

    def run(x: NDArray[Any], p: float, seed: int) -> list[NDArray[Any]]:
        leaf = torch.from_numpy(x).requires_grad_()
        y = adapter.dropout(leaf, p, seed=seed)
        return [y.detach().numpy(), torch.autograd.grad(y, leaf, leaf.detach())[0].numpy()]

    return f"{compare(cases, ('float32', 'float64', 'float16'), run)}, forward and backward, PyTorch {torch.__version__}"


def bytes_of_arrays(cases: AdapterCases) -> str:
    """Check the adapter for JAX, compiled. JAX has float64 only on request."""
    import jax

    from fastdrop import jax as adapter

    @partial(jax.jit, static_argnames="p")
    def both(x: Any, key: Any, p: float) -> Any:
        y, backward = jax.vjp(lambda x: adapter.dropout(x, p, key=key), x)
        return y, *backward(x)

    def run(x: NDArray[Any], p: float, seed: int) -> Any:
        return both(x, jax.random.key(seed), p)

    return f"{compare(cases, ('float32', 'float16'), run)}, forward and backward, JAX {jax.__version__}"


def bytes_of_layers(cases: AdapterCases) -> str:
    """Check the layer for Keras, on the backend that Keras runs on."""
    import keras

    name = keras.backend.backend()
    if name not in ("torch", "jax", "numpy"):
        return f"Keras {keras.__version__} runs on {name}, for which there are no layers"

    from fastdrop import keras as adapter

    def run(x: NDArray[Any], p: float, seed: int) -> list[NDArray[Any]]:
        layer = adapter.Dropout(p, seed=seed, dtype=str(x.dtype))
        return [keras.ops.convert_to_numpy(layer(x, training=True))]

    return f"{compare(cases, ('float32', 'float16'), run)}, forward, Keras {keras.__version__} on {name}"


def bytes_of_blocks(cases: AdapterCases) -> str:
    """Check the adapter for Dask, on blocks that end anywhere."""
    import dask
    import dask.array as da

    from fastdrop import dask as adapter

    def run(x: NDArray[Any], p: float, seed: int) -> list[NDArray[Any]]:
        return [adapter.dropout(da.from_array(x, 1000), p, seed=seed).compute(scheduler="synchronous")]

    return f"{compare(cases, ('float32', 'float64', 'float16'), run)}, forward, Dask {dask.__version__}"


def bytes_of_passes(cases: AdapterCases) -> str:
    """Check the layer for thinc."""
    import thinc

    from fastdrop import thinc as adapter

    def run(x: NDArray[Any], p: float, seed: int) -> list[NDArray[Any]]:
        y, backprop = adapter.Dropout(p, seed=seed)(x, is_train=True)
        return [y, backprop(x)]

    return f"{compare(cases, ('float32', 'float64', 'float16'), run)}, forward and backward, thinc {thinc.__version__}"


def bytes_of_compiled_code(cases: AdapterCases) -> str:
    """Check the function for code that Numba compiles."""
    import numba

    from fastdrop import numba_functions

    @numba.njit
    def compiled(x: Any, p: Any, seed: Any, out: Any) -> Any:
        return numba_functions.dropout(x, p, seed, 0, 0, out)

    def run(x: NDArray[Any], p: float, seed: int) -> list[NDArray[Any]]:
        return [compiled(x, p, seed, np.empty_like(x))]

    return f"{compare(cases, ('float32', 'float64'), run)}, forward, Numba {numba.__version__}"


ADAPTERS = {
    "torch": bytes_of_tensors,
    "jax": bytes_of_arrays,
    "keras": bytes_of_layers,
    "dask": bytes_of_blocks,
    "thinc": bytes_of_passes,
    "numba": bytes_of_compiled_code,
}


# The table ----------------------------------------------------------------------------------------------------------

Call = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """A call of the library, and the reference's answer."""

    name: str
    run: Call
    answer: NDArray[Any]


Check = Callable[[Engine, list[Row]], str]

# One in so many of the tests' cases is used. 23 is a prime number, so that each size, start and rate occurs where an operation
# has rates. Each operation with laid cases has at least 9 below THREADED_SIZE.
SAMPLE, LAID_SAMPLE = 23, 9


def sample() -> Iterator[Case]:
    """Yield a sample of each operation's cases, and a case of each kind of operation that takes several threads."""
    for op in OPS:
        yield from itertools.islice(cases(op), 0, None, SAMPLE)
    laid = (case for op in OPS for case in laid_cases(op) if case.n < THREADED_SIZE)
    yield from itertools.islice(laid, 0, None, LAID_SAMPLE)
    for number, (_, kind) in enumerate(itertools.groupby(OPS, lambda op: op.rpartition("-")[0])):
        dtypes = list(kind)
        yield Case(dtypes[number % len(dtypes)], THREADED_SIZE, start=77, p=0.3)


def calls() -> Iterator[tuple[str, Call]]:
    """Yield the calls for every engine: a sample of each operation's cases, and arrays of every memory layout."""
    for case in sample():
        yield str(case), partial(compute, case)
    for dtype in DTYPES:
        for layout, x in zoo(dtype).items():
            yield f"{dtype}, {layout}", partial(fastdrop.dropout, x, 0.1, seed=len(layout))


# The checks ---------------------------------------------------------------------------------------------------------


def require_equal(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise Mismatch(f"{name}: {got} instead of {expected}")


def require_answer(row: Row, got: NDArray[Any], circumstances: str) -> None:
    if not equal_bytes(got, row.answer):
        raise Mismatch(f"{row.name}, {circumstances}: the bytes are not the reference's")


def first_use(engine: Engine, table: list[Row]) -> str:
    """Compile or load the backend. This is no check; it keeps the compilation out of the times of the checks."""
    with engine.using():
        for row in table:
            row.run()
    return "compiled, or loaded"


def known_answers(engine: Engine, table: list[Row]) -> str:
    golden = json.loads(data_file("stream1_golden.json"))
    blocks = [line for line in data_file("philox4x32_10.kat").splitlines() if line and not line.startswith("#")]
    for line in blocks:
        counter, key, out = ([int(word, 16) for word in part.split()] for part in line.replace("->", "|").split("|"))
        require_equal(f"philox of {line}", list(engine.philox(counter, key)), out)
    with engine.using():
        for entry in golden["words"]:
            words = fastdrop.words(len(entry["words"]), **key_keywords(entry))
            require_equal(f"words of {key_keywords(entry)}", [f"{word:08x}" for word in words], entry["words"])
        for entry in golden["keep"]:
            mask = fastdrop.dropout_mask(entry["n"], entry["p"], packed=True, **key_keywords(entry))
            require_equal(f"mask of {key_keywords(entry)}, p={entry['p']}", mask.tobytes().hex(), entry["packed_little"])
        for entry in golden["fold_in"]:
            derived = fastdrop.fold_in(int(entry["seed"]), int(entry["data"]))
            require_equal(f"fold_in({entry['seed']}, {entry['data']})", derived, int(entry["result"]))
    return f"{len(blocks) + sum(len(golden[part]) for part in ('words', 'keep', 'fold_in'))} answers"


def data_file(name: str) -> str:
    return importlib.resources.files("fastdrop").joinpath("known_answers", name).read_text()


def key_keywords(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: int(entry[name]) for name in ("seed", "offset", "start")}


def thread_counts(engine: Engine) -> tuple[int, ...]:
    """Return the numbers of threads to try; the Python backends use one."""
    return (1, THREADS) if engine.isa else (1,)


def cases_on_threads(engine: Engine, rows: list[Row]) -> str:
    numbers = " and ".join(map(str, thread_counts(engine)))
    return f"{len(rows)} cases, {numbers} thread{'s' if engine.isa else ''}"


def bytes_of_reference(engine: Engine, table: list[Row]) -> str:
    for threads in thread_counts(engine):
        with threads_on_small_arrays(), replace(engine, num_threads=threads).using():
            for row in table:
                require_answer(row, row.run(), f"threads: {threads}")
    return cases_on_threads(engine, table)


def float_environment(engine: Engine, table: list[Row]) -> str:
    """Check that flushed subnormals and rounding toward zero in the calling thread change no bytes, and stay as they were."""
    calm = hostile = own_arithmetic()
    most = THREADED_SIZE if engine.isa else THREADED_SIZE - 1  # the Python backends use one thread, and are slow
    rows = [row for row in table if row.answer.dtype.name in DTYPES and TILE < row.answer.size <= most]
    for threads in thread_counts(engine):
        with threads_on_small_arrays(), replace(engine, num_threads=threads).using():
            for row in rows:
                got, hostile, after = run_in_hostile_environment(row.run)
                require_equal(f"{row.name}, threads: {threads}: the thread's own arithmetic after it", after, hostile)
                require_answer(row, got, f"threads: {threads}, flushing and rounding toward zero")
    if hostile == calm:
        return "this machine has no settings to change"
    return cases_on_threads(engine, rows)


def run_in_hostile_environment(run: Call) -> tuple[NDArray[Any], list[float], list[float]]:
    """Return the result of a call in a hostile floating-point environment, and the thread's arithmetic before and after it."""
    found = native.float_spoil()
    try:
        before = own_arithmetic()
        return run(), before, own_arithmetic()
    finally:
        native.float_end(found)


def own_arithmetic() -> list[float]:
    """Compute values that depend on the calling thread's rounding and its treatment of subnormals."""
    three, smallest = np.array([3.0]), np.array([2.0**-1074])
    return [(1.0 / three).item(), (-1.0 / three).item(), (smallest * 1.0).item()]


def contraction(engine: Engine, table: list[Row]) -> str:
    if native.contracts(str(engine.isa)):
        raise Mismatch("a * b + c is computed with one rounding: the build lacks -ffp-contract=off")
    return "a * b + c has two roundings"
