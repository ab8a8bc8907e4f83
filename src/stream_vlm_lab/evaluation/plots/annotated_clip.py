"""Writes an annotated clip: pictures with what was said below them, and a strip of the states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.run_records import TimedState, TimedUtterance
from stream_vlm.types import StreamError

WIDTH = 720
BAND, STRIP, MARGIN = 64, 22, 14
SHOWN_S = 3.5
"""How long words stay visible, in seconds."""
FONT, THIN = cv2.FONT_HERSHEY_DUPLEX, 1
STATE_COLOURS = {"silence": (238, 234, 230), "standby": (78, 193, 242), "response": (166, 126, 61)}
PAPER, INK, FAINT = (60, 48, 34), (255, 255, 255), (190, 178, 168)
"""Colours are (blue, green, red), as OpenCV writes them."""


class ClipError(StreamError):
    """The clip cannot be written; the message names the file and the remedy."""


@dataclass(frozen=True)
class Annotations:
    """What is drawn on the pictures; times in seconds of stream time."""

    title: str
    duration_s: float
    utterances: Sequence[TimedUtterance] = ()
    states: Sequence[TimedState] = ()

    def state_at(self, t: float) -> str:
        """The newest state at `t`; silence before the first."""
        past = [state.state for state in self.states if state.t <= t]
        return past[-1] if past else "silence"

    def words_at(self, t: float) -> TimedUtterance | None:
        """The newest utterance that is visible at `t`, or None."""
        past = [said for said in self.utterances if said.t <= t < said.t + SHOWN_S]
        return past[-1] if past else None


@dataclass
class ClipWriter:
    """Writes an mp4 of annotated pictures, `fps` a second; use it as a context manager."""

    path: Path
    annotations: Annotations
    fps: float
    _writer: cv2.VideoWriter | None = None
    _strip: NDArray[np.uint8] | None = field(default=None)

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, image: NDArray[np.uint8], t: float) -> None:
        """Append a picture.

        Args:
            image: uint8 RGB, (H, W, 3).
            t: time of the picture in seconds of stream time.

        Raises:
            ClipError: the video file cannot be opened.
        """
        page = self.page(image, t)
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self.path),
                cv2.VideoWriter.fourcc(*"mp4v"),
                self.fps,
                (page.shape[1], page.shape[0]),
            )
            if not self._writer.isOpened():
                raise ClipError(
                    f"{self.path}: the clip cannot be written; check the permissions of the folder"
                    " and that OpenCV is built with FFmpeg"
                )
        self._writer.write(page)

    def page(self, image: NDArray[np.uint8], t: float) -> NDArray[np.uint8]:
        """Return the annotated picture: uint8 BGR, (height, 720, 3), with an even height."""
        height, width, _ = image.shape
        scale = WIDTH / width
        size = (WIDTH, round(height * scale / 2) * 2)
        picture = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        page = np.empty((size[1] + BAND + STRIP, WIDTH, 3), dtype=np.uint8)
        page[: size[1]] = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        page[size[1] :] = PAPER
        state = self.annotations.state_at(t)
        page[size[1] : size[1] + BAND, :8] = STATE_COLOURS[state]
        self._write_words(page, size[1], state, t)
        self._draw_strip(page[size[1] + BAND :], t)
        return page

    def _write_words(self, page: NDArray[np.uint8], top: int, state: str, t: float) -> None:
        said = self.annotations.words_at(t)
        header = f"{t:5.1f} s   {state}"
        cv2.putText(page, header, (8 + MARGIN, top + 20), FONT, 0.45, FAINT, THIN, cv2.LINE_AA)
        title_width = cv2.getTextSize(self.annotations.title, FONT, 0.45, THIN)[0][0]
        cv2.putText(
            page,
            self.annotations.title,
            (WIDTH - MARGIN - title_width, top + 20),
            FONT,
            0.45,
            FAINT,
            THIN,
            cv2.LINE_AA,
        )
        if said is not None:
            text = (
                f"{said.camera}: {said.text}"
                if said.camera and self._several_cameras()
                else said.text
            )
            scale = min(
                0.8,
                0.8
                * (WIDTH - 8 - 2 * MARGIN)
                / max(1, cv2.getTextSize(text, FONT, 0.8, THIN)[0][0]),
            )
            cv2.putText(page, text, (8 + MARGIN, top + 49), FONT, scale, INK, THIN, cv2.LINE_AA)

    def _several_cameras(self) -> bool:
        return len({said.camera for said in self.annotations.utterances}) > 1

    def _draw_strip(self, strip: NDArray[np.uint8], t: float) -> None:
        if self._strip is None:
            self._strip = self._whole_strip()
        strip[:] = self._strip
        now = self._column(t)
        # States after the current time are drawn in a darker shade.
        strip[:, now + 1 :] = (strip[:, now + 1 :] * 0.45).astype(np.uint8)
        strip[:, max(0, now - 1) : now + 1] = INK

    def _whole_strip(self) -> NDArray[np.uint8]:
        strip = np.empty((STRIP, WIDTH, 3), dtype=np.uint8)
        strip[:] = STATE_COLOURS["silence"]
        states = self.annotations.states
        ends = [*(state.t for state in states[1:]), self.annotations.duration_s]
        for state, end in zip(states, ends, strict=True):
            strip[:, self._column(state.t) : self._column(end) + 1] = STATE_COLOURS.get(
                state.state, FAINT
            )
        return strip

    def _column(self, t: float) -> int:
        return int(np.clip(t / max(self.annotations.duration_s, 1e-6), 0, 1) * (WIDTH - 1))


def write_clip(
    path: Path,
    pictures: Iterable[tuple[float, NDArray[np.uint8]]],
    annotations: Annotations,
    fps: float,
) -> int:
    """Write pictures as an annotated mp4; returns the number of pictures in the clip.

    The clip plays at the speed of the stream: if pictures are missing, the last one is repeated.

    Args:
        path: the mp4 file.
        pictures: (seconds of stream time, uint8 RGB (H, W, 3)) in order of time.
        annotations: what to draw on them.
        fps: pictures a second.

    Raises:
        ClipError: the video file cannot be opened.
    """
    written = 0
    with ClipWriter(path, annotations, fps) as writer:
        last: NDArray[np.uint8] | None = None
        for t, image in pictures:
            while last is not None and written / fps < t - 1 / fps:
                writer.write(last, written / fps)
                written += 1
            writer.write(image, t)
            written += 1
            last = image
    return written
