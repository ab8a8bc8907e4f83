"""Encryption at rest: the key of a memory file, and connections to plain and encrypted files.

An encrypted file is an ordinary SQLCipher 4 file (https://www.zetetic.net/sqlcipher/design/). Each
page, including those in WAL and journal, is encrypted with AES-256 and has an HMAC. The key is
derived from the passphrase with PBKDF2. Every SQLCipher tool can open the file with the passphrase.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlite_utils import Database

from stream_vlm.memory.storage.errors import MemoryFileError, error_classes

ITERATIONS = 256_000
"""Of PBKDF2-HMAC-SHA512; the default of SQLCipher 4."""

DEFAULT_BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a lock where no other program should hold one, seconds."""


@dataclass(frozen=True)
class Key:
    """The passphrase of a memory file, and the file that contains it."""

    passphrase: bytes = field(repr=False)
    file: Path

    @classmethod
    def read(cls, key_file: str) -> Key | None:
        """Read the passphrase from the first line of `key_file`; None for an empty name.

        Without a key file the memory is not encrypted.

        Raises:
            MemoryFileError: the file cannot be read, is empty, or other users than its owner may
                read it.
        """
        if not key_file.strip():
            return None
        file = Path(key_file).expanduser()
        try:
            with file.open("rb") as opened:
                mode = file.stat().st_mode
                passphrase = opened.readline().rstrip(b"\r\n")
        except (OSError, ValueError) as error:
            raise MemoryFileError(
                f"memory.key_file: {file} cannot be read ({error}); give a file whose first line is"
                " the passphrase, or leave it empty for a plain memory"
            ) from error
        if mode & 0o077:
            raise MemoryFileError(
                f"memory.key_file: {file} can be used by other users than its owner (mode"
                f" {mode & 0o777:04o}); run 'chmod 600 {file}'"
            )
        if not passphrase:
            raise MemoryFileError(
                f"memory.key_file: {file} has no passphrase on its first line; write one there"
            )
        return cls(passphrase, file)


def connect(
    path: Path,
    key: Key | None,
    mode: str = "mode=rw",
    busy_timeout_s: float = DEFAULT_BUSY_TIMEOUT_S,
    *,
    lenient: bool = False,
) -> Database:
    """Connect to the existing file at `path`.

    A plain file is opened with Python's own SQLite, one with `key` with SQLCipher. Any thread may
    use the connection, one at a time. Temporary data stays in RAM.

    Args:
        path: the memory file.
        key: of an encrypted file, else None.
        mode: of SQLite's URI: "mode=rw", "mode=ro" or "immutable=1".
        busy_timeout_s: how long to wait for another program's lock, seconds.
        lenient: also read a truncated file, and the sound tables of a file in which the definitions
            of others are damaged.

    Raises:
        MemoryFileError: the key does not fit the file, the file is plain although a key is given,
            or SQLCipher is not installed.
        sqlite3.Error: or SQLCipher's error of the same name, see `errors.error_classes`.
    """
    if key is not None:
        return connect_sqlcipher(path, key, mode, busy_timeout_s, lenient=lenient)
    return _ready(_open(sqlite3, path, mode, busy_timeout_s), lenient)


def connect_sqlcipher(
    path: Path,
    key: Key | None,
    mode: str = "mode=rw",
    busy_timeout_s: float = DEFAULT_BUSY_TIMEOUT_S,
    *,
    lenient: bool = False,
) -> Database:
    """Connect as `connect` does, but with SQLCipher for plain files too.

    Only SQLCipher can attach a plain and an encrypted file to one connection (`attach`).
    """
    connection = _open(_library(), path, mode, busy_timeout_s)
    try:
        # Its messages on stderr only repeat the errors that are raised.
        connection.execute("PRAGMA cipher_log_level = NONE")
        if key is not None:
            _unlock(connection, key)
        db = _ready(connection, lenient)
        # SQLCipher's default is ON, that of Python's SQLite is OFF.
        db.execute("PRAGMA recursive_triggers = OFF")
        if key is not None:
            _refuse_wrong_key(connection, path, key)
        return db
    except BaseException:
        connection.close()
        raise


