"""Videos of plain grey pictures, small enough to be made for one test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, greys: Sequence[int], fps: float) -> Path:
    """Write a video of 64 x 48 pixels with a picture for each of `greys`, `fps` a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path
