"""Times of the adapters against what their libraries offer: ``python -m fastdrop.bench.adapters torch``.

One thread on one processor. Each row first compares the bytes of fastdrop's result with `fastdrop.dropout`'s. Then both sides
take turns in rounds of about a millisecond, or of one call. Each round begins with a call that is not timed, because the other
side has filled the caches with its arrays. The ratio is the median over the rounds: above 1 where fastdrop is faster.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import click
import numpy as np

import fastdrop
from fastdrop._cli.screens import show, table

__all__ = ["Row", "main", "rows_of"]

Step = Callable[[], Any]
SIZES = (256, 4096, 65_536, 1_048_576, 4_194_304)
SEED = 42


class Row(NamedTuple):
    """The two sides to time, and fastdrop's result with the expected one."""

    name: str
    theirs: Step
    ours: Step
    result: Any
    wanted: Any


def ones(*shape: int) -> Any:
    """Return an array of ones in float32."""
    return np.ones(shape, np.float32)


# PyTorch --------------------------------------------------------------------------------------------------------------


def torch_step(function: Callable[[Any], Any], x: Any, grad: Any) -> Step:
    """Return a forward and a backward pass."""

    def run() -> None:
        function(x).backward(grad)
        x.grad = None

    return run


def ways() -> Iterator[tuple[str, Callable[[Step], Any]]]:
    """Yield the two ways in which `fastdrop.torch` may run a step: in Python, and by the native operator where it was built."""
    from fastdrop.torch import _native

    native = _native.drop, _native.run

    def run(found: Any, step: Step) -> Any:
        _native.drop, _native.run = found
        try:
            return step()
        finally:
            _native.drop, _native.run = native

    yield "", partial(run, (None, None))
    if native[0]:
        yield ", native", partial(run, native)


def both_passes(function: Callable[[Any], Any], x: Any, grad: Any) -> Any:
    """Return the result and the gradient of a call that draws its seed from PyTorch's generator, as a step does."""
    import torch

    torch.manual_seed(SEED)
    y = function(x)
    (dx,) = torch.autograd.grad(y, x, grad)
    return torch.stack([y.detach(), dx]).float().numpy()


def wanted_passes(p: float, x: Any, grad: Any) -> Any:
    """Return the result and the gradient that `fastdrop.dropout` and its backward pass have in the dtype of the tensors."""
    import torch

    torch.manual_seed(SEED)
    seed = int(torch.randint(-(2**63), 2**63 - 1, ())) % 2**64
    value, slope = (tensor.detach().float().numpy() for tensor in (x, grad))
    both = np.stack([fastdrop.dropout(value, p, seed=seed), fastdrop.dropout_backward(slope, p, seed=seed)])
    return torch.from_numpy(both).to(x.dtype).float().numpy()


