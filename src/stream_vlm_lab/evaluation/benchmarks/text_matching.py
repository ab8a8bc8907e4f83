"""A benchmark's figures in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream_vlm_lab.evaluation.benchmarks.ovo import GROUPS
from stream_vlm_lab.evaluation.report import shown, table

MOST_FAULTS = 20
"""Faults that the text names; report.json has them all."""


def benchmark_text(report: Mapping[str, Any]) -> str:
    """The report of one benchmark."""
    body = {
        "ovo": _ovo,
        "streamo": _streamo,
        "inf-streams": _inf_streams,
        "streaming-eval": _streaming,
    }[report["benchmark"]](report)
    parts = [
        f"# {report['benchmark']}: {report['data']}\n",
        f"Protocol: {report['protocol']}.\n",
        *body,
    ]
    faults = _named(report["watching_faults"])
    return "\n".join([*parts, *(["While watching:\n", *faults] if faults else [])])


def _ovo(report: Mapping[str, Any]) -> list[str]:
    official, strict = report["official"], report["strict"]
    rows = []
    for group, tasks in GROUPS.items():
        for task in tasks:
            if task in official["tasks"]:
                rows.append(
                    [
                        task,
                        str(report["points"][task]),
                        shown(official["tasks"][task]),
                        shown(strict["tasks"][task]),
                    ]
                )
        rows.append([group, "", shown(official["groups"][group]), shown(strict["groups"][group])])
    rows.append(["total", "", shown(official["total"]), shown(strict["total"])])
    faults = [
        f"item {fault['id']} ({fault['task']}): {fault['fault']}; {fault['done']}"
        for fault in report["faults"]
    ]
    missing = [
        f"{count} items of {task} have no answer" for task, count in report["missing"].items()
    ]
    return [
        table(["task", "points", "official", "strict"], rows),
        (
            "Official: as the published scorer counts. Strict: one letter, number or word and no"
            " other, against the data's own right answer.\n"
        ),
        *_named([*missing, *faults]),
    ]


def _streamo(report: Mapping[str, Any]) -> list[str]:
    timely, offline, captions = report["time_sensitive_qa"], report["qa"], report["captions"]
    rows = [
        [
            "grounding forward, mIoU",
            str(report["grounding_forward"]["items"]),
            shown(report["grounding_forward"]["miou"]),
        ],
        [
            "grounding backward, mIoU",
            str(report["grounding_backward"]["items"]),
            shown(report["grounding_backward"]["miou"]),
        ],
        ["time-sensitive answers within 3 s", str(timely["due"]), shown(timely["accuracy"])],
        ["captions and narrations won", str(captions["items"]), shown(captions["win_rate"])],
        ["average of these", "", shown(report["average"])],
        ["offline answers", str(offline["due"]), shown(offline["accuracy"])],
    ]
    notes = [
        f"content judged by {report['content_judged_by']}; {report['failed_judgements']} judgements"
        " failed and count as losses"
    ]
    notes += [f"captions: {captions['not_scored']}"] if "not_scored" in captions else []
    notes += [f"item {name} has no answer" for name in report["without_answer"]]
    return [table(["measure", "items", "score"], rows), *_named(notes)]


def _inf_streams(report: Mapping[str, Any]) -> list[str]:
    if "not_scored" in report:
        return [f"{report['segments']} segments, not scored: {report['not_scored']}\n"]
    votes = report["votes"]
    rows = [
        [
            str(report["segments"]),
            shown(report["win_rate"], 4),
            f"{votes['ours']} / {votes['theirs']}",
            str(report["failed_judgements"]),
        ]
    ]
    others = [
        f"the other side does not cover {segment}; left out"
        for segment in report["not_covered_by_the_other"]
    ]
    return [
        table(["segments", "votes won", "ours / theirs", "failed judgements (lost)"], rows),
        *_named([*others, *report["failures"]]),
    ]


def _streaming(report: Mapping[str, Any]) -> list[str]:
    scores = {**report["splits"], **({"all": report["all"]} if report["all"] else {})}
    rows = [
        [
            name or "(no split)",
            *(str(score[key]) for key in ("windows", "hits", "outside_windows", "needless")),
            shown(score["sw_f1_published"], 3),
            shown(score["sw_f1_full_charge"], 3),
        ]
        for name, score in scores.items()
    ]
    narration = report["narration"]
    notes = [
        f"narrations: {narration['items']}, won {shown(narration['win_rate'])}"
        f" {narration.get('not_scored', '')}".rstrip()
    ]
    notes += [f"item {name} has no answer" for name in report["without_answer"]]
    head = [
        "split",
        "windows",
        "hits",
        "outside",
        "needless",
        "SW-F1 published",
        "SW-F1 full charge",
    ]
    return [table(head, rows), *_named(notes)]


def _named(notes: Sequence[str]) -> list[str]:
    shown_notes = [f"- {note}" for note in notes[:MOST_FAULTS]]
    if len(notes) > MOST_FAULTS:
        shown_notes.append(f"- and {len(notes) - MOST_FAULTS} more, see report.json")
    return ["\n".join(shown_notes) + "\n"] if shown_notes else []
