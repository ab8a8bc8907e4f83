"""Which session the stream is in: time that runs backwards begins a new one and deletes nothing."""

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
"""Stamps or a clock that fall back by more than this have jumped; by less, they jitter."""


def new_session_id() -> str:
    """A short name that no other session of a memory file has."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class Session:
    """A stretch of stream whose time runs forwards, and why it began."""

    session_id: str
    reason: str


class Sessions(Generic[Item]):
    """Notices that a bag looped, a simulation was reset or a camera's clock was set back.

    Noticed by whichever thread hears it first; the worker, which owns the harness, picks the new
    session up with `take`. A loop is noticed twice, by the clock and by the pictures' stamps: the
    second notice finds the session's frames in order and changes nothing.
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
        """Look at the stamp (ns) of a picture before the sampler does."""
        newest = self._sampler.newest_stamp_ns(camera)
        if newest is not None and stamp_ns < newest - JUMP_NS:
            self._poses.clear()
            self.begin(f"{camera}: stamps jumped back by {(newest - stamp_ns) / NANOSECONDS:.1f} s")

    def observe_clock(self, now_ns: int) -> None:
        """The node's clock jumped back to `now_ns`."""
        stamps = [self._sampler.newest_stamp_ns(camera) for camera in self._cameras]
        newest = max((stamp for stamp in stamps if stamp is not None), default=None)
        if newest is not None and newest > now_ns + JUMP_NS:
            behind_s = (newest - now_ns) / NANOSECONDS
            self._poses.clear()
            self.begin(
                f"the clock jumped back to {now_ns / NANOSECONDS:.1f} s, {behind_s:.1f} s before"
                " the newest picture"
            )

    def begin(self, reason: str) -> None:
        """Begin a new session; `reason` is logged."""
        with self._lock:
            self._sampler.forget()
            self.session_id = new_session_id()
            self._new = Session(self.session_id, reason)
            self.opened += 1
        self._log(f"{reason}; session {self.session_id} begins, nothing stored is lost")

    def take(self) -> tuple[list[Item], Session | None]:
        """The sampler's unseen items, and the session they are the first ones of, or None when it
        goes on.
        """
        with self._lock:
            items = self._sampler.take()
            if not items:
                return [], None
            new, self._new = self._new, None
            return items, new

    def watch_clock(self, clock: Clock) -> JumpHandle:
        """Hear of backward jumps of `clock`; unregister the returned handle when done."""
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        return clock.create_jump_callback(
            threshold, post_callback=lambda _: self.observe_clock(clock.now().nanoseconds)
        )
