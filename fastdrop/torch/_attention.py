"""Attention: dropout of its probabilities, of its keys before the softmax, and `scaled_dot_product_attention` as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import fp16_bf16_reduction_math_sdp_allowed
from torch.nn.attention.bias import CausalBias, CausalVariant

from fastdrop._core import plan
from fastdrop.torch._calls import Placement, is_compiling, is_usual, source_of
from fastdrop.torch._functions import drop_probabilities, dropout
from fastdrop.torch._operators import EMPTY_ROWS, UNITS
from fastdrop.torch._pairs import renormalized
from fastdrop.torch._tensors import check_layout, check_memory, check_tensor, ndim_of
from fastdrop.torch._variants import Arguments, check_other, constant, key_of, placeholder, untraced, values_of, vary
from fastdrop.variants.attention import QUERIES, check_fill, check_keys, check_rule, check_shared_axes

__all__ = ["attention_dropout", "drop_key", "scaled_dot_product_attention"]


# Probabilities --------------------------------------------------------------------------------------------------------


def attention_dropout(
    input: Tensor,
    p: float = 0.1,
    training: bool = True,
    inplace: bool = False,
    *,
    unit: str = "element",
    shared_axes: int | Sequence[int] | None = None,
    window: int = 1,
    exact_rate: bool = True,
    renormalize: bool | None = None,
    **options: Any,
) -> Tensor:
    """Drop attention probabilities, after the softmax: single probabilities, whole keys, or windows of keys.

    Parameters
    ----------
    input : torch.Tensor
        Probabilities, of shape (batch, heads, queries, keys). If single elements are dropped and rows are not renormalized, any
        shape is allowed.
    p : float, default 0.1
        Probability of dropping, in [0, 1].
    training : bool, default True
        False returns `input` itself, and so does ``p=0``.
    inplace : bool, default False
        Whether to write the result to `input`. It must be False if rows are renormalized.
    unit : {"element", "key"}
        Whether each query has its own decisions, or all queries share the decision about a key.
    shared_axes : int or sequence of int, optional
        Other axes that share decisions: 0 (the samples), 1 (the heads), or both.
    window : int, default 1
        The number of consecutive keys that are dropped together.
    exact_rate : bool, default True
        As for `fastdrop.attention_dropout`: whether each key of a window is dropped with probability `p`.
    renormalize : bool, optional
        True divides each row by the sum of its kept elements. False scales kept elements by 1 / (1 - p). The default is True
        for whole keys and for windows of more than one key.
    **options
        seed, offset and generator, as for `dropout`. If rows are not renormalized, also noise_shape, global_shape and
        global_start.

    Returns
    -------
    torch.Tensor
        The result of `fastdrop.attention_dropout`, with derivatives of any order. If rows are renormalized, `input` is saved
        for the backward pass.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> x = torch.full((1, 1, 2, 4), 0.25)
    >>> fastdrop.torch.attention_dropout(x, 0.5, seed=42)[0, 0]
    tensor([[0.5000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.0000]])
    >>> fastdrop.torch.attention_dropout(x, 0.5, unit="key", seed=0)[0, 0]
    tensor([[0.0000, 0.5000, 0.0000, 0.5000],
            [0.0000, 0.5000, 0.0000, 0.5000]])
    """
    find = constant_rule if is_compiling() else rule_of_rows
    rule = find(unit, shared_axes, window, exact_rate, renormalize)
    if ndim_of(input) != 4 and (unit == "key" or window != 1 or renormalize):
        raise ValueError(f"input must have the dimensions (batch, heads, queries, keys); got {input.ndim} dimensions")
    if rule is not None and rule[1] is None:
        if unit == "key" and options.get("noise_shape") is not None:
            raise ValueError("noise_shape must be None if unit is 'key', because all queries share a decision then")
        return drop_probabilities(input, p, training, inplace, shared_axes=rule[0], **options)
    if inplace is not False and plan.check_flag(inplace, "inplace"):
        raise ValueError("inplace must be False if rows are renormalized")
    if is_compiling() and not (rule is not None and is_usual((input,), p, training, source_of(options))):
        rows = {
            "unit": unit,
            "shared_axes": shared_axes,
            "window": window,
            "exact_rate": exact_rate,
            "renormalize": renormalize,
        }
        return untraced(attention_dropout, input, p, training, **rows, **options)  # type: ignore[no-any-return]
    key = key_of(input, "fastdrop.torch.attention_dropout", p, Arguments(training, options))
    return input if key is None else renormalized(input, key, (p, *rule[1]))


def rule_of_rows(unit: Any, shared_axes: Any, window: Any, exact_rate: Any, renormalize: Any) -> tuple[Any, Any]:
    """Return the axes that share decisions, and the numbers of the operator that renormalizes rows, or None for scaled ones."""
    divides = check_rule(0.0, unit, None, window, exact_rate, renormalize).renormalize
    if unit == "element" and not divides:
        return shared_axes, None
    axes = check_shared_axes(shared_axes)
    if not divides:
        return (*axes, QUERIES), None
    return axes, (UNITS.index(unit), int(window), int(exact_rate), bits_of(axes))


constant_rule = constant(rule_of_rows)


def bits_of(axes: Sequence[int]) -> int:
    """Return a set of axes as one number."""
    return sum(1 << axis for axis in axes)


# Keys -----------------------------------------------------------------------------------------------------------------


def drop_key(
    input: Tensor,
    p: float = 0.1,
    training: bool = True,
    *,
    shared_axes: int | Sequence[int] | None = None,
    fill: float = -math.inf,
    empty_rows: str = "keep",
    allowed: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Drop keys before the softmax: each query loses some keys, and its probabilities over the other keys sum to one.

    Parameters
    ----------
    input : torch.Tensor
        The logits, of shape (batch, heads, queries, keys).
    p : float, default 0.1
        Probability of dropping a key for a query, in [0, 1].
    training : bool, default True
        False returns `input` itself, and so does ``p=0``.
    shared_axes : int or sequence of int, optional
        Axes that share decisions: 0 (the samples), 1 (the heads), or both.
    fill : float, default -inf
        The value of a dropped logit.
    empty_rows : {"keep", "fill"}
        Whether a query that would lose all its keys keeps or loses them.
    allowed : torch.Tensor of bool, optional
        True where a query may attend to a key, of a shape that broadcasts to that of `input`.
    **options
        seed, offset and generator, as for `dropout`.

    Returns
    -------
    torch.Tensor
        The result of `fastdrop.drop_key`: `input` itself, or a new tensor of its shape and dtype.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.drop_key(torch.ones(1, 1, 2, 4), 0.5, seed=42)[0, 0]
    tensor([[1., -inf, -inf, -inf],
            [-inf, 1., 1., -inf]])
    """
    numbers = (constant_numbers if is_compiling() else numbers_of_keys)(fill, empty_rows, shared_axes)
    if allowed is not None:
        check_other(allowed, "allowed", input)
    if is_compiling() and not (
        numbers is not None and is_usual((input,), p, training, source_of(options)) and fits(allowed, input)
    ):
        keywords = {"shared_axes": shared_axes, "fill": fill, "empty_rows": empty_rows, "allowed": allowed}
        return untraced(drop_key, input, p, training, **keywords, **options)  # type: ignore[no-any-return]

    def check() -> None:
        given = None if allowed is None else values_of(allowed)
        check_keys(placeholder(input), "input", p, shared_axes, empty_rows, given)

    return vary(input, "drop_key", (p, *numbers), Arguments(training, options, allowed, check))


