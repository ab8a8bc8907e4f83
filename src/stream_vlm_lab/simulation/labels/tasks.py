"""Tasks about a simulated stream, with every answer that is due and its exact time.

The kinds are those of Streamo (arXiv 2512.21334) and two that a robot needs in addition: to report
when something happens, and to remember. Times are those of the pictures: what a dropped or frozen
picture hides becomes due when the fault is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.labels.changing_answers import changing_question
from stream_vlm_lab.simulation.labels.event_pattern import (
    EventPattern,
    all_patterns,
    pattern_of,
    steps,
)
from stream_vlm_lab.simulation.labels.ground_truth import VisibleQuestions
from stream_vlm_lab.simulation.labels.memory_questions import memory_question
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvent, VisibleEvents
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.world import World

KINDS = (
    "narration",
    "event-caption",
    "action-caption",
    "grounding-forward",
    "grounding-backward",
    "time-sensitive",
    "tell-me-when",
    "long-memory",
    "question",
)
NO_EVENT_SHARE = 0.25
"""Share of "tell me when" tasks whose event does not happen any more."""


@dataclass(frozen=True)
class Reply:
    """An answer and when it is due; times in seconds.

    Attributes:
        text: the answer.
        t_start: start of what it is about.
        t_end: when it is due; equal to `t_start` if it can be said at once.
    """

    text: str
    t_start: float
    t_end: float


@dataclass(frozen=True)
class Task:
    """A question at `t_s` with all answers that are due.

    Attributes:
        kind: one of `KINDS`.
        t_s: whole seconds, at which no event is in progress.
        question: the question.
        replies: the answers in order of time; empty if the model should stay silent.
    """

    kind: str
    t_s: float
    question: str
    replies: tuple[Reply, ...]


def tasks_of(world: World, kinds: Collection[str] = KINDS, *, each: int = 4) -> list[Task]:
    """Tasks about `world`, by kind and time; the same arguments give the same tasks.

    Args:
        world: the stream.
        kinds: kinds of tasks.
        each: most tasks of a kind; a short stream can have fewer. Narration and event captions are
            asked once, at the start.

    Raises:
        WorldError: a kind is unknown, or `each` is below 1.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise WorldError(
            f"tasks: {', '.join(map(repr, unknown))} is refused; use some of {', '.join(KINDS)}"
        )
    if each < 1:
        raise WorldError(f"tasks of each kind: {each} is refused; use 1 or more")
    tasks = []
    for kind in KINDS:
        if kind in kinds:
            # A separate generator, so that the tasks of a kind do not depend on the other kinds.
            tasks += _TaskMaker(
                world, np.random.default_rng([world.script.seed, 0x7A5C, KINDS.index(kind)])
            ).ask(kind, each)
    return tasks


