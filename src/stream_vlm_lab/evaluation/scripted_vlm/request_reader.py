"""Reads a request of the OpenAI chat protocol: pictures, time markers, and what is asked."""

from __future__ import annotations

import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from stream_vlm.context import instructions
from stream_vlm.types import StreamError
from stream_vlm_lab.evaluation.scripted_vlm import one_watch_texts
from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import (
    NoMark,
    PictureSource,
    read_mark,
)
from stream_vlm_lab.evaluation.scripted_vlm.prefix_cache import Piece

Known = tuple[PictureSource | None, int]
"""Where a picture comes from, and its vision tokens."""
_DATA_URL = "data:image/"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class BadRequest(StreamError):
    """A request does not follow the protocol; the message is what a server would say."""


@dataclass(frozen=True)
class Shown:
    """A picture of a request.

    Attributes:
        source: where it comes from; None for a picture without a mark, which shows nothing.
        label_s: the time that the text before it names, seconds; None if it names none.
    """

    source: PictureSource | None
    label_s: float | None


@dataclass(frozen=True)
class Report:
    """Something that was reported before.

    Attributes:
        text: the words.
        label_s: the time of the report as the frames' labels count it, seconds; None if unknown.
    """

    text: str
    label_s: float | None


@dataclass(frozen=True)
class Asked:
    """What a request shows and asks.

    Attributes:
        pictures: the pictures, oldest first.
        instruction: the instruction that the newest picture is judged for; empty if none is.
        reported: the report that the question names, or None.
        own_words: the model's own earlier words in the chat, oldest first, each with the time of
            the picture before it.
        verify: the sentence whose truth is asked, or empty.
        question: the user's question; empty if an instruction is judged or a sentence verified.
        started: the beginning of the reply that the request wants continued, or empty.
        pieces: the prompt in parts, each with about how many tokens it has.
    """

    pictures: tuple[Shown, ...]
    instruction: str
    reported: Report | None
    own_words: tuple[Report, ...]
    verify: str
    question: str
    started: str
    pieces: tuple[Piece, ...]


def _pattern(template: str, **groups: str) -> re.Pattern[str]:
    """`template` as a pattern; each `{name}` becomes the given group."""
    parts = re.split(r"\{(\w+)\}", template)
    written = [groups[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    return re.compile("".join(written), re.DOTALL)


_TEXT = r"(?P<{}>.*?)"
_REPORTED = _pattern(
    instructions.REPORTED, seconds=r"(?P<seconds>[\d.]+)", report=_TEXT.format("report")
)
_JUDGE = _pattern(
    instructions.JUDGE,
    instruction=_TEXT.format("instruction"),
    reported=_TEXT.format("reported"),
)
_VERIFY = _pattern(instructions.VERIFY, report=_TEXT.format("report"))
_WATCH = _pattern(one_watch_texts.WATCH, query=_TEXT.format("instruction"))


class RequestReader:
    """Reads requests; it knows the pictures of earlier requests by their uuid.

    Args:
        most_pictures: how many pictures are remembered.
    """

    def __init__(self, most_pictures: int = 4096) -> None:
        self._most = most_pictures
        self._by_uuid: OrderedDict[str, Known] = OrderedDict()
        self._by_url: OrderedDict[str, Known] = OrderedDict()

    def read(self, request: Mapping[str, Any]) -> Asked:
        """What `request` shows and asks.

        Raises:
            BadRequest: a message or a picture cannot be read, or a uuid is unknown.
        """
        walk = _Walk()
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequest("messages: a list with at least one message is needed")
        *earlier, last = messages
        for message in earlier:
            self._take(message, walk, is_last=False)
        self._take(last, walk, is_last=True)
        return walk.asked()

    def _take(self, message: Mapping[str, Any], walk: _Walk, *, is_last: bool) -> None:
        role, content = message.get("role"), message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if role not in ("system", "user", "assistant") or not isinstance(parts, list):
            raise BadRequest(f"messages: a message of role {role!r} cannot be read")
        for part in parts:
            kind = part.get("type")
            if kind == "text":
                walk.text(str(role), str(part["text"]), is_last)
            elif kind == "image_url":
                walk.picture(*self._picture(part), name=str(part.get("uuid") or part["image_url"]))
            else:
                raise BadRequest(f"messages: a part of type {kind!r} is not supported")

    def _picture(self, part: Mapping[str, Any]) -> Known:
        uuid = str(part.get("uuid") or "")
        url = (part.get("image_url") or {}).get("url")
        if not url:
            if uuid not in self._by_uuid:
                raise BadRequest(f"Cache miss for image {uuid!r}: send its bytes")
            return self._by_uuid[uuid]
        if url not in self._by_url:
            self._remember(self._by_url, url, _decoded(url))
        if uuid:
            self._remember(self._by_uuid, uuid, self._by_url[url])
        return self._by_url[url]

    def _remember(
        self,
        known: OrderedDict[str, Known],
        key: str,
        picture: Known,
    ) -> None:
        known[key] = picture
        while len(known) > self._most:
            known.popitem(last=False)


@dataclass
class _Walk:
    """Collects what the parts of a request say, in their order."""

    shown: list[Shown] = field(default_factory=list)
    own_words: list[Report] = field(default_factory=list)
    watch: str = ""
    newest_text: str = ""
    started: str = ""
    pieces: list[Piece] = field(default_factory=list)
    _last_text: str = ""

    def text(self, role: str, text: str, is_last: bool) -> None:
        self.pieces.append((f"{role} {text}", len(text) // 4 + 1))
        if role == "assistant":
            if is_last:
                self.started = text
            else:
                self.own_words.append(Report(text, self.shown[-1].label_s if self.shown else None))
                self.newest_text = ""
        elif role == "user":
            begun = _WATCH.search(text)
            if begun:
                self.watch = begun["instruction"]
            self._last_text = text
            self.newest_text += text

    def picture(self, source: PictureSource | None, tokens: int, name: str) -> None:
        label = _NUMBER.search(self._last_text)
        self.shown.append(Shown(source, float(label[0]) if label else None))
        self.pieces.append((f"picture {name}", tokens))
        self._last_text = self.newest_text = ""

    def asked(self) -> Asked:
        judged = _last_match(_JUDGE, self.newest_text)
        verify = _last_match(_VERIFY, self.newest_text)
        sentence = verify["report"] if verify else ""
        instruction, reported = "", None
        if judged and not sentence:
            instruction = judged["instruction"]
            told = _REPORTED.search(judged["reported"])
            if told:
                reported = Report(told["report"], float(told["seconds"]))
        elif one_watch_texts.JUDGE.strip() in self.newest_text:
            instruction = self.watch
        return Asked(
            tuple(self.shown),
            instruction,
            reported,
            tuple(self.own_words),
            sentence,
            "" if instruction or sentence else self.newest_text.strip(),
            self.started,
            tuple(self.pieces),
        )


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


def _decoded(url: str) -> Known:
    """The source of a picture in a data URL, and its tokens: one for each 28 x 28 pixels."""
    if not url.startswith(_DATA_URL):
        raise BadRequest("image_url: only data URLs are read, such as data:image/jpeg;base64,")
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise BadRequest(f"image_url: the picture is not base64 ({error})") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise BadRequest("image_url: the picture cannot be decoded")
    height, width = image.shape[:2]
    tokens = max(1, round(height / 28)) * max(1, round(width / 28))
    try:
        return read_mark(np.asarray(image, np.uint8)), tokens
    except NoMark:
        return None, tokens
