"""MKL's vector statistics library, called directly: Bernoulli numbers for masks, uniforms for dropout.

This contender compares generators. MKL applies no masks, so NumPy does the rest of dropout, into allocated memory.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..contender import SEED, Adapter, Array, Call, Contender, Job

GENERATORS = {"philox": 16 << 20, "ars5": 15 << 20}  # VSL_BRNG_PHILOX4X32X10, VSL_BRNG_ARS5
ICDF = STANDARD = 0  # VSL_RNG_METHOD_BERNOULLI_ICDF, VSL_RNG_METHOD_UNIFORM_STD


def libraries() -> list[Path]:
    """Return the paths where the package mkl puts its library; the dynamic linker does not search this folder."""
    return sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))


def missing() -> str | None:
    return None if libraries() else 'mkl is not installed: pip install "fastdrop-kernels[peers]"'


@functools.cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(libraries()[-1]))


def stream(generator: str) -> ctypes.c_void_p:
    made = ctypes.c_void_p()
    demand(library().vslNewStream(ctypes.byref(made), ctypes.c_int(GENERATORS[generator]), ctypes.c_uint(SEED)))
    return made


def demand(status: int) -> None:
    if status:
        raise RuntimeError(f"MKL's VSL returned status {status}")


def address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def mask(generator: str, job: Job) -> Call:
    """Return a call that makes keep flags of 32 bits each; VSL has no smaller ones."""
    room, n, keep = np.ones(job.x.size, np.int32), ctypes.c_int(job.x.size), ctypes.c_double(1 - job.p)
    method, state, to, bernoulli = ctypes.c_int(ICDF), stream(generator), address(room), library().viRngBernoulli

    def call() -> Array:
        demand(bernoulli(method, state, n, to, keep))
        return room

    return call


def dropout(generator: str, job: Job) -> Call:
    uniform, keep = np.ones(job.x.shape, np.float32), np.ones(job.x.shape, np.bool_)
    n, method, state, to = ctypes.c_int(job.x.size), ctypes.c_int(STANDARD), stream(generator), address(uniform)
    begin, end, draw, scale = ctypes.c_float(0), ctypes.c_float(1), library().vsRngUniform, job.scale

    def call() -> Array:
        demand(draw(method, state, n, to, begin, end))
        np.greater_equal(uniform, job.p, out=keep)
        np.multiply(job.x, keep, out=job.out)
        np.multiply(job.out, scale, out=job.out)
        return job.out

    return call


def contender(name: str, label: str, generator: str) -> Contender:
    works: dict[str, Any] = {"mask": partial(mask, generator), "dropout": partial(dropout, generator)}
    return Contender(name, label, works, frozenset({"float32"}))


ADAPTER = Adapter(
    (
        contender("mkl-philox", "MKL VSL, Philox4x32x10", "philox"),
        contender("mkl-ars5", "MKL VSL, ARS-5", "ars5"),
    ),
    distributions=("mkl",),
    missing_here=missing,
)
