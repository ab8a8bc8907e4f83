"""Read frames from a video file, with the stamps of its container."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.sources import pyav_decoding
from stream_vlm.sources.source import SourceError
from stream_vlm.sources.video_index import (
    VideoIndex,
    container_ns,
    lacks_index,
    missing_bytes,
    read_index,
)
from stream_vlm.types import NANOSECONDS, Frame

Picture = NDArray[np.uint8]

CODEC_NAMES = {"av01": "AV1", "vvc1": "VVC", "hev1": "HEVC", "hvc1": "HEVC", "apch": "ProRes"}
"""Names of codecs by the four letters that a container states."""

SEEKS = 4
"""How often OpenCV is asked for an earlier position, before the file is read from its start."""


class VideoSource:
    """A video file, read through OpenCV.

    Stamps are those of the container, counted from its first frame, plus `base_ns`; they decide
    where the video ends and how long it is. If they do not advance, the nominal frame rate is used.

    Args:
        path: any file that OpenCV's FFmpeg can read.
        camera: name of the camera that the frames belong to.
        base_ns: stamp of the first frame, int64 ns.
        seconds: stop after this much stream; None reads to the end.

    Raises:
        SourceError: the file is missing or unreadable, or contains no picture.
    """

    live = False

    def __init__(
        self, path: Path, camera: str = "camera", base_ns: int = 0, seconds: float | None = None
    ) -> None:
        if not path.is_file():
            raise SourceError(f"{path}: no such video file")
        self.path = path
        self.name = path.stem
        self.cameras = (camera,)
        self._base_ns = base_ns
        self._seconds = seconds
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(_why_not_opened(path))
        self._fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = self._fps if self._fps > 0 else 30.0
        self._nominal_period_ns = round(NANOSECONDS / fps)

    @property
    def duration_s(self) -> float | None:
        """Length in seconds: to the stamp of the last picture, and the usual time to a next one.

        The whole file is read for it, without decoding. None if its packets cannot be read.
        """
        index = read_index(self.path)
        if index is None:
            return self._seconds
        span_ns = index.stamps_ns[-1] - index.stamps_ns[0]
        if not index.has_advancing_stamps and not span_ns:
            span_ns = (len(index.stamps_ns) - 1) * self._nominal_period_ns
        whole = (span_ns + (index.period_ns or self._nominal_period_ns)) / NANOSECONDS
        return whole if self._seconds is None else min(whole, self._seconds)

    def frames(self, start_s: float = 0.0) -> Iterator[Frame]:
        """Yield every frame from `start_s` seconds on, uint8 RGB (H, W, 3).

        A start in the middle is reached from the key frame before it. The frames are the same as
        those of a reading from the beginning.

        Raises:
            SourceError: no frame could be decoded, or the file is cut or damaged.
        """
        start_ns = round(start_s * NANOSECONDS)
        pictures = self._from_key_frame(start_ns) if start_ns > 0 else None
        for stamp_ns, picture in pictures if pictures is not None else self._from_beginning():
            if self._seconds is not None and stamp_ns >= self._seconds * NANOSECONDS:
                return
            if stamp_ns >= start_ns:
                image = np.ascontiguousarray(
                    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8
                )
                yield Frame(self.cameras[0], self._base_ns + stamp_ns, "", image)

    def _from_beginning(self) -> Iterator[tuple[int, Picture]]:
        count, first_ns, last_ns = 0, 0, -1
        try:
            while True:
                grabbed, picture = self._capture.read()
                if not grabbed:
                    break
                now_ns = container_ns(self._capture)
                if count == 0:
                    first_ns = now_ns
                stamp_ns = now_ns - first_ns
                if stamp_ns <= last_ns:
                    stamp_ns = last_ns + self._nominal_period_ns
                count, last_ns = count + 1, stamp_ns
                yield stamp_ns, np.asarray(picture, np.uint8)
        finally:
            fourcc = int(self._capture.get(cv2.CAP_PROP_FOURCC))
            self._capture.release()
        if count == 0:
            raise SourceError(_why_no_picture(self.path, fourcc))
        self._refuse_missing_part(count, last_ns)

    def _refuse_missing_part(self, count: int, last_ns: int) -> None:
        """Raise a `SourceError` if the `count` frames up to `last_ns` are not the whole file."""
        of = f" of {self._announced}" if self._announced > 0 else ""
        found = f"{self.path}: ends after {count}{of} frames, at {last_ns / NANOSECONDS:.1f} s"
        missing = missing_bytes(self.path)
        if missing:
            raise SourceError(
                f"{found}; the file is cut: {missing} bytes are missing at its end; copy it again"
            )
        if not 0 < count < 0.9 * self._announced - 2:
            return
        # The announced number may be an estimate from the length and an average rate.
        index = read_index(self.path)
        if index is not None and count < 0.9 * len(index.stamps_ns) - 2:
            raise SourceError(
                f"{found}; only these of {len(index.stamps_ns)} can be decoded, the rest of the"
                " file is corrupt"
            )
        stated_ns = self._announced / self._fps * NANOSECONDS if self._fps > 0 else 0
        if missing is None and not _is_transport_stream(self.path) and last_ns < 0.9 * stated_ns:
            raise SourceError(f"{found}; the rest of the file is corrupt or missing")

    def _from_key_frame(self, start_ns: int) -> Iterator[tuple[int, Picture]] | None:
        """The pictures from the last key frame before `start_ns` on; None to begin at the start."""
        index = read_index(self.path)
        if index is None or not index.has_advancing_stamps:
            return None
        grabbed, _ = self._capture.read()
        first_ns = container_ns(self._capture)
        key_ns = index.key_before(first_ns + start_ns)
        pictures = None
        if grabbed and key_ns is not None and key_ns > first_ns:
            turned = self._capture.get(cv2.CAP_PROP_ORIENTATION_META)
            if pyav_decoding.is_installed() and not turned:
                pictures = pyav_decoding.decode_from(self.path, key_ns)
            else:
                pictures = self._positioned(index, key_ns)
        if pictures is None:
            self._capture.release()
            self._capture = cv2.VideoCapture(str(self.path))
            return None
        return ((now_ns - first_ns, picture) for now_ns, picture in pictures)

    def _positioned(self, index: VideoIndex, key_ns: int) -> Iterator[tuple[int, Picture]] | None:
        """Let OpenCV go to `key_ns` (ns) or a little before; None where it does not.

        OpenCV counts frames at the average rate, so with a variable rate it may end up anywhere.
        """
        known = set(index.stamps_ns)
        back_ns = 0
        for _ in range(SEEKS):
            self._capture.set(cv2.CAP_PROP_POS_MSEC, max(0, key_ns - back_ns) / 1e6)
            grabbed, picture = self._capture.read()
            now_ns = container_ns(self._capture)
            if grabbed and now_ns in known and now_ns <= key_ns:
                return self._onwards(now_ns, np.asarray(picture, np.uint8))
            back_ns = 4 * back_ns + NANOSECONDS
        return None

    def _onwards(self, first_ns: int, first: Picture) -> Iterator[tuple[int, Picture]]:
        yield first_ns, first
        while True:
            grabbed, picture = self._capture.read()
            if not grabbed:
                return
            yield container_ns(self._capture), np.asarray(picture, np.uint8)


def _is_transport_stream(path: Path) -> bool:
    """Whether `path` is MPEG-TS, which states no length."""
    with path.open("rb") as file:
        start = file.read(377)
    return len(start) == 377 and start[0] == start[188] == start[376] == 0x47


def _why_not_opened(path: Path) -> str:
    size = path.stat().st_size
    if lacks_index(path):
        return (
            f"{path}: not a video that can be read ({size} bytes): its index (moov) is missing,"
            " because the file was cut or the recorder did not come to the end; copy it again, or"
            " repair it with a tool such as untrunc"
        )
    return (
        f"{path}: not a video that can be read ({size} bytes); check that the file is complete and"
        " that FFmpeg knows its codec"
    )


def _why_no_picture(path: Path, fourcc: int) -> str:
    letters = fourcc.to_bytes(4, "little", signed=fourcc < 0).decode("latin-1").strip("\0 ").lower()
    if not letters.isalnum():
        return f"{path}: no frame can be decoded; check that it is a video"
    codec = CODEC_NAMES.get(letters, letters)
    wanted = path.with_name(f"{path.stem}-h264.mp4")
    return (
        f"{path}: no frame can be decoded: its pictures are {codec}, and this OpenCV has no working"
        f" decoder for {codec}; convert it: ffmpeg -i {shlex.quote(str(path))} -c:v libx264"
        f" {shlex.quote(str(wanted))}"
    )
