"""numexpr: the idiom in one pass; NumPy makes the uniforms, because numexpr has no generator."""

from __future__ import annotations

import importlib

import numpy as np

from ..contender import SEED, Adapter, Array, Call, Contender, Job


def dropout(job: Job) -> Call:
    numexpr = importlib.import_module("numexpr")
    numexpr.set_num_threads(job.threads)
    rng = np.random.Generator(np.random.SFC64(SEED))
    names = {"x": job.x, "u": np.ones(job.x.shape, np.float32), "p": np.float32(job.p), "s": job.scale, "zero": np.float32(0)}
    text = "where(u >= p, x * s, zero)"
    if job.bias is not None:
        names["bias"], names["residual"] = job.bias, job.residual
        text = "residual + where(u >= p, (x + bias) * s, zero)"

    def call() -> Array:
        rng.random(out=names["u"], dtype=np.float32)
        numexpr.evaluate(text, names, {}, out=job.out, casting="same_kind")
        return job.out

    return call


ADAPTER = Adapter(
    (Contender("numexpr", "numexpr where(), SFC64", {"dropout": dropout}, frozenset({"float32", "bias", "residual"})),),
    module="numexpr",
    distributions=("numexpr",),
)
