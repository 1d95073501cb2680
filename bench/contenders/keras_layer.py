"""Keras layers, called with ``training=True``, on the backend that Keras selects (TensorFlow by default)."""

from __future__ import annotations

import importlib
from typing import Any

from ..contender import SEED, Adapter, Call, Contender, Job


def on_layer(name: str, job: Job, **options: Any) -> Call:
    keras = importlib.import_module("keras")
    layer = getattr(keras.layers, name)(job.p, seed=SEED, dtype=job.case.dtype, **options)
    x = keras.ops.convert_to_tensor(job.x)
    if keras.backend.backend() == "jax":  # its calls return before they are done
        return lambda: layer(x, training=True).block_until_ready()
    return lambda: layer(x, training=True)


def dropout(job: Job) -> Call:
    return on_layer("Dropout", job, noise_shape=job.case.noise_shape)


def gaussian(job: Job) -> Call:
    return on_layer("GaussianDropout", job)


def read(found: Any) -> Any:
    return importlib.import_module("keras").ops.convert_to_numpy(found)


ADAPTER = Adapter(
    (
        Contender(
            "keras",
            "Keras Dropout layer",
            {"dropout": dropout, "gaussian": gaussian},
            frozenset({"float32", "float16", "noise_shape"}),
            read=read,
        ),
    ),
    module="keras",
    distributions=("keras",),
)
