"""Deleted records are gone from every result and from the file's bytes, and the file shrinks."""

import sqlite3
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import begin, locked_by_another_program, seconds, settings, step
from sqlite_utils import Database

from stream_vlm.cli import main
from stream_vlm.memory.maintenance.check_and_backup import backup
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.memory.storage import file as memory_file
from stream_vlm.memory.storage import schema
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.types import Pose

KITCHEN, BATHROOM = Pose("map", 1.0, 1.0, 0.0), Pose("map", 7.123456, 7.654321, 0.0)
SECRET = "a xylophonist undresses"


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """Forty seconds in the kitchen, ten in the bathroom by camera "side", forty in the kitchen.

    The bathroom is from second 40 to 49.
    """
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for number in range(90):
            private = 40 <= number < 50
            memory.write(
                step(
                    number,
                    said=SECRET if private else "a ball rolls in",
                    camera="side" if private else "front",
                    pose=BATHROOM if private else KITCHEN,
                    image=noise(number),
                )
            )
        yield memory


def raw(memory: Memory) -> bytes:
    """Return every byte of the file and its WAL."""
    return b"".join(
        path.read_bytes()
        for path in (memory.path, memory.path.with_name("memory.db-wal"))
        if path.exists()
    )


def words(memory: Memory) -> set[str]:
    """Return every word in the full-text index."""
    with sqlite3.connect(memory.path) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab('main', 'record_text', 'row')"
        )
        return {term for (term,) in connection.execute("SELECT term FROM temp.vocabulary")}