class _TaskMaker:
    """Makes tasks of one kind."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self._visible = VisibleEvents(world)
        self._makers: dict[str, Callable[[float], Task | None]] = {
            "action-caption": self._action_caption,
            "grounding-forward": self._forward,
            "grounding-backward": self._backward,
            "time-sensitive": self._time_sensitive,
            "tell-me-when": self._tell_me_when,
            "long-memory": self._long_memory,
            "question": self._question,
        }

    def ask(self, kind: str, most: int) -> list[Task]:
        if kind == "narration":
            return [self._narration()]
        if kind == "event-caption":
            return [self._event_caption()]
        made: dict[object, Task] = {}
        times = list(self._rng.permutation(self._visible.askable_times))
        for t_s in times[: 12 * most]:
            if len(made) == most:
                break
            task = self._makers[kind](float(t_s))
            if task is not None:
                # No question is asked twice. The question about the next action always has the same
                # words, so there the actions must differ.
                made.setdefault(task.replies if kind == "action-caption" else task.question, task)
        return sorted(made.values(), key=lambda task: task.t_s)

    # -- during the whole stream

    def _narration(self) -> Task:
        replies = tuple(
            Reply(seen.event.label, seen.t_start, seen.t_end) for seen in self._visible.events
        )
        return Task("narration", 0.0, "Say what happens, whenever something has happened.", replies)

    def _event_caption(self) -> Task:
        replies = tuple(
            Reply(f"{_span(seen)}: {seen.event.label}", seen.t_start, seen.t_end)
            for seen in self._visible.events
        )
        return Task(
            "event-caption",
            0.0,
            "Describe each event when it is over, with the time from its start to its end.",
            replies,
        )

    # -- about the future

    def _action_caption(self, t_s: float) -> Task | None:
        coming = self._visible.after(t_s)
        if not coming:
            return None
        replies = [
            Reply(text, self._visible.visible_from(start), self._visible.visible_from(end))
            for text, start, end in steps(coming[0].event)
        ]
        return Task(
            "action-caption",
            t_s,
            "Which steps does the next action consist of? Say each when it is done.",
            tuple(replies),
        )

    def _forward(self, t_s: float) -> Task | None:
        pattern = self._pattern(self._visible.after(t_s)[:4])
        if pattern is None:
            return None
        seen = self._visible.first_match(pattern, t_s)
        assert seen is not None
        question = f"From when to when does this happen next: {pattern.words}?"
        return Task(
            "grounding-forward", t_s, question, (Reply(_span(seen), seen.t_start, seen.t_end),)
        )

    def _tell_me_when(self, t_s: float) -> Task | None:
        coming = self._visible.after(t_s)
        pattern = self._pattern(coming[:4])
        if self._rng.random() < NO_EVENT_SHARE:
            pattern = pattern_without_event(coming, self._rng)
        if pattern is None:
            return None
        seen = self._visible.first_match(pattern, t_s)
        replies = (Reply(seen.event.label, seen.t_start, seen.t_end),) if seen else ()
        return Task("tell-me-when", t_s, f"Tell me when {pattern.words}.", replies)

    def _time_sensitive(self, t_s: float) -> Task | None:
        found = changing_question(self._visible, t_s, self._rng)
        return (
            Task("time-sensitive", t_s, found[0], tuple(Reply(*answer) for answer in found[1]))
            if found
            else None
        )

    # -- about the past and the present

    def _backward(self, t_s: float) -> Task | None:
        pattern = self._pattern(self._visible.before(t_s))
        if pattern is None:
            return None
        last = [seen for seen in self._visible.before(t_s) if pattern.matches(seen.event)][-1]
        return Task(
            "grounding-backward",
            t_s,
            f"From when to when did this last happen: {pattern.words}?",
            (Reply(_span(last), t_s, t_s),),
        )

    def _long_memory(self, t_s: float) -> Task | None:
        found = memory_question(self._visible, t_s, self._rng)
        return Task("long-memory", t_s, found[0], (Reply(found[1], t_s, t_s),)) if found else None

    def _question(self, t_s: float) -> Task | None:
        asked = VisibleQuestions(self._world.script, self._rng).ask(t_s)
        return Task("question", t_s, asked.question, (Reply(asked.answer, t_s, t_s),))

    def _pattern(self, among: Sequence[VisibleEvent]) -> EventPattern | None:
        """The pattern of one of `among`, or None if it is empty."""
        if not among:
            return None
        return pattern_of(
            among[int(self._rng.integers(len(among)))].event,
            any_colour=bool(self._rng.random() < 0.4),
        )


def pattern_without_event(coming: Sequence[VisibleEvent], rng: np.random.Generator) -> EventPattern:
    """A pattern that none of `coming` matches."""
    upcoming = {(seen.event.action, seen.event.kind) for seen in coming}
    absent = [
        pattern
        for pattern in all_patterns()
        if not any(pattern.matches(seen.event) for seen in coming)
    ]
    # Another action on a present thing is harder to tell apart than an absent thing.
    near = [pattern for pattern in absent if any(pattern.kind == kind for _, kind in upcoming)]
    return (near or absent)[int(rng.integers(len(near or absent)))]


def _span(seen: VisibleEvent) -> str:
    return f"{seen.t_start:.1f} s - {seen.t_end:.1f} s"
