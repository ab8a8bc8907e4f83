"""What a server is told about one camera: a chat that only grows, so that its prefix cache hits."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_vlm.backbone.remote.pictures import SentPicture
from stream_vlm.context.turn_formats import INSTRUCT, PLAIN_TIME

NOTHING_KNOWN: frozenset[str] = frozenset()
KEPT_SHARE = 0.5
"""Share of the pictures that stay when the context is full.

A server computes everything after the first change again. So much leaves at once, but seldom.
"""


def time_marker(model: str) -> str:
    """The time marker that a model knows best.

    Args:
        model: its name, and the path of its weights if that is known.
    """
    return INSTRUCT.time if "qwen3" in model.casefold() else PLAIN_TIME


Message = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A picture and its time, seconds since the first frame."""

    second: float
    picture: SentPicture


@dataclass(frozen=True)
class Said:
    """Words that the robot said unprompted."""

    text: str


@dataclass(frozen=True)
class Asked:
    """A question and its answer."""

    question: str
    answer: str


@dataclass
class Conversation:
    """The chat with a server about one camera.

    It has a system message, what happened before as text, and then user messages with pictures. A
    user message grows with every tick; what was said or answered ends it. A question about the
    newest picture is written behind it for one request only and is never kept.

    Attributes:
        system: the system prompt.
        time: the time marker of a picture.
        before: lines about what happened before the first picture, oldest first.
        entries: the pictures, words and answers, oldest first.
    """

    system: str
    time: str = INSTRUCT.time
    before: Sequence[str] = ()
    entries: list[Seen | Said | Asked] = field(default_factory=list)

    @property
    def pictures(self) -> list[Seen]:
        """The pictures, oldest first."""
        return [entry for entry in self.entries if isinstance(entry, Seen)]

    @property
    def seconds(self) -> float:
        """The time from the first picture to the last, seconds."""
        seen = self.pictures
        return seen[-1].second - seen[0].second if seen else 0.0

    def drop_oldest(self, kept: int) -> None:
        """Keep the newest `kept` pictures and what was said since the first of them."""
        seen = self.pictures
        if len(seen) <= kept:
            return
        first = seen[len(seen) - kept] if kept else None
        self.entries = self.entries[self.entries.index(first) :] if first is not None else []

    def messages(
        self, question: str, begun: str = "", known: Container[str] = NOTHING_KNOWN
    ) -> list[Message]:
        """The chat with `question` behind it.

        Args:
            question: the last text of the last user message.
            begun: the beginning of the reply that the model must continue, or empty.
            known: names of the pictures that the server has, which are sent by name alone.
        """
        messages: list[Message] = [{"role": "system", "content": self.system}]
        if self.before:
            lines = "".join(f"{line}\n" for line in self.before)
            _user(messages).append(_text(f"[Video History]\n{lines}"))
        for entry in self.entries:
            if isinstance(entry, Seen):
                # The parts stand one after the other as in the prompt of the cached engine.
                start = int(entry.second)
                marker = self.time.format(start=start, end=start + 1, time=f"{entry.second:.1f}")
                url = None if entry.picture.name in known else entry.picture.url
                _user(messages).extend([_text(marker), _picture(entry.picture.name, url)])
            elif isinstance(entry, Said):
                _say(messages, entry.text)
            else:
                _user(messages).append(_text(f"\n{entry.question}"))
                _say(messages, entry.answer)
        _user(messages).append(_text(f"\n{question}"))
        if begun:
            _say(messages, begun)
        return messages


def _user(messages: list[Message]) -> list[dict[str, Any]]:
    """The parts of the user message at the end of `messages`; it is added where it is missing."""
    if messages[-1]["role"] != "user":
        messages.append({"role": "user", "content": []})
    parts: list[dict[str, Any]] = messages[-1]["content"]
    return parts


def _say(messages: list[Message], text: str) -> None:
    """Write words of the model; templates refuse two messages of one side in a row."""
    if messages[-1]["role"] == "assistant":
        messages[-1]["content"] += f" {text}"
    else:
        messages.append({"role": "assistant", "content": text})


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(name: str, url: str | None) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, "uuid": name}
