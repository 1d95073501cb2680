"""The table of cases and the zoo of arrays that the tests, the benchmarks and ``fastdrop verify`` share.

`OPS` says what can be computed, `cases` at which sizes, starts and rates, `engines` by what; every engine must give the
bytes of `REFERENCE`. A new operation or dtype is a row here; a new backend or instruction set enters by itself. All of
it needs NumPy alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop import _native, _settings

__all__ = [
    "DTYPES",
    "OPS",
    "REFERENCE",
    "Case",
    "Engine",
    "Op",
    "awkward",
    "cases",
    "compute",
    "engines",
    "equal_bytes",
    "guarded",
    "zoo",
]

DTYPES = ("float32", "float64")
TILE = 4096  # FD_TILE of fastdrop.h: elements that the C kernels work on at a time
THREADS = 3  # an odd number, so that the threads' shares are uneven
LINE = 64  # bytes of a cache line
GUARD = 0xA5  # the byte that guards are filled with

# Sizes around each block of the work: a mask byte's word, a group of one plane, a tile.
SIZES = (0, 1, 31, 32, 127, 128, 129, TILE - 1, TILE, TILE + 1, 3 * TILE + 3)
THREADED_SIZE = (THREADS * 8 + 1) * TILE + 3  # the smallest worth `THREADS` threads is a little less
# Around a group, 2**32 elements, 2**32 groups. Each operation's own last indices come on top.
STARTS = (0, 1, 127, 128, 2**32 - 5, 2**39 - 1)
# Nothing, one unit of 2**-64, a digit far down, usual rates, all digits set, everything.
RATES = (0.0, 2**-64, 2**-60, 1e-3, 0.1, 0.25, 0.3, 0.5, 0.7, 1 - 2**-53, 1.0)


# What is computed ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One computation: `n` elements from index `start` on, at rate `p` where the operation has one."""

    op: str
    n: int
    start: int = 0
    p: float = 0.5
    seed: int = 0x0123456789ABCDEF
    offset: int = 2**32 + 7


@dataclass(frozen=True)
class Op:
    """A row of the table: how to compute a case, the end of the operation's indices, and the rates to try."""

    function: Callable[[Case], NDArray[Any]]
    end: int
    rates: Sequence[float] = (0.0,)


def dropout(dtype: str, case: Case) -> NDArray[Any]:
    """Drop from awkward values, into a guarded output."""
    with guarded(case.n, dtype) as y:
        fastdrop.dropout(awkward(case.n, dtype), case.p, seed=case.seed, offset=case.offset, start=case.start, out=y)
    return y


def mask(packed: bool, case: Case) -> NDArray[Any]:
    """Return the mask alone, a byte or a bit an element."""
    return fastdrop.dropout_mask(case.n, case.p, seed=case.seed, offset=case.offset, start=case.start, packed=packed)


def uniform(dtype: str, case: Case) -> NDArray[Any]:
    """Return uniforms in (0, 1)."""
    return fastdrop.uniform(case.n, seed=case.seed, offset=case.offset, start=case.start, dtype=dtype)


def words(case: Case) -> NDArray[Any]:
    """Return random words."""
    return fastdrop.words(case.n, seed=case.seed, offset=case.offset, start=case.start)


OPS = {
    **{f"dropout-{dtype}": Op(functools.partial(dropout, dtype), 2**55, RATES) for dtype in DTYPES},
    "mask": Op(functools.partial(mask, False), 2**55, RATES),
    "packed-mask": Op(functools.partial(mask, True), 2**55, RATES),
    "uniform-float32": Op(functools.partial(uniform, "float32"), 2**50),
    "uniform-float64": Op(functools.partial(uniform, "float64"), 2**49),
    "words": Op(words, 2**50),
}


def cases(op: str, sizes: Sequence[int] = (*SIZES, THREADED_SIZE)) -> Iterator[Case]:
    """Yield the cases of an operation: each size at each start and rate."""
    row = OPS[op]
    for n in sizes:
        for start in (*STARTS, row.end - n):
            for p in row.rates:
                yield Case(op, n, start, p)


def compute(case: Case) -> NDArray[Any]:
    """Return the result of a case under the settings in force."""
    return OPS[case.op].function(case)


