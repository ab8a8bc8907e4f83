"""The options `--memory` and `--key-file`: a memory file, and the key of an encrypted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.storage.encryption import Key

VARIABLE = "STREAM_VLM_KEY_FILE"
"""Environment variable that replaces the option `--key-file`."""


def which_memory(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--memory`; the command gets the path of the file."""
    return click.option(
        "--memory",
        "path",
        type=click.Path(path_type=Path),
        default=Path(MemorySettings().path),
        show_default=True,
        callback=lambda context, parameter, value: _file(value),
        help="Memory file, or the folder of a run.",
    )(command)


def _file(path: Path) -> Path:
    path = path.expanduser().resolve()
    return path / "memory.db" if path.is_dir() else path


def which_key(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--key-file`; the command gets the key in that file, or None."""
    return click.option(
        "--key-file",
        "key",
        default="",
        metavar="FILE",
        envvar=VARIABLE,
        show_envvar=True,
        callback=lambda context, parameter, value: Key.read(value),
        help="File whose first line is the passphrase of an encrypted memory.",
    )(command)


def memory_settings(path: Path, key: Key | None) -> MemorySettings:
    """Return the settings to open the memory at `path`, plain or encrypted with `key`."""
    return MemorySettings(path=str(path), key_file="" if key is None else str(key.file))
