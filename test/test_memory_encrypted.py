"""Encryption at rest: an encrypted memory does what a plain one does, and neither the file nor anything beside it shows a word of it."""

import importlib.util
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, settings, step

from stream_vlm.cli import main
from stream_vlm.cli.key import VARIABLE
from stream_vlm.config import MemorySettings
from stream_vlm.memory import convert as converting
from stream_vlm.memory import exchange, schema
from stream_vlm.memory.cipher import Key, connect
from stream_vlm.memory.errors import MemoryFileError
from stream_vlm.memory.forget import Forget
from stream_vlm.memory.recall import Place, RecallQuery
from stream_vlm.memory.store import Memory
from stream_vlm.memory.upkeep import backup, verify
from stream_vlm.stream import Pose

needs_sqlcipher = pytest.mark.skipif(
    importlib.util.find_spec("sqlcipher3") is None, reason="sqlcipher3 is not installed (requirements/development.txt)"
)

STEPS = 40
WORD = "zinnober"
"""Said in every step; nothing else in a file has it."""

PASSPHRASE = "a green door, 'quoted' \"twice\""


def write_key(path: Path, passphrase: str = PASSPHRASE, mode: int = 0o600) -> Path:
    path.write_text(passphrase + "\nwhat follows is not read\n")
    path.chmod(mode)
    return path


