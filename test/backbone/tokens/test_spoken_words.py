"""What a chat model writes before its words is not spoken; the words themselves stay."""

from __future__ import annotations

import pytest

from stream_vlm.backbone.tokens.spoken_words import spoken_words

WORDS = "A man comes in."


@pytest.mark.parametrize(
    "before",
    [
        "",
        " ",
        ": ",
        " - ",
        "\n",
        "\n\n",
        ".\n",
        ":** ",
        "** ",
        " \N{EM DASH} ",
        "\n> ",
        "`",
        ", ",
        "|",
        ":\n* ",
    ],
)
@pytest.mark.parametrize("label", ["", "Response: ", "**Response:** ", "response\n", "Response - "])
def test_separators_and_the_label_of_a_response_are_not_spoken(before: str, label: str) -> None:
    assert spoken_words(before + label + WORDS) == WORDS


@pytest.mark.parametrize(
    "text",
    [
        "Response times are long.",
        "Responses arrive.",
        "-5 degrees are shown.",
        ".5 litres are left.",
        "12:30 is shown - on a clock: it is late.",
        '"Stop" is written on a sign.',
        "(A man comes in.)",
        "\N{INVERTED QUESTION MARK}Una puerta?",
        "\u95e8\u5f00\u4e86\u3002",
    ],
)
def test_words_that_only_look_like_separators_stay(text: str) -> None:
    assert spoken_words(text) == text


def test_marks_of_bold_print_are_not_spoken() -> None:
    assert spoken_words("**A man** comes **in**.") == WORDS


@pytest.mark.parametrize("text", ["", " ", ":", "**", "\n\n- "])
def test_separators_alone_are_no_words(text: str) -> None:
    assert spoken_words(text) == ""
