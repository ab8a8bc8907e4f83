"""The robot's pose at the stamp of a frame: recent poses, interpolated.

The live node and recordings use the same buffer, so the same messages give the same pose.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from dataclasses import astuple
from typing import Any, NamedTuple

from stream_vlm.types import NANOSECONDS, Pose, StreamError

REACH_S = 90.0
"""How far back from the newest pose others are kept, seconds.

That is the largest `pose.max_age_s`, and half as much again for frames that arrive late.
"""
CAPACITY = 20_000
"""Most poses kept: `REACH_S` of odometry at 200 Hz."""
JUMP_POSES = 10
"""So many poses in a row that are too old mean that time jumped back."""


class PoseError(StreamError):
    """A message without a usable pose; the error gives the reason and the remedy."""


class _Entry(NamedTuple):
    stamp_ns: int
    frame_id: str
    pose: Pose

    @property
    def key(self) -> tuple[int, str]:
        return self.stamp_ns, self.frame_id


class PoseBuffer:
    """Keeps the newest poses, sorted by stamp, and interpolates between them.

    The order of arrival does not matter. Repeated messages and a second publisher on the topic do
    no harm. The buffer is emptied only by `clear`, or when time jumped back: `JUMP_POSES` poses in
    a row that are all too old.

    One thread calls `put`, another calls `at`; neither waits for longer than a lookup.

    Args:
        reach_s: how far back from the newest pose others are kept, seconds.
    """

    def __init__(self, reach_s: float = REACH_S) -> None:
        self._reach_ns = round(reach_s * NANOSECONDS)
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        # Poses in a row that were too old, by stamp (ns).
        self._too_old: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, stamp_ns: int, pose: Pose) -> None:
        """Keep `pose`, taken at `stamp_ns` (ns).

        Of two poses with the same stamp and frame the same one is kept, in whatever order they
        arrive.

        Raises:
            PoseError: the pose has no frame_id, or is too old; it is not kept.
        """
        if not pose.frame_id:
            raise PoseError(
                "odometry: a pose has no frame_id and is not used; let its publisher set"
                " header.frame_id"
            )
        entry = _Entry(stamp_ns, pose.frame_id, pose)
        with self._lock:
            behind_ns = self._entries[-1].stamp_ns - stamp_ns if self._entries else 0
            if behind_ns <= self._reach_ns:
                self._too_old.clear()
                self._insert(entry)
                return
            self._too_old[stamp_ns] = entry
            if len(self._too_old) < JUMP_POSES:
                raise PoseError(
                    f"odometry: a pose is stamped {behind_ns / NANOSECONDS:.1f} s before the newest"
                    " one and is not used; check whether two publishers with different clocks share"
                    " the topic"
                )
            self._entries.clear()
            for too_old in self._too_old.values():
                self._insert(too_old)
            self._too_old.clear()

    def at(self, stamp_ns: int, max_age_s: float) -> Pose | None:
        """Return the pose at `stamp_ns` (ns), or None if none is within `max_age_s` seconds.

        Position is interpolated linearly and orientation by slerp between the neighbours before and
        after. If only one side has a pose within `max_age_s`, that pose is returned unchanged.
        Poses of different frames are never mixed: the frame of the nearest pose is used.
        """
        max_age_ns = round(max_age_s * NANOSECONDS)
        with self._lock:
            near = self._entries[
                self._index(stamp_ns - max_age_ns) : self._index(stamp_ns + max_age_ns + 1)
            ]
        if not near:
            return None
        _, frame_id = min((abs(entry.stamp_ns - stamp_ns), entry.frame_id) for entry in near)
        near = [entry for entry in near if entry.frame_id == frame_id]
        before = [entry for entry in near if entry.stamp_ns <= stamp_ns]
        after = [entry for entry in near if entry.stamp_ns >= stamp_ns]
        if not before:
            return after[0].pose
        earlier = before[-1]
        if not after or earlier.stamp_ns == stamp_ns:
            return earlier.pose
        later = after[0]
        return interpolate(
            earlier.pose,
            later.pose,
            (stamp_ns - earlier.stamp_ns) / (later.stamp_ns - earlier.stamp_ns),
        )

    def newest_stamp_ns(self) -> int | None:
        """Return the stamp (ns) of the newest pose, or None."""
        with self._lock:
            return self._entries[-1].stamp_ns if self._entries else None

    def clear(self) -> None:
        """Delete all poses, because the clock was set back and a new session begins."""
        with self._lock:
            self._entries.clear()
            self._too_old.clear()

    def _index(self, stamp_ns: int) -> int:
        """Index of the first entry that is not before `stamp_ns`."""
        return bisect_left(self._entries, stamp_ns, key=lambda entry: entry.stamp_ns)

    def _insert(self, entry: _Entry) -> None:
        index = bisect_left(self._entries, entry.key, key=lambda other: other.key)
        if index < len(self._entries) and self._entries[index].key == entry.key:
            self._entries[index] = min(
                entry, self._entries[index], key=lambda other: astuple(other.pose)
            )
            return
        self._entries.insert(index, entry)
        oldest = self._index(self._entries[-1].stamp_ns - self._reach_ns)
        del self._entries[: max(oldest, len(self._entries) - CAPACITY)]


def odometry_pose(message: Any) -> Pose:
    """Return the pose of a nav_msgs/Odometry message, of ROS or of a recording.

    Its quaternion has length 1, its frame is that of the header.

    Raises:
        PoseError: a position or orientation that is not finite, or a quaternion of length zero.
    """
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    length = math.sqrt(turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2)
    if not all(map(math.isfinite, (position.x, position.y, position.z, length))) or length < 1e-6:
        raise PoseError(
            f"odometry: position ({position.x}, {position.y}, {position.z}) with a quaternion of"
            f" length {length:.3g} is not a pose; records get no pose until the localisation has"
            " started"
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
    """Return the pose `share` (0..1) of the way from `earlier` to `later`, poses of one frame.

    Position is on the straight line, orientation by slerp along the shorter rotation.
    """
    start = (earlier.qx, earlier.qy, earlier.qz, earlier.qw)
    end = (later.qx, later.qy, later.qz, later.qw)
    cosine = sum(a * b for a, b in zip(start, end, strict=True))
    sign = 1.0
    if cosine < 0.0:  # q and -q are the same orientation: take the nearer one
        cosine, sign = -cosine, -1.0
    angle = math.acos(min(1.0, cosine))
    if angle < 1e-6:  # the division below would lose all digits
        weights = (1.0 - share, sign * share)
    else:
        weights = (
            math.sin((1.0 - share) * angle) / math.sin(angle),
            sign * math.sin(share * angle) / math.sin(angle),
        )
    turn = [weights[0] * a + weights[1] * b for a, b in zip(start, end, strict=True)]
    place = [
        a + share * (b - a)
        for a, b in ((earlier.x, later.x), (earlier.y, later.y), (earlier.z, later.z))
    ]
    return Pose(earlier.frame_id, *place, *turn)
