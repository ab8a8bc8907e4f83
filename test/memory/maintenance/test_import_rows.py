"""An export from outside: each row that is damaged or hostile is refused, and no other."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_fixtures import begin, looking_into, settings, step

from stream_vlm.cli import main
from stream_vlm.memory.maintenance.check_and_backup import verify
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery

STEPS = 6
VICTIM = 3
"""The step whose row is spoiled."""


@pytest.fixture
def rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of an export, as JSON, without its last line."""
    with Memory.open(settings(tmp_path / "source.db")) as memory:
        begin(memory)
        for at in range(STEPS):
            memory.write(step(at, said=f"the ball rolls in for the {at} time"))
    out = tmp_path / "source.jsonl"
    assert main(["memory", "export", str(out), "--memory", str(tmp_path / "source.db")]) == 0
    capsys.readouterr()
    return [json.loads(line) for line in out.read_text().splitlines()[:-1]]


def event_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(
        line["row"]
        for line in rows
        if line.get("table") == "record"
        and line["row"]["kind"] == "event"
        and f"the {VICTIM} time" in line["row"]["text"]
    )


def picture_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    number = event_of(rows)["picture_id"]
    return next(
        line["row"]
        for line in rows
        if line.get("table") == "picture" and line["row"]["id"] == number
    )


