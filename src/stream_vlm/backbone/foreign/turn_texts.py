"""The texts and the picture of one turn, for models with a chat template of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.context.instructions import judge_prompt
from stream_vlm.context.recalled_lines import lines_within_budget
from stream_vlm.model_protocol import Judgement
from stream_vlm.types import NANOSECONDS, Query
from stream_vlm.vision.preprocess import PictureError

MOST_PIXELS = 448 * 448
"""The most pixels of a picture if smaller pictures cost less.

Published checkpoints allow millions of pixels, which is too slow for a stream.
"""
LEAST_SIDE = 8
"""The shortest side of a picture, pixels; processors fail on smaller pictures."""

TIME = "<{seconds:g} seconds>"
"""The time before each picture, in seconds since the first."""
EARLIER = "What was recorded earlier:\n{lines}"
"""Text before the first picture of a context, or before a question, about what happened before."""


@dataclass(frozen=True)
class TurnTexts:
    """Writes the texts of turns without the control tokens of a checkpoint.

    Attributes:
        checkpoint: the checkpoint.
        camera: name of the camera, for messages.
        memory_tokens: the most tokens of lines about what happened before.
    """

    checkpoint: ForeignCheckpoint
    camera: str
    memory_tokens: int

    def time(self, stamp_ns: int, first_ns: int) -> str:
        """The time of a picture with the stamp `stamp_ns`."""
        return TIME.format(seconds=_seconds(stamp_ns, first_ns))

    def judge(self, judgement: Judgement, first_ns: int) -> str:
        """The question about the newest picture for one instruction."""
        plain = self.checkpoint.writer.plain
        return judge_prompt(
            plain(judgement.instruction.text),
            plain(judgement.reported),
            _seconds(judgement.reported_ns, first_ns),
        )

    def earlier(self, lines: Sequence[str]) -> str:
        """The newest of `lines`, which are oldest first, as far as they fit; or an empty text."""
        budget, kept = self.memory_tokens, list[str]()
        for line in reversed(lines):
            written = self._line(line)
            budget -= self.checkpoint.writer.tokens(written)
            if budget < 0:
                break
            kept.append(written)
        return EARLIER.replace("{lines}", "".join(reversed(kept))) if kept else ""

    def recalled(self, question: Query, now_ns: int) -> str:
        """What the memory found about `question`, as far as it fits; or an empty text."""
        if not question.recalled:
            return ""
        lines = lines_within_budget(
            question.recalled,
            now_ns,
            self.memory_tokens,
            lambda line: self.checkpoint.writer.tokens(self._line(line)),
        )
        return EARLIER.replace("{lines}", "".join(map(self._line, lines))) if lines else ""

    def picture(self, image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
        """Resize `image` to `share` of the pixel budget, if smaller pictures cost less.

        Raises:
            PictureError: the picture is too small.
        """
        height, width = image.shape[:2]
        if min(height, width) < LEAST_SIDE:
            raise PictureError(
                f"{self.camera}: a picture of {width} x {height} pixels cannot be processed; both"
                f" sides must have at least {LEAST_SIDE} pixels"
            )
        if not self.checkpoint.follows_picture_size:
            return image
        shrink = math.sqrt(min(1.0, MOST_PIXELS / (height * width)) * share)
        if shrink == 1.0:
            return image
        size = max(LEAST_SIDE, round(width * shrink)), max(LEAST_SIDE, round(height * shrink))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def refused(self, image: NDArray[np.uint8], error: Exception) -> PictureError:
        """The error for a picture that the processor cannot take."""
        height, width = image.shape[:2]
        return PictureError(
            f"{self.camera}: the model's processor refuses a picture of {width} x {height} pixels"
            f" ({type(error).__name__}: {error}); set the camera to another picture size"
        )

    def _line(self, line: str) -> str:
        return self.checkpoint.writer.plain(line) + "\n"


def _seconds(stamp_ns: int, first_ns: int) -> float:
    return round((stamp_ns - first_ns) / NANOSECONDS, 1)
