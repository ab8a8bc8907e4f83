"""A memory whose file is removed, moved, replaced or overwritten while it is open."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from encryption_fixtures import needs_sqlcipher, under_key
from memory_fixtures import SESSION, begin, looking_into, seconds, settings, step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.check_and_backup import backup, verify
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory, MemoryFileError
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.types import NANOSECONDS

LONG_S = 30.0
BEFORE, AFTER = range(5), range(5, 9)
"""Times of the steps before and after something happens to the file, seconds of stream."""


@pytest.fixture(params=["plain", pytest.param("encrypted", marks=needs_sqlcipher)])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> MemorySettings:
    folder = tmp_path / "robot"
    folder.mkdir()
    return settings(folder / "memory.db") if request.param == "plain" else under_key(folder)


def key_of(chosen: MemorySettings) -> Key | None:
    return Key.read(chosen.key_file)


def stored(chosen: MemorySettings, path: Path | None = None) -> list[int]:
    """The times of the observations in a file, which must be sound, seconds of stream."""
    file = path or Path(chosen.path)
    assert verify(file, 0.0, key_of(chosen)) == []
    with Memory.open(chosen.model_copy(update={"path": str(file)}), read_only=True) as memory:
        records = memory.recall(
            RecallQuery(kinds=("observation",), order="oldest", limit=1000)
        ).records
        assert all(memory.frame(one.record_id).jpeg for one in records if one.has_frame)
    return [(record.end_ns - seconds(0)) // NANOSECONDS for record in records]


def write(memory: Memory, times: range, said: str = "the red ball rolls in") -> None:
    for at in times:
        memory.write(step(at, said=said))


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def remove(path: Path) -> None:
    path.unlink()


def remove_everything(path: Path) -> None:
    for file in path.parent.iterdir():
        if file.name != "key":
            file.unlink()


def remove_file_and_log(path: Path) -> None:
    path.unlink()
    log_of(path).unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("other.db"))


def rename_folder(path: Path) -> None:
    """The folder with its memory gets another name; the key stays where it was."""
    path.parent.rename(path.parent.with_name("moved"))
    if (key := path.parent.with_name("moved") / "key").exists():
        path.parent.mkdir()
        key.rename(path.parent / "key")


KEPT: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (remove, "robot/memory.db.removed-*"),
    "removed with its log": (remove_file_and_log, "robot/memory.db.removed-*"),
    "everything removed": (remove_everything, "robot/memory.db.removed-*"),
    "renamed": (rename, "robot/other.db"),
    "its folder renamed": (rename_folder, "moved/memory.db"),
}


@pytest.mark.parametrize("happening", KEPT)
def test_after_its_file_is_gone_the_memory_goes_on_in_a_new_one_and_keeps_the_old_contents(
    chosen: MemorySettings, tmp_path: Path, happening: str
) -> None:
    happens, kept = KEPT[happening]
    path = Path(chosen.path)
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        assert memory.file_fault == ""
        happens(path)
        write(memory, AFTER)
        assert f"{path}: was " in memory.file_fault
        assert "Stop the program" in memory.file_fault
        assert memory.recall(RecallQuery("ball", limit=50)).total == 2 * len(AFTER)
        assert memory.count() == 3 * len(AFTER)
        (copy,) = tmp_path.glob(kept)
        assert str(copy) in memory.file_fault
        assert copy.stat().st_mode & 0o077 == 0
    assert stored(chosen) == list(AFTER)
    assert stored(chosen, copy) == list(BEFORE)


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_removed_log_costs_nothing(chosen: MemorySettings, ending: str) -> None:
    path = Path(chosen.path)
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        path.with_name(path.name + ending).unlink()
        write(memory, AFTER)
        assert "nothing is lost" in memory.file_fault
        assert memory.count() == 3 * len([*BEFORE, *AFTER])
    assert stored(chosen) == [*BEFORE, *AFTER]


def test_what_the_log_of_a_truncated_file_has_is_stored_again(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "memory.db")
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        os.truncate(chosen.path, 0)
        write(memory, AFTER)
        assert f"{3 * len(BEFORE)} records from its log were stored again" in memory.file_fault
    assert stored(chosen) == [*BEFORE, *AFTER]
    assert not list(tmp_path.glob("*overwritten*"))


@needs_sqlcipher
def test_the_log_of_a_truncated_encrypted_file_is_left_for_its_owner(tmp_path: Path) -> None:
    chosen = under_key(tmp_path)
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        os.truncate(chosen.path, 0)
        write(memory, AFTER)
    assert stored(chosen) == list(AFTER)
    assert list(tmp_path.glob("*overwritten*-wal"))


def another_memory(chosen: MemorySettings, name: str) -> Path:
    """A closed memory with the same key, of another robot."""
    other = Path(chosen.path).with_name(name)
    with Memory.open(chosen.model_copy(update={"path": str(other)})) as memory:
        begin(memory, "sunday")
        memory.write(step(100, said="the cup is taken", session="sunday"))
    return other


def put_in_place(new: Path, path: Path) -> None:
    os.replace(new, path)


def write_over(new: Path, path: Path) -> None:
    """As `cp` does: the file stays, its contents are those of the other."""
    shutil.copyfile(new, path)
    new.unlink()


@pytest.mark.parametrize("how", [put_in_place, write_over])
def test_a_memory_that_takes_its_place_is_continued_with_a_session_of_its_own(
    chosen: MemorySettings, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    path = Path(chosen.path)
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        how(another_memory(chosen, "restored.db"), path)
        write(memory, AFTER)
        assert memory.recall(RecallQuery("cup")).total
        assert memory.file_fault
    found = stored(chosen)
    assert set(found) >= {100, *AFTER}
    kept = set(found)
    for copy in path.parent.glob("memory.db.removed-*"):
        kept |= set(stored(chosen, copy))
    if how is put_in_place or not chosen.key_file:
        assert kept == {100, *BEFORE, *AFTER}


@pytest.mark.parametrize("how", [put_in_place, write_over])
def test_a_restored_backup_of_the_same_memory_is_continued(
    chosen: MemorySettings, how: Callable[[Path, Path], None]
) -> None:
    path = Path(chosen.path)
    copy = path.with_name("copy.db")
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, range(2))
        backup(path, copy, 0.0, key_of(chosen))
        write(memory, range(2, 5))
        how(copy, path)
        write(memory, AFTER)
        assert memory.file_fault
    found = stored(chosen)
    assert set(found) >= {0, 1, *AFTER}
    assert len(found) == len(set(found))
    with Memory.open(chosen, read_only=True) as memory:
        records = memory.recall(RecallQuery("ball", limit=100)).records
    assert {record.session_id for record in records} == {SESSION}


def test_another_session_of_the_same_name_is_not_mixed_up_with_the_running_one(
    tmp_path: Path,
) -> None:
    chosen = settings(tmp_path / "memory.db")
    other = tmp_path / "other.db"
    with Memory.open(settings(other)) as memory:
        memory.begin_session(SESSION, "another model", "test", 5)
        memory.write(step(100))
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        os.replace(other, chosen.path)
        write(memory, AFTER)
    with looking_into(tmp_path / "memory.db") as db:
        counted = db.execute(
            "SELECT session_id, count(*) FROM record WHERE kind = 'observation' GROUP BY 1"
        ).fetchall()
    assert sorted(counted) == [(SESSION, 1), (f"{SESSION}-2", len(AFTER))]


def test_a_foreign_file_is_not_overwritten_and_steps_wait_until_it_is_gone(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "memory.db")
    path = Path(chosen.path)
    diary = b"Dear diary, " * 1000
    reported, news = [], threading.Condition()

    def report(*_: object) -> None:
        with news:
            reported.append(1)
            news.notify_all()

    with Memory.open(chosen) as memory:
        writer = MemoryWriter(memory, report, report)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for at in BEFORE:
            writer.submit(step(at))
        assert writer.flush(LONG_S)
        (tmp_path / "diary").write_bytes(diary)
        os.replace(tmp_path / "diary", path)
        for at in AFTER:
            writer.submit(step(at))
        with news:
            assert news.wait_for(lambda: len(reported) == 9, LONG_S)
        assert "replaced by another file" in writer.health.fault
        assert writer.health.backlog == len(AFTER)
        assert path.read_bytes() == diary
        path.unlink()
        assert writer.flush(LONG_S)
        assert writer.health.fault == ""
        writer.close()
    assert stored(chosen) == list(AFTER)
    (copy,) = tmp_path.glob("memory.db.removed-*")
    assert stored(chosen, copy) == list(BEFORE)


def test_the_writer_notices_within_moments_although_no_step_comes(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "memory.db")
    followed = threading.Event()
    with Memory.open(chosen) as memory:
        look = memory.check_file

        def check_file() -> None:
            look()
            if memory.file_fault:
                followed.set()

        memory.check_file = check_file  # type: ignore[method-assign]
        writer = MemoryWriter(memory, lambda result: None, lambda result, error: None)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        writer.submit(step(0))
        assert writer.flush(LONG_S)
        Path(chosen.path).unlink()
        assert followed.wait(LONG_S)
        assert "was removed while it was open" in writer.health.file_fault
        assert writer.health.fault == ""
        assert Path(chosen.path).exists()
        writer.submit(step(1))
        assert writer.flush(LONG_S)
        writer.close()
    assert stored(chosen) == [1]


def test_forgetting_deletes_in_the_file_at_the_path_and_names_the_copy(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "memory.db")
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        Path(chosen.path).unlink()
        forgotten = memory.forget(Forget.everything())
    assert forgotten.records == 0
    assert [copy.name.split("-")[0] for copy in forgotten.copies] == ["memory.db.removed"]


def test_touching_the_file_or_checking_it_with_other_tools_is_no_fault(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "memory.db")
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        os.utime(chosen.path)
        memory.check_file()
        with looking_into(tmp_path / "memory.db") as tool:
            tool.execute("PRAGMA wal_checkpoint(PASSIVE)")
        write(memory, AFTER)
        assert memory.file_fault == ""
    assert stored(chosen) == [*BEFORE, *AFTER]


def test_a_program_that_only_reads_follows_the_path(chosen: MemorySettings) -> None:
    path = Path(chosen.path)
    other = another_memory(chosen, "other.db")
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
    with Memory.open(chosen, read_only=True) as reader:
        assert reader.recall(RecallQuery("ball")).total
        os.replace(other, path)
        assert reader.recall(RecallQuery("ball")).total == 0
        assert reader.recall(RecallQuery("cup")).total
        path.unlink()
        with pytest.raises(MemoryFileError, match="there is no such file any more"):
            reader.recall(RecallQuery("cup"))


def test_closing_keeps_the_contents_of_a_removed_file(chosen: MemorySettings) -> None:
    path = Path(chosen.path)
    with Memory.open(chosen) as memory:
        begin(memory)
        write(memory, BEFORE)
        path.unlink()
    (copy,) = path.parent.glob("memory.db.removed-*")
    assert stored(chosen, copy) == list(BEFORE)
    assert not path.exists()


@pytest.fixture
def loosened(tmp_path: Path) -> Path:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
    path = tmp_path / "memory.db"
    path.chmod(0o644)
    return path


def test_a_loosened_mode_is_tightened_when_the_memory_is_opened_and_while_it_is_open(
    loosened: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Memory.open(settings(loosened)) as memory:
        assert loosened.stat().st_mode & 0o777 == 0o600
        assert caplog.text.count("other users could use it (mode 0644)") == 1
        assert log_of(loosened).stat().st_mode & 0o777 == 0o600
        loosened.chmod(0o666)
        memory.check_file()
        assert loosened.stat().st_mode & 0o777 == 0o600
        assert caplog.text.count("other users could use it") == 2
