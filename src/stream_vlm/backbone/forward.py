"""One forward over a slot cache: new tokens in, hidden states out, everything kept stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.attention import Rotation
from stream_vlm.backbone.cache import SlotCache
from stream_vlm.context.layout import Piece, segments_of, whole
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
        self._slots: list[int] = []
        self._positions = np.zeros((3, capacity), dtype=np.int64)
        self.next_position = 0
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cosines = embedding.new_zeros(1, capacity, head_dim)
        self._sines = embedding.new_zeros(1, capacity, head_dim)

    @property
    def slots(self) -> list[int]:
        """The cache slot of every token held, in the order of the context."""
        return list(self._slots)

    @property
    def positions(self) -> NDArray[np.int64]:
        """(3, tokens) the position each token held is rotated by, in the order of the context."""
        return self._positions[:, self._slots]

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of un-rotated keys and of values, each (layers, kv_heads, tokens, head_dim), in the order of the context."""
        order = torch.tensor(self._slots, dtype=torch.long, device=self._cosines.device)
        keys, values = [], []
        for layer in self.cache.slot_layers:
            assert layer.keys is not None and layer.values is not None, "nothing was fed yet"
            keys.append(layer.keys[0].index_select(1, order))
            values.append(layer.values[0].index_select(1, order))
        return torch.stack(keys), torch.stack(values)

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
        self._positions[:, slots] = where
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
        self.segments.extend(segments)
        self._slots.extend(slots)
        logits: torch.Tensor = self._head(hidden[:, -1])[0].float()
        return logits

    def arrange(self, layout: Sequence[Piece]) -> None:
        """Make `layout` the context: slots of tokens that are not in it are freed, positions of the rest are renumbered in its order.

        No key or value is touched, whatever stays, leaves or changes its place.

        Raises:
            ValueError: the layout names a token twice or one that is not held; nothing was changed.
        """
        if list(layout) == [whole(index, segment) for index, segment in enumerate(self.segments)]:
            return
        begins = np.cumsum([0, *(len(segment) for segment in self.segments)]).tolist()
        order: list[int] = []
        for piece in layout:
            if piece.index >= len(self.segments) or piece.start + len(piece) > len(self.segments[piece.index]):
                raise ValueError(f"the layout takes tokens {piece.start} to {piece.start + len(piece)} of segment {piece.index}, which are not held")
            begin = begins[piece.index] + piece.start
            order += self._slots[begin : begin + len(piece)]
        stay = set(order)
        if len(stay) < len(order):
            raise ValueError(f"the layout names {len(order) - len(stay)} tokens twice")
        self.cache.release([slot for slot in self._slots if slot not in stay])
        self.segments, self._slots = segments_of(layout), order
        where, self.next_position = positions(self.segments)
        self._positions[:, order] = where
        index = torch.tensor(order, dtype=torch.long, device=self._cosines.device)
        self._cosines[:, index], self._sines[:, index] = self._rotation(where)

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
