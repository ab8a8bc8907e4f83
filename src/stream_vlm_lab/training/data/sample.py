"""The training sample that all formats are read into, and the report of refused rows."""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stream_vlm.sources.source import SourceError
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import NANOSECONDS, Frame, State, StreamError

GAP_S = 30.0
"""Seconds between two turns that are passed over by a new search rather than decoded."""


@dataclass(frozen=True)
class SampleTurn:
    """One turn of a sample: a short section of the video, a question and the expected answer.

    Attributes:
        start_s: start of the turn in seconds of video time.
        end_s: end of the turn in seconds of video time.
        state: the state that the model has to learn.
        text: the words of a response; empty for the other states.
        question: what the user asks in this turn; empty for nothing.
    """

    start_s: float
    end_s: float
    state: State
    text: str = ""
    question: str = ""


@dataclass(frozen=True)
class StreamSample:
    """A section of one video as a list of turns.

    Attributes:
        video: path of the video as written in the data, relative to the user's video folder.
        turns: the turns in order of time.
        task: kind of task as written in the data; may be empty.
        source: origin as written in the data; may be empty.
        previous_text: text that was said before the first turn.
        system: the system message in the data; may be empty.
    """

    video: str
    turns: tuple[SampleTurn, ...]
    task: str = ""
    source: str = ""
    previous_text: str = ""
    system: str = ""


class RefusalReason(str, enum.Enum):
    """Why a row cannot be used for training."""

    NOT_A_ROW = "not a row of this format"
    HALF_CHARACTER = "text with half a character"
    UNKNOWN_TASK = "unknown task type"
    UNREADABLE_TIME = "unreadable time"
    PAST_THE_END = "answer past the last frame"
    OUTSIDE = "annotation outside the video"
    TWO_ANSWERS = "two answers at one second"
    NO_WORDS = "question or answer without words"
    UNKNOWN_STATE = "unknown state"
    MISSING_VIDEO = "missing video"
    UNDECODABLE = "undecodable video"
    TOO_LONG = "longer than the model's context"
    BAD_INDEX = "line offsets do not match the file"


class RowRefused(StreamError):
    """A row cannot be used; `reason` and `detail` say why."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Refusal:
    """Why row number `row` (from 1) of a file was not used."""

    row: int
    reason: RefusalReason
    detail: str


@dataclass
class ReadResult:
    """The samples of a file with their row numbers, and every refused row."""

    samples: list[StreamSample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, row: int, sample: StreamSample) -> None:
        """Add the sample of row number `row`."""
        self.samples.append(sample)
        self.rows.append(row)

    def refuse(self, row: int, error: RowRefused) -> None:
        """Record that row number `row` cannot be used."""
        self.refusals.append(Refusal(row, error.reason, error.detail))

    @property
    def counts(self) -> dict[str, int]:
        """Number of refused rows for each reason, most frequent first."""
        return dict(Counter(refusal.reason.value for refusal in self.refusals).most_common())

    def summary(self) -> str:
        """A report for the user: a line for each reason with its first rows."""
        lines = [f"{len(self.samples)} rows read, {len(self.refusals)} refused"]
        for reason, count in self.counts.items():
            first = [refusal for refusal in self.refusals if refusal.reason.value == reason][:3]
            lines.append(
                f"  {count} x {reason}: "
                + "; ".join(f"row {refusal.row}: {refusal.detail}" for refusal in first)
            )
        return "\n".join(lines)


@dataclass
class VideoFolder:
    """Finds the videos of a data set and their lengths.

    Attributes:
        folder: paths in the data are relative to this folder.
        seconds: assumed length of every video; for conversions without the videos.
    """

    folder: Path
    seconds: float | None = None
    _lengths: dict[str, float | RowRefused] = field(default_factory=dict)

    def path(self, video: str) -> Path:
        """Path of `video`: `folder` with its full path, or else `folder` with its file name."""
        whole = self.folder / video
        return whole if whole.is_file() else self.folder / Path(video).name

    def length_s(self, video: str) -> float:
        """Length of `video` in seconds by the stamps of its pictures; the first one must decode.

        Raises:
            RowRefused: the video is missing or cannot be decoded.
        """
        if self.seconds is not None:
            return self.seconds
        if video not in self._lengths:
            self._lengths[video] = self._probe(video)
        found = self._lengths[video]
        if isinstance(found, RowRefused):
            raise found
        return found

    def _probe(self, video: str) -> float | RowRefused:
        path = self.path(video)
        if not video or not path.is_file():
            return RowRefused(RefusalReason.MISSING_VIDEO, f"{path} does not exist")
        try:
            source = VideoSource(path)
            first = next(source.frames(), None)
            length_s = source.duration_s
        except SourceError as error:
            return RowRefused(RefusalReason.UNDECODABLE, str(error))
        if first is None or length_s is None:
            return RowRefused(RefusalReason.UNDECODABLE, f"{path} has no picture")
        return length_s

    def pictures(self, sample: StreamSample) -> Iterator[Frame]:
        """Yield for each turn of `sample` the first picture at or after its start.

        Raises:
            SourceError: the video cannot be read, or ends before the last turn.
        """
        waiting = deque(sample.turns)
        while waiting:
            # Reading begins at the key frame before the turn, and again after a long gap.
            start_s = waiting[0].start_s
            until_s = start_s
            for frame in VideoSource(self.path(sample.video)).frames(_just_before(start_s)):
                while waiting and frame.stamp_ns >= waiting[0].start_s * NANOSECONDS - 1:
                    until_s = waiting.popleft().start_s
                    yield frame
                if not waiting or waiting[0].start_s - until_s > GAP_S:
                    break
            if waiting and waiting[0].start_s - until_s <= GAP_S:
                break
        if waiting:
            raise SourceError(
                f"{self.path(sample.video)}: ends before the turn from {waiting[0].start_s} s;"
                " remove this sample or repair its video"
            )


def _just_before(start_s: float) -> float:
    """`start_s` less the tolerance of a nanosecond with which pictures are chosen, seconds."""
    return max(0.0, start_s - 2 / NANOSECONDS)
