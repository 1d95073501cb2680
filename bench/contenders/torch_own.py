"""fastdrop's adapter for PyTorch: `fastdrop.torch.dropout`, eager and through `torch.compile`."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

from ..contender import EVERY_DTYPE, SEED, Adapter, Call, Contender, Job
from .torch_cpu import compile_for, prepared, read, tensor

OPTIONS = EVERY_DTYPE | {"noise_shape", "bias", "residual"}


def options_of(job: Job) -> dict[str, Any]:
    """Name no option that the work does not need, as a user would not."""
    return {} if job.case.noise_shape is None else {"noise_shape": job.case.noise_shape}


def dropout(job: Job) -> Call:
    prepared(job)
    adapter, options, offsets, p = importlib.import_module("fastdrop.torch"), options_of(job), itertools.count(), job.p
    x, bias, residual = tensor(job.x), tensor(job.bias), tensor(job.residual)
    if residual is not None:
        return lambda: adapter.dropout_add(x, residual, p, bias, seed=SEED, offset=next(offsets), **options)
    return lambda: adapter.dropout(x, p, seed=SEED, offset=next(offsets), **options)


def compiled(job: Job) -> Call:
    torch = prepared(job)
    adapter, options, p = importlib.import_module("fastdrop.torch"), options_of(job), job.p
    x, bias, residual, key = tensor(job.x), tensor(job.bias), tensor(job.residual), torch.tensor([SEED, 0])

    def run(x: Any, bias: Any, residual: Any, key: Any) -> Any:
        if residual is not None:
            return adapter.dropout_add(x, residual, p, bias, seed=key, **options)
        return adapter.dropout(x, p, seed=key, **options)

    run = compile_for(job, run, x, bias, residual, key, fullgraph=True)

    def call() -> Any:
        y = run(x, bias, residual, key)
        key[1] += 1
        return y

    return call


def backward(job: Job) -> Call:
    torch = prepared(job)
    adapter, offsets = importlib.import_module("fastdrop.torch"), itertools.count()
    x, grad = tensor(job.x).requires_grad_(), tensor(job.gradients[0])

    def call() -> Any:
        y = adapter.dropout(x, job.p, seed=SEED, offset=next(offsets))
        return y.detach(), torch.autograd.grad(y, x, grad)[0]

    return call


def contender(name: str, label: str, works: dict[str, Callable[[Job], Call]]) -> Contender:
    return Contender(name, label, works, OPTIONS, "fastdrop", read=read, exact=True)


ADAPTER = Adapter(
    (
        contender("fastdrop.torch", "fastdrop.torch", {"dropout": dropout, "backward": backward}),
        contender("fastdrop.torch-compile", "fastdrop.torch, compiled", {"dropout": compiled}),
    ),
    module="torch",
    distributions=("torch",),
)
