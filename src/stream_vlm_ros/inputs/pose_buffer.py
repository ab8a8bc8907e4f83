"""Where the robot was when a picture was taken: a short memory of odometry, asked by stamp."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque

from nav_msgs.msg import Odometry

from stream_vlm.types import NANOSECONDS, Pose, StreamError
from stream_vlm_ros.common.conversions import nanoseconds

CAPACITY = 2000
"""Poses kept: ten seconds of odometry at 200 Hz."""


class OdometryError(StreamError):
    """An odometry message that gives no place."""


class PoseBuffer:
    """Remembers the last poses and says where the robot was at a stamp.

    One thread puts, another asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamps: deque[int] = deque(maxlen=CAPACITY)
        self._poses: deque[Pose] = deque(maxlen=CAPACITY)

    def put(self, message: Odometry) -> None:
        """Remember the pose of `message`.

        A stamp that is not after the newest one begins the buffer anew: time jumped back.

        Raises:
            OdometryError: a position or orientation that is not finite, or a quaternion of length
                zero.
        """
        pose = pose_of(message)
        stamp_ns = nanoseconds(message.header.stamp)
        with self._lock:
            if self._stamps and stamp_ns <= self._stamps[-1]:
                self._stamps.clear()
                self._poses.clear()
            self._stamps.append(stamp_ns)
            self._poses.append(pose)

    def at(self, stamp_ns: int, max_age_s: float) -> Pose | None:
        """Where the robot was at `stamp_ns` (ns): between the poses around it, or at the one pose
        that is within `max_age_s`; else None.
        """
        with self._lock:
            after = bisect_left(self._stamps, stamp_ns)
            near = [
                (self._stamps[index], self._poses[index])
                for index in (after - 1, after)
                if 0 <= index < len(self._stamps)
                and abs(self._stamps[index] - stamp_ns) <= max_age_s * NANOSECONDS
            ]
        if not near:
            return None
        if len(near) == 1 or near[0][1].frame_id != near[1][1].frame_id:
            return min(near, key=lambda entry: abs(entry[0] - stamp_ns))[1]
        (earlier_ns, earlier), (later_ns, later) = near
        return interpolate(earlier, later, (stamp_ns - earlier_ns) / (later_ns - earlier_ns))

    def newest_stamp_ns(self) -> int | None:
        """Stamp (ns) of the newest pose, or None."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None


def pose_of(message: Odometry) -> Pose:
    """The pose in `message` with a unit quaternion, in its header's frame.

    Raises:
        OdometryError: see `PoseBuffer.put`.
    """
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    length = math.sqrt(turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2)
    if not all(map(math.isfinite, (position.x, position.y, position.z, length))) or length < 1e-6:
        raise OdometryError(
            f"odometry: position ({position.x}, {position.y}, {position.z}) with a quaternion of"
            f" length {length:.3g} is no pose; the record gets no place (has the localisation"
            " started?)"
        )
    return Pose(
        message.header.frame_id,
        position.x,
        position.y,
        position.z,
        turn.x / length,
        turn.y / length,
        turn.z / length,
        turn.w / length,
    )


def interpolate(earlier: Pose, later: Pose, share: float) -> Pose:
    """The pose `share` (0..1) of the way from `earlier` to `later`: straight line, shortest turn,
    constant speed of both.
    """
    start = (earlier.qx, earlier.qy, earlier.qz, earlier.qw)
    end = (later.qx, later.qy, later.qz, later.qw)
    cosine = sum(a * b for a, b in zip(start, end, strict=True))
    if cosine < 0.0:  # q and -q are the same turn: take the nearer one
        end, cosine = tuple(-b for b in end), -cosine  # type: ignore[assignment]
    angle = math.acos(min(1.0, cosine))
    if angle < 1e-6:
        weights = (1.0 - share, share)
    else:
        weights = (
            math.sin((1.0 - share) * angle) / math.sin(angle),
            math.sin(share * angle) / math.sin(angle),
        )
    turn = [weights[0] * a + weights[1] * b for a, b in zip(start, end, strict=True)]
    place = [
        a + share * (b - a)
        for a, b in ((earlier.x, later.x), (earlier.y, later.y), (earlier.z, later.z))
    ]
    return Pose(earlier.frame_id, *place, *turn)
