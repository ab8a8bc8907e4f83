"""One stream's context over a slot cache: new tokens in, logits out, everything kept stays where it
is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.kv_cache.cuda_graphs import StaticForwards
from stream_vlm.backbone.kv_cache.packed_forward import run_layers
from stream_vlm.backbone.kv_cache.slot_attention import Rotation, Share, rotate
from stream_vlm.backbone.kv_cache.slot_cache import SlotCache
from stream_vlm.context.layout import Piece, segments_of, tokens_in, whole
from stream_vlm.context.segments import Segment, positions
from stream_vlm.vision.vision_tokens import VisionTokens


class CachedForward:
    """A stream's tokens in a fixed-slot cache, fed to a Qwen-VL language model.

    Holds which segment sits in which slots and at which position. Positions are contiguous over
    what is kept, so they stay inside the trained range however long the stream is.

    Args:
        model: a Qwen-VL model whose language part attends by `SLOT_ATTENTION`.
        capacity: slots of the cache.
        cache: the cache to share, instead of one of its own.
        static: how forwards of sizes that come again and again are run; None runs each as it comes.
    """

    def __init__(
        self,
        model: Any,
        capacity: int,
        cache: SlotCache | None = None,
        static: StaticForwards | None = None,
    ) -> None:
        self.model = model
        self.static = static
        self.language_model = model.model.language_model
        embedding = self.language_model.embed_tokens.weight
        self.cache = cache or SlotCache(self.language_model.config.num_hidden_layers, capacity)
        self._groups = (
            self.language_model.config.num_attention_heads
            // self.language_model.config.num_key_value_heads
        )
        self.segments: list[Segment] = []
        self.next_position = 0
        self._slots: list[int] = []
        self._positions = np.zeros((3, self.cache.capacity), dtype=np.int64)
        self._valid = torch.zeros(self.cache.capacity, dtype=torch.bool, device=embedding.device)
        self._extent = 0

    def branch(self) -> CachedForward:
        """An empty context in the free slots of the same cache; neither sees the other's tokens."""
        return CachedForward(self.model, self.cache.capacity, self.cache, self.static)

    def adopt(self, branch: CachedForward) -> None:
        """Forget everything and go on with what `branch`, of the same cache, holds; the branch is
        of no use any more.
        """
        self._release(self._slots)
        self.segments, self.next_position = branch.segments, branch.next_position
        self._slots, self._positions = branch._slots, branch._positions
        self._valid, self._extent = branch._valid, branch._extent

    @property
    def slots(self) -> list[int]:
        """The cache slot of every token held, in the order of the context."""
        return list(self._slots)

    @property
    def positions(self) -> NDArray[np.int64]:
        """(3, tokens) the position each token held is rotated by, in the order of the context."""
        return self._positions[:, self._slots]

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of un-rotated keys and of values, each (layers, kv_heads, tokens, head_dim), in
        the order of the context.
        """
        order = self._index(self._slots)
        keys = [
            layer.keys[0].index_select(1, order.to(layer.keys.device))
            for layer in self.cache.slot_layers
        ]
        values = [
            layer.values[0].index_select(1, order.to(layer.values.device))
            for layer in self.cache.slot_layers
        ]
        return torch.stack(keys), torch.stack(values)

    def feed(self, segments: Sequence[Segment], vision: VisionTokens | None = None) -> torch.Tensor:
        """Append `segments` to the context and return the logits (vocabulary,) in float32 after
        their last token; see `feed_together`.
        """
        return feed_together([Entry(self, segments, vision)])[0]

    def stage(self, segments: Sequence[Segment], begin: int) -> Share:
        """Take slots and positions for `segments`, whose tokens begin at `begin` of the coming
        forward.

        Raises:
            CacheFull: the context policy let the context outgrow the cache; nothing was changed.
        """
        count = tokens_in(segments)
        slots = self.cache.stage(count)
        staged = self._index(slots)
        where, self.next_position = positions(segments, self.next_position)
        self._positions[:, slots] = where
        self._extent = max(self._extent, max(slots, default=-1) + 1)
        # A new token sees every token kept before it, whatever its slot, and the new ones up to
        # itself.
        mask = self._valid[: self._extent].expand(count, self._extent).clone()
        mask[:, staged] = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
        self._valid[staged] = True
        self.segments.extend(segments)
        self._slots.extend(slots)
        mask = mask.repeat(self._groups, 1)[None, None]
        return Share(
            begin, begin + count, self.cache, staged, self._extent, mask, self._rotation(where)
        )

    def arrange(self, layout: Sequence[Piece]) -> None:
        """Make `layout` the context: slots of tokens that are not in it are freed, positions of the
        rest are renumbered in its order.

        No key or value changes its slot, whatever stays, leaves or changes its place; keys whose
        position changes are rotated anew.

        Raises:
            ValueError: the layout names a token twice or one that is not held; nothing was changed.
        """
        if list(layout) == [whole(index, segment) for index, segment in enumerate(self.segments)]:
            return
        begins = np.cumsum([0, *(len(segment) for segment in self.segments)]).tolist()
        order: list[int] = []
        for piece in layout:
            if piece.index >= len(self.segments) or piece.start + len(piece) > len(
                self.segments[piece.index]
            ):
                raise ValueError(
                    f"the layout takes tokens {piece.start} to {piece.start + len(piece)} of"
                    f" segment {piece.index}, which are not held"
                )
            begin = begins[piece.index] + piece.start
            order += self._slots[begin : begin + len(piece)]
        stay = set(order)
        if len(stay) < len(order):
            raise ValueError(f"the layout names {len(order) - len(stay)} tokens twice")
        self._release([slot for slot in self._slots if slot not in stay])
        self.segments, self._slots = segments_of(layout), order
        self._extent = max(order, default=-1) + 1
        where, self.next_position = positions(self.segments)
        moved = np.nonzero((self._positions[:, order] != where).any(axis=0))[0]
        self._positions[:, order] = where
        self._rotate_anew([order[place] for place in moved], where[:, moved])

    def clear(self) -> None:
        """Forget everything."""
        self._release(self._slots)
        self.segments, self._slots = [], []
        self.next_position = self._extent = 0

    def _release(self, slots: list[int]) -> None:
        self.cache.release(slots)
        self._valid[self._index(slots)] = False

    def _rotate_anew(self, slots: list[int], where: NDArray[np.int64]) -> None:
        if not slots:
            return
        index, rotation = self._index(slots), self._rotation(where)
        for layer in self.cache.slot_layers:
            layer.rotate_anew(index, lambda keys: rotate(keys, rotation))

    def _index(self, slots: list[int]) -> torch.Tensor:
        return torch.tensor(slots, dtype=torch.long, device=self._valid.device)

    def _rotation(self, where: NDArray[np.int64]) -> Rotation:
        """Cosines and sines of three-axis positions (3, tokens), from the model's own rotary
        embedding.
        """
        position_ids = (
            torch.from_numpy(np.ascontiguousarray(where)).to(self._valid.device).unsqueeze(1)
        )
        cosines, sines = self.language_model.rotary_emb(
            self.language_model.embed_tokens.weight[:1], position_ids
        )
        return cosines, sines


@dataclass(frozen=True)
class Entry:
    """What enters one stream's context in a forward.

    Attributes:
        vision: what replaces the placeholders of the frames among `segments`, in order; None where
            there are none.
    """

    forward: CachedForward
    segments: Sequence[Segment]
    vision: VisionTokens | None = None


def feed_together(entries: Sequence[Entry]) -> torch.Tensor:
    """Append each entry's segments to its stream's context, in one forward of the model they share.

    Returns:
        Logits (entries, vocabulary) in float32 after the last token of each.

    Raises:
        CacheFull: a context policy let its context outgrow the cache.
    """
    first = entries[0].forward
    shares: list[Share] = []
    for entry in entries:
        shares.append(entry.forward.stage(entry.segments, shares[-1].end if shares else 0))
    embeddings, deepstack = embed(first.language_model, entries)
    if len(entries) == 1 and first.static is not None:
        fixed = first.static.run(embeddings, shares[0], deepstack)
        if fixed is not None:
            return fixed.float()
    hidden = run_layers(first.language_model, embeddings, shares, deepstack)
    logits: torch.Tensor = first.model.lm_head(hidden)[0].float()
    return logits


def embed(language_model: Any, entries: Sequence[Entry]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Embeddings (1, tokens, hidden) of all entries end to end, and of each deepstack level the
    same shape with zeros beside the pictures.
    """
    segments = [segment for entry in entries for segment in entry.segments]
    ids = torch.tensor(
        [token for segment in segments for token in segment.token_ids],
        device=language_model.embed_tokens.weight.device,
    )
    embeddings = language_model.embed_tokens(ids)
    pictures = [entry.vision for entry in entries if entry.vision is not None]
    if not pictures:
        return embeddings.unsqueeze(0), []
    places = torch.tensor(
        [at for at, is_picture in enumerate(_picture_flags(segments)) if is_picture],
        device=ids.device,
    )
    embeddings = embeddings.index_copy(
        0, places, torch.cat([vision.tokens for vision in pictures]).to(embeddings)
    )
    levels = [
        torch.zeros_like(embeddings)
        .index_copy(0, places, torch.cat(level).to(embeddings))
        .unsqueeze(0)
        for level in zip(*(vision.deepstack for vision in pictures), strict=True)
    ]
    return embeddings.unsqueeze(0), levels


def _picture_flags(segments: Sequence[Segment]) -> list[bool]:
    return [segment.grid is not None for segment in segments for _ in segment.token_ids]