def attach(db: Database, path: Path, name: str, key: Key | None) -> None:
    """Attach the file at `path` to `db` under `name`: plain, or encrypted with `key`.

    The file may be empty.
    """
    connection: Any = db.conn  # may be SQLCipher's, which sqlite-utils does not declare
    if isinstance(connection, sqlite3.Connection):
        db.execute(f"ATTACH DATABASE ? AS {name}", [str(path)])
        return
    spec = ""
    if key is not None:
        other = _open(_library(), path, "mode=rw", DEFAULT_BUSY_TIMEOUT_S)
        try:
            spec = _spec(key, _salt(other))
        finally:
            other.close()
    db.execute(f"ATTACH DATABASE ? AS {name} KEY ?", [str(path), spec])


def _library() -> Any:
    try:
        from sqlcipher3 import dbapi2
    except ImportError as error:
        raise MemoryFileError(
            "memory.key_file: encrypted memories need SQLCipher, which cannot be imported"
            f" ({error}); install it with 'pip install sqlcipher3', or leave memory.key_file empty"
            " for a plain memory"
        ) from error
    return dbapi2


def _open(library: Any, path: Path, mode: str, busy_timeout_s: float) -> Any:
    return library.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _ready(connection: Any, lenient: bool) -> Database:
    connection.execute("PRAGMA temp_store = MEMORY")
    if lenient:
        connection.execute("PRAGMA writable_schema = ON")
    return Database(connection, recursive_triggers=False, execute_plugins=False)


def _unlock(connection: Any, key: Key) -> None:
    connection.execute(f'PRAGMA key = "{_spec(key, _salt(connection))}"')


def _refuse_wrong_key(connection: Any, path: Path, key: Key) -> None:
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except error_classes(sqlite3.DatabaseError) as error:
        if "not a database" not in str(error):
            raise
        if _is_plain(path):
            raise MemoryFileError(
                f"{path}: is not encrypted, but a key is given ({key.file}); leave memory.key_file"
                " empty (no --key-file), or encrypt it with 'stream-vlm memory encrypt --memory"
                f" {path} --key-file {key.file}'"
            ) from error
        # SQLCipher checks a key with the HMAC of the first page. A wrong key, a damaged first
        # page and a foreign file therefore give the same error.
        raise MemoryFileError(
            f"{path}: the key in {key.file} does not open it; the file was not changed. Give the"
            " key that it was encrypted with in memory.key_file (--key-file). If the key is right,"
            " the first page is damaged or the file is not a memory: restore a backup"
        ) from error


def _is_plain(path: Path) -> bool:
    # Not read directly: closing a file descriptor of our own would drop the locks of all
    # connections of this process.
    connection = _open(_library(), path, "immutable=1", 0.0)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except error_classes(sqlite3.DatabaseError) as error:
        return "not a database" not in str(error)
    finally:
        connection.close()
    return True


def _salt(connection: Any) -> str:
    """Return the salt of the connection's file in hexadecimal; a new one for an empty file."""
    # SQLCipher returns the salt once any key is set. It derives nothing from that key before the
    # file is read.
    connection.execute("PRAGMA key = 'for the salt'")
    return str(connection.execute("PRAGMA cipher_salt").fetchone()[0])


@lru_cache(maxsize=8)
def _spec(key: Key, salt: str) -> str:
    """Return key and salt in the form that SQLCipher uses without deriving the key itself.

    The result is cached, because the derivation takes some tenths of a second and would be repeated
    for every connection.
    """
    raw = hashlib.pbkdf2_hmac("sha512", key.passphrase, bytes.fromhex(salt), ITERATIONS, 32)
    return f"x'{raw.hex()}{salt}'"
