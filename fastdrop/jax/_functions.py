"""The public functions, which check their arguments when they are traced, and then bind the primitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import fastdrop.jax._lowering  # noqa: F401  # the rules of the primitive
from fastdrop._core import numbers, plan, pointers
from fastdrop._core.checks import fixed, known_sizes
from fastdrop.jax._primitive import AFFINE, GAUSSIAN, INVERTED, Rule, primitive
from fastdrop.variants.alpha import alpha_factors
from fastdrop.variants.gaussian import noise_scale

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "gaussian_dropout", "locked_dropout"]

DTYPES = ("float32", "float64", "float16", "bfloat16")
NOTHING = (0.0, 0.0, 0.0)
OUTSIDE = 2**32 - 1  # a traced global_start that is in no array: the sizes are at most this number
# Operands of a call without them. These are NumPy arrays, because an array of JAX would have to be made in each eager call.
NO_BEGIN, NO_RATE, NO_KEY = np.zeros(0, np.uint32), np.zeros(0, np.float32), np.zeros(2, np.uint32)

Factors = tuple[float, float, float]
Axes = Callable[[int], "tuple[int, ...]"]  # from a number of dimensions to the axes that share a decision


class Row(NamedTuple):
    """The properties of a function that `drop` needs."""

    name: str
    kind: int = INVERTED
    factors: Callable[[float], Factors] | None = None  # from a rate


class Placement(NamedTuple):
    """The caller's arguments for the place of a mask over an array."""

    shared_axes: Any
    noise_shape: Any
    start: Any
    global_shape: Any
    global_start: Any


def drop(x: jax.Array, p: Any, key: Any, training: Any, row: Row, placement: Placement) -> Any:
    """Check everything but x, and bind the primitive."""
    known, rate = check_rate(p, row)
    rule, begin = place(x, known, row, placement)
    keys: Any = None if callable(key) else check_key(key)
    with plan.RoundToNearest():  # otherwise a caller's "denormals are zero" makes a subnormal number equal to 0
        drops_nothing = known == 0
    if not plan.check_flag(training, "training") or drops_nothing:
        return x
    plan.effective()  # raises for a wrong setting, which the handler cannot do
    if keys is None:
        keys = NO_KEY if known == 1 else check_key(key())  # where everything is dropped, Flax draws no key
    return primitive.bind(*vary_alike(x, keys, begin, rate), rule=rule, local=False)


# Checks -------------------------------------------------------------------------------------------------------------


def check_array(x: Any) -> jax.Array:
    """Return an array of JAX, or raise an error."""
    if not isinstance(x, (jax.Array, np.ndarray, np.generic, float)) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"x must be an array of JAX or NumPy; got {type(x).__name__}")
    if isinstance(x, jax.Array) and x.dtype.name in DTYPES:
        return x
    if not isinstance(x, float) and x.dtype.name not in DTYPES:
        raise TypeError(f"x must have dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}; got {x.dtype}")
    if not isinstance(x, float) and not x.dtype.isnative:
        raise TypeError(f"x must have this machine's byte order; got dtype {x.dtype.str!r}")
    return jnp.asarray(x)


def check_rate(p: Any, row: Row) -> tuple[float | None, Any]:
    """Return p as a number and as an operand: None and float32 for an array of JAX, else a number and an empty operand."""
    if not isinstance(p, jax.Array):
        return plan.as_rate(p), NO_RATE
    if p.ndim:
        raise NotImplementedError(f"p must be one number for all elements; got an array of shape {p.shape}")
    if not (jnp.issubdtype(p.dtype, jnp.floating) or jnp.issubdtype(p.dtype, jnp.integer)):
        raise TypeError(f"p must be a real number; got an array of {p.dtype}")
    if row.factors is not None:
        raise NotImplementedError(f"p of {row.name} must be a Python number; got an array of JAX")
    if not isinstance(p, jax.core.Tracer):
        plan.as_rate(float(p))
    return None, p.astype(jnp.float32)


