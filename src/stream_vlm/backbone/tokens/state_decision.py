"""Decides the state from the logits at the end of a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from stream_vlm.backbone.tokens.turn_tokens import TurnTokens
from stream_vlm.types import Decision, State


class NotFinite(ArithmeticError):
    """The logits of the states are not finite numbers."""


def decide_state(logits: torch.Tensor, tokens: TurnTokens) -> Decision:
    """Decide the state from the logits at the end of a turn.

    Args:
        logits: (vocabulary,).
        tokens: the ids of the state markers.

    Raises:
        NotFinite: the logits of the states are not finite.
    """
    scores = {state: logits[marker[0]] for state, marker in tokens.markers.items()}
    if State.RESPONSE not in scores:
        # A response without a marker begins with its first word.
        scores[State.RESPONSE] = first_words(logits, tokens.not_a_first_word).max()
    return most_likely(scores)


def most_likely(scores: Mapping[State, torch.Tensor]) -> Decision:
    """The state with the highest score; a state without a score gets probability 0.

    Args:
        scores: for each state one logit, a tensor of shape ().

    Raises:
        NotFinite: a score is not finite.
    """
    stacked = torch.stack(list(scores.values()))
    if not bool(torch.isfinite(stacked).all()):
        raise NotFinite
    shares = torch.softmax(stacked, dim=0).tolist()
    probabilities: Mapping[State, float] = dict.fromkeys(State, 0.0) | dict(
        zip(scores, shares, strict=True)
    )
    state = max(probabilities, key=lambda candidate: probabilities[candidate])
    return Decision(state, probabilities, confidence=probabilities[state])


def first_words(logits: torch.Tensor, others: Sequence[int]) -> torch.Tensor:
    """A copy of `logits`, (vocabulary,), with -inf for the ids `others`."""
    words = logits.clone()
    words[list(others)] = -torch.inf
    return words
