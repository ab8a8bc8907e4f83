"""Rows are read whatever an editor put before them, and half a character is refused by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_vlm.cli import main
from stream_vlm_lab.evaluation.benchmarks.files import BenchmarkError, read_json, read_rows
from stream_vlm_lab.training.data.messages import read_messages
from stream_vlm_lab.training.data.rows import DataFileError
from stream_vlm_lab.training.data.sample import ReadResult, RefusalReason, VideoFolder
from stream_vlm_lab.training.data.streamo import read_raw
from stream_vlm_lab.training.data.text_stream import read_text_stream


def raw(words: str = "A man.", **changes: Any) -> dict[str, Any]:
    row = {
        "video_name": "a.mp4",
        "video_path": "a.mp4",
        "task_type": "QA",
        "source": "here",
        "question": [{"content": "Who?", "time": "2"}],
        "response": [{"content": words, "st_time": "", "end_time": "", "time": "3"}],
    }
    return row | changes


def messages(words: str = "A man.") -> dict[str, Any]:
    said = [
        {"role": "user", "content": "<0s-1s>\n<stream>"},
        {"role": "assistant", "content": f"</Response> {words}"},
    ]
    return {"messages": said, "videos": ["a.mp4"]}


def text_stream(words: str = "man") -> list[dict[str, Any]]:
    return [
        {"content": [{"video": "a.mp4", "video_start": 0.0, "video_end": 3.0}]},
        {"content": [{"text_stream": [[0.2, 0.8, words]]}]},
    ]


Read = Callable[[Path], ReadResult]
VIDEOS = VideoFolder(Path(), 8.0)
FORMS: dict[str, tuple[Callable[[str], Any], Read]] = {
    "streamo-raw": (raw, lambda path: read_raw(path, VIDEOS)),
    "messages": (messages, lambda path: read_messages(path, VIDEOS)),
    "text-stream": (text_stream, lambda path: read_text_stream(path, VIDEOS)),
}
every_form = pytest.mark.parametrize("form", FORMS)


def write_lines(path: Path, rows: list[Any], start: bytes = b"", end: str = "\n") -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)
    path.write_bytes(start + lines.encode())
    return path


@every_form
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_before_json_lines_costs_no_row(
    form: str, end: str, tmp_path: Path
) -> None:
    make, read = FORMS[form]
    path = write_lines(tmp_path / "a.jsonl", [make("One."), make("Two.")], b"\xef\xbb\xbf", end)
    reading = read(path)
    assert (reading.rows, reading.refusals) == ([1, 2], [])


@pytest.mark.parametrize("form", ["streamo-raw", "messages"])
def test_a_byte_order_mark_before_a_json_list_is_no_content(form: str, tmp_path: Path) -> None:
    make, read = FORMS[form]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([make("One."), make("Two.")]), encoding="utf-8-sig")
    reading = read(path)
    assert (reading.rows, reading.refusals) == ([1, 2], [])


@every_form
def test_characters_that_look_like_line_ends_stay_within_their_row(
    form: str, tmp_path: Path
) -> None:
    make, read = FORMS[form]
    rows = [make(f"a{mark}b") for mark in "\u2028\u2029\x85"]
    reading = read(write_lines(tmp_path / "a.jsonl", [*rows, make("last")]))
    assert (reading.rows, reading.refusals) == ([1, 2, 3, 4], [])
    texts = [turn.text for sample in reading.samples for turn in sample.turns if turn.text]
    assert texts == ["a\u2028b", "a\u2029b", "a\x85b", "last"]


@every_form
def test_half_a_character_is_refused_by_row_and_the_other_rows_are_read(
    form: str, tmp_path: Path
) -> None:
    make, read = FORMS[form]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(make(words)) + "\n" for words in ("x\ud83d", "fine")))
    reading = read(path)
    assert reading.rows == [2]
    assert [(refusal.row, refusal.reason) for refusal in reading.refusals] == [
        (1, RefusalReason.HALF_CHARACTER)
    ]
    assert reading.summary().encode()


@pytest.mark.parametrize(
    "row",
    [
        raw(source="\udc00"),
        raw(video_path="\ud83d.mp4"),
        raw(extra={"deep": [{"\ud83d": 1}]}),
        raw(task_type="\ud83d"),
        raw(id="\ud83d"),
    ],
    ids=["source", "path", "key", "task", "id"],
)
def test_half_a_character_is_refused_in_every_field(row: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([raw(), row]))
    reading = read_raw(path, VIDEOS)
    assert (reading.rows, [refusal.row for refusal in reading.refusals]) == ([1], [2])
    assert reading.summary().encode()


@every_form
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_with_the_remedy(
    form: str, encoding: str, tmp_path: Path
) -> None:
    make, read = FORMS[form]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(make("One.")), encoding=encoding)
    with pytest.raises(DataFileError, match=r"a\.jsonl: is text in UTF-16 .* save it as UTF-8"):
        read(path)


def test_benchmark_rows_are_read_the_same_way(tmp_path: Path) -> None:
    rows = [{"id": "a\u2028b"}, {"id": "c\x85d"}]
    path = write_lines(tmp_path / "a.jsonl", rows, b"\xef\xbb\xbf")
    assert read_rows(path) == rows
    path.write_text(json.dumps({"a": 1}), encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}


def test_half_a_character_in_a_benchmark_is_named_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "utterances": [{"text": "\\ud83d"}]}\n')
    with pytest.raises(BenchmarkError, match=r"row 2: utterances\[0\]\.text has half a character"):
        read_rows(path)
    path.write_text('[{"id": 1}, {"question": "\\ud83d"}]')
    with pytest.raises(BenchmarkError, match=r"\[1\]\.question has half a character"):
        read_json(path)


def convert(data: Path, *more: str) -> int:
    return main(["dataset", "convert", str(data), "--from", "streamo-raw", "--seconds", "8", *more])


def test_the_rows_without_half_a_character_are_converted_and_one_sentence_names_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "a.jsonl", tmp_path / "out.json"
    data.write_text(json.dumps(raw("x\ud83d")) + "\n" + json.dumps(raw()) + "\n")
    assert convert(data, "--to", "messages", "--out", str(out)) == 1
    assert "1 rows read, 1 refused" in capsys.readouterr().out
    assert len(json.loads(out.read_text())) == 1


@pytest.mark.parametrize("fault", ["no-data", "no-system", "utf-16-system", "directory"])
def test_a_file_that_was_there_stays_where_nothing_can_be_written(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, system = tmp_path / "a.jsonl", tmp_path / "out.json", tmp_path / "system.txt"
    out.write_text("before")
    system.write_text("Watch.", encoding="utf-16" if fault == "utf-16-system" else "utf-8")
    if fault != "no-data":
        data.write_text(json.dumps(raw()))
    if fault == "no-system":
        system.unlink()
    to = out if fault != "directory" else tmp_path / "missing" / "out.json"
    assert convert(data, "--to", "messages", "--out", str(to), "--system", str(system)) in (1, 2)
    assert out.read_text() == "before"
    assert "Traceback" not in capsys.readouterr().err
