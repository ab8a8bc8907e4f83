"""Pictures on their way to a server: resized, written as JPEG, with a name nobody can guess."""

from __future__ import annotations

import base64
import math
import secrets
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError

TOKEN_PIXELS = 28 * 28
"""Pixels of a vision token of a Qwen2.5-VL. A server does not tell those of its model."""

MOST_TOKENS = 128
"""The most vision tokens of a picture; the default of `vision.max_tokens`."""

LEAST_SIDE = 28
"""The shortest side of a picture, pixels; processors fail on smaller pictures."""

QUALITY = 90
"""Quality of the JPEG, 0 to 100."""


class PictureRefused(StreamError):
    """A picture cannot be sent; the message says why."""


@dataclass(frozen=True)
class SentPicture:
    """A picture that a server gets.

    Attributes:
        name: under which a server keeps it. A server gives a kept picture to everybody who names
            it, so the name cannot be guessed and is never used twice.
        url: the picture as a data URL with a JPEG.
    """

    name: str
    url: str


def picture_to_send(
    image: NDArray[np.uint8], share: float = 1.0, most_tokens: int = MOST_TOKENS
) -> SentPicture:
    """Resize `image` and write it as JPEG.

    Args:
        image: uint8 RGB, (H, W, 3).
        share: share in (0, 1] of the most pixels.
        most_tokens: the most vision tokens, of `TOKEN_PIXELS` each.

    Raises:
        PictureRefused: a side is zero, or one side is more than 100 times as long as the other.
    """
    height, width = image.shape[:2]
    if min(height, width) < 1 or max(height, width) > 100 * min(height, width):
        raise PictureRefused(
            f"a picture of {width} x {height} pixels cannot be processed; both sides must be above"
            " 0, and their ratio at most 1:100"
        )
    pixels = most_tokens * TOKEN_PIXELS * share
    scale = min(1.0, math.sqrt(pixels / (height * width)))
    scale = max(scale, LEAST_SIDE / min(height, width))
    if scale != 1.0:
        size = round(width * scale), round(height * scale)
        way = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, size, interpolation=way), dtype=np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise PictureRefused(f"a picture of {width} x {height} pixels cannot be written as JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
    return SentPicture(secrets.token_hex(16), url)
