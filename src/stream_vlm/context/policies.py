"""Policies decide what stays in the context. They look at segments only, never at tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_vlm.context.segments import Segment, SegmentKind


class ContextPolicy(Protocol):
    """Says what leaves before new segments enter."""

    @property
    def max_tokens(self) -> int:
        """The most tokens the context may hold at any time."""
        ...

    def leaving(self, kept: Sequence[Segment], entering_tokens: int) -> list[int]:
        """Indices into `kept` of the segments that leave so that `entering_tokens` more tokens fit; the head never does."""
        ...


@dataclass(frozen=True)
class RoundsPolicy:
    """Keeps the newest turns (Streamo, arXiv 2512.21334), trimming rarely.

    When more than `max_turns` turns or `max_tokens` tokens would be held, the oldest turns leave until at most `keep_turns` remain. The gap
    between the two is hysteresis: positions are renumbered once every `max_turns - keep_turns` turns rather than in every one.
    """

    max_turns: int
    keep_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.keep_turns <= self.max_turns:
            raise ValueError(f"keep_turns {self.keep_turns} must be in 1..max_turns ({self.max_turns})")

    def leaving(self, kept: Sequence[Segment], entering_tokens: int) -> list[int]:
        turns = _turns(kept)
        tokens = sum(len(segment) for segment in kept) + entering_tokens
        if len(turns) + 1 <= self.max_turns and tokens <= self.max_tokens:
            return []
        stay = set(turns[len(turns) - self.keep_turns + 1 :] if self.keep_turns > 1 else [])
        while stay and self._tokens_of(kept, stay) + entering_tokens > self.max_tokens:
            stay.remove(min(stay))
        return [index for index, segment in enumerate(kept) if segment.kind is not SegmentKind.HEAD and segment.turn not in stay]

    @staticmethod
    def _tokens_of(kept: Sequence[Segment], stay: set[int]) -> int:
        return sum(len(segment) for segment in kept if segment.kind is SegmentKind.HEAD or segment.turn in stay)


@dataclass(frozen=True)
class ChunkedPolicy:
    """Keeps everything since the chunk began and starts afresh at its border (Streaming Harness, arXiv 2606.08615).

    Inside a chunk the prefix never changes, so nothing is ever computed twice.
    """

    chunk_turns: int
    max_tokens: int

    def __post_init__(self) -> None:
        if self.chunk_turns < 1:
            raise ValueError(f"chunk_turns {self.chunk_turns} must be at least 1")

    def leaving(self, kept: Sequence[Segment], entering_tokens: int) -> list[int]:
        tokens = sum(len(segment) for segment in kept) + entering_tokens
        if len(_turns(kept)) < self.chunk_turns and tokens <= self.max_tokens:
            return []
        return [index for index, segment in enumerate(kept) if segment.kind is not SegmentKind.HEAD]


def _turns(segments: Sequence[Segment]) -> list[int]:
    return sorted({segment.turn for segment in segments if segment.kind is not SegmentKind.HEAD})
