"""Decodes a camera's message to pixels, raw or compressed, with the decoder that is installed."""

from __future__ import annotations

import array
import importlib.util
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    Decoder,
    Pixels,
    decode_picture,
    decode_with_rosbags,
    is_compressed,
)

__all__ = ["CameraEncodingError", "decode_image", "decoders"]


def decode_image(
    message: Image | CompressedImage, camera: str, decoder: Decoder | None = None
) -> Pixels:
    """The picture in `message` as uint8 RGB, (H, W, 3), C-contiguous.

    See `stream_vlm.sources.image_decoding.decode_picture`.

    Args:
        message: a camera's message.
        camera: the camera's name, for the error message.
        decoder: one of `decoders()`; None for the first of them.

    Raises:
        CameraEncodingError: unknown encoding, zero size, wrong step, missing data or damaged file.
    """
    return decode_picture(message, camera, decoder or next(iter(decoders().values())))


@lru_cache(maxsize=1)
def decoders() -> dict[str, Decoder]:
    """The installed decoders by name; the first is the default.

    cv_bridge comes first if a ROS distribution installed it, then rosbags-image.
    """
    found: dict[str, Decoder] = {}
    if importlib.util.find_spec("cv_bridge"):
        # A cv_bridge that was built for another numpy than the installed one cannot be imported.
        with suppress(ImportError, AttributeError):
            found["cv_bridge"] = _cv_bridge_decoder()
    found["rosbags-image"] = decode_with_rosbags
    return found


def _cv_bridge_decoder() -> Decoder:
    from cv_bridge import CvBridge

    bridge = CvBridge()
    known_as = {"yuyv": "yuv422_yuy2", "uyvy": "yuv422"}

    def decode(message: Any) -> Pixels:
        if is_compressed(message):
            compressed: Pixels = bridge.compressed_imgmsg_to_cv2(message, "rgb8")
            return compressed
        plain = Image(
            header=message.header,
            height=message.height,
            width=message.width,
            encoding=known_as.get(message.encoding, message.encoding),
            is_bigendian=message.is_bigendian,
            step=message.step,
        )
        plain.data = (
            message.data if isinstance(message.data, array.array) else message.data.tobytes()
        )
        pixels: Pixels = bridge.imgmsg_to_cv2(plain, "rgb8")
        return pixels

    return decode
