"""A camera that sends video packets is watched by the node: every packet counts."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")

from ros_fixtures import BRIGHT, DARK, robot_in  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from stream_vlm_ros.common.stamps import stamp_message  # noqa: E402


def packets() -> Iterator[tuple[int, bytes]]:
    """Brightness and packet, without end: two seconds dark, two seconds bright, at 20 Hz."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.time_base, encoder.gop_size = Fraction(1, 20), 30
    encoder.options = {"tune": "zerolatency", "x264-params": "repeat-headers=1:scenecut=0"}
    index = 0
    while True:
        brightness = BRIGHT if index // 40 % 2 else DARK
        picture = np.full((48, 64, 3), brightness, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        for packet in encoder.encode(frame):
            yield brightness, bytes(packet)
        index += 1


def test_a_camera_that_sends_h264_packets_is_watched(tmp_path: Path) -> None:
    with robot_in(tmp_path) as robot:
        robot.start_node(camera__camera__topic="image", camera__camera__transport="compressed")
        publisher = robot.node.create_publisher(CompressedImage, "image", 30)
        stream = packets()

        def is_spoken() -> bool:
            _, data = next(stream)
            message = CompressedImage(format="h264")
            message.header.stamp = stamp_message(robot.now_ns())
            message.data.frombytes(data)
            publisher.publish(message)
            return len(robot.utterances) >= 2

        robot.wait(is_spoken, "utterances about the changes of brightness")
        assert {state.camera for state in robot.states} == {"camera"}
        assert "Traceback" not in robot.log
