"""Loops as a competent Numba user writes them: with its `np.random`, and with Philox4x32-10 and one word per element."""

from __future__ import annotations

import functools
import importlib
import itertools
from typing import Any

import numpy as np

from ..contender import PLAIN, SEED, Adapter, Array, Call, Contender, Job


def on_np_random(x: Array, out: Array, p: Any, scale: Any) -> None:
    for i in range(x.size):
        out[i] = x[i] * scale if np.random.random() >= p else 0  # noqa: NPY002


def on_philox(x: Array, out: Array, threshold: Any, scale: Any, key: Any, call: Any) -> None:
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for block in range((x.size + 3) // 4):
        c0, c1, c2, c3 = np.uint64(block), np.uint64(0), np.uint64(call), np.uint64(0)
        k0, k1 = np.uint64(key), np.uint64(0)
        for _ in range(10):
            a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
        words = (c0, c1, c2, c3)
        for k in range(4):
            i = 4 * block + k
            if i < x.size:
                out[i] = x[i] * scale if words[k] >= threshold else 0


@functools.cache
def compiled(function: Any) -> Any:
    return importlib.import_module("numba").njit(function)


def by_np_random(job: Job) -> Call:
    loop, x, out = compiled(on_np_random), job.x.reshape(-1), job.out.reshape(-1)
    scale = job.scale

    def call() -> Array:
        loop(x, out, job.p, scale)
        return job.out

    call()  # compiles
    return call


def by_philox(job: Job) -> Call:
    loop, x, out = compiled(on_philox), job.x.reshape(-1), job.out.reshape(-1)
    threshold, scale, calls = np.uint64(round(job.p * 2**32)), job.scale, itertools.count()

    def call() -> Array:
        loop(x, out, threshold, scale, SEED, next(calls))
        return job.out

    call()
    return call


ADAPTER = Adapter(
    (
        Contender("numba-loop", "a Numba loop on np.random", {"dropout": by_np_random}, PLAIN),
        Contender("numba-philox", "a Numba loop on Philox4x32", {"dropout": by_philox}, PLAIN),
    ),
    module="numba",
    distributions=("numba",),
)
