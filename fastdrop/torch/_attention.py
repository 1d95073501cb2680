"""Attention as PyTorch documents `scaled_dot_product_attention`, with dropout of fastdrop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import fp16_bf16_reduction_math_sdp_allowed
from torch.nn.attention.bias import CausalBias, CausalVariant

from fastdrop.torch._calls import Placement, source_of
from fastdrop.torch._functions import dropout

__all__ = ["scaled_dot_product_attention"]


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
    documents as its meaning, written out. As there, float16 and bfloat16 are computed with in float32.

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
    if isinstance(attn_mask, CausalBias):
        attn_mask = mask_of_bias(attn_mask, query.device)
    if isinstance(dropout_p, (int, float)) and dropout_p == 0:
        source_of({name: each for name, each in options.items() if name not in Placement._fields})
        return native_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if is_causal and attn_mask is not None:
        raise ValueError("is_causal and attn_mask both define the allowed keys; give only one of them")
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (lowered(each) for each in (query, key, value))
        attn_mask = None if attn_mask is None else lowered(attn_mask)
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
    """Return whether the user lets PyTorch's function, where it has no fused kernel, compute in 16 bits."""
    return bool(fp16_bf16_reduction_math_sdp_allowed())  # type: ignore[no-untyped-call]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, scale: float | None, options: Any) -> Tensor:
    """Return the documented result for checked tensors, in their dtype."""
    scores = torch.matmul(q * (q.size(-1) ** -0.5 if scale is None else scale), k.transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
    weights = torch.softmax(scores, -1) if mask is None else torch.ops.aten._safe_softmax(scores, -1)
    return torch.matmul(dropout(weights, p, **options), v)


def lowered(x: Tensor) -> Tensor:
    """Return an operand in the dtype of autocast, which casts the operands of attention."""
    if not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype("cpu"))


def mask_of_bias(bias: Any, device: torch.device) -> Tensor:
    """Return the mask that a bias of `torch.nn.attention.bias` stands for: its own memory has nothing in it."""
    below = bias.variant == CausalVariant.LOWER_RIGHT
    return causal_mask(bias.seq_len_q, bias.seq_len_kv, bias.seq_len_kv - bias.seq_len_q if below else 0, device)


def causal_mask(queries: int, keys: int, diagonal: int, device: torch.device) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal)


def check_operands(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, enable_gqa: bool) -> None:
    """Raise for operands that PyTorch's function refuses, before anything is drawn."""
    operands = (query, key, value)
    if any(each.ndim < 2 for each in operands):
        raise ValueError(f"query, key and value must have 2 dimensions or more; got {[each.ndim for each in operands]}")
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(f"query, key and value must have one dtype; got {query.dtype}, {key.dtype} and {value.dtype}")
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise TypeError(f"attn_mask must be of bool, of float32 or of the dtype of query, {query.dtype}; got {mask.dtype}")
    if enable_gqa and any(each.ndim < 3 or not each.size(-3) or query.size(-3) % each.size(-3) for each in operands):
        heads = [each.shape[-3:-2] for each in operands]
        raise ValueError(f"the number of heads of query must be a multiple of those of key and value; got {heads}")


HALVES = (torch.float16, torch.bfloat16)
native_attention = torch.nn.functional.scaled_dot_product_attention  # whatever `patched` does to the name
