"""Planar YUV pictures are read as the colours that ITU-R BT.601 gives them."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    decode_picture,
    decode_with_rosbags,
)
from stream_vlm.sources.planar_pictures import PLANAR

HEIGHT, WIDTH = 8, 12
COLOURS = np.array(
    [[200, 40, 20], [20, 60, 220], [30, 180, 60], [128, 128, 128], [255, 255, 255], [0, 0, 0]]
)
"""One for every two columns, so that shared colour values are not mixed."""


def picture() -> NDArray[np.uint8]:
    return np.tile(np.repeat(COLOURS, 2, axis=0)[None], (HEIGHT, 1, 1)).astype(np.uint8)


def yuv() -> NDArray[np.uint8]:
    """The picture by the formulas of BT.601, limited range, (H, W, 3)."""
    red, green, blue = np.moveaxis(picture() / 255, 2, 0)
    y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
    v = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
    return np.round(np.stack([y, u, v], axis=2)).astype(np.uint8)


def padded(plane: NDArray[np.uint8], padding: int) -> bytes:
    rows = plane.reshape(plane.shape[0], -1)
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77).tobytes()


def message(encoding: str, padding: int = 0, **changes: object) -> SimpleNamespace:
    form = PLANAR[encoding.lower()]
    y, u, v = np.moveaxis(yuv(), 2, 0)
    u, v = (plane[:: form.down, :: form.across] for plane in (u, v))
    first, second = (v, u) if form.v_first else (u, v)
    data = padded(y, padding)
    if form.interleaved:
        data += padded(np.stack([first, second], axis=2), padding * 2 // form.across)
    else:
        data += b"".join(padded(plane, padding // form.across) for plane in (first, second))
    whole: dict[str, object] = {
        "header": None,
        "encoding": encoding,
        "height": HEIGHT,
        "width": WIDTH,
        "step": WIDTH + padding,
        "is_bigendian": 0,
        "data": np.frombuffer(data, np.uint8),
    }
    return SimpleNamespace(**{**whole, **changes})


def read(made: SimpleNamespace) -> NDArray[np.uint8]:
    return decode_picture(made, "front", decode_with_rosbags)


def assert_shows_the_picture(pixels: NDArray[np.uint8]) -> None:
    assert pixels.shape == picture().shape
    np.testing.assert_allclose(pixels.astype(int), picture().astype(int), atol=4)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", sorted(PLANAR))
def test_every_planar_encoding_shows_its_colours(encoding: str, padding: int) -> None:
    assert_shows_the_picture(read(message(encoding, padding)))


def test_an_encoding_may_be_written_in_capitals() -> None:
    assert_shows_the_picture(read(message("NV12")))


def test_a_height_that_counts_the_colour_rows_too_is_understood() -> None:
    assert_shows_the_picture(read(message("nv12", height=HEIGHT * 3 // 2)))


def test_bytes_behind_the_planes_do_not_matter() -> None:
    longer = np.concatenate([message("nv12").data, np.zeros(4096, np.uint8)])
    assert_shows_the_picture(read(message("nv12", data=longer)))


def test_the_padding_of_the_last_row_may_be_missing() -> None:
    made = message("nv12", 4)
    made.data = made.data[:-4]
    assert_shows_the_picture(read(made))


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "yuv422p", "i420"])
def test_an_odd_width_is_refused_in_words(encoding: str) -> None:
    with pytest.raises(CameraEncodingError, match=r"front: .*even width.*11x8"):
        read(message(encoding, width=11))


@pytest.mark.parametrize("encoding", ["yuv422", "yuyv"])
def test_an_odd_width_of_packed_pixels_is_refused_in_words(encoding: str) -> None:
    data = np.zeros(22 * 8, np.uint8)
    odd = message("nv12", width=11, step=22, data=data)
    odd.encoding = encoding
    with pytest.raises(CameraEncodingError, match=r"front: .*even width.*11x8"):
        read(odd)


@pytest.mark.parametrize("encoding", sorted(PLANAR))
def test_missing_planes_are_refused_with_the_size_that_is_right(encoding: str) -> None:
    made = message(encoding)
    made.data = made.data[:-20]
    with pytest.raises(CameraEncodingError, match=rf"front: .*'{encoding}'.* bytes"):
        read(made)


def test_a_single_unnamed_channel_is_grey() -> None:
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8)
    made = message("nv12", data=grey)
    made.encoding = "8UC1"
    pixels = read(made)
    np.testing.assert_array_equal(pixels[..., 1].reshape(-1), grey)


@pytest.mark.skipif(not importlib.util.find_spec("rclpy"), reason="ROS 2 is not here")
@pytest.mark.parametrize("encoding", ["nv12", "yuv422p", "NV21"])
def test_a_message_of_rclpy_is_decoded_alike(encoding: str) -> None:
    from sensor_msgs.msg import Image

    from stream_vlm_ros.inputs.image_decoding import decode_image

    made = message(encoding)
    ros = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=WIDTH)
    ros.data.frombytes(made.data.tobytes())
    np.testing.assert_array_equal(decode_image(ros, "front"), read(made))
