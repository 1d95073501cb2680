"""The functions that drop, with the signatures of `torch.nn.functional`: a row of a table each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import fastdrop.torch._native as _native
from fastdrop._core.checks import as_share
from fastdrop._core.pointers import drop_usual
from fastdrop.torch._calls import NOTHING, Given, Placement, drop, given_of, is_compiling, source_of, target
from fastdrop.torch._keys import DEFAULT
from fastdrop.torch._operators import NO_OPERANDS
from fastdrop.torch._tensors import ndim_of
from fastdrop.variants import alpha

__all__ = [
    "alpha_dropout",
    "drop_path",
    "drop_probabilities",
    "drop_word_types",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "feature_alpha_dropout",
    "locked_dropout",
    "weight_drop",
]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def alpha_factors(p: float) -> tuple[float, ...]:
    """Return alpha dropout's scale, shift and fill."""
    return alpha.alpha_factors(p, 0.0, 1.0)


def no_factor(p: float) -> tuple[float, ...]:
    """Return 1, the scale of kept elements that are not scaled."""
    return (1.0,)


class Function(Protocol):
    """The signature that `define` gives."""

    def __call__(
        self,
        input: Tensor,
        p: float = ...,
        training: bool = ...,
        inplace: bool = ...,
        *,
        seed: Any = None,
        offset: int = 0,
        generator: torch.Generator | None = None,
        shared_axes: int | Sequence[int] | None = None,
        noise_shape: Sequence[int | None] | None = None,
        global_shape: Sequence[int] | None = None,
        global_start: Sequence[int] | None = None,
    ) -> Tensor:
        """Drop."""


DOCSTRING = """{summary}

Parameters
----------
input : torch.Tensor of float32, float64, float16 or bfloat16
    {shape} On the CPU; of any strides.
p : float, default {p}
    Probability of dropping, in [0, 1].
training : bool, default {training}
    False returns `input` itself, and so does ``p=0``; no key is drawn then.
inplace : bool, default False
    Whether to write the result to `input`.
seed : int, Key, Stream or torch.Tensor, optional
    The source of the mask: as for `fastdrop.{name}`, or a tensor of int64 or uint64 that holds a seed, of shape (), or a key
    (seed, offset), of shape (2,). By default 64 bits are drawn from PyTorch's generator, which ``torch.manual_seed`` sets.
offset : int, default 0
    The number of the call under the seed (a step, a layer), in [0, 2**64).
generator : torch.Generator, optional
    The generator to draw from, instead of the default one.
shared_axes, noise_shape, global_shape, global_start
    As for `fastdrop.dropout`.

Returns
-------
torch.Tensor
    {returns} The backward pass makes the mask again: only the key is saved for it.

Examples
--------
>>> import torch, fastdrop.torch
>>> x = torch.ones({example})
>>> y = fastdrop.torch.{name}(x, 0.5, True, seed=42)
>>> bool((y == fastdrop.torch.{name}(x, 0.5, True, seed=42)).all())
True
"""

SCALED = "Kept elements times 1 / (1 - p), dropped ones +0.0."
STANDARDISED = "Kept elements are a x + b, dropped ones a s + b, where s is the limit of SELU; a and b keep mean and variance."

Axes = Callable[[int, bool], "tuple[int, ...]"]  # the axes that share a decision, of a number of dimensions; if any is dropped


class WrongDimensions(ValueError, RuntimeError):
    """A wrong number of dimensions: a ValueError, as in fastdrop, and a RuntimeError, as in PyTorch."""


def channels(
    name: str, *layouts: str, others: str = "", first: int = 2, received: Mapping[int, str] = MappingProxyType({})
) -> Axes:
    """Return the rule that shares a decision along the axes after the channels, for tensors of these layouts.

    `others` names the layout of all other tensors; a warning says so, as in PyTorch. Their first `first` axes have decisions of
    their own. `received` has the text of the warning for a number of dimensions. Warnings and errors begin with PyTorch's text,
    so that filters for that text work.
    """
    shared = {len(layout): tuple(range(layout.index("C") + 1, len(layout))) for layout in layouts}
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)
    sizes = " or ".join(f"{size}D" for size in sorted(shared))

    def axes(ndim: int, drops: bool) -> tuple[int, ...]:
        if ndim in shared:
            return shared[ndim]
        if not others or ndim < first:
            raise WrongDimensions(
                f"{name}: Expected {sizes} input, but received a {ndim}D input: input must have the dimensions {wanted}"
            )
        what = received.get(ndim, f"a {ndim}-D input to {name}")
        warn(
            f"{name}: Received {what}; input should have the dimensions {wanted}; got {ndim} dimensions, which are taken as "
            f"{others}, as PyTorch does"
        )
        return tuple(range(first, ndim))

    return axes


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def warn(message: str) -> None:
    """Warn the caller of a function; only once while a compiler traces."""
    warnings.warn(message, stacklevel=4)


