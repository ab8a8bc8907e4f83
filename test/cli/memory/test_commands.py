"""`stream-vlm memory`: every command is run on a real memory file, as a user types it."""

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_fixtures import (
    SESSION,
    begin,
    locked_by_another_program,
    picture,
    seconds,
    settings,
    step,
)
from rosbags.rosbag2 import Reader

from stream_vlm.cli import main
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.schema import SCHEMA_VERSION
from stream_vlm.types import Pose

STEPS = 12


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed memory of twelve steps with speech and poses, a question, a vector and a summary."""
    path = tmp_path / "memory.db"
    remember(path, SESSION)
    return path


def remember(path: Path, session: str) -> None:
    with Memory.open(settings(path)) as memory:
        begin(memory, session)
        for number in range(STEPS):
            pose, image = Pose("map", number, 1.0, 0.0), picture(number * 20)
            memory.write(
                step(
                    number,
                    said=f"ball <{number}> rolls in",
                    session=session,
                    pose=pose,
                    image=image,
                )
            )
        memory.write(step(100, asked="where is the ball?", said="left", session=session))
    with sqlite3.connect(path) as connection:
        last = connection.execute("SELECT max(id) FROM record").fetchone()[0]
        connection.execute(
            "INSERT OR IGNORE INTO vector_model (name, size) VALUES ('of the test', 2)"
        )
        connection.execute(
            "INSERT INTO record_vector (record_id, vector_model_id, halves) VALUES (?, 1,"
            " x'11223344')",
            [last],
        )
        connection.execute("INSERT INTO summary VALUES (?, 'mid', 1)", [last])
        connection.execute("INSERT INTO summary_covers VALUES (?, ?)", [last, last - 1])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return the exit status and everything that was printed."""
    capsys.readouterr()
    status = main(["memory", *(str(argument) for argument in arguments)])
    said = capsys.readouterr()
    return status, said.out + said.err


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the package's own tables, by table."""
    tables = ("session", "picture", "record", "record_vector", "summary", "summary_covers")
    with sqlite3.connect(path) as connection:
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_stats_prints_the_counts_of_the_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(capsys, "stats", "--json", "--memory", file)
    found = json.loads(said)
    assert status == 0
    assert found["records"] == {
        "answer": 1,
        "event": 12,
        "observation": 13,
        "query": 1,
        "utterance": 12,
    }
    assert (found["pictures"], found["sessions"], found["cameras"]) == (13, 1, {"front": 39})
    assert (found["oldest_ns"], found["newest_ns"]) == (seconds(-1), seconds(100))
    status, said = run(capsys, "stats", "--memory", file)
    assert "39 records: 1 answer, 12 event, 13 observation, 1 query, 12 utterance" in said


def test_verify_accepts_a_sound_file_and_lists_every_fault(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "verify", "--memory", file) == (0, f"{file}: sound\n")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE picture SET jpeg = x'00' WHERE id = 3")
        connection.execute("UPDATE record SET picture_id = 77 WHERE id = 1")
    assert run(capsys, "verify", "--memory", file) == (
        1,
        "row 1 of record refers to a picture that does not exist\n"
        "picture 3 is not a complete JPEG\n",
    )


def test_verify_rescues_a_damaged_file_only_with_the_option(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(file) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'record'"
        ).fetchone()[0]
    with file.open("r+b") as raw:
        raw.seek((root - 1) * 4096)
        raw.write(b"\xa5" * 4096)
    assert run(capsys, "verify", "--memory", file)[0] == 1
    assert not list(file.parent.glob("*.damaged-*"))
    status, said = run(capsys, "verify", "--rescue", "--memory", file)
    assert status == 1
    assert "the damaged file is now" in said
    assert (
        len([path for path in file.parent.glob("*.damaged-*") if not path.name.endswith("-wal")])
        == 1
    )
    assert run(capsys, "verify", "--memory", file)[0] == 0


def test_backup_works_while_a_node_writes_and_replaces_no_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = file.with_name("copy.db")
    with Memory.open(settings(file)) as memory:
        begin(memory, "tuesday")
        memory.write(step(500, said="a cup", session="tuesday"))
        assert run(capsys, "backup", copy, "--memory", file)[0] == 0
    assert content(copy) == content(file)
    assert copy.stat().st_mode & 0o777 == 0o600
    status, said = run(capsys, "backup", copy, "--memory", file)
    assert status == 1
    assert "already exists and is not overwritten; give another name" in said


