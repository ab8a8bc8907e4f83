"""From one step's result to the rows and pictures that are stored of it. Knows no database."""

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

OBSERVATION, UTTERANCE, EVENT, QUERY, ANSWER, SUMMARY = KINDS = (
    "observation",
    "utterance",
    "event",
    "query",
    "answer",
    "summary",
)

BYTES_PER_ROW = 2000
"""What a record costs in the log, with its indices; about."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A thumbnail; every record that rests on its frame shares it."""

    camera: str
    frame_id: str
    stamp_ns: int
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class Row:
    """One record before it has a number; the columns of table `record`.

    `state` is empty for a query.
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


@dataclass(frozen=True)
class StepRows:
    """All that is stored of one step, in one transaction.

    Attributes:
        pictures: by camera name; a row of that camera rests on it.
        text_vectors: by the position of a row, of its text; float32, (size,), length 1, of the
            model `text_model`.
        picture_vectors: by camera name, of its picture, likewise, of the session's model.
    """

    session_id: str
    rows: tuple[Row, ...]
    pictures: dict[str, Picture] = field(default_factory=dict)
    text_model: str = ""
    text_vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    picture_vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it takes in the log, about."""
        return sum(len(picture.jpeg) for picture in self.pictures.values()) + BYTES_PER_ROW * len(
            self.rows
        )


class StepRecorder:
    """Decides what is stored of each step; steps must come in their order.

    Every frame that was looked at becomes an observation. While nothing is said, pictures are kept
    at most once a period; an utterance, event or answer always gets the picture it rests on.
    """

    def __init__(self) -> None:
        self._pictured: dict[tuple[str, str], int] = {}

    def prepare(self, result: StepResult, settings: MemorySettings) -> StepRows:
        """The rows of `result` and the pictures they rest on."""
        frames = {frame.camera: frame for frame in result.tick.frames}
        rows = tuple(_rows(result, frames))
        telling = {row.camera for row in rows if row.kind in (UTTERANCE, EVENT, ANSWER)}
        pictures = {}
        for camera in {row.camera for row in rows} & set(frames):
            if camera in telling or self._is_due(result.session_id, frames[camera], settings):
                picture = thumbnail(frames[camera], settings)
                if picture is not None:
                    pictures[camera] = picture
                    self._pictured[result.session_id, camera] = frames[camera].stamp_ns
        return StepRows(result.session_id, rows, pictures)

    def _is_due(self, session_id: str, frame: Frame, settings: MemorySettings) -> bool:
        last = self._pictured.get((session_id, frame.camera))
        return last is None or frame.stamp_ns - last >= settings.thumbnail_period_s * NANOSECONDS


def _rows(result: StepResult, frames: dict[str, Frame]) -> Iterator[Row]:
    poses = {camera: _usable(frame) for camera, frame in frames.items()}
    for query in result.tick.queries:
        stamp_ns = operator.index(query.stamp_ns)
        yield Row(
            QUERY,
            query.camera,
            "",
            stamp_ns,
            stamp_ns,
            _storable(query.text),
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
        yield Row(
            EVENT,
            event.camera,
            event.frame_id,
            operator.index(event.start_ns),
            operator.index(event.end_ns),
            _storable(event.label),
            State.RESPONSE.value,
            float(event.confidence),
            event_id=event.event_id,
            pose=poses.get(event.camera),
        )
    for said in result.utterances:
        stamp_ns = operator.index(said.stamp_ns)
        yield Row(
            ANSWER if said.query_id else UTTERANCE,
            said.camera,
            said.frame_id,
            stamp_ns,
            stamp_ns,
            _storable(said.text),
            State.RESPONSE.value,
            float(said.confidence),
            event_id=said.event_id,
            query_id=said.query_id,
            pose=poses.get(said.camera),
        )


def thumbnail(frame: Frame, settings: MemorySettings) -> Picture | None:
    """`frame` as a JPEG of at most `thumbnail_width` pixels, never enlarged; None, and a warning,
    where it cannot be encoded.
    """
    # Imported here: a recall tool never encodes a picture and should not pay for loading OpenCV.
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
    """uint8 RGB, (H, W, 3) → the same picture `width` pixels wide, or as it is when it is not
    wider.
    """
    import cv2

    full_height, full_width, _ = image.shape
    if full_width <= width:
        return image
    height = max(1, round(full_height * width / full_width))
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _usable(frame: Frame) -> Pose | None:
    pose = frame.pose
    if pose is None:
        return None
    if not all(
        math.isfinite(value)
        for value in (pose.x, pose.y, pose.z, pose.qx, pose.qy, pose.qz, pose.qw)
    ):
        _log.warning(
            "%s: stored without a place: %s has a number that is not finite", frame.camera, pose
        )
        return None
    return pose


def _storable(text: str) -> str:
    """`text` without what UTF-8 cannot hold (half a surrogate pair, as a cut-off model output may
    end in).
    """
    return text.encode("utf-8", "replace").decode("utf-8")
