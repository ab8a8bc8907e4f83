"""From a question in plain words to the words that are looked for.

What is typed is never query syntax.
"""

from __future__ import annotations

import re
import unicodedata

from stream_vlm.memory.storage.errors import RecallError

_WORD = re.compile(r"[^\W_]+")

QUESTION_WORDS = frozenset(
    _WORD.findall(
        "what when where which who whose how why did do does tell show list see saw seen seeing"
        " notice noticed happen happened happening remember"
    )
)
"""Words that make a sentence a question to the memory; they say nothing about what is looked for."""

STOP_WORDS = QUESTION_WORDS | frozenset(
    _WORD.findall(
        "a an the this that these those it its i me my you your we us our he him his she her they"
        " them their there here is are was were am be been being have has had can could will would"
        " should may might and or of to in at by for from with about as into than then so if but"
        " not last first time times ever any anything something please between since until"
    )
)
"""Words left out of a search beside the words that carry it.

Not among them: on, off, up, down, out, which tell one event from another.
"""

MAX_TEXT_LENGTH = 1000
"""Longest text of a question, in characters."""

MAX_WORDS = 32
"""Most different words of a question that can be looked for."""


def search_words(text: str) -> tuple[str, ...]:
    """The different words of `text` that are looked for, lower case, in their order; none where
    every record may be meant.

    Stop words are dropped while other words remain. A question of nothing else ("what did you
    see?") asks for everything; any other text of nothing else is looked for word by word.

    Raises:
        RecallError: the text is too long, has too many words, or has characters but not one word.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise RecallError(
            f"text: {len(text)} characters are too many; ask in at most {MAX_TEXT_LENGTH}"
        )
    # NFC: a letter and its combining accent are one character, so that an accent does not end a
    # word.
    said = dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", text).casefold()))
    if not said:
        if text.strip():
            raise RecallError(
                f"text: {text!r} has no word in it; ask with words, or leave the text empty to get"
                " everything"
            )
        return ()
    telling = tuple(word for word in said if word not in STOP_WORDS)
    if not telling and not QUESTION_WORDS.isdisjoint(said):
        return ()
    words = telling or tuple(said)
    if len(words) > MAX_WORDS:
        raise RecallError(
            f"text: {len(words)} different words are too many; ask with at most {MAX_WORDS}"
        )
    return words
