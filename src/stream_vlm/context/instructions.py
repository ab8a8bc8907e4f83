"""What an instruct model is told: the prompts around the pictures, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping

from stream_vlm.types import State

LABELS: Mapping[State, str] = {
    State.SILENCE: "Silence",
    State.STANDBY: "Standby",
    State.RESPONSE: "Response",
}
"""The word that an instruct model writes for each state."""

SYSTEM = (
    "You watch the live video of a robot's camera. The time of each frame is written before it."
    " Report only what the frames show."
)
"""System prompt of an instruct model."""

LANGUAGE = " Write every sentence in {language}."
"""Added to the system prompt if `model.language` is set."""

JUDGE = (
    "Watch for: {instruction}\n{reported}"
    "Judge the newest frame. Begin with one word: Silence if there is nothing of this kind, Standby"
    " if it is under way and not complete, or Response if it has just happened. After Response"
    " write one short sentence that says what happened."
)
"""Question about the newest frame for one instruction; it leaves the context again."""

REPORTED = (
    'You reported at {seconds} s: "{report}" While the same goes on, write Standby; when it is'
    " over, Silence. Write Response only if something else of this kind has happened since.\n"
)
"""Part of `JUDGE` after a report; `{seconds}` is in the time of the frames."""

VERIFY = (
    'Look at the last frames again. Has this just happened: "{report}" Answer with one word: Yes or'
    " No."
)
"""Second look at a report before it is spoken."""

YES, NO = "Yes", "No"


def system_prompt(own: str = "", language: str = "") -> str:
    """The system prompt.

    Args:
        own: replaces `SYSTEM` unless it is empty (`model.system_prompt`).
        language: name of the language of all sentences, or empty (`model.language`).
    """
    return (own or SYSTEM) + (LANGUAGE.format(language=language) if language else "")


def judge_prompt(instruction: str, reported: str = "", seconds: float = 0.0) -> str:
    """The question about the newest frame for one instruction.

    Args:
        instruction: the user's words.
        reported: the last report about it, or empty.
        seconds: time of that report in the time of the frames.
    """
    again = REPORTED.replace("{report}", reported).replace("{seconds}", f"{seconds:g}")
    return JUDGE.replace("{reported}", again if reported else "").replace(
        "{instruction}", instruction
    )


def verify_prompt(report: str) -> str:
    """The question of a second look at `report`."""
    return VERIFY.replace("{report}", report)
