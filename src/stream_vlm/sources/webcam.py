"""Read frames from a camera of this computer, stamped with the system clock."""

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
"""How often the reader checks for a new frame, seconds."""


class WebcamSource:
    """A camera known to OpenCV by its index.

    A thread reads the camera at the camera's own rate and keeps only the newest frame, so that a
    slow reader gets current frames and not a queue.

    Args:
        index: 0 for the first camera.
        camera: name of the camera that the frames belong to.
        seconds: stop after this long; None continues until interrupted.

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
                f"webcam {index}: no camera answers; check that it is plugged in, that no other"
                f" program uses it, and that this user may read /dev/video{index}"
            )

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame whenever there is one, uint8 RGB (H, W, 3).

        Stamps are those of the system clock.

        Raises:
            SourceError: the camera stopped delivering frames.
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
                        f"webcam {self._index}: delivers no more frames; check that it is plugged"
                        " in"
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
            # After the system clock was set back, frames are dropped until it has caught up.
            with contextlib.suppress(StaleFrame):
                self._newest.put(Frame(self.cameras[0], time.time_ns(), "", image))
