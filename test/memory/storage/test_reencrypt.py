"""Encrypting and decrypting a memory keeps all rows, or changes nothing when it fails.

Every command takes a key.
"""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from encryption_fixtures import (
    STEPS,
    WORD,
    beside,
    contents,
    key_of,
    needs_sqlcipher,
    remember,
    says,
    under_key,
    write_key,
)
from memory_fixtures import begin, settings, step

from stream_vlm.cli import main
from stream_vlm.cli.options.memory_file import VARIABLE
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance import reencrypt
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.memory.storage.errors import MemoryFileError


@pytest.fixture
def secret(tmp_path: Path) -> MemorySettings:
    """Settings of an encrypted memory that does not exist yet."""
    return under_key(tmp_path)


def said_by(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return the exit status of a command and what it printed."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out + said.err


@needs_sqlcipher
def test_encrypting_and_decrypting_keeps_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = settings(tmp_path / "memory.db")
    secret = plain.model_copy(update={"key_file": str(write_key(tmp_path / "key"))})
    remember(plain)
    copy = tmp_path / "memory.db.backup-1"
    copy.write_bytes(Path(plain.path).read_bytes())
    rows, digest = contents(plain)
    given = ("--memory", plain.path, "--key-file", secret.key_file)
    said = (
        f"{plain.path}: is now encrypted, {rows} rows\n"
        f"  this older copy was not converted: {copy}\n"
    )
    assert said_by(capsys, "memory", "encrypt", *given) == (0, said)
    copy.unlink()
    assert says(beside(tmp_path)) == []
    assert sorted(beside(tmp_path)) == ["key", "memory.db"]
    assert contents(secret) == (rows, digest)
    with Memory.open(secret) as memory:
        assert memory.recall(RecallQuery(WORD, place=Place(5.0, 0.0, 1.5))).total == 6
        assert memory.forget(Forget(place=Place(0.0, 0.0, 0.5))).freed_bytes > 0
        begin(memory, "tuesday")
        memory.write(step(1000, said="later", session="tuesday"))
    rows, digest = contents(secret)
    assert said_by(capsys, "memory", "decrypt", *given) == (
        0,
        f"{plain.path}: is now plain, {rows} rows\n",
    )
    assert contents(plain) == (rows, digest)
    assert Path(plain.path).stat().st_mode & 0o777 == 0o600
    with Memory.open(plain) as memory:
        assert memory.recall(RecallQuery(WORD)).total == 2 * (STEPS - 1)


@needs_sqlcipher
@pytest.mark.parametrize("fault", ["the checks fail", "the last step fails"])
def test_a_failed_conversion_leaves_the_old_file_unchanged(
    secret: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain)
    before = contents(plain)
    if fault == "the checks fail":
        answers = [[], ["page 7 is bad"]]
        monkeypatch.setattr(reencrypt, "verify", lambda *_: answers.pop(0))
    else:
        monkeypatch.setattr(
            "stream_vlm.memory.maintenance.reencrypt.os.replace",
            lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
    with pytest.raises(MemoryFileError, match=r"the old one was not changed|the disk is full"):
        reencrypt.convert(Path(plain.path), None, key_of(secret), 0.0)
    assert contents(plain) == before
    assert sorted(beside(tmp_path)) == ["key", "memory.db"]


CONVERT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from stream_vlm.memory.maintenance import reencrypt
from stream_vlm.memory.storage.encryption import Key
reencrypt.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
reencrypt.convert(Path(sys.argv[1]), None, Key.read(sys.argv[2]), 0.0)
"""


@needs_sqlcipher
def test_a_killed_conversion_leaves_the_old_file_and_can_be_repeated(
    secret: MemorySettings, tmp_path: Path
) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain)
    before = contents(plain)
    killed = subprocess.run(
        [sys.executable, "-c", CONVERT_AND_DIE, plain.path, secret.key_file], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "memory.db.converting").stat().st_size
    remember(plain, 1, "tuesday")
    rows, _ = contents(plain)
    assert rows > before[0]
    assert reencrypt.convert(Path(plain.path), None, key_of(secret), 0.0) == rows
    assert not (tmp_path / "memory.db.converting").exists()


@needs_sqlcipher
def test_a_file_in_use_is_not_converted(secret: MemorySettings, tmp_path: Path) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain, 3)
    with Memory.open(plain), pytest.raises(MemoryFileError, match="a memory has only one writer"):
        reencrypt.convert(Path(plain.path), None, key_of(secret), 0.0)
    # In another process: within one process the locks of the two libraries have no effect on each
    # other.
    hold = (
        "import sqlite3, sys; open = sqlite3.connect(sys.argv[1]); open.execute('SELECT * FROM"
        " record').fetchone()"
    )
    hold += "; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, plain.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(MemoryFileError, match="another program holds it locked"):
            reencrypt.convert(Path(plain.path), None, key_of(secret), 0.0)
        reader.stdin.close()
    with sqlite3.connect(plain.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@needs_sqlcipher
@pytest.mark.parametrize("how", ["option", "environment"])
def test_every_command_takes_the_key(
    secret: MemorySettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    remember(secret, 5)
    if how == "environment":
        monkeypatch.setenv(VARIABLE, secret.key_file)
    given = ["--memory", secret.path] + (["--key-file", secret.key_file] if how == "option" else [])
    assert "15 records" in said_by(capsys, "memory", "stats", *given)[1]
    assert said_by(capsys, "memory", "verify", *given) == (0, f"{secret.path}: sound\n")
    assert said_by(capsys, "memory", "backup", tmp_path / "copy.db", *given)[0] == 0
    assert said_by(capsys, "memory", "export", tmp_path / "out.jsonl", *given)[0] == 0
    assert said_by(capsys, "memory", "export", tmp_path / "bag", "--format", "mcap", *given)[0] == 0
    assert said_by(capsys, "memory", "report", tmp_path / "page.html", *given)[0] == 0
    assert WORD in (tmp_path / "page.html").read_text()
    assert f"{WORD} ball 3" in said_by(capsys, "recall", "ball", *given)[1]
    assert "15 records" in said_by(capsys, "doctor", *given)[1]
    assert "events are linked to an object" in said_by(capsys, "memory", "link", *given)[1]
    assert said_by(capsys, "memory", "forget", "--near", 0, 0, 0.5, *given)[1].startswith(
        "forgot 3 records"
    )
    assert said_by(capsys, "memory", "prune", "--before", "1 h ago", *given)[1].startswith(
        "forgot 12 records"
    )
    assert (
        said_by(
            capsys,
            "memory",
            "import",
            tmp_path / "out.jsonl",
            "--memory",
            tmp_path / "new.db",
            *given[2:],
        )[0]
        == 0
    )
    assert (
        says(
            {
                "new.db": (tmp_path / "new.db").read_bytes(),
                "copy.db": (tmp_path / "copy.db").read_bytes(),
            }
        )
        == []
    )


def test_encrypting_without_a_key_file_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = said_by(capsys, "memory", "encrypt", "--memory", tmp_path / "memory.db")
    assert (status, "--key-file FILE" in said) == (2, True)
