"""Memories under a key, and how to see whether a file shows what they hold."""

import importlib.util
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, settings, step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance import reencrypt as converting
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.types import Pose

needs_sqlcipher = pytest.mark.skipif(
    importlib.util.find_spec("sqlcipher3") is None,
    reason="sqlcipher3 is not installed (requirements/development.txt)",
)

STEPS = 40
WORD = "zinnober"
"""Said in every step; nothing else in a file has it."""

PASSPHRASE = "a green door, 'quoted' \"twice\""


def write_key(path: Path, passphrase: str = PASSPHRASE) -> Path:
    """A key file at `path`."""
    path.write_text(passphrase + "\nwhat follows is not read\n")
    path.chmod(0o600)
    return path


def under_key(folder: Path) -> MemorySettings:
    """Settings of an encrypted memory in `folder` that is not there yet."""
    return settings(folder / "memory.db", key_file=str(write_key(folder / "key")))


def remember(chosen: MemorySettings, steps: int = STEPS, session: str = SESSION) -> None:
    """A walk of one metre a second, on which something is said each second, with a picture of
    several pages.
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
    """Its key, None of a plain one."""
    return Key.read(chosen.key_file)


def contents(chosen: MemorySettings) -> tuple[int, str]:
    """Number and checksum of all rows."""
    with closing(connect(Path(chosen.path), key_of(chosen), "mode=ro")) as db:
        return converting._contents(db)


def beside(folder: Path) -> dict[str, bytes]:
    """Every file in `folder` but the shared memory of a log, which readers leave or not."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")
    }


def says(files: dict[str, bytes]) -> list[str]:
    """The names of those files in which the word stands, as a step's or stemmed by full text, or a
    column of ours.
    """
    return sorted(
        name
        for name, content in files.items()
        if any(word in content for word in (WORD.encode(), b"zinnob", b"wall_started_ns"))
    )
