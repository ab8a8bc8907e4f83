"""The habits and mistakes of a scripted model, and the draws that decide when they show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

from stream_vlm.types import StreamError

SCHEME = "scripted"


class QuirksError(StreamError):
    """The name of a scripted model cannot be read; the message says what is allowed."""


@dataclass(frozen=True)
class Quirks:
    """How a scripted model errs; shares are from 0 to 1.

    A mistake is drawn for each instruction and picture, so the same picture always gives the same
    mistake. With `hold` the draw is kept for that many seconds, and mistakes come in a row.

    Attributes:
        noise: sets miss, false_alarm, late, ignore and describe to this share, unless given too.
        miss: share of pictures in which a finished event is not noticed.
        false_alarm: share of pictures in which an event is reported that did not happen.
        late: share of the events that are noticed 1 to 3 s late.
        describe: share of pictures in which something that is merely there is reported.
        ignore: share of pictures in which it is not minded what was reported already.
        own_words: share of pictures in which the model's own earlier replies in the chat count as
            what was reported already.
        lasts: how long after its end an event is still reported, seconds.
        goes_on: share of pictures in which an event that is over and was reported is said to go on.
        standby: share of pictures of an event under way that are noticed.
        paraphrase: share of pictures in which the sentence comes in other words than usual.
        verify: share of right answers to whether a report is true.
        chatter: share of replies with words of courtesy around them.
        prefix: a word before the sentence, such as Response; empty for none.
        markdown: share of replies with markdown.
        refuse: share of replies that are a refusal.
        language: "right", or "wrong" for sentences in German.
        hold: how long a draw is kept, seconds; 0 for one picture.
        seed: seed of the draws.
    """

    noise: float = 0.0
    miss: float = 0.0
    false_alarm: float = 0.0
    late: float = 0.0
    describe: float = 0.0
    ignore: float = 0.0
    own_words: float = 0.5
    lasts: float = 3.0
    goes_on: float = 0.3
    standby: float = 0.7
    paraphrase: float = 0.3
    verify: float = 0.9
    chatter: float = 0.0
    prefix: str = ""
    markdown: float = 0.0
    refuse: float = 0.0
    language: str = "right"
    hold: float = 0.0
    seed: int = 0


_BY_NOISE = ("miss", "false_alarm", "late", "ignore", "describe")
_SECONDS = ("lasts", "hold")


def parse_quirks(name: str) -> Quirks:
    """Parse the name of a model, such as `scripted:miss=0.05,chatter=1,prefix=Response`.

    Raises:
        QuirksError: the name is not `scripted` with settings, or a setting is unknown or outside
            its range.
    """
    scheme, _, words = name.partition(":")
    if scheme != SCHEME:
        raise QuirksError(
            f"{name!r} is not a scripted model; write scripted or scripted:NAME=VALUE"
        )
    plain = Quirks()
    known = {field.name: type(getattr(plain, field.name)) for field in fields(Quirks)}
    given: dict[str, float | int | str] = {}
    for part in filter(None, words.split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known:
            raise QuirksError(f"{name!r}: there is no {key!r}; use {', '.join(sorted(known))}")
        try:
            given[key] = known[key](value)
        except ValueError as error:
            raise QuirksError(f"{name!r}: {key}={value} is not a number") from error
        number = given[key]
        highest = float("inf") if key in (*_SECONDS, "seed") else 1.0
        if isinstance(number, (int, float)) and not 0 <= number <= highest:
            raise QuirksError(f"{name!r}: {key}={value} is refused; use 0 to {highest:g}")
    if given.get("language", "right") not in ("right", "wrong"):
        raise QuirksError(f"{name!r}: language={given['language']} is refused; use right or wrong")
    noise = given.get("noise", 0.0)
    shares: dict[str, Any] = {**dict.fromkeys(_BY_NOISE, noise), **given}
    return replace(plain, **shares)


@dataclass(frozen=True)
class Dice:
    """Draws that depend on nothing but their names.

    Attributes:
        names: what all draws of these dice depend on: seed, room, instruction, time.
    """

    names: tuple[object, ...]

    def draw(self, *names: object) -> float:
        """A number from 0 up to 1; the same names always give the same number."""
        text = "\x1f".join(map(str, (*self.names, *names)))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def happens(self, share: float, *names: object) -> bool:
        """Whether something happens that happens in `share` of all cases."""
        return self.draw(*names) < share
