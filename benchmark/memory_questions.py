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
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from memory_day import FIRST_NS, ROOMS, Day, DayEvent, state_facts
from memory_exam import ExamQuestion, QuestionGenerator
from memory_states import ask_both_sides, ask_stories
from memory_stories import PUT_ASIDE, TUNED

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.context.recalled_lines import lines_within_budget
from stream_vlm.memory.answers.prompt_recall import max_records, recall_for_prompt
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.time_words import line
from stream_vlm.types import (
    NANOSECONDS,
    RecalledLine,
)

TOP_K = 20
TOKENS_A_WORD = 1.3
BUDGETS = (512, 2048, 8192)
"""Tokens of recalled lines in the prompt (`context.memory_tokens`): the default, and more."""
WHOLE_CONTEXT = 48_000
"""Tokens of the whole context in the published scheme."""


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
        black = np.zeros((48, 64, 3), np.uint8)
        states = {
            "both sides of every state": ask_both_sides(memory, state_facts(day)),
            "stories about other states, tuned with": ask_stories(TUNED, black),
            "stories about other states, put aside": ask_stories(PUT_ASIDE, black),
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
