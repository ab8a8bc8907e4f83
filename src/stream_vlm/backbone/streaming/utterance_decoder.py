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
        marker: ids that the model is taken to have written before the words; by default those of
            the state marker.
        one_line: whether a line break ends the words.

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
        *,
        marker: tuple[int, ...] | None = None,
        one_line: bool = False,
    ) -> None:
        self._tokens, self._words, self._sampler = parts.tokens, parts.words(), sampler
        self._turn, self._decision, self._longest, self._on_text = turn, decision, longest, on_text
        self._written: list[int] = []
        self._token_probabilities: list[float] = []
        self._is_complete = False
        self._is_instruct, self._one_line = parts.turns.instruct, one_line
        self.is_over = False
        if marker is None:
            marker = self._tokens.markers.get(State.RESPONSE, ())
        self.unfed: Sequence[Segment] = [Segment(SegmentKind.STATE, turn, marker)] if marker else []

    def choose(self, logits: torch.Tensor) -> None:
        """Choose the next token from the logits, float32, (vocabulary,), after `unfed`."""
        tokens = self._tokens
        if not self._written and State.RESPONSE not in tokens.markers:
            logits = first_words(logits, tokens.not_a_first_word)
        elif self._is_instruct and not self._words.text:
            # Only separators are written so far. The model has decided to speak.
            logits = first_words(logits, sorted(tokens.stop))
        token = self._sampler.pick(logits, self._written)
        if token in tokens.response_end:
            self._end(complete=True, unfed=[Segment(SegmentKind.STATE, self._turn, (token,))])
        elif token in tokens.stop:
            self._end(complete=True, unfed=[])
        else:
            self._token_probabilities.append(float(torch.softmax(logits, dim=0)[token]))
            self._written.append(token)
            self.unfed = [Segment(SegmentKind.ACTION, self._turn, (token,))]
            text = self._words.push(token)
            if self._one_line and "\n" in self._words.text:
                self._end(complete=True, unfed=[])
                return
            self._report(text)
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
        if self._one_line:
            text = text.partition("\n")[0].strip()
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
