"""Splits long samples into overlapping chunks, as StreamingVLM does for training.

See arXiv 2510.09608. One forward pass attends to a whole chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stream_vlm.types import StreamError
from stream_vlm_lab.training.data.sample import StreamSample

CHUNK_S, OVERLAP_S = 24.0, 12.0
"""Length and overlap of StreamingVLM's chunks in seconds."""


def overlapped_chunks(
    sample: StreamSample, chunk_s: float = CHUNK_S, overlap_s: float = OVERLAP_S
) -> Iterator[StreamSample]:
    """Split `sample` into chunks of at most `chunk_s` seconds.

    Each chunk begins `overlap_s` before the end of the previous one. The last ends with the sample.
    All text before a chunk becomes its previous text. A question stays active until another
    replaces it, so the newest question before a chunk is repeated in its first turn, unless that
    turn has a question of its own.

    Raises:
        StreamError: the overlap is not shorter than the chunk.
    """
    if not 0 <= overlap_s < chunk_s:
        raise StreamError(
            f"chunks of {chunk_s:g} s cannot overlap by {overlap_s:g} s; give an overlap below the"
            " chunk's length"
        )
    turns = sample.turns
    first = 0
    while first < len(turns):
        begin_s = turns[first].start_s
        end = next(
            (
                at
                for at in range(first + 1, len(turns))
                if turns[at].end_s > begin_s + chunk_s + 1e-6
            ),
            len(turns),
        )
        said = " ".join(
            part for part in (sample.previous_text, *(turn.text for turn in turns[:first])) if part
        )
        asked = turns[first].question or next(
            (turn.question for turn in reversed(turns[:first]) if turn.question), ""
        )
        yield replace(
            sample,
            turns=(replace(turns[first], question=asked), *turns[first + 1 : end]),
            previous_text=said,
        )
        if end == len(turns):
            return
        next_s = turns[end - 1].end_s - overlap_s
        # At least one turn later, even if a turn is longer than the chunk.
        first = max(
            first + 1, next(at for at, turn in enumerate(turns) if turn.end_s > next_s + 1e-6)
        )
