"""Read frames from a rosbag2 recording (mcap or sqlite3) without ROS."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    Pixels,
    decode_picture,
    decode_with_rosbags,
)
from stream_vlm.sources.recordings.cdr import NoMessage, decode_message
from stream_vlm.sources.recordings.image_topics import IMAGE_TYPES, choose_topics
from stream_vlm.sources.recordings.image_topics import camera_name as camera_name
from stream_vlm.sources.recordings.poses import ODOMETRY_TYPE, RecordedPoses
from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.recordings.storage import Message
from stream_vlm.sources.recordings.survey import survey
from stream_vlm.sources.recordings.topic_clock import (
    SLACK_NS,
    TopicClock,
    choose_clock,
    clocks_apart_s,
    in_words,
    share_one_clock,
)
from stream_vlm.sources.source import SourceError
from stream_vlm.sources.video_packets import Packet, VideoPackets, packet_codec
from stream_vlm.types import NANOSECONDS, Frame, StreamError

LOG = logging.getLogger(__name__)

NO_PICTURE, NO_POSE = "no picture", "no pose"
OFF_THE_CLOCK, MISSING = "stamp off the clock", "missing in the files"
"""Why a message is left out."""


class BagSource:
    """The image topics of a rosbag2 recording; frame ids and sound header stamps are kept.

    Only the chosen topics are opened. One clock is chosen for each topic by all its messages: the
    header stamps, or the time of recording where a topic has no header stamps, where they jump, or
    where the clocks of two cameras differ. A message that is no picture, or whose stamp is off its
    topic's clock, is left out and counted in `left_out`; what was found is logged.

    Args:
        path: the bag's folder, or its .mcap or .db3 file.
        topics: image topics to read. Empty reads every camera except depth cameras; where a camera
            has raw and compressed topics, the raw one is read.
        odom_topic: nav_msgs/Odometry topic that gives each frame its pose (see
            `PoseBuffer`); empty gives no poses.
        pose_max_age_s: a pose farther than this from the frame's stamp is not used, seconds.
        seconds: stop after this much stream; None reads to the end.

    Attributes:
        left_out: number of messages by camera (or odometry topic) and reason.

    Raises:
        SourceError: missing, unreadable or empty bag, or a topic that is not in it.
    """

    live = False

    def __init__(
        self,
        path: Path,
        topics: Sequence[str] = (),
        odom_topic: str = "",
        pose_max_age_s: float = 0.5,
        seconds: float | None = None,
    ) -> None:
        self.path = path
        self.name = path.stem if path.is_file() else path.resolve().name
        self.left_out: dict[str, dict[str, int]] = {}
        self._said: set[str] = set()
        self._videos: dict[str, tuple[str, VideoPackets]] = {}
        self._recording = Recording(path)
        try:
            self.topics = choose_topics(self._recording, topics)
            self.cameras = tuple(sorted(self.topics))
            if odom_topic:
                self._check_odometry(odom_topic)
            wanted = [*self.topics.values(), *([odom_topic] if odom_topic else [])]
            self._times, is_whole = survey(self._recording, wanted, seconds)
            if is_whole:
                self._compare_with_metadata(topics)
            self._clocks = self._choose_clocks()
            self.duration_s: float | None = self._cut(seconds)
            self._poses = self._open_poses(odom_topic, pose_max_age_s) if odom_topic else None
        except BaseException:
            self._recording.close()
            raise
        self._say_all()

    @property
    def unreadable(self) -> dict[str, int]:
        """Number of messages that are no picture, by camera."""
        counts = {camera: self.left_out.get(camera, {}) for camera in self.cameras}
        return {name: count[NO_PICTURE] for name, count in counts.items() if NO_PICTURE in count}

    def frames(self) -> Iterator[Frame]:
        """Yield frames in the order in which they were recorded, uint8 RGB (H, W, 3).

        Raises:
            SourceError: none of the images can be decoded.
        """
        yielded, reason = 0, ""
        for camera, index, message in self._kept_messages():
            stamp_ns = int(self._clocks[message.topic].stamps[index])
            try:
                decoded = self._decode(camera, message, stamp_ns)
            except StreamError as error:
                self._leave_out(camera, NO_PICTURE)
                reason = str(error)
                if self.left_out[camera][NO_PICTURE] == 1:
                    LOG.warning("%s: frame skipped: %s", self.path, error)
                continue
            for shown_ns, frame_id, image in decoded:
                yielded += 1
                pose = None
                if self._poses is not None:
                    pose = self._poses.at(shown_ns, message.recorded_ns)
                yield Frame(camera, shown_ns, frame_id, image, pose)
        for camera, (frame_id, video) in self._videos.items():
            for shown_ns, image in video.end():
                yielded += 1
                yield Frame(camera, shown_ns, frame_id, image)
        if self._poses is not None:
            self._leave_out(self._poses.topic, NO_POSE, self._poses.unreadable)
            self._leave_out(self._poses.topic, OFF_THE_CLOCK, self._poses.off_the_clock)
        self._say_all()
        self._recording.close()
        if not yielded:
            reason = reason or "; ".join(self._recording.remarks) or "its image topics are empty"
            raise SourceError(f"{self.path}: no frame can be decoded: {reason}")

    def _kept_messages(self) -> Iterator[tuple[str, int, Message]]:
        """Yield camera, number among its topic's messages, and message; others are counted."""
        cameras = {topic: camera for camera, topic in self.topics.items()}
        left = {
            topic: int(np.flatnonzero(self._within[topic]).max(initial=-1)) + 1 for topic in cameras
        }
        indices = dict.fromkeys(cameras, 0)
        unfinished = {topic for topic, last in left.items() if last}
        if not unfinished:
            return
        for message in self._recording.messages(list(cameras)):
            topic, index = message.topic, indices[message.topic]
            indices[topic] += 1
            if index < left[topic] and self._within[topic][index]:
                if self._clocks[topic].kept[index] or not self._times[topic].readable[index]:
                    yield cameras[topic], index, message
                else:
                    self._leave_out(cameras[topic], OFF_THE_CLOCK)
            if index + 1 >= left[topic]:
                unfinished.discard(topic)
                if not unfinished:
                    return

    def _decode(
        self, camera: str, message: Message, stamp_ns: int
    ) -> list[tuple[int, str, Pixels]]:
        """Return stamp (ns), frame id and picture of `message`; a video packet may give others."""
        kind = self._recording.types[message.topic]
        try:
            image = decode_message(message.data, kind)
        except NoMessage as error:
            raise CameraEncodingError(f"{camera}: no {kind}: {error}") from error
        frame_id = image.header.frame_id
        codec = packet_codec(image)
        if codec is None:
            return [(stamp_ns, frame_id, decode_picture(image, camera, decode_with_rosbags))]
        _, video = self._videos.setdefault(camera, (frame_id, VideoPackets(camera)))
        decoded = video.decode(Packet(codec, bytes(image.data), stamp_ns))
        return [(shown_ns, frame_id, picture) for shown_ns, picture in decoded]

    def _check_odometry(self, topic: str) -> None:
        types = self._recording.types
        if types.get(topic) != ODOMETRY_TYPE:
            odometries = sorted(name for name, kind in types.items() if kind == ODOMETRY_TYPE)
            raise SourceError(
                f"{self.path}: {topic} is not a {ODOMETRY_TYPE} topic; the bag's are"
                f" {odometries or 'none'}"
            )

    def _choose_clocks(self) -> dict[str, TopicClock]:
        """Return the clock of each image topic."""
        clocks = {topic: choose_clock(self._times[topic]) for topic in self.topics.values()}
        for topic, clock in clocks.items():
            if clock.remark:
                self._say(f"{topic}: {clock.remark}")
        remark = share_one_clock(clocks, self._times)
        if remark:
            self._say(f"{remark}; choose one with --topic (camera_source: --bag-topic)")
        return clocks

    def _cut(self, seconds: float | None) -> float:
        """Mark what belongs to the first `seconds` of stream; return their length, seconds."""
        ends = [
            (int(clock.stamps[clock.kept].min()), int(clock.stamps[clock.kept].max()))
            for clock in self._clocks.values()
            if clock.kept.any()
        ]
        first_ns = min((first for first, _ in ends), default=0)
        length_s = (max((last for _, last in ends), default=0) - first_ns) / NANOSECONDS
        self._within = {
            topic: np.ones(clock.kept.size, np.bool_) for topic, clock in self._clocks.items()
        }
        if seconds is None:
            return length_s
        for topic, clock in self._clocks.items():
            asked = clock.kept & (clock.stamps - first_ns < round(seconds * NANOSECONDS))
            if clock.kept.any():
                # What is left out is counted up to the first message that was not asked for.
                after = np.flatnonzero(clock.kept & ~asked)
                end = int(after.min(initial=asked.size))
                self._within[topic] = asked | (~clock.kept & (np.arange(asked.size) < end))
        return min(length_s, seconds)

    def _open_poses(self, topic: str, max_age_s: float) -> RecordedPoses:
        times = self._times[topic]
        clock = choose_clock(times)
        if clock.remark:
            self._say(f"{topic}: {clock.remark}")
        apart_s = max(
            (
                abs(clocks_apart_s(other, self._times[name], clock, times))
                for name, other in self._clocks.items()
            ),
            default=0.0,
        )
        by_stamp = apart_s * NANOSECONDS <= SLACK_NS
        if not by_stamp:
            self._say(
                f"the clock of {topic} differs from the cameras' by {in_words(apart_s)}; poses are"
                " found by the time of recording"
            )
        return RecordedPoses(self._recording, topic, clock, by_stamp, max_age_s)

    def _compare_with_metadata(self, wanted: Sequence[str]) -> None:
        """Say where the files hold fewer messages than they or metadata.yaml state."""
        stated = self._recording.stated
        absent = [
            topic
            for topic in stated
            if topic not in self._recording.types
            and self._recording.stated_types.get(topic) in IMAGE_TYPES
        ]
        for topic in [*self._times, *(absent if not wanted else [])]:
            found = self._times[topic].recorded.size if topic in self._times else 0
            promised = stated.get(topic, 0)
            if found < promised:
                name = next((name for name, own in self.topics.items() if own == topic), topic)
                self._leave_out(name, MISSING, promised - found)
                self._say(f"the recording states {promised} messages of {topic}, {found} are there")

    def _leave_out(self, name: str, reason: str, count: int = 1) -> None:
        if count:
            reasons = self.left_out.setdefault(name, {})
            reasons[reason] = reasons.get(reason, 0) + count

    def _say_all(self) -> None:
        for remark in self._recording.remarks:
            self._say(remark)

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            LOG.warning("%s: %s", self.path, sentence)
