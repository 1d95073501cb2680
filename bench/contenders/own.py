"""fastdrop with each backend, each instruction set and several numbers of threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

import fastdrop
from fastdrop._core import machine, native
from fastdrop.verify.cases import Engine

from ..contender import EVERY_DTYPE, SEED, Absent, Adapter, Array, Call, Contender, Job
from ..variants import BACKWARD, CALL, FORWARD, PLAIN_RATE, is_random

OPTIONS = EVERY_DTYPE | {"noise_shape", "bias", "residual", "rates"}


def dropout(job: Job, new: bool = False) -> Call:
    """Return a call with only the options that the work needs, as a user would write it."""
    options: dict[str, Any] = {"noise_shape": job.case.noise_shape, "bias": job.bias, "residual": job.residual, "out": job.out}
    options = {name: value for name, value in options.items() if value is not None}
    if new:
        del options["out"]
    call, offsets, x, p = fastdrop.dropout, itertools.count(), job.x, job.p
    if list(options) == ["out"]:  # spelt out: unpacking a dictionary would take measurable time in a small call
        out = job.out
        return lambda: call(x, p, seed=SEED, offset=next(offsets), out=out)
    return lambda: call(x, p, seed=SEED, offset=next(offsets), **options)


def backward(job: Job) -> Call:
    (grad, grad_out), offsets = job.gradients, itertools.count()

    def call() -> tuple[Array, Array]:
        offset = next(offsets)
        fastdrop.dropout(job.x, job.p, seed=SEED, offset=offset, out=job.out)
        fastdrop.dropout_backward(grad, job.p, seed=SEED, offset=offset, out=grad_out)
        return job.out, grad_out

    return call


def mask(job: Job, packed: bool) -> Call:
    offsets = itertools.count()
    return lambda: fastdrop.dropout_mask(job.x.shape, job.p, seed=SEED, offset=next(offsets), packed=packed)


def words(job: Job) -> Call:
    offsets = itertools.count()
    return lambda: fastdrop.words(job.x.size, seed=SEED, offset=next(offsets))


def gaussian(job: Job) -> Call:
    offsets = itertools.count()
    return lambda: fastdrop.gaussian_dropout(job.x, job.p, seed=SEED, offset=next(offsets), out=job.out)


def concrete(job: Job) -> Call:
    p_logit, offsets = math.log(job.p / (1 - job.p)), itertools.count()
    return lambda: fastdrop.concrete_dropout(job.x, p_logit, seed=SEED, offset=next(offsets), out=job.out)


def seeded(function: Callable[..., Any], options: dict[str, Any]) -> Callable[[int], Any]:
    """Return a function of the offset that calls a public function with the arguments of a row of the table of variants."""
    if is_random(function):
        return lambda offset: function(**options, seed=SEED, offset=offset)
    return lambda offset: function(**options)


def forward_at(job: Job) -> Callable[[int], Any]:
    """Return a variant's forward pass as a function of the offset."""
    function = job.work.variant.forward
    return seeded(function, job.work.options(function, job.work.out))


def backward_at(job: Job) -> Callable[[int], Any]:
    """Return a variant's backward pass as a function of the offset."""
    function = job.work.variant.backward
    assert function is not None
    return seeded(function, job.work.options(function, job.work.grad_out))


def both_at(job: Job) -> Callable[[int], Any]:
    """Return both passes of a variant as a function of the offset: the result, and the gradient of the input."""
    forward, backward = forward_at(job), backward_at(job)

    def call(offset: int) -> tuple[Any, Any]:
        y, dx = forward(offset), backward(offset)
        return y, dx[0] if isinstance(dx, tuple) else dx

    return call


def counted(at: Callable[[Job], Callable[[int], Any]]) -> Callable[[Job], Call]:
    """Return a function that makes a call with the next offset each time."""

    def make(job: Job) -> Call:
        call, offsets = at(job), itertools.count()
        return lambda: call(next(offsets))

    return make


def plain(job: Job) -> Call:
    """Return plain dropout on the array of a row of the table of variants, in the same direction."""
    offsets = itertools.count()
    call: Callable[..., Any] = fastdrop.dropout_backward if job.case.what == BACKWARD else fastdrop.dropout
    return lambda: call(job.x, PLAIN_RATE, seed=SEED, offset=next(offsets), out=job.out)


