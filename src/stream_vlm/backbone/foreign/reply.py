"""Chooses the tokens of a reply: the state and the words of a response, or an answer."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.backbone.tokens.detokenizer import WordStream
from stream_vlm.backbone.tokens.state_decision import NotFinite, most_likely
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.types import Decision, State

SEPARATORS = " :,.-\n"
"""Characters that a model may write between the word Response and its sentence."""
ANSWER = Decision(State.RESPONSE, dict.fromkeys(State, 0.0) | {State.RESPONSE: 1.0}, confidence=1.0)
"""The decision to answer a question, which the model is not asked about."""


class Reply:
    """Chooses all tokens of one reply.

    Args:
        checkpoint: the checkpoint.
        sampler: chooses the tokens of the words.
        gate: may change the decided state before any text is written.
        on_text: called with the text so far whenever it has grown.
        longest_words: the most tokens of the words.
        on_decided: called when the state is decided.
        is_answer: whether the reply answers a question. Then its first token is a word, else it is
            that of a state.

    Attributes:
        is_over: whether the reply is complete.
        longest: the most tokens of the reply.
    """

    def __init__(
        self,
        checkpoint: ForeignCheckpoint,
        sampler: TokenSampler,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None,
        longest_words: int,
        on_decided: Callable[[], None],
        *,
        is_answer: bool = False,
    ) -> None:
        self._checkpoint, self._sampler, self._gate, self._on_text, self._on_decided = (
            checkpoint,
            sampler,
            gate,
            on_text,
            on_decided,
        )
        self._words = WordStream(checkpoint.tokenizer)
        self._longest_words = longest_words
        self._is_answer = is_answer
        self._decision: Decision | None = None
        self._marker: list[int] = []
        self._written: list[int] = []
        self._token_probabilities: list[float] = []
        self._is_complete = False
        self.is_over = False
        self.longest = longest_words + 1
        if not is_answer:
            self.longest += max(len(ids) for ids in checkpoint.states[State.RESPONSE])

    def choose(self, logits: torch.Tensor) -> int:
        """Choose the next token from the logits, float32, (vocabulary,).

        Raises:
            NotFinite: the logits are not finite.
        """
        if bool(logits.isnan().any()):
            raise NotFinite
        if self._decision is None:
            self._decision = self._gate(
                ANSWER if self._is_answer else decide(logits, self._checkpoint)
            )
            self._on_decided()
            if self._decision.state is not State.RESPONSE:
                self.is_over = True
                return min(self._checkpoint.stop)
            if not self._is_answer:
                likeliest: tuple[int, ...] = max(
                    self._checkpoint.states[State.RESPONSE], key=lambda ids: float(logits[ids[0]])
                )
                self._marker = list(likeliest)
        if self._marker:
            return self._marker.pop(0)
        words = logits.clone()
        words[self._checkpoint.forbidden] = -torch.inf
        if not self._written:
            # A response has at least one word.
            words[list(self._checkpoint.stop)] = -torch.inf
        token = self._sampler.pick(words, self._written)
        if token in self._checkpoint.stop:
            self.is_over = self._is_complete = True
            return token
        self._token_probabilities.append(float(torch.softmax(words, dim=0)[token]))
        self._written.append(token)
        text = self._words.push(token)
        self._report(text)
        # A report is one sentence; many models go on in a new line.
        self._is_complete = not self._is_answer and "\n" in text.lstrip(SEPARATORS)
        self.is_over = self._is_complete or len(self._written) == self._longest_words
        return token

    def outcome(self) -> Decision:
        """The decision with its words; the reply must be complete."""
        assert self._decision is not None
        if self._decision.state is not State.RESPONSE:
            return self._decision
        certainty = (
            sum(self._token_probabilities) / len(self._token_probabilities)
            if self._token_probabilities
            else 0.0
        )
        text = self._words.finish(self._is_complete).lstrip(SEPARATORS)
        if not self._is_answer:
            text = text.partition("\n")[0].rstrip()
        self._report(text)
        return Decision(
            State.RESPONSE,
            self._decision.probabilities,
            text,
            self._decision.confidence * certainty,
        )

    def _report(self, text: str) -> None:
        text = text.lstrip(SEPARATORS)
        if self._on_text is not None and text:
            self._on_text(text)


def decide(logits: torch.Tensor, checkpoint: ForeignCheckpoint) -> Decision:
    """Decide the state by the first token of the reply.

    Args:
        logits: logits at the end of the chat, (vocabulary,).
        checkpoint: the checkpoint, for the tokens of the states.

    Raises:
        NotFinite: the logits of the states are not finite.
    """
    return most_likely(
        {
            state: torch.logsumexp(logits[sorted({ids[0] for ids in ways})], dim=0)
            for state, ways in checkpoint.states.items()
        }
    )


def probability_of_yes(logits: torch.Tensor, checkpoint: ForeignCheckpoint) -> float:
    """P(yes) / (P(yes) + P(no)) by the first token of the reply.

    Args:
        logits: logits at the end of a question, (vocabulary,).
        checkpoint: the checkpoint, for the tokens of yes and no.

    Raises:
        NotFinite: the logits are not finite.
    """
    scores = torch.stack(
        [
            torch.logsumexp(logits[sorted({ids[0] for ids in ways})], dim=0)
            for ways in (checkpoint.verdicts[True], checkpoint.verdicts[False])
        ]
    )
    if not bool(torch.isfinite(scores).all()):
        raise NotFinite
    return float(torch.softmax(scores, dim=0)[0])
