"""From a camera's message to pixels: one function for raw and compressed pictures, whatever decoder the machine has."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.stream import StreamError

BYTES_PER_PIXEL = {
    **dict.fromkeys(("mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), 1),
    **dict.fromkeys(("mono16", "bayer_rggb16", "bayer_bggr16", "bayer_gbrg16", "bayer_grbg16"), 2),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2),
    **dict.fromkeys(("rgb8", "bgr8"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("rgb16", "bgr16"), 6),
    **dict.fromkeys(("rgba16", "bgra16"), 8),
}
"""Encodings of sensor_msgs/Image that are pictures with known colours, and the size of one pixel."""

LONGEST_SIDE = 16384
"""Pixels; a header that claims more is damaged."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

Pixels = NDArray[np.uint8]
Decoder = Callable[[Image | CompressedImage], Pixels]
"""Turns a message whose geometry was checked into uint8 RGB, (H, W, 3); raises whatever its library raises."""


class CameraEncodingError(StreamError):
    """A camera's message is not a picture that can be shown to the model; the message names the camera, the value and the remedy."""


def decode_image(message: Image | CompressedImage, camera: str, decoder: Decoder | None = None) -> Pixels:
    """Return the picture in `message` as uint8 RGB, (H, W, 3), C-contiguous.

    16-bit pictures are scaled to 8 bits. Depth and unnamed channels (16UC1, 32FC1, 8UC3 ...) are refused: what they show as colours would
    be our guess.

    Args:
        camera: the camera's name, for the error message.
        decoder: one of `decoders()`; the machine's own when None.

    Raises:
        CameraEncodingError: unknown encoding, zero size, wrong step, missing data or damaged file.
    """
    if isinstance(message, CompressedImage):
        _check_compressed(message, camera)
        described = f"a compressed picture of format '{message.format}'"
    else:
        message = _without_row_padding(message, camera)
        described = f"encoding '{message.encoding}', {message.width}x{message.height}"
    decode = decoder or next(iter(decoders().values()))
    try:
        pixels = decode(message)
    except Exception as error:  # both libraries raise assertion, OpenCV and value errors of their own for damaged input
        reason = str(error).strip().splitlines()
        raise CameraEncodingError(
            f"{camera}: {described} could not be decoded ({reason[0] if reason else 'the file is damaged'}); "
            "check the driver, or the network that drops parts of it"
        ) from error
    return np.ascontiguousarray(pixels)


@lru_cache(maxsize=1)
def decoders() -> dict[str, Decoder]:
    """The decoders of this machine by name, the preferred one first: cv_bridge where ROS brought it, else rosbags-image.

    Raises:
        CameraEncodingError: neither is installed.
    """
    found: dict[str, Decoder] = {}
    if importlib.util.find_spec("cv_bridge"):
        # A cv_bridge that was built for another numpy than the installed one is as good as absent.
        with suppress(ImportError, AttributeError):
            found["cv_bridge"] = _cv_bridge_decoder()
    if importlib.util.find_spec("rosbags") and importlib.util.find_spec("rosbags.image"):
        found["rosbags-image"] = _rosbags_decoder()
    if not found:
        raise CameraEncodingError("no image decoder: install ros-$ROS_DISTRO-cv-bridge (apt) or rosbags-image[opencv-headless] (pip)")
    return found


def _cv_bridge_decoder() -> Decoder:
    from cv_bridge import CvBridge

    bridge = CvBridge()

    def decode(message: Image | CompressedImage) -> Pixels:
        if isinstance(message, CompressedImage):
            return bridge.compressed_imgmsg_to_cv2(message, "rgb8")
        if message.encoding in ("yuyv", "uyvy"):
            message.encoding = {"yuyv": "yuv422_yuy2", "uyvy": "yuv422"}[message.encoding]
        return bridge.imgmsg_to_cv2(message, "rgb8")

    return decode


def _rosbags_decoder() -> Decoder:
    from rosbags.image import compressed_image_to_cvimage, image_to_cvimage
    from rosbags.image.image import convert_color

    def decode(message: Image | CompressedImage) -> Pixels:
        if isinstance(message, CompressedImage):
            pixels = compressed_image_to_cvimage(message)
            return np.asarray(convert_color(pixels, "mono8" if pixels.ndim == 2 else "bgr8", "rgb8"), np.uint8)
        return np.asarray(image_to_cvimage(message, "rgb8"), np.uint8)

    return decode


def _check_compressed(message: CompressedImage, camera: str) -> None:
    data = bytes(message.data)
    if not data:
        raise CameraEncodingError(f"{camera}: the compressed picture is empty; check the driver")
    if "compressedDepth" in message.format:
        raise CameraEncodingError(
            f"{camera}: format '{message.format}' is a depth picture; set camera.{camera}.topic to the colour picture's topic"
        )
    # Decoders fill the missing part of a cut JPEG with grey and say nothing.
    if data.startswith(JPEG_START) and JPEG_END not in data[-4096:]:
        raise CameraEncodingError(
            f"{camera}: the JPEG of {len(data)} bytes breaks off before its end; check the driver, or the network that drops parts of it"
        )


def _without_row_padding(message: Image, camera: str) -> Image:
    """Check the geometry of `message` and return it with rows that follow each other without a gap."""
    pixel = BYTES_PER_PIXEL.get(message.encoding)
    if pixel is None:
        depth = message.encoding in ("16UC1", "32FC1", "64FC1")
        reason = "is a depth picture" if depth else "names no colours"
        raise CameraEncodingError(
            f"{camera}: encoding '{message.encoding}' {reason}; remap to a colour image topic (rgb8, bgr8, mono8, bayer_*, yuv422 ...) "
            f"or set camera.{camera}.topic and camera.{camera}.transport"
        )
    height, width, step = message.height, message.width, message.step
    if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE):
        raise CameraEncodingError(f"{camera}: a picture of {width}x{height} pixels cannot be shown; check the driver's resolution")
    row = width * pixel
    if step < row:
        raise CameraEncodingError(
            f"{camera}: step {step} is shorter than a row of {width} pixels in {message.encoding} ({row} bytes); check the driver"
        )
    if len(message.data) < step * (height - 1) + row:
        raise CameraEncodingError(
            f"{camera}: {len(message.data)} bytes of data where {step} x {height} were announced; check the driver"
        )
    if step == row and len(message.data) == row * height:
        return message
    padded = np.zeros(step * height, np.uint8)
    received = np.frombuffer(message.data, np.uint8)[: step * height]
    padded[: received.size] = received
    rows = padded.reshape(height, step)[:, :row]
    dense = Image(header=message.header, height=height, width=width, encoding=message.encoding, is_bigendian=message.is_bigendian, step=row)
    dense.data.frombytes(rows.tobytes())
    return dense
