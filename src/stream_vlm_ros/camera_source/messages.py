"""From frames to the messages a camera driver would publish."""

from __future__ import annotations

import array
from typing import Literal

import cv2
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.types import Frame, Pose
from stream_vlm_ros.common.conversions import header_message, pose_message

Transport = Literal["raw", "compressed"]

JPEG_QUALITY = 90


def image_message(frame: Frame, stamp_ns: int) -> Image:
    """`frame` as an rgb8 picture stamped `stamp_ns` (ns)."""
    height, width, channels = frame.image.shape
    message = Image(
        header=header_message(stamp_ns, frame.frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=width * channels,
    )
    # An array of bytes is taken over as it is; anything else would be checked value by value.
    message.data = array.array("B", frame.image.tobytes())
    return message


def compressed_message(frame: Frame, stamp_ns: int) -> CompressedImage:
    """`frame` as a JPEG stamped `stamp_ns` (ns)."""
    _, jpeg = cv2.imencode(
        ".jpg",
        cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
    )
    message = CompressedImage(
        header=header_message(stamp_ns, frame.frame_id), format="rgb8; jpeg compressed bgr8"
    )
    message.data = array.array("B", jpeg.tobytes())
    return message


def odometry_message(pose: Pose, stamp_ns: int) -> Odometry:
    """`pose` of the robot's base at `stamp_ns` (ns); velocities are not known and zero."""
    placed = pose_message(pose, stamp_ns)
    message = Odometry(header=placed.header, child_frame_id="base_link")
    message.pose.pose = placed.pose
    return message
