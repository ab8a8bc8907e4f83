"""Frames from a camera plugged into this computer, stamped with its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import numpy as np

from stream_vlm.sources.source import SourceError
from stream_vlm.stream import NANOSECONDS, Frame


class WebcamSource:
    """A camera known to OpenCV by its index; it shows what is in front of it now.

    Args:
        index: 0 for the first camera.
        camera: name of the camera its frames belong to.
        seconds: stop after this long; None goes on until interrupted.

    Raises:
        SourceError: no camera answers to that index.
    """

    live = True

    def __init__(self, index: int, camera: str = "camera", seconds: float | None = None) -> None:
        self.name = f"webcam-{index}"
        self.cameras = (camera,)
        self.duration_s = seconds
        self._index = index
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise SourceError(f"webcam {index}: no camera answers; is it plugged in, free, and may this user read /dev/video{index}?")

    def frames(self) -> Iterator[Frame]:
        """Yield pictures as they come, uint8 RGB (H, W, 3), stamped with the system clock.

        Raises:
            SourceError: the camera stopped delivering.
        """
        first_ns: int | None = None
        try:
            while True:
                grabbed, picture = self._capture.read()
                stamp_ns = time.time_ns()
                if not grabbed:
                    raise SourceError(f"webcam {self._index}: stopped delivering pictures; was it unplugged?")
                first_ns = stamp_ns if first_ns is None else first_ns
                if self.duration_s is not None and stamp_ns - first_ns >= self.duration_s * NANOSECONDS:
                    return
                image = np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                yield Frame(self.cameras[0], stamp_ns, "", image)
        finally:
            self._capture.release()
