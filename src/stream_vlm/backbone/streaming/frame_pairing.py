"""One camera's frames made into the temporal patches that its turns show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.model_protocol import Turn
from stream_vlm.types import Query, StreamError
from stream_vlm.vision.preprocess import PictureFormat


@dataclass(frozen=True)
class PairedFrames:
    """A picture made ready for the vision tower, and the turn it belongs to.

    Attributes:
        pictures: uint8 RGB (T, H, W, 3), one temporal patch.
        began_ns: stamp (ns) of the turn's first frame.
        query: a question to be answered now.
        watch: what is waited for.
        room: vision tokens that a picture of this camera takes when nothing is held back.
    """

    pictures: NDArray[np.uint8]
    began_ns: int
    query: Query | None
    watch: Query | None
    room: int


class FramePairer:
    """Holds the frames that a coming temporal patch shows beside its own.

    Args:
        pictures: how the checkpoint wants its pictures.
        frames_per_turn: frames that one turn shows together.
    """

    def __init__(self, pictures: PictureFormat, frames_per_turn: int) -> None:
        self._pictures = pictures
        self._frames_per_turn = frames_per_turn
        self._earlier: list[NDArray[np.uint8]] = []
        self._began_ns: int | None = None

    def look(self, turn: Turn) -> PairedFrames | None:
        """Make the frame of `turn` ready; None when it waits for the other frames of its temporal
        patch.

        Raises:
            PictureError: the picture cannot be looked at; nothing was changed.
        """
        current = self._resized(turn)
        began_ns = turn.frame.stamp_ns if self._began_ns is None else self._began_ns
        if turn.query is None and len(self._earlier) + 1 < self._frames_per_turn:
            self._earlier.append(current)
            self._began_ns = began_ns
            return None
        full = self._pictures.grid(*self._pictures.target_size(*turn.frame.image.shape[:2]))
        return PairedFrames(
            self._patch(current), began_ns, turn.query, turn.watch, full[0] * full[1]
        )

    def ahead(self, turn: Turn) -> NDArray[np.uint8] | None:
        """The patch that `look` will make of `turn` if that comes next, or None where that is not
        known; changes nothing.
        """
        if self._frames_per_turn > 1:
            return None
        try:
            return self._patch(self._resized(turn))
        except StreamError:
            return None  # its own step will say why

    def entered(self, look: PairedFrames) -> None:
        """`look` is in the context now: what follows begins a new patch."""
        self._earlier = [look.pictures[-1]] if self._pictures.pair_frames else []
        self._began_ns = None

    def forget(self) -> None:
        """Begin anew."""
        self._earlier, self._began_ns = [], None

    def _resized(self, turn: Turn) -> NDArray[np.uint8]:
        return self._pictures.limited(turn.limits.picture_share).resize(turn.frame.image)

    def _patch(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pictures of one temporal patch, (T, H, W, 3); where earlier ones are missing or of
        another size, the first that is there repeats.
        """
        pictures = [
            *(picture for picture in self._earlier if picture.shape == current.shape),
            current,
        ]
        missing = self._pictures.temporal_patch_size - len(pictures)
        return np.stack([pictures[0]] * missing + pictures)
