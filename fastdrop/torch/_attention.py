"""Attention: what PyTorch documents `scaled_dot_product_attention` to mean, with dropout of fastdrop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
        raise ValueError("is_causal and attn_mask both define the allowed keys; give only one of them")
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
