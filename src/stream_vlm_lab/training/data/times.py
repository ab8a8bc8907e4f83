"""Parses the times in published annotations: seconds as number or text, MM:SS, HH:MM:SS."""

from __future__ import annotations

import math
from typing import Any

from stream_vlm_lab.training.data.sample import RefusalReason, RowRefused


def seconds(value: Any) -> float | None:
    """Parse `value` to seconds; returns None if it is empty.

    Raises:
        RowRefused: the value has none of the known forms, is negative or not finite.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RowRefused(RefusalReason.UNREADABLE_TIME, f"{value!r}")
    try:
        parts = [float(part) for part in str(value).strip().split(":")]
    except ValueError:
        raise RowRefused(RefusalReason.UNREADABLE_TIME, f"{value!r}") from None
    total = 0.0
    for part in parts:
        total = total * 60 + part
    if len(parts) > 3 or not math.isfinite(total) or any(part < 0 for part in parts):
        raise RowRefused(RefusalReason.UNREADABLE_TIME, f"{value!r}")
    return total


def turn_of(value: float) -> int:
    """Index of the 1 s turn that ends at `value` seconds.

    5 is the turn from 4 to 5 s. Times before 1 s belong to the first turn.
    """
    return max(0, int(value) - 1)
