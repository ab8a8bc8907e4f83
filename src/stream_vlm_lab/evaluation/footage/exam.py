"""Scores a model on hand-labelled clips of real cameras; no training or tuning uses these clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stream_vlm.sources.ticks import TickReader
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import Frame
from stream_vlm_lab.evaluation.footage.labelled_clips import (
    CAME,
    LEFT,
    Clip,
    direction,
    match_presence,
    read_clips,
)
from stream_vlm_lab.evaluation.online.baselines import add_baselines
from stream_vlm_lab.evaluation.online.online_pass import ExaminedModel, StreamResult, run_together
from stream_vlm_lab.evaluation.plots.timeline import Timeline, draw_timeline
from stream_vlm_lab.evaluation.report import format_number, markdown_table
from stream_vlm_lab.evaluation.scoring.matching import Matching
from stream_vlm_lab.evaluation.scoring.scores import pooled_f1

TOLERANCE_S = 2.0
"""Tolerance on the end of an event in seconds; hand labels are accurate to 0.5-1 s only."""


def run_footage_exam(
    folder: Path, model: ExaminedModel, rate_hz: float, out: Path
) -> dict[str, Any]:
    """Run `model` and the baselines on every labelled clip of `folder` and score them.

    A timeline of each clip is written into `out`.

    Args:
        folder: the clips with their annotations.json.
        model: the model to examine.
        rate_hz: ticks a second.
        out: folder for the timelines.

    Returns:
        Plain values for JSON: the pooled scores of each model, and for each clip the reported spans
        beside the labels.

    Raises:
        ClipLabelError: the labels cannot be used.
        SourceError: a clip cannot be decoded.
    """
    clips = read_clips(folder)
    out.mkdir(parents=True, exist_ok=True)
    models = add_baselines([model])
    matchings: dict[str, list[tuple[dict[str, Matching], float]]] = {
        each.name: [] for each in models
    }
    described = {}
    for clip in clips:
        for name, result in run_together(
            models, _frames(clip.path, rate_hz), (), clip.path.stem
        ).items():
            length_s = result.states[-1].t if result.states else 0.0
            matched = match_presence(result.events, clip.events, TOLERANCE_S)
            matchings[name].append((matched, length_s))
            if name == model.name:
                described[clip.path.name] = _describe(clip, result, matched, length_s)
                _draw(clip, result, matched["direction"], out / f"{clip.path.stem}.png", length_s)
    return {
        "rate_hz": rate_hz,
        "tolerance_s": TOLERANCE_S,
        "scores": {name: _pooled(matched) for name, matched in matchings.items()},
        "clips": described,
    }


def _frames(path: Path, rate_hz: float) -> Iterator[Frame]:
    for tick in TickReader(VideoSource(path).frames(), rate_hz):
        yield from tick.frames


def _pooled(matched: list[tuple[dict[str, Matching], float]]) -> dict[str, Any]:
    minutes = sum(length_s for _, length_s in matched) / 60
    anything = pooled_f1(each["anything"] for each, _ in matched)
    return {
        "came_or_left": pooled_f1(each["direction"] for each, _ in matched),
        "something_happened": anything,
        "minutes": minutes,
        "false_alarms_per_minute": anything["false"] / minutes if minutes else None,
    }


def _describe(
    clip: Clip, result: StreamResult, matched: Mapping[str, Matching], length_s: float
) -> dict[str, Any]:
    partner = {right: left for left, right in matched["direction"].pairs}
    rows = []
    for index, label in enumerate(clip.events):
        claim = result.events[partner[index]] if index in partner else None
        rows.append(
            {
                "label": label.label,
                "t_start": label.t_start,
                "t_end": label.t_end,
                "reported": (
                    None
                    if claim is None
                    else {"label": claim.label, "t_start": claim.t_start, "t_end": claim.t_end}
                ),
            }
        )
    found = {left for left, _ in matched["direction"].pairs}
    others = [
        {
            "label": event.label,
            "t_start": event.t_start,
            "t_end": event.t_end,
            "read_as": direction(event.label),
        }
        for index, event in enumerate(result.events)
        if index not in found
    ]
    return {
        "seconds": length_s,
        "f1": matched["direction"].f1,
        "f1_something_happened": matched["anything"].f1,
        "labels": rows,
        "not_matched": others,
    }


def _draw(
    clip: Clip, result: StreamResult, matching: Matching, path: Path, length_s: float
) -> None:
    title = f"{clip.path.name}: came or left, F1 {matching.f1:.2f} within {TOLERANCE_S:g} s"
    draw_timeline(
        Timeline(
            title,
            result.events,
            result.utterances,
            result.states,
            clip.events,
            matching,
            length_s,
        ),
        path,
    )


def footage_text(report: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    rows = []
    for name, scores in report["scores"].items():
        came, anything = scores["came_or_left"], scores["something_happened"]
        cells = [
            name,
            format_number(came["f1"]),
            format_number(came["precision"]),
            format_number(came["recall"]),
            format_number(anything["f1"]),
        ]
        rows.append([*cells, format_number(scores["false_alarms_per_minute"], 1)])
    minutes = next(iter(report["scores"].values()))["minutes"]
    parts = [
        f"# {report['model']} on labelled footage\n",
        (
            f"{len(report['clips'])} clips, {minutes:.1f} minutes, one pass at"
            f" {report['rate_hz']:g} Hz. {CAME}: enters, put down, comes back. {LEFT}: leaves,"
            f" taken, picked up. Events match if their ends differ by at most"
            f" {report['tolerance_s']:g} s.\n"
        ),
        markdown_table(
            [
                "model",
                "F1 came / left",
                "precision",
                "recall",
                "F1 something happened",
                "false alarms / minute",
            ],
            rows,
        ),
        "A false alarm is a report without any label within the tolerance.\n",
    ]
    for name, clip in report["clips"].items():
        rows = [_row(label) for label in clip["labels"]]
        parts += [
            f"## {name}: F1 {clip['f1']:.2f}\n",
            markdown_table(["label", "from - to (s)", "reported", "from - to (s)"], rows),
        ]
        spare = [[event["label"], _span(event), event["read_as"]] for event in clip["not_matched"]]
        parts.append(
            "Reports without a matching label:\n\n"
            + markdown_table(["report", "from - to (s)", "read as"], spare)
            if spare
            else "No other reports.\n"
        )
    return "\n".join(parts)


def _span(event: Mapping[str, Any]) -> str:
    return f"{event['t_start']:.1f} - {event['t_end']:.1f}"


def _row(label: Mapping[str, Any]) -> list[str]:
    said = label["reported"]
    return [
        label["label"],
        _span(label),
        said["label"] if said else "-",
        _span(said) if said else "-",
    ]
