"""fastdrop for Dask arrays: each block gets its part of the mask of the whole array, so the chunks do not change the result.

Every function checks its arguments and draws its key when the graph is made. Then each block is a task of its own, on one
thread, that communicates with no other block.

Examples
--------
>>> import dask.array as da, fastdrop.dask
>>> x = da.ones((2, 4), chunks=(1, 2), dtype="float32")
>>> fastdrop.dask.dropout(x, 0.5, seed=42).compute()
array([[2., 0., 0., 0.],
       [0., 2., 2., 0.]], dtype=float32)
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdrop import random
from fastdrop._core import plan
from fastdrop._core.checks import fixed
from fastdrop._core.optional import missing
from fastdrop.variants import alpha, channels, gaussian, recurrent
from fastdrop.variants import dropout as plain

try:
    import dask.array as da
    from dask.base import tokenize
except ImportError as error:
    raise missing("fastdrop.dask", error, "dask") from error

__all__ = [
    "alpha_dropout",
    "apply_mask",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_mask",
    "gaussian_dropout",
    "gaussian_noise",
    "locked_dropout",
    "normal",
    "spatial_dropout",
    "uniform",
]

Arguments: TypeAlias = dict[str, Any]
Lifted: TypeAlias = Callable[..., Any]
T = TypeVar("T")

FUNCTIONS: dict[str, Callable[..., NDArray[Any]]] = {}  # of NumPy arrays, by name: a task names its function
OF_BLOCKS = {"out", "start", "global_shape", "global_start", "num_threads"}  # arguments that each block has for itself
NOT_LIFTED = {"bias", "residual", "packed"}  # arguments for arrays that do not have the chunks of x


# Tasks --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockTask:
    """The arguments of a task besides its blocks, in one object, because Dask walks through the containers in each task."""

    function: str
    key: tuple[int, int] | None  # None for a function that draws nothing
    options: Arguments
    shape: tuple[int, ...]
    starts: tuple[Sequence[int], ...]  # for each axis, the first index of each block
    is_new: bool  # whether the function takes the shape of a block instead of arrays

    def __call__(self, *arrays: NDArray[Any], block_id: tuple[int, ...]) -> NDArray[Any]:
        """Return one block."""
        operands: tuple[Any, ...] = (self.shape_of_block(block_id),) if self.is_new else arrays
        if self.key is None:
            return FUNCTIONS[self.function](*operands, num_threads=1, **self.options)
        return FUNCTIONS[self.function](
            *operands,
            seed=self.key[0],
            offset=self.key[1],
            global_shape=self.shape,
            global_start=[starts[k] for starts, k in zip(self.starts, block_id, strict=True)],
            num_threads=1,
            **self.options,
        )

    def shape_of_block(self, block_id: tuple[int, ...]) -> tuple[int, ...]:
        """Return the distances of a block's starts from the next ones, or from the end."""
        axes = zip(self.starts, block_id, self.shape, strict=True)
        return tuple((starts[k + 1] if k + 1 < len(starts) else size) - starts[k] for starts, k, size in axes)


def start_of_blocks(sizes: tuple[int, ...]) -> Sequence[int]:
    """Return the first index of each block along an axis; equal blocks have a range, which is small in every task."""
    starts = [0, *itertools.accumulate(sizes[:-1])]
    steps = range(0, len(sizes) * max(sizes[0], 1), max(sizes[0], 1))
    return steps if list(steps) == starts else starts


def make_graph(function: str, arrays: list[Any], key: random.Key | None, options: Arguments, layout: Arguments) -> Any:
    """Return the array whose blocks are tasks. Equal arguments give equal names, so that equal graphs are merged."""
    chunks = arrays[0].chunks if arrays else layout["chunks"]
    task = BlockTask(
        function,
        None if key is None else (key.seed, key.offset),
        options,
        tuple(map(sum, chunks)),
        tuple(map(start_of_blocks, chunks)),
        not arrays,
    )
    token = tokenize(function, task.key, options, chunks, *arrays)
    return da.map_blocks(task, *arrays, name=f"{function}-{token}", **layout)


# Checks -------------------------------------------------------------------------------------------------------------


def check_array(x: Any, name: str) -> Any:
    """Return a Dask array, or raise an error for one that the tasks could not check."""
    if not isinstance(x, da.Array):
        raise TypeError(f"{name} must be a dask.array.Array; got {type(x).__name__}; dask.array.from_array makes one")
    if not isinstance(x._meta, np.ndarray):
        raise TypeError(f"{name} must have blocks that are NumPy arrays; its blocks are {type(x._meta).__name__}")
    if any(math.isnan(size) for size in x.shape):
        raise ValueError(
            f"{name} must have known chunk sizes, because the mask follows the index; got the shape {x.shape}: "
            f"call {name}.compute_chunk_sizes() first"
        )
    return x


