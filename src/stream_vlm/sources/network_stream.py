"""Read frames from a camera on the network (RTSP, HTTP), stamped when they are received."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import cv2
import numpy as np

from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.redact import redact
from stream_vlm.sources.source import Reconnect, SourceError
from stream_vlm.types import Frame, StaleFrame

LOG = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "http", "https")
JOIN_S = 2.0
"""How long the end waits for the reading thread, which may be inside a call to FFmpeg, seconds."""


class NetworkStream:
    """A live stream that FFmpeg can open by its address.

    A thread decodes the stream at its own rate and keeps only the newest frame. When the stream
    breaks off it is opened again, as often as needed; each outage is logged once, and its end too.
    The address appears in no message, name or file except without its secrets (see `redact`).

    Args:
        url: an address with one of `SCHEMES`, with user and password if the camera wants them.
        camera: name of the camera that the frames belong to.
        seconds: stop so long after the first frame; None continues until interrupted.
        reconnect: timeouts and waits.

    Raises:
        SourceError: the stream cannot be opened, or it is a file rather than a stream.
    """

    live = True

    def __init__(
        self,
        url: str,
        camera: str = "camera",
        seconds: float | None = None,
        reconnect: Reconnect | None = None,
    ) -> None:
        self.shown_url = redact(url)
        self.name = _name(self.shown_url)
        self.cameras = (camera,)
        self.duration_s = seconds
        self._url = url
        self._reconnect = reconnect or Reconnect()
        self._newest: LatestFrames[Frame] = LatestFrames()
        self._stopping = threading.Event()
        self._arrived = threading.Event()
        _silence_libraries()
        self._capture = self._open()
        if self._capture is None:
            raise SourceError(
                f"{self.shown_url}: the stream cannot be opened within"
                f" {self._reconnect.timeout_s:g} s; check address, user and password, and that the"
                " camera or server runs"
            )
        if urlsplit(url).scheme.startswith("http") and self._is_file(self._capture):
            self._capture.release()
            raise SourceError(
                f"{self.shown_url}: is a video file with an end, not a live stream; download it and"
                " give its path"
            )

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame whenever there is one, uint8 RGB (H, W, 3).

        Stamps are those of the system clock when the frame was received. An outage raises nothing:
        the next frame comes when the stream is back.
        """
        reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        reader.start()

        def stop() -> None:
            self._stopping.set()
            reader.join(JOIN_S)

        # An interruption outside of this generator closes it too late: the thread would be stopped
        # inside FFmpeg, which ends the process with an abort.
        atexit.register(stop)
        # Without any frame the end comes too, only later by the time that a frame may take.
        ends_s = None
        if self.duration_s is not None:
            ends_s = time.monotonic() + self._reconnect.timeout_s + self.duration_s
        has_frame = False
        try:
            while True:
                left_s = None if ends_s is None else ends_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return
                # Never without a limit, so that an interruption is noticed on every platform.
                self._arrived.wait(min(1.0, left_s) if left_s is not None else 1.0)
                self._arrived.clear()
                for frame in self._newest.take():
                    if not has_frame and self.duration_s is not None:
                        ends_s = time.monotonic() + self.duration_s
                    has_frame = True
                    yield frame
        finally:
            atexit.unregister(stop)
            stop()

    def _open(self) -> cv2.VideoCapture | None:
        timeout_ms = round(self._reconnect.timeout_s * 1000)
        options = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms),
        ]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, options)
        if capture.isOpened():
            return capture
        capture.release()
        return None

    @staticmethod
    def _is_file(capture: cv2.VideoCapture) -> bool:
        """Whether the server states a length; a live stream has none."""
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) > 0

    def _read(self) -> None:
        """Keep the newest frame; after the stream broke off, wait and open it again."""
        lost_s: float | None = None
        waits = self._reconnect.waits_s()
        while not self._stopping.is_set():
            grabbed, picture = self._capture.read() if self._capture is not None else (False, None)
            if grabbed:
                if lost_s is not None:
                    LOG.warning(
                        "%s: pictures arrive again, after %.1f s",
                        self.shown_url,
                        time.monotonic() - lost_s,
                    )
                    lost_s, waits = None, self._reconnect.waits_s()
                image = np.ascontiguousarray(
                    cv2.cvtColor(np.asarray(picture), cv2.COLOR_BGR2RGB), dtype=np.uint8
                )
                # After the system clock was set back, frames are dropped until it has caught up.
                with contextlib.suppress(StaleFrame):
                    self._newest.put(Frame(self.cameras[0], time.time_ns(), "", image))
                    self._arrived.set()
                continue
            if lost_s is None:
                lost_s = time.monotonic()
                LOG.warning(
                    "%s: the stream broke off; it is opened again, at first after %g s and at most"
                    " every %g s, until it is back",
                    self.shown_url,
                    self._reconnect.first_wait_s,
                    self._reconnect.longest_wait_s,
                )
            if self._capture is not None:
                self._capture.release()
            if self._stopping.wait(next(waits)):
                break
            self._capture = self._open()
        if self._capture is not None:
            self._capture.release()


def _silence_libraries() -> None:
    """Let FFmpeg and OpenCV print nothing but OpenCV's errors.

    They print addresses with their passwords, and a line for every attempt of an outage. What
    matters of it is said by our own messages.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def _name(shown_url: str) -> str:
    """A short name from an address without secrets, the same each time."""
    parts = urlsplit(shown_url)
    host = parts.netloc.rpartition("@")[2].strip("[]").replace("]", "").replace(":", "-")
    digest = hashlib.sha256(shown_url.encode()).hexdigest()[:6]
    return f"{parts.scheme}-{host}-{digest}"
