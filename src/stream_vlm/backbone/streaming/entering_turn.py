"""The segments of a new turn, and a check whether they fit into the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.streaming.context_budget import ContextPlan
from stream_vlm.backbone.streaming.frame_pairing import PairedFrames
from stream_vlm.context.layout import Piece, tokens_in
from stream_vlm.context.policies.policy import newest_turn
from stream_vlm.context.recalled_lines import lines_within_budget, merge_recalled
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.model_protocol import WatchRefused
from stream_vlm.types import RecalledContext


@dataclass(frozen=True)
class EnteringTurn:
    """A new turn of one stream, before it enters the context.

    Attributes:
        parts: what all streams of the checkpoint share.
        plan: the limits of the context.
        frames: the frames of the turn, with its question and its watch.
        number: number of the turn in this context, from 0.
        second: whole seconds from the stream's first frame to this turn's first frame.
        pending: segments of the last turn that are not fed yet.
    """

    parts: EngineParts
    plan: ContextPlan
    frames: PairedFrames
    number: int
    second: int
    pending: Sequence[Segment]

    def segments(self, kept: Sequence[Segment]) -> list[Segment]:
        """The segments that enter the context: `pending` and the turn.

        The turn contains the words of its watch, unless they are already in `kept`.

        Args:
            kept: the segments of the context before the turn.
        """
        frames, plain = self.frames, self.parts.plain
        question = plain(frames.query.text) if frames.query is not None else ""
        is_held = newest_turn(kept, SegmentKind.WATCH) is not None
        watch = plain(frames.watch.text) if frames.watch is not None and not is_held else ""
        recalled = merge_recalled(
            [
                query.recalled
                for query, enters in ((frames.query, question), (frames.watch, watch))
                if query is not None and enters
            ]
        )
        turn = self._user(question, watch)
        lines = self._recalled(recalled, turn, kept)
        return [*self.pending, *(self._user(question, watch, lines) if lines else turn)]

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
            self.second,
            self.second + 1,
            self.parts.checkpoint.pictures.grid(*frames.pictures.shape[1:3]),
            question,
            watch,
            is_judged=frames.watch is not None and frames.query is None,
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
