"""What needs PyAV: video files from a key frame on, and the packets of a camera's video.

PyAV is optional. `is_installed` tells whether it is there; nothing else here works without it.
"""

from __future__ import annotations

import heapq
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import NANOSECONDS

STEPS_BACK_S = (0.0, 1.0, 5.0, 30.0)
"""A container's index may lead behind the wanted key frame; then these are tried, seconds."""


@lru_cache(maxsize=1)
def is_installed() -> bool:
    """Whether PyAV can be imported."""
    return importlib.util.find_spec("av") is not None


def decode_from(path: Path, key_ns: int) -> Iterator[tuple[int, NDArray[np.uint8]]] | None:
    """Decode the video in `path` from its key frame at `key_ns` to its end.

    Args:
        path: a video file.
        key_ns: stamp of a key frame since the container's start, ns.

    Returns:
        Stamps (ns, as `key_ns`) with pictures, uint8 BGR, (H, W, 3); None if the container cannot
        be positioned there.
    """
    import av

    container = av.open(str(path))
    stream = container.streams.best("video")
    found = _packets_from(container, stream, key_ns) if stream is not None else None
    if stream is None or found is None:
        container.close()
        return None
    return _decode(container, stream, found)


def _container_ns(stream: Any, pts: int) -> int:
    """`pts` as `video_index.container_ns` gives it, with the same rounding."""
    return round((pts - (stream.start_time or 0)) * float(stream.time_base) * 1000.0 * 1e6)


def _packets_from(container: Any, stream: Any, key_ns: int) -> Iterator[Any] | None:
    """The packets from the key frame at `key_ns` on, or None."""
    for back_s in STEPS_BACK_S:
        seconds = max(0.0, key_ns / NANOSECONDS - back_s)
        offset = int(seconds / float(stream.time_base)) + (stream.start_time or 0)
        container.seek(offset, stream=stream, backward=True)
        packets = container.demux(stream)
        for packet in packets:
            if packet.pts is None or not packet.is_keyframe:
                continue
            at_ns = _container_ns(stream, packet.pts)
            if at_ns == key_ns:
                return _with_first(packet, packets)
            if at_ns > key_ns:
                break
    return None


def _with_first(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _decode(
    container: Any, stream: Any, packets: Iterator[Any]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    import av

    try:
        for packet in packets:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # as OpenCV does, the rest of the file is read
                continue
            for frame in frames:
                if frame.pts is not None:
                    yield _container_ns(stream, frame.pts), _bgr(frame)
    finally:
        container.close()


def _bgr(frame: Any) -> NDArray[np.uint8]:
    """The picture as OpenCV converts it, uint8 BGR, (H, W, 3)."""
    return np.asarray(frame.to_ndarray(format="bgr24", interpolation="BICUBIC"), np.uint8)


class PacketFault(Exception):
    """A packet that cannot be decoded; the message is FFmpeg's."""


class PacketDecoder:
    """Decodes the packets of one video, from a key frame on.

    Args:
        codec: FFmpeg's name of the codec, such as h264.
    """

    def __init__(self, codec: str) -> None:
        import av

        # FFmpeg's own AV1 decoder needs a GPU.
        self._context: Any = av.CodecContext.create({"av1": "libdav1d"}.get(codec, codec), "r")
        # Frame threads would hold pictures back.
        self._context.thread_count = 1
        self._stamps_ns: list[int] = []

    def decode(self, data: bytes, stamp_ns: int) -> list[tuple[int, NDArray[np.uint8]]]:
        """Return the pictures that the packet `data` completes, uint8 RGB, with stamps (ns).

        Pictures come out in the order in which they are shown, so each gets the earliest stamp that
        no picture has yet.

        Raises:
            PacketFault: the packet is damaged.
        """
        import av

        heapq.heappush(self._stamps_ns, stamp_ns)
        return self._decoded(av.Packet(data))

    def end(self) -> list[tuple[int, NDArray[np.uint8]]]:
        """Return the pictures that are still held back.

        Raises:
            PacketFault: they are damaged.
        """
        return self._decoded(None)

    def _decoded(self, packet: Any) -> list[tuple[int, NDArray[np.uint8]]]:
        import av

        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            raise PacketFault(error.strerror or str(error)) from error
        pictures = []
        for frame in frames:
            stamp_ns = heapq.heappop(self._stamps_ns)
            if not frame.is_corrupt:
                pixels = np.ascontiguousarray(_bgr(frame)[..., ::-1])
                pictures.append((stamp_ns, pixels))
        return pictures