# What computes it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """A backend; and for C the instruction set and the number of threads."""

    backend: str
    isa: str | None = None
    num_threads: int | None = None

    def __str__(self) -> str:
        return "-".join(map(str, filter(None, (self.backend, self.isa, self.num_threads))))

    def using(self) -> AbstractContextManager[None]:
        """Return a context in which this engine computes."""
        return fastdrop.using(backend=self.backend, isa=self.isa, num_threads=self.num_threads)

    def missing(self) -> str | None:
        """Return why this engine cannot be used here; None where it can."""
        try:
            with self.using():
                return None
        except ImportError as error:
            return str(error)

    def philox(self, counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]:
        """Return one Philox4x32-10 block."""
        if self.isa is not None:
            return _native.philox(self.isa, counter, key)
        module: Any = _settings.backend_module(self.backend)
        return tuple(module.philox(tuple(counter), tuple(key)))


REFERENCE = Engine("numpy")


def engines() -> list[Engine]:
    """Return what must give the reference's bytes: C on each instruction set, on 1 and 3 threads; other backends."""
    config = fastdrop.config()
    others = [Engine(name) for name in config["backends"] if name not in ("c", REFERENCE.backend)]
    return [Engine("c", isa, threads) for isa in config["isas"] for threads in (1, THREADS)] + others


# What it is computed on, and how results are compared ----------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def awkward(n: int, dtype: str) -> NDArray[Any]:
    """Return `n` values, read-only: NaN, infinities, zeros, subnormals, what overflows, what must be rounded."""
    info = np.finfo(dtype)
    tiny, least, most = info.tiny, info.smallest_subnormal, info.max
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, least, -least, tiny, tiny - least, least * 12345, most, -most, 1.0]
    usual = [(-1) ** k * (k + 1) / 7 for k in range(48)]
    values = np.resize(np.array(special + usual, dtype), n)  # 61 of them: no multiple of it is near a power of two
    values.flags.writeable = False
    return values


@contextmanager
def guarded(n: int, dtype: str, shift: int = 0) -> Iterator[NDArray[Any]]:
    """Yield an output of `n` elements, `shift` of them past a cache line; what lies around it must not be touched."""
    itemsize = np.dtype(dtype).itemsize
    buffer = np.full((n + shift) * itemsize + 4 * LINE, GUARD, np.uint8)
    begin = LINE + -buffer.__array_interface__["data"][0] % LINE + shift * itemsize
    end = begin + n * itemsize
    yield buffer[begin:end].view(dtype)
    if (buffer[:begin] != GUARD).any() or (buffer[end:] != GUARD).any():
        raise AssertionError("memory outside the output was written to")


def equal_bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether two arrays are equal to the bit, NaN payloads aside: those are not promised."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return a.tobytes() == b.tobytes()
    nan = np.isnan(a)
    a_bits, b_bits = (np.where(nan, 0, np.ascontiguousarray(array).view(f"u{a.itemsize}").reshape(a.shape)) for array in (a, b))
    return np.array_equal(nan, np.isnan(b)) and np.array_equal(a_bits, b_bits)


def zoo(dtype: str) -> dict[str, NDArray[Any]]:
    """Return arrays of every memory layout there is, by name, some of more than a tile."""
    cube = awkward(18 * 20 * 23, dtype).reshape(18, 20, 23)
    fields = np.zeros(cube.shape, [("before", np.int8), ("value", dtype)])
    fields["value"] = cube
    odd_bytes = np.frombuffer(b"\0" + cube.tobytes(), np.uint8)[1:]  # a byte past an aligned address
    return {
        "C": cube.copy(),
        "Fortran": np.asfortranarray(cube),
        "transposed": cube.transpose(2, 0, 1),
        "sliced": cube[1::2, ::3, 2:-2],
        "rows of a wider array": cube[..., :16],
        "one column": cube.reshape(-1, 23)[:, 5],
        "reversed": cube[::-1, :, ::-1],
        "stride 0": np.broadcast_to(cube[:, :1], cube.shape),
        "one value": np.broadcast_to(cube[3, 4, 5], (50, 100)),
        "0-d": cube[0, 0, 12].copy().reshape(()),
        "one element": cube[:1, 1:2, -1:],
        "empty": cube[:, :0],
        "32 dimensions": cube.reshape(-1)[: 2**12].reshape((1, 2) * 12 + (1,) * 8).swapaxes(3, 21),
        "read-only": cube,
        "a structure's field": fields["value"],
        "misaligned": odd_bytes.view(dtype).reshape(cube.shape),
    }
