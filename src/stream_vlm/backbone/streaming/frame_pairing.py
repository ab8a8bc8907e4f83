"""Combines the frames of one camera into temporal patches, one for each turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.model_protocol import Turn
from stream_vlm.types import Query, StreamError
from stream_vlm.vision.preprocess import PictureFormat


@dataclass(frozen=True)
class PairedFrames:
    """The frames of one turn, resized for the vision tower.

    Attributes:
        pictures: uint8 RGB, (T, H, W, 3), one temporal patch.
        began_ns: stamp of the turn's first frame, int64 ns.
        query: a question that must be answered at this turn.
        watch: the active watch.
        vision_tokens: vision tokens of a picture of this camera without load shedding.
    """

    pictures: NDArray[np.uint8]
    began_ns: int
    query: Query | None
    watch: Query | None
    vision_tokens: int


class FramePairer:
    """Keeps the earlier frames of the next temporal patch.

    Args:
        pictures: the picture format of the checkpoint.
        frames_per_turn: number of frames in each turn.
    """

    def __init__(self, pictures: PictureFormat, frames_per_turn: int) -> None:
        self._pictures = pictures
        self._frames_per_turn = frames_per_turn
        self._earlier: list[NDArray[np.uint8]] = []
        self._began_ns: int | None = None

    def pair(self, turn: Turn) -> PairedFrames | None:
        """Resize the frame of `turn` and combine it with earlier frames.

        Returns:
            The frames of the turn, or None if the turn needs more frames and asks no question.

        Raises:
            PictureError: the picture cannot be processed; nothing was changed.
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

    def next_patch(self, turn: Turn) -> NDArray[np.uint8] | None:
        """The temporal patch that `pair` will return for `turn` if it comes next.

        It is None if the patch is not known yet. Nothing is changed.
        """
        if self._frames_per_turn > 1:
            return None
        try:
            return self._patch(self._resized(turn))
        except StreamError:
            return None  # the step of this turn reports the error

    def entered(self, frames: PairedFrames) -> None:
        """Start a new patch, because `frames` have entered the context."""
        self._earlier = [frames.pictures[-1]] if self._pictures.pair_frames else []
        self._began_ns = None

    def reset(self) -> None:
        """Forget all frames."""
        self._earlier, self._began_ns = [], None

    def _resized(self, turn: Turn) -> NDArray[np.uint8]:
        return self._pictures.limited(turn.limits.picture_share).resize(turn.frame.image)

    def _patch(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pictures of one temporal patch, (T, H, W, 3).

        If earlier pictures are missing or have another size, the first available one is repeated.
        """
        pictures = [
            *(picture for picture in self._earlier if picture.shape == current.shape),
            current,
        ]
        missing = self._pictures.temporal_patch_size - len(pictures)
        return np.stack([pictures[0]] * missing + pictures)
