"""Reads and writes the message format of Streamo and Streaming Harness.

A row is `{messages: [{role, content}, ...], videos: [path]}`. Each turn is a user message and an
assistant message. The user message has a time marker (`<4s-5s>`, `<4-5s>` or `<4.0 seconds>`), a
frame placeholder (`<stream>`, `<image>` or `<video>`) and optionally a question. The assistant
message has the state and its words.

Streamo's converter also writes a later question into the first turn, so the model gets it too
early. The reader removes this copy. The writer adds it if it is called with `compatible=True`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from stream_vlm.types import State
from stream_vlm_lab.training.data.rows import read_file
from stream_vlm_lab.training.data.sample import (
    ReadResult,
    RefusalReason,
    RowRefused,
    SampleTurn,
    StreamSample,
    VideoFolder,
)

FRAME_PLACE = "<stream>"
_MARKERS = re.compile(
    r"<(?P<start>\d+(?:\.\d+)?)s?-(?P<end>\d+(?:\.\d+)?)s>|<(?P<at>\d+(?:\.\d+)?) seconds>",
)
_PLACES = re.compile(r"<(?:stream|image|video)>")
_STATES = {"</silence>": State.SILENCE, "</standby>": State.STANDBY, "</response>": State.RESPONSE}
_WRITTEN = {State.SILENCE: "</Silence>", State.STANDBY: "</Standby>", State.RESPONSE: "</Response>"}


def read_messages(path: Path, videos: VideoFolder | None = None) -> ReadResult:
    """Read a file of messages; with `videos`, turns beyond the end of a video are refused.

    Raises:
        DataFileError: the file is not JSON.
    """
    return read_file(path, lambda row: messages_to_sample(row, videos))


def messages_to_sample(row: Any, videos: VideoFolder | None = None) -> StreamSample:
    """Convert one row to a sample.

    Raises:
        RowRefused: the row cannot be used.
    """
    messages = row.get("messages") if isinstance(row, Mapping) else None
    paths = row.get("videos") if isinstance(row, Mapping) else None
    video = (
        paths[0] if isinstance(paths, list) and paths else paths if isinstance(paths, str) else ""
    )
    if not isinstance(messages, list) or not messages or not video:
        raise RowRefused(RefusalReason.NOT_A_ROW, f"{str(row)[:80]} has no messages or no videos")
    if not all(
        isinstance(message, Mapping) and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise RowRefused(RefusalReason.NOT_A_ROW, "a message has no text content")
    system = messages[0]["content"] if messages[0].get("role") == "system" else ""
    talk = messages[1:] if system else messages
    if len(talk) % 2 or any(
        message.get("role") != ("user", "assistant")[place % 2]
        for place, message in enumerate(talk)
    ):
        raise RowRefused(RefusalReason.NOT_A_ROW, "user and assistant do not alternate")
    turns = [
        _turn(user["content"], assistant["content"])
        for user, assistant in zip(talk[::2], talk[1::2], strict=True)
    ]
    if not turns:
        raise RowRefused(RefusalReason.NOT_A_ROW, "there is no turn")
    for before, after in pairwise(turns):
        if after.start_s < before.end_s - 1e-6:
            raise RowRefused(
                RefusalReason.UNREADABLE_TIME,
                f"the turn from {after.start_s:g} s begins before the one before it ends"
                f" ({before.end_s:g} s)",
            )
    if videos is not None and turns[-1].start_s >= videos.length_s(str(video)):
        late = next(turn for turn in turns if turn.start_s >= videos.length_s(str(video)))
        reason = (
            RefusalReason.PAST_THE_END
            if any(turn.text for turn in turns[turns.index(late) :])
            else RefusalReason.OUTSIDE
        )
        raise RowRefused(
            reason,
            f"a turn begins at {late.start_s:g} s, {video} lasts"
            f" {videos.length_s(str(video)):.1f} s",
        )
    first = turns[0].question
    if first and any(turn.question == first for turn in turns[1:]):
        turns[0] = replace(turns[0], question="")
    return StreamSample(
        str(video),
        tuple(turns),
        str(row.get("task_type") or ""),
        str(row.get("source") or ""),
        system=system,
    )


def _turn(asked: str, said: str) -> SampleTurn:
    marker = _MARKERS.search(asked)
    if marker is None:
        raise RowRefused(RefusalReason.UNREADABLE_TIME, f"no time marker in {asked[:60]!r}")
    start = float(marker["start"] if marker["at"] is None else marker["at"])
    end = float(marker["end"]) if marker["at"] is None else start + 1.0
    if end <= start:
        raise RowRefused(
            RefusalReason.UNREADABLE_TIME, f"the turn {marker[0]} ends before it begins"
        )
    question = _PLACES.sub("", asked[: marker.start()] + asked[marker.end() :]).strip()
    name = re.match(r"</\w+>", said.strip())
    state = _STATES.get(name[0].lower()) if name else None
    if name is None or state is None or "</delegation>" in said.lower():
        raise RowRefused(
            RefusalReason.UNKNOWN_STATE, f"{said[:60]!r}; use silence, standby or response"
        )
    text = said.strip()[name.end() :].strip()
    if bool(text) != (state is State.RESPONSE):
        raise RowRefused(
            RefusalReason.NO_WORDS if state is State.RESPONSE else RefusalReason.UNKNOWN_STATE,
            f"{said[:60]!r}",
        )
    return SampleTurn(start, end, state, text, question)


def sample_to_messages(
    sample: StreamSample, system: str, *, compatible: bool = True, prefix: str = ""
) -> dict[str, Any]:
    """Convert `sample` to a row in Streamo's message format.

    Args:
        sample: the sample.
        system: the system message.
        compatible: also write the first question into the first turn, as the published converter
            does.
        prefix: folder to put before the video's path.
    """
    messages = [{"role": "system", "content": system}]
    early = (
        next((turn.question for turn in sample.turns if turn.question), "") if compatible else ""
    )
    for place, turn in enumerate(sample.turns):
        question = turn.question or (early if place == 0 else "")
        parts = [question, f"<{turn.start_s:.0f}s-{turn.end_s:.0f}s>", FRAME_PLACE]
        messages.append({"role": "user", "content": "\n".join(part for part in parts if part)})
        messages.append(
            {
                "role": "assistant",
                "content": " ".join(part for part in (_WRITTEN[turn.state], turn.text) if part),
            }
        )
    row: dict[str, Any] = {
        "messages": messages,
        "videos": [str(Path(prefix) / sample.video) if prefix else sample.video],
    }
    named = {
        "video_name": Path(sample.video).name,
        "task_type": sample.task,
        "source": sample.source,
    }
    return row | {name: value for name, value in named.items() if value}


def as_stream_rows(
    samples: Sequence[StreamSample], system: str, *, compatible: bool, prefix: str
) -> list[dict[str, Any]]:
    """Convert all `samples`; a sample's own system message is used instead of `system`."""
    return [
        sample_to_messages(sample, sample.system or system, compatible=compatible, prefix=prefix)
        for sample in samples
    ]
