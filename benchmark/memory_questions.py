"""How often the memory is right: twelve simulated hours, 300 generated questions, every wrong
answer listed; JSON and a table.

A robot spends an hour in each of twelve simulated rooms. What happens there is written through the
memory's own writer, in the captions of the simulated world, as exactly as its scripts say: what is
measured is the memory and not a model's eyes. Questions are asked in plain words, with a time range
or a place where one is meant; what is right is worked out from the scripts and never from the
memory.

Beside it stand schemes that hand text to a language model: recall into the prompt as the node does
    it, and the published one that pours everything
in. They are judged as if that model never erred: a question counts as right when the handed text
    holds every event that its answer rests on.
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
from reported import reported

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.context.recalled_lines import within_budget
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
from stream_vlm_lab.simulation.script.director import make_script
from stream_vlm_lab.simulation.script.script import Event

FIRST_NS = 1_700_000_000 * NANOSECONDS
ROOM_S = 3600
ROOMS = 12
LOOKS_EVERY_S = 5
ROOM_RADIUS_M = 2.0
TOP_K = 20
TOKENS_A_WORD = 1.3
BUDGETS = (512, 2048, 8192)
"""Tokens of the past in the prompt, `context.memory_tokens`: this package's default, and larger
ones.
"""
WHOLE_CONTEXT = 48_000
"""Tokens of the published scheme's whole context."""


@dataclass(frozen=True)
class Happening:
    """An event of a script in the robot's day: which room, and its span in ns."""

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
class Exam:
    """A question, whether an answer is right, and the happenings that it rests on."""

    category: str
    query: RecallQuery
    is_right: Callable[[Answer], bool]
    expected: str
    needs: tuple[Happening, ...] = ()


class Day:
    """Twelve rooms, one after the other, in 5 m steps along x."""

    def __init__(self, seed: int, events_per_minute: float) -> None:
        self.scripts = [
            make_script(seed * 1000 + room, ROOM_S, events_per_minute=events_per_minute)
            for room in range(ROOMS)
        ]
        self.happenings = [
            Happening(room, event, self.ns(room, event.t_start), self.ns(room, event.t_end))
            for room, script in enumerate(self.scripts)
            for event in script.events
        ]

    def ns(self, room: int, t_s: float) -> int:
        return FIRST_NS + round((room * ROOM_S + t_s) * NANOSECONDS)

    def place(self, room: int) -> Place:
        return Place(5.0 * room, 0.0, ROOM_RADIUS_M)

    def steps(self, room: int) -> Iterator[StepResult]:
        """What a faultless model makes of the room's hour."""
        image = np.zeros((48, 64, 3), np.uint8)
        pose = Pose("map", 5.0 * room, 0.0, 0.0)
        moments = sorted(
            {
                (happening.end_ns, index)
                for index, happening in enumerate(self.happenings)
                if happening.room == room
            }
        )
        looks = [(self.ns(room, second), -1) for second in range(0, ROOM_S, LOOKS_EVERY_S)]
        for number, (stamp_ns, index) in enumerate(sorted([*moments, *looks])):
            frame = Frame("front", stamp_ns, "front_optical", image, pose)
            if index < 0:
                yield StepResult(
                    f"room-{room}",
                    Tick(number, stamp_ns, (frame,)),
                    {"front": Decision(State.SILENCE, {State.SILENCE: 1.0})},
                )
                continue
            happening = self.happenings[index]
            yield reported(f"room-{room}", number, frame, happening.label, happening.start_ns)

    def write(self, memory: Memory) -> None:
        for room in range(ROOMS):
            memory.begin_session(f"room-{room}", "simulated", "a new room", self.ns(room, 0))
            for result in self.steps(room):
                memory.write(result)


