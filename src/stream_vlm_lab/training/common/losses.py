"""Losses: cross entropy, plain, with fixed weights, and as Streaming Harness and Streamo weight it.

Each loss is the sum over all target tokens of (factor * cross entropy), divided by one number. The
factors and the divisor depend on how many targets of each kind the whole step has. They are counted
before the forward pass, over all micro-batches and all processes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from stream_vlm.types import State, StreamError


class NothingToLearn(StreamError):
    """A training step has no target token; the message says where targets come from."""


class TargetKind(enum.IntEnum):
    """The kind of a target token; the losses weight the kinds differently."""

    REST = 0
    """Words, all tokens of a state marker after the first, and the end-of-turn token."""
    FIRST_SILENCE = 1
    """The silence marker of the first silent turn in a row."""
    FURTHER_SILENCE = 2
    """The silence marker of a turn right after another silent turn."""
    STANDBY = 3
    RESPONSE = 4


_STATES = (
    (TargetKind.FIRST_SILENCE, TargetKind.FURTHER_SILENCE),
    (TargetKind.STANDBY,),
    (TargetKind.RESPONSE,),
)


def marker_kinds(states: Iterable[State]) -> list[TargetKind]:
    """Return the kind of each turn's state marker; any other state ends a run of silence."""
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
    """Count the `kinds` (targets,) of each `TargetKind`: int64 (5,)."""
    return torch.bincount(kinds, minlength=len(TargetKind))


def plain_factors(counts: torch.Tensor) -> torch.Tensor:
    """Return 1 for every kind, as StreamingVLM trains on its chunks (arXiv 2510.09608)."""
    return torch.ones(len(TargetKind), device=counts.device)


def harness_factors(further_silence: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the factors of Streaming Harness (arXiv 2606.08615).

    Further silence has the factor `further_silence`, the response marker 1.5, everything else 1.
    """

    def factors(counts: torch.Tensor) -> torch.Tensor:
        by_kind = torch.ones(len(TargetKind), device=counts.device)
        by_kind[TargetKind.FURTHER_SILENCE] = further_silence
        by_kind[TargetKind.RESPONSE] = 1.5
        return by_kind

    return factors


def fixed_factors(counts: torch.Tensor) -> torch.Tensor:
    """Return the factors of the shipped model: standby 1.5, response 4, everything else 1.

    A response is rare and matters most.
    """
    by_kind = torch.ones(len(TargetKind), device=counts.device)
    by_kind[TargetKind.STANDBY], by_kind[TargetKind.RESPONSE] = 1.5, 4.0
    return by_kind


def balancing_factors(counts: torch.Tensor) -> torch.Tensor:
    """Return Streamo's factors (arXiv 2512.21334): `alpha_k = sum_j n_j / (|S| * n_k)`.

    S are the states that occur in the step. A state that does not occur has factor 0, tokens that
    are no state marker have factor 1.
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
        factors: computes the factor of each kind (5,) from the step's counts (5,).
        divides_by_factors: divide by the sum of the targets' factors instead of their number.
        focus: gamma of the focal loss. State markers are scaled by (1 - p)^gamma, where p is the
            probability of the correct token. It must be 0 or at least 1: between 0 and 1 the
            gradient is not finite at p = 1.
    """

    factors: Callable[[torch.Tensor], torch.Tensor]
    divides_by_factors: bool = False
    focus: float = 0.0

    def __post_init__(self) -> None:
        if self.focus != 0.0 and self.focus < 1.0:
            raise ValueError(
                f"focus {self.focus} is neither 0 nor at least 1; the gradient would not be finite"
                " for a token of probability 1"
            )

    def divisor(self, counts: torch.Tensor) -> float:
        """Return the number that the step's sum is divided by.

        Raises:
            NothingToLearn: `counts` (5,) are all zero.
        """
        if int(counts.sum()) == 0:
            raise NothingToLearn(
                "a training step has no token to learn; every turn of a sample has at least its"
                " state, so give samples with turns"
            )
        return float(
            (self.factors(counts) * counts).sum() if self.divides_by_factors else counts.sum()
        )

    def total(
        self, logits: torch.Tensor, targets: torch.Tensor, kinds: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum over the targets of a micro-batch: finite, 0 without targets.

        Args:
            logits: float32 (targets, vocabulary).
            targets: int64 (targets,), the correct token ids.
            kinds: int64 (targets,), the `TargetKind` of each.
            counts: int64 (5,), number of targets of each kind in the whole step.
        """
        entropies = functional.cross_entropy(logits, targets, reduction="none")
        scales = self.factors(counts)[kinds]
        if self.focus:
            # 1 - p, computed so that it stays accurate when p is near 1.
            missing = -torch.expm1(-entropies)
            scales = torch.where(kinds == TargetKind.REST, scales, scales * missing**self.focus)
        return (scales * entropies).sum()

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, kinds: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of a step that has one micro-batch; shapes as for `total`.

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
"""Losses by the name that `--loss` takes.

`ce`, `weighted` and `focal` divide by the number of targets, `weighted-sum` and `fixed` by the sum
of the factors. `weighted` is the loss of the Streaming Harness paper, `weighted-sum` that of its
sister release, `fixed` that of the shipped model, `focal` that of Streamo.
"""