def empty_function() -> Callable[[Any], Any]:
    """Return a `torch.autograd.Function` that draws a seed and makes its results: the least that a function in Python takes."""
    import torch

    word = torch.zeros((), dtype=torch.int64)

    class Empty(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            word.random_().item()
            return torch.empty_like(x)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return torch.empty_like(grad)

    apply: Callable[[Any], Any] = super(torch.autograd.Function, Empty).apply  # without the checks for transforms
    return apply


def torch_rows() -> Iterator[Row]:
    """`fastdrop.torch` against `torch.nn.functional.dropout`, forward and backward; `fastdrop torch-build` adds rows."""
    import torch
    from torch.nn import functional

    import fastdrop.torch as own

    torch.set_num_threads(1)
    for n in SIZES:
        for dtype in (torch.float32, torch.bfloat16) if n == SIZES[-1] else (torch.float32,):
            for p in (0.1, 0.5):
                x, grad = torch.ones(n).to(dtype).requires_grad_(), torch.randn(n).to(dtype)
                drop, wanted = partial(own.dropout, p=p), wanted_passes(p, x, grad)
                theirs, ours = (torch_step(each, x, grad) for each in (partial(functional.dropout, p=p), drop))
                for name, run in ways():
                    result = run(partial(both_passes, drop, x, grad))
                    yield Row(f"{n:,}, {str(dtype)[6:]}, p = {p}{name}", theirs, partial(run, ours), result, wanted)
                limits = {"torch.clone": torch.clone} | ({"an empty Function": empty_function()} if n <= 65_536 else {})
                for name, limit in limits.items():
                    name = f"{n:,}, {str(dtype)[6:]}, p = {p}: {name}, which drops nothing"
                    yield Row(name, theirs, torch_step(limit, x, grad), result, wanted)
    for n in (196_608, SIZES[-1]):
        x, residual, bias = torch.ones(n // 512, 512), torch.ones(n // 512, 512), torch.ones(512)
        theirs, passes = (partial(in_three_passes, drop, x, residual, bias) for drop in (functional.dropout, own.dropout))
        ours = partial(own.dropout_add, x, residual, 0.1, bias)
        wanted = fastdrop.dropout(x.numpy(), 0.1, seed=SEED, bias=bias.numpy(), residual=residual.numpy())
        for name, run in ways():
            result = run(partial(ours, seed=SEED)).numpy()
            name = f"{n:,}, float32, p = 0.1, dropout_add forward{name}"
            yield Row(name, theirs, partial(run, ours), result, wanted)
            yield Row(f"{name}, against our dropout in three passes", partial(run, passes), partial(run, ours), result, wanted)


def in_three_passes(drop: Callable[..., Any], x: Any, residual: Any, bias: Any) -> Any:
    return residual + drop(x + bias, 0.1)


def bert_step(p: float) -> Step:
    """Return a training step of a small BERT: 4 layers of 128, 16 sequences of 128 tokens, attention that is not fused."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    options: dict[str, Any] = {
        "vocab_size": 1000,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "hidden_dropout_prob": p,
        "attention_probs_dropout_prob": p,
        "attn_implementation": "eager",
    }
    config = transformers.BertConfig(**options)
    model = transformers.BertForSequenceClassification(config).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    tokens, labels = torch.randint(1000, (16, 128)), torch.randint(2, (16,))

    def run() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()

    return run


def bert_rows() -> Iterator[Row]:
    """`fastdrop.torch.patched` in a whole step of BERT, against PyTorch's dropout and against no dropout.

    The masks of the two sides differ, so that their steps cannot be compared; the function that the step calls is checked.
    """
    import torch

    import fastdrop.torch as own

    torch.set_num_threads(1)
    ours = own.patched()(bert_step(0.1))
    result, wanted = own.dropout(torch.ones(4096), 0.1, seed=SEED).numpy(), fastdrop.dropout(ones(4096), 0.1, seed=SEED)
    yield Row("a step of BERT", bert_step(0.1), ours, result, wanted)
    yield Row("a step of BERT; theirs does not drop", bert_step(0.0), ours, result, wanted)


# JAX ------------------------------------------------------------------------------------------------------------------


def jax_rows() -> Iterator[Row]:
    """`fastdrop.jax` against `jnp.where(jax.random.bernoulli(...))`, jitted."""
    import jax
    import jax.numpy as jnp

    import fastdrop.jax as own

    key, p = jax.random.key(SEED), 0.1
    wait: Callable[[Any], Any] = jax.block_until_ready

    def theirs(x: Any, key: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    def ours(x: Any, key: Any) -> Any:
        return own.dropout(x, p, key=key)

    def steps(change: Callable[[Any], Any], x: Any, keys: Any) -> tuple[Step, Step]:
        made = (jax.jit(change(each)) for each in (theirs, ours))
        one, other = (partial(lambda each, x, keys: wait(each(x, keys)), each, x, keys) for each in made)
        return one, other

    def slope(function: Any) -> Any:
        return jax.value_and_grad(lambda x, key: function(x, key).sum())

    def between(function: Any) -> Any:
        return lambda x, key: jax.nn.relu(function(jnp.tanh(x), key))

    for name, change in (("", lambda function: function), (", value_and_grad", slope)):
        for n in SIZES:
            x = jnp.ones(n)
            wanted = fastdrop.dropout(ones(n), p, seed=seed_of(key))
            result = jax.jit(jax.grad(lambda x: ours(x, key).sum()))(x) if name else ours(x, key)
            yield Row(f"{n:,}{name}", *steps(change, x, key), result, wanted)
    x = jnp.ones(4096)
    yield Row(
        "4,096 between tanh and relu", *steps(between, x, key), ours(x, key), fastdrop.dropout(ones(4096), p, seed=seed_of(key))
    )
    keys, x = jax.random.split(key, 1000), jnp.ones((1000, 64))
    wanted = np.stack([fastdrop.dropout(ones(64), p, seed=seed_of(each)) for each in keys])
    yield Row("vmap, 1,000 rows of 64 with a key each", *steps(jax.vmap, x, keys), jax.vmap(ours)(x, keys), wanted)


def seed_of(key: Any) -> int:
    """Return the seed that the words of one of JAX's keys are."""
    import jax

    high, low = (int(word) for word in jax.random.key_data(key))
    return high << 32 | low


# Dask, thinc, Numba ---------------------------------------------------------------------------------------------------


def dask_rows() -> Iterator[Row]:
    """100 blocks of `fastdrop.dask` against those of `map_blocks(lambda b: b * 2)`: making the graph and computing it."""
    import dask.array as da

    import fastdrop.dask as own

    for n in (4096, 65_536, 1_048_576):
        x = da.from_array(ones(100 * n), chunks=n)
        result = own.dropout(x, 0.1, seed=SEED).compute(scheduler="synchronous")
        wanted = fastdrop.dropout(ones(100 * n), 0.1, seed=SEED)
        for scheduler in ("synchronous", "threads"):
            theirs = partial(lambda x, how: x.map_blocks(lambda b: b * 2).compute(scheduler=how, num_workers=1), x, scheduler)
            ours = partial(lambda x, how: own.dropout(x, 0.1, seed=SEED).compute(scheduler=how, num_workers=1), x, scheduler)
            yield Row(f"blocks of {n:,}, {scheduler}", theirs, ours, result, wanted)


def thinc_rows() -> Iterator[Row]:
    """Masks of `fastdrop.thinc` against those of thinc's `NumpyOps`."""
    from thinc.api import NumpyOps

    import fastdrop.thinc as own

    numpy_ops = NumpyOps()
    for shape in ((2000, 96), (200, 96), (96,)):
        for p in (0.2, 0.5):
            ops = own.FastdropOps(seed=SEED)
            result = own.FastdropOps(seed=SEED).get_dropout_mask(shape, p)
            wanted = fastdrop.dropout(ones(*shape), p, seed=fastdrop.Stream(SEED).next())
            theirs, ours = (partial(each.get_dropout_mask, shape, p) for each in (numpy_ops, ops))
            yield Row(f"{shape}, p = {p}", theirs, ours, result, wanted)


def numba_rows() -> Iterator[Row]:
    """`fastdrop.numba_functions.dropout` in a compiled function against `np.multiply` from Python."""
    import numba

    from fastdrop.numba_functions import dropout

    @numba.njit
    def drop(x: Any, y: Any, calls: int) -> None:
        for _ in range(calls):
            dropout(x, 0.5, SEED, 0, 0, y)

    for n in SIZES[:3]:
        x, y, scale = ones(n), ones(n), np.float32(2)
        drop(x, y, 1)
        wanted = fastdrop.dropout(x, 0.5, seed=SEED)
        theirs = partial(lambda x, y, s: [np.multiply(x, s, out=y) for _ in range(100)], x, y.copy(), scale)
        yield Row(f"{n:,}, 100 calls", theirs, partial(drop, x, y.copy(), 100), y, wanted)


ROWS = {"torch": torch_rows, "bert": bert_rows, "jax": jax_rows, "dask": dask_rows, "thinc": thinc_rows, "numba": numba_rows}


# Measurement ----------------------------------------------------------------------------------------------------------


def rows_of(library: str) -> Iterator[Row]:
    """Return the rows of an adapter, each with an equal result."""
    for row in ROWS[library]():
        if np.asarray(row.result).tobytes() != np.asarray(row.wanted).tobytes():
            raise AssertionError(f"{row.name}: the adapter's result is not fastdrop.dropout's")
        yield row


def times(steps: tuple[Step, ...], seconds: float) -> list[list[float]]:
    """Return the seconds per call of each step, in rounds in which they take turns."""
    for each in steps:
        each()
    began = time.perf_counter()
    for each in steps:
        each()
    calls = max(1, int(len(steps) * 1e-3 / (time.perf_counter() - began)))
    found: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[0]) < 3:
        for each, kept in zip(steps, found, strict=True):
            each()
            began = time.perf_counter()
            for _ in range(calls):
                each()
            kept.append((time.perf_counter() - began) / calls)
    return found


def measured(row: Row, seconds: float) -> tuple[str, ...]:
    """Return a row of the table: the name, both least times in microseconds, and the median of the ratios."""
    theirs, ours = times((row.theirs, row.ours), seconds)
    ratio = statistics.median(one / other for one, other in zip(theirs, ours, strict=True))
    return row.name, f"{min(theirs) * 1e6:,.2f}", f"{min(ours) * 1e6:,.2f}", f"{ratio:.2f}"


@click.command()
@click.argument("library", type=click.Choice(list(ROWS)))
@click.option("--seconds", type=float, default=3.0, show_default=True, help="The time for each row.")
def main(library: str, seconds: float) -> None:
    """Print how many times as fast an adapter is as its library's own function."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before a library counts its processors
    fastdrop.set_num_threads(1)  # it counted the processors when it was imported
    made = table("case", "theirs, us", "fastdrop, us", "times as fast")
    for row in rows_of(library):
        made.add_row(*measured(row, seconds))
    show(made)


if __name__ == "__main__":
    main()
