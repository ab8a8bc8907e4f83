"""A new turn of one camera: its frames as a temporal patch, and its segments for the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.streaming.context_budget import ContextPlan
from stream_vlm.context.policies.policy import newest_turn
from stream_vlm.context.recalled_lines import lines_within_budget, merge_recalled
from stream_vlm.context.segments import Piece, Segment, SegmentKind, tokens_in
from stream_vlm.model_protocol import Judgement, Turn, WatchRefused
from stream_vlm.types import Query, RecalledContext, StreamError
from stream_vlm.vision.preprocess import PictureFormat


@dataclass(frozen=True)
class PairedFrames:
    """The frames of one turn, resized for the vision tower.

    Attributes:
        pictures: uint8 RGB, (T, H, W, 3), one temporal patch.
        began_ns: stamp of the turn's first frame, int64 ns.
        query: a question that must be answered at this turn.
        watch: the active watch.
        judgements: the instructions that are judged at this turn.
        vision_tokens: vision tokens of a picture of this camera without load shedding.
    """

    pictures: NDArray[np.uint8]
    began_ns: int
    query: Query | None
    watch: Query | None
    judgements: Sequence[Judgement]
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
            self._patch(current),
            began_ns,
            turn.query,
            turn.watch,
            turn.judgements,
            full[0] * full[1],
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


@dataclass(frozen=True)
class EnteringTurn:
    """A new turn of one stream, before it enters the context.

    Attributes:
        parts: what all streams of the checkpoint share.
        plan: the limits of the context.
        frames: the frames of the turn, with its question and its watch.
        number: number of the turn in this context, from 0.
        elapsed_s: seconds from the stream's first frame to this turn's first frame.
        pending: segments of the last turn that are not fed yet.
    """

    parts: EngineParts
    plan: ContextPlan
    frames: PairedFrames
    number: int
    elapsed_s: float
    pending: Sequence[Segment]

    def segments(self, kept: Sequence[Segment]) -> list[Segment]:
        """The segments that enter the context: `pending` and the turn.

        The turn contains the words of its watch, unless they are already in `kept`.

        Args:
            kept: the segments of the context before the turn.
        """
        frames, plain = self.frames, self.parts.plain
        question = plain(frames.query.text) if frames.query is not None else ""
        if self.parts.turns.instruct and frames.query is not None:
            question = question or "?"  # the reply of an instruct model must be opened
        is_held = newest_turn(kept, SegmentKind.WATCH) is not None
        watch = plain(frames.watch.text) if frames.watch is not None and not is_held else ""
        turn = self._user(question, watch)
        entering = [
            query.recalled
            for query, enters in ((frames.query, question), (frames.watch, watch))
            if query is not None and enters
        ]
        if entering:
            lines = self._recalled(merge_recalled(entering), turn, kept)
            turn = self._user(question, watch, lines) if lines else turn
        return [*self.pending, *turn]

    def check_room(self, camera: str, layout: Sequence[Piece]) -> None:
        """Check that a context of `layout`, which contains this turn, is within the plan.

        Args:
            camera: name of the camera, for the message.
            layout: the next context.

        Raises:
            QuestionTooLong: picture and question do not fit into the context.
            WatchRefused: picture and watch do not fit, and there is no question.
        """
        most = self.plan.policy.max_tokens
        needed = tokens_in(layout) + self.plan.reserve
        watch_enters = any(
            piece.segment.kind is SegmentKind.WATCH and piece.segment.turn == self.number
            for piece in layout
        )
        if watch_enters:
            # When this turn leaves, the watch stays with the markers around it, in addition to
            # those of the newest turn.
            needed += sum(
                len(piece)
                for piece in layout
                if piece.segment.kind is SegmentKind.TEXT and piece.segment.turn == self.number
            )
        if needed <= most:
            return
        if watch_enters and self.frames.query is None:
            raise WatchRefused(
                f"{camera}: picture and watch need {needed} tokens, but the context holds"
                f" {most}; describe the watch in fewer words or raise context.max_seconds"
            )
        raise QuestionTooLong(
            f"{camera}: picture and question need {needed} tokens, but the context holds"
            f" {most}; ask a shorter question or raise context.max_seconds"
        )

    def _user(self, question: str, watch: str, recalled: str = "") -> list[Segment]:
        frames = self.frames
        return self.parts.writer.user(
            self.number,
            int(self.elapsed_s),
            int(self.elapsed_s) + 1,
            self.parts.checkpoint.pictures.grid(*frames.pictures.shape[1:3]),
            question,
            watch,
            time=self.elapsed_s,
            recalled=recalled,
        )

    def _recalled(
        self, recalled: RecalledContext, turn: Sequence[Segment], kept: Sequence[Segment]
    ) -> str:
        """The lines of `recalled` that fit beside the other segments of the turn.

        So a question is never refused because of recalled lines.

        Args:
            recalled: what the memory found.
            turn: the segments of the turn without these lines.
            kept: the segments of the context before the turn.
        """
        parts, plan = self.parts, self.plan
        if not recalled or not parts.turns.recalled:
            return ""
        # A watch stays with the markers around it when its turn leaves.
        watch = sum(len(segment) for segment in kept if segment.kind is SegmentKind.WATCH)
        watch += sum(len(segment) for segment in turn if segment.kind is SegmentKind.TEXT)
        frame = len(parts.encode_text(parts.turns.recalled.replace("{memory}", "")))
        room = (
            plan.policy.max_tokens
            - plan.reserve
            - plan.prefix
            - tokens_in(turn)
            - tokens_in(self.pending)
            - watch
            - frame
        )
        budget = min(parts.settings.context.memory_tokens, room)

        def written(line: str) -> str:
            return parts.plain(line) + "\n"

        lines = lines_within_budget(
            recalled,
            self.frames.began_ns,
            budget,
            lambda line: len(parts.encode_text(written(line))),
        )
        return "".join(written(line) for line in lines)
