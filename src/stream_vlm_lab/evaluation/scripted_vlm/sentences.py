"""The sentences of a scripted model, and the words that untuned models put around them."""

from __future__ import annotations

from collections.abc import Sequence

from stream_vlm_lab.evaluation.scripted_vlm.quirks import Dice, Quirks
from stream_vlm_lab.simulation.labels.event_pattern import EventPattern
from stream_vlm_lab.simulation.scene.captions import COLOURS, EDGES, KINDS, caption
from stream_vlm_lab.simulation.script.script import Event

REFUSAL = "I'm sorry, but I can't help with identifying people in images."
GREETING, FAREWELL = "Sure! Here is what I see. ", " Let me know if you need anything else!"
HAZARDS = (
    "A person has fallen on the floor.",
    "There is smoke in the room.",
    "There is water on the floor.",
)
"""False alarms about what this world never shows."""

_GERMAN_COLOURS = (
    *("rote", "grüne", "blaue", "gelbe", "orange"),
    *("violette", "weiße", "schwarze", "graue", "braune"),
)
_GERMAN_KINDS = ("Person", "Hand", "Kugel", "Kiste", "Tasse", "Flasche", "Buch", "Tür", "Lampe")
_GERMAN = {
    **dict(zip(COLOURS, _GERMAN_COLOURS, strict=True)),
    **dict(zip(KINDS, _GERMAN_KINDS, strict=True)),
    "enters": "kommt herein",
    "leaves": "geht hinaus",
    "takes": "wird weggenommen",
    "puts down": "wird abgestellt",
    "picks up": "wird aufgehoben",
    "rolls in": "rollt herein",
    "rolls away": "rollt weg",
    "opens": "geht auf",
    "closes": "geht zu",
    "turns on": "geht an",
    "turns off": "geht aus",
    "": "ist zu sehen",
}


_OTHER_WORDS = (
    "In the newest frame, {}",
    "It looks like {}",
    "In the latest frame {}",
    "We can now see that {}",
)
"""Other ways to say the same."""


def sentence_of(event: Event, language: str) -> str:
    """The sentence about `event`; `language` as in `Quirks`."""
    if language == "wrong":
        return _in_german(event.action, event.kind, event.colour)
    return as_sentence(event.label)


def as_sentence(label: str) -> str:
    """A caption of the simulated world as a sentence: "The door opens."."""
    first = label.split()[0]
    article = "The" if first in ("door", "lamp") else "An" if first[0] in "aeiou" else "A"
    return f"{article} {label}."


def description_of(kind: str, colour: str, language: str) -> str:
    """The sentence that something is there, though nothing happens to it."""
    if language == "wrong":
        return _in_german("", kind, colour)
    name = f"person in {colour}" if kind == "person" else f"{colour} {kind}"
    return f"There is {'an' if name[0] in 'aeiou' else 'a'} {name}."


def invented_sentence(kinds: Sequence[EventPattern], dice: Dice, language: str) -> str:
    """A sentence about an event of one of `kinds` that nobody has seen; a hazard without kinds."""
    if not kinds:
        return HAZARDS[int(dice.draw("which hazard") * len(HAZARDS))]
    kind = kinds[int(dice.draw("which kind") * len(kinds))]
    colour = kind.colour or COLOURS[int(dice.draw("which colour") * len(COLOURS))]
    if kind.kind in ("door", "lamp"):
        colour = ""
    if language == "wrong":
        return _in_german(kind.action, kind.kind, colour)
    edge = EDGES[int(dice.draw("which edge") * 2)]
    return as_sentence(caption(kind.action, kind.kind, colour, actor=kind.actor, edge=edge))


def _in_german(action: str, kind: str, colour: str) -> str:
    words = ["Eine", *([_GERMAN[colour]] if colour else []), _GERMAN[kind], _GERMAN[action]]
    return " ".join(words) + "."


def in_other_words(sentence: str, quirks: Quirks, dice: Dice) -> str:
    """`sentence` as it is, or for a share of pictures with other words around the same ones."""
    if not sentence or not dice.happens(quirks.paraphrase, "paraphrase"):
        return sentence
    way = _OTHER_WORDS[int(dice.draw("which words") * len(_OTHER_WORDS))]
    return way.format(sentence[0].lower() + sentence[1:])


def dressed(sentence: str, quirks: Quirks, dice: Dice) -> str:
    """`sentence` with the words, the markdown and the prefix that the quirks put around it."""
    if dice.happens(quirks.markdown, "markdown"):
        sentence = f"**{sentence}**"
    if quirks.prefix:
        sentence = f"{quirks.prefix}: {sentence}"
    if dice.happens(quirks.chatter, "chatter"):
        sentence = f"{GREETING}{sentence}{FAREWELL}"
    return sentence
