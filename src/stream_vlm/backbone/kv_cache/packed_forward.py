"""One forward for several streams: the tokens of all lie end to end, and only attention tells them
apart.

A matrix is read once for everybody, which is what a small batch costs on a GPU; no stream is padded
to another's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from stream_vlm.backbone.kv_cache.slot_attention import Packing, Share


def run_layers(
    language_model: Any,
    embeddings: torch.Tensor,
    shares: Sequence[Share],
    deepstack: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Run the layers of a Qwen-VL language model over new tokens and its final norm over the last
    token of each share.

    Args:
        embeddings: (1, tokens, hidden), the shares' tokens end to end.
        deepstack: for the first layers, (1, tokens, hidden) to be added to their outcome: vision
            features of Qwen3-VL (DeepStack, arXiv 2406.04334), zero where a token is not of a
            picture.

    Returns:
        (1, shares, hidden): what the logits after each share's last token are read from.
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
    last = hidden[:, -1:] if len(shares) == 1 else hidden[:, [share.end - 1 for share in shares]]
    normed: torch.Tensor = language_model.norm(last)
    return normed


def _identity(language_model: Any, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines that rotate nothing, in the shape that this model's own rotary embedding
    has.
    """
    tokens = embeddings.shape[1]
    cosines, _ = language_model.rotary_emb(
        embeddings[:, :1], torch.zeros(3, 1, 1, dtype=torch.long, device=embeddings.device)
    )
    shape = (*cosines.shape[:-2], tokens, cosines.shape[-1])
    return embeddings.new_ones(shape), embeddings.new_zeros(shape)
