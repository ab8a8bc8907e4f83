"""The prompt that asks a model for a caption, and the caption in its reply.

This module knows no model and no database.
"""

from __future__ import annotations

import re

from stream_vlm.memory.summaries.prompt import whole_sentences, without_reasoning

TASK = (
    "Describe this picture of a robot's camera in one or two plain sentences, at most {max_chars}"
    " characters. Say which people, animals and objects are there, where they are and what they do,"
    " with colours and with words that can be read. Say nothing that the picture does not show."
    " Write no list and no introduction."
)

LANGUAGE = " Write in {language}."
"""Added to `TASK` if the sentences are to be in another language."""

_INTRODUCTION = re.compile(
    r"^(the|this) (image|picture|photo|frame|scene) (shows|depicts|contains|features)( that)?\s+",
    re.IGNORECASE,
)
_LIST_MARK = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|#+)\s+", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"\*\*|__|~~|`+|(?<!\w)[*_](?=\w)|(?<=[\w.!?])[*_](?!\w)")
_ENDS = tuple(".!?…\u3002\uff01\uff1f")
"""The last three end sentences in Chinese and Japanese."""


def caption_task(max_chars: int, language: str = "") -> str:
    """Return the instruction for a caption of at most `max_chars` characters.

    Args:
        max_chars: limit of the caption.
        language: name of the language of the caption, or empty.
    """
    return TASK.format(max_chars=max_chars) + (
        LANGUAGE.replace("{language}", language) if language else ""
    )


def caption_in(reply: str, max_chars: int) -> str:
    """Return the caption in the `reply` of a model: plain whole sentences in one line.

    It is empty if the reply has no words, or if not even its first sentence fits.
    """
    plain = _LINK.sub(r"\1", _LIST_MARK.sub("", reply))
    text = _INTRODUCTION.sub("", without_reasoning(_MARKS.sub("", plain)).strip("\"“”' "))
    if not any(letter.isalnum() for letter in text):
        return ""
    text = text[0].upper() + text[1:]
    cut = whole_sentences(text, max_chars)
    if len(cut) > max_chars:
        return ""
    if not cut.endswith(_ENDS):
        # The end of an unfinished sentence is left out if there is a whole one before it.
        whole = whole_sentences(cut, len(cut) - 1)
        cut = whole if whole.endswith(_ENDS) else cut
    return cut
