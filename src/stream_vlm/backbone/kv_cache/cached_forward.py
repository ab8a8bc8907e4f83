"""The context of one stream in a slot cache: appends tokens, runs the model, returns logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stream_vlm.backbone.kv_cache.cuda_graphs import StaticForwards
from stream_vlm.backbone.kv_cache.slot_attention import Rotation, Share, rotate, run_layers
from stream_vlm.backbone.kv_cache.slot_cache import SlotCache
from stream_vlm.context.segments import Piece, Segment, positions, segments_of, tokens_in, whole
from stream_vlm.vision.tower import VisionTokens


class CachedForward:
    """The tokens of one stream in a slot cache, fed to a Qwen-VL language model.

    It knows the slots and the positions of each segment. Positions are contiguous over the kept
    tokens, so they stay inside the trained range in a stream of any length.

    Args:
        model: a Qwen-VL model whose language part uses the attention `SLOT_ATTENTION`.
        capacity: number of slots of the cache.
        cache: an existing cache to share; by default a new one is made.
        static: runs forward passes of frequent sizes with fixed shapes; None runs none so.
        parent: the context that this one continues, see `fork`.

    Attributes:
        segments: the segments in the context, in order.
        next_position: position of the next token.
    """

    def __init__(
        self,
        model: Any,
        capacity: int,
        cache: SlotCache | None = None,
        static: StaticForwards | None = None,
        parent: CachedForward | None = None,
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
        self._parent = parent

    def branch(self) -> CachedForward:
        """A new, empty context in the free slots of the same cache.

        Neither context attends to the tokens of the other.
        """
        return CachedForward(self.model, self.cache.capacity, self.cache, self.static)

    def fork(self) -> CachedForward:
        """A new context that continues this one in free slots of the same cache.

        Its tokens attend to the tokens that this context has when the fork gets its first token,
        and to each other; their positions follow. This context and other forks never attend to
        them. `clear` frees their slots; `segments` and `slots` are those of the fork only.
        """
        return CachedForward(self.model, self.cache.capacity, self.cache, self.static, self)

    def adopt(self, branch: CachedForward) -> None:
        """Replace this context by that of `branch`, which shares the same cache.

        The branch must not be used afterwards.
        """
        self._release(self._slots)
        self.segments, self.next_position = branch.segments, branch.next_position
        self._slots, self._positions = branch._slots, branch._positions
        self._valid, self._extent = branch._valid, branch._extent

    @property
    def slots(self) -> list[int]:
        """The slot of every token, in the order of the context."""
        return list(self._slots)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Rotary positions of all tokens, int64, (3, tokens), in the order of the context."""
        return self._positions[:, self._slots]

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of the un-rotated keys and the values, in the order of the context.

        Returns:
            Two tensors (layers, kv_heads, tokens, head_dim).
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

    def feed(
        self,
        segments: Sequence[Segment],
        vision: VisionTokens | None = None,
        where: NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """Append `segments` to the context and run the model; see `Entry` and `feed_together`.

        Returns:
            Logits after the last token, float32, (vocabulary,).
        """
        return feed_together([Entry(self, segments, vision, where)])[0]

    def stage(self, segments: Sequence[Segment], where: NDArray[np.int64] | None = None) -> Staged:
        """Take slots and positions for `segments` in the next forward pass.

        Args:
            segments: the segments to append.
            where: as in `Entry`.

        Raises:
            CacheFull: the policy exceeded the capacity of the cache; nothing was changed.
        """
        count = tokens_in(segments)
        slots = self.cache.stage(count)
        if self._parent is not None and not self._slots:
            self._continue(self._parent)
        staged = self._index(slots)
        if where is None:
            where, self.next_position = positions(segments, self.next_position)
        elif count:
            self.next_position = int(where[:, -1].max()) + 1
        self._positions[:, slots] = where
        self._extent = max(self._extent, max(slots, default=-1) + 1)
        # A new token attends to all earlier tokens of the context, in any slot, and to itself.
        mask = self._valid[: self._extent].expand(count, self._extent).clone()
        mask[:, staged] = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
        self._valid[staged] = True
        self.segments.extend(segments)
        self._slots.extend(slots)
        return Staged(self.cache, staged, mask, self._rotation(where), self._groups)

    def arrange(self, layout: Sequence[Piece]) -> None:
        """Make `layout` the context.

        Slots of tokens that are not in the layout become free. The other tokens are renumbered in
        the order of the layout. No key or value changes its slot; a key whose position changes is
        rotated again.

        Raises:
            ValueError: the layout contains a token twice, or a token that is not in the context;
                nothing was changed.
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
                    f" segment {piece.index}, which are not in the context"
                )
            begin = begins[piece.index] + piece.start
            order += self._slots[begin : begin + len(piece)]
        stay = set(order)
        if len(stay) < len(order):
            raise ValueError(f"the layout contains {len(order) - len(stay)} tokens twice")
        self._release([slot for slot in self._slots if slot not in stay])
        self.segments, self._slots = segments_of(layout), order
        self._extent = max(order, default=-1) + 1
        where, self.next_position = positions(self.segments)
        moved = np.nonzero((self._positions[:, order] != where).any(axis=0))[0]
        self._positions[:, order] = where
        self._rotate_anew([order[place] for place in moved], where[:, moved])

    def clear(self) -> None:
        """Remove all tokens."""
        self._release(self._slots)
        self.segments, self._slots = [], []
        self.next_position = self._extent = 0

    def _continue(self, parent: CachedForward) -> None:
        """Begin after the tokens of `parent`."""
        self._valid, self._extent = parent._valid.clone(), parent._extent
        self.next_position = parent.next_position

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
        """The rotation of positions `where`, (3, tokens), by the model's own rotary embedding."""
        position_ids = (
            torch.from_numpy(np.ascontiguousarray(where)).to(self._valid.device).unsqueeze(1)
        )
        cosines, sines = self.language_model.rotary_emb(
            self.language_model.embed_tokens.weight[:1], position_ids
        )
        return cosines, sines


@dataclass(frozen=True)
class Staged:
    """The tokens that one context appends in the next forward pass.

    Attributes:
        cache: the cache of the context.
        slots: int64, (tokens,), the slots to which the tokens are written.
        mask: bool, (tokens, extent), True where a token attends to a slot.
        rotation: the rotation of the tokens.
        groups: number of query heads that share a key head.
    """

    cache: SlotCache
    slots: torch.Tensor
    mask: torch.Tensor
    rotation: Rotation
    groups: int


def _share(staged: Sequence[Staged], begin: int) -> Share:
    """Join the tokens of several contexts of one cache, as the tokens from `begin` on."""
    first = staged[0]
    lengths = [len(one.slots) for one in staged]
    reads = torch.tensor(lengths, device=first.slots.device).cumsum(0) + (begin - 1)
    extent = max(one.mask.shape[1] for one in staged)
    mask = torch.cat(
        [functional.pad(one.mask, (0, extent - one.mask.shape[1])) for one in staged]
        if len(staged) > 1
        else [first.mask]
    )
    return Share(
        begin,
        begin + sum(lengths),
        reads,
        first.cache,
        torch.cat([one.slots for one in staged]),
        extent,
        mask.repeat(first.groups, 1)[None, None],
        (
            torch.cat([one.rotation[0] for one in staged], dim=1),
            torch.cat([one.rotation[1] for one in staged], dim=1),
        ),
    )


@dataclass(frozen=True)
class Entry:
    """The input of one stream in a forward pass.

    Attributes:
        forward: the context of the stream.
        segments: the segments to append.
        vision: vision tokens that replace the picture placeholders in `segments`, in order; None if
            there are no pictures.
        where: rotary positions of the tokens, int64, (3, tokens), if they do not follow from the
            segments, as for a part of a picture; None if they do.
    """

    forward: CachedForward
    segments: Sequence[Segment]
    vision: VisionTokens | None = None
    where: NDArray[np.int64] | None = None


def feed_together(entries: Sequence[Entry]) -> torch.Tensor:
    """Append the segments of all entries to their contexts, in one forward pass.

    Args:
        entries: the inputs of different contexts of one model. Those of one cache are neighbours,
            and a fork comes after the context that it continues.

    Returns:
        Logits after the last token of each entry, float32, (entries, vocabulary).

    Raises:
        CacheFull: a policy exceeded the capacity of its cache.
    """
    first = entries[0].forward
    staged = [entry.forward.stage(entry.segments, entry.where) for entry in entries]
    shares: list[Share] = []
    for _, group in groupby(staged, key=lambda one: id(one.cache)):
        shares.append(_share(list(group), shares[-1].end if shares else 0))
    embeddings, deepstack = embed(first.language_model, entries)
    if len(shares) == 1 and first.static is not None:
        fixed = first.static.run(embeddings, shares[0], deepstack)
        if fixed is not None:
            return fixed.float()
    hidden = run_layers(first.language_model, embeddings, shares, deepstack)
    logits: torch.Tensor = first.model.lm_head(hidden)[0].float()
    return logits


def embed(language_model: Any, entries: Sequence[Entry]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Embed the concatenated tokens of all entries.

    Returns:
        The embeddings, and one tensor for each deepstack level, which is zero for tokens that are
        not of a picture. All are (1, tokens, hidden).
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
