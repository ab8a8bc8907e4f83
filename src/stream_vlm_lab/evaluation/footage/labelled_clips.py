"""Hand-labelled clips of real cameras: when something came into view and when something left it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedEvent
from stream_vlm.types import StreamError
from stream_vlm_lab.evaluation.scoring.matching import match_events
from stream_vlm_lab.simulation.scene.captions import parse_label

CAME, LEFT, OTHER = "came", "left", "other"
LABELS_FILE = "annotations.json"

_DIRECTIONS = {
    CAME: re.compile(
        r"\b(enters?|entered|entering|arrives?|arrived|arriving|appears?|appeared|appearing|comes?|came|coming|returns?|returned|rolls in|"
        r"(?:puts?|sets?|placed?|places|placing|putting) (?:\w+"
        r" ){0,4}(?:back|down|on|onto)|put|placed|placing|places|brings?|brought|added|adds)\b"
    ),
    LEFT: re.compile(
        r"\b(leaves?|left"
        r" the|leaving|exits?|exited|exiting|departs?|departed|disappears?|disappeared|vanish\w*|goes"
        r" away|walks? (?:away|out|off)|"
        r"takes?|taken|took|taking|removes?|removed|removing|picks? up|picked up|picking up|rolls"
        r" away|gone|carried away|carries (?:\w+ ){0,3}away)\b"
    ),
}
_BY_ACTION = {
    **dict.fromkeys(("enters", "puts down", "rolls in"), CAME),
    **dict.fromkeys(("leaves", "takes", "picks up", "rolls away"), LEFT),
}


class ClipLabelError(StreamError):
    """Labels of clips that cannot be used; the message names the file, the clip and the remedy."""


@dataclass(frozen=True)
class Clip:
    """One clip with what a person saw in it; `events` are labelled "came: ...", "left: ..." or
    "other: ...", times in seconds of clip.
    """

    path: Path
    events: tuple[TimedEvent, ...]


def direction(text: str) -> str:
    """Whether `text` says that something came into view, that something left it, or neither
    ("other").

    A caption of the simulated world is read as such; other words by the verb that comes first.
    """
    parsed = parse_label(text)
    if parsed is not None:
        return _BY_ACTION.get(parsed.action, OTHER)
    words = " ".join(text.lower().split())
    found = {
        way: match.start()
        for way, pattern in _DIRECTIONS.items()
        if (match := pattern.search(words))
    }
    return min(found, key=lambda way: found[way]) if found else OTHER


def read_clips(folder: Path) -> list[Clip]:
    """The clips that `folder`/annotations.json labels, in its order.

    A clip has `presence` (who is in view: `what`, `enters`, `leaves`, either may be null for a clip
    that begins or ends with it) and `events` (`what`, `t_start`, `t_end`), both optional.

    Raises:
        ClipLabelError: no such file, a clip that is missing, or a label that is none.
    """
    file = folder / LABELS_FILE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        labelled = dict(document["clips"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipLabelError(
            f"{file}: cannot be read as labels of clips ({error}); it must hold {{'clips':"
            " {'name.mp4': ...}}"
        ) from error
    clips = []
    for name, labels in labelled.items():
        path = folder / name
        if not path.is_file():
            raise ClipLabelError(
                f"{path}: is labelled in {file} but not there; copy it or remove its labels"
            )
        clips.append(
            Clip(path, tuple(sorted(_events(file, name, labels), key=lambda event: event.t_end)))
        )
    if not clips:
        raise ClipLabelError(f"{file}: labels no clip; give a folder with at least one")
    return clips


def _events(file: Path, name: str, labels: Any) -> list[TimedEvent]:
    events = []
    try:
        for presence in labels.get("presence", []):
            who = " in ".join(
                str(presence[key]) for key in ("what", "clothes") if presence.get(key)
            )
            for way, key in ((CAME, "enters"), (LEFT, "leaves")):
                if presence.get(key) is not None:
                    events.append(_event(f"{way}: {who}", presence[key], presence[key]))
        for event in labels.get("events", []):
            events.append(
                _event(
                    f"{direction(event['what'])}: {event['what']}", event["t_start"], event["t_end"]
                )
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ClipLabelError(f"{file}: {name}: a label cannot be used: {reason}") from error
    return events


def _event(label: str, start: Any, end: Any) -> TimedEvent:
    start_s, end_s = float(start), float(end)
    if not (0 <= start_s <= end_s and math.isfinite(end_s)):
        raise ValueError(f"'{label}' from {start} to {end} s is no span of the clip")
    return TimedEvent(label, start_s, end_s)


def came_and_left(
    claimed: list[TimedEvent], truth: tuple[TimedEvent, ...], tolerance_s: float
) -> dict[str, Any]:
    """Match claims with labels by when they end, within `tolerance_s`: with the right direction,
    and whatever they say.
    """
    agreeing = match_events(claimed, truth, tolerance_s, _way)
    anything = match_events(claimed, truth, tolerance_s, lambda label: None)
    return {"direction": agreeing, "anything": anything}


def _way(label: str) -> str:
    head = label.partition(":")[0]
    return head if head in (CAME, LEFT, OTHER) else direction(label)
