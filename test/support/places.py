"""Paths of the checkout and of the shared test material."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
REPOSITORY = SUPPORT.parent.parent
SHARED = REPOSITORY.parent / "shared"
