"""What the machine and NumPy can do on the same arrays: the copy and the multiplication that dropout is compared with."""

from __future__ import annotations

import numpy as np

from ..contender import EVERY_DTYPE, Adapter, Array, Call, Contender, Job

EVERYTHING = EVERY_DTYPE | {"noise_shape", "bias", "residual", "rates"}
WORKS = ("dropout", "backward", "mask", "packed mask", "gaussian", "concrete")


def copy(job: Job) -> Call:
    def call() -> Array:
        np.copyto(job.out, job.x)
        return job.out

    return call


def multiply(job: Job) -> Call:
    scale = job.x.dtype.type(1 / (1 - 0.1)) if isinstance(job.p, np.ndarray) else job.scale
    return lambda: np.multiply(job.x, scale, out=job.out)


def multiply_new(job: Job) -> Call:
    scale = job.scale
    return lambda: job.x * scale


ADAPTER = Adapter(
    (
        Contender("copy", "numpy.copyto", dict.fromkeys((*WORKS, "words"), copy), EVERYTHING, "yardstick"),
        Contender("multiply", "numpy.multiply, out=", dict.fromkeys(WORKS, multiply), EVERYTHING, "yardstick"),
        Contender("multiply-new", "x * s, new result", {"dropout": multiply_new}, EVERY_DTYPE, "yardstick"),
    ),
)
