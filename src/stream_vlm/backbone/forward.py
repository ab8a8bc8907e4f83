"""One forward over a slot cache: new tokens in, hidden states out, everything kept stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.attention import Rotation
from stream_vlm.backbone.cache import SlotCache
from stream_vlm.context.segments import Segment, positions


class CachedForward:
    """A stream's tokens in a fixed-slot cache, fed to a Qwen-VL language model.

    Holds which segment sits in which slots and the rotation of every slot. Positions are contiguous over what is kept, so they stay inside the
    trained range however long the stream is.
    """

    def __init__(self, model: Any, capacity: int) -> None:
        self._language_model = model.model.language_model
        self._head = model.lm_head
        config = self._language_model.config
        embedding = self._language_model.embed_tokens.weight
        self.cache = SlotCache(config.num_hidden_layers, capacity, embedding.device)
        self.segments: list[Segment] = []
        self._slots: list[list[int]] = []
        self.next_position = 0
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cosines = embedding.new_zeros(1, capacity, head_dim)
        self._sines = embedding.new_zeros(1, capacity, head_dim)

    def embed(self, segments: Sequence[Segment], vision: torch.Tensor | None) -> torch.Tensor:
        """Embeddings (1, tokens, hidden) of `segments`; `vision` (tokens, hidden) replaces the placeholders of the frames, in order."""
        ids = torch.tensor([token for segment in segments for token in segment.token_ids], device=self._cosines.device)
        embeddings = self._language_model.embed_tokens(ids)
        if vision is not None:
            is_picture = torch.tensor([segment.grid is not None for segment in segments for _ in segment.token_ids], device=ids.device)
            embeddings[is_picture] = vision.to(embeddings.dtype)
        return embeddings.unsqueeze(0)

    def feed(self, segments: Sequence[Segment], vision: torch.Tensor | None = None) -> torch.Tensor:
        """Append `segments` to the context and return the logits (vocabulary,) in float32 after their last token.

        Raises:
            CacheFull: the context policy let the context outgrow the cache; nothing was changed.
        """
        count = sum(len(segment) for segment in segments)
        embeddings = self.embed(segments, vision)
        was_valid = self.cache.valid.clone()
        slots = self.cache.stage(count)
        where, self.next_position = positions(segments, self.next_position)
        query_rotation = self._rotation(where)
        staged = self.cache.staged
        self._cosines[:, staged], self._sines[:, staged] = query_rotation
        extent = self.cache.extent
        # A new token sees every token kept before it, whatever its slot, and the new ones up to itself.
        mask = was_valid[:extent].expand(count, extent).clone()
        mask[:, staged] = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
        zeros = torch.zeros(3, 1, count, dtype=torch.long, device=mask.device)
        hidden = self._language_model(
            inputs_embeds=embeddings,
            attention_mask={"full_attention": mask[None, None]},
            position_ids=zeros,
            past_key_values=self.cache,
            use_cache=True,
            query_rotation=query_rotation,
            key_rotation=(self._cosines[:, :extent], self._sines[:, :extent]),
        ).last_hidden_state
        taken = 0
        for segment in segments:
            self.segments.append(segment)
            self._slots.append(slots[taken : taken + len(segment)])
            taken += len(segment)
        logits: torch.Tensor = self._head(hidden[:, -1])[0].float()
        return logits

    def evict(self, leaving: Sequence[int]) -> None:
        """Drop the segments at these indices and renumber the positions of what stays. No key or value is touched."""
        if not leaving:
            return
        gone = set(leaving)
        self.cache.release([slot for index in gone for slot in self._slots[index]])
        self.segments = [segment for index, segment in enumerate(self.segments) if index not in gone]
        self._slots = [slots for index, slots in enumerate(self._slots) if index not in gone]
        where, self.next_position = positions(self.segments)
        order = torch.tensor([slot for slots in self._slots for slot in slots], dtype=torch.long, device=self._cosines.device)
        self._cosines[:, order], self._sines[:, order] = self._rotation(where)

    def clear(self) -> None:
        """Forget everything."""
        self.cache.clear()
        self.segments.clear()
        self._slots.clear()
        self.next_position = 0

    def _rotation(self, where: NDArray[np.int64]) -> Rotation:
        """Cosines and sines of three-axis positions (3, tokens), from the model's own rotary embedding."""
        position_ids = torch.from_numpy(where).to(self._cosines.device).unsqueeze(1)
        cosines, sines = self._language_model.rotary_emb(self._cosines, position_ids)
        return cosines, sines
