"""What faults of a camera do to a picture: in the light before the sensor, and to the numbers after
it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.camera.faults import Fault
from stream_vlm_lab.simulation.raster.sprite import Image

BANDS = 8
"""A rolling exposure is drawn in so many bands of rows, each at its own moment."""
READOUT_S = 0.15
"""From the first row's exposure to the last one's, in seconds, at full strength."""


def exposure_moments(fault: Fault | None, t_s: float) -> list[float]:
    """When each band of rows is exposed, from the top, seconds; a single moment without a rolling
    exposure.
    """
    if fault is None:
        return [t_s]
    return [
        max(0.0, t_s - READOUT_S * fault.strength * (BANDS - 1 - band) / (BANDS - 1))
        for band in range(BANDS)
    ]


def in_the_light(frame: Image, fault: Fault, t_s: float) -> Image:
    """`frame` (uint8 RGB, (H, W, 3)) as it falls on a sensor under `fault` at `t_s` seconds; faults
    of the numbers change nothing here.
    """
    height = frame.shape[0]
    if fault.kind == "rolling":
        # Mains flicker brightens some rows and darkens others; between two pictures the pattern
        # moves.
        rows = np.arange(height, dtype=np.float32) / height
        turn = 2 * np.pi * (rows * (2 + fault.look % 3) + 1.7 * t_s)
        gain = 1 + 0.3 * fault.strength * np.sin(turn)
        return np.asarray(np.clip(frame * gain[:, None, None], 0, 255), np.uint8)
    if fault.kind == "motion-blur":
        return np.asarray(
            cv2.filter2D(
                frame,
                -1,
                _streak(height * (0.02 + 0.05 * fault.strength), np.pi * (fault.look % 180) / 180),
            ),
            np.uint8,
        )
    if fault.kind == "defocus":
        return np.asarray(
            cv2.filter2D(frame, -1, _disc(height * (0.006 + 0.022 * fault.strength))), np.uint8
        )
    return frame


def in_the_numbers(frame: Image, fault: Fault, t_s: float) -> Image:
    """`frame` (uint8 RGB, (H, W, 3)) as it leaves a camera under `fault` at `t_s` seconds; faults
    of the light change nothing here.

    Raises:
        StreamError: a picture of this size cannot be compressed.
    """
    if fault.kind == "noise":
        rng = np.random.default_rng([fault.look, round(t_s * 1e6)])
        grain = rng.normal(0, 10 + 35 * fault.strength, frame.shape)
        return np.asarray(np.clip(frame + grain, 0, 255), np.uint8)
    if fault.kind == "jpeg":
        written, data = cv2.imencode(
            ".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, round(22 - 14 * fault.strength)]
        )
        if not written:
            raise StreamError(
                f"a simulated frame of {frame.shape[1]}x{frame.shape[0]} could not be compressed;"
                " choose another size"
            )
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return frame


def _streak(length: float, angle: float) -> NDArray[np.float32]:
    """A line of `length` pixels through the middle, `angle` in radians, that sums to 1."""
    half = max(1.0, length / 2)
    reach = int(np.ceil(half))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for share in np.linspace(-1, 1, 8 * reach + 1):
        kernel[
            round(reach + share * half * np.sin(angle)), round(reach + share * half * np.cos(angle))
        ] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def _disc(radius: float) -> NDArray[np.float32]:
    """A disc of `radius` pixels that sums to 1."""
    radius = max(1.0, radius)
    reach = int(np.ceil(radius))
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = (down**2 + right**2 <= radius**2).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)
