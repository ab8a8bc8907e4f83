"""One step of several streams: one vision pass, one prefill, and words decoded as a batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.errors import ModelFault, not_finite
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming.instruct_turns import InstructTurns, Speech
from stream_vlm.backbone.streaming.turn_input import PairedFrames
from stream_vlm.model_protocol import SILENT, Outcome, Turn, Upcoming
from stream_vlm.types import Decision, State, StreamError
from stream_vlm.vision.tower import VisionTokens


class BatchedStep:
    """A step of several streams of one checkpoint.

    If the frame, the question or the logits of a stream cannot be used, its outcome is an error;
    the other streams are not affected.

    Args:
        parts: what the streams share.
        turns: the turns, each of a different stream.
        upcoming: gives the turns of the next step, if they are known.

    Attributes:
        seconds: wall time by stage.
    """

    def __init__(
        self, parts: EngineParts, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> None:
        self._parts = parts
        self._turns = turns
        self._upcoming = upcoming
        self._streams: list[CachedStream] = []
        for turn in turns:
            assert isinstance(turn.stream, CachedStream), (
                "streams are opened by the model that steps them"
            )
            self._streams.append(turn.stream)
        self._outcomes: dict[int, Decision | StreamError] = {}
        self._judged: dict[int, dict[str, Decision]] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self.seconds: dict[str, float] = {}

    @torch.inference_mode()
    def run(self) -> list[Outcome | StreamError]:
        """Run the step.

        If memory runs out, the context of every stream is cleared, because it may contain half a
        turn.

        Returns:
            The outcome or the error of each turn.
        """
        try:
            self._run()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            for index, stream in enumerate(self._streams):
                stream.reset()
                self._outcomes[index] = ModelFault(
                    f"{stream.camera}: the {self._parts.device} device is out of memory and the"
                    " context is cleared; lower context.max_seconds, watch fewer cameras, or take"
                    " a smaller model or model.weights int8 or int4"
                )
        return [
            outcome
            if isinstance(outcome := self._outcomes[index], StreamError)
            else Outcome(outcome, self._vectors.get(index), self._judged.get(index, {}))
            for index in range(len(self._turns))
        ]

    def _run(self) -> None:
        started = time.perf_counter()
        paired = self._pair_frames()
        vision = self._encode(paired)
        pooled = {
            index: tokens.pooled()
            for index, tokens in vision.items()
            if self._turns[index].with_vector
        }
        if self._parts.newest_pictures.wanted:
            self._keep_newest(paired, vision)
        started = self._clock("vision", started)
        entries = self._enter(paired, vision)
        if self._parts.turns.instruct:
            self._follow_instructions(entries, started)
            self._fetch_vectors(
                {index: vector for index, vector in pooled.items() if index in entries}
            )
            return
        logits = self._feed(entries)
        decisions = self._decide(paired, logits)
        self._fetch_vectors(
            {index: vector for index, vector in pooled.items() if index in decisions}
        )
        started = self._clock("prefill", started)
        speeches = []
        for index, decision in decisions.items():
            if decision.state is State.RESPONSE:
                utterance = self._streams[index].start_utterance(decision, self._turns[index])
                speeches.append(Speech(index, entries[index].forward, utterance))
            else:
                self._streams[index].end_turn(decision)
                self._outcomes[index] = decision
        if not speeches:
            return
        for speech in self._decode(speeches, [logits[speech.index] for speech in speeches]):
            decision = speech.utterance.outcome()
            self._streams[speech.index].end_turn(decision, speech.utterance.unfed)
            self._outcomes[speech.index] = decision
        self._clock("decode", started)

    def _follow_instructions(self, entries: dict[int, Entry], started: float) -> None:
        """Run the turns of an instruct model."""
        if not entries:
            return
        taken = InstructTurns(
            self._parts,
            self._streams,
            self._turns,
            lambda inputs: feed_together(inputs),
            self._decode,
            self._give_up,
        )
        taken.run(entries)
        self._outcomes |= taken.answers
        self._judged = taken.judged
        self._clock("prefill", started + taken.decode_s)
        if taken.decode_s:
            self.seconds["decode"] = taken.decode_s

    def _pair_frames(self) -> dict[int, PairedFrames]:
        paired = {}
        for index, (stream, turn) in enumerate(zip(self._streams, self._turns, strict=True)):
            try:
                frames = stream.pair_frames(turn)
            except StreamError as error:
                self._outcomes[index] = error
                continue
            if frames is None:
                self._outcomes[index] = SILENT
            else:
                paired[index] = frames
        return paired

    def _encode(self, paired: dict[int, PairedFrames]) -> dict[int, VisionTokens]:
        """Encode the pictures; pictures of one size are one batch."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, frames in paired.items():
            by_size.setdefault(frames.pictures.shape, []).append(index)
        vision: dict[int, VisionTokens] = {}
        if self._parts.prefetcher is not None:
            for index, frames in paired.items():
                tokens = self._parts.prefetcher.take(self._key(self._turns[index]), frames.pictures)
                if tokens is not None:
                    vision[index] = tokens
            self._parts.prefetcher.forget()
        for sized in by_size.values():
            indices = [index for index in sized if index not in vision]
            if not indices:
                continue
            vision |= zip(
                indices,
                self._parts.tower.encode(np.stack([paired[index].pictures for index in indices])),
                strict=True,
            )
        return vision

    def _keep_newest(
        self, paired: dict[int, PairedFrames], vision: dict[int, VisionTokens]
    ) -> None:
        pictures = self._parts.checkpoint.pictures
        for index, tokens in vision.items():
            grid = pictures.grid(*paired[index].pictures.shape[1:3])
            self._parts.newest_pictures.keep(self._turns[index].frame, grid, tokens)

    def _enter(
        self, paired: dict[int, PairedFrames], vision: dict[int, VisionTokens]
    ) -> dict[int, Entry]:
        """Apply the context policies and return the input of each turn."""
        entries = {}
        for index, frames in paired.items():
            try:
                entries[index] = self._streams[index].enter(frames, vision[index])
            except StreamError as error:
                self._outcomes[index] = error
        return entries

    def _feed(self, entries: dict[int, Entry]) -> dict[int, torch.Tensor]:
        """Feed the turns and return the logits (vocabulary,) at the end of each turn."""
        if not entries:
            return {}
        return dict(zip(entries, feed_together(list(entries.values())), strict=True))

    def _decide(
        self, paired: dict[int, PairedFrames], logits: dict[int, torch.Tensor]
    ) -> dict[int, Decision]:
        decisions = {}
        for index, row in logits.items():
            try:
                decided = self._streams[index].decide(row)
                decisions[index] = self._turns[index].gate(
                    decided if self._streams[index].is_judged(paired[index]) else SILENT
                )
            except StreamError as error:
                self._outcomes[index] = error
        return decisions

    def _fetch_vectors(self, pooled: dict[int, torch.Tensor]) -> None:
        """Copy the vectors of the pictures from the device.

        This waits for the device. It is done after the decisions, which already waited for it.
        """
        if not pooled:
            return
        for index, vector in zip(
            pooled, torch.stack(list(pooled.values())).cpu().numpy(), strict=True
        ):
            if np.isfinite(vector).all():
                self._vectors[index] = vector

    def _decode(self, speeches: Sequence[Speech], logits: Sequence[torch.Tensor]) -> list[Speech]:
        """Decode all speeches; each forward pass adds one token to each unfinished one.

        Args:
            speeches: the speeches; those of one stream are neighbours.
            logits: for each speech the logits, (vocabulary,), at the end of its context.

        Returns:
            The speeches of the streams whose logits stayed finite.
        """
        for speech, row in zip(speeches, logits, strict=True):
            if not speech.utterance.unfed:
                speech.utterance.choose(row)
        failed: set[int] = set()
        while writing := [
            speech
            for speech in speeches
            if not speech.utterance.is_over and speech.index not in failed
        ]:
            rows = feed_together(
                [Entry(speech.forward, speech.utterance.unfed) for speech in writing]
            )
            self._prefetch_pictures()
            for speech, row in zip(writing, rows, strict=True):
                if speech.index in failed:
                    continue
                if bool(row.isnan().any()):
                    # The keys may not be finite either, so the whole utterance is dropped.
                    self._give_up(speech.index)
                    failed.add(speech.index)
                else:
                    speech.utterance.choose(row)
        return [speech for speech in speeches if speech.index not in failed]

    def _give_up(self, index: int) -> None:
        """Clear the context of a stream whose logits are not finite."""
        self._streams[index].reset()
        self._outcomes[index] = not_finite(self._streams[index].camera)

    def _prefetch_pictures(self) -> None:
        """Start to encode the pictures of the next step; done once in a step."""
        if self._upcoming is None or self._parts.prefetcher is None:
            return
        coming, self._upcoming = self._upcoming(), None
        for turn in coming:
            assert isinstance(turn.stream, CachedStream)
            pictures = turn.stream.next_patch(turn)
            if pictures is not None:
                self._parts.prefetcher.encode(self._key(turn), pictures)

    @staticmethod
    def _key(turn: Turn) -> tuple[str, int]:
        return turn.frame.camera, turn.frame.stamp_ns

    def _clock(self, stage: str, started: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = now - started
        return now