def check_key(key: Any) -> jax.Array:
    """Return the words of a key, or raise an error."""
    wanted = "key must be a key of JAX, such as jax.random.key(42)"
    if not isinstance(key, (jax.Array, np.ndarray)):
        raise TypeError(f"{wanted}; got {type(key).__name__}")
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and key.ndim:
        raise ValueError(f"key must be one key; got an array of keys of shape {key.shape}: use jax.vmap")
    if not typed and key.dtype != np.uint32:
        raise TypeError(f"{wanted}; got an array of {key.dtype}")
    words = jax.random.key_data(key) if typed else jnp.asarray(key)
    if words.shape not in ((2,), (4,)):
        raise ValueError(f"{wanted}, of 2 or 4 words of uint32; got an array of shape {words.shape}")
    return words


def place(x: jax.Array, p: float | None, row: Row, placement: Placement) -> tuple[Rule, Any]:
    """Return the rule of a call, and the part of the place that is known only when the call runs."""
    shared, noise_shape, start, whole, begin = placement
    indices = None if begin is None else as_indices(begin)
    shape, begins = known_sizes(x.shape), []
    for known in known_starts(indices, whole, shape):
        pointers.check(shape, 0.5 if p is None else p, noise_shape, shared, whole, known, start)
        begins.append(known)
    if noise_shape is not None:
        shared = tuple(axis for axis, size in enumerate(noise_shape) if size == 1)
    axes = () if shared is None else plan.as_axes(shared, x.ndim, "shared_axes")
    sizes = x.shape if whole is None else plan.as_sizes(whole, "global_shape")
    factors = NOTHING if row.factors is None or p is None else row.factors(p)
    rule = Rule(row.kind, p, factors, int(start), sizes, begins[0] or (0,) * x.ndim, axes)
    if row.kind == GAUSSIAN:
        check_numbers(x, rule, None if whole is None else sizes, begins)
    return rule, traced_start(indices or (), sizes)


def known_starts(indices: Sequence[Any] | None, whole: Any, shape: Sequence[int]) -> Iterator[tuple[int, ...] | None]:
    """Return the block's first place and, if a number is traced, its last one, which must be inside the stream, too.

    The handler only checks that the place is inside the whole. The caller checks the first place before it asks for the last.
    """
    if indices is None:
        yield None
        return
    yield tuple(0 if isinstance(index, jax.core.Tracer) else index for index in indices)
    if any(isinstance(index, jax.core.Tracer) for index in indices):
        ends = zip(whole, shape, indices, strict=True)
        yield tuple(size - n if isinstance(index, jax.core.Tracer) else index for size, n, index in ends)


def check_numbers(x: jax.Array, rule: Rule, whole: Any, begins: Sequence[Any]) -> None:
    """Raise an error unless the stream has all normal numbers of a noise: it has fewer of them than bits of a mask."""
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    shape, sizes = rule.without_shared(known_sizes(x.shape), 1), None if whole is None else rule.without_shared(whole, 1)
    for begin in begins:
        first = None if begin is None else rule.without_shared(begin, 0)
        numbers.check_place(shape, dtype, plan.Call(0, 0, True, None, rule.start, sizes, first))


