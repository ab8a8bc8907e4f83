"""The loss of a training step that is split into micro-batches and processes.

Targets are counted over all micro-batches and processes before the first forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from stream_vlm_lab.training.common.loop import LossPart
from stream_vlm_lab.training.common.losses import Objective, count_kinds

if TYPE_CHECKING:
    from accelerate import Accelerator


class TargetBatch(Protocol):
    """A batch of sequences with target tokens."""

    @property
    def targets(self) -> torch.Tensor:
        """The token to learn after each token: int64 (sequences, tokens)."""

    @property
    def kinds(self) -> torch.Tensor:
        """The `TargetKind` of each target: int64 (sequences, tokens)."""

    @property
    def chosen(self) -> torch.Tensor:
        """True where there is a target: bool (sequences, tokens)."""


def sum_counts(batches: Sequence[TargetBatch]) -> torch.Tensor:
    """Count the targets of each kind (5,) in all micro-batches of a step."""
    return torch.stack([count_kinds(batch.kinds[batch.chosen]) for batch in batches]).sum(dim=0)


def objective_parts(
    accelerator: Accelerator, objective: Objective, module: Any, batches: Sequence[TargetBatch]
) -> list[LossPart]:
    """Return the loss parts of `objective`, one for each of `batches`.

    Args:
        accelerator: sums the counts over all processes.
        objective: the loss.
        module: returns logits (targets, vocabulary) for a batch, in the order of its `chosen`.
        batches: the micro-batches of this process.

    Raises:
        NothingToLearn: no batch of any process holds a target.
    """
    counts = accelerator.reduce(sum_counts(batches), "sum")
    # The loop averages over the processes, but the loss is a sum over them.
    scale = accelerator.num_processes / objective.divisor(counts)

    def part(batch: TargetBatch) -> torch.Tensor:
        logits = module(batch)
        total = objective.total(
            logits, batch.targets[batch.chosen], batch.kinds[batch.chosen], counts
        )
        return total.mul(scale)

    return [partial(part, batch) for batch in batches]
