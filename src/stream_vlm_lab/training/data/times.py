"""Times as published annotations write them: seconds as numbers or text, MM:SS, HH:MM:SS."""

from __future__ import annotations

import math
from typing import Any

from stream_vlm_lab.training.data.sample import Reason, RowRefused


def seconds(value: Any) -> float | None:
    """`value` in seconds; None where it is empty.

    Raises:
        RowRefused: it is none of the known forms, negative or not finite.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RowRefused(Reason.UNREADABLE_TIME, f"{value!r}")
    try:
        parts = [float(part) for part in str(value).strip().split(":")]
    except ValueError:
        raise RowRefused(Reason.UNREADABLE_TIME, f"{value!r}") from None
    total = 0.0
    for part in parts:
        total = total * 60 + part
    if len(parts) > 3 or not math.isfinite(total) or any(part < 0 for part in parts):
        raise RowRefused(Reason.UNREADABLE_TIME, f"{value!r}")
    return total


def turn_of(value: float) -> int:
    """Index of the turn that ends at `value` (seconds): 5 is the turn from 4 to 5 s; what comes
    before the first second is the first turn.
    """
    return max(0, int(value) - 1)