def natural(job: Job, name: str) -> Call:
    """Return a small call as users write it: with a stream as the seed, with a common keyword, or outside training."""
    x, p, out, offsets, call = job.x, job.p, job.out, itertools.count(), fastdrop.dropout
    stream = fastdrop.Stream(SEED)
    calls: dict[str, Call] = {
        "plain": lambda: call(x, p, seed=SEED, offset=next(offsets), out=out),
        "stream": lambda: call(x, p, seed=stream, out=out),
        "threads": lambda: call(x, p, seed=SEED, offset=next(offsets), out=out, num_threads=1),
        "backend": lambda: call(x, p, seed=SEED, offset=next(offsets), out=out, backend="c"),
        "evaluation": lambda: call(x, p, training=False, out=out),
    }
    return calls[name]


WORKS: dict[str, Callable[[Job], Call]] = {
    "dropout": dropout,
    "call": dropout,
    "backward": backward,
    "mask": partial(mask, packed=False),
    "packed mask": partial(mask, packed=True),
    "words": words,
    "gaussian": gaussian,
    "concrete": concrete,
    FORWARD: counted(forward_at),
    BACKWARD: counted(backward_at),
    CALL: counted(forward_at),
}


def on(engine: Engine, make: Callable[[Job], Call], least_threads: int = 1) -> Callable[[Job], Call]:
    """Return the same function, which raises Absent if the engine is not available."""

    def made(job: Job) -> Call:
        if engine.isa and not native.isas().get(engine.isa):
            raise Absent(f"this machine or build lacks the instruction set {engine.isa}")
        if least_threads > machine.automatic_num_threads():
            raise Absent(f"this process may use {machine.automatic_num_threads()} processors only")
        if reason := engine.missing():
            raise Absent(reason)
        return make(job)

    return made


def contender(name: str, label: str, engine: Engine, works: dict[str, Callable[[Job], Call]] = WORKS) -> Contender:
    does = {what: on(engine, make, engine.num_threads or 1) for what, make in works.items()}
    using = nullcontext if engine == Engine("c") else engine.using  # C is the process's setting; `using` would slow small calls
    return Contender(name, label, does, OPTIONS, "fastdrop", using, exact=True)


NATURAL = {
    "plain": "seed=, offset=",
    "stream": "a Stream as seed",
    "threads": "num_threads=1",
    "backend": 'backend="c"',
    "evaluation": "training=False",
}
EVALUATION = "call-evaluation"  # drops nothing
ISAS = ("portable", "avx2", "avx512", "neon")
THREADS = (1, 2, 4, 8, 16, 32, 64)

ADAPTER = Adapter(
    (
        contender("c", "fastdrop, C", Engine("c")),
        contender("c-new", "fastdrop, C, new result", Engine("c"), {"dropout": partial(dropout, new=True)}),
        Contender(
            "c-both", "fastdrop, C, both passes", {BACKWARD: counted(both_at)}, OPTIONS, "fastdrop", read=lambda found: found
        ),
        *(
            Contender(
                f"call-{name}",
                f"fastdrop, {text}",
                {"call": partial(natural, name=name)},
                OPTIONS,
                "fastdrop",
                exact=f"call-{name}" != EVALUATION,
            )
            for name, text in NATURAL.items()
        ),
        Contender("dropout", "plain dropout, p = 0.1", dict.fromkeys((FORWARD, BACKWARD), plain), OPTIONS, "yardstick"),
        contender("numba", "fastdrop, Numba", Engine("numba")),
        contender("numpy", "fastdrop, NumPy", Engine("numpy")),
        *(contender(f"c-{isa}", f"fastdrop, C, {isa}", Engine("c", isa)) for isa in ISAS),
        *(contender(f"c-{n}t", f"fastdrop, C, {n} thread{'s' * (n > 1)}", Engine("c", None, n)) for n in THREADS),
    ),
    distributions=("fastdrop-kernels", "numpy"),
)

REFERENCE = contender("reference", "the reference", Engine("numpy"))


def reference(job: Job) -> Any:
    """Return the bytes that the first call of every engine must give."""
    with REFERENCE.using():
        return copied(REFERENCE.does[job.case.what](job)())


def copied(found: Any) -> Any:
    """Return a copy of a result, because all contenders share the memory for it; a result may be several arrays."""
    if isinstance(found, (tuple, list)):
        return tuple(None if part is None else copied(part) for part in found)
    return np.array(found)
