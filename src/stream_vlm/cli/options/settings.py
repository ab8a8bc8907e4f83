"""The option `--set NAME=VALUE`: any setting, on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import Settings, load_settings

OWNED = {
    "memory.path": "the memory of a run is DIR/memory.db; choose DIR with --out",
    "cameras": "the cameras are those of the source; choose a recording's topics with --topic",
    "camera": "the cameras are those of the source; choose a recording's topics with --topic",
}
"""Settings that the command itself decides, and what to use instead."""


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Return the values of `NAME=VALUE` strings by name; the last one of a name wins.

    Raises:
        SettingError: a string without `=`, or a setting that the command itself decides.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingError(
                f"--set {assignment}: write NAME=VALUE, for example --set stream.rate_hz=1"
            )
        owner = name if name in OWNED else name.split(".")[0]
        if owner in OWNED:
            raise SettingError(f"--set {name}: {OWNED[owner]}")
        values[name] = value.strip()
    return values


def settings_of_run(assignments: Sequence[str], more: Mapping[str, Any]) -> Settings:
    """Return the settings of a run: defaults, then `--set`, then `more` by dotted name.

    Raises:
        SettingError: an unknown name or a value that is not allowed.
    """
    return load_settings({**parse_assignments(assignments), **more})
