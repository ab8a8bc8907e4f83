"""A damaged memory is detected at opening and renamed, and its readable rows are copied."""

import logging
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, looking_into, seconds, settings, step

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.rescue.sqlite_pages import RawFile, rows
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage import file as memory_file
from stream_vlm.memory.storage.errors import MemoryDamaged, MemoryFileError

STEPS = 60
RECORDS = 3 * STEPS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed memory of sixty steps.

    Each has an observation, an event, an utterance and a picture of several pages.
    """
    path = tmp_path / "memory.db"
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with Memory.open(settings(path)) as memory:
        begin(memory)
        for number in range(STEPS):
            memory.write(step(number, said="a ball rolls in", image=noise))
    return path


@pytest.fixture(autouse=True)
def time_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the check at opening enough time on a busy machine.

    Tests of the time limit set it themselves.
    """
    monkeypatch.setattr(memory_file, "CHECK_S", 60.0)


def page_of(path: Path, table: str) -> tuple[int, int]:
    """Return the offset of the root page of `table`, and the page size."""
    with looking_into(path) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", [table]
        ).fetchone()[0]
    return (root - 1) * size, size


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def spoil_the_root_of(table: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        at, size = page_of(path, table)
        overwrite(path, at, b"\xa5" * size)

    return spoil


def spoil_the_directory(path: Path) -> None:
    overwrite(path, 100, b"\xa5" * 2000)


def spoil_what_records_are_counted_by(path: Path) -> None:
    """Damage the index that counts records, which fails at opening even if the check misses it."""
    with looking_into(path) as connection:
        indices = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'record'"
            )
        ]
    for name in indices:
        spoil_the_root_of(name)(path)


def aside(path: Path) -> Path:
    (found,) = path.parent.glob("memory.db.damaged-*")
    return found


def records(path: Path) -> list[tuple[object, ...]]:
    with looking_into(path) as connection:
        return connection.execute("SELECT * FROM record ORDER BY id").fetchall()


