"""How weights move: optimizers under one learning rate that rises and falls with the share of the
training that is done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SMALLEST_MATRIX = 128
"""Rows and columns a matrix has at least to be Muon's; vocabularies of this world and heads are
narrower.
"""


@dataclass(frozen=True)
class Rate:
    """A learning rate that rises in a line from `floor` of its peak and falls back to it as a
    cosine.

    Attributes:
        warm_up: share of the training in which it rises, in 0..1.
    """

    peak: float
    warm_up: float
    floor: float

    def at(self, share: float) -> float:
        """The rate when `share` (0..1) of the training is done."""
        if share < self.warm_up:
            height = share / self.warm_up
        else:
            height = 0.5 * (
                1.0 + math.cos(math.pi * min(1.0, (share - self.warm_up) / (1.0 - self.warm_up)))
            )
        return self.peak * (self.floor + (1.0 - self.floor) * height)


class Descent:
    """Optimizers that move together; the rate is a function of the share done, so that no schedule
    has a state of its own.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], rate: Rate) -> None:
        self._optimizers = list(optimizers)
        self._rate = rate

    def step(self, share: float) -> float:
        """Move every weight down its gradient, forget the gradients, and return the learning rate;
        `share` of the training is done.
        """
        rate = self._rate.at(share)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """What has to be kept for going on later."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, on the devices of the weights."""
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)


def muon_and_adamw(parameters: Sequence[nn.Parameter], rate: Rate) -> Descent:
    """Muon for the matrices between layers, AdamW for the rest.

    Muon makes every direction of a matrix's update equally long (arXiv 2502.16982); a small model
    sees few steps on a CPU and gains more from each. Tables of words, heads, vectors and what has
    other than two dimensions go to AdamW.
    """
    matrices = [
        weight for weight in parameters if weight.ndim == 2 and min(weight.shape) >= SMALLEST_MATRIX
    ]
    rest = [weight for weight in parameters if not any(weight is matrix for matrix in matrices)]
    return Descent(
        [
            torch.optim.Muon(
                matrices, lr=rate.peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=rate.peak, weight_decay=0.05, betas=(0.9, 0.98)),
        ],
        rate,
    )


def adamw(parameters: Sequence[nn.Parameter], rate: Rate) -> Descent:
    """AdamW without decay for everything, as the published systems fine-tune."""
    return Descent([torch.optim.AdamW(parameters, lr=rate.peak, weight_decay=0.0)], rate)
