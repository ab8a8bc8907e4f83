"""Questions about a day, in plain words, with the correct answers from the scripts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from memory_day import ROOM_S, ROOMS, Day, DayEvent

from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.types import (
    NANOSECONDS,
)
from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS


@dataclass(frozen=True)
class ExamQuestion:
    """A question with its correct answer.

    Attributes:
        category: kind of question.
        query: the question.
        is_right: whether an answer is correct.
        expected: the correct answer as text.
        needs: the events that the answer needs.
    """

    category: str
    query: RecallQuery
    is_right: Callable[[Answer], bool]
    expected: str
    needs: tuple[DayEvent, ...] = ()


class QuestionGenerator:
    """Draws questions about `day`.

    There is one method for each category; it returns None if its draw has no unique correct answer.
    """

    def __init__(self, day: Day, rng: random.Random) -> None:
        self._day = day
        self._rng = rng
        self._portable = sorted(
            {(h.event.kind, h.event.colour) for h in day.events if h.event.kind in PORTABLE_KINDS}
        )

    def questions(self, number: int) -> list[ExamQuestion]:
        """Draw `number` different questions, the categories in turn."""
        makers = (
            self._when,
            self._where,
            self._what,
            self._how_often,
            self._how_long,
            self._still_there,
            self._before_after,
            self._negative,
        )
        made: dict[tuple[str, RecallQuery], ExamQuestion] = {}
        for turn in range(100 * number):
            question = makers[turn % len(makers)]()
            if question is not None:
                made.setdefault((question.query.text, question.query), question)
            if len(made) == number:
                break
        return list(made.values())

    def _about(self, kind: str, colour: str, room: int | None = None) -> list[DayEvent]:
        return [h for h in self._day.events if h.is_about(kind, colour) and room in (None, h.room)]

    def _when(self) -> ExamQuestion | None:
        kind, colour = self._rng.choice(self._portable)
        about = self._about(kind, colour)
        if self._rng.random() < 0.5:
            first = about[0]
            return ExamQuestion(
                "when",
                RecallQuery(f"when did you first see the {colour} {kind}?"),
                at(first.start_ns),
                first.label,
                (first,),
            )
        last = about[-1]
        return ExamQuestion(
            "when",
            RecallQuery(f"when did you last see the {colour} {kind}?"),
            at(last.end_ns),
            last.label,
            (last,),
        )

    def _where(self) -> ExamQuestion | None:
        kind, colour = self._rng.choice(self._portable)
        last = self._about(kind, colour)[-1]
        place = self._day.place(last.room)

        def is_right(answer: Answer) -> bool:
            pose = answer.records[0].pose if answer.records else None
            return (
                pose is not None and abs(pose.x - place.x) <= 0.5 and abs(pose.y - place.y) <= 0.5
            )

        return ExamQuestion(
            "where",
            RecallQuery(f"where did you last see the {colour} {kind}?"),
            is_right,
            f"({place.x}, {place.y})",
            (last,),
        )

    def _what(self) -> ExamQuestion | None:
        room, second = self._rng.randrange(ROOMS), self._rng.randrange(ROOM_S - 120)
        start_ns, end_ns = self._day.ns(room, second), self._day.ns(room, second + 120)
        seen = tuple(h for h in self._day.events if h.end_ns >= start_ns and h.start_ns <= end_ns)
        labels = [h.label for h in seen]

        def is_right(answer: Answer) -> bool:
            return [record.text for record in answer.records] == labels and answer.known == bool(
                labels
            )

        return ExamQuestion(
            "what",
            RecallQuery("what happened?", start_ns, end_ns),
            is_right,
            "; ".join(labels) or "nothing",
            seen,
        )

    def _how_often(self) -> ExamQuestion | None:
        if self._rng.random() < 0.5:
            kind, action, asked = self._rng.choice(
                (
                    ("door", "opens", "open"),
                    ("door", "closes", "close"),
                    ("lamp", "turns on", "turn on"),
                )
            )
            seen = tuple(
                h for h in self._day.events if (h.event.kind, h.event.action) == (kind, action)
            )
            text = f"how often did the {kind} {asked}?"
        else:
            colour = self._rng.choice(COLOURS)
            action, asked = self._rng.choice((("enters", "enter"), ("leaves", "leave")))
            seen = tuple(h for h in self._about("person", colour) if h.event.action == action)
            text = f"how often did a person in {colour} {asked}?"
        start_ns = self._day.ns(self._rng.randrange(ROOMS), 0)
        end_ns = start_ns + self._rng.choice((1, 3, 12)) * ROOM_S * NANOSECONDS
        seen = tuple(h for h in seen if h.end_ns >= start_ns and h.start_ns <= end_ns)
        return ExamQuestion(
            "how often",
            RecallQuery(text, start_ns, end_ns),
            lambda answer: answer.value == len(seen),
            str(len(seen)),
            seen,
        )

    def _how_long(self) -> ExamQuestion | None:
        room = self._rng.randrange(ROOMS)
        kind, asked = self._rng.choice((("door", "open"), ("lamp", "on")))
        seen = tuple(h for h in self._day.events if h.room == room and h.event.kind == kind)
        if not seen:
            return None
        script = self._day.scripts[room]
        borders = [0.0, *(event.t_end for event in script.events), script.duration_s]
        states = [state.door_open if kind == "door" else state.lamp_on for state in script.states]
        truth = sum(
            after - before
            for state, (before, after) in zip(states, pairwise(borders), strict=True)
            if state
        )

        def is_right(answer: Answer) -> bool:
            return answer.known and abs(answer.value - truth) <= max(5.0, 0.05 * truth)

        query = RecallQuery(f"how long was the {kind} {asked}?", place=self._day.place(room))
        return ExamQuestion("how long", query, is_right, f"{truth:.0f} s", seen)

    def _still_there(self) -> ExamQuestion | None:
        room = self._rng.randrange(ROOMS)
        script = self._day.scripts[room]
        if self._rng.random() < 0.4:
            kind, asked = self._rng.choice((("door", "open"), ("lamp", "on")))
            seen = [h for h in self._day.events if h.room == room and h.event.kind == kind]
            truth = script.states[-1].door_open if kind == "door" else script.states[-1].lamp_on
            text = f"is the {kind} still {asked}?"
        else:
            kind, colour = self._rng.choice(self._portable)
            seen = self._about(kind, colour, room)
            truth = any(
                (script.things[one].kind, script.things[one].colour) == (kind, colour)
                for one in script.states[-1].resting
            )
            text = f"is the {colour} {kind} still there?"
        if not seen:
            return None
        query = RecallQuery(text, place=self._day.place(room))
        return ExamQuestion(
            "still there",
            query,
            lambda answer: answer.known and answer.value == float(bool(truth)),
            str(truth),
            (seen[-1],),
        )

    def _before_after(self) -> ExamQuestion | None:
        index = self._rng.randrange(1, len(self._day.events) - 1)
        anchor = self._day.events[index]
        start_ns = self._day.ns(anchor.room, 0)
        window = (start_ns, start_ns + ROOM_S * NANOSECONDS - 1)
        same = [
            h
            for h in self._day.events
            if h.room == anchor.room and set(anchor.label.split()) <= set(h.label.split())
        ]
        side = self._rng.choice(("before", "after"))
        neighbour = self._day.events[index + (1 if side == "after" else -1)]
        if same[-1] is not anchor or neighbour.room != anchor.room:
            return None

        def is_right(answer: Answer) -> bool:
            return (
                answer.known
                and answer.records[0].text == neighbour.label
                and answer.records[0].end_ns == neighbour.end_ns
            )

        query = RecallQuery(f"what happened {side} '{anchor.label}'?", *window)
        return ExamQuestion("before/after", query, is_right, neighbour.label, (anchor, neighbour))

    def _negative(self) -> ExamQuestion | None:
        kind, colour = (
            self._rng.choice((*PORTABLE_KINDS, "dog", "umbrella", "person")),
            self._rng.choice((*COLOURS, "pink")),
        )
        if self._about(kind, colour) or (
            kind == "person"
            and any(colour in h.label.split() and "person" in h.label for h in self._day.events)
        ):
            return None
        asked = self._rng.choice(
            (
                "when did you last see the {}?",
                "where is the {}?",
                "how often did you see the {}?",
                "is the {} still there?",
            )
        )
        thing = f"{colour} {kind}"
        return ExamQuestion(
            "negative",
            RecallQuery(asked.format(thing)),
            lambda answer: not answer.records and answer.value == 0,
            "never seen",
        )


def at(stamp_ns: int) -> Callable[[Answer], bool]:
    """Whether an answer names this time, to a second."""
    return lambda answer: answer.known and abs(answer.stamp_ns - stamp_ns) <= NANOSECONDS