def jpegs(path: Path) -> dict[int, bytes]:
    with looking_into(path) as connection:
        return dict(connection.execute("SELECT id, jpeg FROM picture"))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_the_root_of("record"),
        spoil_the_root_of("picture"),
        spoil_the_root_of("record_by_kind"),
        spoil_the_directory,
    ],
    ids=["records' root", "pictures' root", "an index", "the directory of tables"],
)
def test_every_row_is_rescued_if_no_page_with_rows_is_damaged(
    file: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    rows_before, pictures_before = records(file), jpegs(file)
    spoil(file)
    damaged = file.read_bytes()
    with caplog.at_level(logging.WARNING), Memory.open(settings(file)) as memory:
        assert memory.rescued is not None
        assert (memory.rescued.records, memory.rescued.pictures) == (RECORDS, STEPS)
        assert memory.recall(RecallQuery("ball")).total == 2 * STEPS
        assert aside(file) == memory.rescued.aside
    assert aside(file).read_bytes() == damaged
    assert records(file) == rows_before
    assert jpegs(file) == pictures_before
    assert f"{RECORDS} records and {STEPS} pictures were copied into a new file" in caplog.text
    with looking_into(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("seed", range(6))
def test_damaged_pages_lose_only_the_rows_on_them(file: Path, seed: int) -> None:
    rows_before = {row[0]: row for row in records(file)}
    pictures_before = jpegs(file)
    rng = random.Random(seed)
    with looking_into(file) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # The root page of the records is among them, so that the check finds the damage.
    spoil_the_root_of("record")(file)
    bad = rng.sample(range(2, pages + 1), 5)
    for number in bad:
        overwrite(file, (number - 1) * 4096, rng.randbytes(4096))
    with Memory.open(settings(file)) as memory:
        assert memory.rescued is not None
        begin(memory, "afterwards")
        memory.write(step(1000, said="a cup", session="afterwards"))
    kept = [row for row in records(file) if row[3] != "afterwards"]
    for row in kept:
        before = rows_before[row[0]]
        assert row[:13] == before[:13], "a rescued row is as it was, but for a picture that is lost"
    # A page has some thirty records, or a part of one picture, or the starts of a few.
    assert len(kept) >= RECORDS - 5 * 60
    whole = {number: jpeg for number, jpeg in jpegs(file).items() if number in pictures_before}
    assert sum(jpeg == pictures_before[number] for number, jpeg in whole.items()) >= STEPS - 5 * 6
    with looking_into(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_the_first_half_of_a_truncated_file_is_rescued(file: Path) -> None:
    rows_before = records(file)
    os.truncate(file, file.stat().st_size // 2)
    with Memory.open(settings(file)) as memory:
        assert memory.rescued is not None
        kept = memory.recall(
            RecallQuery(kinds=("observation",), order="oldest", limit=1000)
        ).records
        assert len(kept) >= STEPS // 4
    assert {row[0] for row in records(file)} <= {row[0] for row in rows_before}


def test_rows_that_are_only_in_the_wal_are_rescued(file: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    after.mkdir()
    with Memory.open(settings(file)) as memory:
        begin(memory, "tuesday")
        memory.write(step(500, said="a cup", session="tuesday"))
        for name in ("memory.db", "memory.db-wal"):
            shutil.copy(tmp_path / name, after / name)
    raw = RawFile(after / "memory.db")
    try:
        assert any("a cup" in row.values for row in rows(raw))
    finally:
        raw.close()


def test_numbers_of_lost_records_are_not_used_again(file: Path) -> None:
    with looking_into(file) as connection:
        connection.execute("DELETE FROM record WHERE id > 100")
    spoil_the_root_of("record_by_kind")(file)
    with Memory.open(settings(file)) as memory:
        begin(memory, "afterwards")
        memory.write(step(1000, session="afterwards"))
    assert records(file)[-1][0] == RECORDS + 1


def test_a_damaged_file_is_not_changed_by_a_reader(file: Path) -> None:
    spoil_the_root_of("record")(file)
    before = file.read_bytes()
    with pytest.raises(
        MemoryDamaged,
        match=r"is damaged.*its next start the node renames the file and copies its readable rows",
    ):
        Memory.open(settings(file), read_only=True)
    assert file.read_bytes() == before
    assert not list(file.parent.glob("*.damaged-*"))


def test_damage_found_while_reading_raises_a_clear_error(file: Path) -> None:
    with Memory.open(settings(file)) as memory:
        begin(memory, "tuesday")
    with Memory.open(settings(file)) as memory:
        spoil_the_root_of("record")(file)
        with pytest.raises(
            MemoryDamaged, match="it is damaged; at its next start the node renames the file"
        ):
            memory.recall(RecallQuery("ball"))


def test_damage_that_the_check_missed_is_rescued_if_opening_fails(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_file, "CHECK_S", 0.0)
    spoil_what_records_are_counted_by(file)
    with Memory.open(settings(file)) as memory:
        assert memory.rescued is not None
        assert memory.count() == RECORDS


def test_an_interrupted_check_reports_no_damage(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with looking_into(file) as connection:
        connection.execute("UPDATE picture SET jpeg = zeroblob(100000000) WHERE id = 1")
    monkeypatch.setattr(memory_file, "CHECK_S", 0.005)
    with Memory.open(settings(file)) as memory:
        assert memory.rescued is None
        assert memory.count() == RECORDS


@pytest.mark.parametrize(
    ("spoil", "check_s"),
    [(spoil_the_root_of("record"), 60.0), (spoil_what_records_are_counted_by, 0.0)],
    ids=["found by the check", "found after it"],
)
def test_a_rescue_without_disk_space_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], check_s: float
) -> None:
    spoil(file)
    before = file.read_bytes()

    def full(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(memory_file, "CHECK_S", check_s)
    with monkeypatch.context() as patched:
        patched.setattr("stream_vlm.memory.rescue.rescue.transaction", full)
        with pytest.raises(MemoryFileError, match="the disk is full; free some space"):
            Memory.open(settings(file))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["memory.db"]
    with Memory.open(settings(file)) as memory:
        assert memory.recall(RecallQuery("ball")).total == 2 * STEPS


@pytest.mark.parametrize("spoiled", ["record_by_kind", "record"])
def test_vectors_and_summaries_of_rescued_records_are_rescued_too(file: Path, spoiled: str) -> None:
    with looking_into(file) as connection:
        connection.execute("INSERT INTO vector_model (name, size) VALUES ('of the test', 2)")
        connection.execute(
            "INSERT INTO record_vector (record_id, vector_model_id, halves) SELECT id, 1,"
            " x'11223344' FROM record"
        )
        connection.execute("INSERT INTO summary VALUES (7, 'mid', 6)")
        connection.execute("INSERT INTO summary_covers SELECT 7, id FROM record WHERE id < 7")
    spoil_the_root_of(spoiled)(file)
    with Memory.open(settings(file)) as memory:
        assert memory.rescued is not None
    with looking_into(file) as connection:
        counted = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("record_vector", "summary", "summary_covers")
        ]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert counted == [RECORDS, 1, 6]


def test_a_session_whose_own_row_is_lost_keeps_its_records(file: Path) -> None:
    spoil_the_root_of("session")(file)
    with Memory.open(settings(file)) as memory:
        assert memory.count() == RECORDS
    with looking_into(file) as connection:
        found = connection.execute(
            "SELECT session_id, model_id, reason, started_ns FROM session"
        ).fetchall()
    assert found == [(SESSION, "model-of-the-test", "rescued without its beginning", seconds(-1))]
