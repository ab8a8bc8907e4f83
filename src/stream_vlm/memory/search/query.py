"""A memory query and its result; a query is checked before the memory is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from stream_vlm.memory.search.query_words import search_words
from stream_vlm.memory.storage.errors import RecallError
from stream_vlm.memory.storage.step_rows import (
    ANSWER,
    CAPTION,
    EVENT,
    KINDS,
    OBSERVATION,
    UTTERANCE,
)
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

DEFAULT_KINDS = (EVENT, UTTERANCE, ANSWER, CAPTION)
"""The kinds that are searched when none is named."""

PICTURED_KINDS = (OBSERVATION, *DEFAULT_KINDS)
"""The kinds that a picture search uses when none is named: all that can have a picture."""

ORDERS = RELEVANCE, NEWEST, OLDEST, FUSED = ("relevance", "newest", "oldest", "fused")

MAX_LIMIT = 1000
"""Most records in one result."""

MAX_CAMERAS = 100
"""Most cameras that one query can name."""

MAX_METRES = 1e9
"""Metres; no robot's map is larger."""

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Place:
    """A disc on the ground, in one coordinate frame.

    Attributes:
        x: of the centre, metres.
        y: of the centre, metres.
        radius: metres.
        frame_id: the frame of x and y, such as "map"; only poses in this frame are compared with
            it. Empty means the frame of all recorded poses, see `place_frames.comparable`.

    Raises:
        RecallError: a number that is not finite or too large, or a radius that is not above 0.
    """

    x: float
    y: float
    radius: float
    frame_id: str = ""

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y), ("radius", self.radius)):
            if not math.isfinite(value) or abs(value) > MAX_METRES:
                raise RecallError(
                    f"place: {name} = {value} is not a distance; give a finite number of metres"
                    f" within {MAX_METRES:g}"
                )
        if self.radius <= 0:
            raise RecallError(
                f"place: radius = {self.radius} m is too small; give a radius above 0"
            )


@dataclass(frozen=True)
class RecallQuery:
    """A search: a record must pass every given filter; words rank the records that pass.

    Attributes:
        text: plain words, a record matches with any of them; empty means no words.
        start_ns: only records that end at or after this (int64 ns on the clock of the frames), or
            None.
        end_ns: only records that start at or before this, or None.
        place: only records whose pose lies in this disc, or None.
        session_id: only this session. Empty means all; but with a place in a frame that is no map
            the newest one, see `place_frames.comparable`.
        cameras: only these cameras; empty means all.
        kinds: only these kinds (`step_rows.KINDS`); empty means events, utterances, answers and
            captions.
        object_id: only events of this object (`RecallRecord.object_id`); 0 means all.
        order: how records with equally many of the words are sorted: "relevance" (best match first;
            newest first if there are no words), "newest" (last end first) or "oldest" (first start
            first). "fused" ranks by words, meaning and recency together, so that a record without
            any of the words can come first.
        limit: at most this many records, 1..1000.
        words: the words that are searched for, derived from `text`.

    Raises:
        RecallError: an invalid value; the message names it and what is allowed.
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
    session_id: str = ""
    words: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "kinds", tuple(self.kinds) or DEFAULT_KINDS)
        object.__setattr__(self, "words", search_words(self.text))
        for name, value in (("start_ns", self.start_ns), ("end_ns", self.end_ns)):
            if value is not None and (not _is_whole(value) or value not in _INT64):
                raise RecallError(
                    f"{name}: {value!r} is not a time; give whole nanoseconds that fit 64 bits"
                )
        if self.start_ns is not None and self.end_ns is not None and self.start_ns > self.end_ns:
            raise RecallError(
                f"time: start {self.start_ns} ns is after end {self.end_ns} ns; swap them"
            )
        if not _is_whole(self.object_id) or self.object_id < 0 or self.object_id not in _INT64:
            raise RecallError(
                f"object_id: {self.object_id!r} is not an object number; use the object_id of a"
                " recalled event, or 0 for all"
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
    """One record of the memory; the fields of stream_vlm_ros/msg/MemoryRecord.

    Attributes:
        record_id: number in the memory file; `Memory.frame` returns its picture.
        kind: one of `step_rows.KINDS`.
        camera: name of the camera; empty for a query to every camera.
        session_id: the session that it belongs to.
        frame_id: optical frame of the camera.
        start_ns: first frame, int64 ns on the clock of the frames.
        end_ns: last frame, likewise; equals `start_ns` for an instant.
        stamp_ns: stamp of its picture, ns; `end_ns` where none is stored.
        text: what was said, asked, answered or happened.
        state: silence, standby or response; empty for a query and a summary.
        confidence: in [0, 1].
        event_id: links an utterance with its event, or empty.
        query_id: links an answer with its query, or empty.
        model_id: the model that wrote it.
        has_frame: whether a picture is stored.
        pose: of the robot at `stamp_ns`, or None when it was not known.
        score: how many of the words match, plus a fraction in (0, 1) that grows with BM25; 0
            without words. In the order "fused" the sum of reciprocal ranks, in a picture search the
            cosine.
        object_id: number of the object of the event (see `object_links`); 0 if the words do not
            name one, and for other kinds.
        object_confidence: 0..1, how sure it is that it is this object and not another.
        missing_records: of a summary, how many of the records it was made from are deleted.
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
    """The result of a query.

    Attributes:
        records: in the requested order.
        total: how many records matched before the limit.
        took_ms: time spent in the memory, milliseconds.
        note: one sentence if less was searched than asked for (vectors are missing), or empty.
    """

    records: tuple[RecallRecord, ...]
    total: int
    took_ms: float
    note: str = ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
