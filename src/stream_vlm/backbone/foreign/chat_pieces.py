"""Splits a chat template into the texts around pictures, questions and replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Render = Callable[[list[Message], bool], str]
"""Writes messages with a chat template; the second argument asks for the beginning of a reply."""

FIRST, SECOND, THIRD = "first words here", "second words here", "third words here"
"""Texts that no template contains; they show where a template puts the parts of a chat."""


class CannotSplit(ValueError):
    """The template does not write a chat as a text that can grow; the message says why."""


@dataclass(frozen=True)
class ChatPieces:
    """The texts of a chat that grows.

    The chat is `head`, then for each picture its time and `picture`. A question is written as its
    words, `asked`, the reply and `answered`; what the model says unasked as `shown`, its words and
    `answered`. After it come the next pictures.

    Attributes:
        head: from the beginning to the first words of the user, with the system prompt.
        picture: one picture, with exactly one placeholder.
        asked: from the end of the user's words to where the reply begins.
        shown: from a picture, if no words follow it, to where the reply begins.
        answered: from the end of the reply to the next words of the user.
    """

    head: str
    picture: str
    asked: str
    shown: str
    answered: str


def write_chat(processor: Any, messages: list[Message], *, reply: bool) -> str:
    """Write `messages` with the chat template of `processor`.

    A model that would think before it replies is told not to: a stream cannot wait for it.

    Args:
        processor: a processor with a chat template.
        messages: the messages.
        reply: whether the text ends where a reply begins.
    """
    switches = (
        {"enable_thinking": False} if "enable_thinking" in str(processor.chat_template) else {}
    )
    return str(
        processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=reply, **switches
        )
    )


def split_chat(processor: Any, system: str) -> ChatPieces:
    """Find the pieces by what the chat template of `processor` makes of known texts.

    Templates differ in whether they have a system role, and in whether a reply is a list of parts
    or a text.

    Args:
        processor: a processor with a chat template.
        system: the system prompt; without a system role it comes before the user's words.

    Raises:
        CannotSplit: the template leaves out a part, changes their order, or writes an earlier part
            in another way once there is a later one.
    """

    def render(messages: list[Message], reply: bool) -> str:
        return write_chat(processor, messages, reply=reply)

    reasons = []
    for system_as in (_parts, _plain, None):
        for reply_as in (_parts, _plain):
            try:
                return _split(render, system, system_as, reply_as)
            except CannotSplit as error:
                reasons.append(str(error))
            except Exception as error:
                # A template can raise anything; many without a system role raise their own error.
                reasons.append(f"{type(error).__name__}: {error}")
    raise CannotSplit(f"its chat template cannot be split ({'; '.join(dict.fromkeys(reasons))})")


def _split(
    render: Render,
    system: str,
    system_as: Callable[[str], Any] | None,
    reply_as: Callable[[str], Any],
) -> ChatPieces:
    before = [{"role": "system", "content": system_as(system)}] if system_as else []
    asked_once = render([*before, _user(FIRST)], True)
    head, asked = _around(asked_once, FIRST)
    if system_as and system not in head:
        raise CannotSplit("it has no place for the system prompt")
    answered_once = render(
        [*before, _user(FIRST), {"role": "assistant", "content": reply_as(SECOND)}, _user(THIRD)],
        True,
    )
    first_head, rest = _around(answered_once, FIRST)
    _, rest = _around(rest, SECOND)
    answered, last_asked = _around(rest, THIRD)
    if (first_head, last_asked) != (head, asked):
        raise CannotSplit("it writes a question in another way after a reply")
    if "'text'" in answered_once or '"text"' in answered_once:
        raise CannotSplit("it writes a reply as a list")
    picture = _picture(render, before, asked_once)
    content = [_text(FIRST), {"type": "image"}]
    _, rest = _around(render([*before, {"role": "user", "content": content}], True), FIRST)
    return ChatPieces(
        head if system_as else f"{head}{system}\n",
        picture,
        asked,
        rest.removeprefix(picture) if rest.startswith(picture) else asked,
        answered,
    )


def _picture(render: Render, before: list[Message], without: str) -> str:
    """The text of a picture between other texts; of the template's own order, if it has one."""
    content = [_text(FIRST), {"type": "image"}, _text(SECOND), {"type": "image"}, _text(THIRD)]
    between = render([*before, {"role": "user", "content": content}], True)
    places = [between.find(words) for words in (FIRST, SECOND, THIRD)]
    if -1 < places[0] < places[1] < places[2]:
        first = between[places[0] + len(FIRST) : places[1]]
        second = between[places[1] + len(SECOND) : places[2]]
        text_only = render(
            [*before, {"role": "user", "content": [_text(FIRST), _text(SECOND)]}], True
        )
        separator, _ = _around(_around(text_only, FIRST)[1], SECOND)
        if first == second and first.strip() != separator.strip():
            return first
    # The template moves pictures to the beginning: what one more picture adds is its text.
    shown = render([*before, {"role": "user", "content": [{"type": "image"}, _text(FIRST)]}], True)
    begin = next(
        (at for at, pair in enumerate(zip(without, shown, strict=False)) if pair[0] != pair[1]),
        min(len(without), len(shown)),
    )
    added = len(shown) - len(without)
    if (
        not shown[begin : begin + max(0, added)].strip()
        or shown[:begin] + shown[begin + added :] != without
    ):
        raise CannotSplit("it has no place for a picture before a text")
    return shown[begin : begin + added]


def _around(text: str, words: str) -> tuple[str, str]:
    """The texts before and after `words`."""
    if text.count(words) != 1:
        raise CannotSplit(f"it writes a part of the chat {text.count(words)} times")
    before, _, after = text.partition(words)
    return before, after


def _user(words: str) -> Message:
    return {"role": "user", "content": [_text(words)]}


def _text(words: str) -> Message:
    return {"type": "text", "text": words}


def _parts(words: str) -> list[Message]:
    return [_text(words)]


def _plain(words: str) -> str:
    return words
