"""Prints the table of parameters in docs/ros.md.

Run it with `python -m stream_vlm_ros.lifecycle.parameter_table`.
"""

from __future__ import annotations

import json

from stream_vlm.config.field import SettingInfo
from stream_vlm.config.settings import describe_settings

CAMERA = "NAME"
"""Placeholder for the name of a camera in the table."""


def table() -> str:
    """Return the table in Markdown, one row for each parameter.

    The columns are the name, the default, the allowed values, when a new value takes effect, and
    the description.
    """
    lines = ["| parameter | default | allowed | takes effect | meaning |", "|---|---|---|---|---|"]
    lines += [_row(info) for info in describe_settings([CAMERA])]
    return "\n".join(lines)


def _row(info: SettingInfo) -> str:
    changes = "at configure" if info.read_only else "at once"
    return (
        f"| `{info.name}` | {_code(info.default)} | {_allowed(info)} | {changes} |"
        f" {info.description} |"
    )


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`" if value != "" else "empty"


def _allowed(info: SettingInfo) -> str:
    if info.choices:
        return ", ".join(info.choices)
    if info.minimum is not None:
        return f"{info.minimum:g} to {info.maximum:g} {info.unit}".rstrip()
    return {str: "text", list: "list of texts", bool: "true, false"}.get(
        info.kind, info.kind.__name__
    )


if __name__ == "__main__":
    print(table())
