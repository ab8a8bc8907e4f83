"""What an instruct model writes around its words and does not mean to be spoken."""

from __future__ import annotations

import re

from stream_vlm.context.instructions import LABELS
from stream_vlm.types import State

_SEPARATORS = r"(?:[\s:;,|>#=~_*`\u2010-\u2015\u2022\uff0c\uff1a]|[-.](?!\d))*"
"""Characters between a label and the words. A minus or a point before a digit belongs to it."""

_LABEL = re.compile(
    rf"{_SEPARATORS}(?:{re.escape(LABELS[State.RESPONSE])}"
    rf"(?=\s*[:*|\n\u2010-\u2015\uff1a-]))?{_SEPARATORS}",
    re.IGNORECASE,
)


def spoken_words(text: str) -> str:
    """The words of `text`, without what a chat model puts before them.

    After a label a model writes a colon, a dash, a line break or marks of bold print, and it may
    write the label before an answer. None of this is spoken; neither are marks of bold print inside
    the words.
    """
    label = _LABEL.match(text)
    return text[label.end() if label else 0 :].replace("**", "").strip()
