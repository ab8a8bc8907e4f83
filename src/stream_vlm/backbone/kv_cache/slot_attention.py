"""Attention over fixed slots, for several streams in one forward pass.

The new tokens of a stream attend only to the slots of that stream. The model's layers run with a
rotation by 0, so un-rotated keys reach the cache without a change to the model. Attention then uses
keys that the cache has rotated by positions from outside the model.
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
"""Name of the attention function in the registry of transformers."""

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, each (1, tokens, head_dim)."""


def rotate(states: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Apply a rotary embedding (RoFormer, arXiv 2104.09864) in the half-split layout.

    Args:
        states: queries or keys, (batch, heads, tokens, head_dim).
        rotation: the rotation of the tokens.

    Returns:
        The rotated states, same shape.
    """
    cosines, sines = (part.to(states.device).unsqueeze(1) for part in rotation)
    half = states.shape[-1] // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cosines + turned * sines


@dataclass(frozen=True)
class Share:
    """The part of a packed forward pass that belongs to one cache.

    A cache may hold several contexts, such as a stream and its suffixes
    (`cached_forward.CachedForward.fork`); the mask says which token sees which.

    Attributes:
        begin, end: range of the stream's tokens among all tokens of the forward pass.
        reads: int64, (contexts,), the index of the last token of each context of this share, among
            all tokens of the forward pass.
        cache: the cache of the stream.
        staged: int64, (end - begin,), the slots to which the new tokens are written.
        extent: attention covers the slots from 0 to `extent` (exclusive).
        mask: bool, (1, 1, groups * (end - begin), extent), True where a token attends to a slot. It
            is repeated for each of the `groups` query heads that share a key head.
        rotation: the rotation of the new tokens.
    """

    begin: int
    end: int
    reads: torch.Tensor
    cache: SlotCache
    staged: torch.Tensor
    extent: int
    mask: torch.Tensor
    rotation: Rotation


class Packing:
    """The cache object that the model's layers use in one packed forward pass.

    It writes the keys and values of each stream into the slots of that stream.

    Attributes:
        shares: the share of each stream.
        rotation: the rotation of all tokens of the forward pass.
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
        """Store new keys and values in the slots.

        Args:
            keys: un-rotated keys of all tokens, (1, kv_heads, tokens, head_dim).
            values: values of all tokens, same shape.
            layer: index of the layer.

        Returns:
            For each share its rotated keys and its values, as views
            (1, kv_heads, extent, head_dim) of the slots.
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
    """Scaled dot-product attention over the slots of each stream.

    Query heads that share a key head are folded into the token axis. So no key is copied for them,
    and every attention kernel accepts the shape.

    Args:
        module: the attention layer; not used.
        query: un-rotated queries of all tokens, (1, heads, tokens, head_dim).
        key: for each share its rotated keys, as from `Packing.update`.
        value: for each share its values, as from `Packing.update`.
        attention_mask: not used; the shares have their masks.
        scaling: factor of the scores; None for 1 / sqrt(head_dim).
        dropout: not used.
        packing: the packing of the forward pass.
        kwargs: not used.

    Returns:
        The output (1, tokens, heads, head_dim), and None for the attention weights.

    Raises:
        ValueError: the model was not called through `run_layers`.
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


def run_layers(
    language_model: Any,
    embeddings: torch.Tensor,
    shares: Sequence[Share],
    deepstack: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Run the layers of a Qwen-VL language model over new tokens.

    The final norm is applied to the last token of each context only.

    Args:
        language_model: the language part of the model.
        embeddings: (1, tokens, hidden), the concatenated tokens of all shares.
        shares: the share of each stream.
        deepstack: one tensor (1, tokens, hidden) for each of the first layers; it is added to the
            layer's output. These are the vision features of Qwen3-VL (DeepStack, arXiv 2406.04334),
            zero for tokens that are not of a picture.

    Returns:
        (1, contexts, hidden): the hidden state of the last token of each context.
    """
    hidden = embeddings
    packing = Packing(shares)
    identity = _identity(language_model, embeddings)
    for index, layer in enumerate(language_model.layers):
        hidden = layer(
            hidden,
            attention_mask=None,
            position_embeddings=identity,
            past_key_values=packing,
            use_cache=True,
            packing=packing,
        )
        if index < len(deepstack):
            hidden = hidden + deepstack[index].to(hidden.device)
    reads = shares[0].reads if len(shares) == 1 else torch.cat([share.reads for share in shares])
    normed: torch.Tensor = language_model.norm(hidden.index_select(1, reads.to(hidden.device)))
    return normed


def _identity(language_model: Any, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of a rotation by 0, in the shape of the model's own rotary embedding."""
    tokens = embeddings.shape[1]
    cosines, _ = language_model.rotary_emb(
        embeddings[:, :1], torch.zeros(3, 1, 1, dtype=torch.long, device=embeddings.device)
    )
    shape = (*cosines.shape[:-2], tokens, cosines.shape[-1])
    return embeddings.new_ones(shape), embeddings.new_zeros(shape)
