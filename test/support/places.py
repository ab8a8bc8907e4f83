"""Where the tests find things: the checkout, its parts, and real material beside it."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
REPOSITORY = SUPPORT.parent.parent
SHARED = REPOSITORY.parent / "shared"
