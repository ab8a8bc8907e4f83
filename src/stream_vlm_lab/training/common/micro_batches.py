"""A step's loss out of micro-batches of sequences, counted over all of them and all processes
before any forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from stream_vlm_lab.training.common.loop import Part
from stream_vlm_lab.training.common.losses import Objective, count_kinds

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]


class Learnable(Protocol):
    """Sequences with targets."""

    @property
    def targets(self) -> torch.Tensor:
        """int64 (sequences, tokens), the token to be learned after each."""

    @property
    def kinds(self) -> torch.Tensor:
        """int64 (sequences, tokens), the `TargetKind` of each target."""

    @property
    def chosen(self) -> torch.Tensor:
        """bool (sequences, tokens), where something is to be learned."""


def sum_counts(batches: Sequence[Learnable]) -> torch.Tensor:
    """How many targets of each kind (5,) the micro-batches of a step hold together."""
    return torch.stack([count_kinds(batch.kinds[batch.chosen]) for batch in batches]).sum(dim=0)


def objective_parts(
    accelerator: Accelerator, objective: Objective, module: Any, batches: Sequence[Learnable]
) -> list[Part]:
    """The parts of `objective` over `batches`; `module` makes logits (targets, vocabulary) of each,
    in the order of its `chosen`.

    Raises:
        NothingToLearn: no batch of any process holds a target.
    """
    counts = accelerator.reduce(sum_counts(batches), "sum")
    # Parts are averaged over the processes, the loss is a sum over all of them.
    scale = accelerator.num_processes / objective.divisor(counts)

    def part(batch: Learnable) -> torch.Tensor:
        logits = module(batch)
        return (
            objective.total(logits, batch.targets[batch.chosen], batch.kinds[batch.chosen], counts)
            * scale
        )

    return [partial(part, batch) for batch in batches]
