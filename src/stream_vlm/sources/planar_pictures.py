"""Pictures whose brightness and colour lie in separate planes (nv12, yuv422p ...), as RGB."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class PlanarFormat(NamedTuple):
    """How the planes of an encoding are arranged.

    Attributes:
        across: pixels of a row that share one colour value.
        down: rows that share one colour value.
        interleaved: True where U and V alternate in one plane, False where each has its own.
        v_first: True where V comes before U.
    """

    across: int
    down: int
    interleaved: bool
    v_first: bool = False


PLANAR = {
    "nv12": PlanarFormat(2, 2, interleaved=True),
    "nv21": PlanarFormat(2, 2, interleaved=True, v_first=True),
    "nv16": PlanarFormat(2, 1, interleaved=True),
    "nv61": PlanarFormat(2, 1, interleaved=True, v_first=True),
    "nv24": PlanarFormat(1, 1, interleaved=True),
    "nv42": PlanarFormat(1, 1, interleaved=True, v_first=True),
    "i420": PlanarFormat(2, 2, interleaved=False),
    "yuv420p": PlanarFormat(2, 2, interleaved=False),
    "yv12": PlanarFormat(2, 2, interleaved=False, v_first=True),
    "yuv422p": PlanarFormat(2, 1, interleaved=False),
    "i422": PlanarFormat(2, 1, interleaved=False),
    "yuv444p": PlanarFormat(1, 1, interleaved=False),
    "i444": PlanarFormat(1, 1, interleaved=False),
}
"""The planar encodings of sensor_msgs/Image, in small letters."""


def planar_to_rgb(encoding: str, width: int, height: int, step: int, data: Bytes) -> Bytes:
    """Convert planar YUV (ITU-R BT.601, limited range) to uint8 RGB, (H, W, 3).

    `height` is the number of rows of the picture. Drivers that also count the rows of the colour
    planes in it are understood too: the length of `data` tells which it is.

    Args:
        encoding: a name in `PLANAR`.
        width: pixels of a row.
        height: rows, of the picture or of all planes.
        step: bytes from a row of the brightness plane to the next; colour planes are padded alike.
        data: all planes, one after another, uint8.

    Raises:
        ValueError: an odd size where two pixels share a colour, or too few bytes.
    """
    form = PLANAR[encoding]
    # Bytes of the colour planes for each byte of the brightness plane, as a fraction.
    colour = (2, form.across * form.down)
    lacking = _size(step, height, colour) - data.size
    if 0 < lacking <= step - width:  # the padding of the last row
        data = np.pad(data, (0, lacking))
    if data.size < _size(step, height, colour):
        rows, rest = divmod(height * colour[1], colour[0] + colour[1])
        if rest or data.size != height * step:
            raise ValueError(
                f"{data.size} bytes of data, but {encoding} with step {step} and height {height}"
                f" has {_size(step, height, colour)}"
            )
        height = rows
    if width % form.across or height % form.down or step % form.across:
        raise ValueError(
            f"{encoding} needs an even width{' and height' if form.down > 1 else ''}"
            f" and step, because neighbours share a colour, but has {width}x{height}, step {step}"
        )
    brightness = data[: step * height].reshape(height, step)[:, :width]
    rows = height // form.down
    chroma_step, chroma_width = step // form.across, width // form.across
    planes = data[step * height :][: 2 * chroma_step * rows]
    if form.interleaved:
        pairs = planes.reshape(rows, chroma_step, 2)[:, :chroma_width]
        first, second = pairs[..., 0], pairs[..., 1]
    else:
        both = planes.reshape(2, rows, chroma_step)[..., :chroma_width]
        first, second = both[0], both[1]
    u, v = (second, first) if form.v_first else (first, second)
    return _to_rgb(brightness, u, v, form)


def _size(step: int, height: int, colour: tuple[int, int]) -> int:
    return step * height + step * height * colour[0] // colour[1]


def _to_rgb(brightness: Bytes, u: Bytes, v: Bytes, form: PlanarFormat) -> Bytes:
    if (form.across, form.down) == (2, 2):
        planes = [plane.reshape(-1) for plane in (brightness, u, v)]
        height, width = brightness.shape
        stacked = np.concatenate(planes).reshape(height * 3 // 2, width)
        return np.asarray(cv2.cvtColor(stacked, cv2.COLOR_YUV2RGB_I420), np.uint8)
    if form.across == 1:  # OpenCV reads pixels in pairs, so each of a pair is the same one
        brightness = np.repeat(brightness, 2, axis=1)
    packed = np.empty((*brightness.shape, 2), np.uint8)
    packed[..., 0] = brightness
    packed[:, ::2, 1], packed[:, 1::2, 1] = u, v
    rgb = np.asarray(cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUY2), np.uint8)
    return np.ascontiguousarray(rgb[:, ::2]) if form.across == 1 else rgb
