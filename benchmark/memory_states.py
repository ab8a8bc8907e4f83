"""Both sides of every state, for the benchmark of the memory's answers (`memory_questions.py`).

For each state in the simulated rooms the true and the false side are asked, plainly and negated.
The stories of `memory_stories.py` are about other objects, verbs and wordings; they are no part of
the simulated world.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from event_step import event_step
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.types import NANOSECONDS, Frame, Pose

HERE = Pose("map", 0, 0, 0)
FORMS = (
    ("is the {thing} {yes}?", True),
    ("is the {thing} still {yes}?", True),
    ("isn't the {thing} {yes}?", True),
    ("is the {thing} {no}?", False),
    ("is the {thing} not {yes}?", False),
    ("is the {thing} no longer {yes}?", False),
)
"""Questions, and whether yes means that the first side holds."""


@dataclass(frozen=True)
class StateFact:
    """What holds at the end in one room.

    Attributes:
        thing: such as "door" or "red ball".
        yes: word for the one side, "open".
        no: word for the other side, "closed".
        holds: whether the one side holds.
        place: where it is seen from.
    """

    thing: str
    yes: str
    no: str
    holds: bool
    place: Place


def ask_both_sides(memory: Memory, facts: list[StateFact]) -> tuple[int, list[str]]:
    """Ask every form about every fact.

    Returns:
        How many questions there were, and those with a wrong answer.
    """
    number, wrong = 0, []
    for fact in facts:
        for form, is_first_side in FORMS:
            text = form.format(thing=fact.thing, yes=fact.yes, no=fact.no)
            answer = memory.answer(Question(RecallQuery(text, place=fact.place)))
            number += 1
            if not answer.known or answer.value != float(fact.holds == is_first_side):
                wrong.append(f"{text} ({fact.place.x:g}) -> {answer.text}")
    return number, wrong


def ask_stories(
    stories: Sequence[tuple[str, str, str]], image: NDArray[np.uint8]
) -> tuple[int, list[str]]:
    """Store each story in a memory of its own and ask its question.

    Args:
        stories: story, question, and the first word of the right answer; see `memory_stories`.
        image: of each frame, uint8 RGB, (H, W, 3).

    Returns:
        How many questions there were, and those with a wrong answer.
    """
    wrong = []
    for story, text, expected in stories:
        with (
            tempfile.TemporaryDirectory() as folder,
            Memory.open(MemorySettings(path=f"{folder}/memory.db")) as memory,
        ):
            memory.begin_session("story", "simulated", "a new story", NANOSECONDS)
            for number, said in enumerate(story.split("; "), 2):
                stamp_ns = 10 * number * NANOSECONDS
                frame = Frame("front", stamp_ns, "front_optical", image, HERE)
                memory.write(event_step("story", number, frame, said, stamp_ns))
            answer = memory.answer(Question(RecallQuery(text)))
        said = answer.text.split(":")[0] if answer.known else "not known"
        if said != expected:
            wrong.append(f"{story} | {text} | {expected} -> {answer.text}")
    return len(stories), wrong
