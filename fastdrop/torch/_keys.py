"""The key of a call: from PyTorch's generators, or from the caller's seed."""

from __future__ import annotations

import itertools
import threading
from operator import index
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch._guards import TracingContext

from fastdrop._core import plan, pointers
from fastdrop._core.pointers import draw_word
from fastdrop.random import Key, Stream
from fastdrop.torch._tensors import check_memory, is_sharded, is_tracing, is_transformed

__all__ = [
    "DEFAULT",
    "Source",
    "as_int",
    "as_ints",
    "as_signed",
    "check_generator",
    "check_source",
    "draw_key",
    "draw_tensor",
    "refuse_count",
    "words_of",
]

WORD = 2**64
FROM, TO = -(2**63), 2**63 - 1  # the same call gives the same bits with `torch.randint`, which also runs under vmap
HAVE_STATE = (Stream, np.random.Generator, np.random.BitGenerator)

Source = tuple[Any, Any, Any]  # seed, offset, generator
DEFAULT: Source = (None, 0, None)


class Scratch(threading.local):
    """A tensor per thread that takes a drawn number, and its NumPy view, which is read faster."""

    def __init__(self) -> None:
        with torch.inference_mode(False):  # a tensor of that mode could be written to only within it
            word = torch.zeros((), dtype=torch.int64, device="cpu")
        self.both: tuple[Tensor, Any] = word, word.numpy().view(np.uint64)


scratch = Scratch()
pointers.register_torch(torch, (scratch, FROM, TO))


def as_signed(word: int) -> int:
    """Return the int64 with the bits of a 64-bit word."""
    return word - WORD if word > TO else word


def as_int(number: Any) -> int:
    """Return an integer of any kind as one of Python, which the caller cannot change; the compiler traces this."""
    return number if type(number) is int else index(number)


def as_ints(numbers: Any) -> tuple[int, ...] | None:
    """Return several integers as those of Python; None stays None."""
    return None if numbers is None else tuple(map(as_int, numbers))


def check_source(source: Source, x: Tensor) -> None:
    """Raise an error for a wrong seed, offset or generator of a call on x; no key is drawn."""
    seed, offset, generator = source
    if generator is not None:
        check_generator(generator, seed)
    if isinstance(seed, Tensor):
        check_seed_tensor(seed)
        check_memory(seed, "a tensor as seed", x)
        plan.as_word(offset, "offset")
    elif seed is None or isinstance(seed, HAVE_STATE):
        plan.as_word(offset, "offset")
    else:
        plan.find_key(seed, offset)


def check_generator(generator: Any, seed: Any) -> None:
    """Raise an error for a generator that cannot be drawn from, or that comes with a seed."""
    if seed is not None:
        raise ValueError("seed and generator both define the key; give only one of them")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator; got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be one of the CPU, where the tensors are; got one of {generator.device}")


def check_seed_tensor(seed: Tensor) -> None:
    if is_sharded(seed):
        raise TypeError("a tensor as seed must be no DTensor: give seed.full_tensor()")
    if seed.dtype not in (torch.int64, torch.uint64) or seed.shape not in ((), (2,)):
        raise TypeError(
            "a tensor as seed must be of int64 or uint64 and have the shape (), or (2,) for a key of seed and offset; "
            f"got {seed.dtype} of shape {tuple(seed.shape)}"
        )
    if seed.device.type not in ("cpu", "meta"):
        raise ValueError(f"a tensor as seed must be on the CPU; got one on {seed.device}")


def draw_key(source: Source) -> tuple[int, int]:
    """Return the key (seed, offset) of a call. The source must be checked before."""
    seed, offset, generator = source
    if seed is None:
        refuse_state(source)
        return draw_word(generator), as_int(offset)
    if type(seed) is int:
        return seed, as_int(offset)
    if isinstance(seed, Key):  # the compiler can trace this
        return seed[0], seed[1]
    if isinstance(seed, Tensor):
        return words_of(seed, as_int(offset))
    refuse_state(source)
    return plan.find_key(seed, offset)


def words_of(seed: Tensor, offset: int) -> tuple[int, int]:
    """Return the key of a tensor: a seed with the given offset, or a pair (seed, offset)."""
    values: Any = seed.tolist()
    if seed.ndim:
        if offset:
            raise ValueError(f"a key as seed has its own offset, so offset must be 0; got {offset}")
        return values[0] % WORD, values[1] % WORD
    return values % WORD, offset % WORD


def draw_tensor(source: Source, device: torch.device) -> tuple[Tensor, int]:
    """Return the key of a call as a seed tensor and an offset, for the operators. The source must be checked before."""
    seed, offset, generator = source
    offset = as_int(offset)
    if isinstance(seed, Tensor):
        # A copy, which the caller cannot change before the backward pass.
        signed = seed.view(torch.int64) if seed.dtype == torch.uint64 else seed
        return torch.ops.fastdrop.snapshot(signed, False), as_signed(offset)
    if seed is not None:
        word, offset = draw_key(source)
        return torch.full((), as_signed(word), dtype=torch.int64, device=device), as_signed(offset)
    refuse_state(source)
    if generator is not None or is_transformed() or is_tracing():  # torch.jit.trace cannot record a device
        return torch.randint(FROM, TO, (), dtype=torch.int64, device=device, generator=generator), as_signed(offset)
    return torch.ops.fastdrop.draw(count_draw(), device=device), as_signed(offset)


def refuse_checkpoint(what: str, instead: str) -> None:
    """Raise an error in a backward pass, where a checkpoint repeats a call whose source of masks has advanced."""
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            f"{what}, and a checkpoint that runs it again in the backward pass would get another mask: {instead}"
        )


def refuse_state(source: Source) -> None:
    """Raise an error in a backward pass for a source with a state of its own, which a checkpoint does not restore."""
    seed, _, generator = source
    if generator not in (None, torch.default_generator) or isinstance(seed, HAVE_STATE):
        name = "seed" if generator is None else "generator"
        if getattr(torch.compiler, "is_exporting", bool)():
            raise RuntimeError(f"{name} has a state, which an exported program cannot hold: give the call no {name}")
        refuse_checkpoint(
            f"{name} has a state, which each call changes",
            "draw from PyTorch's default generator there, or give the call a seed and an offset",
        )


def refuse_count() -> None:
    """Raise an error in a backward pass for a layer that counts its calls."""
    refuse_checkpoint(
        "a layer with a seed counts its calls", "use it without a seed there, or call the function with seed and offset"
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def count_draw() -> int:
    """Return the number of the next draw within the graph that is being traced."""
    number: int = next(draws.setdefault(TracingContext.try_get() or scratch, itertools.count()))
    return number


draws: Any = WeakKeyDictionary()  # counters, by what traces; all that is not traced shares one
