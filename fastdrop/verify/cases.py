"""The table of cases and the zoo of arrays that the tests, the benchmarks and ``fastdrop verify`` share.

`OPS` lists the operations. `cases` gives their sizes, starts and rates, and `laid_cases` the masks over arrays. `engines` lists
the backends and instruction sets; every engine must give the bytes of `REFERENCE`. A new operation, dtype, geometry or kind of
rates is one row here; a new backend or instruction set is found automatically. Only NumPy is needed; the tables include
bfloat16 if ml_dtypes is installed.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop
from fastdrop._core import native, numbers, plan, settings

__all__ = [
    "COMPUTED",
    "DTYPES",
    "GEOMETRIES",
    "OPS",
    "RATES_OF",
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
    "laid_cases",
    "os_threads",
    "past_caches",
    "special_rates",
    "spoiled",
    "threads_on_small_arrays",
    "zoo",
]

# Element types, and their compute types.
COMPUTED = {"float32": "float32", "float64": "float64", "float16": "float32", "bfloat16": "float32"}
if importlib.util.find_spec("ml_dtypes"):
    import ml_dtypes  # registers the name bfloat16 with NumPy
else:
    del COMPUTED["bfloat16"]
DTYPES = tuple(COMPUTED)
TILE = 4096  # FD_TILE of fastdrop.h: the number of elements that the C kernels process at a time
THREADS = 3  # an odd number, so that the threads' shares are uneven
LINE = 64  # bytes of a cache line
THREADS_OF_PROCESS = Path("/proc/self/task")
GUARD = 0xA5  # the byte that guards are filled with

# Sizes around each block of the work: a mask byte's word, a group of one plane, a tile.
SIZES = (0, 1, 31, 32, 127, 128, 129, TILE - 1, TILE, TILE + 1, 3 * TILE + 3)
THREADED_SIZE = (THREADS * 8 + 1) * TILE + 3  # three shares of more than a tile, in `threads_on_small_arrays`
# Around a group, 2**32 elements, 2**32 groups. Each operation's own last indices come on top.
STARTS = (0, 1, 127, 128, 2**32 - 5, 2**39 - 1)
# Nothing, one unit of 2**-64, a digit far down, usual rates, all digits set, everything.
RATES = (0.0, 2**-64, 2**-60, 1e-3, 0.1, 0.25, 0.3, 0.5, 0.7, 1 - 2**-53, 1.0)
# The same for arrays of rates, with those that lie between two numbers of 2**-64.
SPECIAL_RATES = (*RATES, 2**-65, 3 * 2**-65, 2**-66, 2**-32, 0.0, 0.5, 1 / 3, 0.999, 1.0, 5e-324, -0.0, 0.9)


# Operations ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One computation: `n` elements or a few more, from index `start` on, with rate `p` if the operation has one.

    `geometry` names a row of `GEOMETRIES`, the place of the mask over the elements. `rates` names a row of `RATES_OF`: one rate
    `p` for all elements, or an array of rates.
    """

    op: str
    n: int
    start: int = 0
    p: float = 0.5
    seed: int = 0x0123456789ABCDEF
    offset: int = 2**32 + 7
    geometry: str = "flat"
    rates: str = "one"
    past_caches: bool = False

    def laid(self) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Return the shape of the array, and the keywords of its mask."""
        shape, geometry = GEOMETRIES[self.geometry](self.n)
        p = RATES_OF[self.rates](shape, self.p)
        return shape, {"p": p, "seed": self.seed, "offset": self.offset, "start": self.start, **geometry}


@dataclass(frozen=True)
class Op:
    """A row of the table.

    It has the function that computes a case, the end of the operation's indices, the rates for all sizes and starts (none if
    the operation differs from another only in the values), and whether it accepts other geometries of the mask.
    """

    function: Callable[[Case], NDArray[Any]]
    end: int = 2**55
    rates: Sequence[float] = ()
    laid: bool = True


Laid = tuple[tuple[int, ...], dict[str, Any]]


def rows_shape(n: int, *row: int) -> tuple[int, ...]:
    """Return the shape of as many rows of this shape as have at least `n` elements."""
    return (-(-n // math.prod(row)), *row)


def block(shape: tuple[int, ...], whole: Sequence[int], begin: Sequence[int], **more: Any) -> Laid:
    """Return the geometry of a block of a larger array."""
    return shape, {"global_shape": tuple(whole), "global_start": tuple(begin), **more}


# Geometries of a mask over about n elements. Rows of 301 and maps of 17 x 19 are long enough for copies of whole runs.
GEOMETRIES: dict[str, Callable[[int], Laid]] = {
    "flat": lambda n: ((n,), {}),
    "one decision": lambda n: ((n,), {"shared_axes": 0}),
    "rows": lambda n: (rows_shape(n, 301), {"shared_axes": 1}),
    "short rows": lambda n: (rows_shape(n, 5), {"shared_axes": -1}),
    "columns": lambda n: (rows_shape(n, 301), {"noise_shape": (1, None)}),
    "maps": lambda n: (rows_shape(n, 3, 17, 19), {"noise_shape": (None, 3, 1, 1)}),
    "middle": lambda n: (rows_shape(n, 7, 5), {"shared_axes": (1,)}),
    "alternate": lambda n: (rows_shape(n, 3, 2, 5), {"shared_axes": (0, 2)}),
    "one column": lambda n: block((n, 1), (n + 2, 3), (1, 2)),
    "block": lambda n: block(rows_shape(n, 37), (2 * n + 3, 500), (n, 131)),
    "block of rows": lambda n: block(rows_shape(n, 2, 300), (n + 1, 7, 1000), (1, 3, 77), shared_axes=2),
    "far block": lambda n: block(rows_shape(n, 11), (2**41, 2**13), (2**41 - n, 5)),
}


def special_rates(shape: tuple[int, ...], dtype: str = "float64") -> NDArray[Any]:
    """Return one of `SPECIAL_RATES` per element."""
    with plan.RoundToNearest():  # the same also in a hostile environment
        rates = np.array(SPECIAL_RATES, dtype)
    return np.resize(rates, math.prod(shape)).reshape(shape)


# Rates for an array of a shape: one rate, one per element, one per index of the last axis, one per index of the first.
RATES_OF: dict[str, Callable[[tuple[int, ...], float], Any]] = {
    "one": lambda shape, p: p,
    "each": lambda shape, p: special_rates(shape),
    "each-float32": lambda shape, p: special_rates(shape, "float32"),
    "each column": lambda shape, p: special_rates(shape[-1:]),
    "each row": lambda shape, p: special_rates((shape[0], *(1,) * (len(shape) - 1)), "float32"),
}


def values(shape: tuple[int, ...], dtype: str, first: int = 0) -> NDArray[Any]:
    """Return awkward values in the given shape, from value `first` on, so that the array is misaligned."""
    n = math.prod(shape)
    return awkward(first + n, dtype)[first:].reshape(shape)


def dropout(dtype: str, operands: Sequence[str], case: Case) -> NDArray[Any]:
    """Drop from awkward values, into a guarded output."""
    shape, keywords = case.laid()
    if "bias" in operands:
        keywords["bias"] = values(shape[-1:], dtype, 5)
    if "residual" in operands:
        keywords["residual"] = values(shape, dtype, 11)
    with guarded(math.prod(shape), dtype) as y:
        fastdrop.dropout(values(shape, dtype), **keywords, out=y.reshape(shape))
    return y


def transform(dtype: str, op: str, case: Case) -> NDArray[Any]:
    """Apply the affine and select operations of other variants."""
    shape, keywords = case.laid()
    p = keywords.pop("p")
    sharing = {name: keywords.pop(name) for name in ("noise_shape", "shared_axes") if name in keywords}
    with guarded(math.prod(shape), dtype) as y:
        call = plan.Call(out=y.reshape(shape), **keywords)
        if op in ("affine", "signed"):
            call.affine(values(shape, dtype), p, (1.2, -0.1, -1.7), **sharing, signed=op == "signed")
        else:
            call.select(values(shape, dtype), p, values(shape, dtype, 7), **sharing)
    return y


def apply_mask(dtype: str, packed: bool, case: Case) -> NDArray[Any]:
    """Apply the caller's own mask; a mask with one byte per element is read backwards."""
    shape, _ = case.laid()
    n = math.prod(shape)
    given = np.arange(n) * 7 % 11 < 6
    flags: NDArray[Any] = np.packbits(given, bitorder="little") if packed else given[::-1].reshape(shape)
    with guarded(n, dtype) as y:
        fastdrop.apply_mask(values(shape, dtype), flags, 1 / 3, out=y.reshape(shape))
    return y


