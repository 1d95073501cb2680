"""TensorFlow: `tf.nn.experimental.stateless_dropout` with Philox, inside a `tf.function`, without and with XLA."""

from __future__ import annotations

import importlib
import itertools
from functools import partial
from typing import Any

import numpy as np

from ..contender import EVERY_DTYPE, SEED, Adapter, Call, Contender, Job


def dropout(job: Job, jit: bool = False) -> Call:
    tf = importlib.import_module("tensorflow")
    x, bias, residual = (None if array is None else tf.constant(array) for array in (job.x, job.bias, job.residual))

    def run(x: Any, seed: Any, bias: Any, residual: Any) -> Any:
        x = x if bias is None else x + bias
        y = tf.nn.experimental.stateless_dropout(x, job.p, seed, noise_shape=job.case.noise_shape, rng_alg="philox")
        return y if residual is None else residual + y

    function, steps = tf.function(run, jit_compile=jit), itertools.count()
    return lambda: function(x, np.array([SEED, next(steps)], np.int32), bias, residual)


def read(found: Any) -> Any:
    return found.numpy()


def contender(name: str, label: str, jit: bool) -> Contender:
    options = EVERY_DTYPE | {"noise_shape", "bias", "residual"}
    return Contender(name, label, {"dropout": partial(dropout, jit=jit)}, options, read=read)


ADAPTER = Adapter(
    (
        contender("tensorflow", "TensorFlow, stateless", jit=False),
        contender("tensorflow-xla", "TensorFlow, stateless, XLA", jit=True),
    ),
    module="tensorflow",
    distributions=("tensorflow", "tensorflow-cpu"),
)
