"""Which simulated streams are for learning and which are for examining."""

from __future__ import annotations

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are never trained on."""
