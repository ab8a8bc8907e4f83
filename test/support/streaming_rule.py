"""StreamingVLM's eviction rule as plain list surgery, token by token: what the policies and the
cache are held against.

It shares nothing with the package: no segments, no layouts, no slots, positions counted in a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Token:
    """One token of the context; `number` counts tokens in feeding order, None while it is pending."""

    token_id: int
    role: str
    turn: int
    number: int | None = None
    cell: tuple[int, int] | None = None
    size: tuple[int, int] | None = None


USER = ("user open", "time", "vision", "query", "user close")
ENDS_IN_NEWLINE = ("user close", "footer")


@dataclass(frozen=True)
class Rule:
    """The published rule with windows of `vision` and `text` rounds, and a previous text cut to
    `sink` and `window`.
    """

    vision: int
    text: int
    sink: int | None
    window: int | None

    def evict(self, tokens: list[Token], number: int) -> list[Token]:
        """What is retained at the start of round `number`."""
        tokens = list(tokens)
        if number >= self.text:
            leaving = number - self.text
            reply = [token for token in tokens if token.turn == leaving and token.role == "reply"]
            tokens = [
                token
                for token in tokens
                if not (token.turn == leaving and token.role in ("reply", "assistant"))
            ]
            footer = next(place for place, token in enumerate(tokens) if token.role == "footer")
            tokens[footer:footer] = [
                replace(token, role="content", turn=-1) for token in reply[:-1]
            ]
            if self.vision > self.text:
                tokens = [
                    token
                    for token in tokens
                    if not (token.turn == leaving and token.role == "time")
                ]
        if number >= self.vision and self.vision < self.text:
            tokens = [
                token
                for token in tokens
                if not (token.turn == number - self.vision and token.role == "vision")
            ]
        if number >= max(self.vision, self.text):
            tokens = [
                token
                for token in tokens
                if not (token.turn == number - max(self.vision, self.text) and token.role in USER)
            ]
        if number > 0 and self.sink is not None and self.window is not None:
            content = [token for token in tokens if token.role == "content"]
            surplus = len(content) - (self.sink + self.window - 1)
            if surplus > 0:
                cut = set(content[self.sink : self.sink + surplus])
                tokens = [token for token in tokens if token not in cut]
        return tokens


def positions(tokens: list[Token]) -> list[tuple[int, int, int]]:
    """(time, height, width) of every token, counted from 0."""
    places: list[tuple[int, int, int]] = []
    following = 0
    for token in tokens:
        if token.cell is None or token.size is None:
            places.append((following, following, following))
            following += 1
        else:
            row, column = token.cell
            places.append((following, following + row, following + column))
            rows, columns = token.size
            if token.cell == (rows - 1, columns - 1):
                following += max(rows, columns)
    return places
