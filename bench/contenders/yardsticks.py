"""The yardsticks: NumPy's copy and multiplication on the same arrays, with which dropout is compared."""

from __future__ import annotations

import numpy as np

from ..contender import EVERY_DTYPE, Adapter, Array, Call, Contender, Job, Make
from ..variants import BACKWARD, CALL, FORWARD

EVERYTHING = EVERY_DTYPE | {"noise_shape", "bias", "residual", "rates"}
WORKS = ("dropout", "mask", "packed mask", "gaussian", "concrete", "call", FORWARD, BACKWARD, CALL)


def copy(job: Job) -> Call:
    def call() -> Array:
        np.copyto(job.out, job.x)
        return job.out

    return call


def copy_both(job: Job) -> Call:
    """Return a call that copies the arrays of both passes."""
    grad, grad_out = job.gradients

    def call() -> tuple[Array, Array]:
        np.copyto(job.out, job.x)
        np.copyto(grad_out, grad)
        return job.out, grad_out

    return call


def multiply(job: Job) -> Call:
    scale = job.x.dtype.type(1 / (1 - 0.1)) if isinstance(job.p, np.ndarray) else job.scale
    return lambda: np.multiply(job.x, scale, out=job.out)


def multiply_new(job: Job) -> Call:
    scale = job.scale
    return lambda: job.x * scale


def touch_new(job: Job) -> Call:
    step = 4096 // job.x.itemsize
    return lambda: np.empty_like(job.x).reshape(-1)[::step].fill(0)


COPIES: dict[str, Make] = {**dict.fromkeys((*WORKS, "words"), copy), "backward": copy_both}

ADAPTER = Adapter(
    (
        Contender("copy", "numpy.copyto", COPIES, EVERYTHING, "yardstick"),
        Contender("multiply", "numpy.multiply, out=", dict.fromkeys(WORKS, multiply), EVERYTHING, "yardstick"),
        Contender("multiply-new", "x * s, new result", {"dropout": multiply_new}, EVERY_DTYPE, "yardstick"),
        Contender("touch-new", "a new array, one write per page", {"dropout": touch_new}, EVERY_DTYPE, "yardstick"),
    ),
)
