"""Turns frames into the messages that a camera driver would publish."""

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
    """Return `frame` as a raw rgb8 image with the stamp `stamp_ns` (ns)."""
    height, width, channels = frame.image.shape
    message = Image(
        header=header_message(stamp_ns, frame.frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=width * channels,
    )
    # rclpy takes an array of bytes as it is; it would check anything else value by value.
    message.data = array.array("B", frame.image.tobytes())
    return message


def compressed_message(frame: Frame, stamp_ns: int) -> CompressedImage:
    """Return `frame` as a JPEG with the stamp `stamp_ns` (ns)."""
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
    """Return `pose` of the robot's base at `stamp_ns` (ns).

    The velocities are unknown, so they are zero.
    """
    placed = pose_message(pose, stamp_ns)
    message = Odometry(header=placed.header, child_frame_id="base_link")
    message.pose.pose = placed.pose
    return message
