"""One forward pass for several streams, whose tokens are concatenated.

Only attention separates the streams. Each weight matrix is read once for all streams; on a GPU this
is most of the cost of a small batch. No stream is padded to the length of another.
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
    """Run the layers of a Qwen-VL language model over new tokens.

    The final norm is applied to the last token of each share only.

    Args:
        language_model: the language part of the model.
        embeddings: (1, tokens, hidden), the concatenated tokens of all shares.
        shares: the share of each stream.
        deepstack: one tensor (1, tokens, hidden) for each of the first layers; it is added to the
            layer's output. These are the vision features of Qwen3-VL (DeepStack, arXiv 2406.04334),
            zero for tokens that are not of a picture.

    Returns:
        (1, shares, hidden): the hidden state of the last token of each share.
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
    """Cosines and sines of a rotation by 0, in the shape of the model's own rotary embedding."""
    tokens = embeddings.shape[1]
    cosines, _ = language_model.rotary_emb(
        embeddings[:, :1], torch.zeros(3, 1, 1, dtype=torch.long, device=embeddings.device)
    )
    shape = (*cosines.shape[:-2], tokens, cosines.shape[-1])
    return embeddings.new_ones(shape), embeddings.new_zeros(shape)