def numbers_of_keys(fill: Any, empty_rows: Any, shared_axes: Any) -> tuple[float, int, int]:
    """Return the operator's arguments for `drop_key`, or raise an error for a bad argument."""
    if empty_rows not in EMPTY_ROWS:
        raise ValueError(f"empty_rows must be 'keep' or 'fill'; got {empty_rows!r}")
    return check_fill(fill), EMPTY_ROWS.index(empty_rows), bits_of(check_shared_axes(shared_axes))


constant_numbers = constant(numbers_of_keys)


def fits(allowed: Tensor | None, input: Tensor) -> bool:
    """Return whether flags fit the logits; the compiler traces this."""
    if input.ndim != 4 or allowed is None:
        return input.ndim == 4
    pairs = zip(reversed(allowed.shape), reversed(input.shape), strict=False)
    return allowed.dtype == torch.bool and allowed.ndim <= 4 and all(size in (1, whole) for size, whole in pairs)


# As a whole ---------------------------------------------------------------------------------------------------------


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
    """Return attention, with fastdrop's `dropout` of its probabilities.

    Without dropout, PyTorch's function is called. With dropout, PyTorch has no fused kernel on CPUs, and this function computes
    the formula that PyTorch documents. As in PyTorch, float16 and bfloat16 are computed in float32.

    Parameters
    ----------
    query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        As for `torch.nn.functional.scaled_dot_product_attention`.
    **options
        seed, offset, generator, shared_axes, noise_shape, global_shape and global_start, as for `dropout`. They apply to the
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
    if isinstance(attn_mask, CausalBias):
        attn_mask = mask_of_bias(attn_mask, query.device)
    if isinstance(dropout_p, (int, float)) and dropout_p == 0:
        source_of({name: each for name, each in options.items() if name not in Placement._fields}, Placement._fields)
        return native_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if is_causal and attn_mask is not None:
        raise ValueError("is_causal and attn_mask both define the allowed keys; give only one of them")
    if torch.is_autocast_enabled("cpu"):
        query, key, value, attn_mask = (lowered(each) for each in (query, key, value, attn_mask))
    check_operands(query, key, value, attn_mask, enable_gqa)
    if enable_gqa:
        key, value = (each.repeat_interleave(query.size(-3) // each.size(-3), -3) for each in (key, value))
    if is_causal:
        attn_mask = causal_mask(query.size(-2), key.size(-2), 0, query.device)
    dtype = query.dtype
    with torch.autocast("cpu", enabled=False):
        if dtype in HALVES and not reduces_in_half():
            query, key, value = query.float(), key.float(), value.float()
        return attend(query, key, value, attn_mask, dropout_p, scale, options).to(dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def reduces_in_half() -> bool:
    """Return whether the user allows PyTorch's function to compute in 16 bits where it has no fused kernel."""
    return bool(fp16_bf16_reduction_math_sdp_allowed())  # type: ignore[no-untyped-call]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, scale: float | None, options: Any) -> Tensor:
    """Return attention by PyTorch's documented formula for checked tensors, in their dtype."""
    scores = torch.matmul(q * (max(q.size(-1), 1) ** -0.5 if scale is None else scale), k.transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
    weights = torch.softmax(scores, -1) if mask is None else torch.ops.aten._safe_softmax(scores, -1)
    check_value(weights, v)
    return torch.matmul(dropout(weights, p, **options), v)


def check_value(weights: Tensor, value: Tensor) -> None:
    """Raise an error for values that do not fit the probabilities, before a key is drawn."""
    pairs = zip(reversed(weights.shape[:-2]), reversed(value.shape[:-2]), strict=False)
    if weights.size(-1) != value.size(-2) or not all(a == b or a == 1 or b == 1 for a, b in pairs):
        raise ValueError(
            f"value must fit the probabilities, of shape (..., queries, keys), {tuple(weights.shape)}; got {tuple(value.shape)}"
        )


def lowered(x: Any) -> Any:
    """Return an operand of attention in the dtype to which autocast casts it; other things than tensors as they are."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype("cpu"))


def mask_of_bias(bias: Any, device: torch.device) -> Tensor:
    """Return the mask for a bias of `torch.nn.attention.bias`, whose own memory is empty."""
    below = bias.variant == CausalVariant.LOWER_RIGHT
    return causal_mask(bias.seq_len_q, bias.seq_len_kv, bias.seq_len_kv - bias.seq_len_q if below else 0, device)


def causal_mask(queries: int, keys: int, diagonal: int, device: torch.device) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal)


def check_operands(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, enable_gqa: bool) -> None:
    """Raise an error for operands that PyTorch's function refuses, before a key is drawn."""
    operands = (query, key, value)
    for each, name in zip(operands, ("query", "key", "value"), strict=True):
        check_tensor(each, name, "call torch.nn.functional.scaled_dot_product_attention there", FUNCTION)
        check_memory(each, name, query)
    if mask is not None:
        check_layout(mask, "attn_mask")
        check_memory(mask, "attn_mask", query)
    ndims = [each.ndim for each in operands]
    if min(ndims) < 2:
        raise ValueError(f"query, key and value must have 2 dimensions or more; got {ndims}")
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(f"query, key and value must have one dtype; got {query.dtype}, {key.dtype} and {value.dtype}")
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise TypeError(f"attn_mask must be of bool, of float32 or of the dtype of query, {query.dtype}; got {mask.dtype}")
    if enable_gqa and any(each.ndim < 3 or not each.size(-3) or query.size(-3) % each.size(-3) for each in operands):
        heads = [each.shape[-3:-2] for each in operands]
        raise ValueError(f"the number of heads of query must be a multiple of those of key and value; got {heads}")


FUNCTION = "fastdrop.torch.scaled_dot_product_attention"
HALVES = (torch.float16, torch.bfloat16)
native_attention = torch.nn.functional.scaled_dot_product_attention  # whatever `patched` does to the name
