"""Texts about a picture that a chat model writes between the steps of its streams, in slices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.streaming.background_text import SLICE_TOKENS, ChatWriting
from stream_vlm.backbone.streaming.chat_template import ChatTemplate
from stream_vlm.context.segments import Segment, SegmentKind, positions
from stream_vlm.types import Frame
from stream_vlm.vision.tower import VisionTokens

PLACE = "the picture is here"
"""Stands for the picture while the template is filled."""


class ChatPictureWriter:
    """Writes texts about pictures with one instruction, in the chat template of the tokenizer.

    Args:
        parts: what all streams of the checkpoint share.
        task: the instruction.
        most_written: the most tokens of a text.

    Raises:
        CheckpointError: as for `ChatTemplate`.
    """

    def __init__(self, parts: EngineParts, task: str, most_written: int) -> None:
        self._parts, self._most_written = parts, most_written
        parts.newest_pictures.wanted = True
        self._template = ChatTemplate(parts, task)
        # The picture comes first, as in the training data of instruct models.
        written = self._template.user_alone(f"{PLACE}\n{task}")
        before, found, after = written.partition(PLACE)
        if not found or task not in after:
            raise CheckpointError(
                f"{parts.model_id}: its chat template changes the words of the user; use another"
                " checkpoint"
            )
        frame_open, frame_close = parts.turns.frame_open, parts.turns.frame_close
        self._before = parts.encode_text(before + frame_open)
        self._after = parts.encode_text(frame_close + after)

    def begin(self, frame: Frame) -> PictureWriting:
        """Begin a text about `frame`.

        If its vision tokens are still there from the last step, they are used again.

        Raises:
            PictureError: the picture cannot be processed.
        """
        parts = self._parts
        pictures = parts.checkpoint.pictures
        known = parts.newest_pictures.of(frame)
        still = None
        if known is None:
            resized = pictures.resize(frame.image)
            still = np.stack([resized] * pictures.temporal_patch_size)[None]
            grid = pictures.grid(*resized.shape[:2])
        else:
            grid = known.grid
        return PictureWriting(
            parts,
            self._template,
            [
                Segment(SegmentKind.TEXT, -1, self._before),
                Segment(SegmentKind.FRAME, -1, (parts.writer.picture,) * (grid[0] * grid[1]), grid),
                Segment(SegmentKind.TEXT, -1, self._after),
            ],
            self._most_written,
            known.vision if known is not None else None,
            still,
        )


class PictureWriting(ChatWriting):
    """One text about a picture that is being written.

    The first slice encodes the picture if it was not encoded before. The prompt is read in slices
    of tokens, in the middle of the picture too, so that no slice is longer than one of a text.
    """

    shorter = "memory.caption_chars"

    def __init__(
        self,
        parts: EngineParts,
        template: ChatTemplate,
        prompt: list[Segment],
        most_written: int,
        vision: VisionTokens | None,
        still: NDArray[np.uint8] | None,
    ) -> None:
        ids = tuple(token for segment in prompt for token in segment.token_ids)
        super().__init__(parts, ids, most_written, template.stop, template.never)
        self._tower, self._vision, self._still = parts.tower, vision, still
        self._where, _ = positions(prompt)
        self._read = 0
        before, picture, _ = (len(segment) for segment in prompt)
        self._picture_tokens = range(before, before + picture)

    def _feed_slice(self) -> torch.Tensor | None:
        if self._vision is None:
            assert self._still is not None
            self._vision = self._tower.encode(self._still)[0]
            # Waits for the device, so that no work of this slice delays the next step.
            self._vision.tokens[0, 0].item()
            return None
        if self._read == self._where.shape[1]:
            return super()._feed_slice()
        begin, end = self._read, min(self._read + SLICE_TOKENS, self._where.shape[1])
        taken, self.unread = self.unread[: end - begin], self.unread[end - begin :]
        self._read = end
        picture = self._picture_tokens
        first, last = (min(max(at, picture.start), picture.stop) for at in (begin, end))
        segments = [
            Segment(SegmentKind.TEXT, -1, taken[: first - begin]),
            Segment(SegmentKind.FRAME, -1, taken[first - begin : last - begin], (1, last - first)),
            Segment(SegmentKind.TEXT, -1, taken[last - begin :]),
        ]
        inside = slice(first - picture.start, last - picture.start)
        vision = VisionTokens(
            self._vision.tokens[inside],
            tuple(level[inside] for level in self._vision.deepstack),
        )
        return self.forward.feed(
            [segment for segment in segments if len(segment)],
            vision if len(vision) else None,
            self._where[:, begin:end],
        )
