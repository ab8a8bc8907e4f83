"""Words of instructions and reports mean kinds of events of the simulated world."""

from __future__ import annotations

import pytest

from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm_lab.evaluation.scripted_vlm.meanings import (
    asks_for,
    caption_in,
    kinds_of_events,
)
from stream_vlm_lab.evaluation.scripted_vlm.sentences import as_sentence
from stream_vlm_lab.simulation.labels.event_pattern import all_patterns
from stream_vlm_lab.simulation.script.script_writer import make_script

PEOPLE, THINGS, DANGER = DEFAULT_INSTRUCTIONS


def words_of(instruction: str) -> set[str]:
    return {kind.words for kind in kinds_of_events(instruction)}


def test_people_that_come_or_go_are_the_people_who_enter_or_leave() -> None:
    assert {"a person enters", "a person leaves"} <= words_of(PEOPLE)
    assert not {"the door opens", "a hand takes a cup"} & words_of(PEOPLE)


def test_things_that_are_taken_or_switched_are_neither_people_nor_balls_that_roll() -> None:
    assert {
        *("a hand takes a cup", "a person picks up a book", "a hand puts down a box"),
        *("the door opens", "the door closes", "the lamp turns on", "the lamp turns off"),
    } <= words_of(THINGS)
    assert not {"a person enters", "a ball rolls in"} & words_of(THINGS)


def test_dangers_never_happen_in_this_world() -> None:
    assert words_of(DANGER) == set()


@pytest.mark.parametrize(
    ("instruction", "kinds"),
    [
        ("tell me when the door opens", {"the door opens"}),
        ("a hand takes the blue cup", {"a hand takes the blue cup"}),
        ("a person puts down a book", {"a person puts down a book"}),
        ("somebody in red comes in", {"a person in red enters"}),
        ("the light is switched off", {"the lamp turns off"}),
        ("balls that roll", {"a ball rolls in", "a ball rolls away"}),
        ("the lamp", {"the lamp turns on", "the lamp turns off"}),
        ("the door opens; a visitor leaves", {"the door opens", "a person leaves"}),
        ("cars that are parked", set()),
        ("", set()),
    ],
)
def test_an_instruction_asks_for_what_its_words_mean(instruction: str, kinds: set[str]) -> None:
    assert words_of(instruction) == kinds


def test_every_kind_of_event_asks_for_itself() -> None:
    for kind in all_patterns():
        assert kind in kinds_of_events(kind.words), kind.words


def test_every_event_is_found_in_its_sentence_between_other_words() -> None:
    for event in make_script(3, 600.0).events:
        said = f"Sure! Here it is: **{as_sentence(event.label)}** Let me know!"
        assert caption_in(said) == event.label
        assert asks_for(said, event)


@pytest.mark.parametrize("said", ["", "I cannot help with that.", "Eine rote Tür geht auf."])
def test_words_without_an_event_have_no_caption(said: str) -> None:
    assert caption_in(said) == ""