def after(number: int, meaning: str) -> Axes:
    """Return the rule that shares a decision along all axes after the first `number`; fewer axes are an error if it drops."""

    def axes(ndim: int, drops: bool) -> tuple[int, ...]:
        if ndim < number and drops:
            raise WrongDimensions(f"input must have {meaning}; got {ndim} dimensions")
        return tuple(range(number, ndim))

    return axes


class Row(NamedTuple):
    """One line of the table: a function that drops elements, or groups that share a decision."""

    name: str
    summary: str
    axes: Axes | None = None  # what shares a decision; the caller's arguments say so if None
    p: float = 0.5
    training: bool = True
    factors: Callable[[float], tuple[float, ...]] | None = None
    shape: str = "Any shape."
    example: str = "2, 4"


def define(row: Row) -> Function:
    """Return the function of a row."""
    name, axes, described = row.name, row.axes, target(row.name, factors=row.factors)
    is_usual = axes is None and row.factors is None

    def function(
        input: Tensor,
        p: float = row.p,
        training: bool = row.training,
        inplace: bool = False,
        *,
        seed: Any = None,
        offset: int = 0,
        generator: torch.Generator | None = None,
        shared_axes: int | Sequence[int] | None = None,
        noise_shape: Sequence[int | None] | None = None,
        global_shape: Sequence[int] | None = None,
        global_start: Sequence[int] | None = None,
    ) -> Tensor:
        place, own = None, None
        if not (axes is None and shared_axes is None and noise_shape is None and global_shape is None and global_start is None):
            if axes is not None:
                if not (shared_axes is None and noise_shape is None):
                    raise ValueError(f"{name} shares decisions along axes of its own; shared_axes and noise_shape must be None")
                drops_nothing = training is False or (isinstance(p, (int, float)) and p == 0)  # other types are checked later
                shared_axes = found = axes(ndim_of(input), not drops_nothing)
                own = found if global_shape is None and global_start is None else None
            place = Placement(noise_shape, shared_axes, global_shape, global_start)
        is_default = seed is None and generator is None and type(offset) is int and offset == 0
        if is_default and place is None:
            if is_usual and not is_compiling():
                made = (_native.drop or drop_usual)(input, p, training, inplace)
                if made is not None:
                    return made  # type: ignore[no-any-return]
            return drop(input, p, training, inplace, described, NOTHING)
        source = DEFAULT if is_default else (seed, offset, generator)
        return drop(input, p, training, inplace, described, Given(source, place, NO_OPERANDS, own))

    function.__name__ = function.__qualname__ = name
    returns = SCALED if row.factors is None else STANDARDISED
    function.__doc__ = DOCSTRING.format(**row._asdict(), returns=returns)
    return function


dropout = define(Row("dropout", "Drop elements at random and scale the others."))
dropout1d = define(
    Row(
        "dropout1d",
        "Drop whole channels of sequences.",
        channels("dropout1d", "NCL", "CL"),
        shape="(N, C, L) or (C, L).",
        example="2, 3, 4",
    )
)
dropout2d = define(
    Row(
        "dropout2d",
        "Drop whole channels of images.",
        channels(
            "dropout2d",
            "NCHW",
            others="(N, C, ...)",
            received={
                3: "a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired: call dropout1d for "
                "sequences, and input.unsqueeze(0) for one image (C, H, W)"
            },
        ),
        shape="(N, C, H, W). Any other tensor counts as (N, C, ...), with a warning, as in PyTorch.",
        example="2, 3, 4, 4",
    )
)
dropout3d = define(
    Row(
        "dropout3d",
        "Drop whole channels of volumes.",
        channels("dropout3d", "NCDHW", "CDHW", others="(C, ...)", first=1),
        shape="(N, C, D, H, W) or (C, D, H, W). Any other tensor counts as (C, ...), with a warning, as in PyTorch.",
        example="2, 3, 4, 4, 4",
    )
)
alpha_dropout = define(
    Row(
        "alpha_dropout",
        "Drop elements to SELU's saturation, and keep mean and variance.",
        training=False,
        factors=alpha_factors,
    )
)
feature_alpha_dropout = define(
    Row(
        "feature_alpha_dropout",
        "Drop whole channels to SELU's saturation, and keep mean and variance.",
        after(2, "an axis of samples and one of channels"),
        training=False,
        factors=alpha_factors,
        shape="(N, C, ...).",
        example="2, 3, 4",
    )
)
drop_probabilities = define(Row("attention_dropout", "Drop attention probabilities, after the softmax.", p=0.1))
drop_word_types = define(
    Row(
        "embedding_dropout",
        "Drop the rows of an embedding matrix: word types.",
        after(1, "an axis of words"),
        p=0.1,
        shape="(V, D).",
    )
)
weight_drop = define(Row("weight_drop", "Drop the recurrent weights of an RNN, once for a whole forward pass."))


