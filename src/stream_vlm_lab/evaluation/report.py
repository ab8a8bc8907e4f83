"""Writes the report of an evaluation: report.json with all scores and report.md as text."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm.unicode_text import mend, replace_file
from stream_vlm_lab.evaluation.scoring.scores import TOLERANCES_S

SPEAKING = ("SW-F1 published", "SW-F1 equal weights")


class ReportError(StreamError):
    """The report cannot be written; the message names the folder and the remedy."""


def write_report(folder: Path, report: Mapping[str, Any], text: str) -> None:
    """Write report.json and report.md into `folder`, which is created if it does not exist.

    Raises:
        ReportError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A model's words may have half a character; the report is kept with U+FFFD in its place.
        written = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        replace_file(folder / "report.json", mend(written))
        replace_file(folder / "report.md", mend(text))
    except OSError as error:
        raise ReportError(
            f"{folder}: the report cannot be written ({error.strerror}); give another folder with"
            " --out"
        ) from error


def machine() -> dict[str, Any]:
    """Describe the machine and the library versions of the measurement."""
    import torch
    import transformers

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its columns are padded so that it is readable as plain text too."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            + " |"
        )

    return (
        "\n".join(
            [
                line(head),
                "|" + "|".join("-" * (width + 2) for width in widths) + "|",
                *(line(row) for row in rows),
            ]
        )
        + "\n"
    )


