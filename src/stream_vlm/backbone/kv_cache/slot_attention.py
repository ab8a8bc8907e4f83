"""Attention over fixed slots, for several streams in one forward: each stream's new tokens look at
that stream's slots and at no other's.

The model's layers are run with an identity rotation, so that un-rotated keys reach the cache
without patching the model; what attention compares are keys that the cache rotated by positions
given from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from stream_vlm.backbone.kv_cache.slot_cache import SlotCache

SLOT_ATTENTION = "stream_vlm_slots"
"""Name of the attention function in transformers' registry."""

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, each (1, tokens, head_dim)."""


def rotate(states: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Apply a rotary embedding (RoFormer, arXiv 2104.09864) in the half-split layout.

    Args:
        states: (batch, heads, tokens, head_dim).
    """
    cosines, sines = (part.to(states.device).unsqueeze(1) for part in rotation)
    half = states.shape[-1] // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cosines + turned * sines


@dataclass(frozen=True)
class Share:
    """One stream's share of a packed forward.

    Attributes:
        begin, end: its tokens among those of the forward.
        cache: where its keys and values go and come from.
        staged: int64 (end - begin,), the slots that its tokens are written to.
        extent: number of leading slots that it may look at.
        mask: bool (1, 1, groups * (end - begin), extent), True where a token sees a slot, once for
            each of the `groups` heads that share a key head.
        rotation: of its tokens.
    """

    begin: int
    end: int
    cache: SlotCache
    staged: torch.Tensor
    extent: int
    mask: torch.Tensor
    rotation: Rotation


class Packing:
    """What the model's layers take for their cache in one forward: hands every stream's keys and
    values to that stream's slots.

    Attributes:
        rotation: of all tokens of the forward.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self.shares = shares
        cosines, sines = zip(*(share.rotation for share in shares), strict=True)
        self.rotation: Rotation = (
            shares[0].rotation
            if len(shares) == 1
            else (torch.cat(cosines, dim=1), torch.cat(sines, dim=1))
        )

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Store the new un-rotated `keys` and `values`, each (1, kv_heads, tokens, head_dim), and
        return each share's slots as views.
        """
        new = torch.cat((keys, rotate(keys, self.rotation).to(keys.dtype), values))
        held: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for share in self.shares:
            slots = share.cache.slot_layers[layer]
            slots.write(share.staged, new[:, :, share.begin : share.end])
            held[0].append(slots.rotated[:, :, : share.extent])
            held[1].append(slots.values[:, :, : share.extent])
        return held


def slot_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: Sequence[torch.Tensor],
    value: Sequence[torch.Tensor],
    attention_mask: None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention of `query` (1, heads, tokens, head_dim), un-rotated, over what
    `Packing.update` returned.

    Queries that share a key head are folded into the token axis: no key is copied for them, and
    every kernel takes that shape.

    Raises:
        ValueError: the model was not called through `packed.run_layers`.
    """
    if packing is None:
        raise ValueError(
            "slot attention needs the packing of a forward; call the model through CachedForward"
        )
    query = rotate(query, packing.rotation)
    _, heads, _, head_dim = query.shape
    outputs = []
    for share, keys, values in zip(packing.shares, key, value, strict=True):
        tokens, kv_heads = share.end - share.begin, keys.shape[1]
        folded = query[:, :, share.begin : share.end].reshape(
            1, kv_heads, heads // kv_heads * tokens, head_dim
        )
        output = functional.scaled_dot_product_attention(
            folded, keys, values, attn_mask=share.mask.to(query.device), scale=scaling
        )
        outputs.append(output.view(1, heads, tokens, head_dim))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return joined.transpose(1, 2).contiguous(), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
