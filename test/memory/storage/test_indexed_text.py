"""What the full-text index reads of a text, and which words a query has."""

import unicodedata

import pytest

from stream_vlm.memory.storage.indexed_text import index_phrase, indexed_text, words_of


@pytest.mark.parametrize("text", ["red ball rolls in", "Café öffnet", "красный мяч", ""])
def test_a_text_with_spaces_between_its_words_is_indexed_as_it_is(text: str) -> None:
    assert indexed_text(text) is None


def test_an_unspaced_run_becomes_its_letters_and_its_pairs() -> None:
    assert (indexed_text("打开door。红") or "").split() == ["打", "开", "打开", "door。", "红"]


def test_a_vowel_sign_stays_with_its_letter() -> None:
    assert (indexed_text("สี") or "").split() == ["สี"]
    assert index_phrase("เปิด") == "เปิ ปิด"


def test_characters_of_another_width_and_separate_accents_are_one_character() -> None:
    assert indexed_text("\uff44\uff4f\uff4f\uff52") == "door"
    assert indexed_text("ﾎﾞｰﾙ") == indexed_text("ボール")
    assert indexed_text(unicodedata.normalize("NFD", "가방 ボール")) == indexed_text("가방 ボール")
    assert words_of(unicodedata.normalize("NFD", "Café")) == ["café"]


def test_a_letter_that_folds_to_two_is_found_in_either_form() -> None:
    assert indexed_text("Straße") == "strasse"
    assert words_of("STRASSE Straße") == ["strasse", "strasse"]


def test_a_word_of_a_query_is_a_run_of_one_kind_of_script() -> None:
    assert words_of("Is 红球 in the打开door? 3月") == [
        "is",
        "红球",
        "in",
        "the",
        "打开",
        "door",
        "3",
        "月",
    ]
