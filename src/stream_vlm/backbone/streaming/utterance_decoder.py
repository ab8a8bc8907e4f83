"""An utterance while it is written, one token a forward, told by whole words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.tokens.state_decision import first_words
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.types import Decision, State


class Speech:
    """The words of one response.

    Attributes:
        unfed: what the next forward has to append to the context before the next token can be
            chosen; what is left of it at the end stays pending, so that no token is fed twice.
        is_over: True when no further token is to be chosen.
    """

    def __init__(
        self,
        parts: EngineParts,
        sampler: TokenSampler,
        turn: int,
        decision: Decision,
        longest: int,
        on_text: Callable[[str], None] | None,
    ) -> None:
        self._tokens, self._words, self._sampler = parts.tokens, parts.words(), sampler
        self._turn, self._decision, self._longest, self._on_text = turn, decision, longest, on_text
        self._written: list[int] = []
        self._certainties: list[float] = []
        self._is_complete = False
        self.is_over = False
        marker = self._tokens.markers.get(State.RESPONSE, ())
        self.unfed: Sequence[Segment] = [Segment(SegmentKind.STATE, turn, marker)] if marker else []

    def take(self, logits: torch.Tensor) -> None:
        """Choose the next token by `logits`, float32, (vocabulary,), after the last of `unfed`."""
        tokens = self._tokens
        if not self._written and State.RESPONSE not in tokens.markers:
            logits = first_words(logits, tokens.not_a_first_word)
        token = self._sampler.pick(logits, self._written)
        if token in tokens.response_end:
            self._end(complete=True, unfed=[Segment(SegmentKind.STATE, self._turn, (token,))])
        elif token in tokens.stop:
            self._end(complete=True, unfed=[])
        else:
            self._certainties.append(float(torch.softmax(logits, dim=0)[token]))
            self._written.append(token)
            self.unfed = [Segment(SegmentKind.ACTION, self._turn, (token,))]
            self._tell(self._words.push(token))
            if len(self._written) == self._longest:
                self._end(complete=False, unfed=self.unfed)

    def outcome(self) -> Decision:
        """The decision with its words, once the speech is over."""
        certainty = sum(self._certainties) / len(self._certainties) if self._certainties else 0.0
        text = self._words.finish(self._is_complete)
        self._tell(text)
        return Decision(
            self._decision.state,
            self._decision.probabilities,
            text,
            self._decision.confidence * certainty,
        )

    def _end(self, *, complete: bool, unfed: Sequence[Segment]) -> None:
        self._is_complete, self.unfed, self.is_over = complete, unfed, True

    def _tell(self, text: str) -> None:
        if self._on_text is not None and text:
            self._on_text(text)
