"""An unusable memory file is refused with one message and never overwritten."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory_fixtures import begin, locked_by_another_program, settings, step
from sqlite_utils import Database

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage import schema
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.memory.storage.file import open_for_writing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed memory of twenty steps."""
    path = tmp_path / "memory.db"
    remember(path)
    return path


def remember(path: Path) -> None:
    with Memory.open(settings(path)) as memory:
        begin(memory)
        for number in range(20):
            memory.write(step(number, said="a ball rolls in"))


def garble_behind_the_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\x5a" * 4000)


def replace_by_text(path: Path) -> None:
    path.write_text("this is a diary\n" * 100)


def make_it_anothers(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE diary (page)")


def make_it_newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "garbled": (garble_behind_the_header, "not a SQLite file and was not changed"),
    "text": (
        replace_by_text,
        "not a SQLite file and was not changed; set memory.path to another file",
    ),
    "another program's": (
        make_it_anothers,
        "is another program's SQLite file .*set memory.path to another file",
    ),
    "newer": (
        make_it_newer,
        (
            f"its schema version 99 is newer than this program's {schema.SCHEMA_VERSION}; .*"
            " upgrade stream_vlm_ros"
        ),
    ),
}


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_an_unusable_file_is_refused_and_not_changed(
    file: Path, spoiled: str, read_only: bool
) -> None:
    spoil, message = SPOILED[spoiled]
    spoil(file)
    before = file.read_bytes()
    with pytest.raises(MemoryFileError, match=message) as refused:
        Memory.open(settings(file), read_only=read_only)
    assert str(file) in str(refused.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "memory.path: '' is not a path; give one of a file"),
        ("  ", "memory.path: '  ' is not a path"),
        ("with\0zero", r"memory.path: 'with\\x00zero' is not a path"),
        ("{folder}", "{folder}: is a folder; set memory.path to a file, for example"),
        ("/dev/null", "/dev/null: is not an ordinary file"),
        (
            "/dev/null/memory.db",
            "/dev/null/memory.db: /dev/null is not a folder; set memory.path to a file in a folder",
        ),
        (
            "/proc/no-such-folder/memory.db",
            "/proc/no-such-folder/memory.db: the memory file failed: .*No such file or directory",
        ),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(MemoryFileError, match=message.format(folder=tmp_path)):
        Memory.open(settings(Path("x")).model_copy(update={"path": path.format(folder=tmp_path)}))


def test_an_empty_file_becomes_a_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.db").touch()
    remember(tmp_path / "memory.db")
    with Memory.open(settings(tmp_path / "memory.db"), read_only=True) as memory:
        assert memory.recall(RecallQuery("ball", kinds=("event",))).total == 20


def test_reading_a_missing_memory_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        MemoryFileError,
        match=r"memory\.db: no such memory file; check memory\.path, or let the node run first",
    ):
        Memory.open(settings(tmp_path / "memory.db"), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_reading_an_empty_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "memory.db").touch()
    with pytest.raises(MemoryFileError, match="the file is empty; let the node run first"):
        Memory.open(settings(tmp_path / "memory.db"), read_only=True)


def test_a_memory_opened_for_reading_cannot_be_written(file: Path) -> None:
    with (
        Memory.open(settings(file), read_only=True) as memory,
        pytest.raises(MemoryFileError, match="was opened for reading only"),
    ):
        begin(memory, "tuesday")


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
def test_using_a_closed_memory_raises(file: Path, read_only: bool) -> None:
    memory = Memory.open(settings(file), read_only=read_only)
    memory.close()
    memory.close()
    with pytest.raises(MemoryFileError, match="was closed; open it again"):
        memory.recall(RecallQuery())


def test_a_locked_file_can_be_read_but_not_written(file: Path) -> None:
    with Memory.open(settings(file)) as memory, locked_by_another_program(file):
        with pytest.raises(
            MemoryFileError,
            match=(
                r"another program holds it locked; "
                r"close that program or raise memory\.busy_timeout_s"
            ),
        ):
            begin(memory, "tuesday")
        assert memory.recall(RecallQuery("ball")).total == 40


