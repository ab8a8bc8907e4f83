"""From a ROS image message to pixels, whoever made the message object.

Works on anything with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage (rclpy's or a bag reader's), so it imports no ROS.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.image import ImageError, image_to_cvimage
from rosbags.image.image import Format, to_cvtype

from stream_vlm.stream import StreamError


class CameraEncodingError(StreamError):
    """An image message that is no picture; the message names the camera, what is wrong with it and the remedy."""


def picture_from_message(message: Any, camera: str) -> NDArray[np.uint8]:
    """Return the picture in an Image or CompressedImage message as uint8 RGB, (H, W, 3), C-contiguous.

    Sixteen-bit pictures are scaled to eight, grey ones repeated over the channels; rows may be padded (`step` larger than the row).

    Args:
        message: has `encoding`, `height`, `width`, `step`, `is_bigendian`, `data`, or `format` and `data`.
        camera: the camera's name, for the message of an error.

    Raises:
        CameraEncodingError: unknown encoding, zero size, wrong step, too few bytes, or compressed bytes that are no picture.
    """
    if hasattr(message, "format"):
        return _compressed(message, camera)
    return _raw(message, camera)


def _compressed(message: Any, camera: str) -> NDArray[np.uint8]:
    data = np.frombuffer(message.data, dtype=np.uint8)
    # OpenCV raises on no bytes at all and returns None on bytes that are no picture.
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    # OpenCV fills the missing part of a cut JPEG with grey and says nothing.
    head, tail = data[:2].tobytes(), data[-1024:].tobytes()
    if picture is None or (head == b"\xff\xd8" and b"\xff\xd9" not in tail):
        raise CameraEncodingError(
            f"{camera}: {data.size} compressed bytes of format '{message.format}' are no whole picture; "
            "is the topic a sensor_msgs/CompressedImage with JPEG or PNG, and is the driver sending whole pictures?"
        )
    return _rgb(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _raw(message: Any, camera: str) -> NDArray[np.uint8]:
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height == 0 or width == 0:
        raise CameraEncodingError(f"{camera}: a picture of {width} x {height} pixels is empty; check the driver's resolution")
    try:
        _, colours, dtype, channels = to_cvtype(message.encoding)
    except ImageError as error:
        raise _not_a_picture(camera, message.encoding) from error
    if colours is Format.GENERIC:
        # Depth and unnamed channels: what they show as colours would be a guess.
        raise _not_a_picture(camera, message.encoding)
    row = width * channels * np.dtype(dtype).itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < row:
        raise CameraEncodingError(
            f"{camera}: step {step} is shorter than a row of {width} '{message.encoding}' pixels ({row} bytes); the driver fills step wrongly"
        )
    if data.size < step * (height - 1) + row:
        raise CameraEncodingError(
            f"{camera}: {data.size} bytes are too few for {width} x {height} '{message.encoding}' with step {step}; "
            "the picture was truncated on its way"
        )
    if step > row:
        # The last row may come without its padding.
        padded = np.zeros(step * height, dtype=np.uint8)
        padded[: min(data.size, padded.size)] = data[: padded.size]
        data = padded.reshape(height, step)[:, :row]
    flat = np.ascontiguousarray(data).reshape(-1)[: row * height]
    tight = SimpleNamespace(encoding=message.encoding, height=height, width=width, is_bigendian=bool(message.is_bigendian), data=flat)
    try:
        return _rgb(image_to_cvimage(tight, "rgb8"))  # type: ignore[arg-type]
    except (ImageError, cv2.error) as error:
        raise _not_a_picture(camera, message.encoding) from error


def _not_a_picture(camera: str, encoding: str) -> CameraEncodingError:
    return CameraEncodingError(
        f"{camera}: encoding '{encoding}' is not a picture; name a colour or grey image topic, or set camera.{camera}.transport"
    )


def _rgb(picture: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture, dtype=np.uint8)