def test_an_exported_and_imported_memory_is_the_same(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "memory.jsonl", tmp_path / "other.db"
    assert run(capsys, "export", out, "--memory", file)[0] == 0
    assert run(capsys, "import", out, "--memory", other)[0] == 0
    assert content(other) == content(file)
    with Memory.open(settings(other)) as memory:
        assert memory.recall(RecallQuery("ball")).total == 24
    assert run(capsys, "verify", "--memory", other)[0] == 0


def test_an_import_gets_new_record_numbers_and_keeps_its_links(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "memory.jsonl", tmp_path / "other.db"
    run(capsys, "export", out, "--memory", file)
    remember(other, "tuesday")
    before = content(other)
    assert run(capsys, "import", out, "--memory", other)[0] == 0
    after = content(other)
    for table in before:
        assert after[table][: len(before[table])] == before[table]
        assert len(after[table]) == 2 * len(before[table])
    with Memory.open(settings(other)) as memory:
        for record in memory.recall(RecallQuery("ball", limit=100)).records:
            theirs = Memory.open(settings(file), read_only=True)
            if record.session_id == SESSION:
                assert (
                    memory.frame(record.record_id).jpeg == theirs.frame(record.record_id - 39).jpeg
                )
            theirs.close()
    assert after["summary_covers"][-1] == (78, 77)
    assert run(capsys, "verify", "--memory", other)[0] == 0


def test_a_second_import_adds_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "memory.jsonl"
    run(capsys, "export", out, "--memory", file)
    before = content(file)
    status, said = run(capsys, "import", out, "--memory", file)
    assert status == 0
    assert "nothing new" in said
    assert "records were there already" in said
    assert content(file) == before


def drop_a_line(lines: list[bytes]) -> list[bytes]:
    return lines[:5] + lines[6:]


def change_a_word(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b"rolls in", b"rolls on") for line in lines]


def break_a_link(lines: list[bytes]) -> list[bytes]:
    """Complete and with a valid checksum, but a record refers to a picture that does not exist."""
    rows = [json.loads(line) for line in lines[:-1]]
    for row in rows:
        if row.get("table") == "record":
            row["row"]["picture_id"] = 4711
    body = [json.dumps(row).encode() + b"\n" for row in rows]
    return [
        *body,
        json.dumps(
            {**json.loads(lines[-1]), "sha256": hashlib.sha256(b"".join(body)).hexdigest()}
        ).encode(),
    ]


def make_it_newer(lines: list[bytes]) -> list[bytes]:
    return [json.dumps({"format": "stream_vlm memory", "version": 99}).encode() + b"\n", *lines[1:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda lines: [b'{"contacts": []}\n'],
            "is not an export of a memory; give a file that 'stream-vlm memory export' wrote",
        ),
        (
            lambda lines: [b"Dear diary\n"],
            "is not an export of a memory; give a file that 'stream-vlm memory export' wrote",
        ),
        (lambda lines: [], "is not an export of a memory"),
        (make_it_newer, f"has version 99, newer than this program's {SCHEMA_VERSION}"),
    ],
    ids=["foreign JSON", "text", "empty", "newer"],
)
def test_a_foreign_or_newer_export_is_refused_and_nothing_is_imported(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[list[bytes]], list[bytes]],
    message: str,
) -> None:
    out, other = tmp_path / "memory.jsonl", tmp_path / "other.db"
    run(capsys, "export", out, "--memory", file)
    remember(other, "tuesday")
    out.write_bytes(b"".join(spoil(out.read_bytes().splitlines(keepends=True))))
    before = content(other)
    status, said = run(capsys, "import", out, "--memory", other)
    assert status == 1
    assert f"{out}: {message}" in said
    assert content(other) == before
    assert not list(tmp_path.glob("*.import-*"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:-1], "its end is missing, so rows may be missing"),
        (drop_a_line, "its contents do not match its last line"),
        (change_a_word, "its contents do not match its last line"),
        (lambda lines: [*lines[:4], b"\xff\xfe{\n", *lines[4:]], "line 5 is not UTF-8"),
        (lambda lines: [*lines, b"more\n"], "is behind the end of the export"),
        (
            lambda lines: [lines[0], b'{"table": "diary", "row": {}}\n', *lines[1:]],
            "line 2 names no table of a memory ('diary')",
        ),
        (break_a_link, "refers to a picture that is missing; it was imported without"),
    ],
    ids=[
        "cut off",
        "a line missing",
        "a word changed",
        "no text",
        "more behind",
        "foreign table",
        "broken link",
    ],
)
def test_the_sound_rows_of_a_damaged_export_are_imported_and_the_damage_is_said(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[list[bytes]], list[bytes]],
    message: str,
) -> None:
    out, other = tmp_path / "memory.jsonl", tmp_path / "other.db"
    run(capsys, "export", out, "--memory", file)
    out.write_bytes(b"".join(spoil(out.read_bytes().splitlines(keepends=True))))
    status, said = run(capsys, "import", out, "--memory", other)
    assert status == 1
    assert f"{out}: " in said
    assert message in said
    assert len(content(other)["record"]) == len(content(file)["record"])
    assert run(capsys, "verify", "--memory", other)[0] == 0
    before = content(other)
    assert run(capsys, "import", out, "--memory", other)[0] == 1
    assert content(other) == before
    assert not list(tmp_path.glob("*.import-*"))