def check_mask(mask: Any, x: Any) -> Any:
    """Return a mask of bool that broadcasts to x, as a Dask array with the chunks of x."""
    mask = check_array(da.asarray(mask) if isinstance(mask, np.ndarray) else mask, "mask")
    if mask.dtype == np.uint8:
        raise TypeError("mask must be of bool for a Dask array, because a packed mask has no blocks of x; got uint8")
    sizes = zip(mask.shape[::-1], x.shape[::-1], strict=False)
    if mask.ndim > x.ndim or any(size not in (1, whole) for size, whole in sizes):
        raise ValueError(f"mask has shape {mask.shape}, which does not broadcast to the shape {x.shape} of x")
    chunks = x.chunks[x.ndim - mask.ndim :]
    return mask.rechunk(tuple(of_x if size > 1 else (size,) for size, of_x in zip(mask.shape, chunks, strict=True)))


def fix(arguments: Arguments) -> None:
    """Replace what can be read only once, or what the caller could change before the tasks run; raise an error for arrays."""
    for name in arguments.keys() & {"shared_axes", "noise_shape"}:
        arguments[name] = fixed(arguments[name])
    for name in arguments.keys() & {"p", "log_alpha"}:
        arguments[name] = one_number(arguments[name], name)
    for name in arguments.keys() & {"mean", "scale", "stddev", "var"}:  # numbers or arrays of one element
        arguments[name] = copy.deepcopy(arguments[name])
    if "p" in arguments:
        arguments["p"] = plan.as_rate(arguments["p"])


def one_number(value: Any, name: str) -> Any:
    """Return a value that is no array, not even one without axes, or raise an error."""
    array = value if hasattr(value, "ndim") else plan.to_array(value, name)
    if array.ndim:
        raise TypeError(f"{name} must be one number for a Dask array; got an array of shape {array.shape}")
    return np.asarray(value)[()] if hasattr(value, "ndim") else value


def check_chunks(chunks: Any, shape: tuple[int, ...], dtype: Any) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the blocks along each axis. Dask accepts unknown and negative ones."""
    try:
        found: tuple[tuple[int, ...], ...] = da.core.normalize_chunks(chunks, shape, dtype=dtype)
    except ZeroDivisionError:
        raise ValueError(f"chunks must have more than 0 elements along an axis that has some; got {chunks!r}") from None
    if not all(isinstance(size, int) and size >= 0 for sizes in found for size in sizes):
        raise ValueError(f"chunks must have known sizes >= 0; got {chunks!r}")
    return found


def try_last_element(function: str, operands: list[Any], shape: tuple[int, ...], arguments: Arguments) -> NDArray[Any]:
    """Run the function on the last element of the whole array. This makes all checks of a call, even that of the last index."""
    place: Arguments = {}
    if "seed" in arguments:
        place = {"global_shape": shape, "global_start": [max(size - 1, 0) for size in shape]}
    return FUNCTIONS[function](*operands, **arguments, **place)


def last_element(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the block of the last element; an array without elements has an empty one."""
    return tuple(min(size, 1) for size in shape)


def draw_key(arguments: Arguments, attempt: Callable[[Arguments], T]) -> tuple[random.Key | None, T]:
    """Return the key of the graph, and the result of `attempt` with these arguments, whose checks come before the draw."""
    if "seed" not in arguments:
        return None, attempt(arguments)
    if not plan.check_flag(arguments.get("training", True), "training"):  # outside training a seed is checked and not drawn
        return random.Key(0), attempt(arguments)
    seed, offset = arguments["seed"], arguments["offset"]
    made = attempt({**arguments, "seed": None if seed is None else 0})
    return random.Key(seed, offset), made


# From functions of NumPy arrays to functions of Dask arrays -----------------------------------------------------------


def drop_blocks(function: str, arguments: Arguments) -> Any:
    """Run a function of an array on each block of a Dask array."""
    x = check_array(arguments.pop("x"), "x")
    arrays = [x, check_mask(arguments.pop("mask"), x)] if "mask" in arguments else [x]
    fix(arguments)
    elements: list[Any] = [np.zeros(last_element(array.shape), array.dtype) for array in arrays]
    key, made = draw_key(arguments, lambda arguments: try_last_element(function, elements, x.shape, arguments))
    if made is elements[0]:
        return x
    return make_graph(function, arrays, key, without_key(arguments), {"dtype": made.dtype, "meta": x._meta})


