"""One camera's endless stream over a shared model: what was seen stays in the KV cache until the
context policy lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong, not_finite
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward, Entry
from stream_vlm.backbone.kv_cache.cuda_graphs import StaticForwards
from stream_vlm.backbone.streaming.context_budget import plan_context
from stream_vlm.backbone.streaming.frame_pairing import FramePairer, PairedFrames
from stream_vlm.backbone.streaming.next_chunk_prefill import LEAD_TURNS, NextHead
from stream_vlm.backbone.streaming.utterance_decoder import Speech, first_words
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.layout import Piece, segments_of, tokens_in
from stream_vlm.context.policies.policy import ChunkedPolicy, newest_turn, without_watches
from stream_vlm.context.recalled_lines import together, within_budget
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.model_protocol import Turn, WatchRefused
from stream_vlm.types import (
    NANOSECONDS,
    Decision,
    Frame,
    Query,
    RecalledContext,
    State,
    StreamError,
)
from stream_vlm.vision.vision_tokens import VisionTokens

if TYPE_CHECKING:
    from stream_vlm.backbone.streaming_model import StreamingModel


class CachedStream:
    """One camera's context over a checkpoint with a KV cache.

    A silent tick costs one forward: the tokens that the last decision left pending, the new turn,
    and the logits at its end, of which only the states' are read. Words are decoded only for a
    response. `batch.Step` takes turns in several streams through one forward.

    Attributes:
        keeps_vision: keep the vision tokens of the pictures in the context, which computing it anew
            needs.
    """

    def __init__(self, model: StreamingModel, camera: str) -> None:
        self.camera = camera
        self._model = model
        self._sampler = TokenSampler(model.settings.sampling)
        self._turn = 0
        self._first_stamp_ns: int | None = None
        self._pairer = FramePairer(
            model.checkpoint.pictures, model.checkpoint.stream.frames_per_turn
        )
        self._pending: list[Segment] = []
        self._watch: Query | None = None
        self._forward: CachedForward | None = None
        self.keeps_vision = model.settings.context.recompute
        self._vision_kept: dict[int, VisionTokens] = {}
        self._memory: Callable[[], Sequence[str]] | None = None
        self._next_head: NextHead | None = None

    @property
    def context(self) -> list[Segment]:
        """What the model still sees, oldest first."""
        return list(self._forward.segments) if self._forward is not None else []

    @property
    def cache_bytes(self) -> int:
        """Memory that the cache holds."""
        return self._forward.cache.bytes() if self._forward is not None else 0

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget everything seen."""
        if self._forward is not None:
            self._forward.clear()
        self._turn = 0
        self._first_stamp_ns = None
        self._pairer.forget()
        self._pending = []
        self._watch = None
        self._vision_kept = {}
        self._next_head = None

    @torch.inference_mode()
    def prepare(self) -> None:
        """Prefill a slice of the next chunk's head when the border is near."""
        if self._forward is None or not self._rebuilds_head:
            return
        assert isinstance(self._policy, ChunkedPolicy)
        turns_left = self._policy.turns_left(self._forward.segments)
        if turns_left <= LEAD_TURNS:
            self._next_head = self._heard(self._forward)
            self._next_head.advance(turns_left)

    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
        watch: Query | None = None,
    ) -> Decision:
        """Take one turn in this stream alone.

        Where several frames make a turn, a frame before the last of them is kept for it and the
        decision is silence, unless a query asks for an answer now.

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            QuestionTooLong: the question does not fit beside the picture; the stream is unchanged.
            WatchRefused: the model cannot be told what to wait for, or the watch is too long; the
                stream is unchanged.
            ModelFault: the model's numbers are not finite, or memory ran out; the stream begins
                anew.
        """
        outcome = self._model.step(
            [Turn(self, frame, query=query, gate=gate, on_text=on_text, watch=watch)]
        )[0]
        if isinstance(outcome, StreamError):
            raise outcome
        return outcome.decision

    def look(self, turn: Turn) -> PairedFrames | None:
        """Make the frame of `turn` ready; None when it waits for the other frames of its temporal
        patch.

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            WatchRefused: the model cannot be told what to wait for; the stream is unchanged.
        """
        if turn.watch is not None and not self._model.turns.watch:
            raise WatchRefused(
                f"{self.camera}: {self._model.model_id} was not made to be told what to wait for;"
                " ask it questions, or set model.directory to a checkpoint whose turns have a"
                " place for a watch"
            )
        self._memory = turn.memory
        return self._pairer.look(turn)

    def next_patch(self, turn: Turn) -> NDArray[np.uint8] | None:
        """What `look` will make of `turn` if that comes next; see `FramePairer.ahead`."""
        return self._pairer.ahead(turn)

    def enter(self, look: PairedFrames, vision: VisionTokens) -> Entry:
        """Let leave what the policy lets go, and say what the turn of `look` appends.

        Raises:
            QuestionTooLong: the question does not fit beside the picture; the stream has nothing
                new in it.
            WatchRefused: the watch does not; the stream has nothing new in it.
            ContextTooLong: the context that the settings ask for is longer than the model can tell
                positions apart.
        """
        if self._forward is None:
            self._forward = self._open_forward(look.room)
        elif self._planned_rate_hz != self._model.settings.stream.rate_hz:
            self._plan_again(look.room)
        forward = self._forward
        self._drop_watch_unless(look.watch)
        entering = self._entering(look, forward.segments)
        kept: Sequence[Segment] = forward.segments
        next_head = None
        if not kept:
            entering = [*self._model.writer.head(), *entering]
        elif (
            self._rebuilds_head
            and isinstance(self._policy, ChunkedPolicy)
            and self._policy.is_border(kept, entering, self._reserve)
        ):
            next_head = self._heard(forward)
            kept = next_head.branch.segments
            entering = [*next_head.rest(), *self._entering(look, kept)]
        layout = self._policy.layout(kept, entering, self._reserve)
        self._check_room(layout, look)
        if next_head is not None:
            forward.adopt(next_head.branch)
            self._next_head = None
        self._watch = look.watch
        self._pending = []
        self._pairer.entered(look)
        if self.keeps_vision:
            self._keep_vision(segments_of(layout), vision)
        if self._model.settings.context.recompute:
            segments = segments_of(layout)
            forward.clear()
            shown = [segment.turn for segment in segments if segment.grid is not None]
            return Entry(
                forward, segments, VisionTokens.joined([self._vision_kept[turn] for turn in shown])
            )
        held = len(kept)
        forward.arrange([piece for piece in layout if piece.index < held])
        return Entry(forward, [piece.segment for piece in layout if piece.index >= held], vision)

    def entry(self, segments: Sequence[Segment]) -> Entry:
        """What an utterance appends while it is written."""
        assert self._forward is not None
        return Entry(self._forward, segments)

    def decide(self, logits: torch.Tensor) -> Decision:
        """The state that `logits` (vocabulary,) at the end of a turn say.

        Raises:
            ModelFault: they are not finite; the stream begins anew.
        """
        states = self._model.tokens.markers
        scores = {state: logits[marker[0]] for state, marker in states.items()}
        if State.RESPONSE not in states:
            # Without a marker of its own a response begins with its first word.
            scores[State.RESPONSE] = first_words(logits, self._model.tokens.not_a_first_word).max()
        stacked = torch.stack(list(scores.values()))
        if not bool(torch.isfinite(stacked).all()):
            self.reset()
            raise not_finite(self.camera)
        shares = torch.softmax(stacked, dim=0).tolist()
        probabilities: Mapping[State, float] = dict.fromkeys(State, 0.0) | dict(
            zip(scores, shares, strict=True)
        )
        state = max(probabilities, key=lambda candidate: probabilities[candidate])
        return Decision(state, probabilities, confidence=probabilities[state])

    def speech(self, decision: Decision, turn: Turn) -> Speech:
        """The utterance that `decision` begins."""
        longest = self._model.settings.decision.max_new_tokens
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)
        return Speech(self._model, self._sampler, self._turn, decision, longest, turn.on_text)

    def conclude(self, decision: Decision, unfed: Sequence[Segment] | None = None) -> None:
        """The turn ends with `decision`; what was not fed of it, and its closing marks, go in front
        of the next turn.
        """
        if unfed is None:
            unfed = [
                Segment(SegmentKind.STATE, self._turn, self._model.tokens.markers[decision.state])
            ]
        self._pending = [*unfed, *self._model.writer.close(self._turn)]
        self._turn += 1

    def _keep_vision(self, segments: Sequence[Segment], vision: VisionTokens) -> None:
        self._vision_kept[self._turn] = vision
        self._vision_kept = {
            segment.turn: self._vision_kept[segment.turn]
            for segment in segments
            if segment.grid is not None
        }

    def _open_forward(self, vision_tokens: int) -> CachedForward:
        model = self._model
        plan = plan_context(model, vision_tokens)
        self._policy, self._reserve, self._head = plan.policy, plan.reserve, plan.head
        self._planned_rate_hz, self._room = model.settings.stream.rate_hz, plan.policy.max_tokens
        static = StaticForwards(model.checkpoint.model) if model.has_static_shapes else None
        return CachedForward(model.checkpoint.model, plan.capacity, static=static)

    def _plan_again(self, vision_tokens: int) -> None:
        """The rate was changed while the stream runs: as many seconds of it are other turns, as far
        as the cache has room for them.
        """
        settings = self._model.settings
        self._planned_rate_hz = settings.stream.rate_hz
        if settings.context.max_seconds > 0:
            self._policy = plan_context(self._model, vision_tokens, room=self._room).policy

    def is_judged(self, look: PairedFrames) -> bool:
        """Whether the turn of `look` asks for a decision; else its picture is only looked at."""
        unasked = (
            self._model.settings.decision.unprompted == "always"
            or self._model.turns.judges_unprompted
        )
        return unasked or look.query is not None or look.watch is not None

    @property
    def _rebuilds_head(self) -> bool:
        """Whether a chunk begins with what was said before it."""
        model = self._model
        return (
            isinstance(self._policy, ChunkedPolicy)
            and self._memory is not None
            and bool(model.turns.memory)
        )

    def _heard(self, forward: CachedForward) -> NextHead:
        """The next chunk's head with everything in it that was said until now."""
        model = self._model
        head = self._next_head or NextHead(
            forward, model.writer, model.plain, model.settings.context.memory_tokens
        )
        head.hear(self._memory() if self._memory is not None else [])
        return head

    def _drop_watch_unless(self, active: Query | None) -> None:
        """Let the watch leave that the context holds, if `active` is another or none."""
        if (
            self._forward is not None
            and self._watch is not None
            and (active is None or active.query_id != self._watch.query_id)
        ):
            self._forward.arrange(without_watches(self._forward.segments))
            self._watch = None

    def _entering(self, look: PairedFrames, kept: Sequence[Segment]) -> list[Segment]:
        """What the last decision left pending and the turn of `look`, with its watch where `kept`
        does not hold it.
        """
        if self._first_stamp_ns is None:
            self._first_stamp_ns = look.began_ns
        second = (look.began_ns - self._first_stamp_ns) // NANOSECONDS
        grid = self._model.checkpoint.pictures.grid(*look.pictures.shape[1:3])
        question = self._model.plain(look.query.text) if look.query is not None else ""
        is_held = newest_turn(kept, SegmentKind.WATCH) is not None
        watch = self._model.plain(look.watch.text) if look.watch is not None and not is_held else ""
        is_judged = look.watch is not None and look.query is None

        def user(remembered: str = "") -> list[Segment]:
            writer = self._model.writer
            return writer.user(
                self._turn,
                second,
                second + 1,
                grid,
                question,
                watch,
                is_judged=is_judged,
                remembered=remembered,
            )

        turn = user()
        past = together(
            [
                query.past
                for query, enters in ((look.query, question), (look.watch, watch))
                if query is not None and enters
            ]
        )
        lines = self._remembered(past, look.began_ns, turn, kept)
        return [*self._pending, *(user(lines) if lines else turn)]

    def _remembered(
        self, past: RecalledContext, now_ns: int, turn: Sequence[Segment], kept: Sequence[Segment]
    ) -> str:
        """The lines of `past` that fit beside the segments of its `turn`: a question is never too
        long because of what is remembered.
        """
        model = self._model
        if not past or not model.turns.remembered:
            return ""
        # A watch stays in markers of its own when its turn leaves.
        waiting = sum(len(segment) for segment in kept if segment.kind is SegmentKind.WATCH)
        waiting += sum(len(segment) for segment in turn if segment.kind is SegmentKind.TEXT)
        frame = len(model.encode_text(model.turns.remembered.replace("{memory}", "")))
        room = (
            self._policy.max_tokens
            - self._reserve
            - self._head
            - tokens_in(turn)
            - tokens_in(self._pending)
            - waiting
            - frame
        )
        budget = min(model.settings.context.memory_tokens, room)

        def written(line: str) -> str:
            return model.plain(line) + "\n"

        lines = within_budget(
            past, now_ns, budget, lambda line: len(model.encode_text(written(line)))
        )
        return "".join(written(line) for line in lines)

    def _check_room(self, layout: Sequence[Piece], look: PairedFrames) -> None:
        needed = tokens_in(layout) + self._reserve
        watch_enters = any(
            piece.segment.kind is SegmentKind.WATCH and piece.segment.turn == self._turn
            for piece in layout
        )
        if watch_enters:
            # When its turn leaves it stays in markers of its own, beside those of the newest turn.
            needed += sum(
                len(piece)
                for piece in layout
                if piece.segment.kind is SegmentKind.TEXT and piece.segment.turn == self._turn
            )
        if needed <= self._policy.max_tokens:
            return
        if watch_enters and look.query is None:
            raise WatchRefused(
                f"{self.camera}: picture and watch need {needed} tokens, but the context holds"
                f" {self._policy.max_tokens}; say what to wait for in fewer words or raise"
                " context.max_seconds"
            )
        raise QuestionTooLong(
            f"{self.camera}: picture and question need {needed} tokens, but the context holds"
            f" {self._policy.max_tokens}; ask a shorter question or raise context.max_seconds"
        )
