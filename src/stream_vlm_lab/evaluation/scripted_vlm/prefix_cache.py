"""Counts the tokens of a prompt that a server with a prefix cache would not compute again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

Piece = tuple[str, int]
"""A part of a prompt and its tokens."""


class PrefixCache:
    """Remembers beginnings of prompts, part by part.

    Args:
        most: how many parts are remembered; the oldest are forgotten.
    """

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def read(self, pieces: Iterable[Piece]) -> int:
        """Take in a prompt; return how many of its first tokens were known already."""
        chain, cached, still = b"", 0, True
        for piece, tokens in pieces:
            chain = hashlib.blake2b(chain + piece.encode(), digest_size=16).digest()
            still = still and chain in self._known
            if still:
                cached += tokens
            self._known[chain] = None
            self._known.move_to_end(chain)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return cached
