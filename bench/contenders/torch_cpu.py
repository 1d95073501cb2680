"""PyTorch on the CPU: `torch.nn.functional.dropout` and handwritten dropout, each eager and through `torch.compile`.

On Intel's processors PyTorch draws the mask with MKL; on all others, AMD's included, with a slower loop of its own
(`bernoulli_scalar_kernel` in ATen asks for the vendor).
"""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..cases import Case
from ..contender import EVERY_DTYPE, PLAIN, SEED, Absent, Adapter, Array, Call, Contender, Job

OPTIONS = EVERY_DTYPE | {"noise_shape", "bias", "residual", "rates"}


def tensor(array: Array | None) -> Any:
    """Return a view of an array as a tensor, or None; bfloat16 is passed as bits, since PyTorch does not know ml_dtypes."""
    if array is None:
        return None
    torch = importlib.import_module("torch")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def read(found: Any) -> Any:
    if isinstance(found, tuple):
        return tuple(map(read, found))
    torch = importlib.import_module("torch")
    if found.dtype == torch.bfloat16:
        return found.view(torch.int16).numpy().view("bfloat16")
    return found.detach().numpy()


def prepared(job: Job) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(job.threads)
    torch.manual_seed(SEED)
    return torch


@functools.lru_cache(maxsize=1)
def forget_compiled(_: Case) -> None:
    """Empty PyTorch's compiler once per case, before the first of its contenders compiles.

    Each case compiles the same functions anew, and PyTorch would run the ninth one without compiling it.
    """
    importlib.import_module("torch").compiler.reset()


def compile_for(job: Job, run: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
    """Return a function that is compiled for some arguments; raise Absent where `torch.compile` has no compiler."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise Absent("torch.compile needs a C++ compiler, and the path has none")
    forget_compiled(job.case)
    made: Callable[..., Any] = importlib.import_module("torch").compile(run, dynamic=False, **options)
    made(*arguments)
    return made


def dropped(torch: Any, job: Job) -> Callable[[Any], Any]:
    """Return the function of a tensor that a user of PyTorch would write."""
    functional, p = torch.nn.functional, job.p
    if job.case.rate == "each":
        rates = tensor(job.p)
        return lambda x: x * (torch.rand_like(x) >= rates) / (1 - rates)
    if job.case.noise_shape is None:
        return lambda x: functional.dropout(x, p)
    if job.x.ndim == 4 and job.mask_shape == (*job.x.shape[:2], 1, 1):
        return lambda x: functional.dropout2d(x, p)
    shape, keep = job.mask_shape, 1 - p
    return lambda x: x * x.new_empty(shape).bernoulli_(keep).div_(keep)


def dropout(job: Job, compiled: bool = False) -> Call:
    torch = prepared(job)
    x, bias, residual, drop = tensor(job.x), tensor(job.bias), tensor(job.residual), dropped(torch, job)

    def run(x: Any, bias: Any, residual: Any) -> Any:
        y = drop(x if bias is None else x + bias)
        return y if residual is None else residual + y

    if compiled:
        run = compile_for(job, run, x, bias, residual)
    return lambda: run(x, bias, residual)


def compiled(job: Job) -> Call:
    return dropout(job, compiled=True)


def by_hand(job: Job, compiled: bool = False) -> Call:
    """Return the fastest form that a user can write: uniform numbers, a comparison and multiplications in place."""
    torch = prepared(job)
    x, p, scale = tensor(job.x), job.p, 1 / (1 - job.p)
    if not compiled:
        return lambda: torch.rand_like(x).ge_(p).mul_(scale).mul_(x)
    run = compile_for(job, lambda x: x * (torch.rand_like(x) >= p) * scale, x)
    return lambda: run(x)


def backward(job: Job) -> Call:
    torch = prepared(job)
    x, grad = tensor(job.x).requires_grad_(), tensor(job.gradients[0])

    def call() -> Any:
        y = torch.nn.functional.dropout(x, job.p)
        return y, torch.autograd.grad(y, x, grad)[0]

    return call


def mask(job: Job) -> Call:
    torch = prepared(job)
    room = torch.empty(job.x.shape, dtype=torch.bool)
    return lambda: room.bernoulli_(1 - job.p)


def gaussian(job: Job) -> Call:
    torch = prepared(job)
    x, deviation = tensor(job.x), (job.p / (1 - job.p)) ** 0.5
    return lambda: x * torch.empty_like(x).normal_(1, deviation)


EAGER = {"dropout": dropout, "backward": backward, "mask": mask, "gaussian": gaussian}

ADAPTER = Adapter(
    (
        Contender("torch", "PyTorch F.dropout", EAGER, OPTIONS, read=read),
        Contender("torch-rand", "PyTorch, rand_like", {"dropout": by_hand}, PLAIN, read=read),
        Contender(
            "torch-rand-compile", "PyTorch, rand_like, compiled", {"dropout": partial(by_hand, compiled=True)}, PLAIN, read=read
        ),
        Contender("torch-compile", "PyTorch F.dropout, compiled", {"dropout": compiled}, OPTIONS, read=read),
    ),
    module="torch",
    distributions=("torch",),
)
