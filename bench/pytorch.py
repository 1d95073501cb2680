"""Times of fastdrop.torch against PyTorch's own dropout: ``python -m fastdrop.bench.pytorch``.

One thread; forward plus backward, unless a row says otherwise. Both take turns in rounds of about a millisecond, or of one
call. A row is the median of the ratios of these rounds. The native operator has a column of its own where it was built
(``fastdrop torch-build``).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

__all__ = ["main"]

Step = Callable[[], Any]
SIZES = (256, 4096, 65_536, 4_194_304)
RATES = (0.1, 0.5)
SECONDS = 4.0  # for each row


class Row(NamedTuple):
    """What is timed: PyTorch's way and fastdrop's."""

    name: str
    theirs: Step
    ours: Step


def step(function: Callable[[Any], Any], x: Any, grad: Any) -> Step:
    """Return a forward and a backward pass."""

    def run() -> None:
        function(x).backward(grad)
        x.grad = None

    return run


def rows() -> list[Row]:
    """Return all rows."""
    import torch
    from torch.nn import functional

    import fastdrop.torch as own

    found = []
    for n in SIZES:
        for dtype in (torch.float32, torch.bfloat16) if n == SIZES[-1] else (torch.float32,):
            for p in RATES:
                x, grad = torch.randn(n).to(dtype).requires_grad_(), torch.randn(n).to(dtype)
                name = f"{n:,}, {str(dtype)[6:]}, p = {p}"
                theirs, ours = (step(partial(each, p=p), x, grad) for each in (functional.dropout, own.dropout))
                found.append(Row(name, theirs, ours))
    for n in (196_608, SIZES[-1]):
        x, residual, bias = torch.randn(n // 512, 512), torch.randn(n // 512, 512), torch.randn(512)
        theirs = partial(lambda x, residual, bias: residual + functional.dropout(x + bias, 0.1), x, residual, bias)
        ours = partial(own.dropout_add, x, residual, 0.1, bias)
        found.append(Row(f"{n:,}, float32, p = 0.1, dropout_add forward", theirs, ours))
    return found


def times(steps: list[Step], seconds: float) -> list[list[float]]:
    """Return the seconds per call of each step, in rounds in which they take turns."""
    began = time.perf_counter()
    for each in steps:
        each()
    calls = max(1, int(len(steps) * 1e-3 / (time.perf_counter() - began)))
    found: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[0]) < 3:
        for each, kept in zip(steps, found, strict=True):
            began = time.perf_counter()
            for _ in range(calls):
                each()
            kept.append((time.perf_counter() - began) / calls)
    return found


def ratios(row: Row, seconds: float) -> list[float]:
    """Return how many times as fast as PyTorch fastdrop is: without the native operator, and with it where there is one."""
    from fastdrop.torch import _native

    native = _native.drop, _native.run

    def without() -> None:
        _native.drop = _native.run = None
        row.ours()

    def with_it() -> None:
        _native.drop, _native.run = native
        row.ours()

    try:
        theirs, *ours = times([row.theirs, without, *([with_it] if native[0] else [])], seconds)
    finally:
        _native.drop, _native.run = native
    return [statistics.median(one / other for one, other in zip(theirs, each, strict=True)) for each in ours]


def main() -> None:
    """Print the table; an argument is the seconds for each row."""
    import torch

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in rows():
            print(f"{row.name:48s}", *(f"{ratio:6.2f}" for ratio in ratios(row, seconds)), flush=True)
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
