"""How weights move: Muon for the matrices between layers, AdamW for the rest, one learning rate that rises and falls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

SMALLEST_MATRIX = 128
"""Rows and columns a matrix has at least to be Muon's; vocabularies of this world and heads are narrower."""


class Descent:
    """Both optimizers and their schedules as one.

    Muon makes every direction of a matrix's update equally long (arXiv 2502.16982); a small model sees few steps on a CPU and gains more
    from each. Tables of words, heads, vectors and what has other than two dimensions go to AdamW.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, steps: int, *, warm_up: float) -> None:
        """Begin `steps` steps; `warm_up` is the share of them in which the rate rises to `learning_rate`."""
        self._parameters = list(parameters)
        matrices = [weight for weight in self._parameters if weight.ndim == 2 and min(weight.shape) >= SMALLEST_MATRIX]
        rest = [weight for weight in self._parameters if not any(weight is matrix for matrix in matrices)]
        self._optimizers = [
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=learning_rate, weight_decay=0.05, betas=(0.9, 0.98)),
        ]
        self._schedules = [
            torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=warm_up, cycle_momentum=False)
            for optimizer in self._optimizers
        ]

    def step(self, loss: torch.Tensor) -> None:
        """Move every weight a step down `loss`."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
