"""Make the rows and thumbnails that are stored of one step; knows no database."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.types import NANOSECONDS, Frame, Pose, State, StepResult

OBSERVATION, UTTERANCE, EVENT, QUERY, ANSWER, SUMMARY, CAPTION = KINDS = (
    "observation",
    "utterance",
    "event",
    "query",
    "answer",
    "summary",
    "caption",
)
"""The kinds of records."""

BYTES_PER_ROW = 2000
"""About what a record adds to the WAL, with its indices."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A thumbnail; every record of its frame refers to it."""

    camera: str
    frame_id: str
    stamp_ns: int
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class Row:
    """One record before it is numbered; the columns of table `record`.

    `state` is empty for a query. Stamps are int64 ns on the clock of the frames. `query_id` is the
    instruction of an utterance or event that is about one. `shown_ns` is the stamp of the frame
    that it is based on, if that is the frame of an earlier step, else 0.
    """

    kind: str
    camera: str
    frame_id: str
    start_ns: int
    end_ns: int
    text: str
    state: str
    confidence: float
    event_id: str = ""
    query_id: str = ""
    pose: Pose | None = None
    shown_ns: int = 0


@dataclass(frozen=True)
class StepRows:
    """Everything that is stored of one step, in one transaction.

    Attributes:
        session_id: name of the session.
        rows: the records.
        pictures: thumbnails by camera name; the rows of a camera refer to its thumbnail.
        text_model: name of the model of `text_vectors`.
        text_vectors: vectors of texts by the index of their row; float32, (size,), length 1.
        picture_vectors: vectors of thumbnails by camera name, of the session's model; float32,
            (size,), length 1.
    """

    session_id: str
    rows: tuple[Row, ...]
    pictures: dict[str, Picture] = field(default_factory=dict)
    text_model: str = ""
    text_vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    picture_vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes it adds to the WAL."""
        return sum(len(picture.jpeg) for picture in self.pictures.values()) + BYTES_PER_ROW * len(
            self.rows
        )


class StepRecorder:
    """Decides what is stored of each step; call it with the steps in order.

    Every processed frame becomes an observation. While nothing is said, a thumbnail is kept at most
    once per `memory.thumbnail_period_s`. An utterance, event or answer always gets the thumbnail of
    its frame; an event that ends later than it was reported gets that of its report.
    """

    def __init__(self) -> None:
        self._pictured: dict[tuple[str, str], int] = {}

    def prepare(self, result: StepResult, settings: MemorySettings) -> StepRows:
        """Return the rows of `result` and their thumbnails."""
        frames = {frame.camera: frame for frame in result.tick.frames}
        rows = tuple(_rows(result, frames))
        spoke = {
            row.camera
            for row in rows
            if row.kind in (UTTERANCE, EVENT, ANSWER) and not row.shown_ns
        }
        pictures = {}
        for camera in {row.camera for row in rows} & set(frames):
            if camera in spoke or self._is_due(result.session_id, frames[camera], settings):
                picture = thumbnail(frames[camera], settings)
                if picture is not None:
                    pictures[camera] = picture
                    self._pictured[result.session_id, camera] = frames[camera].stamp_ns
        return StepRows(result.session_id, rows, pictures)

    def _is_due(self, session_id: str, frame: Frame, settings: MemorySettings) -> bool:
        last = self._pictured.get((session_id, frame.camera))
        return last is None or frame.stamp_ns - last >= settings.thumbnail_period_s * NANOSECONDS


def _rows(result: StepResult, frames: dict[str, Frame]) -> Iterator[Row]:
    poses = {camera: usable_pose(frame) for camera, frame in frames.items()}
    for query in result.tick.queries:
        stamp_ns = operator.index(query.stamp_ns)
        yield Row(
            QUERY,
            query.camera,
            "",
            stamp_ns,
            stamp_ns,
            storable(query.text),
            "",
            1.0,
            query_id=query.query_id,
        )
    for camera, frame in frames.items():
        decision = result.decisions.get(camera)
        if decision is None:
            continue
        stamp_ns = operator.index(frame.stamp_ns)
        state, confidence = decision.state.value, float(decision.confidence)
        yield Row(
            OBSERVATION,
            camera,
            frame.frame_id,
            stamp_ns,
            stamp_ns,
            "",
            state,
            confidence,
            pose=poses[camera],
        )
    for event in result.events:
        shown_ns = operator.index(event.stamp_ns)
        shown = frames.get(event.camera)
        is_now = shown is not None and shown.stamp_ns == shown_ns
        yield Row(
            EVENT,
            event.camera,
            event.frame_id,
            operator.index(event.start_ns),
            operator.index(event.end_ns),
            storable(event.label),
            State.RESPONSE.value,
            float(event.confidence),
            event_id=event.event_id,
            query_id=event.instruction_id,
            pose=poses.get(event.camera) if is_now else _usable(event.camera, event.pose),
            shown_ns=0 if is_now else shown_ns,
        )
    for said in result.utterances:
        stamp_ns = operator.index(said.stamp_ns)
        yield Row(
            ANSWER if said.query_id else UTTERANCE,
            said.camera,
            said.frame_id,
            stamp_ns,
            stamp_ns,
            storable(said.text),
            State.RESPONSE.value,
            float(said.confidence),
            event_id=said.event_id,
            query_id=said.query_id or said.instruction_id,
            pose=poses.get(said.camera),
        )


def thumbnail(frame: Frame, settings: MemorySettings) -> Picture | None:
    """Return `frame` as a JPEG of at most `thumbnail_width` pixels, never enlarged.

    If it cannot be encoded, log a warning and return None.
    """
    # Imported here: a recall tool never encodes a picture and must not wait for OpenCV to load.
    import cv2

    try:
        small = _shrunk(frame.image, settings.thumbnail_width)
        done, jpeg = cv2.imencode(
            ".jpg",
            cv2.cvtColor(small, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, settings.thumbnail_quality],
        )
    except (cv2.error, ValueError) as error:
        _log.warning(
            "%s: picture of shape %s is not stored: %s", frame.camera, frame.image.shape, error
        )
        return None
    if not done:
        _log.warning(
            "%s: picture of shape %s is not stored: it cannot be encoded",
            frame.camera,
            frame.image.shape,
        )
        return None
    height, width = small.shape[:2]
    return Picture(
        frame.camera, frame.frame_id, operator.index(frame.stamp_ns), width, height, jpeg.tobytes()
    )


def _shrunk(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return an image, uint8 RGB (H, W, 3), scaled down to `width` pixels; never enlarged."""
    import cv2

    full_height, full_width, _ = image.shape
    if full_width <= width:
        return image
    height = max(1, round(full_height * width / full_width))
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def usable_pose(frame: Frame) -> Pose | None:
    """Return the pose of `frame`, or None if it has none or one that is not finite."""
    return _usable(frame.camera, frame.pose)


def _usable(camera: str, pose: Pose | None) -> Pose | None:
    if pose is None:
        return None
    if not all(
        math.isfinite(value)
        for value in (pose.x, pose.y, pose.z, pose.qx, pose.qy, pose.qz, pose.qw)
    ):
        _log.warning(
            "%s: stored without its pose: %s has a number that is not finite", camera, pose
        )
        return None
    return pose


def storable(text: str) -> str:
    """Replace what UTF-8 cannot encode: half a surrogate pair, as in a truncated model output."""
    return text.encode("utf-8", "replace").decode("utf-8")
