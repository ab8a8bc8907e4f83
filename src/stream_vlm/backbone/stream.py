"""One camera's endless stream over a shared model: what was seen stays in the KV cache until the context policy lets it go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.forward import CachedForward
from stream_vlm.context.layout import tokens_in
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.stream import NANOSECONDS, Decision, Frame, Query, State, StreamError

if TYPE_CHECKING:
    from stream_vlm.backbone.model import StreamingModel


class ModelFault(StreamError):
    """The model gave something that cannot be used, for example logits that are not numbers."""


class QuestionTooLong(StreamError):
    """A question that does not fit into the context beside the picture; the message says how long it is and may be."""


class CachedStream:
    """Implements `harness.ModelStream` for checkpoints with a KV cache.

    A silent tick costs one forward: the tokens that the last decision left pending, the new turn, and the logits at its end, of which only the
    states' are read. Words are decoded only for a response.
    """

    def __init__(self, model: StreamingModel, camera: str) -> None:
        self.camera = camera
        self.seconds: dict[str, float] = {}
        self._model = model
        self._turn = 0
        self._first_stamp_ns: int | None = None
        self._turn_stamp_ns: int | None = None
        self._earlier: list[NDArray[np.uint8]] = []
        self._pending: list[Segment] = []
        self._forward: CachedForward | None = None

    @property
    def context(self) -> list[Segment]:
        """What the model still sees, oldest first."""
        return list(self._forward.segments) if self._forward is not None else []

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget everything seen."""
        if self._forward is not None:
            self._forward.clear()
        self._turn = 0
        self._first_stamp_ns = None
        self._turn_stamp_ns = None
        self._earlier = []
        self._pending = []

    @torch.inference_mode()
    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
    ) -> Decision:
        """Look at `frame` and decide.

        Where several frames make a turn, a frame before the last of them is kept for it and the decision is silence, unless a query asks for an
        answer now.

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            QuestionTooLong: the question does not fit beside the picture; the stream is unchanged.
            ModelFault: the model's numbers are not finite; the stream begins anew.
        """
        self.seconds = {}
        started = time.perf_counter()
        current = self._model.checkpoint.pictures.resize(frame.image)
        began_ns = frame.stamp_ns if self._turn_stamp_ns is None else self._turn_stamp_ns
        if query is None and len(self._earlier) + 1 < self._model.checkpoint.stream.frames_per_turn:
            self._earlier.append(current)
            self._turn_stamp_ns = began_ns
            return Decision(State.SILENCE, dict.fromkeys(State, 0.0) | {State.SILENCE: 1.0}, confidence=1.0)
        vision = self._model.tower.encode(self._patch(current)[None, ...])[0]
        started = self._clock("vision", started)
        logits = self._prefill(began_ns, query, current, vision)
        self._earlier = [current] if self._model.checkpoint.pictures.pair_frames else []
        self._turn_stamp_ns = None
        decision = gate(self._decide(logits))
        started = self._clock("prefill", started)
        if decision.state is State.RESPONSE:
            decision = self._speak(decision, logits, on_text)
            self._clock("decode", started)
        else:
            self._leave_pending(Segment(SegmentKind.STATE, self._turn, self._model.tokens.markers[decision.state]))
        self._turn += 1
        return decision

    def _patch(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pictures of one temporal patch, (T, H, W, 3); where earlier ones are missing or of another size, the first that is there repeats."""
        pictures = [*(picture for picture in self._earlier if picture.shape == current.shape), current]
        missing = self._model.checkpoint.pictures.temporal_patch_size - len(pictures)
        return np.stack([pictures[0]] * missing + pictures)

    def _prefill(self, began_ns: int, query: Query | None, picture: NDArray[np.uint8], vision: torch.Tensor) -> torch.Tensor:
        if self._forward is None:
            self._forward = self._open_forward(len(vision))
        entering = [*self._pending, *self._turn_segments(began_ns, query, picture)]
        if not self._forward.segments:
            entering = [*self._model.writer.head(), *entering]
        kept = self._forward.segments
        layout = self._policy.layout(kept, entering, self._reserve)
        needed = tokens_in(layout) + self._reserve
        if needed > self._policy.max_tokens:
            raise QuestionTooLong(
                f"{self.camera}: picture and question need {needed} tokens, but the context holds {self._policy.max_tokens}; "
                "ask a shorter question or raise context.max_seconds"
            )
        held = len(kept)
        self._forward.arrange([piece for piece in layout if piece.index < held])
        logits = self._forward.feed([piece.segment for piece in layout if piece.index >= held], vision)
        self._pending = []
        return logits

    def _open_forward(self, vision_tokens: int) -> CachedForward:
        model, settings = self._model, self._model.settings
        stream = model.checkpoint.stream
        silent = max(len(marker) for marker in model.tokens.markers.values())
        # A turn of `vision_tokens` in one row holds as many tokens as one on any other grid.
        turn_tokens = tokens_in([*model.writer.user(0, 0, 1, (1, vision_tokens)), *model.writer.close(0)]) + silent
        self._reserve = settings.decision.max_new_tokens + len(model.tokens.response_end) + tokens_in(model.writer.close(0))
        self._policy = stream.context_policy(
            settings.context.policy, settings.context.max_seconds, settings.stream.rate_hz, turn_tokens, model.tokens.head, self._reserve
        )
        return CachedForward(model.checkpoint.model, self._policy.max_tokens)

    def _turn_segments(self, began_ns: int, query: Query | None, picture: NDArray[np.uint8]) -> list[Segment]:
        if self._first_stamp_ns is None:
            self._first_stamp_ns = began_ns
        second = (began_ns - self._first_stamp_ns) // NANOSECONDS
        grid = self._model.checkpoint.pictures.grid(picture.shape[0], picture.shape[1])
        question = self._model.plain(query.text) if query is not None else ""
        return self._model.writer.user(self._turn, second, second + 1, grid, question)

    def _decide(self, logits: torch.Tensor) -> Decision:
        states = self._model.tokens.markers
        scores = {state: logits[marker[0]] for state, marker in states.items()}
        if State.RESPONSE not in states:
            # Without a marker of its own a response begins with its first word.
            scores[State.RESPONSE] = self._first_words(logits).max()
        stacked = torch.stack(list(scores.values()))
        if not bool(torch.isfinite(stacked).all()):
            self.reset()
            raise ModelFault(f"{self.camera}: the model's logits are not finite; its context is cleared (try model.dtype float32)")
        shares = torch.softmax(stacked, dim=0).tolist()
        probabilities: Mapping[State, float] = dict.fromkeys(State, 0.0) | dict(zip(scores, shares, strict=True))
        state = max(probabilities, key=lambda candidate: probabilities[candidate])
        return Decision(state, probabilities, confidence=probabilities[state])

    def _first_words(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` without the tokens that begin another state or end an utterance."""
        tokens = self._model.tokens
        others = {marker[0] for marker in tokens.markers.values()} | tokens.stop | set(tokens.response_end)
        words = logits.clone()
        words[list(others)] = -torch.inf
        return words

    def _speak(self, decision: Decision, logits: torch.Tensor, on_text: Callable[[str], None] | None) -> Decision:
        """Decode the words of a response greedily, `logits` being those it was decided by; the last id stays pending so that a tick never
        feeds a token twice."""
        assert self._forward is not None
        words, tokens = self._model.words(), self._model.tokens
        marker = tokens.markers.get(State.RESPONSE, ())
        unfed = [Segment(SegmentKind.STATE, self._turn, marker)] if marker else []
        if not marker:
            logits = self._first_words(logits)
        certainties: list[float] = []
        complete = False
        for _ in range(self._model.settings.decision.max_new_tokens):
            if unfed:
                logits = self._forward.feed(unfed)
            token = int(logits.argmax())
            if token in tokens.response_end:
                complete, unfed = True, [Segment(SegmentKind.STATE, self._turn, (token,))]
                break
            if token in tokens.stop:
                complete, unfed = True, []
                break
            certainties.append(float(torch.softmax(logits, dim=0)[token]))
            unfed = [Segment(SegmentKind.ACTION, self._turn, (token,))]
            partial = words.push(token)
            if on_text is not None and partial:
                on_text(partial)
        self._leave_pending(*unfed)
        certainty = sum(certainties) / len(certainties) if certainties else 0.0
        text = words.finish(complete)
        if on_text is not None and text:
            on_text(text)
        return Decision(decision.state, decision.probabilities, text, decision.confidence * certainty)

    def _leave_pending(self, *unfed: Segment) -> None:
        self._pending = [*unfed, *self._model.writer.close(self._turn)]

    def _clock(self, stage: str, started: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = now - started
        return now