def traced_start(indices: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """Return the operand of the traced numbers of global_start, with 0 for each other one; it is empty if none is traced."""
    if not any(isinstance(index, jax.core.Tracer) for index in indices):
        return NO_BEGIN
    if max(sizes) > OUTSIDE:
        raise ValueError(f"the sizes in global_shape must be below 2**32 if global_start is traced; got {sizes}")
    return jnp.stack([as_uint32(index) if isinstance(index, jax.core.Tracer) else jnp.uint32(0) for index in indices])


def as_uint32(index: Any) -> Any:
    """Return a traced number for the handler: one that does not fit is OUTSIDE, because a conversion alone would wrap it."""
    outside = index < 0
    if index.dtype.itemsize > 4:
        outside |= index > OUTSIDE
    return jnp.where(outside, jnp.uint32(OUTSIDE), index.astype(jnp.uint32))


def as_indices(begin: Any) -> tuple[Any, ...]:
    """Return global_start as Python integers and traced numbers, which must be 0-d integers."""
    if not isinstance(begin, tuple) or not any(isinstance(index, jax.core.Tracer) for index in begin):
        return plan.as_sizes(begin, "global_start")
    for index in begin:
        if isinstance(index, jax.core.Tracer) and (index.ndim or not jnp.issubdtype(index.dtype, jnp.integer)):
            raise TypeError(f"global_start must have integers; got a traced array of {index.dtype} with shape {index.shape}")
    known = plan.as_sizes([0 if isinstance(index, jax.core.Tracer) else index for index in begin], "global_start")
    return tuple(own if isinstance(own, jax.core.Tracer) else index for own, index in zip(begin, known, strict=True))


def place_in_flax(x: Any, broadcast_dims: Any) -> tuple[jax.Array, tuple[int, ...] | None]:
    """Return the array and the shared axes of Flax's modules, or raise an error that names their argument."""
    x = check_array(x)
    dims = plan.as_sizes(broadcast_dims, "broadcast_dims")
    return x, plan.as_axes(dims, x.ndim, "broadcast_dims") or None


def vary_alike(*operands: Any) -> list[Any]:
    """Return operands that vary along the same axes of a mesh, as `jax.shard_map` requires of a primitive's."""
    axes = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    union = frozenset().union(*axes)
    missing = [tuple(sorted(union - own)) for own in axes]
    return [jax.lax.pcast(x, names, to="varying") if names else x for x, names in zip(operands, missing, strict=True)]


# The table ----------------------------------------------------------------------------------------------------------


class Function(Protocol):
    """The signature that `define` gives."""

    def __call__(
        self,
        x: Any,
        p: Any = ...,
        *,
        key: Any,
        training: bool = True,
        shared_axes: int | Sequence[int] | None = None,
        noise_shape: Sequence[int | None] | None = None,
        start: int = 0,
        global_shape: Sequence[int] | None = None,
        global_start: Sequence[Any] | None = None,
    ) -> jax.Array:
        """Drop."""


DOCSTRING = """{summary}

The result has the bytes of `fastdrop.{name}` with the seed and the offset of the key.

Parameters
----------
x : jax.Array or numpy.ndarray of float32, float64, float16 or bfloat16
    {shape} On the CPU. JAX makes float32 of NumPy's float64 unless ``jax_enable_x64`` is set.
p : float, default 0.5
    {p}
key : jax.Array
    A key of JAX, such as ``jax.random.key(42)``, or its words as an array of uint32. The first two words are the seed, the high
    word first. If the key has four words, the last two are the offset, otherwise the offset is 0. `key` may also be a function
    that returns a key: it is called after all other checks, and only if `p` is neither 0 nor 1.
training : bool, default True
    False returns `x` itself, and so does ``p=0``; an array of NumPy becomes one of JAX.
shared_axes, noise_shape, start, global_shape
    As for `fastdrop.dropout`.
global_start : sequence of int, optional
    As for `fastdrop.dropout`. The numbers may be traced, such as those of ``jax.lax.axis_index``.

Returns
-------
jax.Array
    {returns} Derivatives make the mask again: only the key is saved for them.

Raises
------
TypeError, ValueError, OverflowError
    As for `fastdrop.{name}`, when the function is traced; and for a `key` that is not one key of 2 or 4 words.
jax.errors.JaxRuntimeError
    For a traced `p` outside [0, 1], or a traced `global_start` that is not inside `global_shape`, when the compiled code runs;
    and for shards of unequal size, when XLA compiles.
NotImplementedError
    For a `p` that is not one number, and on a platform other than cpu.

Examples
--------
>>> import jax, jax.numpy as jnp, fastdrop.jax
>>> x, key = jnp.ones({example}), jax.random.key(42)
>>> y = fastdrop.jax.{name}(x, 0.5, key=key)
>>> bool((y == jax.jit(fastdrop.jax.{name})(x, key=key)).all())
True
"""

RATE = "Probability of dropping, in [0, 1]. A Python number is exact; a JAX array, traced or not, is rounded to float32."
NUMBER = "in [0, 1{end}. A Python number."


# Parts of the docstring, where a function does not replace them.
WORDS = {
    "p": RATE,
    "shape": "Any shape.",
    "returns": "Kept elements times 1 / (1 - p), dropped ones +0.0.",
    "example": "(2, 4)",
}


def define(row: Row, summary: str, axes: Axes | None = None, **words: str) -> Function:
    """Return the function of a row. It decides per element unless `axes` gives the axes that share a decision.

    `words` replace those of WORDS in the docstring.
    """

    def function(
        x: Any,
        p: Any = 0.5,
        *,
        key: Any,
        training: bool = True,
        shared_axes: int | Sequence[int] | None = None,
        noise_shape: Sequence[int | None] | None = None,
        start: int = 0,
        global_shape: Sequence[int] | None = None,
        global_start: Sequence[Any] | None = None,
    ) -> jax.Array:
        x = check_array(x)
        if axes is not None:
            if not (shared_axes is None and noise_shape is None):
                raise ValueError(f"{row.name} shares decisions along axes of its own; shared_axes and noise_shape must be None")
            shared_axes = axes(x.ndim)
        places = map(fixed, (shared_axes, noise_shape, start, global_shape, global_start))
        return drop(x, p, key, training, row, Placement(*places))  # type: ignore[no-any-return]

    function.__name__ = function.__qualname__ = row.name
    function.__doc__ = DOCSTRING.format(name=row.name, summary=summary, **(WORDS | words))
    return function


def channels(*layouts: str) -> Axes:
    """Return the rule that shares a decision along the axes after the channels, for arrays of these layouts."""
    shared = {len(layout): tuple(range(layout.index("C") + 1, len(layout))) for layout in layouts}
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)

    def axes(ndim: int) -> tuple[int, ...]:
        if ndim not in shared:
            raise ValueError(f"x must have the dimensions {wanted}; got {ndim} dimensions")
        return shared[ndim]

    return axes


