"""The stream of one camera through a shared model, with its context in a KV cache."""

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
from stream_vlm.backbone.streaming.next_chunk_prefill import LEAD_TURNS, NextChunkPrefill
from stream_vlm.backbone.streaming.turn_input import EnteringTurn, FramePairer, PairedFrames
from stream_vlm.backbone.streaming.utterance_decoder import UtteranceDecoder
from stream_vlm.backbone.tokens.state_decision import ASKED, NotFinite, decide_state
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.instructions import judge_prompt
from stream_vlm.context.policies.policy import ChunkedPolicy, without_watches
from stream_vlm.context.segments import Segment, SegmentKind, segments_of, tokens_in
from stream_vlm.model_protocol import Judgement, Turn, WatchRefused
from stream_vlm.types import NANOSECONDS, Decision, Query
from stream_vlm.vision.tower import VisionTokens


class CachedStream:
    """The context of one camera in a KV cache.

    A silent tick costs one forward pass: it feeds the pending tokens of the last turn and the new
    turn, and reads the logits of the states at its end. Words are decoded only for a response.
    `batched_step.BatchedStep` runs the turns of several streams in one forward pass.

    Attributes:
        camera: name of the camera.
        parts: what all streams of the checkpoint share.
        forward: the context in the cache; None before the first turn.
        plan: the limits of the context; set at the first turn.
        keeps_vision: whether to keep the vision tokens of the pictures in the context, which a
            recomputation needs.
    """

    def __init__(self, parts: EngineParts, camera: str) -> None:
        self.camera = camera
        self.parts = parts
        published = parts.checkpoint.stream
        self._sampler = TokenSampler(
            parts.settings.sampling.or_published(
                published.temperature, published.repetition_penalty
            )
        )
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
        self._next_chunk: NextChunkPrefill | None = None
        self._forks: list[CachedForward] = []

    @property
    def context(self) -> list[Segment]:
        """The segments in the context, in order."""
        return list(self.forward.segments) if self.forward is not None else []

    @property
    def cache_bytes(self) -> int:
        """Memory of the cache, bytes."""
        return self.forward.cache.bytes() if self.forward is not None else 0

    @torch.inference_mode()
    def reset(self) -> None:
        """Clear the context and everything that belongs to it."""
        self._clear_forks()
        if self.forward is not None:
            self.forward.clear()
        self._turn = 0
        self._first_stamp_ns = None
        self._pairer.reset()
        self._pending = []
        self._watch = None
        self._vision_kept = {}
        self._next_chunk = None

    @torch.inference_mode()
    def prepare(self) -> None:
        """Prefill a slice of the next chunk's prefix if the running chunk ends soon."""
        if self.forward is None or not self._has_chunk_memory:
            return
        assert isinstance(self.plan.policy, ChunkedPolicy)
        turns_left = self.plan.policy.turns_left(self.forward.segments)
        if turns_left <= LEAD_TURNS:
            self._next_chunk = self._prefill_with_lines(self.forward)
            self._next_chunk.advance(turns_left)

    def pair_frames(self, turn: Turn) -> PairedFrames | None:
        """Preprocess the frame of `turn` and combine it with earlier frames.

        Returns:
            The frames of the turn, or None if the turn needs more frames.

        Raises:
            PictureError: the picture cannot be processed; the stream is unchanged.
            WatchRefused: the model cannot follow a watch; the stream is unchanged.
        """
        if turn.watch is not None and not self.parts.turns.watch:
            raise WatchRefused(
                f"{self.camera}: the prompt format of {self.parts.model_id} has no place for a"
                " watch; ask it questions, or set model.directory to a checkpoint whose turns have"
                " one"
            )
        self._memory = turn.memory
        return self._pairer.pair(turn)

    def next_patch(self, turn: Turn) -> NDArray[np.uint8] | None:
        """The temporal patch of `turn` if it comes next; see `FramePairer.next_patch`."""
        return self._pairer.next_patch(turn)

    def enter(self, frames: PairedFrames, vision: VisionTokens) -> Entry:
        """Apply the context policy and return the input of the turn of `frames`.

        Args:
            frames: the frames of the turn.
            vision: their vision tokens.

        Raises:
            QuestionTooLong: the question does not fit together with the picture; the turn does not
                enter.
            WatchRefused: the watch does not fit; the turn does not enter.
            ContextTooLong: the settings ask for a longer context than the model was trained for.
        """
        if self.forward is None:
            self.forward = self._open_forward(frames.vision_tokens)
        elif self.parts.settings.context.max_seconds > 0:
            self._plan_again(frames.vision_tokens)
        forward = self.forward
        self._check_judgements(frames)
        self._remove_watch_unless(frames.watch)
        turn = self._entering(frames)
        entering = turn.segments(forward.segments)
        kept: Sequence[Segment] = forward.segments
        next_chunk = None
        if not kept:
            entering = [*self.parts.writer.prefix(), *entering]
        elif (
            self._has_chunk_memory
            and isinstance(self.plan.policy, ChunkedPolicy)
            and self.plan.policy.is_border(kept, entering, self.plan.reserve)
        ):
            next_chunk = self._prefill_with_lines(forward)
            kept = next_chunk.branch.segments
            entering = [*next_chunk.rest(), *turn.segments(kept)]
        layout = self.plan.policy.layout(kept, entering, self.plan.reserve)
        turn.check_room(self.camera, layout)
        if next_chunk is not None:
            forward.adopt(next_chunk.branch)
            self._next_chunk = None
        self._watch = frames.watch
        self._pending = []
        self._pairer.entered(frames)
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

    def judge_prompt(self, judgement: Judgement) -> str:
        """The question about the newest picture for the instruction of `judgement`."""
        plain = self.parts.plain
        began_ns = judgement.reported_ns if self._first_stamp_ns is None else self._first_stamp_ns
        return judge_prompt(
            plain(judgement.instruction.text),
            plain(judgement.reported),
            round(max(0, judgement.reported_ns - began_ns) / NANOSECONDS, 1),
        )

    def suffix(self, prompt: str) -> Entry:
        """The input that asks `prompt` at the end of a new fork of the context."""
        assert self.forward is not None
        self._forks.append(self.forward.fork())
        return Entry(self._forks[-1], self.parts.writer.suffix(self._turn, prompt))

    def decide(self, logits: torch.Tensor) -> Decision:
        """Decide the state from the logits (vocabulary,) at the end of a turn.

        Raises:
            ModelFault: the logits are not finite; the context is cleared.
        """
        try:
            return decide_state(logits, self.parts.tokens)
        except NotFinite as error:
            self.reset()
            raise not_finite(self.camera) from error

    def start_utterance(self, decision: Decision, turn: Turn) -> UtteranceDecoder:
        """Start the utterance of the response `decision`."""
        return UtteranceDecoder(
            self.parts, self._sampler, self._turn, decision, self._longest(turn), turn.on_text
        )

    def start_answer(self, turn: Turn) -> UtteranceDecoder:
        """Start the answer of an instruct model, which follows without a marker."""
        return UtteranceDecoder(
            self.parts,
            self._sampler,
            self._turn,
            ASKED,
            self._longest(turn),
            turn.on_text,
            marker=(),
        )

    def start_report(self, decision: Decision, turn: Turn) -> UtteranceDecoder:
        """Start the report of an instruct model after it decided to respond."""
        return UtteranceDecoder(
            self.parts,
            self._sampler,
            self._turn,
            decision,
            self._longest(turn),
            None,
            one_line=True,
        )

    def end_reply(self, unfed: Sequence[Segment]) -> None:
        """End the turn of an instruct model after its answer.

        Args:
            unfed: segments of the answer that are not fed yet.
        """
        self._pending = [*unfed, *self.parts.writer.close(self._turn)]
        self._turn += 1

    def end_silent_turn(self, said: Sequence[str] = ()) -> None:
        """End the turn of an instruct model that was asked nothing.

        Args:
            said: its reports. They enter the context with the next turn, as one reply; a sentence
                that several instructions share is written once.
        """
        words = "\n".join(dict.fromkeys(self.parts.plain(report) for report in said))
        self._pending = self.parts.writer.report(self._turn, words) if words else []
        self._forks = []
        self._turn += 1

    def end_turn(self, decision: Decision, unfed: Sequence[Segment] | None = None) -> None:
        """End the turn with `decision`.

        Args:
            decision: the decision of the turn.
            unfed: segments of the turn that are not fed yet; by default its state marker. They and
                the closing marks of the turn are fed at the beginning of the next turn.
        """
        if unfed is None:
            unfed = [
                Segment(SegmentKind.STATE, self._turn, self.parts.tokens.markers[decision.state])
            ]
        self._pending = [*unfed, *self.parts.writer.close(self._turn)]
        self._turn += 1

    def _longest(self, turn: Turn) -> int:
        """The most tokens of an utterance at `turn`."""
        longest = self.parts.settings.decision.max_new_tokens
        return longest if turn.limits.new_tokens is None else min(longest, turn.limits.new_tokens)

    def _check_judgements(self, frames: PairedFrames) -> None:
        """Check that the question about each instruction is within the plan.

        Raises:
            WatchRefused: an instruction is too long.
        """
        if not self.parts.turns.instruct or frames.query is not None:
            return
        parts, reply = self.parts, self.parts.settings.decision.max_new_tokens
        for judgement in frames.judgements:
            prompt = self.judge_prompt(judgement)
            needed = tokens_in(parts.writer.suffix(0, prompt)) + parts.tokens.longest_marker + reply
            room = self.plan.branches * self.plan.suffix
            if needed > room:
                raise WatchRefused(
                    f"{self.camera}: the instruction {judgement.instruction.text[:40]!r} needs"
                    f" {needed} tokens, but there is room for {room}; describe in fewer words what"
                    " to watch for"
                )

    def _clear_forks(self) -> None:
        for fork in self._forks:
            fork.clear()
        self._forks = []

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
        self._planned_rate_hz = parts.settings.stream.tick_rate_hz
        self._room = self.plan.policy.max_tokens
        static = StaticForwards(parts.checkpoint.model) if parts.has_static_shapes else None
        return CachedForward(parts.checkpoint.model, self.plan.capacity, static=static)

    def _plan_again(self, vision_tokens: int) -> None:
        """Adapt the policy to a new tick rate, within the capacity of the cache.

        The length of the context is set in seconds, so another rate gives another number of turns.
        """
        rate_hz = self.parts.settings.stream.tick_rate_hz
        if rate_hz != self._planned_rate_hz:
            self._planned_rate_hz = rate_hz
            again = plan_context(self.parts, vision_tokens, room=self._room)
            self.plan = replace(self.plan, policy=again.policy)

    def is_judged(self, frames: PairedFrames) -> bool:
        """Whether the model decides at the turn of `frames`.

        If not, its picture enters the context and the decision is silence.
        """
        unprompted = (
            self.parts.settings.decision.unprompted == "always"
            or self.parts.turns.judges_unprompted
        )
        return unprompted or frames.query is not None or frames.watch is not None

    @property
    def _has_chunk_memory(self) -> bool:
        """Whether a new chunk begins with earlier utterances and summaries."""
        return (
            isinstance(self.plan.policy, ChunkedPolicy)
            and self._memory is not None
            and bool(self.parts.turns.memory)
        )

    def _prefill_with_lines(self, forward: CachedForward) -> NextChunkPrefill:
        """The prefill of the next chunk, with all lines until now."""
        parts = self.parts
        prefill = self._next_chunk or NextChunkPrefill(
            forward, parts.writer, parts.plain, parts.settings.context.memory_tokens
        )
        prefill.add_lines(self._memory() if self._memory is not None else [])
        return prefill

    def _remove_watch_unless(self, active: Query | None) -> None:
        """Remove the watch in the context if `active` is another watch or None."""
        if (
            self.forward is not None
            and self._watch is not None
            and (active is None or active.query_id != self._watch.query_id)
        ):
            self.forward.arrange(without_watches(self.forward.segments))
            self._watch = None

    def _entering(self, frames: PairedFrames) -> EnteringTurn:
        if self._first_stamp_ns is None:
            self._first_stamp_ns = frames.began_ns
        elapsed_ns = frames.began_ns - self._first_stamp_ns
        return EnteringTurn(
            self.parts, self.plan, frames, self._turn, elapsed_ns / NANOSECONDS, self._pending
        )