def noise(dtype: str, kind: str, params: Sequence[float], case: Case) -> NDArray[Any]:
    """Apply a noise to values, and append the sums for the gradient of its parameter."""
    other = np.abs(values((case.n,), dtype, 3))
    with_sums = kind in ("gaussian", "concrete", "uniform")
    with guarded(case.n, dtype) as y:
        call = plan.Call(case.seed, case.offset, out=y, start=case.start)
        _, sums = numbers.noise(call, values((case.n,), dtype), kind, params, other, with_sums=with_sums)
    if sums is None:
        return y
    with plan.RoundToNearest():  # the same also in a hostile environment
        sums = np.nan_to_num(sums, nan=-1.0)  # a NaN is promised, its payload is not
        return np.concatenate([np.asarray(y).astype(COMPUTED[dtype]).astype(np.float64), sums])


def normal(dtype: str, case: Case) -> NDArray[Any]:
    """Return normal numbers."""
    return fastdrop.normal(case.n, seed=case.seed, offset=case.offset, start=case.start, dtype=dtype)


def mask(packed: bool, case: Case) -> NDArray[Any]:
    """Return only the mask, with one byte or one bit per element."""
    shape, keywords = case.laid()
    return fastdrop.dropout_mask(shape, **keywords, packed=packed)


