"""One camera's endless stream over a shared model: what was seen stays in the KV cache until the
context policy lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.errors import not_finite
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward, Entry
from stream_vlm.backbone.kv_cache.cuda_graphs import StaticForwards
from stream_vlm.backbone.streaming.context_budget import ContextPlan, plan_context
from stream_vlm.backbone.streaming.entering_turn import EnteringTurn
from stream_vlm.backbone.streaming.frame_pairing import FramePairer, PairedFrames
from stream_vlm.backbone.streaming.next_chunk_prefill import LEAD_TURNS, NextHead
from stream_vlm.backbone.streaming.utterance_decoder import Speech
from stream_vlm.backbone.tokens.state_decision import NotFinite, decide_state
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.layout import segments_of
from stream_vlm.context.policies.policy import ChunkedPolicy, without_watches
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.model_protocol import Turn, WatchRefused
from stream_vlm.types import NANOSECONDS, Decision, Query
from stream_vlm.vision.vision_tokens import VisionTokens


class CachedStream:
    """One camera's context over a checkpoint with a KV cache.

    A silent tick costs one forward: the tokens that the last decision left pending, the new turn,
    and the logits at its end, of which only the states' are read. Words are decoded only for a
    response. `batch.Step` takes turns in several streams through one forward.

    Attributes:
        parts: what the streams of the checkpoint share.
        forward: the model with the cache of the context; None before the first frame.
        plan: what its context may hold; known from its first turn on.
        keeps_vision: keep the vision tokens of the pictures in the context, which computing it anew
            needs.
    """

    def __init__(self, parts: EngineParts, camera: str) -> None:
        self.camera = camera
        self.parts = parts
        self._sampler = TokenSampler(parts.settings.sampling)
        self._turn = 0
        self._first_stamp_ns: int | None = None
        self._pairer = FramePairer(
            parts.checkpoint.pictures, parts.checkpoint.stream.frames_per_turn
        )
        self._pending: list[Segment] = []
        self._watch: Query | None = None
        self.forward: CachedForward | None = None
        self.plan: ContextPlan
        self.keeps_vision = parts.settings.context.recompute
        self._vision_kept: dict[int, VisionTokens] = {}
        self._memory: Callable[[], Sequence[str]] | None = None
        self._next_head: NextHead | None = None

    @property
    def context(self) -> list[Segment]:
        """What the model still sees, oldest first."""
        return list(self.forward.segments) if self.forward is not None else []

    @property
    def cache_bytes(self) -> int:
        """Memory that the cache holds."""
        return self.forward.cache.bytes() if self.forward is not None else 0

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget everything seen."""
        if self.forward is not None:
            self.forward.clear()
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
        if self.forward is None or not self._rebuilds_head:
            return
        assert isinstance(self.plan.policy, ChunkedPolicy)
        turns_left = self.plan.policy.turns_left(self.forward.segments)
        if turns_left <= LEAD_TURNS:
            self._next_head = self._heard(self.forward)
            self._next_head.advance(turns_left)

    def look(self, turn: Turn) -> PairedFrames | None:
        """Make the frame of `turn` ready; None when it waits for the other frames of its temporal
        patch.

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            WatchRefused: the model cannot be told what to wait for; the stream is unchanged.
        """
        if turn.watch is not None and not self.parts.turns.watch:
            raise WatchRefused(
                f"{self.camera}: {self.parts.model_id} was not made to be told what to wait for;"
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
        if self.forward is None:
            self.forward = self._open_forward(look.room)
        elif self._planned_rate_hz != self.parts.settings.stream.rate_hz:
            self._plan_again(look.room)
        forward = self.forward
        self._drop_watch_unless(look.watch)
        turn = self._entering(look)
        entering = turn.segments(forward.segments)
        kept: Sequence[Segment] = forward.segments
        next_head = None
        if not kept:
            entering = [*self.parts.writer.head(), *entering]
        elif (
            self._rebuilds_head
            and isinstance(self.plan.policy, ChunkedPolicy)
            and self.plan.policy.is_border(kept, entering, self.plan.reserve)
        ):
            next_head = self._heard(forward)
            kept = next_head.branch.segments
            entering = [*next_head.rest(), *turn.segments(kept)]
        layout = self.plan.policy.layout(kept, entering, self.plan.reserve)
        turn.check_room(self.camera, layout)
        if next_head is not None:
            forward.adopt(next_head.branch)
            self._next_head = None
        self._watch = look.watch
        self._pending = []
        self._pairer.entered(look)
        if self.keeps_vision:
            self._keep_vision(segments_of(layout), vision)
        if self.parts.settings.context.recompute:
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
        assert self.forward is not None
        return Entry(self.forward, segments)

    def decide(self, logits: torch.Tensor) -> Decision:
        """The state that `logits` (vocabulary,) at the end of a turn say.

        Raises:
            ModelFault: they are not finite; the stream begins anew.
        """
        try:
            return decide_state(logits, self.parts.tokens)
        except NotFinite as error:
            self.reset()
            raise not_finite(self.camera) from error

    def speech(self, decision: Decision, turn: Turn) -> Speech:
        """The utterance that `decision` begins."""
        longest = self.parts.settings.decision.max_new_tokens
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)
        return Speech(self.parts, self._sampler, self._turn, decision, longest, turn.on_text)

    def conclude(self, decision: Decision, unfed: Sequence[Segment] | None = None) -> None:
        """The turn ends with `decision`; what was not fed of it, and its closing marks, go in front
        of the next turn.
        """
        if unfed is None:
            unfed = [
                Segment(SegmentKind.STATE, self._turn, self.parts.tokens.markers[decision.state])
            ]
        self._pending = [*unfed, *self.parts.writer.close(self._turn)]
        self._turn += 1

    def _keep_vision(self, segments: Sequence[Segment], vision: VisionTokens) -> None:
        self._vision_kept[self._turn] = vision
        self._vision_kept = {
            segment.turn: self._vision_kept[segment.turn]
            for segment in segments
            if segment.grid is not None
        }

    def _open_forward(self, vision_tokens: int) -> CachedForward:
        parts = self.parts
        self.plan = plan_context(parts, vision_tokens)
        self._planned_rate_hz = parts.settings.stream.rate_hz
        self._room = self.plan.policy.max_tokens
        static = StaticForwards(parts.checkpoint.model) if parts.has_static_shapes else None
        return CachedForward(parts.checkpoint.model, self.plan.capacity, static=static)

    def _plan_again(self, vision_tokens: int) -> None:
        """The rate was changed while the stream runs: as many seconds of it are other turns, as far
        as the cache has room for them.
        """
        settings = self.parts.settings
        self._planned_rate_hz = settings.stream.rate_hz
        if settings.context.max_seconds > 0:
            again = plan_context(self.parts, vision_tokens, room=self._room)
            self.plan = replace(self.plan, policy=again.policy)

    def is_judged(self, look: PairedFrames) -> bool:
        """Whether the turn of `look` asks for a decision; else its picture is only looked at."""
        unasked = (
            self.parts.settings.decision.unprompted == "always"
            or self.parts.turns.judges_unprompted
        )
        return unasked or look.query is not None or look.watch is not None

    @property
    def _rebuilds_head(self) -> bool:
        """Whether a chunk begins with what was said before it."""
        return (
            isinstance(self.plan.policy, ChunkedPolicy)
            and self._memory is not None
            and bool(self.parts.turns.memory)
        )

    def _heard(self, forward: CachedForward) -> NextHead:
        """The next chunk's head with everything in it that was said until now."""
        parts = self.parts
        head = self._next_head or NextHead(
            forward, parts.writer, parts.plain, parts.settings.context.memory_tokens
        )
        head.hear(self._memory() if self._memory is not None else [])
        return head

    def _drop_watch_unless(self, active: Query | None) -> None:
        """Let the watch leave that the context holds, if `active` is another or none."""
        if (
            self.forward is not None
            and self._watch is not None
            and (active is None or active.query_id != self._watch.query_id)
        ):
            self.forward.arrange(without_watches(self.forward.segments))
            self._watch = None

    def _entering(self, look: PairedFrames) -> EnteringTurn:
        if self._first_stamp_ns is None:
            self._first_stamp_ns = look.began_ns
        second = (look.began_ns - self._first_stamp_ns) // NANOSECONDS
        return EnteringTurn(self.parts, self.plan, look, self._turn, second, self._pending)
