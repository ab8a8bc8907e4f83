"""What is summarised when: short, mid and long, over time and counts alone (Streaming Harness,
arXiv 2606.08615, section on memory).

The running chunk is *short*: its records themselves. A chunk that is over has one *mid* summary a
    camera. When more than so many mids stand, the
oldest are merged into one *long* block. A chunk belongs to one session: where the clock jumps, a
    session and its chunks end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.types import NANOSECONDS

MID, LONG = "mid", "long"


@dataclass(frozen=True, order=True)
class Chunk:
    """A stretch of one session as one camera saw it; `number` counts from 0 at the session's start."""

    session_id: str
    camera: str
    number: int


@dataclass(frozen=True)
class Plan:
    """How the past is cut up.

    Attributes:
        chunk_ns: length of a chunk, ns.
        mids: most mid summaries that stand unmerged, and that one long block merges.
        longs: most long blocks that are told.
        ahead_ns: so long before its end the running chunk gets a first summary, so that there is
            one when the next begins, ns.
    """

    chunk_ns: int
    mids: int
    longs: int
    ahead_ns: int = 0

    @classmethod
    def of(cls, settings: MemorySettings) -> Plan:
        """As the settings say; the summary ahead of the end comes in the chunk's last tenth."""
        chunk_ns = round(settings.chunk_s * NANOSECONDS)
        return cls(chunk_ns, settings.chunk_summaries, settings.merged_summaries, chunk_ns // 10)

    def start_of(self, number: int, started_ns: int) -> int:
        """When chunk `number` begins, ns."""
        return started_ns + number * self.chunk_ns

    def is_due(
        self, number: int, started_ns: int, newest_ns: int, *, summarised: bool, running: bool
    ) -> bool:
        """Whether chunk `number`, which holds records that no summary covers yet, is to be
        summarised.

        Args:
            newest_ns: the session's newest evidence of any camera.
            summarised: it has a summary, made ahead of its end or before a late record came.
            running: the session goes on.
        """
        end_ns = self.start_of(number + 1, started_ns)
        if not running or newest_ns >= end_ns:
            return True
        return not summarised and newest_ns >= end_ns - self.ahead_ns


def to_merge(standing: Sequence[str], most: int) -> int:
    """How many of the oldest mids are to become one long block now; 0 for none.

    Args:
        standing: the session of each unmerged mid of one camera, oldest first.
        most: as `Plan.mids`.
    """
    if len(standing) <= most:
        return 0
    same = 1
    while same < most and standing[same] == standing[0]:
        same += 1
    return same


def count_in_history(tiers: Iterable[str], plan: Plan) -> int:
    """How many of the newest summaries are told: up to the oldest of `Plan.longs` blocks.

    Args:
        tiers: of each of a camera's summaries that no other covers, newest first.
    """
    number = blocks = 0
    for tier in tiers:
        blocks += tier == LONG
        if blocks > plan.longs:
            break
        number += 1
    return number
