"""Frames from a camera plugged into this computer, stamped with its clock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame, StaleFrame

POLL_S = 0.005


class WebcamSource:
    """A camera known to OpenCV by its index; it shows what is in front of it now.

    A thread reads the camera at its own pace and keeps the newest picture only, so that a slow
    reader sees the present, not a queue.

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
        self._newest: LatestFrames[Frame] = LatestFrames()
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise SourceError(
                f"webcam {index}: no camera answers; is it plugged in, free, and may this user read"
                f" /dev/video{index}?"
            )

    def frames(self) -> Iterator[Frame]:
        """Yield the newest picture whenever there is one, uint8 RGB (H, W, 3), stamped with the
        system clock.

        Raises:
            SourceError: the camera stopped delivering.
        """
        stopping = threading.Event()
        reader = threading.Thread(
            target=self._read, args=(stopping,), name=f"webcam-{self._index}", daemon=True
        )
        reader.start()
        first_ns: int | None = None
        try:
            while True:
                alive = reader.is_alive()
                for frame in self._newest.take():
                    first_ns = frame.stamp_ns if first_ns is None else first_ns
                    if (
                        self.duration_s is not None
                        and frame.stamp_ns - first_ns >= self.duration_s * NANOSECONDS
                    ):
                        return
                    yield frame
                if not alive:
                    raise SourceError(
                        f"webcam {self._index}: stopped delivering pictures; was it unplugged?"
                    )
                time.sleep(POLL_S)
        finally:
            stopping.set()
            reader.join()
            self._capture.release()

    def _read(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            grabbed, picture = self._capture.read()
            if not grabbed:
                return
            image = np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            # While the system clock is set back, pictures are passed over.
            with contextlib.suppress(StaleFrame):
                self._newest.put(Frame(self.cameras[0], time.time_ns(), "", image))