def uniform(dtype: str, case: Case) -> NDArray[Any]:
    """Return uniforms in (0, 1)."""
    return fastdrop.uniform(case.n, seed=case.seed, offset=case.offset, start=case.start, dtype=dtype)


def words(case: Case) -> NDArray[Any]:
    """Return random words."""
    return fastdrop.words(case.n, seed=case.seed, offset=case.offset, start=case.start)


# Operations on values: one row per operation and dtype.
VALUE_OPS: dict[str, tuple[Callable[..., Any], Any]] = {
    "bias": (dropout, ("bias",)),
    "residual": (dropout, ("residual",)),
    "bias-residual": (dropout, ("bias", "residual")),
    "affine": (transform, "affine"),
    "signed": (transform, "signed"),
    "select": (transform, "select"),
    "apply-mask": (apply_mask, False),
    "apply-packed": (apply_mask, True),
}

# Noises and their parameters: the letters of fastdrop.h.
NOISES: dict[str, tuple[str, Sequence[float]]] = {
    "gaussian": ("gaussian", (1 / 3,)),
    "additive": ("additive", (0.7,)),
    "spread": ("spread", (1e-8,)),
    "spread-slope": ("spread_slope", (1e-8,)),
    "concrete": ("concrete", (9.0, 1e-7, 10.0, 10 / 9, 3.3)),
    "concrete-root": ("concrete", (9.0, 1e-7, 1.5, 10 / 9, 3.3)),
    "concrete-any": ("concrete", (9.0, 1e-7, 6.7, 10 / 9, 3.3)),
    "uniform-noise": ("uniform", (1 / 3,)),
    "scaled": ("scaled", ()),
    "factors": ("factors", ()),
}

OPS = {
    **{f"dropout-{dtype}": Op(functools.partial(dropout, dtype, ()), rates=RATES) for dtype in DTYPES},
    "mask": Op(functools.partial(mask, False), rates=RATES),
    "packed-mask": Op(functools.partial(mask, True), rates=RATES),
    "uniform-float32": Op(functools.partial(uniform, "float32"), 2**50, (0.0,), laid=False),
    "uniform-float64": Op(functools.partial(uniform, "float64"), 2**49, (0.0,), laid=False),
    "words": Op(words, 2**50, (0.0,), laid=False),
    "normal-float32": Op(functools.partial(normal, "float32"), 2**50, (0.0,), laid=False),
    "normal-float64": Op(functools.partial(normal, "float64"), 2**49, (0.0,), laid=False),
    **{
        f"{name}-{dtype}": Op(functools.partial(noise, dtype, kind, params), 2**49, (0.0,), laid=False)
        for name, (kind, params) in NOISES.items()
        for dtype in DTYPES
    },
    **{
        f"{name}-{dtype}": Op(functools.partial(function, dtype, how))
        for name, (function, how) in VALUE_OPS.items()
        for dtype in DTYPES
    },
}


def cases(op: str, sizes: Sequence[int] = (*SIZES, THREADED_SIZE)) -> Iterator[Case]:
    """Yield the cases of an operation: each size with each start and rate."""
    row = OPS[op]
    for n in sizes:
        for start in (*STARTS, row.end - n):
            for p in row.rates:
                yield Case(op, n, start, p)


