"""fastdrop's adapter for JAX: `fastdrop.jax.dropout`, jitted."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np

from ..contender import SEED, Adapter, Call, Contender, Job

OPTIONS = frozenset({"float32", "float16", "bfloat16", "noise_shape", "bias", "residual"})  # JAX has float64 only on request


def function(job: Job) -> Any:
    """Return dropout as a user writes it, with the additions around it."""
    adapter, p, noise_shape = importlib.import_module("fastdrop.jax"), job.p, job.case.noise_shape

    def run(x: Any, key: Any, bias: Any, residual: Any) -> Any:
        y = adapter.dropout(x if bias is None else x + bias, p, key=key, noise_shape=noise_shape)
        return y if residual is None else residual + y

    return run


def arrays(job: Job) -> list[Any]:
    asarray = importlib.import_module("jax").numpy.asarray
    return [None if array is None else asarray(array) for array in (job.x, job.bias, job.residual)]


def keys() -> Any:
    """Return an iterator of keys with the words of the seed and of the number of the call."""
    numpy = importlib.import_module("jax").numpy
    return (numpy.array([0, SEED, 0, step], numpy.uint32) for step in itertools.count())


def dropout(job: Job) -> Call:
    run, (x, bias, residual), calls = importlib.import_module("jax").jit(function(job)), arrays(job), keys()
    return lambda: run(x, next(calls), bias, residual).block_until_ready()


def backward(job: Job) -> Call:
    jax = importlib.import_module("jax")
    run, x, grad, calls = function(job), jax.numpy.asarray(job.x), jax.numpy.asarray(job.gradients[0]), keys()

    @jax.jit
    def both(x: Any, grad: Any, key: Any) -> Any:
        y, pull = jax.vjp(lambda x: run(x, key, None, None), x)
        return y, pull(grad)[0]

    return lambda: jax.block_until_ready(both(x, grad, next(calls)))


def read(found: Any) -> Any:
    return tuple(map(read, found)) if isinstance(found, tuple) else np.asarray(found)


WORKS = {"dropout": dropout, "backward": backward}
ADAPTER = Adapter(
    (Contender("fastdrop.jax", "fastdrop.jax, jitted", WORKS, OPTIONS, "fastdrop", read=read, exact=True),),
    module="jax",
    distributions=("jax",),
)
