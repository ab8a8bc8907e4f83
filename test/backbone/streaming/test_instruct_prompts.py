"""What an instruct model reads, word by word: the transcripts in the folder `golden`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from instruct_fixtures import frame, judgement, load_instruct, take, write_instruct_checkpoint
from model_fixtures import FAMILIES

from stream_vlm.backbone import StreamingModel
from stream_vlm.backbone.kv_cache.cached_forward import Entry, feed_together
from stream_vlm.context.segments import Segment
from stream_vlm.model_protocol import Judgement
from stream_vlm.types import Query, RecalledContext, RecalledLine, State

GOLDEN = Path(__file__).parent / "golden"
SECOND = 1_000_000_000
FOLLOWS = {
    "Ċ": "It",
    "It": "Ġwas",
    "Ġwas": "Ġred",
    "Ġred": "<|im_end|>",
    "Response": ":",
    ":": "Ġa",
    "Ġa": "Ġperson",
    "Ġperson": "Ġcomes",
    "Ġcomes": "Ġin",
    "Ġin": "<|im_end|>",
}
"""The model answers "It was red" and reports "a person comes in", after a colon."""

RECALLED = RecalledContext("red", (RecalledLine(SECOND // 2, SECOND, "a red door opens"),))
PLAIN = Query("q1", "who is there?", 0)
REMEMBERED = Query("q2", "was the door red?", 0, recalled=RECALLED)


def door(state: State, **values: Any) -> Judgement:
    return judgement("door", "the red door opens", state, **values)


def person(state: State, **values: Any) -> Judgement:
    return judgement("person", "a person comes in", state, **values)


SAID = {"reported": "a person comes in", "reported_ns": 3 * SECOND}
TICKS: list[tuple[str, list[Judgement], Query | None]] = [
    ("no instruction", [], None),
    ("no instruction", [], None),
    ("two instructions, silent", [door(State.SILENCE), person(State.STANDBY)], None),
    ("a question without memory", [door(State.SILENCE)], PLAIN),
    (
        "a new chunk begins with what was said; a report with a second look",
        [door(State.SILENCE), person(State.RESPONSE, verify=True)],
        None,
    ),
    ("after a report", [person(State.STANDBY, **SAID)], None),
    ("a question with memory", [], REMEMBERED),
    ("after an answer", [], None),
]


def transcript(model: StreamingModel, passes: list[list[list[Segment]]]) -> str:
    """Every text that was fed at each of `TICKS`; a picture is written as its grid."""
    tokenizer: Any = model.checkpoint.tokenizer
    stream = model.open_stream("front")
    lines: list[str] = []

    def text(segments: Sequence[Segment]) -> str:
        return "".join(
            f"[picture {segment.grid[0]}x{segment.grid[1]}]"
            if segment.grid
            else str(tokenizer.decode(list(segment.token_ids), skip_special_tokens=False))
            for segment in segments
        )

    for index, (name, judgements, query) in enumerate(TICKS):
        passes.clear()
        take(
            stream,
            frame(index),
            judgements,
            query,
            memory=lambda: ["0.5 s a person comes in"],
        )
        lines.append(f"== {name}")
        for number, entries in enumerate(passes):
            for segments in entries:
                lines.append(f"-- forward pass {number + 1}: {text(segments)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_word_that_the_model_reads_is_that_of_the_transcript(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[list[list[Segment]]] = []

    def keeping(entries: Sequence[Entry]) -> torch.Tensor:
        passes.append([list(entry.segments) for entry in entries])
        return feed_together(entries)

    monkeypatch.setattr("stream_vlm.backbone.streaming.batched_step.feed_together", keeping)
    directory = write_instruct_checkpoint(tmp_path, family, follows=FOLLOWS)
    model = load_instruct(
        directory, context__policy="chunked", context__max_seconds=3.5, decision__max_new_tokens=16
    )
    assert transcript(model, passes) == (GOLDEN / f"{family}.txt").read_text()
