"""The tokens with which a model may begin one of several words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence


def first_ids(
    words: Sequence[str], encode: Callable[[str], Sequence[int]], unknown: int | None
) -> list[tuple[int, ...]]:
    """The ids with which a model may begin each of `words`.

    A model writes a word with or without a space before it, with a small or a capital letter. An id
    that may begin several of the words tells nothing and is left out, unless it begins exactly one
    of them as it is given.

    Args:
        words: the words.
        encode: gives the token ids of a text.
        unknown: the id of unknown text, if there is one.
    """

    def begin(*texts: str) -> dict[int, None]:
        return dict.fromkeys(
            ids[0] for text in texts if (ids := encode(text)) and ids[0] != unknown
        )

    exact = [begin(word) for word in words]
    spelt = [begin(word, f" {word}", word.lower(), f" {word.lower()}") for word in words]
    given, seen = (Counter(token for ids in sets for token in ids) for sets in (exact, spelt))
    return [
        tuple(
            token
            for token in ids
            if seen[token] == 1 or (token in exact[place] and given[token] == 1)
        )
        for place, ids in enumerate(spelt)
    ]
