"""When summaries are made and merged: short, mid and long tier.

After Streaming Harness (arXiv 2606.08615, section on memory). The running chunk is *short*: its
records themselves. A finished chunk has one *mid* summary per camera. If there are too many mid
summaries, the oldest are merged into one *long* block. A chunk belongs to one session; when the
clock jumps, the session and its chunks end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.types import NANOSECONDS

MID, LONG = "mid", "long"


@dataclass(frozen=True, order=True)
class Chunk:
    """A part of one session of one camera; `number` counts from 0 at the session's start."""

    session_id: str
    camera: str
    number: int


@dataclass(frozen=True)
class Plan:
    """The lengths of chunks and the limits of each tier.

    Attributes:
        chunk_ns: length of a chunk, ns.
        mids: most mid summaries that are not merged, and how many a long block merges.
        longs: most long blocks in the history.
        ahead_ns: a running chunk gets a first summary so long before its end, so that there is one
            when the next chunk starts, ns.
    """

    chunk_ns: int
    mids: int
    longs: int
    ahead_ns: int = 0

    @classmethod
    def of(cls, settings: MemorySettings) -> Plan:
        """Return the settings' plan; a first summary is made in the last tenth of a chunk."""
        chunk_ns = round(settings.chunk_s * NANOSECONDS)
        return cls(chunk_ns, settings.chunk_summaries, settings.merged_summaries, chunk_ns // 10)

    def start_of(self, number: int, started_ns: int) -> int:
        """Return when chunk `number` starts, ns."""
        return started_ns + number * self.chunk_ns

    def is_due(
        self, number: int, started_ns: int, newest_ns: int, *, summarised: bool, running: bool
    ) -> bool:
        """Return whether to summarise chunk `number`, which has records that no summary covers yet.

        Args:
            number: of the chunk.
            started_ns: start of the session, ns.
            newest_ns: the session's newest stamp of any camera, ns.
            summarised: it has a summary, made ahead of its end or before a late record.
            running: the session continues.
        """
        end_ns = self.start_of(number + 1, started_ns)
        if not running or newest_ns >= end_ns:
            return True
        return not summarised and newest_ns >= end_ns - self.ahead_ns


def to_merge(unmerged: Sequence[str], most: int) -> int:
    """Return how many of the oldest mid summaries to merge into one long block now; 0 for none.

    Args:
        unmerged: the session of each mid summary of one camera that is not merged, oldest first.
        most: as `Plan.mids`.
    """
    if len(unmerged) <= most:
        return 0
    same = 1
    while same < most and unmerged[same] == unmerged[0]:
        same += 1
    return same


def count_in_history(tiers: Iterable[str], plan: Plan) -> int:
    """Return how many of the newest summaries are in the history: up to `Plan.longs` long blocks.

    Args:
        tiers: the tier of each of a camera's summaries that no other summary covers, newest first.
        plan: with the limit of long blocks.
    """
    number = blocks = 0
    for tier in tiers:
        blocks += tier == LONG
        if blocks > plan.longs:
            break
        number += 1
    return number
