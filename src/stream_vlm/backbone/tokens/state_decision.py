"""Decides the state from the logits at the end of a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from stream_vlm.backbone.tokens.turn_tokens import TurnTokens
from stream_vlm.types import Decision, State

ASKED = Decision(State.RESPONSE, dict.fromkeys(State, 0.0) | {State.RESPONSE: 1.0}, confidence=1.0)
"""The decision about a question to an instruct model, which it always answers."""


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
    scores = {state: _mass(logits, ids) for state, ids in tokens.firsts.items()}
    if State.RESPONSE not in scores:
        # A response without a marker begins with its first word.
        scores[State.RESPONSE] = first_words(logits, tokens.not_a_first_word).max()
    return most_likely(scores)


def yes_probability(logits: torch.Tensor, tokens: TurnTokens) -> float:
    """P(yes) / (P(yes) + P(no)) from the logits, (vocabulary,), before an instruct model's reply.

    Raises:
        NotFinite: the logits of yes and no are not finite.
    """
    yes, no = (_mass(logits, ids) for ids in tokens.answers)
    if not bool(torch.isfinite(torch.stack([yes, no])).all()):
        raise NotFinite
    return float(torch.sigmoid(yes - no))


def _mass(logits: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """The logit of the sum of the probabilities of `ids`."""
    return logits[ids[0]] if len(ids) == 1 else torch.logsumexp(logits[list(ids)], dim=0)


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
