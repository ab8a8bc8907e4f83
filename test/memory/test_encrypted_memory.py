"""An encrypted memory works as a plain one, and no plain text is in the file or next to it."""

import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from encryption_fixtures import (
    PASSPHRASE,
    STEPS,
    WORD,
    beside,
    contents,
    key_of,
    needs_sqlcipher,
    remember,
    says,
    under_key,
)
from memory_fixtures import begin, settings, step
from places import SUPPORT

from stream_vlm.cli import main
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.check_and_backup import backup, verify
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.memory.storage import schema
from stream_vlm.memory.storage.encryption import attach


@pytest.fixture(params=["plain", pytest.param("encrypted", marks=needs_sqlcipher)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> MemorySettings:
    """Settings of a memory that does not exist yet, plain and encrypted."""
    return under_key(tmp_path) if request.param == "encrypted" else settings(tmp_path / "memory.db")


@pytest.fixture
def secret(tmp_path: Path) -> MemorySettings:
    """Settings of an encrypted memory that does not exist yet."""
    return under_key(tmp_path)


def test_records_are_recalled_by_words_place_and_time_after_reopening(
    kept: MemorySettings,
) -> None:
    remember(kept)
    with Memory.open(kept, read_only=True) as memory:
        assert memory.count() == 3 * STEPS
        assert {record.text for record in memory.recall(RecallQuery("ball 7")).records[:2]} == {
            f"{WORD} ball 7"
        }
        assert memory.recall(RecallQuery(place=Place(5.0, 0.0, 0.5))).total == 2
        newest = memory.recall(RecallQuery(WORD, order="newest", limit=1)).records[0]
        assert memory.recall(RecallQuery(WORD, start_ns=newest.end_ns)).total == 2
        assert memory.frame(newest.record_id).jpeg.startswith(b"\xff\xd8")
    remember(kept, 2, "tuesday")
    assert verify(Path(kept.path), 0.0, key_of(kept)) == []


WRITE_FOR_EVER = """
import itertools, sys
sys.path.insert(0, sys.argv[1])
from memory_fixtures import begin, settings, step
from stream_vlm.memory.memory import Memory
with Memory.open(settings(sys.argv[2], key_file=sys.argv[3], busy_timeout_s=10.0)) as memory:
    begin(memory, sys.argv[4])
    for number in itertools.count():
        memory.write(step(number, said="a zinnober ball", session=sys.argv[4]))
        print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_writer_loses_no_reported_step(kept: MemorySettings, seed: int) -> None:
    reported = 0
    for life in ("first", "second"):
        command = [
            sys.executable,
            "-c",
            WRITE_FOR_EVER,
            str(SUPPORT),
            kept.path,
            kept.key_file,
            life,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            reported += len(
                [writer.stdout.readline() for _ in range(random.Random(seed).randrange(1, 60))]
            )
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        assert not kept.key_file or says(beside(Path(kept.path).parent)) == []
        with Memory.open(kept) as memory:
            assert memory.count() >= 3 * reported
            reported = memory.count() // 3
    assert verify(Path(kept.path), 0.0, key_of(kept)) == []


def test_deleted_records_are_gone_and_the_file_shrinks(kept: MemorySettings) -> None:
    remember(kept)
    before = Path(kept.path).stat().st_size
    with Memory.open(kept) as memory:
        forgotten = memory.forget(Forget(place=Place(0.0, 0.0, 20.5)))
        assert (forgotten.records, forgotten.erased) == (3 * 21, True)
        assert memory.recall(RecallQuery(WORD)).total == 2 * (STEPS - 21)
    assert before - forgotten.freed_bytes == Path(kept.path).stat().st_size < before


def test_a_backup_is_encrypted_like_the_memory_and_has_the_same_contents(
    kept: MemorySettings, tmp_path: Path
) -> None:
    remember(kept)
    copy = tmp_path / "copy.db"
    with Memory.open(kept) as memory:
        begin(memory, "tuesday")
        assert backup(Path(kept.path), copy, 0.0, key_of(kept)) == copy.stat().st_size
    assert contents(kept.model_copy(update={"path": str(copy)})) == contents(kept)
    assert says({"copy": copy.read_bytes()}) == ([] if kept.key_file else ["copy"])


def test_the_copy_before_a_migration_has_the_same_key(
    kept: MemorySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(kept)
    before = contents(kept)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        (
            *schema.MIGRATIONS,
            lambda db: db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT"),
        ),
    )
    for module in ("schema", "file"):
        monkeypatch.setattr(
            f"stream_vlm.memory.storage.{module}.SCHEMA_VERSION", len(schema.MIGRATIONS)
        )
    Memory.open(kept).close()
    copy = Path(kept.path + f".version-{len(schema.MIGRATIONS) - 1}")
    assert contents(kept.model_copy(update={"path": str(copy)})) == before
    assert says({"copy": copy.read_bytes()}) == ([] if kept.key_file else ["copy"])


def test_an_import_writes_no_plain_text_next_to_an_encrypted_file(
    kept: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    remember(settings(other / "memory.db"))
    assert (
        main(["memory", "export", str(other / "out.jsonl"), "--memory", str(other / "memory.db")])
        == 0
    )
    seen: dict[str, bytes] = {}

    def look_and_attach(*arguments: Any) -> None:
        seen.update({path.name: path.read_bytes() for path in tmp_path.glob("memory.db*")})
        attach(*arguments)

    monkeypatch.setattr("stream_vlm.memory.maintenance.export_import.attach", look_and_attach)
    with Memory.open(kept) as memory:
        memory.import_from(other / "out.jsonl")
        assert memory.recall(RecallQuery(WORD)).total == 2 * STEPS
    staged = [name for name in seen if ".import-" in name]
    assert len(staged) == 1
    assert (staged[0] in says(seen)) == (not kept.key_file)


@needs_sqlcipher
def test_no_plain_text_is_in_an_encrypted_file_its_wal_or_its_folder(
    secret: MemorySettings, tmp_path: Path
) -> None:
    with Memory.open(secret) as memory:
        begin(memory)
        memory.write(step(0, said=WORD))
        assert (tmp_path / "memory.db-wal").stat().st_size
        assert says(beside(tmp_path)) == []
        assert WORD not in repr(memory.recall(RecallQuery("nothing")))
    assert says(beside(tmp_path)) == []
    assert (tmp_path / "memory.db").stat().st_mode & 0o777 == 0o600
    remember(settings(tmp_path / "plain.db"), 1)
    assert "plain.db" in says(beside(tmp_path))


@needs_sqlcipher
def test_the_sqlcipher_command_opens_the_file_with_the_passphrase(secret: MemorySettings) -> None:
    from sqlcipher3 import dbapi2

    remember(secret, 3)
    with closing(dbapi2.connect(secret.path)) as tool:
        quoted = PASSPHRASE.replace("'", "''")
        tool.execute(f"PRAGMA key = '{quoted}'")
        assert tool.execute(
            "SELECT count(*) FROM record WHERE text LIKE ?", [f"{WORD}%"]
        ).fetchone() == (6,)
