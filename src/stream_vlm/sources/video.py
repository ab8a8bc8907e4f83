"""Read frames from a video file, with the stamps of its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame


class VideoSource:
    """A video file, read through OpenCV.

    Stamps are those of the container, counted from its first frame, plus `base_ns`. If the
    container's timestamps do not advance, its nominal frame rate is used.

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
            raise SourceError(
                f"{path}: not a video that can be read ({path.stat().st_size} bytes); check that"
                " the file is complete and that FFmpeg knows its codec"
            )
        self._fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    @property
    def duration_s(self) -> float | None:
        """Length in seconds as the container states it, or None when it states none."""
        if self._announced <= 0 or not self._fps > 0:
            return self._seconds
        whole = self._announced / self._fps
        return whole if self._seconds is None else min(whole, self._seconds)

    def frames(self) -> Iterator[Frame]:
        """Yield every frame, uint8 RGB (H, W, 3).

        Raises:
            SourceError: no frame could be decoded, or the file ends well before its stated length.
        """
        period_ns = round(NANOSECONDS / self._fps) if self._fps > 0 else NANOSECONDS // 30
        count, first_ns, last_ns = 0, 0, -1
        try:
            while True:
                grabbed, picture = self._capture.read()
                if not grabbed:
                    break
                container_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if count == 0:
                    first_ns = container_ns
                stamp_ns = container_ns - first_ns
                if stamp_ns <= last_ns:
                    stamp_ns = last_ns + period_ns
                if self._seconds is not None and stamp_ns >= self._seconds * NANOSECONDS:
                    return
                count, last_ns = count + 1, stamp_ns
                image = np.ascontiguousarray(
                    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8
                )
                yield Frame(self.cameras[0], self._base_ns + stamp_ns, "", image)
        finally:
            self._capture.release()
        if count == 0:
            raise SourceError(f"{self.path}: no frame can be decoded; check that it is a video")
        # The container's length is an estimate: only a clear difference means a damaged file.
        if count < 0.9 * self._announced - 2:
            raise SourceError(
                f"{self.path}: ends after {count} of {self._announced} frames; the rest of the"
                " file is corrupt or missing"
            )
