"""Decode ROS image messages to RGB pixels, without importing ROS.

It works on any object with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage, from
rclpy or from a bag reader.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.image import compressed_image_to_cvimage, image_to_cvimage
from rosbags.image.image import convert_color

from stream_vlm.sources.compressed_files import (
    DEPTH_ENCODINGS,
    encoding_of,
    is_depth,
    missing_end,
    video_codec,
)
from stream_vlm.sources.planar_pictures import PLANAR, planar_to_rgb
from stream_vlm.types import StreamError

BYTES_PER_PIXEL = {
    **dict.fromkeys(("mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), 1),
    **dict.fromkeys(("mono16", "bayer_rggb16", "bayer_bggr16", "bayer_gbrg16", "bayer_grbg16"), 2),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2),
    **dict.fromkeys(("rgb8", "bgr8"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("rgb16", "bgr16"), 6),
    **dict.fromkeys(("rgba16", "bgra16"), 8),
}
"""Bytes per pixel of each supported encoding of sensor_msgs/Image, except the planar ones."""

ALIASES = {"8uc1": "mono8"}
"""Other names of encodings, in small letters."""

INSTALL_PYAV = "pip install 'stream-vlm[video]'"

MAX_SIDE_PX = 16384
"""Pixels; a header with a larger width or height is damaged."""

Pixels = NDArray[np.uint8]
Decoder = Callable[[Any], Pixels]
"""Decodes a checked message to uint8 RGB, (H, W, 3); raises whatever its library raises."""


class CameraEncodingError(StreamError):
    """A message that holds no usable picture; the message names camera, value and remedy."""


def decode_picture(message: Any, camera: str, decode: Decoder) -> Pixels:
    """Return the picture in `message` as uint8 RGB, (H, W, 3), C-contiguous.

    16-bit pictures are scaled to 8 bits. Grey pictures are repeated over the three channels. Rows
    may be padded, and bytes may follow the end of a compressed picture. YUV is read as ITU-R
    BT.601 with limited range. Depth pictures and encodings without named colours (16UC1, 32FC1,
    8UC3 ...) are refused, because their colours would be a guess. A packet of a video is refused
    too, because alone it is no picture.

    Args:
        message: has `encoding`, `height`, `width`, `step`, `is_bigendian`, `data`, or `format` and
            `data`.
        camera: the camera's name, for the error message.
        decode: decodes the checked message; see `decode_with_rosbags`.

    Raises:
        CameraEncodingError: unknown encoding, zero size, wrong step, missing data or damaged file.
    """
    if is_compressed(message):
        _check_compressed(message, camera)
        described = f"a compressed picture of format '{message.format}'"
    else:
        message = _without_row_padding(message, camera)
        described = f"encoding '{message.encoding}', {message.width}x{message.height}"
    try:
        pixels = _convert(message, decode)
    except Exception as error:
        # Damaged input raises assertion, OpenCV or value errors, according to the library.
        reason = str(error).strip().splitlines()
        raise CameraEncodingError(
            f"{camera}: {described} could not be decoded"
            f" ({reason[0] if reason else 'the file is damaged'}); check the driver, or whether"
            " the network loses data"
        ) from error
    return np.ascontiguousarray(pixels)


def is_compressed(message: Any) -> bool:
    """True for a sensor_msgs/CompressedImage, False for a sensor_msgs/Image."""
    return hasattr(message, "format")


def decode_with_rosbags(message: Any) -> Pixels:
    """Decode a checked message with rosbags-image, which needs no ROS."""
    if is_compressed(message):
        return _decode_compressed(message, "mono8")
    return np.asarray(image_to_cvimage(message, "rgb8"), np.uint8)


def _convert(message: Any, decode: Decoder) -> Pixels:
    """Decode a checked message to RGB, whatever its decoder knows."""
    if is_compressed(message):
        first = encoding_of(message.format)
        if first.startswith("bayer_") and first in BYTES_PER_PIXEL:
            return _decode_compressed(message, first.replace("16", "8"))
        return decode(message)
    if message.encoding in PLANAR:
        data = np.frombuffer(message.data, np.uint8)
        return planar_to_rgb(message.encoding, message.width, message.height, message.step, data)
    return decode(message)


def _decode_compressed(message: Any, grey: str) -> Pixels:
    """Decode a compressed picture to RGB; one with a single channel has the encoding `grey`."""
    pixels = compressed_image_to_cvimage(message)
    return np.asarray(convert_color(pixels, grey if pixels.ndim == 2 else "bgr8", "rgb8"), np.uint8)


def _check_compressed(message: Any, camera: str) -> None:
    data = bytes(message.data)
    if not data:
        raise CameraEncodingError(f"{camera}: the compressed picture is empty; check the driver")
    if is_depth(message.format):
        raise CameraEncodingError(
            f"{camera}: format '{message.format}' is a depth picture; set camera.{camera}.topic to"
            " the colour picture's topic"
        )
    codec = video_codec(message.format)
    if codec is not None:
        raise CameraEncodingError(
            f"{camera}: format '{message.format}' is a packet of {codec} video, no picture;"
            f" {INSTALL_PYAV} to decode it, or choose the camera's raw or JPEG topic (ros2 run"
            " image_transport republish makes one)"
        )
    kind = missing_end(data)
    if kind is not None:
        raise CameraEncodingError(
            f"{camera}: the {kind} of {len(data)} bytes is truncated; check the driver, or whether"
            " the network loses data"
        )


def _without_row_padding(message: Any, camera: str) -> Any:
    """Check the geometry of `message` and return it without padding at the end of its rows."""
    encoding = message.encoding.lower()
    encoding = ALIASES.get(encoding, encoding)
    pixel = 1 if encoding in PLANAR else BYTES_PER_PIXEL.get(encoding)
    if pixel is None:
        reason = (
            "is a depth picture" if encoding in DEPTH_ENCODINGS else "does not name its colours"
        )
        raise CameraEncodingError(
            f"{camera}: encoding '{message.encoding}' {reason}; remap to a colour image topic"
            f" (rgb8, bgr8, mono8, bayer_*, yuv422, nv12 ...) or set camera.{camera}.topic and"
            f" camera.{camera}.transport"
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise CameraEncodingError(
            f"{camera}: a picture of {width}x{height} pixels cannot be used; check the driver's"
            " resolution"
        )
    row = width * pixel
    if step < row:
        raise CameraEncodingError(
            f"{camera}: step {step} is shorter than a row of {width} pixels in {message.encoding}"
            f" ({row} bytes); check the driver"
        )
    if len(message.data) < step * (height - 1) + row:
        raise CameraEncodingError(
            f"{camera}: {len(message.data)} bytes of data, but step x height is {step} x {height};"
            " check the driver"
        )
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv") and width % 2:
        raise CameraEncodingError(
            f"{camera}: {message.encoding} needs an even width, because two pixels share a colour,"
            f" but has {width}x{height}; check the driver"
        )
    if encoding in PLANAR or (step == row and len(message.data) == row * height):
        return _like(message, encoding, step, message.data)
    padded = np.zeros(step * height, np.uint8)
    received = np.frombuffer(message.data, np.uint8)[: step * height]
    padded[: received.size] = received
    rows = np.ascontiguousarray(padded.reshape(height, step)[:, :row]).reshape(-1)
    return _like(message, encoding, row, rows)


def _like(message: Any, encoding: str, step: int, data: Any) -> Any:
    """Return `message` with another encoding, step and data."""
    return SimpleNamespace(
        header=message.header,
        height=int(message.height),
        width=int(message.width),
        encoding=encoding,
        is_bigendian=message.is_bigendian,
        step=step,
        data=data,
    )
