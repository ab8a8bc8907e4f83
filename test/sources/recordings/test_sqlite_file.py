"""An SQLite file of a recording is read with its log, whatever its path and its version."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from mcap_fixtures import film

from stream_vlm.sources import SourceError
from stream_vlm.sources.recordings.sqlite_file import SqliteFile

MESSAGES = list(film().messages)


def fill(connection: sqlite3.Connection, messages: list[tuple[int, bytes]] = MESSAGES) -> None:
    connection.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,"
        " serialization_format TEXT);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,"
        " data BLOB);"
        "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
        "INSERT INTO topics VALUES (1, '/cam/image_raw', 'sensor_msgs/msg/Image', 'cdr'),"
        " (2, '/odd', NULL, NULL), (3, CAST(x'2fe9' AS TEXT), 'a/msg/B', 'cdr');"
    )
    connection.executemany(
        "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", messages
    )
    connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (2, 5, NULL)")
    connection.commit()


def read(path: Path) -> list[tuple[int, bytes]]:
    file = SqliteFile(path)
    rows = [(time, data) for _, time, data in file.messages([1], heads_only=False)]
    heads = [(time, data) for _, time, data in file.messages([1], heads_only=True)]
    assert heads == [(time, data[:16]) for time, data in rows]
    file.close()
    return rows


@pytest.mark.parametrize("name", ["run#1", "50%41", "what?", "a b", "küche", "x&y=z;", "a'b"])
def test_any_character_may_be_in_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with sqlite3.connect(tmp_path / name / f"{name}.db3") as connection:
        fill(connection)
    assert read(tmp_path / name / f"{name}.db3") == MESSAGES


def killed(folder: Path, keep: tuple[str, ...]) -> Path:
    """A file in `folder` as a recorder that was killed leaves it, with the files in `keep`."""
    source = folder / "live.db3"
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    fill(connection, MESSAGES[:5])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany(
        "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", MESSAGES[5:]
    )
    connection.commit()
    (folder / "bag").mkdir()
    for ending in ("", *keep):
        shutil.copyfile(f"{source}{ending}", folder / "bag" / f"a.db3{ending}")
    connection.close()
    return folder / "bag" / "a.db3"


@pytest.mark.parametrize("keep", [("-wal",), ("-wal", "-shm")])
def test_the_log_of_a_killed_recorder_is_read_too(tmp_path: Path, keep: tuple[str, ...]) -> None:
    path = killed(tmp_path, keep)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert read(path) == MESSAGES
    after = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for files in (before, after):
        files.pop("a.db3-shm", None)  # SQLite's own index of the log
    assert after == before


def test_the_log_is_read_where_its_folder_cannot_be_written(tmp_path: Path) -> None:
    path = killed(tmp_path, ("-wal",))
    for file in [*path.parent.iterdir(), path.parent]:
        file.chmod(0o555)
    try:
        assert read(path) == MESSAGES
        assert sorted(file.name for file in path.parent.iterdir()) == ["a.db3", "a.db3-wal"]
    finally:
        path.parent.chmod(0o755)


def test_an_empty_log_changes_nothing(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as connection:
        fill(connection)
    connection.close()
    (tmp_path / "a.db3-wal").touch()
    assert read(tmp_path / "a.db3") == MESSAGES
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db3", "a.db3-wal"]


def test_a_recording_that_is_still_being_written_is_read_so_far(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db3")
    connection.execute("PRAGMA journal_mode=wal")
    fill(connection)
    assert read(tmp_path / "a.db3") == MESSAGES
    connection.close()


def test_topics_without_a_type_or_with_an_odd_name_do_no_harm(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as connection:
        fill(connection)
    file = SqliteFile(tmp_path / "a.db3")
    assert [topic.name for topic in file.topics] == ["/cam/image_raw", "/odd", "/�"]
    assert [data for _, _, data in file.messages([2], heads_only=False)] == [b""]


def test_a_cut_file_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as connection:
        fill(connection)
    connection.close()
    data = (tmp_path / "a.db3").read_bytes()
    (tmp_path / "a.db3").write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(SourceError, match=r"malformed.*sqlite3 a\.db3 \.recover"):
        SqliteFile(tmp_path / "a.db3")


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_file_with_damaged_pages_gives_what_is_before_them_and_says_so(
    tmp_path: Path, share: float
) -> None:
    path = tmp_path / "a.db3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA page_size=512")
        fill(connection)
    connection.close()
    data = bytearray(path.read_bytes())
    page = int(len(data) * share) // 512 * 512
    data[page : page + 1024] = b"\xff" * 1024
    path.write_bytes(bytes(data))
    file = SqliteFile(path)
    rows = [(time, data) for _, time, data in file.messages([1], heads_only=False)]
    assert len(rows) > 1
    assert {time for time, _ in rows} <= {time for time, _ in MESSAGES}
    if len(rows) < len(MESSAGES):
        assert "sqlite3 a.db3 .recover" in file.remarks[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", r"empty \(0 bytes\)"), (b"\0" * 4096, "not a database"), (b"text", "not a database")],
)
def test_a_file_that_is_no_recording_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "a.db3").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        SqliteFile(tmp_path / "a.db3")


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as connection:
        connection.execute("CREATE TABLE other(id)")
    with pytest.raises(SourceError, match="no tables 'messages' and 'topics'"):
        SqliteFile(tmp_path / "a.db3")
