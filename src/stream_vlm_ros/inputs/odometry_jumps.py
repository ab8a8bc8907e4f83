"""Finds where odometry began anew, so that positions before and after cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stream_vlm.config.map_frames import is_map
from stream_vlm.types import NANOSECONDS, Pose

FAR_M = 0.5
"""A pose at the origin that is farther from the one before may be a new beginning."""
FAST_M_S = 5.0
"""It is one if no robot is so fast (REP-105: odometry is continuous)."""
SILENT_NS = 2 * NANOSECONDS
"""It is one, too, if no odometry came for so long: its driver was started again."""
ORIGIN_M, ORIGIN_SINE = 0.1, 0.05
"""How near to the origin, and how little turned, a pose is after a new beginning."""
CALM_NS = 10 * NANOSECONDS
"""Odometry that jumps again within this time does not begin anew each time: it is faulty."""


@dataclass(frozen=True)
class Jump:
    """A jump of the poses of one frame.

    Attributes:
        reason: one sentence.
        is_new_origin: False if it follows another jump too soon to be a new beginning.
    """

    reason: str
    is_new_origin: bool


class OdometryJumps:
    """Compares each pose with the one before it in the same frame. One thread calls it.

    A jump to anywhere else than the origin is none of these: a simulation may move its robot.
    """

    def __init__(self, topic: str, map_frames: Sequence[str]) -> None:
        """Make it.

        Args:
            topic: of the odometry, for the sentence.
            map_frames: the setting `memory.map_frames`; in a map a jump is a correction.
        """
        self._topic = topic
        self._map_frames = map_frames
        self._last: dict[str, tuple[int, Pose]] = {}
        self._jumped_ns: dict[str, int] = {}

    def observe(self, stamp_ns: int, pose: Pose) -> Jump | None:
        """Take the next pose; return the jump if there is one.

        A pose that is not newer than the one before says nothing about jumps.
        """
        frame_id = pose.frame_id
        before = self._last.get(frame_id)
        if before is not None and stamp_ns <= before[0]:
            return None
        self._last[frame_id] = (stamp_ns, pose)
        if before is None or is_map(frame_id, self._map_frames):
            return None
        then_ns, then = before
        far_m = math.dist((then.x, then.y, then.z), (pose.x, pose.y, pose.z))
        seconds = (stamp_ns - then_ns) / NANOSECONDS
        is_no_drive = far_m > FAST_M_S * seconds or stamp_ns - then_ns > SILENT_NS
        if far_m <= FAR_M or not _is_origin(pose) or not is_no_drive:
            return None
        jumped_ns = self._jumped_ns.get(frame_id)
        self._jumped_ns[frame_id] = stamp_ns
        is_new_origin = jumped_ns is None or stamp_ns - jumped_ns > CALM_NS
        return Jump(
            f"odometry {self._topic}: the pose in {frame_id} jumped from"
            f" ({then.x:.2f}, {then.y:.2f}) to ({pose.x:.2f}, {pose.y:.2f}) within {seconds:.2f} s"
            + (
                ", so odometry began anew"
                if is_new_origin
                else ", again; check whether two publishers share the topic"
            ),
            is_new_origin,
        )

    def forget(self) -> None:
        """Forget all poses, because the clock jumped back."""
        self._last.clear()
        self._jumped_ns.clear()


def _is_origin(pose: Pose) -> bool:
    turned = math.hypot(pose.qx, pose.qy, pose.qz)
    return math.hypot(pose.x, pose.y, pose.z) < ORIGIN_M and turned < ORIGIN_SINE
