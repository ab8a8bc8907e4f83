"""Inf-Streams-Eval (StreamingVLM, arXiv 2510.09608): a judge compares two commentaries by segment.

The metadata has one row for each segment, `{video, title, content: [[start, end, text], ...]}`.
Answers are rows `{video, chunk_start, chunk_end, items: [{response, start_time, end_time}]}`; rows
of one video are joined in order. An item belongs to the segment in which it ends.

Differences from the published scorer: it leaves out segments that an answer file does not cover;
here our side loses them, or they are reported if only the other side lacks them. It counts every
reply but "A" as "B"; here any other reply is a failed judgement, which our side loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stream_vlm_lab.evaluation.benchmarks.files import BenchmarkError, checked_row, read_rows
from stream_vlm_lab.evaluation.benchmarks.judge import FAILED, Judge, Votes, judge_all

SEGMENT_S = 100
FEWEST_WORDS = 200
"""Segments cut from a longer row are scored only if the reference has at least this many words."""

Content = Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class Segment:
    """A section of one video and its reference commentary; times in seconds."""

    video: str
    title: str
    start: int
    end: int
    reference: str


@dataclass(frozen=True)
class Commentary:
    """What one side said about one video.

    Attributes:
        start: start of the covered time in seconds.
        end: end of the covered time in seconds.
        words: (end of the words in seconds, words).
    """

    start: int
    end: int
    words: Sequence[tuple[float, str]]

    def during(self, segment: Segment) -> str:
        """Words that end in the segment, joined in order.

        The segment's start is excluded, its end is included.
        """
        return " ".join(text for end, text in self.words if segment.start < int(end) <= segment.end)

    def covers(self, segment: Segment) -> bool:
        """Whether the commentary covers the whole segment."""
        return self.start <= segment.start and segment.end <= self.end


def read_segments(path: Path) -> list[Segment]:
    """Read the segments of a metadata file.

    A row longer than 100 s is cut into segments of 100 s; those with at least 200 words are kept.

    Raises:
        BenchmarkError: a row has another form.
    """
    segments: list[Segment] = []
    for number, row in enumerate(read_rows(path), start=1):
        checked = checked_row(path, number, row, "video", "content")
        try:
            content = [
                (float(start), float(end), str(text)) for start, end, text in checked["content"]
            ]
        except (TypeError, ValueError) as error:
            raise BenchmarkError(
                f"{path}, row {number}: content must be [[start, end, text], ...] ({error})"
            ) from error
        name, title = PurePosixPath(str(checked["video"])).name, str(checked.get("title", ""))
        segments += [
            Segment(
                name,
                title,
                int(part[0][0]),
                int(part[-1][1]),
                "\n".join(text for _, _, text in part),
            )
            for part in _cut(content)
            if part
        ]
    return segments


def _cut(content: Content) -> Iterator[Content]:
    if not content or content[-1][1] - content[0][0] <= SEGMENT_S + 1:
        yield content
        return
    first = int(content[0][0])
    for start in range(first, int(content[-1][1]), SEGMENT_S):
        part = [piece for piece in content if start < piece[1] <= start + SEGMENT_S]
        if sum(len(text.split()) for _, _, text in part) >= FEWEST_WORDS:
            yield part


def read_commentaries(path: Path) -> dict[str, Commentary]:
    """Read an answer file by video; of two chunks with the same start the longer one counts.

    Raises:
        BenchmarkError: a row has another form.
    """
    chunks: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        checked = checked_row(path, number, row, "video", "chunk_start", "chunk_end", "items")
        of_video = chunks.setdefault(PurePosixPath(str(checked["video"])).name, {})
        before = of_video.get(int(checked["chunk_start"]))
        if before is None or checked["chunk_end"] > before["chunk_end"]:
            of_video[int(checked["chunk_start"])] = checked
    return {
        video: _joined(path, [of_video[start] for start in sorted(of_video)])
        for video, of_video in chunks.items()
    }


def _joined(path: Path, chunks: Sequence[Mapping[str, Any]]) -> Commentary:
    try:
        words = [
            (float(item["end_time"]), str(item.get("response", item.get("text", ""))).strip())
            for chunk in chunks
            for item in chunk["items"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchmarkError(
            f"{path}: an item of {chunks[0]['video']} is not {{response, start_time, end_time}}"
            f" ({error!r})"
        ) from error
    start, end = (
        min(int(chunk["chunk_start"]) for chunk in chunks),
        max(int(chunk["chunk_end"]) for chunk in chunks),
    )
    return Commentary(start, end, [(end_s, text) for end_s, text in words if text])


def score_commentaries(
    segments: Sequence[Segment],
    ours: Mapping[str, Commentary],
    theirs: Mapping[str, Commentary],
    judge: Judge,
) -> dict[str, Any]:
    """Compare both sides on every segment.

    Returns:
        Plain values for JSON, with a row for each segment in the published form; A is our side.
    """

    def vote(segment: Segment) -> Votes | None:
        our, their = ours.get(segment.video), theirs.get(segment.video)
        if their is None or not their.covers(segment):
            return None
        if our is None or not our.covers(segment):
            return Votes(FAILED, FAILED)
        return judge.compare(segment.reference, our.during(segment), their.during(segment))

    votes = judge_all(segments, vote)
    rows = [
        _row(segment, vote, judge.model)
        for segment, vote in zip(segments, votes, strict=True)
        if vote is not None
    ]
    uncovered = [segment for segment, vote in zip(segments, votes, strict=True) if vote is None]
    won, lost = sum(row["votes"]["A"] for row in rows), sum(row["votes"]["B"] for row in rows)
    return {
        "segments": len(rows),
        "win_rate": won / (won + lost) if rows else None,
        "votes": {"ours": won, "theirs": lost},
        "not_covered_by_the_other": [
            f"{segment.video} {segment.start}-{segment.end}" for segment in uncovered
        ],
        "failed_judgements": len(judge.failures),
        "failures": sorted(set(judge.failures))[:10],
        "rows": rows,
    }


def _row(segment: Segment, votes: Votes, model: str) -> dict[str, Any]:
    won = votes.won
    return {
        "video": segment.video,
        "title": segment.title,
        "start": segment.start,
        "end": segment.end,
        "winner": ("B", "equal", "A")[won],
        "votes": {"A": won, "B": 2 - won},
        "judge": {
            "model": model,
            "vote_ab": _letter(votes.ours_first),
            "vote_ba": _letter(votes.ours_second),
        },
    }


def _letter(vote: str) -> str:
    return {"ours": "A", "theirs": "B"}.get(vote, vote)
