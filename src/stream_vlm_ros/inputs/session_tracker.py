"""Begins a new session when time jumps back. Nothing in the memory is deleted."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from rclpy.clock import Clock, JumpHandle, JumpThreshold
from rclpy.duration import Duration

from stream_vlm.loop.sampler import Item, LatestFrames
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import NANOSECONDS

JUMP_NS = NANOSECONDS
"""Stamps or a clock that go back by more than this begin a new session; less is jitter."""


def new_session_id() -> str:
    """A new random id, which no other session of a memory file has."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class Session:
    """A part of the stream in which time only goes forward.

    Attributes:
        session_id: unique within a memory file.
        reason: why it began.
    """

    session_id: str
    reason: str


class SessionTracker(Generic[Item]):
    """Begins a new session when a bag loops, a simulation is reset or a camera's clock is set back.

    Several threads may call it. The model thread gets the new session from `take`. Both the clock
    and the pictures' stamps show that a bag looped; the first of them begins one session, and the
    second one changes nothing.
    """

    def __init__(
        self,
        sampler: LatestFrames[Item],
        poses: PoseBuffer,
        cameras: list[str],
        log: Callable[[str], None],
    ) -> None:
        self._sampler = sampler
        self._poses = poses
        self._cameras = cameras
        self._log = log
        self._lock = threading.Lock()
        self.session_id = new_session_id()
        self.opened = 1
        self._new: Session | None = Session(self.session_id, "the node was activated")

    def observe_stamp(self, camera: str, stamp_ns: int) -> None:
        """Check the stamp (ns) of a picture of `camera`; call it before the sampler gets it."""
        with self._lock:
            newest = self._sampler.newest_stamp_ns(camera)
            if newest is None or stamp_ns >= newest - JUMP_NS:
                return
            began = self._begin(
                f"{camera}: stamps jumped back by {(newest - stamp_ns) / NANOSECONDS:.1f} s"
            )
            self._poses.clear()
        self._log(began)

    def observe_clock(self, now_ns: int) -> None:
        """Check the pictures' stamps against the node's clock, which jumped back to `now_ns`."""
        with self._lock:
            stamps = [self._sampler.newest_stamp_ns(camera) for camera in self._cameras]
            newest = max((stamp for stamp in stamps if stamp is not None), default=None)
            if newest is None or newest <= now_ns + JUMP_NS:
                return
            began = self._begin(
                f"the clock jumped back to {now_ns / NANOSECONDS:.1f} s,"
                f" {(newest - now_ns) / NANOSECONDS:.1f} s before the newest picture"
            )
            self._poses.clear()
        self._log(began)

    def begin(self, reason: str) -> None:
        """Begin a new session; `reason` is logged."""
        with self._lock:
            began = self._begin(reason)
        self._log(began)

    def _begin(self, reason: str) -> str:
        """Begin a new session, under the lock; return the sentence for the log.

        What shows that time jumped back is looked at under the same lock. Otherwise two cameras
        that jump back together would begin two sessions.
        """
        self._sampler.forget()
        self.session_id = new_session_id()
        self._new = Session(self.session_id, reason)
        self.opened += 1
        return f"{reason}; session {self.session_id} begins; all stored records are kept"

    def take(self) -> tuple[list[Item], Session | None]:
        """Take the sampler's new items, and the session that begins with them, if any."""
        with self._lock:
            items = self._sampler.take()
            if not items:
                return [], None
            new, self._new = self._new, None
            return items, new

    def watch_clock(self, clock: Clock) -> JumpHandle:
        """Observe backward jumps of `clock` until the caller unregisters the returned handle."""
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        return clock.create_jump_callback(
            threshold, post_callback=lambda _: self.observe_clock(clock.now().nanoseconds)
        )