def test_a_locked_file_can_be_opened(file: Path) -> None:
    with locked_by_another_program(file), Memory.open(settings(file)) as memory:
        assert memory.count() == 60


def test_every_commit_is_synced_to_disk(tmp_path: Path) -> None:
    db = open_for_writing(tmp_path / "memory.db", 1.0)
    full = 2
    assert db.execute("PRAGMA synchronous").fetchone() == (full,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_migration_updates_an_older_file_and_keeps_its_rows(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_a_mood(db: Database) -> None:
        db.execute("ALTER TABLE record ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")

    migrations = (*schema.MIGRATIONS, add_a_mood)
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", len(migrations))
    with Memory.open(settings(file)) as memory:
        assert memory.recall(RecallQuery("ball")).total == 40
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT mood, count(*) FROM record").fetchone() == ("calm", 60)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations),)


def test_a_file_is_copied_before_a_migration_changes_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = schema.SCHEMA_VERSION
    monkeypatch.setattr("stream_vlm.memory.storage.file.SCHEMA_VERSION", version + 1)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version + 1)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        (*schema.MIGRATIONS, lambda db: db.execute("UPDATE record SET text = 'rewritten'")),
    )
    taken = file.with_name(f"memory.db.version-{version}")
    taken.write_text("of somebody else")
    with Memory.open(settings(file)):
        pass
    monkeypatch.undo()
    backup = file.with_name(f"memory.db.version-{version}-2")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert taken.read_text() == "of somebody else"
    with Memory.open(settings(backup)) as memory:
        assert memory.recall(RecallQuery("ball")).total == 40


def test_a_file_of_the_first_version_is_migrated_when_it_is_opened_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        before.setattr(schema, "SCHEMA_VERSION", 1)
        # The first version did not link events to objects.
        before.setattr("stream_vlm.memory.insert_rows.link", lambda *_: None)
        remember(path)
    with Memory.open(settings(path)) as memory:
        result = memory.recall(RecallQuery("ball", order="oldest"))
        assert result.total == 40
        assert result.records[0].record_id == 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM record_vector").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM sighting").fetchone() == (0,)


def test_a_failed_migration_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_half_way(db: Database) -> None:
        db.execute("DROP TABLE record")
        db.execute("no such statement")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, fail_half_way))
    version = schema.SCHEMA_VERSION
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version + 1)
    with pytest.raises(MemoryFileError):
        Memory.open(settings(file))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version)
    with Memory.open(settings(file)) as memory:
        assert memory.recall(RecallQuery("ball")).total == 40


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    """Root may write everywhere: run the test as user nobody."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    reopened = []
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            reopened.append((folder, folder.stat().st_mode))
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in reopened:
            folder.chmod(mode)


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a closed memory; all users may read both, none may write."""
    folder = tmp_path / "archive"
    folder.mkdir()
    remember(folder / "memory.db")
    (folder / "memory.db").chmod(0o444)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_a_memory_in_a_read_only_folder_can_be_read(
    read_only_folder: Path, ordinary_user: None
) -> None:
    with Memory.open(settings(read_only_folder / "memory.db"), read_only=True) as memory:
        assert memory.recall(RecallQuery("ball")).total == 40
        assert memory.frame(1).camera == "front"


@pytest.mark.parametrize("name", ["memory.db", "new.db"])
def test_a_memory_in_a_read_only_folder_cannot_be_opened_for_writing(
    read_only_folder: Path, name: str, ordinary_user: None
) -> None:
    with pytest.raises(
        MemoryFileError, match=f"{name}: this user has no permission; allow this user to read and"
    ):
        Memory.open(settings(read_only_folder / name))


def test_a_memory_of_another_user_is_refused(file: Path, ordinary_user: None) -> None:
    if os.geteuid() == file.stat().st_uid:
        file.chmod(0)
    with pytest.raises(
        MemoryFileError,
        match=r"memory\.db: this user has no permission; allow this user to read and write",
    ):
        Memory.open(settings(file), read_only=True)
