"""Reads hand-labelled clips of real cameras: when something came into view and when it left."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.run_records import TimedEvent
from stream_vlm.types import StreamError
from stream_vlm.unicode_text import half_character, read_json
from stream_vlm_lab.evaluation.scoring.matching import match_events
from stream_vlm_lab.simulation.scene.captions import parse_label

CAME, LEFT, OTHER = "came", "left", "other"
LABELS_FILE = "annotations.json"

_DIRECTIONS = {
    CAME: re.compile(
        r"\b(enters?|entered|entering|arrives?|arrived|arriving|appears?|appeared|appearing|"
        r"comes?|came|coming|returns?|returned|rolls in|"
        r"(?:puts?|sets?|placed?|places|placing|putting) (?:\w+ ){0,4}(?:back|down|on|onto)|"
        r"put|placed|placing|places|brings?|brought|added|adds)\b"
    ),
    LEFT: re.compile(
        r"\b(leaves?|left the|leaving|exits?|exited|exiting|departs?|departed|disappears?|"
        r"disappeared|vanish\w*|goes away|walks? (?:away|out|off)|"
        r"takes?|taken|took|taking|removes?|removed|removing|picks? up|picked up|picking up|"
        r"rolls away|gone|carried away|carries (?:\w+ ){0,3}away)\b"
    ),
}
_BY_ACTION = {
    **dict.fromkeys(("enters", "puts down", "rolls in"), CAME),
    **dict.fromkeys(("leaves", "takes", "picks up", "rolls away"), LEFT),
}


class ClipLabelError(StreamError):
    """Labels of clips cannot be used; the message names the file, the clip and the remedy."""


@dataclass(frozen=True)
class Clip:
    """One clip and its labels.

    Attributes:
        path: the video file.
        events: labels "came: ...", "left: ..." or "other: ..."; times in seconds of the clip.
    """

    path: Path
    events: tuple[TimedEvent, ...]


def direction(text: str) -> str:
    """Return whether `text` says that something "came" into view, "left" it, or neither ("other").

    Captions of the simulated world are parsed; in other text the first verb decides.
    """
    parsed = parse_label(text)
    if parsed is not None:
        return _BY_ACTION.get(parsed.action, OTHER)
    words = " ".join(text.lower().split())
    found = {
        kind: match.start()
        for kind, pattern in _DIRECTIONS.items()
        if (match := pattern.search(words))
    }
    return min(found, key=lambda kind: found[kind]) if found else OTHER


def read_clips(folder: Path) -> list[Clip]:
    """Read the clips that `folder`/annotations.json labels, in its order.

    A clip has two optional lists. `presence` lists who is in view (`what`, `enters`, `leaves`);
    `enters` or `leaves` is null if the person is in view at the start or the end of the clip.
    `events` lists `what`, `t_start` and `t_end`.

    Raises:
        ClipLabelError: the file or a clip is missing, or a label is invalid.
    """
    file = folder / LABELS_FILE
    try:
        document = read_json(file)
        place = half_character(document)
        if place:
            raise ValueError(place)
        labelled = dict(document["clips"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipLabelError(
            f"{file}: cannot be read as labels of clips ({error}); it must contain {{'clips':"
            " {'name.mp4': ...}}"
        ) from error
    clips = []
    for name, labels in labelled.items():
        path = folder / name
        if not path.is_file():
            raise ClipLabelError(
                f"{path}: is labelled in {file} but does not exist; copy it or remove its labels"
            )
        clips.append(
            Clip(path, tuple(sorted(_events(file, name, labels), key=lambda event: event.t_end)))
        )
    if not clips:
        raise ClipLabelError(
            f"{file}: has no labels; give a folder with at least one labelled clip"
        )
    return clips


def _events(file: Path, name: str, labels: Any) -> list[TimedEvent]:
    events = []
    try:
        for presence in labels.get("presence", []):
            who = " in ".join(
                str(presence[key]) for key in ("what", "clothes") if presence.get(key)
            )
            for kind, key in ((CAME, "enters"), (LEFT, "leaves")):
                if presence.get(key) is not None:
                    events.append(_event(f"{kind}: {who}", presence[key], presence[key]))
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
        raise ValueError(f"'{label}' from {start} to {end} s is not a valid span")
    return TimedEvent(label, start_s, end_s)


def match_presence(
    claimed: list[TimedEvent], truth: tuple[TimedEvent, ...], tolerance_s: float
) -> dict[str, Any]:
    """Match claims with labels whose ends differ by at most `tolerance_s` seconds.

    Returns:
        "direction": the matching of claims with the right direction; "anything": the matching of
        all claims.
    """
    agreeing = match_events(claimed, truth, tolerance_s, _label_direction)
    anything = match_events(claimed, truth, tolerance_s, lambda label: None)
    return {"direction": agreeing, "anything": anything}


def _label_direction(label: str) -> str:
    head = label.partition(":")[0]
    return head if head in (CAME, LEFT, OTHER) else direction(label)
