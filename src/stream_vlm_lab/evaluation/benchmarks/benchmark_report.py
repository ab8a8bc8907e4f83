"""The report of a benchmark in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream_vlm_lab.evaluation.benchmarks.ovo import GROUPS
from stream_vlm_lab.evaluation.report import format_number, markdown_table

MOST_FAULTS = 20
"""Most faults listed in the text; report.json has all of them."""


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
    faults = _bullets(report["watching_faults"])
    return "\n".join([*parts, *(["Faults during the run:\n", *faults] if faults else [])])


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
                        format_number(official["tasks"][task]),
                        format_number(strict["tasks"][task]),
                    ]
                )
        rows.append(
            [
                group,
                "",
                format_number(official["groups"][group]),
                format_number(strict["groups"][group]),
            ]
        )
    rows.append(["total", "", format_number(official["total"]), format_number(strict["total"])])
    faults = [
        f"item {fault['id']} ({fault['task']}): {fault['fault']}; {fault['done']}"
        for fault in report["faults"]
    ]
    missing = [
        f"{count} items of {task} have no answer" for task, count in report["missing"].items()
    ]
    return [
        markdown_table(["task", "points", "official", "strict"], rows),
        (
            "Official: as the published scorer counts. Strict: the response must be exactly the"
            " one letter, number or word that the data gives as the right answer.\n"
        ),
        *_bullets([*missing, *faults]),
    ]


def _streamo(report: Mapping[str, Any]) -> list[str]:
    timely, offline, captions = report["time_sensitive_qa"], report["qa"], report["captions"]
    rows = [
        [
            "grounding forward, mIoU",
            str(report["grounding_forward"]["items"]),
            format_number(report["grounding_forward"]["miou"]),
        ],
        [
            "grounding backward, mIoU",
            str(report["grounding_backward"]["items"]),
            format_number(report["grounding_backward"]["miou"]),
        ],
        [
            "time-sensitive answers within 3 s",
            str(timely["due"]),
            format_number(timely["accuracy"]),
        ],
        [
            "captions and narrations won",
            str(captions["items"]),
            format_number(captions["win_rate"]),
        ],
        ["average of these", "", format_number(report["average"])],
        ["offline answers", str(offline["due"]), format_number(offline["accuracy"])],
    ]
    notes = [
        f"content checked by {report['content_judged_by']}; {report['failed_judgements']}"
        " judgements failed and count as lost"
    ]
    notes += [f"captions: {captions['not_scored']}"] if "not_scored" in captions else []
    notes += [f"item {name} has no answer" for name in report["without_answer"]]
    return [markdown_table(["measure", "items", "score"], rows), *_bullets(notes)]


def _inf_streams(report: Mapping[str, Any]) -> list[str]:
    if "not_scored" in report:
        return [f"{report['segments']} segments, not scored: {report['not_scored']}\n"]
    votes = report["votes"]
    rows = [
        [
            str(report["segments"]),
            format_number(report["win_rate"], 4),
            f"{votes['ours']} / {votes['theirs']}",
            str(report["failed_judgements"]),
        ]
    ]
    others = [
        f"the other side does not cover {segment}; not scored"
        for segment in report["not_covered_by_the_other"]
    ]
    return [
        markdown_table(
            ["segments", "votes won", "ours / theirs", "failed judgements (lost)"], rows
        ),
        *_bullets([*others, *report["failures"]]),
    ]


def _streaming(report: Mapping[str, Any]) -> list[str]:
    scores = {**report["splits"], **({"all": report["all"]} if report["all"] else {})}
    rows = [
        [
            name or "(no split)",
            *(str(score[key]) for key in ("windows", "hits", "outside_windows", "needless")),
            format_number(score["sw_f1_published"], 3),
            format_number(score["sw_f1_equal_weights"], 3),
        ]
        for name, score in scores.items()
    ]
    narration = report["narration"]
    notes = [
        f"narrations: {narration['items']}, won {format_number(narration['win_rate'])}"
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
        "SW-F1 equal weights",
    ]
    return [markdown_table(head, rows), *_bullets(notes)]


def _bullets(notes: Sequence[str]) -> list[str]:
    shown_notes = [f"- {note}" for note in notes[:MOST_FAULTS]]
    if len(notes) > MOST_FAULTS:
        shown_notes.append(f"- and {len(notes) - MOST_FAULTS} more, see report.json")
    return ["\n".join(shown_notes) + "\n"] if shown_notes else []
