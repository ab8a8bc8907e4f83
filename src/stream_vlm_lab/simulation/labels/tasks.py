"""What a watcher may be asked about a simulated stream, and every answer that is due, with its
exact time.

The kinds are those of Streamo (arXiv 2512.21334) and those that a robot needs besides: to be told
when something happens, and to remember. Times are those of the pictures: what a dropped or frozen
picture hides becomes due when it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.labels.askable_times import Moments, Seen
from stream_vlm_lab.simulation.labels.changing_answers import changing_question
from stream_vlm_lab.simulation.labels.event_pattern import Wanted, everything, steps, wanted_by
from stream_vlm_lab.simulation.labels.ground_truth import Interviewer
from stream_vlm_lab.simulation.labels.memory_questions import memory_question
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
NEVER_SHARE = 0.25
"""So often somebody waits for what does not happen any more."""


@dataclass(frozen=True)
class Reply:
    """An answer that is due at `t_end`; what it speaks of is under way from `t_start` on.

    Both are equal where it can be said at once. Seconds.
    """

    text: str
    t_start: float
    t_end: float


@dataclass(frozen=True)
class Task:
    """Something asked at `t_s` (whole seconds, while nothing is under way) with all answers that
    are due, in order of time; none means silence.

    Attributes:
        kind: one of `KINDS`.
    """

    kind: str
    t_s: float
    question: str
    replies: tuple[Reply, ...]


def tasks_of(world: World, kinds: Collection[str] = KINDS, *, each: int = 4) -> list[Task]:
    """Tasks of `kinds` about `world`, in order of kind and time; the same arguments give the same
    tasks.

    Args:
        each: how many of a kind at most; narration and event captions are asked once, from the
            beginning. A stream in which there is nothing to ask has fewer.

    Raises:
        WorldError: an unknown kind, or fewer than one of each.
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
            # A generator of its own, so that a kind's tasks do not depend on the other kinds.
            tasks += _Asking(
                world, np.random.default_rng([world.script.seed, 0x7A5C, KINDS.index(kind)])
            ).ask(kind, each)
    return tasks


class _Asking:
    """Makes tasks of one kind."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self._moments = Moments(world)
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
        moments = list(self._rng.permutation(self._moments.quiet))
        for t_s in moments[: 12 * most]:
            if len(made) == most:
                break
            task = self._makers[kind](float(t_s))
            if task is not None:
                # Nothing is asked twice; about the next action everybody asks in the same words, so
                # there it is the action.
                made.setdefault(task.replies if kind == "action-caption" else task.question, task)
        return sorted(made.values(), key=lambda task: task.t_s)

    # -- all the time

    def _narration(self) -> Task:
        replies = tuple(
            Reply(seen.event.label, seen.t_start, seen.t_end) for seen in self._moments.events
        )
        return Task("narration", 0.0, "Say what happens, whenever something has happened.", replies)

    def _event_caption(self) -> Task:
        replies = tuple(
            Reply(f"{_span(seen)}: {seen.event.label}", seen.t_start, seen.t_end)
            for seen in self._moments.events
        )
        return Task(
            "event-caption",
            0.0,
            "Describe each event when it is over, with the time from its start to its end.",
            replies,
        )

    # -- what comes

    def _action_caption(self, t_s: float) -> Task | None:
        coming = self._moments.after(t_s)
        if not coming:
            return None
        replies = [
            Reply(text, self._moments.seen_from(start), self._moments.seen_from(end))
            for text, start, end in steps(coming[0].event)
        ]
        return Task(
            "action-caption",
            t_s,
            "Which steps does the next action consist of? Say each when it is done.",
            tuple(replies),
        )

    def _forward(self, t_s: float) -> Task | None:
        wanted = self._wanted(self._moments.after(t_s)[:4])
        if wanted is None:
            return None
        seen = self._moments.first(wanted, t_s)
        assert seen is not None
        question = f"From when to when does this happen next: {wanted.words}?"
        return Task(
            "grounding-forward", t_s, question, (Reply(_span(seen), seen.t_start, seen.t_end),)
        )

    def _tell_me_when(self, t_s: float) -> Task | None:
        coming = self._moments.after(t_s)
        wanted = self._wanted(coming[:4])
        if self._rng.random() < NEVER_SHARE:
            wanted = never(coming, self._rng)
        if wanted is None:
            return None
        seen = self._moments.first(wanted, t_s)
        replies = (Reply(seen.event.label, seen.t_start, seen.t_end),) if seen else ()
        return Task("tell-me-when", t_s, f"Tell me when {wanted.words}.", replies)

    def _time_sensitive(self, t_s: float) -> Task | None:
        found = changing_question(self._moments, t_s, self._rng)
        return (
            Task("time-sensitive", t_s, found[0], tuple(Reply(*answer) for answer in found[1]))
            if found
            else None
        )

    # -- what was and what is

    def _backward(self, t_s: float) -> Task | None:
        wanted = self._wanted(self._moments.before(t_s))
        if wanted is None:
            return None
        last = [seen for seen in self._moments.before(t_s) if wanted.fits(seen.event)][-1]
        return Task(
            "grounding-backward",
            t_s,
            f"From when to when did this last happen: {wanted.words}?",
            (Reply(_span(last), t_s, t_s),),
        )

    def _long_memory(self, t_s: float) -> Task | None:
        found = memory_question(self._moments, t_s, self._rng)
        return Task("long-memory", t_s, found[0], (Reply(found[1], t_s, t_s),)) if found else None

    def _question(self, t_s: float) -> Task | None:
        asked = Interviewer(self._world.script, self._rng).ask(t_s)
        return Task("question", t_s, asked.question, (Reply(asked.answer, t_s, t_s),))

    def _wanted(self, among: Sequence[Seen]) -> Wanted | None:
        """What one of `among` is one of."""
        if not among:
            return None
        return wanted_by(
            among[int(self._rng.integers(len(among)))].event,
            any_colour=bool(self._rng.random() < 0.4),
        )


def never(coming: Sequence[Seen], rng: np.random.Generator) -> Wanted:
    """Something that none of `coming` is."""
    happening = {(seen.event.action, seen.event.kind) for seen in coming}
    absent = [
        wanted for wanted in everything() if not any(wanted.fits(seen.event) for seen in coming)
    ]
    # Another action on a thing that is there deceives better than something of which there is no
    # trace.
    near = [wanted for wanted in absent if any(wanted.kind == kind for _, kind in happening)]
    return (near or absent)[int(rng.integers(len(near or absent)))]


def _span(seen: Seen) -> str:
    return f"{seen.t_start:.1f} s - {seen.t_end:.1f} s"
