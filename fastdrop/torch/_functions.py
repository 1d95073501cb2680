"""The functions, with the signatures of `torch.nn.functional`: a line of a table for each that shares decisions along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import fastdrop.torch._autograd as _autograd
from fastdrop._core import plan, pointers
from fastdrop.random import Key
from fastdrop.torch._autograd import Rule, by_operator, eager_plain
from fastdrop.torch._keys import DEFAULT, Source, check_source, draw_key, draw_tensor
from fastdrop.torch._operators import NO_OPERANDS, Operands, Place
from fastdrop.torch._tensors import check_in_place, check_tensor, is_acceptable, is_plain, is_transformed
from fastdrop.variants import alpha

__all__ = [
    "alpha_dropout",
    "attention_dropout",
    "concrete_dropout",
    "drop_block2d",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "locked_dropout",
    "scaled_dot_product_attention",
    "weight_drop",
]

Shape = Sequence[int]


class Row(NamedTuple):
    """What `drop` needs to know of a function."""

    name: str
    instead: str  # of what to call for a tensor on another device
    factors: Callable[[float], tuple[float, ...]] | None  # of a rate, unless they are 1 / (1 - p)


def row_of(name: str, factors: Callable[[float], tuple[float, ...]] | None = None) -> Row:
    """Return the row of a function."""
    native = hasattr(torch.nn.functional, name)
    return Row(
        f"fastdrop.torch.{name}", f"call torch.nn.functional.{name} there" if native else "call input.cpu() first", factors
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def alpha_factors(p: float) -> tuple[float, ...]:
    """Return alpha dropout's scale, shift and fill."""
    return alpha.alpha_factors(p, 0.0, 1.0)


def no_factor(p: float) -> tuple[float, ...]:
    """Return the scale of kept elements that stay as they are."""
    return (1.0,)


class Placement(NamedTuple):
    """How a mask lies over a tensor, as the caller said it."""

    noise_shape: Any = None
    shared_axes: Any = None
    global_shape: Any = None
    global_start: Any = None

    def resolved(self, ndim: int) -> Place:
        """Return the same with axes counted from the front."""
        noise, shared, whole, begin = self
        if noise is not None:
            axes = [k for k, size in enumerate(noise) if size == 1]
        else:
            given = () if shared is None else (shared,) if isinstance(shared, int) else tuple(shared)
            axes = [axis + ndim if axis < 0 else axis for axis in given]
        return tuple(axes), None if whole is None else tuple(whole), None if begin is None else tuple(begin)

    def is_traceable(self, shape: Shape) -> bool:
        """Return whether it can be left to the operator to say what is wrong, if anything is."""
        noise = self.noise_shape
        return noise is None or (
            self.shared_axes is None
            and len(noise) == len(shape)
            and all(given is None or given in (1, size) for given, size in zip(noise, shape, strict=True))
        )


# One way for all ------------------------------------------------------------------------------------------------------


def drop(
    x: Tensor, p: Any, training: Any, in_place: Any, source: Source, row: Row, placement: Placement | None, more: Operands
) -> Tensor:
    """Return ``residual + dropout(x + bias)``: check everything, draw a key, and take the way that the tensors need."""
    if torch.compiler.is_compiling():
        return traced(x, p, training, in_place, source, row, placement, more)
    plain = is_plain(x)
    if plain:
        x = torch._C._functorch.unwrap_if_dead(x)  # a tensor that outlived its transform has no memory of its own
    if not plain or more is not NO_OPERANDS:
        plain = check_operands(x, more, row) and plain
    rate = plan.as_rate(p)
    place = None
    if placement is not None:
        pointers.check(x.shape, rate, *placement)
        place = placement.resolved(x.ndim)
    if in_place:
        check_in_place(x)
    if source is not DEFAULT:
        check_source(source)
    if not (training is True or plan.check_flag(training, "training")) or not rate:
        return x if more is NO_OPERANDS else added(x, more, plain)
    factors = () if row.factors is None else row.factors(rate)
    if plain:
        seed, offset = draw_key(source)
        return eager_plain(x, Rule(rate, seed, offset, factors, place), in_place, more)
    return elsewhere(x, in_place, source, Rule(rate, 0, 0, factors, place), more)


