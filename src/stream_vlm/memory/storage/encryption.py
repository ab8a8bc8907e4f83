"""Encryption at rest: the key of a memory file, and a connection to plain and encrypted files
alike.

An encrypted file is an ordinary one of SQLCipher 4 (https://www.zetetic.net/sqlcipher/design/):
each page, of the log and the journal too, under AES-256 with an HMAC, the key derived from the
passphrase by PBKDF2. Every SQLCipher tool opens it with the passphrase.
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
"""Of PBKDF2-HMAC-SHA512: what SQLCipher 4 takes when it is not told otherwise."""

DEFAULT_BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a lock on a file that no one else should have, seconds."""


@dataclass(frozen=True)
class Key:
    """The passphrase of a memory file, and the file that holds it."""

    passphrase: bytes = field(repr=False)
    file: Path

    @classmethod
    def read(cls, key_file: str) -> Key | None:
        """The passphrase on the first line of `key_file`; None for an empty name, which means a
        plain memory.

        Raises:
            MemoryFileError: the file cannot be read, is empty, or may be read by others than its
                owner.
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
                " the passphrase, or none for a plain memory"
            ) from error
        if mode & 0o077:
            raise MemoryFileError(
                f"memory.key_file: {file} may be used by others than its owner (mode"
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
    """Connect to the file at `path`, which is there: a plain one with Python's own SQLite, or one
    under `key` with SQLCipher.

    The connection may be used from any thread, by one at a time; what it collects on its way stays
    off the disk.

    Args:
        mode: of SQLite's URI: "mode=rw", "mode=ro" or "immutable=1".
        lenient: read a file that is shorter than it should be, and tables beside those whose
            definitions are damaged.

    Raises:
        MemoryFileError: `key` is not the file's, the file is plain though there is one, or
            SQLCipher is not installed. sqlite3.Error, or SQLCipher's of that name: see `either`.
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
    """As `connect`, with SQLCipher for plain files too: it alone takes plain and encrypted ones
    together (`attach`).
    """
    connection = _open(_library(), path, mode, busy_timeout_s)
    try:
        # What it says on stderr comes as an error, too.
        connection.execute("PRAGMA cipher_log_level = NONE")
        if key is not None:
            _unlock(connection, key)
        db = _ready(connection, lenient)
        # Its default is ON, Python's OFF.
        db.execute("PRAGMA recursive_triggers = OFF")
        if key is not None:
            _refuse_wrong_key(connection, path, key)
        return db
    except BaseException:
        connection.close()
        raise


def attach(db: Database, path: Path, name: str, key: Key | None) -> None:
    """Attach the file at `path`, which may be empty, as `name` to `db`: plain, or under `key`."""
    connection: Any = db.conn  # SQLCipher's, whatever sqlite-utils declares
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
            f" ({error}); install it with 'pip install sqlcipher3', or leave the key away for a"
            " plain memory"
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
                f"{path}: is not encrypted, and a key is given ({key.file}); leave memory.key_file"
                " empty (no --key-file), or encrypt it with 'stream-vlm memory encrypt --memory"
                f" {path} --key-file {key.file}'"
            ) from error
        # SQLCipher cannot tell these apart: it knows a right key by the HMAC of the first page.
        raise MemoryFileError(
            f"{path}: the key in {key.file} does not open it; it is left as it is: give the key"
            " that it was encrypted with in memory.key_file (--key-file). If that is this one, the"
            " first page is damaged or the file is none of ours: put a copy in its place"
        ) from error


def _is_plain(path: Path) -> bool:
    # Asked of SQLCipher, not read here: closing a descriptor of ours would drop the locks of every
    # connection of this process.
    connection = _open(_library(), path, "immutable=1", 0.0)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except error_classes(sqlite3.DatabaseError) as error:
        return "not a database" not in str(error)
    finally:
        connection.close()
    return True


def _salt(connection: Any) -> str:
    """The salt of the connection's file, or a fresh one where the file is empty, as hexadecimal
    digits.
    """
    # It says so once it has any key, and derives nothing from that before the file is read.
    connection.execute("PRAGMA key = 'for the salt'")
    return str(connection.execute("PRAGMA cipher_salt").fetchone()[0])


@lru_cache(maxsize=8)
def _spec(key: Key, salt: str) -> str:
    """Key and salt as SQLCipher takes them ready made.

    Derived once: it would take its tenths of a second again for every connection.
    """
    raw = hashlib.pbkdf2_hmac("sha512", key.passphrase, bytes.fromhex(salt), ITERATIONS, 32)
    return f"x'{raw.hex()}{salt}'"
