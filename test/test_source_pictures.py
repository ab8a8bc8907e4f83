"""An image message becomes RGB pixels, or one clear sentence about why it is no picture."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stream_vlm.sources.pictures import CameraEncodingError, picture_from_message


def image_message(**changes: object) -> SimpleNamespace:
    """A 2 x 2 rgb8 picture as a driver would send it."""
    whole = {"encoding": "rgb8", "height": 2, "width": 2, "step": 6, "is_bigendian": 0, "data": np.arange(12, dtype=np.uint8)}
    return SimpleNamespace(**{**whole, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"encoding": "rgb9"}, "encoding 'rgb9' is not a picture"),
        ({"encoding": "16UC1"}, "encoding '16UC1' is not a picture"),
        ({"encoding": "8UC3"}, "encoding '8UC3' is not a picture"),
        ({"width": 0}, "0 x 2 pixels is empty"),
        ({"step": 5}, "step 5 is shorter than a row"),
        ({"data": np.arange(11, dtype=np.uint8)}, "11 bytes are too few"),
    ],
)
def test_an_image_message_that_is_no_picture_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(CameraEncodingError, match=f"front: .*{complaint}"):
        picture_from_message(image_message(**changes), "front")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_compressed_message_that_breaks_off_is_refused(share: float) -> None:
    _, jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    message = SimpleNamespace(format="jpeg", data=jpeg.reshape(-1)[: int(share * jpeg.size)])
    with pytest.raises(CameraEncodingError, match="no whole picture"):
        picture_from_message(message, "front")


def test_padded_rows_are_cut_to_the_picture() -> None:
    padded = np.array([[1, 2, 3, 4, 5, 6, 99, 99], [7, 8, 9, 10, 11, 12, 99, 99]], dtype=np.uint8)
    read = picture_from_message(image_message(step=8, data=padded.reshape(-1)[:14]), "front")
    assert read.reshape(-1).tolist() == list(range(1, 13))


@pytest.mark.parametrize(("encoding", "data"), [("bgr8", [3, 2, 1] * 4), ("rgba8", [1, 2, 3, 255] * 4), ("rgb16", [1, 1, 2, 2, 3, 3] * 4)])
def test_every_colour_encoding_is_read_as_rgb(encoding: str, data: list[int]) -> None:
    message = image_message(encoding=encoding, step=len(data) // 2, data=np.array(data, dtype=np.uint8))
    assert picture_from_message(message, "front").tolist() == [[[1, 2, 3]] * 2] * 2