@pytest.fixture(params=["plain", pytest.param("encrypted", marks=needs_sqlcipher)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> MemorySettings:
    """Settings of a memory that is not there yet, plain and encrypted."""
    return settings(tmp_path / "memory.db", key_file=str(write_key(tmp_path / "key")) if request.param == "encrypted" else "")


@pytest.fixture
def secret(tmp_path: Path) -> MemorySettings:
    """Settings of an encrypted memory that is not there yet."""
    return settings(tmp_path / "memory.db", key_file=str(write_key(tmp_path / "key")))


def remember(chosen: MemorySettings, steps: int = STEPS, session: str = SESSION) -> None:
    """A walk of one metre a second, on which something is said each second, with a picture of several pages."""
    with Memory.open(chosen) as memory:
        begin(memory, session)
        for number in range(steps):
            noise = np.random.default_rng(number).integers(0, 256, (96, 128, 3), dtype=np.uint8)
            memory.write(step(number, said=f"{WORD} ball {number}", pose=Pose("map", number, 0.0, 0.0), image=noise, session=session))


def key_of(chosen: MemorySettings) -> Key | None:
    return Key.read(chosen.key_file)


def contents(chosen: MemorySettings) -> tuple[int, str]:
    """Number and checksum of all rows."""
    with closing(connect(Path(chosen.path), key_of(chosen), "mode=ro")) as db:
        return converting._contents(db)


def beside(folder: Path) -> dict[str, bytes]:
    """Every file in `folder` but the shared memory of a log, which readers leave or not."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def says(files: dict[str, bytes]) -> list[str]:
    """The names of those files in which the word stands, as a step's or stemmed by full text, or a column of ours."""
    return sorted(name for name, content in files.items() if any(word in content for word in (WORD.encode(), b"zinnob", b"wall_started_ns")))


def test_what_was_written_is_recalled_by_words_place_and_time_after_opening_again(kept: MemorySettings) -> None:
    remember(kept)
    with Memory.open(kept, read_only=True) as memory:
        assert memory.count() == 3 * STEPS
        assert {record.text for record in memory.recall(RecallQuery("ball 7")).records[:2]} == {f"{WORD} ball 7"}
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
from stream_vlm.memory.store import Memory
with Memory.open(settings(sys.argv[2], key_file=sys.argv[3], busy_timeout_s=10.0)) as memory:
    begin(memory, sys.argv[4])
    for number in itertools.count():
        memory.write(step(number, said="a zinnober ball", session=sys.argv[4]))
        print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_writer_loses_nothing_that_it_told(kept: MemorySettings, seed: int) -> None:
    told = 0
    for life in ("first", "second"):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(Path(__file__).parent), kept.path, kept.key_file, life]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told += len([writer.stdout.readline() for _ in range(random.Random(seed).randrange(1, 60))])
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        assert not kept.key_file or says(beside(Path(kept.path).parent)) == []
        with Memory.open(kept) as memory:
            assert memory.count() >= 3 * told
            told = memory.count() // 3
    assert verify(Path(kept.path), 0.0, key_of(kept)) == []


def test_what_is_forgotten_is_gone_and_its_space_given_back(kept: MemorySettings) -> None:
    remember(kept)
    before = Path(kept.path).stat().st_size
    with Memory.open(kept) as memory:
        forgotten = memory.forget(Forget(place=Place(0.0, 0.0, 20.5)))
        assert (forgotten.records, forgotten.erased) == (3 * 21, True)
        assert memory.recall(RecallQuery(WORD)).total == 2 * (STEPS - 21)
    assert before - forgotten.freed_bytes == Path(kept.path).stat().st_size < before


def test_a_copy_is_of_the_same_kind_and_holds_the_same_also_while_a_step_is_written(kept: MemorySettings, tmp_path: Path) -> None:
    remember(kept)
    copy = tmp_path / "copy.db"
    with Memory.open(kept) as memory:
        begin(memory, "tuesday")
        assert backup(Path(kept.path), copy, 0.0, key_of(kept)) == copy.stat().st_size
    assert contents(kept.model_copy(update={"path": str(copy)})) == contents(kept)
    assert says({"copy": copy.read_bytes()}) == ([] if kept.key_file else ["copy"])


def test_an_older_file_is_kept_under_the_same_key_before_it_is_changed(kept: MemorySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(kept)
    before = contents(kept)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, lambda db: db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")))
    for module in ("schema", "file"):
        monkeypatch.setattr(f"stream_vlm.memory.{module}.SCHEMA_VERSION", len(schema.MIGRATIONS))
    Memory.open(kept).close()
    copy = Path(kept.path + f".version-{len(schema.MIGRATIONS) - 1}")
    assert contents(kept.model_copy(update={"path": str(copy)})) == before
    assert says({"copy": copy.read_bytes()}) == ([] if kept.key_file else ["copy"])


def test_an_import_lays_nothing_in_plain_beside_an_encrypted_file(kept: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    remember(settings(other / "memory.db"))
    assert main(["memory", "export", str(other / "out.jsonl"), "--memory", str(other / "memory.db")]) == 0
    seen: dict[str, bytes] = {}
    add = exchange._add

    def look_and_add(*arguments: object) -> object:
        seen.update({path.name: path.read_bytes() for path in tmp_path.glob("memory.db*")})
        return add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exchange, "_add", look_and_add)
    with Memory.open(kept) as memory:
        memory.import_from(other / "out.jsonl")
        assert memory.recall(RecallQuery(WORD)).total == 2 * STEPS
    staged = [name for name in seen if ".import-" in name]
    assert len(staged) == 1
    assert (staged[0] in says(seen)) == (not kept.key_file)


@needs_sqlcipher
def test_no_word_stands_in_an_encrypted_file_its_log_or_anything_beside_it(secret: MemorySettings, tmp_path: Path) -> None:
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
def test_any_sqlcipher_tool_opens_the_file_with_the_passphrase(secret: MemorySettings) -> None:
    from sqlcipher3 import dbapi2

    remember(secret, 3)
    with closing(dbapi2.connect(secret.path)) as tool:
        quoted = PASSPHRASE.replace("'", "''")
        tool.execute(f"PRAGMA key = '{quoted}'")
        assert tool.execute("SELECT count(*) FROM record WHERE text LIKE ?", [f"{WORD}%"]).fetchone() == (6,)


def open_to_write(chosen: MemorySettings) -> None:
    Memory.open(chosen).close()


def open_to_read(chosen: MemorySettings) -> None:
    Memory.open(chosen, read_only=True).close()


def mend(chosen: MemorySettings) -> None:
    """As `stream-vlm memory verify --rescue` does."""
    from stream_vlm.cli.memory import check

    assert check.callback is not None
    check.callback(path=Path(chosen.path), key=key_of(chosen), mend=True)


WRONG = {
    "another key": (True, "other", "the key in .*/other does not open it; it is left as it is: give the key .* memory.key_file"),
    "a key for a plain file": (False, "key", "is not encrypted, and a key is given .*; leave memory.key_file empty .* 'stream-vlm memory encrypt"),
    "no key for an encrypted file": (True, "", r"is not a SQLite file; it is left as it is, .* memory\.key_file .* if it is encrypted"),
}


@needs_sqlcipher
@pytest.mark.parametrize("use", [open_to_write, open_to_read, mend])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_and_a_key_that_do_not_go_together_are_told_and_never_taken_for_damage(
    secret: MemorySettings, tmp_path: Path, wrong: str, use: Callable[[MemorySettings], None]
) -> None:
    encrypted, key, said = WRONG[wrong]
    write_key(tmp_path / "other", "another passphrase")
    remember(secret if encrypted else settings(tmp_path / "memory.db"), 3)
    before = beside(tmp_path)
    with pytest.raises(MemoryFileError, match=rf"memory\.db: (it )?{said}"):
        use(secret.model_copy(update={"key_file": str(tmp_path / key) if key else ""}))
    assert beside(tmp_path) == before


REFUSED_KEYS = {
    "missing": (lambda path: path.unlink(), "key cannot be read"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "key cannot be read"),
    "empty": (lambda path: path.write_text("\n"), "has no passphrase on its first line"),
    "for the group": (lambda path: path.chmod(0o640), r"may be used by others than its owner \(mode 0640\); run 'chmod 600 "),
    "for all": (lambda path: path.chmod(0o604), r"\(mode 0604\)"),
}


@pytest.mark.parametrize("fault", REFUSED_KEYS)
def test_a_key_file_that_gives_no_key_or_gives_it_to_others_is_refused(tmp_path: Path, fault: str) -> None:
    spoil, said = REFUSED_KEYS[fault]
    spoil(write_key(tmp_path / "key"))
    with pytest.raises(MemoryFileError, match=f"^memory.key_file: .*{said}"):
        Memory.open(settings(tmp_path / "memory.db", key_file=str(tmp_path / "key")))
    assert not (tmp_path / "memory.db").exists()


def test_without_the_library_a_key_is_refused_with_how_to_get_it(secret: MemorySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    with pytest.raises(MemoryFileError, match=r"cannot be imported .*; install it with 'pip install sqlcipher3'"):
        Memory.open(secret)


def spoil_pages(path: Path, *places: float) -> None:
    """Overwrite a piece of the pages at these parts of the file."""
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for place in places:
            file.seek(int(place * pages) * 4096 + 1000)
            file.write(b"\xa5" * 100)


@needs_sqlcipher
def test_a_damaged_encrypted_file_is_set_aside_and_its_readable_rows_go_on_under_the_same_key(secret: MemorySettings, tmp_path: Path) -> None:
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
    # Two bad pages cost few rows, and what is left of the others is as it was but for pictures that are gone.
    rescued = {row[:13] for row in rows_of(secret, "record") if row[3] == SESSION}
    assert rescued <= {row[:13] for row in before} and len(rescued) > 2 * STEPS
    assert verify(path, 0.0, key_of(secret)) == []
    assert says(beside(tmp_path)) == []


def rows_of(chosen: MemorySettings, table: str) -> list[tuple[object, ...]]:
    with closing(connect(Path(chosen.path), key_of(chosen), "mode=ro")) as db:
        return list(db.execute(f"SELECT * FROM {table}").fetchall())


@needs_sqlcipher
def test_an_encrypted_file_that_lost_its_end_gives_what_is_left(secret: MemorySettings) -> None:
    remember(secret)
    size = Path(secret.path).stat().st_size
    os.truncate(secret.path, size * 2 // 3 // 4096 * 4096 + 77)
    with Memory.open(secret) as memory:
        assert memory.rescued is not None
        assert STEPS // 3 < memory.rescued.pictures < STEPS
    assert verify(Path(secret.path), 0.0, key_of(secret)) == []


@needs_sqlcipher
def test_an_encrypted_file_whose_first_page_is_damaged_is_left_as_it_is(secret: MemorySettings, tmp_path: Path) -> None:
    remember(secret, 3)
    spoil_pages(Path(secret.path), 0.0)
    before = beside(tmp_path)
    with pytest.raises(MemoryFileError, match="If that is this one, the first page is damaged"):
        Memory.open(secret)
    assert beside(tmp_path) == before


def said_by(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out + said.err


@needs_sqlcipher
def test_a_plain_memory_is_encrypted_and_decrypted_with_everything_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = settings(tmp_path / "memory.db")
    secret = plain.model_copy(update={"key_file": str(write_key(tmp_path / "key"))})
    remember(plain)
    copy = tmp_path / "memory.db.backup-1"
    copy.write_bytes(Path(plain.path).read_bytes())
    rows, digest = contents(plain)
    given = ("--memory", plain.path, "--key-file", secret.key_file)
    said = f"{plain.path}: is encrypted now, {rows} rows\n  not so this copy of earlier: {copy}\n"
    assert said_by(capsys, "memory", "encrypt", *given) == (0, said)
    copy.unlink()
    assert says(beside(tmp_path)) == [] and sorted(beside(tmp_path)) == ["key", "memory.db"]
    assert contents(secret) == (rows, digest)
    with Memory.open(secret) as memory:
        assert memory.recall(RecallQuery(WORD, place=Place(5.0, 0.0, 1.5))).total == 6
        assert memory.forget(Forget(place=Place(0.0, 0.0, 0.5))).freed_bytes > 0
        begin(memory, "tuesday")
        memory.write(step(1000, said="later", session="tuesday"))
    rows, digest = contents(secret)
    assert said_by(capsys, "memory", "decrypt", *given) == (0, f"{plain.path}: is plain now, {rows} rows\n")
    assert contents(plain) == (rows, digest)
    assert Path(plain.path).stat().st_mode & 0o777 == 0o600
    with Memory.open(plain) as memory:
        assert memory.recall(RecallQuery(WORD)).total == 2 * (STEPS - 1)


@needs_sqlcipher
@pytest.mark.parametrize("fault", ["the checks fail", "the last step fails"])
def test_a_conversion_that_fails_leaves_the_old_file(secret: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain)
    before = contents(plain)
    if fault == "the checks fail":
        answers = [[], ["page 7 is bad"]]
        monkeypatch.setattr(converting, "verify", lambda *_: answers.pop(0))
    else:
        monkeypatch.setattr(converting.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MemoryFileError, match="the old one is as it was|the disk is full"):
        converting.convert(Path(plain.path), None, key_of(secret), 0.0)
    assert contents(plain) == before
    assert sorted(beside(tmp_path)) == ["key", "memory.db"]


CONVERT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from stream_vlm.memory import convert
from stream_vlm.memory.cipher import Key
convert.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
convert.convert(Path(sys.argv[1]), None, Key.read(sys.argv[2]), 0.0)
"""


@needs_sqlcipher
def test_a_conversion_that_is_killed_leaves_the_old_file_and_can_be_made_again(secret: MemorySettings, tmp_path: Path) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain)
    before = contents(plain)
    killed = subprocess.run([sys.executable, "-c", CONVERT_AND_DIE, plain.path, secret.key_file], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "memory.db.converting").stat().st_size
    remember(plain, 1, "tuesday")
    rows, _ = contents(plain)
    assert rows > before[0]
    assert converting.convert(Path(plain.path), None, key_of(secret), 0.0) == rows
    assert not (tmp_path / "memory.db.converting").exists()


@needs_sqlcipher
def test_a_file_that_is_in_use_is_not_converted(secret: MemorySettings, tmp_path: Path) -> None:
    plain = settings(tmp_path / "memory.db")
    remember(plain, 3)
    with Memory.open(plain), pytest.raises(MemoryFileError, match="one memory has one writer"):
        converting.convert(Path(plain.path), None, key_of(secret), 0.0)
    # Another process: within one, locks of two libraries do not meet.
    hold = "import sqlite3, sys; open = sqlite3.connect(sys.argv[1]); open.execute('SELECT * FROM record').fetchone()"
    hold += "; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold, plain.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdin is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(MemoryFileError, match="another program holds it locked"):
            converting.convert(Path(plain.path), None, key_of(secret), 0.0)
        reader.stdin.close()
    with sqlite3.connect(plain.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@needs_sqlcipher
@pytest.mark.parametrize("how", ["option", "environment"])
def test_every_command_takes_the_key(
    secret: MemorySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
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
    assert "events tell of a thing" in said_by(capsys, "memory", "link", *given)[1]
    assert said_by(capsys, "memory", "forget", "--near", 0, 0, 0.5, *given)[1].startswith("forgot 3 records")
    assert said_by(capsys, "memory", "prune", "--before", "1 h ago", *given)[1].startswith("forgot 12 records")
    assert said_by(capsys, "memory", "import", tmp_path / "out.jsonl", "--memory", tmp_path / "new.db", *given[2:])[0] == 0
    assert says({"new.db": (tmp_path / "new.db").read_bytes(), "copy.db": (tmp_path / "copy.db").read_bytes()}) == []


def test_encrypting_without_a_key_file_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = said_by(capsys, "memory", "encrypt", "--memory", tmp_path / "memory.db")
    assert (status, "--key-file FILE" in said) == (2, True)