@pytest.mark.parametrize(
    "what",
    [
        Forget(start_ns=seconds(40), end_ns=seconds(49)),
        Forget(place=Place(7.0, 7.5, 1.0)),
        Forget(cameras=("side",)),
        Forget(
            start_ns=seconds(0),
            end_ns=seconds(60),
            place=Place(7.0, 7.5, 1.0),
            cameras=("side", "rear"),
        ),
    ],
    ids=["by time", "by place", "by camera", "by all three"],
)
def test_deleted_records_are_gone_from_every_result_and_from_the_bytes_of_the_file(
    memory: Memory, what: Forget
) -> None:
    jpeg = memory.frame(memory.recall(RecallQuery("xylophonist")).records[0].record_id).jpeg
    middle = jpeg[len(jpeg) // 2 :][:40]
    assert middle in raw(memory)
    forgotten = memory.forget(what)
    # By time alone the event of second 50 is deleted as well, because it began in second 49, and
    # with it its utterance and their picture.
    by_time_alone = what.place is None and not what.cameras
    assert (forgotten.records, forgotten.pictures) == ((32, 11) if by_time_alone else (30, 10))
    assert forgotten.erased
    assert memory.recall(RecallQuery("xylophonist")).total == 0
    assert (
        memory.recall(RecallQuery(place=Place(7.0, 7.5, 1.0), kinds=("observation", "event"))).total
        == 0
    )
    left = raw(memory)
    assert b"xylophonist" not in left
    assert middle not in left
    assert struct.pack(">d", BATHROOM.x) not in left
    assert struct.pack(">f", BATHROOM.x) not in left
    assert not {"xylophonist", "undress"} & words(memory)
    with sqlite3.connect(memory.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert (
            connection.execute(
                "INSERT INTO record_text (record_text) VALUES ('integrity-check')"
            ).fetchall()
            == []
        )


def test_other_records_stay(memory: Memory) -> None:
    memory.forget(Forget(cameras=("side",)))
    assert memory.recall(RecallQuery("ball")).total == 160
    assert memory.count() == 240
    assert [record.has_frame for record in memory.recall(RecallQuery("ball", limit=3)).records] == [
        True
    ] * 3


def test_the_file_shrinks_by_what_was_deleted(memory: Memory) -> None:
    memory.forget(Forget(cameras=("nobody",)))
    before = memory.path.stat().st_size
    forgotten = memory.forget(Forget(start_ns=seconds(0), end_ns=seconds(60)))
    assert forgotten.freed_bytes > 0.8 * forgotten.picture_bytes
    assert memory.path.stat().st_size == before - forgotten.freed_bytes
    assert memory.path.with_name("memory.db-wal").stat().st_size == 0


def test_a_dry_run_counts_the_same_and_deletes_nothing(memory: Memory) -> None:
    what = Forget(cameras=("side",))
    would = memory.forget(what, dry_run=True)
    assert memory.count() == 270
    with Memory.open(settings(memory.path), read_only=True) as reader:
        assert reader.forget(what, dry_run=True).records == would.records
    did = memory.forget(what)
    assert (did.records, did.pictures, did.picture_bytes) == (
        would.records,
        would.pictures,
        would.picture_bytes,
    )


def test_the_question_of_a_deleted_answer_is_deleted(memory: Memory) -> None:
    memory.write(step(100, asked="who is in the bathroom?", said="nobody", camera="side"))
    memory.forget(Forget(cameras=("side",)))
    assert memory.recall(RecallQuery(kinds=("query", "answer"))).total == 0


def test_the_utterance_of_a_deleted_event_is_deleted_though_it_came_later(memory: Memory) -> None:
    memory.write(step(130, since=110, said="a zebra leaves"))
    memory.forget(Forget(start_ns=seconds(105), end_ns=seconds(115)))
    assert memory.recall(RecallQuery("zebra")).total == 0
    assert memory.recall(RecallQuery(start_ns=seconds(130), kinds=("observation",))).total == 1


def test_numbers_of_deleted_records_are_not_used_again(memory: Memory) -> None:
    last = memory.recall(RecallQuery(order="newest", limit=1)).records[0].record_id
    memory.forget(Forget(start_ns=seconds(0)))
    memory.write(step(200, said="a cup"))
    assert (
        min(record.record_id for record in memory.recall(RecallQuery(order="oldest")).records)
        > last
    )


def test_a_reader_of_an_older_state_delays_only_the_truncation_of_the_wal(memory: Memory) -> None:
    with sqlite3.connect(memory.path, isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record").fetchone()
        assert not memory.forget(Forget(cameras=("side",))).erased
        reader.execute("COMMIT")
    again = memory.forget(Forget(cameras=("side",)))
    assert (again.records, again.erased) == (0, True)
    assert b"xylophonist" not in raw(memory)


def test_steps_are_stored_while_many_records_are_deleted(memory: Memory) -> None:
    thread = threading.Thread(
        target=lambda: memory.forget(Forget(start_ns=seconds(0), end_ns=seconds(89)))
    )
    thread.start()
    number = 100
    while thread.is_alive() or number == 100:
        memory.write(step(number, said="a cup"))
        number += 1
    thread.join()
    assert memory.recall(RecallQuery("cup")).total == 2 * (number - 100)
    assert memory.count() == 3 * (number - 100)


def test_summaries_of_deleted_records_are_deleted(memory: Memory) -> None:
    secret = memory.recall(RecallQuery("xylophonist")).records[0].record_id
    columns = "session_id, frame_id, state, confidence, event_id, query_id, model_id"
    with sqlite3.connect(memory.path) as connection:
        made = []
        for begin_s, text, tier, covers in (
            (200, "a musician in the bathroom", "mid", secret),
            (300, "a musician, then balls", "long", None),
        ):
            connection.execute(
                f"INSERT INTO record (kind, camera, start_ns, end_ns, text, {columns})"
                f" SELECT 'summary', 'front', ?, ?, ?, {columns} FROM record WHERE id = ?",
                [seconds(begin_s), seconds(begin_s), text, secret],
            )
            made.append(connection.execute("SELECT max(id) FROM record").fetchone()[0])
            connection.execute("INSERT INTO summary VALUES (?, ?, 1)", [made[-1], tier])
            connection.execute(
                "INSERT INTO summary_covers VALUES (?, ?)", [made[-1], covers or made[0]]
            )
            connection.execute("INSERT INTO vector_model (name, size) VALUES (?, 2)", [tier])
            vector = (
                "INSERT INTO record_vector (record_id, vector_model_id, halves) SELECT ?, max(id),"
                " x'11223344' FROM vector_model"
            )
            connection.execute(vector, [secret])
    memory.forget(Forget(cameras=("side",)))
    assert memory.recall(RecallQuery("musician", kinds=("summary",))).total == 0
    assert b"musician" not in raw(memory)
    with sqlite3.connect(memory.path) as connection:
        assert connection.execute(
            "SELECT (SELECT count(*) FROM summary), (SELECT count(*) FROM summary_covers)"
        ).fetchone() == (0, 0)
        assert connection.execute("SELECT count(*) FROM record_vector").fetchone() == (0,)


def test_rows_that_refer_to_a_deleted_record_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_moods(db: Database) -> None:
        db.execute(
            "CREATE TABLE mood (record_id INTEGER PRIMARY KEY REFERENCES record(id), mood TEXT NOT"
            " NULL) STRICT"
        )

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_moods))
    for module in (schema, memory_file):
        monkeypatch.setattr(module, "SCHEMA_VERSION", len(schema.MIGRATIONS))
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for number in range(2):
            memory.write(step(number, said="a ball", since=number))
        with sqlite3.connect(memory.path) as connection:
            connection.execute("INSERT INTO mood SELECT id, 'calm' FROM record")
        memory.forget(Forget(end_ns=seconds(0)))
        with sqlite3.connect(memory.path) as connection:
            assert connection.execute("SELECT count(*) FROM mood").fetchone() == (3,)


def test_the_copies_that_still_have_the_records_are_listed(memory: Memory) -> None:
    copy = memory.path.with_name("memory.db.damaged-20260131-120000")
    copy.touch()
    assert memory.forget(Forget(cameras=("side",))).copies == (copy,)


def test_a_copy_without_the_records_is_not_listed(memory: Memory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "stick"
    elsewhere.mkdir()
    old, new = elsewhere / "old.db", elsewhere / "new.db"
    what = Forget(cameras=("side",))
    backup(memory.path, old, 0.0)
    assert memory.forget(what, dry_run=True).copies == (old,)
    memory.forget(what)
    backup(memory.path, new, 0.0)
    assert memory.forget(what).copies == (old,)
    assert memory.forget(Forget.everything(), dry_run=True).copies == (new, old)
    old.unlink()
    new.unlink()
    assert memory.forget(Forget.everything()).copies == ()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("command", ["backup", "export", "report"])
def test_every_copy_that_a_command_makes_is_named_wherever_it_is(
    memory: Memory, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "elsewhere"
    assert main(["memory", command, str(out), "--memory", str(memory.path)]) == 0
    assert out.stat().st_mode & 0o077 == 0
    memory.check_file()
    assert memory.file_fault == ""
    forgotten = memory.forget(Forget(cameras=("side",)))
    assert out in forgotten.copies
    assert f"these copies still have it, or may have it, and are not changed: {out}" in str(
        forgotten
    )


def test_a_copy_that_cannot_be_noted_is_made_and_said(
    memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with locked_by_another_program(memory.path):
        backup(memory.path, tmp_path / "copy.db", 0.0)
    assert "cannot be noted as a copy" in caplog.text
    assert (tmp_path / "copy.db").exists()


def test_with_backups_the_records_are_deleted_in_the_backups_too(
    memory: Memory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, page = tmp_path / "copy.db", tmp_path / "page.html"
    file = str(memory.path)
    memory.close()
    assert main(["memory", "backup", str(copy), "--memory", file]) == 0
    assert main(["memory", "report", str(page), "--memory", file]) == 0
    assert main(["memory", "forget", "--camera", "side", "--backups", "--memory", file]) == 0
    said = capsys.readouterr().out
    assert f"  {copy}: forgot " in said
    assert f"not deleted there: {page}" in said
    with Memory.open(settings(copy), read_only=True) as opened:
        found = opened.forget(Forget(cameras=("side",)), dry_run=True)
        assert found.records == 0
        assert opened.count() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no filter is given; give a time, a place or a camera"),
        ({"start_ns": 2, "end_ns": 1}, "start 2 ns is after end 1 ns"),
        ({"start_ns": 1.5}, "start_ns: 1.5 is not a time"),
        ({"cameras": ("a",) * 101}, "101 are too many"),
    ],
)
def test_invalid_filters_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecallError, match=message):
        Forget(**arguments)  # type: ignore[arg-type]


def test_a_memory_opened_for_reading_cannot_delete(memory: Memory) -> None:
    with (
        Memory.open(settings(memory.path), read_only=True) as reader,
        pytest.raises(MemoryFileError, match="opened for reading only"),
    ):
        reader.forget(Forget(cameras=("side",)))
