"""A wrong key is reported as such and not as damage; a damaged encrypted file is rescued."""

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from encryption_fixtures import (
    STEPS,
    beside,
    key_of,
    needs_sqlcipher,
    remember,
    says,
    under_key,
    write_key,
)
from memory_fixtures import SESSION, begin, settings, step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.check_and_backup import verify
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.encryption import connect
from stream_vlm.memory.storage.errors import MemoryFileError


@pytest.fixture
def secret(tmp_path: Path) -> MemorySettings:
    """Settings of an encrypted memory that does not exist yet."""
    return under_key(tmp_path)


def open_to_write(chosen: MemorySettings) -> None:
    Memory.open(chosen).close()


def open_to_read(chosen: MemorySettings) -> None:
    Memory.open(chosen, read_only=True).close()


def mend(chosen: MemorySettings) -> None:
    """Rescue the file as `stream-vlm memory verify --rescue` does."""
    from stream_vlm.cli.memory.commands import check

    assert check.callback is not None
    check.callback(path=Path(chosen.path), key=key_of(chosen), mend=True)


WRONG = {
    "another key": (
        True,
        "other",
        (
            "the key in .*/other does not open it; the file was not changed. Give the key .*"
            " memory.key_file"
        ),
    ),
    "a key for a plain file": (
        False,
        "key",
        (
            "is not encrypted, but a key is given .*; leave memory.key_file empty .* 'stream-vlm"
            " memory encrypt"
        ),
    ),
    "no key for an encrypted file": (
        True,
        "",
        r"is not a SQLite file and was not changed; .* memory\.key_file .* if it is encrypted",
    ),
}


@needs_sqlcipher
@pytest.mark.parametrize("use", [open_to_write, open_to_read, mend])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_key_that_does_not_fit_the_file_is_reported_and_not_taken_for_damage(
    secret: MemorySettings, tmp_path: Path, wrong: str, use: Callable[[MemorySettings], None]
) -> None:
    encrypted, key, said = WRONG[wrong]
    write_key(tmp_path / "other", "another passphrase")
    remember(secret if encrypted else settings(tmp_path / "memory.db"), 3)
    before = beside(tmp_path)
    with pytest.raises(MemoryFileError, match=rf"memory\.db: (it )?{said}"):
        use(secret.model_copy(update={"key_file": str(tmp_path / key) if key else ""}))
    assert beside(tmp_path) == before


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


REFUSED_KEYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "key cannot be read"),
    "a folder": (make_a_folder, "key cannot be read"),
    "empty": (lambda path: path.write_text("\n"), "has no passphrase on its first line"),
    "for the group": (
        lambda path: path.chmod(0o640),
        r"can be used by other users than its owner \(mode 0640\); run 'chmod 600 ",
    ),
    "for all": (lambda path: path.chmod(0o604), r"\(mode 0604\)"),
}


@pytest.mark.parametrize("fault", REFUSED_KEYS)
def test_a_key_file_that_is_empty_or_readable_by_others_is_refused(
    tmp_path: Path, fault: str
) -> None:
    spoil, said = REFUSED_KEYS[fault]
    spoil(write_key(tmp_path / "key"))
    with pytest.raises(MemoryFileError, match=f"^memory.key_file: .*{said}"):
        Memory.open(settings(tmp_path / "memory.db", key_file=str(tmp_path / "key")))
    assert not (tmp_path / "memory.db").exists()


def test_without_sqlcipher_a_key_is_refused_with_how_to_install_it(
    secret: MemorySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    with pytest.raises(
        MemoryFileError, match=r"cannot be imported .*; install it with 'pip install sqlcipher3'"
    ):
        Memory.open(secret)


def spoil_pages(path: Path, *places: float) -> None:
    """Overwrite part of the pages at these fractions of the file."""
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for place in places:
            file.seek(int(place * pages) * 4096 + 1000)
            file.write(b"\xa5" * 100)


@needs_sqlcipher
def test_a_damaged_encrypted_file_is_renamed_and_its_readable_rows_are_copied_with_the_same_key(
    secret: MemorySettings, tmp_path: Path
) -> None:
    remember(secret)
    path = Path(secret.path)
    before = set(rows_of(secret, "record"))
    pictures = set(rows_of(secret, "picture"))
    spoil_pages(path, 0.4, 0.7)
    damaged = path.read_bytes()
    with Memory.open(secret) as memory:
        assert memory.rescued is not None
        assert memory.rescued.aside.read_bytes() == damaged
        assert STEPS - 6 <= memory.rescued.pictures < STEPS
        begin(memory, "tuesday")
        memory.write(step(1000, said="still here", session="tuesday"))
        newest = memory.recall(RecallQuery("here", kinds=("utterance",))).records[0].record_id
        assert newest > 3 * STEPS
    assert {row for row in rows_of(secret, "picture") if row[1] == SESSION} < pictures
    # Two bad pages cost few rows. The other rows are unchanged, except that lost pictures are
    # unlinked.
    rescued = {row[:13] for row in rows_of(secret, "record") if row[3] == SESSION}
    assert rescued <= {row[:13] for row in before}
    assert len(rescued) > 2 * STEPS
    assert verify(path, 0.0, key_of(secret)) == []
    assert says(beside(tmp_path)) == []


def rows_of(chosen: MemorySettings, table: str) -> list[tuple[object, ...]]:
    with closing(connect(Path(chosen.path), key_of(chosen), "mode=ro")) as db:
        return list(db.execute(f"SELECT * FROM {table}").fetchall())


@needs_sqlcipher
def test_the_rows_of_a_truncated_encrypted_file_are_rescued(secret: MemorySettings) -> None:
    remember(secret)
    size = Path(secret.path).stat().st_size
    os.truncate(secret.path, size * 2 // 3 // 4096 * 4096 + 77)
    with Memory.open(secret) as memory:
        assert memory.rescued is not None
        assert STEPS // 3 < memory.rescued.pictures < STEPS
    assert verify(Path(secret.path), 0.0, key_of(secret)) == []


@needs_sqlcipher
def test_an_encrypted_file_with_a_damaged_first_page_is_not_changed(
    secret: MemorySettings, tmp_path: Path
) -> None:
    remember(secret, 3)
    spoil_pages(Path(secret.path), 0.0)
    before = beside(tmp_path)
    with pytest.raises(MemoryFileError, match="If the key is right, the first page is damaged"):
        Memory.open(secret)
    assert beside(tmp_path) == before
