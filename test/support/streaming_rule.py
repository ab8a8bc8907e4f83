"""StreamingVLM's eviction rule on plain lists of tokens, the reference for policies and cache.

It shares no code with the package: no segments, no layouts, no slots; positions are counted in a
loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Token:
    """One token of the context.

    Attributes:
        token_id: its id.
        role: its part of the prompt.
        turn: its turn; -1 for tokens of no turn.
        number: its number in the order of feeding; None while it is pending.
        cell: (row, column) in its picture, for vision tokens.
        size: (rows, columns) of its picture, for vision tokens.
    """

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
    """The published rule.

    Attributes:
        vision: rounds that keep their picture.
        text: rounds that keep their words.
        sink: first tokens of the previous text that stay.
        window: last tokens of the previous text that stay; the code keeps one less.
    """

    vision: int
    text: int
    sink: int | None
    window: int | None

    def evict(self, tokens: list[Token], number: int) -> list[Token]:
        """The tokens that stay at the start of round `number`."""
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
    """The (time, height, width) positions of all tokens, from 0."""
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
