"""Optimizers with a learning rate schedule: linear warm-up, then cosine decay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SMALLEST_MATRIX = 128
"""Muon trains matrices with at least this many rows and columns.

The small vocabulary and the output heads have fewer.
"""


@dataclass(frozen=True)
class LearningRateSchedule:
    """A learning rate with linear warm-up and cosine decay.

    Attributes:
        peak: highest learning rate, at the end of the warm-up.
        warm_up: fraction of the training in which the rate rises, in 0..1.
        floor: rate at the start and at the end, as a fraction of `peak`.
    """

    peak: float
    warm_up: float
    floor: float

    def at(self, progress: float) -> float:
        """Return the rate when the fraction `progress` (0..1) of the training is done."""
        if progress < self.warm_up:
            height = progress / self.warm_up
        else:
            decayed = min(1.0, (progress - self.warm_up) / (1.0 - self.warm_up))
            height = 0.5 * (1.0 + math.cos(math.pi * decayed))
        return self.peak * (self.floor + (1.0 - self.floor) * height)


class ScheduledOptimizers:
    """Several optimizers that share one learning rate schedule.

    The rate depends only on the progress of the training, so the schedule has no state to save.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], rate: LearningRateSchedule
    ) -> None:
        self._optimizers = list(optimizers)
        self._rate = rate

    def step(self, progress: float) -> float:
        """Update all weights, clear the gradients and return the learning rate.

        Args:
            progress: fraction of the training that is done, in 0..1.
        """
        rate = self._rate.at(progress)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all optimizers, needed to resume training."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, onto the devices of the weights."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def muon_and_adamw(
    parameters: Sequence[nn.Parameter], rate: LearningRateSchedule
) -> ScheduledOptimizers:
    """Return Muon for the large matrices and AdamW for all other parameters.

    Muon makes every direction of a matrix's update equally long (arXiv 2502.16982). On a CPU a
    small model gets few training steps, and with Muon it learns more in each. Embedding tables,
    output heads, vectors and tensors that are not two-dimensional go to AdamW.
    """
    matrices = [
        weight for weight in parameters if weight.ndim == 2 and min(weight.shape) >= SMALLEST_MATRIX
    ]
    rest = [weight for weight in parameters if not any(weight is matrix for matrix in matrices)]
    return ScheduledOptimizers(
        [
            torch.optim.Muon(
                matrices, lr=rate.peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=rate.peak, weight_decay=0.05, betas=(0.9, 0.98)),
        ],
        rate,
    )


def adamw(parameters: Sequence[nn.Parameter], rate: LearningRateSchedule) -> ScheduledOptimizers:
    """Return AdamW without weight decay for all parameters, as the published systems fine-tune."""
    return ScheduledOptimizers(
        [torch.optim.AdamW(parameters, lr=rate.peak, weight_decay=0.0)], rate
    )
