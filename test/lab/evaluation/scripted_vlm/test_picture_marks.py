"""The mark of a simulated picture survives what a picture goes through on its way to a server."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import (
    NoMark,
    PictureSource,
    read_mark,
    with_mark,
)
from stream_vlm_lab.simulation.world import World

SOURCE = PictureSource(4_000_000_001, 60_000, 31_500, 10)


@pytest.mark.parametrize("size", [(320, 240), (384, 216), (640, 480)])
@pytest.mark.parametrize("shown", [(320, 240), (224, 168), (308, 252), (644, 476)])
@pytest.mark.parametrize("quality", [40, 90])
def test_a_mark_survives_resizing_and_jpeg(
    size: tuple[int, int], shown: tuple[int, int], quality: int
) -> None:
    image = with_mark(World(7, 60.0, size).view(20.0).image, SOURCE)
    small = cv2.resize(image, shown, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read_mark(np.asarray(decoded, np.uint8)) == SOURCE


def test_the_picture_that_is_marked_stays_as_it_was() -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    with_mark(image, SOURCE)
    assert (image == 90).all()


def test_a_picture_without_a_mark_is_refused() -> None:
    with pytest.raises(NoMark, match="320x240 pixels has no mark"):
        read_mark(World(7, 60.0).view(20.0).image)


def test_a_mark_names_the_script_of_its_room() -> None:
    assert PictureSource(7, 60_000, 5_000).script() == World(7, 60.0).script
