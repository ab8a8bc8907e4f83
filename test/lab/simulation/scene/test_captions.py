"""The language of the simulated world: it is closed, and captions are parsed without loss."""

import pytest

from stream_vlm_lab.simulation.labels.ground_truth import questions
from stream_vlm_lab.simulation.scene.captions import (
    COLOURS,
    EDGES,
    PORTABLE_KINDS,
    Label,
    caption,
    parse_label,
    vocabulary,
)
from stream_vlm_lab.simulation.script.script_writer import make_script

CAPTIONS = [
    ("enters", "person", "red", {"edge": "left"}),
    ("leaves", "person", "grey", {"edge": "bottom"}),
    ("takes", "cup", "blue", {"actor": "hand"}),
    ("puts down", "bottle", "white", {"actor": "hand"}),
    ("picks up", "box", "green", {"actor": "person"}),
    ("puts down", "book", "black", {"actor": "person"}),
    ("rolls in", "ball", "orange", {"edge": "right"}),
    ("rolls away", "ball", "purple", {"edge": "left"}),
    ("opens", "door", "", {}),
    ("closes", "door", "", {}),
    ("turns on", "lamp", "", {}),
    ("turns off", "lamp", "", {}),
]


@pytest.mark.parametrize(("action", "kind", "colour", "details"), CAPTIONS)
def test_a_caption_is_parsed_to_its_action_kind_and_colour(
    action: str, kind: str, colour: str, details: dict[str, str]
) -> None:
    assert parse_label(caption(action, kind, colour, **details)) == Label(action, kind, colour)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "person",
        "person in red",
        "the door is open",
        "hand takes the blue door",
        "door opens wide",
        "person in pink enters from the left",
    ],
)
def test_an_incomplete_caption_is_not_parsed(text: str) -> None:
    assert parse_label(text) is None


def test_case_and_spacing_of_a_caption_do_not_matter() -> None:
    assert parse_label("  Hand takes  the BLUE cup ") == Label("takes", "cup", "blue")


def test_labels_agree_if_action_and_kind_are_the_same() -> None:
    assert Label("takes", "cup", "blue").agrees_with(Label("takes", "cup", "red"))
    assert not Label("takes", "cup", "blue").agrees_with(Label("takes", "box", "blue"))
    assert not Label("takes", "cup", "blue").agrees_with(Label("puts down", "cup", "blue"))


def test_the_vocabulary_has_every_word_of_captions_questions_and_answers() -> None:
    words = set(vocabulary())
    for seed in range(40):
        script = make_script(seed, 120.0)
        texts = [event.label for event in script.events]
        texts += [text for asked in questions(script) for text in (asked.question, asked.answer)]
        assert {word for text in texts for word in text.split()} <= words


def test_the_vocabulary_is_lower_case_sorted_and_without_duplicates() -> None:
    words = vocabulary()
    assert list(words) == sorted(set(words))
    assert all(word == word.lower() and " " not in word for word in words)
    assert {*COLOURS, *EDGES, *PORTABLE_KINDS, "?"} <= set(words)
