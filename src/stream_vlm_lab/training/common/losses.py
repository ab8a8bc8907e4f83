"""What a token that is to be learned costs: plain cross entropy, fixed weights, and the losses of
Streaming Harness and Streamo.

All of them are a sum over the targets of factor * cross entropy, divided once. Factors and divisor
follow from how many targets of each kind there are in the whole step, so that they can be counted
before any forward, over every micro-batch and every process.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from stream_vlm.types import State, StreamError


class NothingToLearn(StreamError):
    """A step holds no target; the message says where targets come from."""


class TargetKind(enum.IntEnum):
    """What a target is; the losses differ in what they make of it."""

    REST = 0
    """Words, further tokens of a marker, and what ends the model's part."""
    FIRST_SILENCE = 1
    """The marker of the first silence of a run."""
    FURTHER_SILENCE = 2
    """The marker of a silence right after another."""
    STANDBY = 3
    RESPONSE = 4


_STATES = (
    (TargetKind.FIRST_SILENCE, TargetKind.FURTHER_SILENCE),
    (TargetKind.STANDBY,),
    (TargetKind.RESPONSE,),
)


def marker_kinds(states: Iterable[State]) -> list[TargetKind]:
    """The kind of each turn's state marker; any other state ends a run of silence."""
    kinds: list[TargetKind] = []
    was_silent = False
    for state in states:
        if state is State.SILENCE:
            kinds.append(TargetKind.FURTHER_SILENCE if was_silent else TargetKind.FIRST_SILENCE)
        else:
            kinds.append(TargetKind.STANDBY if state is State.STANDBY else TargetKind.RESPONSE)
        was_silent = state is State.SILENCE
    return kinds


def count_kinds(kinds: torch.Tensor) -> torch.Tensor:
    """How many of `kinds` (targets,) are of each `TargetKind`: int64 (5,)."""
    return torch.bincount(kinds, minlength=len(TargetKind))


def plain_factors(counts: torch.Tensor) -> torch.Tensor:
    """1 for every kind: cross entropy, as StreamingVLM trains on its chunks (arXiv 2510.09608)."""
    return torch.ones(len(TargetKind), device=counts.device)


def harness_factors(further_silence: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Streaming Harness (arXiv 2606.08615): silence that goes on counts less, the response marker
    1.5, everything else 1.
    """

    def factors(counts: torch.Tensor) -> torch.Tensor:
        by_kind = torch.ones(len(TargetKind), device=counts.device)
        by_kind[TargetKind.FURTHER_SILENCE] = further_silence
        by_kind[TargetKind.RESPONSE] = 1.5
        return by_kind

    return factors


def fixed_factors(counts: torch.Tensor) -> torch.Tensor:
    """What the shipped model is trained with: standby counts 1.5 and a response, which is rare and
    matters most, 4.
    """
    by_kind = torch.ones(len(TargetKind), device=counts.device)
    by_kind[TargetKind.STANDBY], by_kind[TargetKind.RESPONSE] = 1.5, 4.0
    return by_kind


def balancing_factors(counts: torch.Tensor) -> torch.Tensor:
    """Streamo (arXiv 2512.21334): alpha_k = sum_j n_j / (|S| * n_k) over the states S that are
    present; 0 for an absent one, 1 for the rest.
    """
    by_kind = torch.ones(len(TargetKind), device=counts.device)
    numbers = [int(sum(counts[kind] for kind in kinds)) for kinds in _STATES]
    present = sum(number > 0 for number in numbers)
    for kinds, number in zip(_STATES, numbers, strict=True):
        by_kind[list(kinds)] = sum(numbers) / (present * number) if number else 0.0
    return by_kind


@dataclass(frozen=True)
class Objective:
    """One of the losses.

    Attributes:
        factors: factor of each kind (5,) from the step's counts (5,).
        divides_by_factors: divide by the sum of the targets' factors instead of their number.
        focus: gamma; state markers are scaled by (1 - p)^gamma, p being the probability of the
            right token. 0 or at least 1, below which the gradient of a certain token is not finite.
    """

    factors: Callable[[torch.Tensor], torch.Tensor]
    divides_by_factors: bool = False
    focus: float = 0.0

    def __post_init__(self) -> None:
        if self.focus != 0.0 and self.focus < 1.0:
            raise ValueError(
                f"focus {self.focus} is neither 0 nor at least 1; the gradient of a certain token"
                " would not be finite"
            )

    def divisor(self, counts: torch.Tensor) -> float:
        """What the step's sum is divided by.

        Raises:
            NothingToLearn: `counts` (5,) are all zero.
        """
        if int(counts.sum()) == 0:
            raise NothingToLearn(
                "a step holds no token to be learned; every turn of a sample brings at least its"
                " state, so give samples with turns"
            )
        return float(
            (self.factors(counts) * counts).sum() if self.divides_by_factors else counts.sum()
        )

    def total(
        self, logits: torch.Tensor, targets: torch.Tensor, kinds: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """The sum over the targets of a micro-batch; finite, and 0 where there are none.

        Args:
            logits: float32 (targets, vocabulary).
            targets: int64 (targets,), the right token.
            kinds: int64 (targets,), its `TargetKind`.
            counts: int64 (5,), of the whole step.
        """
        entropies = functional.cross_entropy(logits, targets, reduction="none")
        scales = self.factors(counts)[kinds]
        if self.focus:
            # 1 - p without the cancellation that p near 1 would bring.
            missing = -torch.expm1(-entropies)
            scales = torch.where(kinds == TargetKind.REST, scales, scales * missing**self.focus)
        return (scales * entropies).sum()

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, kinds: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a step of one micro-batch; shapes as for `total`.

        Raises:
            NothingToLearn: there is no target.
        """
        counts = count_kinds(kinds)
        return self.total(logits, targets, kinds, counts) / self.divisor(counts)


OBJECTIVES = {
    "ce": Objective(plain_factors),
    "weighted": Objective(harness_factors(further_silence=0.8)),
    "weighted-sum": Objective(harness_factors(further_silence=0.4), divides_by_factors=True),
    "fixed": Objective(fixed_factors, divides_by_factors=True),
    "focal": Objective(balancing_factors, focus=2.0),
}
"""By the name that `--loss` takes.

`weighted` is the paper's, divided by the number of targets; `weighted-sum` its sister release's,
divided by the sum of factors; `fixed` is the shipped model's, divided likewise; `focal` divides by
the number of targets.
"""
