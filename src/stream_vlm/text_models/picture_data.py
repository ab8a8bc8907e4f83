"""A picture as a data URL, as the OpenAI chat protocol takes it."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError

LONGEST_SIDE = 1024
"""Larger pictures are scaled down to this side, pixels; vision models do so anyway."""

QUALITY = 85
"""JPEG quality."""


class PictureRefused(StreamError):
    """The picture cannot be encoded; the message gives its shape."""


def data_url(image: NDArray[np.uint8], longest_side: int = LONGEST_SIDE) -> str:
    """Return `image` as a JPEG data URL.

    Args:
        image: uint8 RGB, (H, W, 3).
        longest_side: scale it down to this side, pixels; it is never enlarged.

    Raises:
        PictureRefused: it cannot be encoded.
    """
    # Imported here: the other users of this room must not wait for OpenCV to load.
    import cv2

    try:
        height, width = image.shape[:2]
        share = min(1.0, longest_side / max(height, width))
        if share < 1.0:
            size = max(1, round(width * share)), max(1, round(height * share))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        done, jpeg = cv2.imencode(
            ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
    except (cv2.error, ValueError, ZeroDivisionError) as error:
        raise PictureRefused(
            f"a picture of shape {image.shape} cannot be encoded: {error}"
        ) from error
    if not done:
        raise PictureRefused(f"a picture of shape {image.shape} cannot be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
