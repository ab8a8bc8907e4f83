"""Measures how often the memory answers correctly: twelve simulated hours, 300 questions.

A robot spends an hour in each of twelve simulated rooms. What happens there is written through the
memory's own writer, in the captions of the simulated world and exactly as its scripts say. This
measures the memory, not a model. Questions are asked in plain words, with a time range or a place
if one is meant. The correct answers come from the scripts, never from the memory. Writes JSON,
prints a table and lists every wrong answer.

For comparison there are schemes that give text to a language model: the recall of the node, and the
published scheme that puts everything into the prompt. They are scored as if that model never erred:
a question counts as right if the text contains every event that its answer needs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from event_step import event_step
from memory_states import StateFact, ask_both_sides, ask_stories

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.context.recalled_lines import lines_within_budget
from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.answers.prompt_recall import max_records, recall_for_prompt
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.time_words import line
from stream_vlm.types import (
    NANOSECONDS,
    Decision,
    Frame,
    Pose,
    RecalledLine,
    State,
    StepResult,
    Tick,
)
from stream_vlm_lab.simulation.scene.captions import COLOURS, PORTABLE_KINDS
from stream_vlm_lab.simulation.script.script import Event
from stream_vlm_lab.simulation.script.script_writer import make_script

FIRST_NS = 1_700_000_000 * NANOSECONDS
ROOM_S = 3600
ROOMS = 12
FRAME_PERIOD_S = 5
ROOM_RADIUS_M = 2.0
TOP_K = 20
TOKENS_A_WORD = 1.3
BUDGETS = (512, 2048, 8192)
"""Tokens of recalled lines in the prompt (`context.memory_tokens`): the default, and more."""
WHOLE_CONTEXT = 48_000
"""Tokens of the whole context in the published scheme."""


@dataclass(frozen=True)
class DayEvent:
    """An event of a script on the robot's day.

    Attributes:
        room: number of the room.
        event: the event.
        start_ns: start in ns.
        end_ns: end in ns.
    """

    room: int
    event: Event
    start_ns: int
    end_ns: int

    @property
    def label(self) -> str:
        return self.event.label

    def is_about(self, kind: str, colour: str) -> bool:
        return (self.event.kind, self.event.colour) == (kind, colour)


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


class Day:
    """Twelve rooms, one after the other, 5 m apart along x."""

    def __init__(self, seed: int, events_per_minute: float) -> None:
        self.scripts = [
            make_script(seed * 1000 + room, ROOM_S, events_per_minute=events_per_minute)
            for room in range(ROOMS)
        ]
        self.events = [
            DayEvent(room, event, self.ns(room, event.t_start), self.ns(room, event.t_end))
            for room, script in enumerate(self.scripts)
            for event in script.events
        ]

    def ns(self, room: int, t_s: float) -> int:
        return FIRST_NS + round((room * ROOM_S + t_s) * NANOSECONDS)

    def place(self, room: int) -> Place:
        return Place(5.0 * room, 0.0, ROOM_RADIUS_M)

    def steps(self, room: int) -> Iterator[StepResult]:
        """The steps of a perfect model in the room's hour."""
        image = np.zeros((48, 64, 3), np.uint8)
        pose = Pose("map", 5.0 * room, 0.0, 0.0)
        moments = sorted(
            {(event.end_ns, index) for index, event in enumerate(self.events) if event.room == room}
        )
        frames = [(self.ns(room, second), -1) for second in range(0, ROOM_S, FRAME_PERIOD_S)]
        for number, (stamp_ns, index) in enumerate(sorted([*moments, *frames])):
            frame = Frame("front", stamp_ns, "front_optical", image, pose)
            if index < 0:
                yield StepResult(
                    f"room-{room}",
                    Tick(number, stamp_ns, (frame,)),
                    {"front": Decision(State.SILENCE, {State.SILENCE: 1.0})},
                )
                continue
            event = self.events[index]
            yield event_step(f"room-{room}", number, frame, event.label, event.start_ns)

    def write(self, memory: Memory) -> None:
        for room in range(ROOMS):
            memory.begin_session(f"room-{room}", "simulated", "a new room", self.ns(room, 0))
            for result in self.steps(room):
                memory.write(result)


def state_facts(day: Day) -> list[StateFact]:
    """Every state that an event of a room changed, as it is at the end of the room's hour."""
    facts = []
    for room, script in enumerate(day.scripts):
        place, last = day.place(room), script.states[-1]
        seen = [h.event for h in day.events if h.room == room]
        kinds = {event.kind for event in seen}
        if "door" in kinds and last.door_open is not None:
            facts.append(StateFact("door", "open", "closed", last.door_open, place))
        if "lamp" in kinds and last.lamp_on is not None:
            facts.append(StateFact("lamp", "on", "off", last.lamp_on, place))
        resting = {(script.things[one].kind, script.things[one].colour) for one in last.resting}
        for kind, colour in sorted({(one.kind, one.colour) for one in seen}):
            if kind in PORTABLE_KINDS:
                is_there = (kind, colour) in resting
                facts.append(StateFact(f"{colour} {kind}", "there", "gone", is_there, place))
    return facts


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


