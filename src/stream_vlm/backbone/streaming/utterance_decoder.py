"""Decodes an utterance, one token for each forward pass, and reports it in whole words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.tokens.state_decision import first_words
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.types import Decision, State


class UtteranceDecoder:
    """Chooses the tokens of one response.

    Args:
        parts: what all streams of the checkpoint share.
        sampler: chooses tokens.
        turn: number of the turn.
        decision: the decision to respond.
        longest: the most tokens of the utterance.
        on_text: called with the text so far whenever it has grown.

    Attributes:
        unfed: segments that the next forward pass appends to the context, before the next token can
            be chosen. At the end they stay pending until the next turn, so no token is fed twice.
        is_over: whether the utterance is complete.
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
        self._token_probabilities: list[float] = []
        self._is_complete = False
        self.is_over = False
        marker = self._tokens.markers.get(State.RESPONSE, ())
        self.unfed: Sequence[Segment] = [Segment(SegmentKind.STATE, turn, marker)] if marker else []

    def choose(self, logits: torch.Tensor) -> None:
        """Choose the next token from the logits, float32, (vocabulary,), after `unfed`."""
        tokens = self._tokens
        if not self._written and State.RESPONSE not in tokens.markers:
            logits = first_words(logits, tokens.not_a_first_word)
        token = self._sampler.pick(logits, self._written)
        if token in tokens.response_end:
            self._end(complete=True, unfed=[Segment(SegmentKind.STATE, self._turn, (token,))])
        elif token in tokens.stop:
            self._end(complete=True, unfed=[])
        else:
            self._token_probabilities.append(float(torch.softmax(logits, dim=0)[token]))
            self._written.append(token)
            self.unfed = [Segment(SegmentKind.ACTION, self._turn, (token,))]
            self._report(self._words.push(token))
            if len(self._written) == self._longest:
                self._end(complete=False, unfed=self.unfed)

    def outcome(self) -> Decision:
        """The decision with its words; the utterance must be complete."""
        certainty = (
            sum(self._token_probabilities) / len(self._token_probabilities)
            if self._token_probabilities
            else 0.0
        )
        text = self._words.finish(self._is_complete)
        self._report(text)
        return Decision(
            self._decision.state,
            self._decision.probabilities,
            text,
            self._decision.confidence * certainty,
        )

    def _end(self, *, complete: bool, unfed: Sequence[Segment]) -> None:
        self._is_complete, self.unfed, self.is_over = complete, unfed, True

    def _report(self, text: str) -> None:
        if self._on_text is not None and text:
            self._on_text(text)
