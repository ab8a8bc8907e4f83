"""State sequences about one standing instruction, written by hand or with random noise.

Each letter is the model's decision about one frame; frames are one second apart:

- "." silence, "-" standby.
- A capital letter is a response; each letter stands for other words.
- A small letter is a response with other words about the same happening as the capital letter.
- "?" is a response that a second look does not confirm.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from stream_vlm.types import Decision, State

PROBABLE = 0.8
"""Probability of the state that a letter stands for; the other two share the rest."""


def decision_of(letter: str) -> Decision:
    """The decision that `letter` stands for."""
    state = {".": State.SILENCE, "-": State.STANDBY}.get(letter, State.RESPONSE)
    rest = (1.0 - PROBABLE) / 2
    probabilities = {each: PROBABLE if each is state else rest for each in State}
    if state is not State.RESPONSE:
        return Decision(state, probabilities, confidence=PROBABLE)
    verified = 0.1 if letter == "?" else 0.9
    return Decision(state, probabilities, words(letter), PROBABLE, verified)


def words(letter: str) -> str:
    """The words of a response."""
    if letter.islower():
        return f"the {letter.upper()} goes on"
    return f"{letter} happened"


@dataclass(frozen=True)
class Happening:
    """What truly happened: it began and ended between frames, in seconds."""

    letter: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sequence:
    """A noisy sequence and the happenings in it."""

    letters: str
    happenings: tuple[Happening, ...]


def noisy(seed: int, *, miss: float, slow: float, false_alarm: float) -> Sequence:
    """One random sequence of about two minutes.

    Happenings last from 1 to 30 s, and the next begins 4 to 30 s after one ends. While one lasts,
    half of the models write a response at every frame, as an untuned model does, and the others a
    response and then standby.

    Args:
        seed: of the random numbers.
        miss: probability that a frame of a happening is judged as silence.
        slow: probability that a response during a happening has other words than the first.
        false_alarm: probability of a standby at a frame where nothing happens.
    """
    draw = random.Random(seed)
    answers_always = draw.random() < 0.5
    letters: list[str] = []
    happenings: list[Happening] = []
    _quiet(letters, draw, draw.randint(2, 10), false_alarm)
    for number in range(draw.randint(1, 4)):
        letter = chr(ord("A") + number)
        first, length = len(letters), draw.choice([1, 1, 2, 4, 8, 15, 30])
        standby = draw.randint(0, min(3, length - 1))
        for at in range(length):
            if at > standby and draw.random() < miss:
                letters.append(".")
            elif at < standby:
                letters.append("-")
            elif at == standby or answers_always:
                letters.append(letter if draw.random() >= slow else letter.lower())
            else:
                letters.append("-")
        happenings.append(Happening(letter, first - 0.5, first + length - 0.5))
        _quiet(letters, draw, draw.randint(4, 30), false_alarm)
    return Sequence("".join(letters), tuple(happenings))


def _quiet(letters: list[str], draw: random.Random, length: int, false_alarm: float) -> None:
    for _ in range(length):
        letters.append("-" if draw.random() < false_alarm else ".")
