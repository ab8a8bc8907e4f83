"""The poses of a recording, read a little ahead of its frames."""

from __future__ import annotations

import logging

from stream_vlm.sources.pose_buffer import REACH_S, PoseBuffer, PoseError, odometry_pose
from stream_vlm.sources.recordings.cdr import NoMessage, decode_message
from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.recordings.topic_clock import TopicClock
from stream_vlm.types import NANOSECONDS, Pose

LOG = logging.getLogger(__name__)

ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
LATE_S = 10.0
"""A pose may be recorded so much later than a frame of the same stamp, seconds."""


class RecordedPoses:
    """The poses of one odometry topic; only those near the frame are in memory.

    Args:
        recording: the recording.
        topic: its odometry topic.
        clock: the clock of that topic.
        by_stamp: True where that is the clock of the frames too; False finds a pose by the time of
            recording.
        max_age_s: a pose farther than this from the frame is not used, seconds.

    Attributes:
        topic: its odometry topic.
        unreadable: number of messages so far that are no pose.
        off_the_clock: number of poses so far whose stamp is off the clock.
    """

    def __init__(
        self,
        recording: Recording,
        topic: str,
        clock: TopicClock,
        by_stamp: bool,
        max_age_s: float,
    ) -> None:
        self._path = recording.path
        self.topic = topic
        self._clock = clock
        self._by_stamp = by_stamp
        self._max_age_s = max_age_s
        self._ahead_s = max_age_s + LATE_S
        self._buffer = PoseBuffer(REACH_S + self._ahead_s)
        self._messages = enumerate(recording.messages([topic]))
        self._next = next(self._messages, None)
        self.unreadable = 0
        self.off_the_clock = 0

    def at(self, stamp_ns: int, recorded_ns: int) -> Pose | None:
        """Return the pose of a frame stamped `stamp_ns` and recorded at `recorded_ns` (both ns)."""
        until_ns = recorded_ns + round(self._ahead_s * NANOSECONDS)
        while self._next is not None and self._next[1].recorded_ns <= until_ns:
            index, message = self._next
            self._next = next(self._messages, None)
            if index >= self._clock.kept.size:
                continue
            at_ns = int(self._clock.stamps[index]) if self._by_stamp else message.recorded_ns
            try:
                pose = odometry_pose(decode_message(message.data, ODOMETRY_TYPE))
                if self._clock.kept[index]:
                    self._buffer.put(at_ns, pose)
                else:
                    self.off_the_clock += 1
            except (NoMessage, PoseError) as error:
                self.unreadable += 1
                if self.unreadable == 1:
                    LOG.warning("%s: %s: pose skipped: %s", self._path, self.topic, error)
        return self._buffer.at(stamp_ns if self._by_stamp else recorded_ns, self._max_age_s)
