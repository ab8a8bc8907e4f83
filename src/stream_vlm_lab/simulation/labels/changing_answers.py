"""Questions that are asked once and whose answer changes.

The answer is due at once, and again whenever it changes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents
from stream_vlm_lab.simulation.scene import captions
from stream_vlm_lab.simulation.script.script import SceneState, Script

Answer = tuple[str, float, float]
"""The answer, and start and end in seconds of the event that makes it right.

Both times are the same if the answer is right at once.
"""

HELD = "nobody holds anything"


def changing_question(
    visible: VisibleEvents, t_s: float, rng: np.random.Generator
) -> tuple[str, list[Answer]] | None:
    """A question at `t_s` seconds whose answer changes before the stream ends.

    Returns:
        The question and all its answers in order of time; None if there is no such question.
    """
    script = visible.script
    state, _ = script.at(t_s)
    first = len(visible.before(t_s))
    for place in rng.permutation(len(_QUESTIONS)):
        question, value = _QUESTIONS[int(place)]
        now = value(script, state)
        if now is None:
            continue
        answers: list[Answer] = [(now, t_s, t_s)]
        for seen, after in zip(visible.events[first:], script.states[first + 1 :], strict=True):
            then = value(script, after)
            if then is not None and then != answers[-1][0]:
                answers.append((then, seen.t_start, seen.t_end))
        if len(answers) > 1:
            return f"{question} Say it again whenever the answer changes.", answers
    return None


def _door(script: Script, state: SceneState) -> str | None:
    return None if state.door_open is None else "yes" if state.door_open else "no"


def _lamp(script: Script, state: SceneState) -> str | None:
    return None if state.lamp_on is None else "yes" if state.lamp_on else "no"


def _people(script: Script, state: SceneState) -> str | None:
    return (
        None
        if script.scene.person_height == 0
        else captions.NUMBER_WORDS[_count(script, state, ("person",))]
    )


def _things(script: Script, state: SceneState) -> str | None:
    return str(_count(script, state, captions.PORTABLE_KINDS))


def _held(script: Script, state: SceneState) -> str | None:
    if script.scene.person_height == 0:
        return None
    held = sorted(
        f"{script.things[thing].colour} {script.things[thing].kind}"
        for thing in state.holding.values()
    )
    return " and ".join(f"the {name}" for name in held) or HELD


def _count(script: Script, state: SceneState, kinds: tuple[str, ...]) -> int:
    """Number of resting things of `kinds`, without held ones."""
    return sum(script.things[instance].kind in kinds for instance in state.resting)


_QUESTIONS: tuple[tuple[str, Callable[[Script, SceneState], str | None]], ...] = (
    ("Is the door open?", _door),
    ("Is the lamp on?", _lamp),
    ("How many people are there?", _people),
    ("How many things stand or lie there that nobody holds?", _things),
    ("What do people hold?", _held),
)
