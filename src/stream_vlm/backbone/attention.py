"""Attention over fixed slots: rotates queries and stored keys by positions that are given from outside.

The model itself is run with every position at 0, where its own rotary embedding is the identity, so that un-rotated keys reach the cache
without patching the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

SLOT_ATTENTION = "stream_vlm_slots"
"""Name of the attention function in transformers' registry."""

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, each (1, tokens, head_dim)."""


def rotate(states: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Apply a rotary embedding (RoFormer, arXiv 2104.09864) in the half-split layout.

    Args:
        states: (batch, heads, tokens, head_dim).
    """
    cosines, sines = (part.unsqueeze(1) for part in rotation)
    half = states.shape[-1] // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cosines + turned * sines


def slot_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    query_rotation: Rotation | None = None,
    key_rotation: Rotation | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention; `query` (1, heads, new, head_dim), `key` and `value` (1, kv_heads, slots, head_dim)."""
    if query_rotation is None or key_rotation is None:
        raise ValueError("slot attention needs query_rotation and key_rotation; call the model through CachedForward")
    query = rotate(query, query_rotation)
    key = rotate(key, key_rotation)
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.device.type == "cpu":
        # On CPU the grouped kernel falls back to a slow path; folding the groups into the token axis shares each key head without copying it.
        batch, heads, tokens, head_dim = query.shape
        query = query.reshape(batch, heads // groups, groups * tokens, head_dim)
        mask = attention_mask.repeat(1, 1, groups, 1) if attention_mask is not None else None
        output = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
        output = output.view(batch, heads, tokens, head_dim)
    else:
        output = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=groups > 1)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
