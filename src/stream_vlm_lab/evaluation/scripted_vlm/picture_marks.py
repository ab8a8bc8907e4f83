"""A mark in simulated pictures that says where they come from; it survives JPEG and resizing."""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.script.script import Script
from stream_vlm_lab.simulation.script.script_writer import make_script

ROWS, COLUMNS = 4, 32
"""The mark is a grid of black and white cells along the lower edge."""
CELL_SHARE = 1 / 32
"""Height of a cell, as a share of the picture's height."""
_FINE = 8
"""Pixels along each side of a cell when a mark is read."""
_CODE = struct.Struct(">IIIH")
_CHECK = struct.Struct(">H")
_CHECK_START = 0xACE1  # not 0: a black edge must not be a mark


class NoMark(StreamError):
    """A picture has no mark that can be read."""


@dataclass(frozen=True)
class PictureSource:
    """Where a simulated picture comes from.

    Attributes:
        seed: seed of the room.
        length_ms: length of the stream in milliseconds.
        t_ms: time of the picture in milliseconds since the stream began.
        quiet_minutes: mean length of quiet spans in whole minutes.
    """

    seed: int
    length_ms: int
    t_ms: int
    quiet_minutes: int = 0

    @property
    def t_s(self) -> float:
        """Time of the picture in seconds since the stream began."""
        return self.t_ms / 1000

    def script(self) -> Script:
        """What happens in that room, without pixels."""
        return make_script(
            self.seed, self.length_ms / 1000, quiet_minutes=float(self.quiet_minutes)
        )


def with_mark(image: NDArray[np.uint8], source: PictureSource) -> NDArray[np.uint8]:
    """A copy of `image` with the mark of `source` over its lower edge.

    Args:
        image: uint8 RGB, (H, W, 3), at least 64 pixels high and wide.
        source: where the picture comes from.
    """
    code = _CODE.pack(source.seed, source.length_ms, source.t_ms, source.quiet_minutes)
    code += _CHECK.pack(binascii.crc_hqx(code, _CHECK_START))
    bits = np.unpackbits(np.frombuffer(code, np.uint8)).reshape(ROWS, COLUMNS)
    marked: NDArray[np.uint8] = np.array(image)
    tops, lefts = _edges(*image.shape[:2])
    for row in range(ROWS):
        for column in range(COLUMNS):
            cell = (slice(tops[row], tops[row + 1]), slice(lefts[column], lefts[column + 1]))
            marked[cell] = 255 if bits[row, column] else 0
    return marked


def read_mark(image: NDArray[np.uint8]) -> PictureSource:
    """Where `image` comes from.

    Args:
        image: uint8 RGB, (H, W, 3), the whole picture at any size from 64 pixels on.

    Raises:
        NoMark: there is no mark, or it cannot be read.
    """
    top = _edges(*image.shape[:2])[0][0]
    strip = cv2.cvtColor(np.ascontiguousarray(image[top:]), cv2.COLOR_RGB2GRAY)
    fine = (COLUMNS * _FINE, ROWS * _FINE)
    cells = np.asarray(cv2.resize(strip, fine, interpolation=cv2.INTER_AREA), np.float64)
    cells = cells.reshape(ROWS, _FINE, COLUMNS, _FINE)[:, _FINE // 4 : -_FINE // 4]
    inner = cells[:, :, :, _FINE // 4 : -_FINE // 4].mean(axis=(1, 3))
    bits = (inner > 127).astype(np.uint8)
    code = np.packbits(bits).tobytes()
    if _CHECK.unpack(code[_CODE.size :])[0] != binascii.crc_hqx(code[: _CODE.size], _CHECK_START):
        raise NoMark(
            f"a picture of {image.shape[1]}x{image.shape[0]} pixels has no mark of a simulated"
            " room; show pictures of `stream-vlm eval --world`, whole and not cropped"
        )
    return PictureSource(*_CODE.unpack(code[: _CODE.size]))


def _edges(height: int, width: int) -> tuple[list[int], list[int]]:
    """Rows and columns of pixels at which the cells begin and end."""
    tops = [round(height * (1 - CELL_SHARE * (ROWS - row))) for row in range(ROWS + 1)]
    lefts = [round(width * column / COLUMNS) for column in range(COLUMNS + 1)]
    return tops, lefts
