"""A reply while transformers generates it: the first logits say the state, the words of a response
follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from stream_vlm.backbone.recompute.loader import ForeignCheckpoint
from stream_vlm.backbone.tokens.detokenizer import WordStream
from stream_vlm.backbone.tokens.state_decision import most_likely
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.types import Decision, State

SEPARATORS = " :,.-\n"
"""What a model may write between the word Response and its sentence."""


class Reply:
    """Chooses every token of one reply.

    Attributes:
        is_over: True when no further token is to be chosen.
        longest: tokens that it has at most.
    """

    def __init__(
        self,
        checkpoint: ForeignCheckpoint,
        sampler: TokenSampler,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None,
        longest_words: int,
        on_decided: Callable[[], None],
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
        self._decision: Decision | None = None
        self._marker: list[int] = []
        self._written: list[int] = []
        self._certainties: list[float] = []
        self._is_complete = False
        self.is_over = False
        self.longest = (
            longest_words + max(len(ids) for ids in checkpoint.states[State.RESPONSE]) + 1
        )

    def choose(self, logits: torch.Tensor) -> int:
        """The token that follows, by `logits` (vocabulary,) float32 at the end of everything until
        now.

        Raises:
            NotFinite: the logits say nothing.
        """
        if self._decision is None:
            self._decision = self._gate(decide(logits, self._checkpoint))
            self._on_decided()
            if self._decision.state is not State.RESPONSE:
                self.is_over = True
                return min(self._checkpoint.stop)
            likeliest: tuple[int, ...] = max(
                self._checkpoint.states[State.RESPONSE], key=lambda ids: float(logits[ids[0]])
            )
            self._marker = list(likeliest)
        if self._marker:
            return self._marker.pop(0)
        words = logits.clone()
        words[self._checkpoint.unspeakable] = -torch.inf
        if not self._written:
            # A response says something.
            words[list(self._checkpoint.stop)] = -torch.inf
        token = self._sampler.pick(words, self._written)
        if token in self._checkpoint.stop:
            self.is_over = self._is_complete = True
            return token
        self._certainties.append(float(torch.softmax(words, dim=0)[token]))
        self._written.append(token)
        self._tell(self._words.push(token))
        self.is_over = len(self._written) == self._longest_words
        return token

    def outcome(self) -> Decision:
        """The decision with its words, once the reply is over."""
        assert self._decision is not None
        if self._decision.state is not State.RESPONSE:
            return self._decision
        certainty = sum(self._certainties) / len(self._certainties) if self._certainties else 0.0
        text = self._words.finish(self._is_complete).lstrip(SEPARATORS)
        self._tell(text)
        return Decision(
            State.RESPONSE,
            self._decision.probabilities,
            text,
            self._decision.confidence * certainty,
        )

    def _tell(self, text: str) -> None:
        text = text.lstrip(SEPARATORS)
        if self._on_text is not None and text:
            self._on_text(text)


def decide(logits: torch.Tensor, checkpoint: ForeignCheckpoint) -> Decision:
    """The state that `logits` (vocabulary,) at the end of a chat say: that of the word which begins
    the reply.

    Raises:
        NotFinite: they are not numbers.
    """
    return most_likely(
        {
            state: torch.logsumexp(logits[sorted({ids[0] for ids in ways})], dim=0)
            for state, ways in checkpoint.states.items()
        }
    )


class ChosenByReply(LogitsProcessor):
    """Lets transformers' loop take the tokens that a `Reply` chooses."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        """Scores (1, vocabulary) of which only the chosen token's is finite."""
        token = self._reply.choose(scores[0].float())
        chosen = torch.full_like(scores, -torch.inf)
        chosen[0, token] = 0.0
        return chosen


class OverWithReply(StoppingCriteria):
    """Ends transformers' loop where a `Reply` ends."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> Any:
        """Whether each row, of which there is one, is over."""
        return torch.full((input_ids.shape[0],), self._reply.is_over, device=input_ids.device)
