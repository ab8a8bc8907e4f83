"""Chat requests as a model reads them: tokens with pictures between them, and a prefix cache."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Tokens of a block of the prefix cache; only whole blocks are found again."""

PICTURE_TOKENS = 24


class Refused(Exception):
    """The server answers with an error status.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Vocabulary:
    """Gives every piece of text an id; words of more than five letters have two pieces."""

    ids: dict[str, int] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of `text`."""
        pieces = re.findall(r"\w{1,5}|\s|[^\w\s]", text)
        return [self.ids.setdefault(piece, len(self.ids) + 100) for piece in pieces]

    def piece(self, token: int) -> str:
        """The text of a token."""
        return next(text for text, number in self.ids.items() if number == token)


@dataclass
class PictureCache:
    """Pictures by their uuid, with the traps of vLLM.

    Attributes:
        kept: pictures that came with a request that was answered.
        half: names that came with a request that was refused; naming one fails.
    """

    kept: dict[str, str] = field(default_factory=dict)
    half: set[str] = field(default_factory=set)

    def url(self, part: Mapping[str, Any], index: int) -> str:
        """The data URL of a picture part.

        Raises:
            Refused: it was sent by name alone, and the name is not known.
        """
        url, name = part["image_url"].get("url"), part.get("uuid")
        if url is not None:
            return str(url)
        if name in self.half:
            raise Refused(500, "Internal server error")
        if name not in self.kept:
            raise Refused(400, f"Cache miss for image at index {index}, but data is not provided.")
        return self.kept[name]


@dataclass(frozen=True)
class Prompt:
    """What the model reads.

    Attributes:
        text: all text, with <picture> for each picture.
        question: the last text of the last user message.
        begun: the beginning of the reply, or empty.
        pictures: uint8 RGB, (H, W, 3), oldest first.
        names: for each picture its uuid, or empty.
        tokens: what the prefix cache compares.
    """

    text: str
    question: str
    begun: str
    pictures: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    tokens: tuple[object, ...]


def read_prompt(
    messages: Sequence[Mapping[str, Any]],
    *,
    continues: bool,
    cache: PictureCache | None,
    vocabulary: Vocabulary,
) -> Prompt:
    """Write the messages with the chat template of the Qwen family.

    Args:
        messages: the messages of the request.
        continues: whether the last message is the beginning of the reply.
        cache: pictures that may be sent by name; None for a server that has no such cache.
        vocabulary: gives the ids of the text.

    Raises:
        Refused: the messages are not a chat, or a picture is missing.
    """
    text, tokens, question, begun = "", list[object](), "", ""
    pictures: list[NDArray[np.uint8]] = []
    names: list[str] = []

    def write(more: str) -> None:
        nonlocal text
        text += more
        tokens.extend(vocabulary.encode(more))

    roles = [message["role"] for message in messages]
    if any(one == two for one, two in itertools.pairwise(roles)):
        raise Refused(400, "Conversation roles must alternate user/assistant/user/assistant/...")
    for number, message in enumerate(messages):
        write(f"<|im_start|>{message['role']}\n")
        parts: Any = message["content"]
        listed: list[Any] = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        for part in listed:
            if part["type"] == "text":
                write(part["text"])
                question = part["text"].strip() if message["role"] == "user" else question
                continue
            url = part["image_url"]["url"] if cache is None else cache.url(part, len(pictures))
            if not url:
                raise Refused(400, "Invalid 'url' of an image: expected a string, got None")
            pictures.append(decoded(url))
            names.append(part.get("uuid") or "")
            # vLLM names a block by the uuid where there is one, and does not look at the picture.
            digest = (cache is not None and names[-1]) or hashlib.sha256(url.encode()).hexdigest()
            text += "<picture>"
            tokens.extend((digest, place) for place in range(PICTURE_TOKENS))
        if continues and number == len(messages) - 1:
            begun = str(parts)
        else:
            write("<|im_end|>\n")
    if not continues:
        write("<|im_start|>assistant\n")
    return Prompt(text, question, begun, tuple(pictures), tuple(names), tuple(tokens))


def decoded(url: str) -> NDArray[np.uint8]:
    """The picture of a data URL, uint8 RGB, (H, W, 3)."""
    data = base64.b64decode(url.partition("base64,")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise Refused(400, "cannot identify image file")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass
class PrefixCache:
    """Knows the prefixes of earlier prompts, block by block; another salt is another cache."""

    blocks: set[tuple[object, ...]] = field(default_factory=set)

    def take(self, tokens: tuple[object, ...], salt: str) -> int:
        """Add a prompt and return how many of its first tokens an earlier prompt had.

        The last token never counts, because a server must compute at least one.
        """
        ends = range(BLOCK, len(tokens), BLOCK)
        known = 0
        for end in ends:
            if (salt, *tokens[:end]) not in self.blocks:
                break
            known = end
        self.blocks |= {(salt, *tokens[:end]) for end in ends}
        return known
