"""What an evaluation leaves behind: report.json with every figure, report.md to read, report.png to
see.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm_lab.evaluation.scoring.scores import TOLERANCES_S

SPEAKING = ("SW-F1 published", "SW-F1 full charge")


class ReportError(StreamError):
    """The report cannot be written; the message names the folder and the remedy."""


def write_report(folder: Path, report: Mapping[str, Any], text: str) -> None:
    """Write report.json and report.md into `folder`, which is made when missing.

    Raises:
        ReportError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(
            json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / "report.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"{folder}: the report cannot be written ({error.strerror}); give another folder with"
            " --out"
        ) from error


def machine() -> dict[str, Any]:
    """What the figures were measured with."""
    import torch
    import transformers

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it reads well as plain text too."""
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


def shown(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def world_text(report: Mapping[str, Any]) -> str:
    """The report of an examination on simulated rooms, in Markdown."""
    watchers: Mapping[str, Any] = report["watchers"]
    parts = [
        f"# {report['model']} on {report['world']} rooms\n",
        (
            f"{report['minutes']:g} minutes of stream from seeds {report['first_seed']:,} to"
            f" {report['last_seed']:,} at {report['rate_hz']:g} Hz, {report['events']} events."
            " Online: one pass, each frame once, questions only when they are asked.\n"
        ),
        "## Event F1 by tolerance on the end of the event\n",
        table(
            [
                "watcher",
                *(f"{tolerance} s" for tolerance in TOLERANCES_S),
                *(f"any, {tolerance} s" for tolerance in TOLERANCES_S),
            ],
            [
                [
                    name,
                    *_f1_cells(scores, "what_and_when"),
                    *_f1_cells(scores, "something_happened"),
                ]
                for name, scores in watchers.items()
            ],
        ),
        (
            "The first columns ask for what (action and kind of thing) and when, `any` for when"
            " something happened.\n"
        ),
        "## Speaking, grounding and answers\n",
        table(
            [
                "watcher",
                "timing error",
                "false alarms / silent hour",
                *SPEAKING,
                "mIoU",
                "questions right",
                "step p50 / p95",
            ],
            [[name, *_other_cells(scores)] for name, scores in watchers.items()],
        ),
        (
            "Timing error: of events found within 1.5 s, in seconds. False alarms: unasked words"
            " outside every event and the 1.5 s after it. SW-F1: of events and questions together,"
            " published (a false alarm weighs a tenth of a miss) and with every needless utterance"
            " charged in full. mIoU: over all true events, 0 for those not named. Steps in"
            " milliseconds.\n"
        ),
        *_particulars(watchers),
        "## True state and said state, in ticks\n",
        _confusion(watchers),
    ]
    return "\n".join(parts)


def _particulars(watchers: Mapping[str, Any]) -> list[str]:
    """What only some examinations look at: questions, watches, long silence, faults of the camera."""
    first = next(iter(watchers.values()))
    parts = []
    if first["questions"]:
        parts += ["## Questions right by kind\n", _questions(watchers)]
    if "watches" in first:
        parts += ["## Tell me when\n", _watches(watchers), WATCHES_EXPLAINED]
        parts += [
            f"{name}: {scores['watches']['why']}\n"
            for name, scores in watchers.items()
            if "why" in scores["watches"]
        ]
    if first["quiet_hours"]:
        rows = [
            [name, shown(scores["quiet_hours"]), shown(scores["false_alarms_per_quiet_hour"], 1)]
            for name, scores in watchers.items()
        ]
        parts += [
            "## Long silence\n",
            table(["watcher", "hours of it", "false alarms / hour"], rows),
        ]
        parts.append("Stretches of a minute and more in which nothing happens.\n")
    if "by_fault" in first:
        parts += ["## Faults of the camera\n", _by_fault(watchers), FAULTS_EXPLAINED]
    return parts


WATCHES_EXPLAINED = (
    "By the first words while a watch was active. Right: from 0.5 s before it was due until 3 s"
    " after, in brackets how many of them named the right thing; late: up to 10 s after; false:"
    " before that, or at all where nothing was due; needless: utterances that were not the first"
    " right one.\n"
)
FAULTS_EXPLAINED = (
    "Events found (what and when, 1.5 s) of those that the fault touches, with false alarms while"
    " it holds and up to 1.5 s after it in brackets.\n"
)


def _watches(watchers: Mapping[str, Any]) -> str:
    head = [
        "watcher",
        "watches",
        "ended well",
        "right",
        "late",
        "missed",
        "false",
        "rightly silent",
        "needless words",
    ]
    rows = []
    for name, scores in watchers.items():
        told = scores["watches"]
        if "why" in told:
            rows.append([name, str(told["watches"]), "cannot be told", *["-"] * 6])
            continue
        counts = [
            str(told[outcome])
            for outcome in ("late", "missed", "false", "rightly_silent", "needless_words")
        ]
        rows.append(
            [
                name,
                str(told["watches"]),
                shown(told["accuracy"]),
                f"{told['right']} ({told['right_words']})",
                *counts,
            ]
        )
    return table(head, rows)


def _by_fault(watchers: Mapping[str, Any]) -> str:
    rows = []
    for kind, counts in next(iter(watchers.values()))["by_fault"].items():
        mine = [scores["by_fault"][kind] for scores in watchers.values()]
        rows.append(
            [
                kind,
                str(counts["events"]),
                *(f"{shown(count['recall'])} ({count['false_alarms']})" for count in mine),
            ]
        )
    return table(["fault", "events", *watchers], rows)


def _f1_cells(scores: Mapping[str, Any], which: str) -> list[str]:
    return [shown(scores["event_f1"][f"{tolerance} s"][which]["f1"]) for tolerance in TOLERANCES_S]


def _other_cells(scores: Mapping[str, Any]) -> list[str]:
    speaking, steps = scores["speaking"]["together"], scores["step_ms"]
    return [
        shown(scores["event_f1"]["1.5 s"]["timing_error_s"]),
        shown(scores["false_alarms_per_silent_hour"], 0),
        shown(speaking["sw_f1_published"]),
        shown(speaking["sw_f1_full_charge"]),
        shown(scores["grounding_miou"]["what_and_when"]),
        shown(scores["question_accuracy"]),
        f"{steps['p50']:.1f} / {steps['p95']:.1f}" if steps and steps["p95"] else "-",
    ]


def _questions(watchers: Mapping[str, Any]) -> str:
    kinds = list(next(iter(watchers.values()))["question_accuracy_by_kind"])
    rows = []
    for kind in kinds:
        counts = [scores["question_accuracy_by_kind"][kind] for scores in watchers.values()]
        rows.append(
            [
                kind,
                str(counts[0]["asked"]),
                *(shown(count["right"] / count["asked"]) for count in counts),
            ]
        )
    return table(["question", "asked", *watchers], rows)


def _confusion(watchers: Mapping[str, Any]) -> str:
    states = ("silence", "standby", "response")
    head = ["watcher", *(f"{right} as {said}" for right in states for said in states)]
    return table(
        head,
        [
            [name, *(str(scores["state_confusion"].get(cell, 0)) for cell in head[1:])]
            for name, scores in watchers.items()
        ],
    )