def change(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: event_of(rows).update(values)


def change_picture(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: picture_of(rows).update(values)


def drop(name: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: event_of(rows).pop(name)


def encoded(contents: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(contents).decode()}


RECORDS = {
    "unknown kind": (change(kind="diary"), "kind 'diary' is none of observation"),
    "unknown state": (change(state="asleep"), "state 'asleep' is unknown"),
    "negative span": (change(start_ns=5, end_ns=4), "ends before it starts"),
    "span beyond 64 bits": (change(start_ns=-(2**62) * 2, end_ns=5), "does not fit into 64 bits"),
    "number beyond 64 bits": (change(end_ns=2**63), "end_ns does not fit into 64 bits"),
    "huge number": (change(end_ns=10**400), "end_ns does not fit into 64 bits"),
    "not a number": (change(confidence=float("nan")), "has the number NaN"),
    "infinite": (change(confidence=float("inf")), "has the number Infinity"),
    "confidence": (change(confidence=1.5), "confidence 1.5 is not within 0 and 1"),
    "infinite pose": (change(x=float("-inf")), "has the number -Infinity"),
    "half a pose": (change(x=1.0), "its pose is incomplete"),
    "text for a number": (change(start_ns="now"), "start_ns is not a number but str"),
    "truth for a number": (change(start_ns=True), "start_ns is not a number but bool"),
    "number for a text": (change(text=5), "text is not a text but int"),
    "list for a text": (change(text=["a"]), "text is not a text but list"),
    "null": (change(text=None), "text is missing (null)"),
    "NUL": (change(text="a\0b"), "text has a NUL character"),
    "half a surrogate pair": (change(text="a\ud800"), "text has half a surrogate pair"),
    "very long text": (change(text="a" * 100_001), "text has 100001 characters"),
    "missing key": (drop("camera"), "lacks camera of record"),
    "foreign key": (change(secret=1), "has 'secret', which record has not"),
    "unknown session": (change(session_id="nobody"), "refers to a session that is missing"),
    "camera of no picture": (change(camera="attic"), "refers to a picture of another camera"),
}
PICTURES = {
    "no JPEG": (change_picture(jpeg=encoded(b"GIF89a")), "its picture is not a complete JPEG"),
    "cut JPEG": (change_picture(jpeg=encoded(b"\xff\xd8abc")), "is not a complete JPEG"),
    "bad base64": (change_picture(jpeg={"base64": "!!!"}), "jpeg is not base64"),
    "base64 of another type": (change_picture(jpeg={"base64": 5}), "its base64 is not a text"),
    "no base64": (change_picture(jpeg="abc"), 'jpeg is not {"base64": "..."}'),
    "huge base64": (
        change_picture(jpeg={"base64": "A" * (33 * 2**20)}),
        "has more than 32 MB",
    ),
    "huge picture": (change_picture(width=10**6), "width is 1000000 pixels"),
}


def import_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], contents: bytes
) -> tuple[int, str]:
    file, target = tmp_path / "spoiled.jsonl", tmp_path / "target.db"
    file.write_bytes(contents)
    status = main(["memory", "import", str(file), "--memory", str(target)])
    said = capsys.readouterr()
    return status, said.out + said.err


def counted(tmp_path: Path) -> tuple[int, int, int]:
    """Numbers of events, pictures and links to pictures in a target that must be sound."""
    assert verify(tmp_path / "target.db", 0.0) == []
    with looking_into(tmp_path / "target.db") as db:
        return tuple(
            db.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
            for what in (
                "record WHERE kind = 'event'",
                "picture",
                "record WHERE picture_id IS NOT NULL",
            )
        )


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("name", RECORDS)
def test_a_spoiled_record_is_refused_with_its_reason_and_costs_no_other(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    spoil, reason = RECORDS[name]
    spoil(rows)
    status, said = import_them(tmp_path, capsys, as_lines(rows))
    assert status == 1
    assert reason in said
    events, pictures, _ = counted(tmp_path)
    assert events == STEPS - (name != "camera of no picture")
    assert pictures == STEPS
    before = counted(tmp_path)
    assert import_them(tmp_path, capsys, as_lines(rows))[0] == 1
    assert counted(tmp_path) == before


@pytest.mark.parametrize("name", PICTURES)
def test_a_spoiled_picture_is_refused_and_its_records_are_imported_without_it(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    spoil, reason = PICTURES[name]
    spoil(rows)
    status, said = import_them(tmp_path, capsys, as_lines(rows))
    assert status == 1
    assert reason in said
    assert said.count("refers to a picture that is missing; it was imported without") == 3
    assert counted(tmp_path) == (STEPS, STEPS - 1, 3 * (STEPS - 1))


LINES = {
    "nested deeply": (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    "nested objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "is nested too deeply"),
    "no JSON": (b"{oh", "is not JSON"),
    "no object": (b"[1, 2]", "is not a JSON object"),
    "no text": (b'{"table": "\xff"}', "is not UTF-8"),
    "no row": (b'{"table": "record"}', "has no row of record"),
    "no table": (b'{"table": {"a": 1}, "row": {}}', "names no table"),
    "a table of SQLite": (b'{"table": "sqlite_sequence", "row": {}}', "names no table"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_row_costs_no_other(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    line, reason = LINES[name]
    before, after = as_lines(rows[:2]), as_lines(rows[2:])
    status, said = import_them(tmp_path, capsys, before + line + b"\n" + after)
    assert status == 1
    assert f"line 3 {reason}" in said
    assert counted(tmp_path) == (STEPS, STEPS, 3 * STEPS)


def test_a_row_that_comes_twice_is_stored_once(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [line for line in rows if line.get("row") is event_of(rows)]
    status, said = import_them(tmp_path, capsys, as_lines([*rows, *again]))
    assert status == 1
    assert "is in the export twice (record.id)" in said
    assert counted(tmp_path) == (STEPS, STEPS, 3 * STEPS)


def test_the_highest_possible_number_of_a_row_leaves_room_for_the_next_ones(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event_of(rows)["id"] = 2**63 - 1
    import_them(tmp_path, capsys, as_lines(rows))
    with Memory.open(settings(tmp_path / "target.db")) as memory:
        begin(memory, "tuesday")
        memory.write(step(50, said="the door opens", session="tuesday"))
        assert memory.recall(RecallQuery("door")).total
    assert counted(tmp_path)[0] == STEPS + 1


def test_a_byte_order_mark_is_no_content(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (tmp_path / "source.jsonl").read_bytes()
    assert import_them(tmp_path, capsys, b"\xef\xbb\xbf" + whole)[0] == 0
    assert counted(tmp_path) == (STEPS, STEPS, 3 * STEPS)


def test_another_session_of_the_same_name_is_refused_as_a_whole(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_them(tmp_path, capsys, as_lines(rows))
    session = next(line["row"] for line in rows if line.get("table") == "session")
    session["model_id"] = "another model"
    before = counted(tmp_path)
    status, said = import_them(tmp_path, capsys, as_lines(rows))
    assert status == 1
    assert "another session 'monday' is already in" in said
    assert counted(tmp_path) == before