def tokens(text: str) -> int:
    """Estimate the tokens of a line in a Qwen tokenizer.

    One for each digit, each punctuation mark and the end of the line, 1.3 for a word.
    """
    words, others = len(re.findall(r"[^\W\d_]+", text)), len(re.findall(r"\d|[^\w\s]", text))
    return round(TOKENS_A_WORD * words) + others + 1


def as_line(event: DayEvent, now_ns: int) -> str:
    return line(RecalledLine(event.start_ns, event.end_ns, event.label), now_ns)


def holds_recalled(
    memory: Memory, question: ExamQuestion, budget: int, now_ns: int, *, filtered: bool
) -> bool:
    """Whether the lines recalled for `question` contain every event that its answer needs.

    The recall is the node's own code.
    """
    query = (
        question.query
        if filtered
        else replace(question.query, start_ns=None, end_ns=None, place=None)
    )
    past = recall_for_prompt(memory, query, max_records(budget)).context(now_ns)
    return set(lines_within_budget(past, now_ns, budget, tokens)).issuperset(
        as_line(event, now_ns) for event in question.needs
    )


def full_history_events(day: Day, budget: int) -> set[DayEvent]:
    """The newest events whose lines ("3605s: door opens") fit into `budget` tokens."""
    kept: set[DayEvent] = set()
    for event in reversed(day.events):
        budget -= tokens(f"{(event.end_ns - FIRST_NS) // NANOSECONDS}s: {event.label}")
        if budget < 0:
            break
        kept.add(event)
    return kept


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--events-per-minute", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory-questions.json"))
    arguments = parser.parse_args()
    day = Day(arguments.seed, arguments.events_per_minute)
    exam = QuestionGenerator(day, random.Random(arguments.seed)).questions(arguments.questions)
    asked = Counter(question.category for question in exam)
    right: dict[str, Counter[str]] = {"memory": Counter(), f"text-only top {TOP_K}": Counter()}
    wrong, times = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(MemorySettings(path=f"{folder}/memory.db", thumbnail_period_s=3600)) as memory,
    ):
        day.write(memory)
        for question in exam:
            answer = memory.answer(Question(question.query))
            times.append(answer.took_ms)
            right["memory"][question.category] += question.is_right(answer)
            if not question.is_right(answer):
                wrong.append(
                    {
                        "category": question.category,
                        "question": question.query.text,
                        "expected": question.expected,
                        "answered": answer.text,
                    }
                )
            # Search by words only, over everything, as in a store of embedded captions.
            found = {
                (record.text, record.end_ns)
                for record in memory.recall(
                    RecallQuery(question.query.text, kinds=("event",), limit=TOP_K)
                ).records
            }
            right[f"text-only top {TOP_K}"][question.category] += all(
                (h.label, h.end_ns) in found for h in question.needs
            )
        now_ns = day.ns(ROOMS, 0)
        for budget in BUDGETS:
            for name, filtered in (
                (f"recall, {budget} tokens", True),
                (f"recall by words alone, {budget}", False),
            ):
                holds = partial(
                    holds_recalled, memory, budget=budget, now_ns=now_ns, filtered=filtered
                )
                right[name] = Counter(question.category for question in exam if holds(question))
        records = memory.count()
        states = {
            "both sides of every state": ask_both_sides(memory, state_facts(day)),
            "stories about other states": ask_stories(np.zeros((48, 64, 3), np.uint8)),
        }
    for budget in (*BUDGETS, WHOLE_CONTEXT):
        held = full_history_events(day, budget)
        right[f"full history, {budget} tokens"] = Counter(
            question.category for question in exam if held.issuperset(question.needs)
        )
    report = {
        "events": len(day.events),
        "records": records,
        "questions": len(exam),
        "answer_ms": {
            "p50": float(np.percentile(times, 50)),
            "p99": float(np.percentile(times, 99)),
        },
        "right": {
            scheme: {
                "all": sum(by.values()) / len(exam),
                **{one: by[one] / asked[one] for one in asked},
            }
            for scheme, by in right.items()
        },
        "states": {
            name: {"questions": number, "right": 1 - len(missed) / number, "wrong": missed}
            for name, (number, missed) in states.items()
        },
        "wrong": wrong,
    }
    print(
        f"{len(day.events)} events, {records} records, {len(exam)} questions; an answer took"
        f" {report['answer_ms']} ms\n"
    )
    print(f"{'questions':<32}{len(exam):14}" + "".join(f"{asked[one]:14}" for one in asked))
    print(f"{'% right':<32}" + "".join(f"{one:>14}" for one in ("all", *asked)))
    for scheme, by in right.items():
        print(
            f"{scheme:<32}{100 * sum(by.values()) / len(exam):14.1f}"
            + "".join(f"{100 * by[one] / asked[one]:14.1f}" for one in asked)
        )
    for name, (number, missed) in states.items():
        print(f"{name}: {number - len(missed)} of {number} right")
    for one in [*wrong, *(one for _, missed in states.values() for one in missed)]:
        print(f"wrong: {one}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"→ {arguments.out}")


if __name__ == "__main__":
    main()