def locked_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, batch_first: bool = False, **options: Any
) -> Tensor:
    """Drop the same units at all time steps, as Gal and Ghahramani do.

    Parameters
    ----------
    input : torch.Tensor
        Of shape (T, N, ...), or (N, T, ...) if `batch_first`.
    p, training, inplace
        As for `dropout`.
    batch_first : bool, default False
        Whether time is the second axis, as PyTorch's recurrent layers have it.
    **options
        seed, offset, generator, global_shape and global_start, as for `dropout`.

    Returns
    -------
    torch.Tensor
        The result of `dropout`: `input` itself, or a tensor of its shape and dtype.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> y = fastdrop.torch.locked_dropout(torch.ones(3, 2, 4), 0.5, seed=42)
    >>> bool((y[0] == y[1]).all())
    True
    """
    time, ndim = 1 if batch_first else 0, ndim_of(input)
    if ndim <= time:
        raise WrongDimensions(f"input must have an axis of time, axis {time}; got {ndim} dimensions")
    return drop(input, p, training, inplace, LOCKED_DROPOUT, given_along((time,), options))


LOCKED_DROPOUT = target("locked_dropout")


def given_along(axes: tuple[int, ...], options: dict[str, Any]) -> Given:
    """Return the options of a function whose decisions are shared along axes of its own."""
    place = Placement(None, axes, options.pop("global_shape", None), options.pop("global_start", None))
    return Given(source_of(options, ("global_shape", "global_start")), place)


def drop_path(
    input: Tensor, drop_prob: float = 0.0, training: bool = False, scale_by_keep: bool = True, **options: Any
) -> Tensor:
    """Drop the path of a residual block for each sample: stochastic depth.

    Parameters
    ----------
    input : torch.Tensor
        The output of the block's path, samples along the first axis.
    drop_prob : float, default 0
        Probability of dropping a sample's path.
    training : bool, default False
        False returns `input` itself.
    scale_by_keep : bool, default True
        Whether kept paths are divided by 1 - drop_prob.
    **options
        seed, offset, generator, global_shape and global_start, as for `dropout`.

    Returns
    -------
    torch.Tensor
        The result of `dropout`: `input` itself, or a tensor of its shape and dtype.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.drop_path(torch.ones(4, 2), 0.5, True, seed=42)[:, 0]
    tensor([2., 0., 0., 0.])
    """
    ndim = ndim_of(input)
    if ndim < 1:
        raise ValueError("input must have an axis of samples; got 0 dimensions")
    function = DROP_PATH if scale_by_keep else UNSCALED_DROP_PATH
    return drop(input, drop_prob, training, False, function, given_along(tuple(range(1, ndim)), options))


def as_drop_prob(value: Any) -> float:
    """Return the rate of `drop_path`, or raise an error that names it."""
    return as_share(value, "drop_prob")


DROP_PATH = target("drop_path", as_rate=as_drop_prob)
UNSCALED_DROP_PATH = DROP_PATH._replace(factors=no_factor)


def dropout_add(
    x: Tensor, residual: Tensor, p: float = 0.5, bias: Tensor | None = None, training: bool = True, **options: Any
) -> Tensor:
    """Return ``residual + dropout(x + bias)``, in one pass.

    Parameters
    ----------
    x, residual : torch.Tensor
        Of the same shape and dtype.
    p : float, default 0.5
        Probability of dropping an element of x + bias.
    bias : torch.Tensor, optional
        Of shape ``x.shape[-1:]`` and the dtype of `x`.
    training : bool, default True
        False drops nothing, and returns ``residual + (x + bias)``.
    **options
        seed, offset, generator, shared_axes, noise_shape, global_shape and global_start, as for `dropout`.

    Returns
    -------
    torch.Tensor
        A new tensor. float16 and bfloat16 are computed in float32 and rounded once at the end.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.dropout_add(torch.ones(4), torch.full((4,), 10.0), 0.5, seed=42)
    tensor([12., 10., 10., 10.])
    """
    more = bias, residual
    if not options and _native.run is None and not is_compiling():
        made = drop_usual(x, p, training, False, more)
        if made is not None:
            return made  # type: ignore[no-any-return]
    return drop(x, p, training, False, DROPOUT_ADD, given_of(options, more))


DROPOUT_ADD = target("dropout_add", operand="x")
