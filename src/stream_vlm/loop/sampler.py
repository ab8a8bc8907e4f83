"""The newest frame of each camera, and which frames of a recording become ticks."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar

from stream_vlm.types import NANOSECONDS, StaleFrame


class Stamped(Protocol):
    """Anything with a camera name and a stamp (int64 ns)."""

    @property
    def camera(self) -> str:
        """The name of the camera."""
        ...

    @property
    def stamp_ns(self) -> int:
        """The stamp, int64 ns."""
        ...


Item = TypeVar("Item", bound=Stamped)


class LatestFrames(Generic[Item]):
    """Holds the newest item of each camera and counts the items that are dropped.

    Writers (ROS callbacks, one thread) call `put`; the model's thread calls `take`. An item that is
    overwritten before it is taken is dropped, never queued: an answer about an old picture is worse
    than a missed picture. Items may be decoded frames or undecoded messages, so only pictures that
    the model processes are decoded.

    Attributes:
        received: number of items by camera.
        dropped: number of dropped items by camera.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, Item] = {}
        self._last_stamp: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self.dropped: dict[str, int] = {}

    def put(self, item: Item) -> None:
        """Keep `item` as the newest of its camera.

        Raises:
            StaleFrame: its stamp (ns) is not after the newest stamp of this camera; the message
                names the camera and both stamps.
        """
        with self._lock:
            last = self._last_stamp.get(item.camera)
            if last is not None and item.stamp_ns <= last:
                raise StaleFrame(
                    f"{item.camera}: stamp {item.stamp_ns} ns is not after {last} ns, the newest"
                    " stamp of this camera; the frame is ignored (does the driver repeat stamps, or"
                    " do two publishers share the topic?)"
                )
            if item.camera in self._newest:
                self.dropped[item.camera] = self.dropped.get(item.camera, 0) + 1
            self._newest[item.camera] = item
            self._last_stamp[item.camera] = item.stamp_ns
            self.received[item.camera] = self.received.get(item.camera, 0) + 1

    def take(self) -> list[Item]:
        """Remove and return the newest item of every camera that has one, by camera name."""
        with self._lock:
            items = [self._newest[camera] for camera in sorted(self._newest)]
            self._newest.clear()
            return items

    def newest_stamp_ns(self, camera: str) -> int | None:
        """Stamp (ns) of the newest item of `camera` since the last `forget`, or None."""
        with self._lock:
            return self._last_stamp.get(camera)

    def forget(self) -> None:
        """Drop all items and stamps, because the clock jumped back and a new session begins.

        The counters stay.
        """
        with self._lock:
            self._newest.clear()
            self._last_stamp.clear()


class TickClock:
    """Chooses the frames of a recording that become ticks at a given rate.

    Tick times are multiples of the period after the first frame, so the same recording always gives
    the same ticks. The first frame at or after a tick time is due. `run` and `replay` use this; a
    live node samples by its clock.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(NANOSECONDS / rate_hz)
        self._origin_ns: int | None = None
        self._next_tick = 0

    def due(self, stamp_ns: int) -> bool:
        """Whether the frame with `stamp_ns` (ns) becomes a tick; stamps must not decrease."""
        if self._origin_ns is None:
            self._origin_ns = stamp_ns
        # Half a millisecond of tolerance, because recorded stamps jitter around the nominal period.
        tick = (stamp_ns - self._origin_ns + 500_000) // self._period_ns
        if tick < self._next_tick:
            return False
        self._next_tick = tick + 1
        return True
