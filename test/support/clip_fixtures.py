"""Small videos of uniform grey pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, greys: Sequence[int], fps: float) -> Path:
    """Write a video of 64 x 48 pixels with one uniform picture for each of `greys`.

    Args:
        path: the file.
        greys: grey values, 0..255.
        fps: pictures a second.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path
