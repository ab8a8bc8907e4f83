"""Encrypted memories, and a check whether a file shows their contents in plain text."""

import importlib.util
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, settings, step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.types import Pose

needs_sqlcipher = pytest.mark.skipif(
    importlib.util.find_spec("sqlcipher3") is None,
    reason="sqlcipher3 is not installed (requirements/development.txt)",
)

STEPS = 40
WORD = "zinnober"
"""A word that is said in every step and appears nowhere else in a file."""

PASSPHRASE = "a green door, 'quoted' \"twice\""


def write_key(path: Path, passphrase: str = PASSPHRASE) -> Path:
    """Write a key file at `path`."""
    path.write_text(passphrase + "\nonly the first line is read\n")
    path.chmod(0o600)
    return path


def under_key(folder: Path) -> MemorySettings:
    """Settings of an encrypted memory in `folder`; the memory does not exist yet."""
    return settings(folder / "memory.db", key_file=str(write_key(folder / "key")))


def remember(chosen: MemorySettings, steps: int = STEPS, session: str = SESSION) -> None:
    """Write `steps` steps: the robot moves one metre a second and speaks every second.

    Each picture is so large that it takes several pages of the file.
    """
    with Memory.open(chosen) as memory:
        begin(memory, session)
        for number in range(steps):
            noise = np.random.default_rng(number).integers(0, 256, (96, 128, 3), dtype=np.uint8)
            memory.write(
                step(
                    number,
                    said=f"{WORD} ball {number}",
                    pose=Pose("map", number, 0.0, 0.0),
                    image=noise,
                    session=session,
                )
            )


def key_of(chosen: MemorySettings) -> Key | None:
    """The key of a memory, or None if it is not encrypted."""
    return Key.read(chosen.key_file)


def contents(chosen: MemorySettings) -> tuple[int, str]:
    """Number and checksum of all rows of a memory."""
    with closing(connect(Path(chosen.path), key_of(chosen), "mode=ro")) as db:
        *_, last = export_lines(db)
    said = json.loads(last)
    return sum(said["rows"].values()), said["sha256"]


def beside(folder: Path) -> dict[str, bytes]:
    """Contents of every file in `folder` by name, without the `-shm` file of SQLite's log.

    Readers may or may not leave that file behind.
    """
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")
    }


def says(files: dict[str, bytes]) -> list[str]:
    """The names of the files that contain plain text of a memory.

    That is `WORD`, its stem in the full-text index, or the name of a column.
    """
    return sorted(
        name
        for name, content in files.items()
        if any(word in content for word in (WORD.encode(), b"zinnob", b"wall_started_ns"))
    )
