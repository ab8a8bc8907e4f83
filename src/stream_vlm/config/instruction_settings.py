"""The setting `instructions`: what is allowed in the list, and what an empty list stands for."""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

DEFAULT_INSTRUCTIONS = (
    "people, vehicles or animals that come or go",
    "things that are taken, put down, opened, closed, switched on or off, knocked over or spilt",
    "anything dangerous, such as a person who has fallen, fire, smoke or water on the floor",
)
"""The standing instructions of a model that was not tuned for streams, unless others are set."""

MAX_INSTRUCTIONS = 100
"""Each is one more question about each picture, so more than these would never keep up."""
MAX_CHARACTERS = 500


def _split(given: object) -> object:
    """Read a text, as the command line gives it: a JSON list, or one instruction a line."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError(
                "it begins with '[' but is no JSON list; write for example"
                ' ["people who come in", "a door that opens"], or one instruction without brackets'
            ) from None
    return [line for line in given.splitlines() if line.strip()]


def _check(instructions: list[str]) -> list[str]:
    """Return the instructions with single spaces.

    Raises:
        ValueError: one is blank, too long, given twice or no text, or there are too many.
    """
    if len(instructions) > MAX_INSTRUCTIONS:
        raise ValueError(
            f"there are {len(instructions)} instructions; give at most {MAX_INSTRUCTIONS}, for each"
            " is one more question about each picture"
        )
    words = []
    for number, given in enumerate(instructions, 1):
        try:
            given.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"instruction {number} has half a character; write it again in UTF-8"
            ) from None
        text = " ".join(unicodedata.normalize("NFC", given).split())
        if not any(character.isalnum() for character in text):
            raise ValueError(f"instruction {number} has no words; write it in plain words")
        if len(text) > MAX_CHARACTERS:
            raise ValueError(
                f"instruction {number} has {len(text)} characters; write at most {MAX_CHARACTERS}"
            )
        if text in words:
            raise ValueError(f"'{text[:80]}' is given twice; leave one of them out")
        words.append(text)
    return words


Instructions = Annotated[list[str], BeforeValidator(_split), AfterValidator(_check)]
"""Type of the setting: sentences in plain words, in any language."""