def fill_blocks(function: str, arguments: Arguments) -> Any:
    """Make each block of a new Dask array."""
    shape, chunks = plan.as_shape(arguments.pop("shape")), arguments.pop("chunks")
    fix(arguments)

    def attempt(arguments: Arguments) -> Arguments:
        dtype = try_last_element(function, [last_element(shape)], shape, arguments).dtype
        sizes = check_chunks(chunks, shape, dtype)
        return {"chunks": sizes, "dtype": dtype, "meta": np.empty((0,) * len(shape), dtype)}

    key, layout = draw_key(arguments, attempt)
    return make_graph(function, [], key, without_key(arguments), layout)


def without_key(arguments: Arguments) -> Arguments:
    """Return the options of a task, which has the key apart from them."""
    return {name: value for name, value in arguments.items() if name not in ("seed", "offset")}


DOCSTRING = """Apply `fastdrop.{name}` to {what}, one task per block.

Parameters
----------
{entry}
{others}
    As in `fastdrop.{name}`.{seed}

Returns
-------
dask.array.Array
    {result}. Its bytes are those of `fastdrop.{name}` for {same}, whatever the chunks are. Equal arguments give equal names.

Raises
------
TypeError, ValueError, OverflowError
    As in `fastdrop.{name}`, when the graph is made{more}.

Examples
--------
>>> import dask.array as da, fastdrop.dask
{example}
"""
SEED = " A stream, a generator or None is drawn from once, when the graph is made."
OF_ARRAY = {
    "what": "a Dask array",
    "entry": "x : dask.array.Array of float32, float64, float16 or bfloat16\n    Its chunk sizes must be known.",
    "result": "With the chunks and the dtype of `x`",
    "same": "the whole array",
    "more": "; also for unknown chunk sizes, and for a `p` or a `log_alpha` that is an array",
}
OF_SHAPE = {
    "what": "a shape",
    "entry": 'chunks : as in `dask.array.ones`, default "auto"\n    The chunks of the result.',
    "result": "Of the given shape and chunks",
    "same": "the whole shape",
    "more": "",
}


def lift(function: Callable[..., NDArray[Any]], example: str = "da.ones((2, 4, 3), chunks=2, dtype='float32')") -> Lifted:
    """Return the function of Dask arrays that corresponds to a function of NumPy arrays; `example` makes its first argument."""
    name: str = getattr(function, "__name__")  # noqa: B009  # a Callable has none for type checkers
    FUNCTIONS[name] = function
    given = [each for each in inspect.signature(function).parameters.values() if each.name not in OF_BLOCKS | NOT_LIFTED]
    is_of_shape = given[0].name == "shape"
    if is_of_shape:
        given.append(inspect.Parameter("chunks", inspect.Parameter.KEYWORD_ONLY, default="auto"))
    run, signature = fill_blocks if is_of_shape else drop_blocks, inspect.Signature(given)

    def lifted(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        return run(name, dict(bound.arguments))

    lifted.__name__ = lifted.__qualname__ = name
    vars(lifted)["__signature__"] = signature
    lifted.__doc__ = describe(name, [each.name for each in given], example)
    return lifted


def describe(name: str, names: list[str], example: str) -> str:
    """Return the docstring of a function of Dask arrays, with an example that runs."""
    is_of_shape = names[0] == "shape"
    chunked = "(4, 6), chunks={}, " if is_of_shape else "x.rechunk({}), "
    call = f"fastdrop.dask.{name}({chunked}{'x > 0' if 'mask' in names else 'seed=42'})"
    lines = [f">>> y = {call.format(2)}", f">>> bool((y == {call.format(3)}).all())", "True"]
    return DOCSTRING.format(
        name=name,
        others=", ".join(each for each in names if each not in ("x", "chunks")),
        seed=SEED if "seed" in names else "",
        example="\n".join(lines if is_of_shape else [f">>> x = {example}", *lines]),
        **OF_SHAPE if is_of_shape else OF_ARRAY,
    )


dropout = lift(plain.dropout)
dropout1d = lift(channels.dropout1d)
dropout2d = lift(channels.dropout2d)
dropout3d = lift(channels.dropout3d, "da.ones((2, 4, 3, 3), chunks=2, dtype='float32')")
spatial_dropout = lift(channels.spatial_dropout)
locked_dropout = lift(recurrent.locked_dropout)
alpha_dropout = lift(alpha.alpha_dropout)
gaussian_dropout = lift(gaussian.gaussian_dropout)
gaussian_noise = lift(gaussian.gaussian_noise)
apply_mask = lift(plain.apply_mask)
dropout_mask = lift(plain.dropout_mask)
normal = lift(random.normal)
uniform = lift(random.uniform)
