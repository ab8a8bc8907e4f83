"""Compares one recorded quantity with ours: which values differ, how much, from which round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Comparison:
    """Comparison of one recorded quantity with ours, over all rounds.

    Attributes:
        quantity: name of the quantity.
        tolerance: largest difference that still agrees; 0 for whole numbers, which must be equal.
        compared: number of compared values.
        differing: number of values that differ by more than `tolerance`.
        largest: largest difference; infinite if the shapes differ.
        first_round: first round with a difference; None if there is none.
        close_calls: recorded tokens that are not our best token, but whose logit is within the
            tolerance.
    """

    quantity: str
    tolerance: float = 0.0
    compared: int = 0
    differing: int = 0
    largest: float = 0.0
    first_round: int | None = None
    close_calls: int = 0

    @property
    def agrees(self) -> bool:
        """True if something was compared and nothing differs."""
        return self.compared > 0 and self.differing == 0

    def add(self, number: int, ours: ArrayLike, recorded: ArrayLike) -> None:
        """Compare the values of round `number`."""
        left, right = np.asarray(ours, dtype=np.float64), np.asarray(recorded, dtype=np.float64)
        self.compared += max(right.size, 1)
        if left.shape != right.shape:
            self._differ(number, max(left.size, right.size, 1), float("inf"))
        elif right.size:
            difference = np.abs(left - right)
            # "not <=" instead of ">", so that NaN counts as a difference.
            differing = int((~(difference <= self.tolerance)).sum())
            self.largest = max(self.largest, float(np.nan_to_num(difference, nan=np.inf).max()))
            if differing:
                self._differ(number, differing, self.largest)

    def _differ(self, number: int, differing: int, largest: float) -> None:
        self.differing += differing
        self.largest = max(self.largest, largest)
        self.first_round = number if self.first_round is None else self.first_round