def first_axis(ndim: int) -> tuple[int, ...]:
    """Return the axis of time."""
    if not ndim:
        raise ValueError("x must have an axis of time, the first; got 0 dimensions")
    return (0,)


def factors_of_noise(p: float) -> Factors:
    return float(noise_scale(p, None)), 0.0, 0.0


dropout = define(Row("dropout"), "Drop elements at random.")
dropout1d = define(
    Row("dropout1d"),
    "Drop whole channels of sequences.",
    channels("CL", "NCL"),
    shape="(C, L) or (N, C, L).",
    example="(2, 3, 4)",
)
dropout2d = define(
    Row("dropout2d"),
    "Drop whole channels of images.",
    channels("NCL", "NCHW"),
    shape="(N, C, H, W) or (N, C, L). Three dimensions are not one image (C, H, W): pass ``x[None]`` for one image.",
    example="(2, 3, 4, 4)",
)
dropout3d = define(
    Row("dropout3d"),
    "Drop whole channels of volumes.",
    channels("CDHW", "NCDHW"),
    shape="(C, D, H, W) or (N, C, D, H, W).",
    example="(2, 3, 2, 4, 4)",
)
locked_dropout = define(
    Row("locked_dropout"),
    "Drop the same features at all times.",
    first_axis,
    shape="Time is the first axis.",
    example="(3, 2, 4)",
)
alpha_dropout = define(
    Row("alpha_dropout", AFFINE, lambda p: alpha_factors(p, 0.0, 1.0)),
    "Set elements at random to SELU's negative saturation, then restore the mean and the variance.",
    p="Probability of dropping, " + NUMBER.format(end="]"),
    returns="Kept elements a x + b, dropped ones c, with the mean and the variance of x.",
)
gaussian_dropout = define(
    Row("gaussian_dropout", GAUSSIAN, factors_of_noise),
    "Multiply each element by a normal number of mean 1 and variance p / (1 - p).",
    p="The rate of the dropout with the same mean and variance, " + NUMBER.format(end=")"),
    returns="Elements times 1 + sqrt(p / (1 - p)) z, each operation rounded in the compute type.",
)
