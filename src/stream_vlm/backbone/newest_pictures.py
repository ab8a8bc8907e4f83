"""The vision tokens of the newest picture of each camera, so that no picture is encoded twice."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm.types import Frame
from stream_vlm.vision.tower import VisionTokens


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as the language model reads it.

    Attributes:
        grid: (rows, columns) of its merged vision tokens.
        vision: these tokens, (rows * columns, hidden).
    """

    grid: tuple[int, int]
    vision: VisionTokens


class NewestPictures:
    """Keeps one encoded picture for each camera; one thread uses it.

    Attributes:
        wanted: whether somebody writes texts about pictures; if not, none is kept.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._kept: dict[str, tuple[int, EncodedPicture]] = {}

    def keep(self, frame: Frame, grid: tuple[int, int], vision: VisionTokens) -> None:
        """Keep `vision` of `frame` in place of its camera's picture before."""
        self._kept[frame.camera] = frame.stamp_ns, EncodedPicture(grid, vision)

    def of(self, frame: Frame) -> EncodedPicture | None:
        """The picture of `frame`, or None if a newer one or none of its camera is kept."""
        stamp_ns, picture = self._kept.get(frame.camera, (None, None))
        return picture if stamp_ns == frame.stamp_ns else None
