"""One camera's endless stream over a shared model: what was seen stays in the KV cache until the context policy lets it go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.forward import CachedForward
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
        self._previous: NDArray[np.uint8] | None = None
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
        self._previous = None
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

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            QuestionTooLong: the question does not fit beside the picture; the stream is unchanged.
            ModelFault: the model's numbers are not finite; the stream begins anew.
        """
        self.seconds = {}
        started = time.perf_counter()
        current = self._model.checkpoint.pictures.resize(frame.image)
        vision = self._model.tower.encode(self._pair(current)[None, ...])[0]
        started = self._clock("vision", started)
        logits = self._prefill(frame, query, current, vision)
        self._previous = current
        decision = gate(self._decide(logits))
        started = self._clock("prefill", started)
        if decision.state is State.RESPONSE:
            decision = self._speak(decision, on_text)
            self._clock("decode", started)
        else:
            self._leave_pending(self._model.tokens.markers[decision.state] + self._model.tokens.action_close)
        self._turn += 1
        return decision

    def _pair(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pictures of one temporal patch, (T, H, W, 3)."""
        pictures = self._model.checkpoint.pictures
        previous = current
        if pictures.pair_frames and self._previous is not None and self._previous.shape == current.shape:
            previous = self._previous
        return np.stack([previous] * (pictures.temporal_patch_size - 1) + [current])

    def _prefill(self, frame: Frame, query: Query | None, picture: NDArray[np.uint8], vision: torch.Tensor) -> torch.Tensor:
        entering = [*self._pending, *self._turn_segments(frame, query, picture)]
        if self._forward is None:
            self._forward = self._open_forward(len(vision))
        if not self._forward.segments:
            entering.insert(0, Segment(SegmentKind.HEAD, -1, self._model.tokens.head))
        needed = sum(len(segment) for segment in entering) + self._reserve
        if needed + len(self._model.tokens.head) > self._policy.max_tokens:
            raise QuestionTooLong(
                f"{self.camera}: picture and question need {needed} tokens, but the context holds {self._policy.max_tokens}; "
                "ask a shorter question or raise context.max_seconds"
            )
        self._forward.evict(self._policy.leaving(self._forward.segments, needed))
        # A decision whose turn has left the context goes with it.
        turns = {segment.turn for segment in self._forward.segments}
        entering = [segment for segment in entering if segment.kind is not SegmentKind.ACTION or segment.turn in turns]
        logits = self._forward.feed(entering, vision)
        self._pending = []
        return logits

    def _open_forward(self, vision_tokens: int) -> CachedForward:
        model, settings = self._model, self._model.settings
        stream = model.checkpoint.stream
        pieces = (model.turns.user_open, model.turns.time, model.turns.frame_open, model.turns.frame_close, model.turns.user_close)
        turn_tokens = vision_tokens + sum(len(model.encode_text(piece)) for piece in pieces)
        turn_tokens += max(len(marker) for marker in model.tokens.markers.values()) + len(model.tokens.action_close)
        self._policy = stream.context_policy(
            settings.context.policy, settings.context.max_seconds, settings.stream.rate_hz, turn_tokens, len(model.tokens.head)
        )
        self._reserve = settings.decision.max_new_tokens + len(model.tokens.action_close)
        return CachedForward(model.checkpoint.model, self._policy.max_tokens)

    def _turn_segments(self, frame: Frame, query: Query | None, picture: NDArray[np.uint8]) -> list[Segment]:
        model, turns, turn = self._model, self._model.turns, self._turn
        if self._first_stamp_ns is None:
            self._first_stamp_ns = frame.stamp_ns
        second = (frame.stamp_ns - self._first_stamp_ns) // NANOSECONDS
        grid = model.checkpoint.pictures.grid(picture.shape[0], picture.shape[1])
        question = turns.query.replace("{query}", model.plain(query.text)) if query is not None else ""
        segments = [
            Segment(SegmentKind.TEXT, turn, model.encode_text(turns.user_open)),
            Segment(SegmentKind.QUERY, turn, model.encode_text(question)),
            Segment(SegmentKind.TEXT, turn, model.encode_text(turns.time.format(start=second, end=second + 1) + turns.frame_open)),
            Segment(SegmentKind.FRAME, turn, (model.tokens.picture,) * (grid[0] * grid[1]), grid),
            Segment(SegmentKind.TEXT, turn, model.encode_text(turns.frame_close + turns.user_close)),
        ]
        return [segment for segment in segments if len(segment)]

    def _decide(self, logits: torch.Tensor) -> Decision:
        states = self._model.tokens.markers
        scores = logits[[marker[0] for marker in states.values()]]
        if not bool(torch.isfinite(scores).all()):
            self.reset()
            raise ModelFault(f"{self.camera}: the model's logits are not finite; its context is cleared (try model.dtype float32)")
        shares = torch.softmax(scores, dim=0).tolist()
        probabilities: Mapping[State, float] = dict.fromkeys(State, 0.0) | dict(zip(states, shares, strict=True))
        state = max(probabilities, key=lambda candidate: probabilities[candidate])
        return Decision(state, probabilities, confidence=probabilities[state])

    def _speak(self, decision: Decision, on_text: Callable[[str], None] | None) -> Decision:
        """Decode the words of a response greedily; the last id stays pending so that a tick never feeds a token twice."""
        assert self._forward is not None
        words, tokens = self._model.words(), self._model.tokens
        fed: tuple[int, ...] = tokens.markers[State.RESPONSE]
        certainties: list[float] = []
        complete = False
        for _ in range(self._model.settings.decision.max_new_tokens):
            logits = self._forward.feed([Segment(SegmentKind.ACTION, self._turn, fed)])
            token = int(logits.argmax())
            if token in tokens.stop:
                complete = True
                break
            certainties.append(float(torch.softmax(logits, dim=0)[token]))
            fed = (token,)
            partial = words.push(token)
            if on_text is not None and partial:
                on_text(partial)
        self._leave_pending((() if complete else fed) + tokens.action_close)
        certainty = sum(certainties) / len(certainties) if certainties else 0.0
        text = words.finish(complete)
        if on_text is not None and text:
            on_text(text)
        return Decision(decision.state, decision.probabilities, text, decision.confidence * certainty)

    def _leave_pending(self, token_ids: tuple[int, ...]) -> None:
        self._pending = [Segment(SegmentKind.ACTION, self._turn, token_ids)] if token_ids else []

    def _clock(self, stage: str, started: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = now - started
        return now