def check_operands(x: Tensor, more: Operands, row: Row) -> bool:
    """Raise unless the tensors go together; return whether all of them are plain."""
    check_tensor(x, "input", row.instead, row.name)
    for tensor, name, shape in zip(more, ("bias", "residual"), (x.shape[-1:], x.shape), strict=True):
        if tensor is not None:
            check_tensor(tensor, name, row.instead, row.name)
            if tensor.dtype != x.dtype:
                raise TypeError(f"{name} must have the dtype of input, {x.dtype}; got {tensor.dtype}")
            if tensor.shape != shape:
                raise ValueError(f"{name} must have the shape {tuple(shape)}; got {tuple(tensor.shape)}")
    return all(tensor is None or is_plain(tensor) for tensor in more)


def added(x: Tensor, more: Operands, plain: bool) -> Tensor:
    """Return ``residual + (x + bias)``, of which nothing is dropped."""
    rule = Rule(0.0, 0, 0)
    return eager_plain(x, rule, False, more) if plain else by_operator(x, torch.zeros((), dtype=torch.int64), rule, more)


def elsewhere(x: Tensor, in_place: bool, source: Source, rule: Rule, more: Operands) -> Tensor:
    """Do the same for tensors that are not plain: shards, shapes without memory, transformed ones, negated views."""
    if type(x).__name__ == "DTensor":
        import fastdrop.torch._shards as _shards

        return _shards.drop(x, in_place, source, rule, more)
    seed, offset = draw_tensor(source, x.device)
    made = by_operator(x, seed, rule._replace(offset=offset), more)
    return x.copy_(made) if in_place else made


def traced(
    x: Tensor, p: Any, training: Any, in_place: Any, source: Source, row: Row, placement: Placement | None, more: Operands
) -> Tensor:
    """Do the same while a compiler traces. What is wrong, or not for a graph, is left to the eager way, which says so."""
    if not (
        all(tensor is None or is_acceptable(tensor) for tensor in (x, *more))
        and not is_transformed()
        and is_traceable(source)
        and isinstance(p, (int, float))
        and not isinstance(p, bool)
        and 0 <= p <= 1
        and isinstance(training, bool)
        and (placement is None or placement.is_traceable(x.shape))
        and (more[0] is None or more[0].shape == x.shape[-1:])
        and (more[1] is None or more[1].shape == x.shape)
    ):
        return untraced(x, p, training, in_place, source, row, placement, more)  # type: ignore[no-any-return]
    if not training or p == 0:
        return x if more[0] is None and more[1] is None else added(x, more, False)
    seed, offset = draw_tensor(source, x.device)
    factors = () if row.factors is None else row.factors(float(p))
    place = None if placement is None else placement.resolved(x.ndim)
    made = by_operator(x, seed, Rule(float(p), 0, offset, factors, place), more)
    return x.copy_(made) if in_place else made


untraced: Any = torch.compiler.disable(  # type: ignore[no-untyped-call]
    drop, reason="this call of fastdrop.torch is not for a graph, or it is wrong"
)


def is_traceable(source: Source) -> bool:
    """Return whether a seed can be in a graph: none, a tensor, a number or a key."""
    seed, offset, generator = source
    if generator is not None or not isinstance(offset, int):
        return False
    if isinstance(seed, Tensor):
        return seed.dtype in (torch.int64, torch.uint64) and (seed.ndim == 0 or (seed.shape == (2,) and offset == 0))
    return seed is None or (isinstance(seed, int) and 0 <= seed < 2**64) or (isinstance(seed, Key) and offset == 0)


# The table ------------------------------------------------------------------------------------------------------------


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
        global_shape: Shape | None = None,
        global_start: Shape | None = None,
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
    False returns `input` itself, and so does ``p=0``; nothing is drawn then.
inplace : bool, default False
    Whether to write the result to `input`.
seed : int, Key, Stream or torch.Tensor, optional
    What the mask is made of: as for `fastdrop.{name}`, or a tensor of int64 or uint64, a number or a key (seed, offset).
    By default 64 bits are drawn from PyTorch's generator, so that ``torch.manual_seed`` holds.
