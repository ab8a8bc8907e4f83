"""The one training sample that every format is read into, and the account of what could not be."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stream_vlm.sources.source import SourceError
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import NANOSECONDS, Frame, State, StreamError


@dataclass(frozen=True)
class SampleTurn:
    """One turn: what is shown from `start_s` to `end_s` (seconds of video), what is asked then and
    what is to be said.

    Attributes:
        text: the words that follow a response; empty for the other states.
    """

    start_s: float
    end_s: float
    state: State
    text: str = ""
    question: str = ""


@dataclass(frozen=True)
class StreamSample:
    """A stretch of one video turn by turn.

    Attributes:
        video: path of the video as the data names it, relative to wherever the user keeps the
            videos.
        task, source: kind of task and origin as the data names them; may be empty.
        previous_text: words that stand before the first turn.
        system: the instruction that the data brings along; may be empty.
    """

    video: str
    turns: tuple[SampleTurn, ...]
    task: str = ""
    source: str = ""
    previous_text: str = ""
    system: str = ""


class Reason(str, enum.Enum):
    """Why a row cannot be trained on."""

    NOT_A_ROW = "not a row of this format"
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
    BAD_INDEX = "seek index does not fit the file"


class RowRefused(StreamError):
    """One row cannot be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Refusal:
    """Row number `row` (from 1) of a file was not used, and why."""

    row: int
    reason: Reason
    detail: str


@dataclass
class Reading:
    """What reading a file came to: samples with their row numbers, and every refused row."""

    samples: list[StreamSample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, row: int, sample: StreamSample) -> None:
        """Keep the sample of row number `row`."""
        self.samples.append(sample)
        self.rows.append(row)

    def refuse(self, row: int, error: RowRefused) -> None:
        """Note that row number `row` cannot be used."""
        self.refusals.append(Refusal(row, error.reason, error.detail))

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were refused for each reason, commonest first."""
        return dict(Counter(refusal.reason.value for refusal in self.refusals).most_common())

    def account(self) -> str:
        """All of it in plain words: a line for each reason with its first rows."""
        lines = [f"{len(self.samples)} rows read, {len(self.refusals)} refused"]
        for reason, count in self.counts.items():
            first = [refusal for refusal in self.refusals if refusal.reason.value == reason][:3]
            lines.append(
                f"  {count} x {reason}: "
                + "; ".join(f"row {refusal.row}: {refusal.detail}" for refusal in first)
            )
        return "\n".join(lines)


@dataclass
class Videos:
    """Where the videos of a data set are, and how long each is.

    Attributes:
        folder: what paths in the data are relative to.
        seconds: length to take for every video; given where only texts are converted and the videos
            are elsewhere.
    """

    folder: Path
    seconds: float | None = None
    _lengths: dict[str, float | RowRefused] = field(default_factory=dict)

    def path(self, video: str) -> Path:
        """Where `video` is: at its whole path under the folder, or by its name alone."""
        whole = self.folder / video
        return whole if whole.is_file() else self.folder / Path(video).name

    def length_s(self, video: str) -> float:
        """Length of `video` in seconds, by its container; its first picture must decode.

        Raises:
            RowRefused: it is missing, or cannot be decoded.
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
            return RowRefused(Reason.MISSING_VIDEO, f"{path} is not there")
        try:
            source = VideoSource(path)
            length_s = source.duration_s
            first = next(source.frames(), None)
        except SourceError as error:
            return RowRefused(Reason.UNDECODABLE, str(error))
        if first is None or length_s is None:
            return RowRefused(
                Reason.UNDECODABLE, f"{path} shows no picture or does not say how long it is"
            )
        return length_s

    def pictures(self, sample: StreamSample) -> Iterator[Frame]:
        """For each turn of `sample` the first picture at or after its start.

        Raises:
            SourceError: the video cannot be read, or ends before the last turn.
        """
        waiting = iter(sample.turns)
        turn = next(waiting, None)
        for frame in VideoSource(self.path(sample.video)).frames():
            while turn is not None and frame.stamp_ns >= turn.start_s * NANOSECONDS - 1:
                yield frame
                turn = next(waiting, None)
            if turn is None:
                return
        if turn is not None:
            raise SourceError(
                f"{self.path(sample.video)}: ends before the turn from {turn.start_s} s; refuse"
                " this sample or mend its video"
            )