def format_number(value: float | None, digits: int = 2) -> str:
    """Format a number for a table; "-" if there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def world_text(report: Mapping[str, Any]) -> str:
    """The report of an examination on simulated rooms, in Markdown."""
    models: Mapping[str, Any] = report["scores"]
    parts = [
        f"# {report['model']} on {report['world']} rooms\n",
        (
            f"{report['minutes']:g} minutes of stream from seeds {report['first_seed']:,} to"
            f" {report['last_seed']:,} at {report['rate_hz']:g} Hz, {report['events']} events."
            " Online: one pass, each frame once, each question at its own time.\n"
        ),
        "## Event F1 by tolerance on the end of the event\n",
        markdown_table(
            [
                "model",
                *(f"{tolerance} s" for tolerance in TOLERANCES_S),
                *(f"any, {tolerance} s" for tolerance in TOLERANCES_S),
            ],
            [
                [
                    name,
                    *_f1_cells(scores, "what_and_when"),
                    *_f1_cells(scores, "something_happened"),
                ]
                for name, scores in models.items()
            ],
        ),
        (
            "The first columns need the right label (action and kind of thing) and the right time,"
            " the columns `any` only the right time.\n"
        ),
        "## Speaking, grounding and answers\n",
        markdown_table(
            [
                "model",
                "timing error",
                "false alarms / silent hour",
                *SPEAKING,
                "mIoU",
                "correct answers",
                "step p50 / p95",
            ],
            [[name, *_other_cells(scores)] for name, scores in models.items()],
        ),
        (
            "Timing error: mean over events found within 1.5 s, in seconds. False alarms:"
            " utterances without a question, outside every event and the 1.5 s after it. SW-F1: of"
            " events and questions together, as published (a false alarm costs a tenth of a miss)"
            " and with equal weights (every needless utterance costs as much as a miss). mIoU: mean"
            " over all true events, 0 for events that were not found. Steps in milliseconds.\n"
        ),
        *_optional_sections(models),
        "## True state and predicted state, in ticks\n",
        _confusion(models),
    ]
    return "\n".join(parts)


def _optional_sections(models: Mapping[str, Any]) -> list[str]:
    """Sections that only some examinations have: questions, watches, quiet spans, camera faults."""
    first = next(iter(models.values()))
    parts = []
    if first["questions"]:
        parts += ["## Correct answers by kind of question\n", _questions(models)]
    if "watches" in first:
        parts += ["## Tell me when\n", _watches(models), WATCHES_EXPLAINED]
        parts += [
            f"{name}: {scores['watches']['why']}\n"
            for name, scores in models.items()
            if "why" in scores["watches"]
        ]
    if first["quiet_hours"]:
        rows = [
            [
                name,
                format_number(scores["quiet_hours"]),
                format_number(scores["false_alarms_per_quiet_hour"], 1),
            ]
            for name, scores in models.items()
        ]
        parts += [
            "## Long silence\n",
            markdown_table(["model", "hours", "false alarms / hour"], rows),
        ]
        parts.append("Spans of a minute or more in which nothing happens.\n")
    if "by_fault" in first:
        parts += ["## Camera faults\n", _by_fault(models), FAULTS_EXPLAINED]
    return parts


WATCHES_EXPLAINED = (
    "The first words while a watch was active decide. Correct: from 0.5 s before the event was due"
    " until 3 s after; in brackets, how many of these named the right thing. Late: up to 10 s"
    " after. False alarm: before that, or at any time if nothing was due. Needless words:"
    " utterances that were not the first correct one.\n"
)
FAULTS_EXPLAINED = (
    "Recall of the events that overlap the fault (right label, tolerance 1.5 s); in brackets, false"
    " alarms during the fault and up to 1.5 s after it.\n"
)


def _watches(models: Mapping[str, Any]) -> str:
    head = [
        "model",
        "watches",
        "accuracy",
        "correct",
        "late",
        "missed",
        "false alarm",
        "correctly silent",
        "needless words",
    ]
    rows = []
    for name, scores in models.items():
        watches = scores["watches"]
        if "why" in watches:
            rows.append([name, str(watches["watches"]), "not supported", *["-"] * 6])
            continue
        counts = [
            str(watches[outcome])
            for outcome in ("late", "missed", "false_alarm", "correctly_silent", "needless_words")
        ]
        rows.append(
            [
                name,
                str(watches["watches"]),
                format_number(watches["accuracy"]),
                f"{watches['correct']} ({watches['right_words']})",
                *counts,
            ]
        )
    return markdown_table(head, rows)


def _by_fault(models: Mapping[str, Any]) -> str:
    rows = []
    for kind, counts in next(iter(models.values()))["by_fault"].items():
        mine = [scores["by_fault"][kind] for scores in models.values()]
        rows.append(
            [
                kind,
                str(counts["events"]),
                *(f"{format_number(count['recall'])} ({count['false_alarms']})" for count in mine),
            ]
        )
    return markdown_table(["fault", "events", *models], rows)


def _f1_cells(scores: Mapping[str, Any], which: str) -> list[str]:
    return [
        format_number(scores["event_f1"][f"{tolerance} s"][which]["f1"])
        for tolerance in TOLERANCES_S
    ]


def _other_cells(scores: Mapping[str, Any]) -> list[str]:
    speaking, steps = scores["speaking"]["together"], scores["step_ms"]
    return [
        format_number(scores["event_f1"]["1.5 s"]["timing_error_s"]),
        format_number(scores["false_alarms_per_silent_hour"], 0),
        format_number(speaking["sw_f1_published"]),
        format_number(speaking["sw_f1_equal_weights"]),
        format_number(scores["grounding_miou"]["what_and_when"]),
        format_number(scores["question_accuracy"]),
        f"{steps['p50']:.1f} / {steps['p95']:.1f}" if steps and steps["p95"] else "-",
    ]


def _questions(models: Mapping[str, Any]) -> str:
    kinds = list(next(iter(models.values()))["question_accuracy_by_kind"])
    rows = []
    for kind in kinds:
        counts = [scores["question_accuracy_by_kind"][kind] for scores in models.values()]
        rows.append(
            [
                kind,
                str(counts[0]["asked"]),
                *(format_number(count["right"] / count["asked"]) for count in counts),
            ]
        )
    return markdown_table(["question", "asked", *models], rows)


def _confusion(models: Mapping[str, Any]) -> str:
    states = ("silence", "standby", "response")
    head = ["model", *(f"{right} as {said}" for right in states for said in states)]
    return markdown_table(
        head,
        [
            [name, *(str(scores["state_confusion"].get(cell, 0)) for cell in head[1:])]
            for name, scores in models.items()
        ],
    )