offset : int, default 0
    Which call under the seed this is.
generator : torch.Generator, optional
    The generator to draw from, instead of the default one.
shared_axes, noise_shape, global_shape, global_start
    As for `fastdrop.dropout`.

Returns
-------
torch.Tensor
    {returns} The backward pass makes the mask again: nothing is saved for it but the seed.

Examples
--------
>>> import torch, fastdrop.torch
>>> x = torch.ones({example})
>>> y = fastdrop.torch.{name}(x, 0.5, True, seed=42)
>>> bool((y == fastdrop.torch.{name}(x, 0.5, True, seed=42)).all())
True
"""

SCALED = "Kept elements times 1 / (1 - p), dropped ones +0.0."
STANDARDISED = "Kept elements a x + b and dropped ones a s + b, s being what SELU tends to, with the mean and variance of x."

Axes = Callable[[int], "tuple[int, ...]"]  # the axes that share a decision, of a number of dimensions


def channels(*layouts: str) -> Axes:
    """Return the rule that shares a decision along the axes after the channels, for tensors of these layouts."""
    shared = {len(layout): tuple(range(layout.index("C") + 1, len(layout))) for layout in layouts}
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)

    def axes(ndim: int) -> tuple[int, ...]:
        if ndim not in shared:
            raise ValueError(f"input must have the dimensions {wanted}; got {ndim} dimensions")
        return shared[ndim]

    return axes


def after(number: int, meaning: str) -> Axes:
    """Return the rule that shares a decision along all axes after the first `number`."""

    def axes(ndim: int) -> tuple[int, ...]:
        if ndim < number:
            raise ValueError(f"input must have {meaning}; got {ndim} dimensions")
        return tuple(range(number, ndim))

    return axes


def define(
    name: str,
    summary: str,
    axes: Axes | None = None,
    *,
    p: float = 0.5,
    training: bool = True,
    alpha: bool = False,
    shape: str = "Any shape.",
    example: str = "2, 4",
) -> Function:
    """Return the function of this name: elementwise unless `axes` says what shares a decision."""
    row = row_of(name, alpha_factors if alpha else None)

    def function(
        input: Tensor,
        p: float = p,
        training: bool = training,
        inplace: bool = False,
        *,
        seed: Any = None,
        offset: int = 0,
        generator: torch.Generator | None = None,
        shared_axes: int | Sequence[int] | None = None,
        noise_shape: Sequence[int | None] | None = None,
        global_shape: Shape | None = None,
        global_start: Shape | None = None,
    ) -> Tensor:
        place = None
        if not (axes is None and shared_axes is None and noise_shape is None and global_shape is None and global_start is None):
            if axes is not None:
                if not (shared_axes is None and noise_shape is None):
                    raise ValueError(f"{name} shares decisions along axes of its own; shared_axes and noise_shape say others")
                shared_axes = axes(input.ndim)
            place = Placement(noise_shape, shared_axes, global_shape, global_start)
        source = DEFAULT if seed is None and generator is None and offset == 0 else (seed, offset, generator)
        return drop(input, p, training, inplace, source, row, place, NO_OPERANDS)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = DOCSTRING.format(
        name=name,
        summary=summary,
        shape=shape,
        p=p,
        training=training,
        returns=STANDARDISED if alpha else SCALED,
        example=example,
    )
    return function


dropout = define("dropout", "Drop elements at random and scale the others.")
dropout1d = define(
    "dropout1d", "Drop whole channels of sequences.", channels("NCL", "CL"), shape="(N, C, L) or (C, L).", example="2, 3, 4"
)
dropout2d = define(
    "dropout2d",
    "Drop whole channels of images.",
    channels("NCHW", "NCL"),
    shape="(N, C, H, W) or (N, C, L).",
    example="2, 3, 4, 4",
)
dropout3d = define(
    "dropout3d",
    "Drop whole channels of volumes.",
    channels("NCDHW", "CDHW"),
    shape="(N, C, D, H, W) or (C, D, H, W).",
    example="2, 3, 4, 4, 4",
)
alpha_dropout = define(
    "alpha_dropout", "Drop elements to SELU's saturation, and keep mean and variance.", training=False, alpha=True
)
feature_alpha_dropout = define(
    "feature_alpha_dropout",
    "Do what `alpha_dropout` does to whole channels.",
    after(2, "an axis of samples and one of channels"),
    training=False,
    alpha=True,
    shape="(N, C, ...).",
    example="2, 3, 4",
)
attention_dropout = define("attention_dropout", "Drop attention probabilities, after the softmax.", p=0.1)
embedding_dropout = define(
    "embedding_dropout",
    "Drop the rows of an embedding matrix: word types.",
    after(1, "an axis of words"),
    p=0.1,
    shape="(V, D).",
)
weight_drop = define("weight_drop", "Drop the recurrent weights of an RNN, once for a whole forward pass.")


def locked_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, batch_first: bool = False, **options: Any
) -> Tensor:
    """Drop the same units at all time steps, after Gal and Ghahramani.

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
        As of `dropout`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> y = fastdrop.torch.locked_dropout(torch.ones(3, 2, 4), 0.5, seed=42)
    >>> bool((y[0] == y[1]).all())
    True
    """
    return dropout(input, p, training, inplace, shared_axes=1 if batch_first else 0, **options)


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
        As of `dropout`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.drop_path(torch.ones(4, 2), 0.5, True, seed=42)[:, 0]
    tensor([2., 0., 0., 0.])
    """
    if input.ndim < 1:
        raise ValueError("input must have an axis of samples; got 0 dimensions")
    place = Placement(None, tuple(range(1, input.ndim)), options.pop("global_shape", None), options.pop("global_start", None))
    row = DROP_PATH if scale_by_keep else UNSCALED_DROP_PATH
    return drop(input, drop_prob, training, False, source_of(options), row, place, NO_OPERANDS)


