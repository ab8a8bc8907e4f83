"""The packets of a camera's video (H.264, HEVC, AV1) as pictures.

A packet is no picture: it needs every packet since the key frame before it. So each camera has a
decoder of its own, which sees every packet, and begins at a key frame.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from stream_vlm.sources.compressed_files import video_codec
from stream_vlm.sources.image_decoding import CameraEncodingError, Pixels, is_compressed
from stream_vlm.sources.pyav_decoding import PacketDecoder, PacketFault, is_installed

MAX_WAITING = 1_000
"""Packets that wait for a step; more than a long group of pictures has."""
MAX_WAITING_BYTES = 64 * 2**20

_START_CODE = re.compile(rb"\x00\x00\x01(?=.)", re.DOTALL)
H264_ENTRIES = frozenset((5, 7))
"""NAL unit types of H.264 at which decoding can begin: a key frame, or its parameters."""
HEVC_ENTRIES = frozenset((*range(16, 22), *range(32, 35)))
"""The same of HEVC."""


@dataclass(frozen=True)
class Packet:
    """A packet of a video: FFmpeg's name of the codec, the bytes, and the stamp (ns)."""

    codec: str
    data: bytes
    stamp_ns: int

    @property
    def is_entry(self) -> bool:
        """Whether decoding can begin with this packet."""
        if self.codec == "h264":
            return any(kind & 0x1F in H264_ENTRIES for kind in self._unit_heads())
        if self.codec == "hevc":
            return any(kind >> 1 & 0x3F in HEVC_ENTRIES for kind in self._unit_heads())
        if self.codec == "av1":
            return _has_sequence_header(self.data)
        if self.codec == "vp8":
            return bool(self.data) and not self.data[0] & 1
        return True

    def _unit_heads(self) -> list[int]:
        return [self.data[found.end()] for found in _START_CODE.finditer(self.data)]


def _has_sequence_header(data: bytes) -> bool:
    """Whether an AV1 packet has a sequence header, as those of key frames do."""
    at = 0
    while at < len(data):
        head = data[at]
        if head >> 3 & 0xF == 1:
            return True
        at += 2 if head & 4 else 1
        if not head & 2:  # without a size this unit is the last one
            return False
        size, shift = 0, 0
        while at < len(data):
            byte = data[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
        at += size
    return False


def packet_codec(message: Any) -> str | None:
    """Return FFmpeg's name of the codec if `message` is a video packet that can be decoded here.

    None for pictures, and for packets without PyAV: `decode_picture` refuses these.
    """
    if not is_compressed(message):
        return None
    codec = video_codec(message.format)
    return codec if codec is not None and is_installed() else None


class VideoPackets:
    """Decodes the packets of one camera, in the order in which they come.

    Args:
        camera: the camera's name, for error messages.
    """

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._codec = ""
        self._decoder: PacketDecoder | None = None

    def decode(self, packet: Packet) -> list[tuple[int, Pixels]]:
        """Decode one packet.

        Returns:
            The pictures that it completes, with their stamps (ns): one, or with reordered pictures
            none or several. They are uint8 RGB, (H, W, 3).

        Raises:
            CameraEncodingError: it cannot be decoded, or no key frame has come yet.
        """
        if packet.codec != self._codec:
            self._codec, self._decoder = packet.codec, None
        if self._decoder is None:
            if not packet.is_entry:
                raise CameraEncodingError(
                    f"{self._camera}: a packet of {packet.codec} video waits for the next key"
                    " frame; let the encoder send one every second or so"
                )
            self._decoder = PacketDecoder(packet.codec)
        try:
            return self._decoder.decode(packet.data, packet.stamp_ns)
        except PacketFault as error:
            self._decoder = None
            raise CameraEncodingError(
                f"{self._camera}: a packet of {packet.codec} video cannot be decoded ({error}); the"
                " next key frame is waited for; check the encoder and whether the network loses"
                " data, or choose the camera's raw or JPEG topic"
            ) from error

    def end(self) -> list[tuple[int, Pixels]]:
        """Return the pictures that the decoder still has, because the video has ended."""
        if self._decoder is None:
            return []
        try:
            return self._decoder.end()
        except PacketFault:  # the last pictures are incomplete
            return []


class LiveVideo:
    """The packets of a live camera that wait for the next step, and their decoder.

    The callback of a message calls `put`, which decodes nothing; the thread of the model calls
    `newest`. Packets before a key frame are dropped, because nothing after it needs them.
    """

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._lock = threading.Lock()
        self._packets: list[Packet] = []
        self._bytes = 0
        self._needs_entry = True
        self._video = VideoPackets(camera)

    def put(self, packet: Packet) -> None:
        """Keep `packet` until it is decoded."""
        with self._lock:
            if packet.is_entry:
                if not self._packets or not self._packets[-1].is_entry:
                    self._clear()
                self._needs_entry = False
            elif self._needs_entry:
                return
            self._packets.append(packet)
            self._bytes += len(packet.data)
            if len(self._packets) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
                self._clear()
                self._needs_entry = True

    def _clear(self) -> None:
        self._packets, self._bytes = [], 0

    def newest(self) -> Pixels:
        """Decode what has come and return the newest picture, uint8 RGB, (H, W, 3).

        Raises:
            CameraEncodingError: there is none; the message says why.
        """
        with self._lock:
            packets = self._packets
            self._clear()
        picture: Pixels | None = None
        fault: CameraEncodingError | None = None
        for packet in packets:
            try:
                decoded = self._video.decode(packet)
            except CameraEncodingError as error:
                fault = error
                continue
            if decoded:
                picture = decoded[-1][1]
        if picture is not None:
            return picture
        raise fault or CameraEncodingError(
            f"{self._camera}: its video has shown no whole picture yet; the next key frame is"
            " waited for"
        )