def laid_cases(op: str) -> Iterator[Case]:
    """Yield cases of an operation with every geometry.

    Kinds of rates, sizes, rates, starts and the two ways to write an output alternate. Over all operations, each geometry is
    combined with all of them, and most pairs of them occur.
    """
    row = list(OPS).index(op)
    sizes, rates, starts = (300, 1, TILE + 7, 3 * TILE + 3, THREADED_SIZE), (0.3, 0.5, 1 / 3, 0.9), (0, 77, 127, 2**39 - 1)
    for k, geometry in enumerate(GEOMETRIES if OPS[op].laid else ()):
        yield Case(
            op,
            sizes[(k + 2 * row) % len(sizes)],
            starts[(k + row) % len(starts)],
            rates[(k + row // 2) % len(rates)],
            geometry=geometry,
            rates=list(RATES_OF)[(k + row) % len(RATES_OF)],
            past_caches=(k + row // 3) % 2 == 1,
        )


@contextmanager
def threads_on_small_arrays() -> Iterator[None]:
    """Use all allowed threads from `THREADED_SIZE` elements on, so that threads are tested without large arrays."""
    plan.set_least_per_thread(8 * TILE)
    try:
        yield
    finally:
        plan.set_least_per_thread(plan.LEAST_PER_THREAD)


def os_threads() -> int:
    """Return the number of threads of this process, as Linux counts them; 0 on other systems."""
    return len(list(THREADS_OF_PROCESS.iterdir())) if THREADS_OF_PROCESS.is_dir() else 0


@contextmanager
def past_caches() -> Iterator[None]:
    """Write every output past the caches, whatever its size."""
    plan.set_bypass_bytes(0)
    try:
        yield
    finally:
        plan.set_bypass_bytes(settings.bypass_bytes())


def compute(case: Case) -> NDArray[Any]:
    """Return the result of a case under the settings in force."""
    with past_caches() if case.past_caches else nullcontext():
        return OPS[case.op].function(case)


# Engines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """A backend and, for C, the instruction set and the number of threads."""

    backend: str
    isa: str | None = None
    num_threads: int | None = None

    def __str__(self) -> str:
        return "-".join(map(str, filter(None, (self.backend, self.isa, self.num_threads))))

    def using(self) -> AbstractContextManager[None]:
        """Return a context in which this engine computes."""
        backend: Any = self.backend  # may be a backend that a test added
        return fastdrop.using(backend=backend, isa=self.isa, num_threads=self.num_threads)

    def missing(self) -> str | None:
        """Return the reason why this engine cannot be used here, or None."""
        try:
            with self.using():
                return None
        except ImportError as error:
            return str(error)

    def philox(self, counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]:
        """Return one Philox4x32-10 block."""
        if self.isa is not None:
            return native.philox(self.isa, counter, key)
        module: Any = settings.backend_module(self.backend)
        return tuple(module.philox(tuple(counter), tuple(key)))


REFERENCE = Engine("numpy")


def engines() -> list[Engine]:
    """Return the engines that must give the reference's bytes: C per instruction set, on 1 and 3 threads; other backends."""
    config = fastdrop.config()
    others = [Engine(name) for name in config["backends"] if name not in ("c", REFERENCE.backend)]
    return [Engine("c", isa, threads) for isa in config["isas"] for threads in (1, THREADS)] + others


# Arrays and comparisons ---------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def awkward(n: int, dtype: str) -> NDArray[Any]:
    """Return `n` read-only values: NaN, infinities, zeros, subnormals, and values that overflow or must be rounded."""
    with plan.RoundToNearest():  # the same also in a hostile environment
        of: Any = ml_dtypes.finfo if dtype == "bfloat16" else np.finfo
        info = of(dtype)
        tiny, least, most = info.tiny, info.smallest_subnormal, info.max
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0, least, -least, tiny, tiny - least, least * 12345, most, -most, 1.0]
        usual = [(-1) ** k * (k + 1) / 7 for k in range(48)]
        values = np.resize(np.array(special + usual, dtype), n)  # 61 of them: no multiple of it is near a power of two
    values.flags.writeable = False
    return values


@contextmanager
def guarded(n: int, dtype: str, shift: int = 0) -> Iterator[NDArray[Any]]:
    """Yield an output of `n` elements that begins `shift` elements after a cache line; memory around it must not change."""
    itemsize = np.dtype(dtype).itemsize
    buffer = np.full((n + shift) * itemsize + 4 * LINE, GUARD, np.uint8)
    begin = LINE + -buffer.__array_interface__["data"][0] % LINE + shift * itemsize
    end = begin + n * itemsize
    yield buffer[begin:end].view(dtype)
    if (buffer[:begin] != GUARD).any() or (buffer[end:] != GUARD).any():
        raise AssertionError("memory outside the output was written to")


@contextmanager
def spoiled() -> Iterator[None]:
    """Make the calling thread's floating-point environment hostile: flush subnormals, round toward zero."""
    found = native.float_spoil()
    try:
        yield
    finally:
        native.float_end(found)


def equal_bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether two arrays are equal to the bit, except for NaN payloads, which are not promised."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f" and a.dtype.name != "bfloat16":
        return a.tobytes() == b.tobytes()
    with np.errstate(invalid="ignore"):  # ml_dtypes raises it for a signaling NaN
        nan, b_nan = np.isnan(a), np.isnan(b)
    a_bits, b_bits = (np.where(nan, 0, np.ascontiguousarray(array).view(f"u{a.itemsize}").reshape(a.shape)) for array in (a, b))
    return np.array_equal(nan, b_nan) and np.array_equal(a_bits, b_bits)


def zoo(dtype: str) -> dict[str, NDArray[Any]]:
    """Return arrays of every kind of memory layout by name, some larger than a tile."""
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