class Examiner:
    """Draws questions about `day`; one maker a category, each returns None where its draw has no
    single right answer.
    """

    def __init__(self, day: Day, rng: random.Random) -> None:
        self._day = day
        self._rng = rng
        self._portable = sorted(
            {
                (h.event.kind, h.event.colour)
                for h in day.happenings
                if h.event.kind in PORTABLE_KINDS
            }
        )

    def questions(self, number: int) -> list[Exam]:
        """`number` different questions, the categories in turn."""
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
        made: dict[tuple[str, RecallQuery], Exam] = {}
        for turn in range(100 * number):
            exam = makers[turn % len(makers)]()
            if exam is not None:
                made.setdefault((exam.query.text, exam.query), exam)
            if len(made) == number:
                break
        return list(made.values())

    def _about(self, kind: str, colour: str, room: int | None = None) -> list[Happening]:
        return [
            h for h in self._day.happenings if h.is_about(kind, colour) and room in (None, h.room)
        ]

    def _when(self) -> Exam | None:
        kind, colour = self._rng.choice(self._portable)
        about = self._about(kind, colour)
        if self._rng.random() < 0.5:
            first = about[0]
            return Exam(
                "when",
                RecallQuery(f"when did you first see the {colour} {kind}?"),
                at(first.start_ns),
                first.label,
                (first,),
            )
        last = about[-1]
        return Exam(
            "when",
            RecallQuery(f"when did you last see the {colour} {kind}?"),
            at(last.end_ns),
            last.label,
            (last,),
        )

    def _where(self) -> Exam | None:
        kind, colour = self._rng.choice(self._portable)
        last = self._about(kind, colour)[-1]
        place = self._day.place(last.room)

        def is_right(answer: Answer) -> bool:
            pose = answer.records[0].pose if answer.records else None
            return (
                pose is not None and abs(pose.x - place.x) <= 0.5 and abs(pose.y - place.y) <= 0.5
            )

        return Exam(
            "where",
            RecallQuery(f"where did you last see the {colour} {kind}?"),
            is_right,
            f"({place.x}, {place.y})",
            (last,),
        )

    def _what(self) -> Exam | None:
        room, second = self._rng.randrange(ROOMS), self._rng.randrange(ROOM_S - 120)
        start_ns, end_ns = self._day.ns(room, second), self._day.ns(room, second + 120)
        seen = tuple(
            h for h in self._day.happenings if h.end_ns >= start_ns and h.start_ns <= end_ns
        )
        labels = [h.label for h in seen]

        def is_right(answer: Answer) -> bool:
            return [record.text for record in answer.records] == labels and answer.known == bool(
                labels
            )

        return Exam(
            "what",
            RecallQuery("what happened?", start_ns, end_ns),
            is_right,
            "; ".join(labels) or "nothing",
            seen,
        )

    def _how_often(self) -> Exam | None:
        if self._rng.random() < 0.5:
            kind, action, asked = self._rng.choice(
                (
                    ("door", "opens", "open"),
                    ("door", "closes", "close"),
                    ("lamp", "turns on", "turn on"),
                )
            )
            seen = tuple(
                h for h in self._day.happenings if (h.event.kind, h.event.action) == (kind, action)
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
        return Exam(
            "how often",
            RecallQuery(text, start_ns, end_ns),
            lambda answer: answer.value == len(seen),
            str(len(seen)),
            seen,
        )

    def _how_long(self) -> Exam | None:
        room = self._rng.randrange(ROOMS)
        kind, asked = self._rng.choice((("door", "open"), ("lamp", "on")))
        seen = tuple(h for h in self._day.happenings if h.room == room and h.event.kind == kind)
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
        return Exam("how long", query, is_right, f"{truth:.0f} s", seen)

    def _still_there(self) -> Exam | None:
        room = self._rng.randrange(ROOMS)
        script = self._day.scripts[room]
        if self._rng.random() < 0.4:
            kind, asked = self._rng.choice((("door", "open"), ("lamp", "on")))
            seen = [h for h in self._day.happenings if h.room == room and h.event.kind == kind]
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
        return Exam(
            "still there",
            query,
            lambda answer: answer.known and answer.value == float(bool(truth)),
            str(truth),
            (seen[-1],),
        )

    def _before_after(self) -> Exam | None:
        index = self._rng.randrange(1, len(self._day.happenings) - 1)
        anchor = self._day.happenings[index]
        start_ns = self._day.ns(anchor.room, 0)
        window = (start_ns, start_ns + ROOM_S * NANOSECONDS - 1)
        same = [
            h
            for h in self._day.happenings
            if h.room == anchor.room and set(anchor.label.split()) <= set(h.label.split())
        ]
        side = self._rng.choice(("before", "after"))
        neighbour = self._day.happenings[index + (1 if side == "after" else -1)]
        if same[-1] is not anchor or neighbour.room != anchor.room:
            return None

        def is_right(answer: Answer) -> bool:
            return (
                answer.known
                and answer.records[0].text == neighbour.label
                and answer.records[0].end_ns == neighbour.end_ns
            )

        query = RecallQuery(f"what happened {side} '{anchor.label}'?", *window)
        return Exam("before/after", query, is_right, neighbour.label, (anchor, neighbour))

    def _negative(self) -> Exam | None:
        kind, colour = (
            self._rng.choice((*PORTABLE_KINDS, "dog", "umbrella", "person")),
            self._rng.choice((*COLOURS, "pink")),
        )
        if self._about(kind, colour) or (
            kind == "person"
            and any(colour in h.label.split() and "person" in h.label for h in self._day.happenings)
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
        return Exam(
            "negative",
            RecallQuery(asked.format(thing)),
            lambda answer: not answer.records and answer.value == 0,
            "never seen",
        )


def at(stamp_ns: int) -> Callable[[Answer], bool]:
    """Whether an answer names this moment, to a second."""
    return lambda answer: answer.known and abs(answer.stamp_ns - stamp_ns) <= NANOSECONDS


def tokens(text: str) -> int:
    """About what a Qwen tokenizer makes of a line: a token for each digit, each mark and the line's
    end, and 1.3 for a word.
    """
    words, others = len(re.findall(r"[^\W\d_]+", text)), len(re.findall(r"\d|[^\w\s]", text))
    return round(TOKENS_A_WORD * words) + others + 1


def as_line(happening: Happening, now_ns: int) -> str:
    return line(RecalledLine(happening.start_ns, happening.end_ns, happening.label), now_ns)


def holds_recalled(memory: Memory, exam: Exam, budget: int, now_ns: int, *, filtered: bool) -> bool:
    """Whether what is recalled for the question of `exam` holds all that its answer rests on: read
    and written by the node's own code.
    """
    query = exam.query if filtered else replace(exam.query, start_ns=None, end_ns=None, place=None)
    past = recall_for_prompt(memory, query, max_records(budget)).context(now_ns)
    return set(within_budget(past, now_ns, budget, tokens)).issuperset(
        as_line(happening, now_ns) for happening in exam.needs
    )


def poured(day: Day, budget: int) -> set[Happening]:
    """The newest happenings whose lines ("3605s: door opens", `history.History`) fit into `budget`
    tokens.
    """
    kept: set[Happening] = set()
    for happening in reversed(day.happenings):
        budget -= tokens(f"{(happening.end_ns - FIRST_NS) // NANOSECONDS}s: {happening.label}")
        if budget < 0:
            break
        kept.add(happening)
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
    exams = Examiner(day, random.Random(arguments.seed)).questions(arguments.questions)
    asked = Counter(exam.category for exam in exams)
    right: dict[str, Counter[str]] = {"memory": Counter(), f"text-only top {TOP_K}": Counter()}
    wrong, times = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(MemorySettings(path=f"{folder}/memory.db", thumbnail_period_s=3600)) as memory,
    ):
        day.write(memory)
        for exam in exams:
            answer = memory.answer(Question(exam.query))
            times.append(answer.took_ms)
            right["memory"][exam.category] += exam.is_right(answer)
            if not exam.is_right(answer):
                wrong.append(
                    {
                        "category": exam.category,
                        "question": exam.query.text,
                        "expected": exam.expected,
                        "answered": answer.text,
                    }
                )
            # Words alone, over everything, as a store of embedded captions gives them.
            found = {
                (record.text, record.end_ns)
                for record in memory.recall(
                    RecallQuery(exam.query.text, kinds=("event",), limit=TOP_K)
                ).records
            }
            right[f"text-only top {TOP_K}"][exam.category] += all(
                (h.label, h.end_ns) in found for h in exam.needs
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
                right[name] = Counter(exam.category for exam in exams if holds(exam))
        records = memory.count()
    for budget in (*BUDGETS, WHOLE_CONTEXT):
        held = poured(day, budget)
        right[f"pour everything, {budget} tokens"] = Counter(
            exam.category for exam in exams if held.issuperset(exam.needs)
        )
    report = {
        "events": len(day.happenings),
        "records": records,
        "questions": len(exams),
        "answer_ms": {
            "p50": float(np.percentile(times, 50)),
            "p99": float(np.percentile(times, 99)),
        },
        "right": {
            scheme: {
                "all": sum(by.values()) / len(exams),
                **{one: by[one] / asked[one] for one in asked},
            }
            for scheme, by in right.items()
        },
        "wrong": wrong,
    }
    print(
        f"{len(day.happenings)} events, {records} records, {len(exams)} questions; an answer took"
        f" {report['answer_ms']} ms\n"
    )
    print(f"{'questions':<32}{len(exams):14}" + "".join(f"{asked[one]:14}" for one in asked))
    print(f"{'% right':<32}" + "".join(f"{one:>14}" for one in ("all", *asked)))
    for scheme, by in right.items():
        print(
            f"{scheme:<32}{100 * sum(by.values()) / len(exams):14.1f}"
            + "".join(f"{100 * by[one] / asked[one]:14.1f}" for one in asked)
        )
    for one in wrong:
        print(f"wrong: {one}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"→ {arguments.out}")


if __name__ == "__main__":
    main()
