"""The turn format as the settings change it: system prompt, language, and single pieces."""

from __future__ import annotations

from stream_vlm.config.field import SettingError
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.context.instructions import system_prompt
from stream_vlm.context.turn_formats import TurnFormat

PIECES = tuple(name for name, field in TurnFormat.model_fields.items() if field.annotation is str)
"""Pieces of a turn format that `model.turn_pieces` can replace."""

FILLED = {
    "memory": "{memory}",
    "recalled": "{memory}",
    "query": "{query}",
    "watch": "{query}",
}
"""What a piece must contain, unless it is empty."""


def as_set(turns: TurnFormat, chosen: ModelSettings, model_id: str) -> TurnFormat:
    """The format `turns` as the settings `chosen` change it.

    Args:
        turns: the format of the checkpoint.
        chosen: the settings `model`.
        model_id: name of the model, for messages.

    Raises:
        SettingError: a piece is unknown or lacks its placeholder, or the format has no place for a
            system prompt.
    """
    pieces = dict(_piece(written) for written in chosen.turn_pieces)
    turns = turns.model_copy(update=pieces)
    for name in ("system_prompt", "language"):
        if getattr(chosen, name) and "{system}" not in turns.prefix:
            raise SettingError(
                f"model.{name} {getattr(chosen, name)!r}: the prompt format of {model_id} has no"
                " place for a system prompt; leave it empty, or use another model"
            )
    if not turns.system and not chosen.system_prompt:
        return turns
    system = system_prompt(chosen.system_prompt or turns.system, chosen.language)
    return turns.model_copy(update={"system": system})


def _piece(written: str) -> tuple[str, str]:
    name, equals, text = written.partition("=")
    where = f"model.turn_pieces {written!r}"
    if not equals or name not in PIECES:
        raise SettingError(f"{where}: write name=text with one of the names {', '.join(PIECES)}")
    text = text.replace("\\n", "\n")
    needed = FILLED.get(name, "")
    if text and needed not in text:
        raise SettingError(f"{where}: the text lacks {needed}, which is replaced by the words")
    if name == "time":
        try:
            text.format(start=0, end=1, time="0.5")
        except (LookupError, ValueError) as error:
            raise SettingError(
                f"{where}: only {{start}}, {{end}} and {{time}} are replaced; write other braces"
                " twice"
            ) from error
    return name, text
