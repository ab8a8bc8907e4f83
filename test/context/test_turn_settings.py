"""The settings change the system prompt, the language and single pieces of a turn format."""

from __future__ import annotations

from typing import Any

import pytest

from stream_vlm.config.field import SettingError
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.config.settings import load_settings
from stream_vlm.context.instructions import SYSTEM
from stream_vlm.context.turn_formats import COMPACT, FORMATS, HARNESS, INSTRUCT, STREAMO, TurnFormat
from stream_vlm.context.turn_settings import as_set

WITH_SYSTEM = [name for name, turns in FORMATS.items() if turns is not COMPACT]


def changed(turns: TurnFormat, **values: Any) -> TurnFormat:
    return as_set(turns, ModelSettings(**values), "model")


@pytest.mark.parametrize("name", FORMATS)
def test_the_defaults_change_nothing(name: str) -> None:
    assert changed(FORMATS[name]) == FORMATS[name]


@pytest.mark.parametrize("name", WITH_SYSTEM)
def test_a_system_prompt_replaces_that_of_the_format_and_the_language_is_added(name: str) -> None:
    turns = FORMATS[name]
    assert "{system}" in turns.prefix
    assert changed(turns, system_prompt="Look.").system == "Look."
    german = " Write every sentence in German."
    assert changed(turns, language="German").system == turns.system + german
    assert changed(turns, system_prompt="Look.", language="German").system == "Look." + german


def test_an_instruct_model_is_told_the_shared_system_prompt() -> None:
    assert changed(INSTRUCT).system == SYSTEM


@pytest.mark.parametrize("values", [{"system_prompt": "Look."}, {"language": "German"}])
def test_a_format_without_a_system_prompt_refuses_one(values: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="of small has no place for a system prompt"):
        as_set(COMPACT, ModelSettings(**values), "small")


def test_single_pieces_are_replaced_and_a_written_line_break_becomes_one() -> None:
    turns = changed(HARNESS, turn_pieces=["time=<{start}s-{end}s>\\n", "standby=</standby>"])
    assert (turns.time, turns.standby) == ("<{start}s-{end}s>\n", "</standby>")
    assert turns.model_copy(update={"time": HARNESS.time, "standby": ""}) == HARNESS
    assert changed(STREAMO, turn_pieces=["recalled="]).recalled == ""


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("time", "write name=text with one of the names system, prefix, memory"),
        ("colour=red", "'colour=red': write name=text with one of the names"),
        ("stop=<end>", "write name=text with one of the names"),
        ("query=What?", r"lacks \{query\}"),
        ("time={minute}", r"only \{start\}, \{end\} and \{time\} are replaced"),
        ("time={", "only"),
    ],
)
def test_a_piece_that_cannot_be_used_is_refused(piece: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        changed(STREAMO, turn_pieces=[piece])


def test_the_command_line_gives_pieces_as_lines() -> None:
    settings = load_settings({"model.turn_pieces": "standby=</wait>\nsilence=</none>"})
    assert settings.model.turn_pieces == ["standby=</wait>", "silence=</none>"]
