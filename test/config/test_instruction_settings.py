"""Which standing instructions are taken, and how they are written."""

import pytest

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import load_settings


def taken(value: object) -> list[str]:
    return load_settings({"instructions": value}).instructions


def test_without_a_value_the_list_is_empty() -> None:
    assert load_settings({}).instructions == []


@pytest.mark.parametrize(
    "text",
    [
        "people who come in",
        "人が倒れた",
        "кто-то упал на пол",
        "شخص سقط على الأرض",
        "ผู้คนที่เข้ามา",
        "🔥 fire",
    ],
)
def test_words_of_every_script_are_taken(text: str) -> None:
    assert taken([text]) == [text]


def test_white_space_counts_as_one_space() -> None:
    assert taken(["  a door\n that  opens "]) == ["a door that opens"]


def test_a_hundred_instructions_are_taken() -> None:
    assert len(taken([f"lamp {number}" for number in range(100)])) == 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([f"lamp {number}" for number in range(101)], "there are 101 instructions; give at most"),
        (["a fire", " \n"], "instruction 2 has no words"),
        (["..."], "instruction 1 has no words"),
        (["a fire \ud83d"], "instruction 1 has half a character"),
        (["a fire", "a  fire"], "'a fire' is given twice"),
        (["x" * 501], "instruction 1 has 501 characters; write at most 500"),
        ([3], "instructions.0: 3 is refused"),
        ("[a fire", "is no json list"),
    ],
)
def test_nonsense_is_refused_with_the_reason(value: object, message: str) -> None:
    with pytest.raises(SettingError, match=r"^instructions") as refused:
        taken(value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("value", "instructions"),
    [
        ('["people, pets", "a fire"]', ["people, pets", "a fire"]),
        ("people, pets", ["people, pets"]),
        ("people\n\nfire\n", ["people", "fire"]),
        ("", []),
        ("[]", []),
    ],
)
def test_the_command_line_gives_json_or_one_instruction_a_line(
    value: str, instructions: list[str]
) -> None:
    assert taken(value) == instructions


def test_a_refused_list_leaves_the_old_one() -> None:
    settings = load_settings({"instructions": ["a fire"]})
    with pytest.raises(ValueError, match="no words"):
        settings.instructions = [""]
    assert settings.instructions == ["a fire"]
