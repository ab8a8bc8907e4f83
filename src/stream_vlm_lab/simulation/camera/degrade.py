"""Applies camera faults to a picture: to the light before the sensor, and to the pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.camera.faults import Fault
from stream_vlm_lab.simulation.raster.sprite import Image

BANDS = 8
"""A rolling shutter picture is drawn in this many bands of rows, each at its own time."""
READOUT_S = 0.15
"""Time from the first row's exposure to the last row's at full strength, in seconds."""


def exposure_moments(fault: Fault | None, t_s: float) -> list[float]:
    """Exposure time of each band of rows from the top, in seconds; only `t_s` without a fault."""
    if fault is None:
        return [t_s]
    return [
        max(0.0, t_s - READOUT_S * fault.strength * (BANDS - 1 - band) / (BANDS - 1))
        for band in range(BANDS)
    ]


def degrade_light(frame: Image, fault: Fault, t_s: float) -> Image:
    """Apply the optical faults: rolling shutter flicker, motion blur, defocus.

    Args:
        frame: uint8 RGB, (H, W, 3).
        fault: the fault; other kinds change nothing.
        t_s: time in seconds.
    """
    height = frame.shape[0]
    if fault.kind == "rolling":
        # Mains flicker makes some rows brighter and others darker. The pattern moves from picture
        # to picture.
        rows = np.arange(height, dtype=np.float32) / height
        turn = 2 * np.pi * (rows * (2 + fault.style_seed % 3) + 1.7 * t_s)
        gain = 1 + 0.3 * fault.strength * np.sin(turn)
        return np.asarray(np.clip(frame * gain[:, None, None], 0, 255), np.uint8)
    if fault.kind == "motion-blur":
        return np.asarray(
            cv2.filter2D(
                frame,
                -1,
                _streak(
                    height * (0.02 + 0.05 * fault.strength), np.pi * (fault.style_seed % 180) / 180
                ),
            ),
            np.uint8,
        )
    if fault.kind == "defocus":
        return np.asarray(
            cv2.filter2D(frame, -1, _disc(height * (0.006 + 0.022 * fault.strength))), np.uint8
        )
    return frame


def degrade_pixels(frame: Image, fault: Fault, t_s: float) -> Image:
    """Apply the faults behind the sensor: noise and JPEG artefacts.

    Args:
        frame: uint8 RGB, (H, W, 3).
        fault: the fault; other kinds change nothing.
        t_s: time in seconds.

    Raises:
        StreamError: a picture of this size cannot be compressed.
    """
    if fault.kind == "noise":
        rng = np.random.default_rng([fault.style_seed, round(t_s * 1e6)])
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
    """Kernel of a line of `length` pixels at `angle` (radians); it sums to 1."""
    half = max(1.0, length / 2)
    reach = int(np.ceil(half))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for share in np.linspace(-1, 1, 8 * reach + 1):
        kernel[
            round(reach + share * half * np.sin(angle)), round(reach + share * half * np.cos(angle))
        ] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def _disc(radius: float) -> NDArray[np.float32]:
    """Kernel of a disc with `radius` pixels; it sums to 1."""
    radius = max(1.0, radius)
    reach = int(np.ceil(radius))
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = (down**2 + right**2 <= radius**2).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)
