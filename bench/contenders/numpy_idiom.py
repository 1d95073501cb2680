"""The NumPy idiom, as people write it without a library: ``x * (rng.random(x.shape) >= p) * s``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..contender import EVERY_DTYPE, SEED, Adapter, Array, Call, Contender, Job

Generators = Callable[[int], Any]  # makes a bit generator from a seed

OPTIONS = EVERY_DTYPE | {"noise_shape", "bias", "residual", "rates"}


def new(generator: Generators, job: Job) -> Call:
    """Return a call of one expression, which allocates fresh memory for each of its parts."""
    rng, p = np.random.Generator(generator(SEED)), job.p

    def call() -> Array:
        x = job.x if job.bias is None else job.x + job.bias
        y: Array = x * (rng.random(job.mask_shape, dtype=np.float32) >= p) * job.scale
        return y if job.residual is None else job.residual + y

    return call


def with_out(generator: Generators, job: Job) -> Call:
    """Return a call that writes every step to allocated memory."""
    rng, p, scale, out = np.random.Generator(generator(SEED)), job.p, job.scale, job.out
    uniform, keep = np.ones(job.mask_shape, np.float32), np.ones(job.mask_shape, np.bool_)

    def call() -> Array:
        rng.random(out=uniform, dtype=np.float32)
        np.greater_equal(uniform, p, out=keep)
        x = job.x if job.bias is None else np.add(job.x, job.bias, out=out)
        np.multiply(x, keep, out=out)
        np.multiply(out, scale, out=out)
        return out if job.residual is None else np.add(out, job.residual, out=out)

    return call


def backward(generator: Generators, job: Job) -> Call:
    """Return a call that stores the scaled mask and uses it again for the gradient."""
    rng, (grad, grad_out) = np.random.Generator(generator(SEED)), job.gradients

    def call() -> tuple[Array, Array]:
        factor = (rng.random(job.x.shape, dtype=np.float32) >= job.p) * job.scale
        return np.multiply(job.x, factor, out=job.out), np.multiply(grad, factor, out=grad_out)

    return call


def mask(generator: Generators, job: Job) -> Call:
    rng = np.random.Generator(generator(SEED))
    return lambda: rng.random(job.x.shape, dtype=np.float32) >= job.p


def packed_mask(generator: Generators, job: Job) -> Call:
    make = mask(generator, job)
    return lambda: np.packbits(make(), bitorder="little")


def gaussian(generator: Generators, job: Job) -> Call:
    rng, deviation = np.random.Generator(generator(SEED)), np.float32((job.p / (1 - job.p)) ** 0.5)
    return lambda: job.x * (1 + deviation * rng.standard_normal(job.x.shape, dtype=np.float32))


WORKS = {"dropout": new, "backward": backward, "mask": mask, "packed mask": packed_mask, "gaussian": gaussian}


def both(name: str, label: str, generator: Generators) -> tuple[Contender, Contender]:
    """Return the idiom with a bit generator, with fresh memory and with `out=`."""
    works = {what: partial(make, generator) for what, make in WORKS.items()}
    out = {"dropout": partial(with_out, generator)}
    return (
        Contender(name, f"idiom, {label}", works, OPTIONS),
        Contender(f"{name}-out", f"idiom, {label}, out=", out, OPTIONS),
    )


ADAPTER = Adapter(
    (
        *both("idiom-pcg64", "PCG64", np.random.PCG64),
        *both("idiom-philox", "Philox", np.random.Philox),
        *both("idiom-sfc64", "SFC64", np.random.SFC64),
    ),
    distributions=("numpy",),
)
