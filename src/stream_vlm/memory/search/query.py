"""A question to the memory and its answer: what may be asked, checked before the memory is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from stream_vlm.memory.search.query_words import search_words
from stream_vlm.memory.storage.errors import RecallError
from stream_vlm.memory.storage.step_rows import ANSWER, EVENT, KINDS, OBSERVATION, UTTERANCE
from stream_vlm.types import Pose

__all__ = [
    "DEFAULT_KINDS",
    "ORDERS",
    "Place",
    "RecallError",
    "RecallQuery",
    "RecallRecord",
    "RecallResult",
]

DEFAULT_KINDS = (EVENT, UTTERANCE, ANSWER)
"""What is looked through when no kind is named."""

PICTURED_KINDS = (OBSERVATION, *DEFAULT_KINDS)
"""What is looked through for pictures when no kind is named: all that rests on one."""

ORDERS = RELEVANCE, NEWEST, OLDEST, FUSED = ("relevance", "newest", "oldest", "fused")

MAX_LIMIT = 1000
"""Most records in one answer."""

MAX_CAMERAS = 100
"""Most cameras that one question can name."""

MAX_METRES = 1e9
"""Metres; no robot's map is larger."""

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Place:
    """A disc on the ground: centre (x, y) and radius in metres, in the frame the poses were
    recorded in.

    Raises:
        RecallError: a number that is not finite or absurdly large, or a radius that is not above 0.
    """

    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y), ("radius", self.radius)):
            if not math.isfinite(value) or abs(value) > MAX_METRES:
                raise RecallError(
                    f"place: {name} = {value} is no distance; give finite metres within"
                    f" {MAX_METRES:g}"
                )
        if self.radius <= 0:
            raise RecallError(
                f"place: radius = {self.radius} m holds no place; give a radius above 0"
            )


@dataclass(frozen=True)
class RecallQuery:
    """Every filter that is given must hold; words rank what is left.

    Attributes:
        text: plain words, any of them may match; empty means no words.
        start_ns: only records that end at or after this (int64 ns on the evidence's clock), or
            None.
        end_ns: only records that start at or before this, or None.
        place: only records whose pose lies in this disc, or None.
        cameras: only these cameras; empty means all.
        kinds: only these kinds (`rows.KINDS`); empty means events, utterances and answers.
        object_id: only sightings of the thing of this number (`RecallRecord.object_id`); 0 means of all.
        order: what comes first among records that match equally many of the words: the better match
            ("relevance"; the newest where there are no words), the one that ended last ("newest")
            or the one that began first ("oldest"). "fused" ranks by words, meaning and recency
            together: a record may come first that has none of the words.
        limit: at most this many records, 1..1000.
        words: the words looked for, derived from `text`.

    Raises:
        RecallError: a value that cannot be meant; the message names it and what is allowed.
    """

    text: str = ""
    start_ns: int | None = None
    end_ns: int | None = None
    place: Place | None = None
    cameras: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    object_id: int = 0
    order: str = RELEVANCE
    limit: int = 20
    words: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "kinds", tuple(self.kinds) or DEFAULT_KINDS)
        object.__setattr__(self, "words", search_words(self.text))
        for name, value in (("start_ns", self.start_ns), ("end_ns", self.end_ns)):
            if value is not None and (not _is_whole(value) or value not in _INT64):
                raise RecallError(
                    f"{name}: {value!r} is no time; give whole nanoseconds that fit 64 bits"
                )
        if self.start_ns is not None and self.end_ns is not None and self.start_ns > self.end_ns:
            raise RecallError(
                f"time: start {self.start_ns} ns is after end {self.end_ns} ns; swap them"
            )
        if not _is_whole(self.object_id) or self.object_id < 0 or self.object_id not in _INT64:
            raise RecallError(
                f"object_id: {self.object_id!r} is no number of a thing; ask for the one of a recalled"
                " event, or 0 for all"
            )
        for kind in self.kinds:
            if kind not in KINDS:
                raise RecallError(f"kinds: {kind!r} is unknown; choose among {', '.join(KINDS)}")
        if len(self.cameras) > MAX_CAMERAS:
            raise RecallError(
                f"cameras: {len(self.cameras)} are too many; name at most {MAX_CAMERAS}, or none"
                " for all"
            )
        if self.order not in ORDERS:
            raise RecallError(f"order: {self.order!r} is unknown; choose among {', '.join(ORDERS)}")
        if not _is_whole(self.limit) or not 1 <= self.limit <= MAX_LIMIT:
            raise RecallError(f"limit: {self.limit!r} is refused; ask for 1 to {MAX_LIMIT} records")


@dataclass(frozen=True)
class RecallRecord:
    """One thing the robot remembers; the fields of stream_vlm_ros/msg/MemoryRecord.

    Attributes:
        record_id: number in the memory file; `Memory.frame` fetches its picture.
        kind: one of `rows.KINDS`.
        start_ns, end_ns: int64 ns on the evidence's clock.
        stamp_ns: stamp of the picture that it rests on, ns; `end_ns` where none is stored.
        state: silence, standby or response; empty for a query and a summary.
        has_frame: a picture is stored.
        pose: where the robot was at `stamp_ns`, or None when that was not known.
        object_id: number of the thing that the event happened to (see `sightings`); 0 where its words
            do not tell, and for other kinds.
        object_confidence: 0..1, how sure that it is this thing and not another like it.
        score: the number of words that match plus a fraction in (0, 1) that grows with BM25; 0
            where no words were looked for. In the order "fused" the sum of reciprocal ranks, among
            pictures that look alike the cosine.
        missing_records: of a summary, how many of the records that it was made from are not stored any more.
    """

    record_id: int
    kind: str
    camera: str
    session_id: str
    frame_id: str
    start_ns: int
    end_ns: int
    stamp_ns: int
    text: str
    state: str
    confidence: float
    event_id: str
    query_id: str
    model_id: str
    has_frame: bool
    pose: Pose | None
    score: float
    object_id: int = 0
    object_confidence: float = 0.0
    missing_records: int = 0


@dataclass(frozen=True)
class RecallResult:
    """The answer.

    Attributes:
        records: best first, by the order asked for.
        total: how many records matched before the limit.
        took_ms: time spent in the memory, milliseconds.
        note: one sentence where less was looked at than asked for (no vectors of the model), or
            empty.
    """

    records: tuple[RecallRecord, ...]
    total: int
    took_ms: float
    note: str = ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
