"""One step of several streams: their pictures through the vision tower together, their turns
through one forward, their words side by side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.errors import ModelFault, not_finite
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import feed_together
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming.frame_pairing import PairedFrames
from stream_vlm.backbone.streaming.utterance_decoder import Speech
from stream_vlm.model_protocol import SILENT, Outcome, Turn, Upcoming
from stream_vlm.types import Decision, State, StreamError
from stream_vlm.vision.vision_tokens import VisionTokens


class Step:
    """A step of several streams over `parts`, which are those of each stream.

    A stream whose frame, question or numbers cannot be used gets an error; the others go on.
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
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self.seconds: dict[str, float] = {}

    @torch.inference_mode()
    def run(self) -> list[Outcome | StreamError]:
        """Take every turn.

        Out of memory, every stream of the step begins anew: what it had written into its cache is
        half of a turn.
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
            else Outcome(outcome, self._vectors.get(index))
            for index in range(len(self._turns))
        ]

    def _run(self) -> None:
        started = time.perf_counter()
        looks = self._look()
        vision = self._encode(looks)
        pooled = {
            index: tokens.pooled()
            for index, tokens in vision.items()
            if self._turns[index].with_vector
        }
        started = self._clock("vision", started)
        logits = self._enter(looks, vision)
        decisions = self._decide(looks, logits)
        self._fetch_vectors(
            {index: vector for index, vector in pooled.items() if index in decisions}
        )
        started = self._clock("prefill", started)
        speeches = {}
        for index, decision in decisions.items():
            if decision.state is State.RESPONSE:
                speeches[index] = self._streams[index].speech(decision, self._turns[index])
            else:
                self._streams[index].conclude(decision)
                self._outcomes[index] = decision
        if speeches:
            self._speak(speeches, logits)
            self._clock("decode", started)

    def _look(self) -> dict[int, PairedFrames]:
        looks = {}
        for index, (stream, turn) in enumerate(zip(self._streams, self._turns, strict=True)):
            try:
                look = stream.look(turn)
            except StreamError as error:
                self._outcomes[index] = error
                continue
            if look is None:
                self._outcomes[index] = SILENT
            else:
                looks[index] = look
        return looks

    def _encode(self, looks: dict[int, PairedFrames]) -> dict[int, VisionTokens]:
        """Pictures of one size go through the tower together."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, look in looks.items():
            by_size.setdefault(look.pictures.shape, []).append(index)
        vision: dict[int, VisionTokens] = {}
        if self._parts.ahead is not None:
            for index, look in looks.items():
                tokens = self._parts.ahead.take(self._key(self._turns[index]), look.pictures)
                if tokens is not None:
                    vision[index] = tokens
            self._parts.ahead.forget()
        for sized in by_size.values():
            indices = [index for index in sized if index not in vision]
            if not indices:
                continue
            vision |= zip(
                indices,
                self._parts.tower.encode(np.stack([looks[index].pictures for index in indices])),
                strict=True,
            )
        return vision

    def _enter(
        self, looks: dict[int, PairedFrames], vision: dict[int, VisionTokens]
    ) -> dict[int, torch.Tensor]:
        """The logits (vocabulary,) at the end of each turn."""
        entries = {}
        for index, look in looks.items():
            try:
                entries[index] = self._streams[index].enter(look, vision[index])
            except StreamError as error:
                self._outcomes[index] = error
        if not entries:
            return {}
        return dict(zip(entries, feed_together(list(entries.values())), strict=True))

    def _decide(
        self, looks: dict[int, PairedFrames], logits: dict[int, torch.Tensor]
    ) -> dict[int, Decision]:
        decisions = {}
        for index, row in logits.items():
            try:
                decided = self._streams[index].decide(row)
                decisions[index] = self._turns[index].gate(
                    decided if self._streams[index].is_judged(looks[index]) else SILENT
                )
            except StreamError as error:
                self._outcomes[index] = error
        return decisions

    def _fetch_vectors(self, pooled: dict[int, torch.Tensor]) -> None:
        """Copy the pictures' vectors from the device.

        This waits for the device, so it comes after the decisions, which were waited for anyway.
        """
        if not pooled:
            return
        for index, vector in zip(
            pooled, torch.stack(list(pooled.values())).cpu().numpy(), strict=True
        ):
            if np.isfinite(vector).all():
                self._vectors[index] = vector

    def _speak(self, speeches: dict[int, Speech], logits: dict[int, torch.Tensor]) -> None:
        """Write all utterances, each forward a token of every one that is not over."""
        for index, speech in speeches.items():
            if not speech.unfed:
                speech.take(logits[index])
        while writing := {
            index: speech for index, speech in speeches.items() if not speech.is_over
        }:
            rows = feed_together(
                [self._streams[index].entry(speech.unfed) for index, speech in writing.items()]
            )
            self._encode_ahead()
            for (index, speech), row in zip(writing.items(), rows, strict=True):
                if bool(row.isnan().any()):
                    # Half a sentence, and keys that may be as bad: nothing of it is said.
                    self._streams[index].reset()
                    self._outcomes[index] = not_finite(self._streams[index].camera)
                    del speeches[index]
                else:
                    speech.take(row)
        for index, speech in speeches.items():
            decision = speech.outcome()
            self._streams[index].conclude(decision, speech.unfed)
            self._outcomes[index] = decision

    def _encode_ahead(self) -> None:
        """Begin with the next step's pictures, once, while the words of this step are written."""
        if self._upcoming is None or self._parts.ahead is None:
            return
        coming, self._upcoming = self._upcoming(), None
        for turn in coming:
            assert isinstance(turn.stream, CachedStream)
            pictures = turn.stream.next_patch(turn)
            if pictures is not None:
                self._parts.ahead.encode(self._key(turn), pictures)

    @staticmethod
    def _key(turn: Turn) -> tuple[str, int]:
        return turn.frame.camera, turn.frame.stamp_ns

    def _clock(self, stage: str, started: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = now - started
        return now
