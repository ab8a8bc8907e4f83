"""Find the words to search for in a question; typed text is never query syntax."""

from __future__ import annotations

import re

from stream_vlm.memory.storage.errors import RecallError
from stream_vlm.memory.storage.indexed_text import words_of

_WORD = re.compile(r"[^\W_]+")

QUESTION_WORDS = frozenset(
    _WORD.findall(
        "what when where which who whose how why did do does tell show list see saw seen seeing"
        " notice noticed happen happened happening remember"
    )
)
"""Words that make a sentence a question to the memory; they are not searched for."""

STOP_WORDS = QUESTION_WORDS | frozenset(
    _WORD.findall(
        "a an the this that these those it its i me my you your we us our he him his she her they"
        " them their there here is are was were am be been being have has had can could will would"
        " should may might and or of to in at by for from with about as into than then so if but"
        " not last first time times ever any anything something please between since until"
    )
)
"""Words that are not searched for while other words remain.

On, off, up, down and out are not among them, because they distinguish events.
"""

MAX_TEXT_LENGTH = 1000
"""Longest text of a query, in characters."""

MAX_WORDS = 32
"""Most different words of a query that are searched for."""


def search_words(text: str) -> tuple[str, ...]:
    """Return the different words of `text` to search for, in lower case and in their order.

    Stop words are dropped while other words remain. A question of stop words only ("what did you
    see?") matches every record, so it gives no words. Any other text of stop words only is searched
    for word by word.

    Raises:
        RecallError: the text is too long, has too many words, or has characters but no word.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise RecallError(
            f"text: {len(text)} characters are too many; ask in at most {MAX_TEXT_LENGTH}"
        )
    said = dict.fromkeys(words_of(text))
    if not said:
        if text.strip():
            raise RecallError(
                f"text: {text!r} has no word in it; write words, or leave the text empty to match"
                " every record"
            )
        return ()
    content_words = tuple(word for word in said if word not in STOP_WORDS)
    if not content_words and not QUESTION_WORDS.isdisjoint(said):
        return ()
    words = content_words or tuple(said)
    if len(words) > MAX_WORDS:
        raise RecallError(
            f"text: {len(words)} different words are too many; ask with at most {MAX_WORDS}"
        )
    return words
