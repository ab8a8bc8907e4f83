"""The segments of a turn that is about to enter a context, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.streaming.context_budget import ContextPlan
from stream_vlm.backbone.streaming.frame_pairing import PairedFrames
from stream_vlm.context.layout import Piece, tokens_in
from stream_vlm.context.policies.policy import newest_turn
from stream_vlm.context.recalled_lines import together, within_budget
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.model_protocol import WatchRefused
from stream_vlm.types import RecalledContext


@dataclass(frozen=True)
class EnteringTurn:
    """A turn that one stream is about to take.

    Attributes:
        parts: what the streams share.
        plan: what the context may hold.
        frames: the picture, with its question and its watch.
        number: how many turns came before it in this context.
        second: seconds from the stream's first frame to this turn's first frame.
        pending: segments that the turn before left to be fed.
    """

    parts: EngineParts
    plan: ContextPlan
    frames: PairedFrames
    number: int
    second: int
    pending: Sequence[Segment]

    def segments(self, kept: Sequence[Segment]) -> list[Segment]:
        """What enters the context: `pending` and the turn, with its watch unless `kept` holds it.

        Args:
            kept: the segments of the context before the turn.
        """
        frames, plain = self.frames, self.parts.plain
        question = plain(frames.query.text) if frames.query is not None else ""
        is_held = newest_turn(kept, SegmentKind.WATCH) is not None
        watch = plain(frames.watch.text) if frames.watch is not None and not is_held else ""
        past = together(
            [
                query.past
                for query, enters in ((frames.query, question), (frames.watch, watch))
                if query is not None and enters
            ]
        )
        turn = self._user(question, watch)
        lines = self._recalled(past, turn, kept)
        return [*self.pending, *(self._user(question, watch, lines) if lines else turn)]

    def check_room(self, camera: str, layout: Sequence[Piece]) -> None:
        """See whether a context of `layout`, which holds this turn, is within the plan.

        Raises:
            QuestionTooLong: picture and question are too long for the context.
            WatchRefused: picture and watch are, without a question.
        """
        most = self.plan.policy.max_tokens
        needed = tokens_in(layout) + self.plan.reserve
        watch_enters = any(
            piece.segment.kind is SegmentKind.WATCH and piece.segment.turn == self.number
            for piece in layout
        )
        if watch_enters:
            # When its turn leaves it stays in markers of its own, beside those of the newest turn.
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
                f" {most}; say what to wait for in fewer words or raise context.max_seconds"
            )
        raise QuestionTooLong(
            f"{camera}: picture and question need {needed} tokens, but the context holds"
            f" {most}; ask a shorter question or raise context.max_seconds"
        )

    def _user(self, question: str, watch: str, recalled: str = "") -> list[Segment]:
        frames = self.frames
        return self.parts.writer.user(
            self.number,
            self.second,
            self.second + 1,
            self.parts.checkpoint.pictures.grid(*frames.pictures.shape[1:3]),
            question,
            watch,
            is_judged=frames.watch is not None and frames.query is None,
            remembered=recalled,
        )

    def _recalled(
        self, past: RecalledContext, turn: Sequence[Segment], kept: Sequence[Segment]
    ) -> str:
        """The lines of `past` that fit beside the segments of its `turn`: a question is never too
        long because of what is recalled.
        """
        parts, plan = self.parts, self.plan
        if not past or not parts.turns.remembered:
            return ""
        # A watch stays in markers of its own when its turn leaves.
        waiting = sum(len(segment) for segment in kept if segment.kind is SegmentKind.WATCH)
        waiting += sum(len(segment) for segment in turn if segment.kind is SegmentKind.TEXT)
        frame = len(parts.encode_text(parts.turns.remembered.replace("{memory}", "")))
        room = (
            plan.policy.max_tokens
            - plan.reserve
            - plan.head
            - tokens_in(turn)
            - tokens_in(self.pending)
            - waiting
            - frame
        )
        budget = min(parts.settings.context.memory_tokens, room)

        def written(line: str) -> str:
            return parts.plain(line) + "\n"

        lines = within_budget(
            past,
            self.frames.began_ns,
            budget,
            lambda line: len(parts.encode_text(written(line))),
        )
        return "".join(written(line) for line in lines)