DROP_PATH, UNSCALED_DROP_PATH = row_of("drop_path"), row_of("drop_path", no_factor)


def source_of(options: dict[str, Any]) -> Source:
    """Return the source of a key that options say, and refuse others."""
    unknown = options.keys() - {"seed", "offset", "generator"}
    if unknown:
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}: seed, offset and generator are possible")
    return options.get("seed"), options.get("offset", 0), options.get("generator")


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
        Of the last axis's size.
    training : bool, default True
        Outside training nothing is dropped.
    **options
        seed, offset, generator, shared_axes, noise_shape, global_shape and global_start, as for `dropout`.

    Returns
    -------
    torch.Tensor
        A new tensor. The 16-bit types are computed with in float32 and rounded once, at the end.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.dropout_add(torch.ones(4), torch.full((4,), 10.0), 0.5, seed=42)
    tensor([12., 10., 10., 10.])
    """
    given = [options.pop(name, None) for name in Placement._fields]
    placement = None if all(each is None for each in given) else Placement(*given)
    return drop(x, p, training, False, source_of(options), DROPOUT_ADD, placement, (bias, residual))


DROPOUT_ADD = row_of("dropout_add")


# Noise and blocks -----------------------------------------------------------------------------------------------------


def vary(input: Tensor, name: str, numbers: tuple[Any, ...], training: Any, options: dict[str, Any]) -> Tensor:
    """Return what the function of fastdrop makes of the input; it draws a key unless it changes nothing."""
    source = source_of(options)
    if not torch.compiler.is_compiling():
        check_tensor(input, "input", "call input.cpu() first", f"fastdrop.torch.{name}")
        check_source(source)
        plan.as_rate(numbers[0])
        plan.check_flag(training, "training")
    if not training or numbers[0] == 0:
        return input
    return _autograd.variant(input, *draw_tensor(source, input.device), name, *numbers)


def gaussian_dropout(input: Tensor, p: float = 0.5, training: bool = True, **options: Any) -> Tensor:
    """Multiply each element by a normal number of mean 1 and variance p / (1 - p).

    Parameters
    ----------
    input : torch.Tensor
        Any shape.
    p : float, default 0.5
        The rate of the dropout with the same mean and variance, in [0, 1).
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        A new tensor.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.gaussian_dropout(torch.ones(3), 0.1, seed=42)
    tensor([1.0957, 0.9737, 0.5160])
    """
    if p == 1:
        raise ValueError("p must be in [0, 1) here: at 1 the noise would have an infinite variance")
    return vary(input, "gaussian_dropout", (p,), training, options)


def drop_block2d(input: Tensor, p: float = 0.1, block_size: int = 7, training: bool = True, **options: Any) -> Tensor:
    """Drop square blocks of feature maps, and scale what is left by how much of it there is.

    Parameters
    ----------
    input : torch.Tensor
        Of shape (N, C, H, W).
    p : float, default 0.1
        How much is meant to be dropped.
    block_size : int, default 7
        The size of a block.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.drop_block`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> y = fastdrop.torch.drop_block2d(torch.ones(2, 3, 8, 8), 0.2, 3, seed=42)
    >>> bool(((y == 0) | (y > 1)).all())
    True
    """
    if input.ndim != 4:
        raise ValueError(f"input must have the dimensions (N, C, H, W); got {input.ndim} dimensions")
    if not isinstance(block_size, int) or block_size < 1:
        raise ValueError(f"block_size must be an integer >= 1; got {block_size!r}")
    return vary(input, "drop_block", (p, block_size), training, options)


def concrete_dropout(input: Tensor, p_logit: Tensor, temperature: float = 0.1, training: bool = True, **options: Any) -> Tensor:
    """Multiply by a softened mask of rate sigmoid(p_logit), through which the rate has a gradient.

    Parameters
    ----------
    input : torch.Tensor
        Any shape.
    p_logit : torch.Tensor
        The logit of the rate, one number.
    temperature : float, default 0.1
        How soft: above 0.
    training : bool, default True
        False returns `input` itself.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        As of `fastdrop.concrete_dropout`. There is no second derivative and no forward mode.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.concrete_dropout(torch.ones(4), torch.tensor(-1.0), seed=42)
    tensor([1.3617, 1.3679, 1.3679, 1.3679])
    """
    source = source_of(options)
    if not torch.compiler.is_compiling():
        for tensor, name in ((input, "input"), (p_logit, "p_logit")):
            check_tensor(tensor, name, "call input.cpu() first", "fastdrop.torch.concrete_dropout")
        check_source(source)
        plan.check_flag(training, "training")
        if not temperature > 0:
            raise ValueError(f"temperature must be a finite number > 0; got {temperature!r}")
    if p_logit.numel() != 1:
        raise ValueError(f"p_logit must be one number; got shape {tuple(p_logit.shape)}")
    if not training:
        return input
    return _autograd.concrete(input, p_logit, *draw_tensor(source, input.device), float(temperature))


# Attention ------------------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **options: Any,
) -> Tensor:
    """Return attention, with `dropout` of fastdrop on its probabilities.

    Without dropout it is PyTorch's own function. With it, that has no fused kernel on CPUs either, and this is what it
    documents as its meaning, written out.

    Parameters
    ----------
    query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        As for `torch.nn.functional.scaled_dot_product_attention`.
    **options
        seed, offset, generator, shared_axes, noise_shape, global_shape and global_start, as for `dropout`: of the
        probabilities, whose shape is (..., heads, queries, keys).

    Returns
    -------
    torch.Tensor
        Of shape (..., heads, queries, values).

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> q = k = v = torch.ones(1, 2, 4, 8)
    >>> fastdrop.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.1, seed=42).shape
    torch.Size([1, 2, 4, 8])
    """
    if isinstance(dropout_p, (int, float)) and dropout_p == 0:
        source_of({name: each for name, each in options.items() if name not in Placement._fields})
        return native_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if is_causal and attn_mask is not None:
        raise ValueError("is_causal and attn_mask say the same in two ways: give one of them")
    if enable_gqa:
        key, value = (each.repeat_interleave(query.size(-3) // each.size(-3), -3) for each in (key, value))
    if is_causal:
        attn_mask = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool, device=query.device).tril()
    scores = torch.matmul(query * (query.size(-1) ** -0.5 if scale is None else scale), key.transpose(-2, -1))
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = torch.softmax(scores, -1) if attn_mask is None else torch.ops.aten._safe_softmax(scores, -1)
    return torch.matmul(dropout(weights, dropout_p, **options), value)


native_attention = torch.nn.functional.scaled_dot_product_attention  # whatever `patched` does to the name