def test_an_export_of_an_older_version_is_migrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = {
        "session_id": "old",
        "model_id": "m",
        "reason": "r",
        "started_ns": 1,
        "wall_started_ns": 2,
    }
    lines = [{"format": "stream_vlm memory", "version": 1}, {"table": "session", "row": session}]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    end = {"rows": {"session": 1}, "sha256": hashlib.sha256(body).hexdigest()}
    (tmp_path / "old.jsonl").write_bytes(body + json.dumps(end).encode() + b"\n")
    assert run(capsys, "import", tmp_path / "old.jsonl", "--memory", tmp_path / "memory.db") == (
        0,
        f"{tmp_path / 'memory.db'}: 1 of session\n",
    )


def test_an_exported_bag_has_pictures_poses_and_records_at_their_own_stamps(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "export", tmp_path / "bag", "--format", "mcap", "--memory", file)[0] == 0
    with Reader(tmp_path / "bag") as reader:
        messages = [
            (connection.topic, connection.msgtype, stamp_ns)
            for connection, stamp_ns, _ in reader.messages()
        ]
    topics = {(topic, kind) for topic, kind, _ in messages}
    assert topics == {
        ("/memory/front/compressed", "sensor_msgs/msg/CompressedImage"),
        ("/memory/record", "std_msgs/msg/String"),
        ("/memory/pose", "geometry_msgs/msg/PoseStamped"),
    }
    assert [stamp_ns for topic, _, stamp_ns in messages if topic.endswith("compressed")] == [
        seconds(number) for number in [*range(STEPS), 100]
    ]
    assert list((tmp_path / "bag").glob("*.mcap"))


def test_forget_and_prune_count_with_dry_run_and_then_delete(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget = ("forget", "--near", 3, 1, 0.5, "--memory", file)
    status, said = run(capsys, *forget, "--dry-run")
    assert (status, said.split("(")[0]) == (0, "would forget 3 records and 1 pictures ")
    assert len(content(file)["record"]) == 39
    assert "forgot 3 records and 1 pictures" in run(capsys, *forget)[1]
    assert len(content(file)["record"]) == 36
    assert run(capsys, "prune", "--before", "now", "--memory", file)[0] == 0
    assert content(file)["record"] == []
    assert run(capsys, "forget", "--memory", file)[0] == 1
    assert run(capsys, "forget", "--everything", "--camera", "front", "--memory", file)[0] == 2


def test_a_file_that_another_program_writes_is_not_changed(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stream_vlm.cli.memory.commands.memory_settings", lambda path, key: settings(path)
    )
    with Memory.open(settings(file)):
        status, said = run(capsys, "prune", "--before", "now", "--memory", file)
        assert status == 1
        assert "writes it already" in said
        assert run(capsys, "stats", "--memory", file)[0] == 0
    with locked_by_another_program(file):
        assert run(capsys, "verify", "--memory", file)[0] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("stats",),
        ("verify",),
        ("backup", "copy.db"),
        ("export", "out"),
        ("forget", "--everything"),
        ("report",),
    ],
)
def test_a_missing_memory_is_reported_and_not_created(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, *command, "--memory", tmp_path / "none.db")
    assert status == 1
    assert "no such memory file" in said
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_a_day_is_one_page_without_other_files(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "day.html"
    assert run(capsys, "report", out, "--memory", file)[0] == 0
    html = out.read_text()
    # Twelve events with what was said of them, and a question with its answer.
    assert html.count("data:image/jpeg;base64,") == 13
    assert html.count("<li") == 13
    with Memory.open(settings(file), read_only=True) as memory:
        (answer,) = memory.recall(RecallQuery(kinds=("answer",))).records
        assert base64.b64encode(memory.frame(answer.record_id).jpeg).decode() in html
    assert "ball &lt;3&gt; rolls in" in html
    assert "<3>" not in html
    assert not re.search(r"(src|href)=[\"'](?!data:)", html)
    assert "12 event, 1 query, 13 observations" in html
    assert html.count("<i style") == 13
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_report_of_a_day_without_records_names_the_stored_time_span(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(
        capsys, "report", tmp_path / "day.html", "--day", "1999-01-01", "--memory", file
    )
    assert status == 1
    assert "has no records of Friday, 1999-01-01; choose a day within 2023-11-14" in said
    status, said = run(
        capsys, "report", tmp_path / "day.html", "--day", "someday", "--memory", file
    )
    assert status == 1
    assert "day: 'someday' is not a date; write it as 2026-01-31" in said
