"""JAX, jitted, with its default generator and with its faster one."""

from __future__ import annotations

import importlib
import itertools
from functools import partial
from typing import Any

import numpy as np

from ..contender import SEED, Adapter, Call, Contender, Job

# JAX converts float64 to float32 unless the whole process is configured otherwise.
OPTIONS = frozenset({"float32", "float16", "bfloat16", "noise_shape", "bias", "residual", "rates"})


def function(job: Job) -> Any:
    """Return dropout as Flax implements it: a Bernoulli mask and a select."""
    jax = importlib.import_module("jax")
    numpy, shape = jax.numpy, job.mask_shape

    def keep_of(key: Any, p: Any) -> Any:
        return numpy.broadcast_to(jax.random.bernoulli(key, 1 - p, shape), job.x.shape)

    def run(key: Any, step: Any, x: Any, p: Any, bias: Any, residual: Any) -> Any:
        keep = keep_of(jax.random.fold_in(key, step), p)
        x = x if bias is None else x + bias
        y = numpy.where(keep, x / (1 - p), 0).astype(x.dtype)
        return y if residual is None else residual + y

    return run


def dropout(generator: str, job: Job) -> Call:
    jax = importlib.import_module("jax")
    key = jax.random.key(SEED, impl=generator)
    run = jax.jit(function(job) if isinstance(job.p, np.ndarray) else fixed_rate(function(job), job.p))
    arrays = [None if array is None else jax.numpy.asarray(array) for array in (job.x, job.p, job.bias, job.residual)]
    steps = itertools.count()
    return lambda: run(key, next(steps), *arrays).block_until_ready()


def fixed_rate(run: Any, p: float) -> Any:
    """Return the same function with a rate that is constant for the compiler."""
    return lambda key, step, x, _, bias, residual: run(key, step, x, p, bias, residual)


def mask(generator: str, job: Job) -> Call:
    jax = importlib.import_module("jax")
    key, steps = jax.random.key(SEED, impl=generator), itertools.count()
    run = jax.jit(lambda key, step: jax.random.bernoulli(jax.random.fold_in(key, step), 1 - job.p, job.x.shape))
    return lambda: run(key, next(steps)).block_until_ready()


def contender(name: str, label: str, generator: str) -> Contender:
    works = {"dropout": partial(dropout, generator), "mask": partial(mask, generator)}
    return Contender(name, f"JAX, jitted, {label}", works, OPTIONS)


ADAPTER = Adapter(
    (contender("jax-threefry", "threefry", "threefry2x32"), contender("jax-rbg", "rbg", "rbg")),
    module="jax",
    distributions=("jax", "jaxlib"),
)
