"""Images read from a bag decode to the same pictures as those of rclpy.

`test/ros/inputs/test_image_decoding.py` has the full grid of encodings and faults.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    decode_picture,
    decode_with_rosbags,
)


def image_message(**changes: object) -> SimpleNamespace:
    """A 2 x 2 rgb8 picture as a bag reader returns it."""
    whole = {
        "header": None,
        "encoding": "rgb8",
        "height": 2,
        "width": 2,
        "step": 6,
        "is_bigendian": 0,
        "data": np.arange(12, dtype=np.uint8),
    }
    return SimpleNamespace(**{**whole, **changes})


def test_padded_rows_are_cut_to_the_picture() -> None:
    padded = np.array([[1, 2, 3, 4, 5, 6, 99, 99], [7, 8, 9, 10, 11, 12, 99, 99]], dtype=np.uint8)
    read = decode_picture(
        image_message(step=8, data=padded.reshape(-1)[:14]), "front", decode_with_rosbags
    )
    assert read.reshape(-1).tolist() == list(range(1, 13))


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("bgr8", [3, 2, 1] * 4), ("rgba8", [1, 2, 3, 255] * 4), ("rgb16", [1, 1, 2, 2, 3, 3] * 4)],
)
def test_every_colour_encoding_is_read_as_rgb(encoding: str, data: list[int]) -> None:
    message = image_message(
        encoding=encoding, step=len(data) // 2, data=np.array(data, dtype=np.uint8)
    )
    assert decode_picture(message, "front", decode_with_rosbags).tolist() == [[[1, 2, 3]] * 2] * 2


def test_an_unknown_encoding_is_refused_with_camera_and_value() -> None:
    with pytest.raises(
        CameraEncodingError, match="front: encoding 'rgb9' does not name its colours"
    ):
        decode_picture(image_message(encoding="rgb9"), "front", decode_with_rosbags)
