"""`--key-file`: the key of an encrypted memory, for every command that opens one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stream_vlm.config import MemorySettings
from stream_vlm.memory.cipher import Key

VARIABLE = "STREAM_VLM_KEY_FILE"
"""Environment variable that stands for the option."""


def which_key(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--key-file`, given to the command as the key in it, or None."""
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
    """Settings of the memory at `path`, plain or under `key`."""
    return MemorySettings(path=str(path), key_file="" if key is None else str(key.file))
