"""Newest frame per camera: what the model looks at next, and what it will never see."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar

from stream_vlm.types import NANOSECONDS, StaleFrame


class Stamped(Protocol):
    """Anything that says which camera it came from and when it was taken."""

    @property
    def camera(self) -> str: ...

    @property
    def stamp_ns(self) -> int: ...


Item = TypeVar("Item", bound=Stamped)


class LatestFrames(Generic[Item]):
    """Holds one item per camera and counts what a slower reader never saw.

    Writers (ROS callbacks, one thread) call `put`; the model's thread calls `take`. An item that is
    overwritten before it is taken is dropped, never queued: an answer about an old picture is worse
    than a missed one. Items may be decoded frames or messages that are not decoded yet, so that
    only what the model looks at costs decoding.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, Item] = {}
        self._last_stamp: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self.dropped: dict[str, int] = {}

    def put(self, item: Item) -> None:
        """Keep `item` as its camera's newest.

        Raises:
            StaleFrame: its stamp (ns) is not after the newest one seen from this camera; the
                message names the camera and both stamps.
        """
        with self._lock:
            last = self._last_stamp.get(item.camera)
            if last is not None and item.stamp_ns <= last:
                raise StaleFrame(
                    f"{item.camera}: stamp {item.stamp_ns} ns is not after {last} ns, the newest"
                    " one seen; the frame is ignored (does the driver repeat stamps, or do two"
                    " publishers share the topic?)"
                )
            if item.camera in self._newest:
                self.dropped[item.camera] = self.dropped.get(item.camera, 0) + 1
            self._newest[item.camera] = item
            self._last_stamp[item.camera] = item.stamp_ns
            self.received[item.camera] = self.received.get(item.camera, 0) + 1

    def take(self) -> list[Item]:
        """Remove and return the unseen item of every camera, ordered by camera name."""
        with self._lock:
            items = [self._newest[camera] for camera in sorted(self._newest)]
            self._newest.clear()
            return items

    def newest_stamp_ns(self, camera: str) -> int | None:
        """Stamp (ns) of the newest item ever put for `camera`, or None."""
        with self._lock:
            return self._last_stamp.get(camera)

    def forget(self) -> None:
        """Drop what waits and every remembered stamp: the clock jumped back and a new session
        begins. Counters stay.
        """
        with self._lock:
            self._newest.clear()
            self._last_stamp.clear()


class TickClock:
    """Says, for recorded material, which frames fall on the beat of a target rate.

    A frame is due when it is the first one at or after the next beat; beats are anchored at the
    first frame, so that replaying the same recording gives the same ticks. Used by `run` and
    `replay`; a live node samples by time instead.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(NANOSECONDS / rate_hz)
        self._origin_ns: int | None = None
        self._next_beat = 0

    def due(self, stamp_ns: int) -> bool:
        """True when a frame stamped `stamp_ns` (ns) is the one to look at; stamps must not
        decrease.
        """
        if self._origin_ns is None:
            self._origin_ns = stamp_ns
        # Half a millisecond of slack: recorded stamps jitter around the nominal period.
        beat = (stamp_ns - self._origin_ns + 500_000) // self._period_ns
        if beat < self._next_beat:
            return False
        self._next_beat = beat + 1
        return True
