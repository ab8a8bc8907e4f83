"""The standing instructions that a model follows, each with an id that lasts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from stream_vlm.config.field import SettingError
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import FollowsWatches, Model, judges_instructions
from stream_vlm.types import Instruction, Query


@lru_cache(maxsize=1000)  # every step asks for the id of every instruction
def instruction_id(text: str) -> str:
    """The id of an instruction: of its words only, so a restart or another order keeps it."""
    return f"i-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def standing_instructions(settings: Settings, model: Model) -> tuple[Instruction, ...]:
    """The instructions that `model` judges, each on its own; empty for a tuned model."""
    if not judges_instructions(model) or settings.decision.unprompted == "never":
        return ()
    return _with_ids(settings.instructions or DEFAULT_INSTRUCTIONS)


def standing_watch(settings: Settings, model: Model) -> Query | None:
    """The set instructions as one watch, for a tuned model; None if there is none to follow."""
    if (
        not settings.instructions
        or judges_instructions(model)
        or settings.decision.unprompted == "never"
    ):
        return None
    words = "; ".join(settings.instructions)
    return Query(instruction_id(words), words, stamp_ns=0, is_watch=True)


def followed(settings: Settings, model: Model) -> tuple[Instruction, ...]:
    """What the model follows, as utterances and events name it."""
    watch = standing_watch(settings, model)
    if watch is not None:
        return (Instruction(watch.query_id, watch.text),)
    return standing_instructions(settings, model)


def check_settings_for(model: Model, settings: Settings) -> None:
    """Check that `model` can do what the settings ask of it.

    Raises:
        SettingError: it cannot; the message names the setting and the remedy.
    """
    if judges_instructions(model):
        return
    if settings.instructions and isinstance(model, FollowsWatches) and not model.follows_watches:
        raise SettingError(
            f"instructions: {model.model_id} can follow none, because its prompt format has no"
            " place for them; leave the list empty, or set model.directory to an instruct"
            " model or to a checkpoint whose prompt format has a watch"
        )
    if settings.decision.verify == "on":
        raise SettingError(
            f"decision.verify: on is refused, because {model.model_id} gives no second look; use"
            " auto or off, or set model.directory to an instruct model"
        )


def _with_ids(texts: Sequence[str]) -> tuple[Instruction, ...]:
    return tuple(Instruction(instruction_id(text), text) for text in texts)
