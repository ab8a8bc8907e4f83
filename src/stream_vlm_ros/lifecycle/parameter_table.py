"""Prints the table of parameters in docs/ros.md: `python -m
stream_vlm_ros.lifecycle.parameter_table`.
"""

from __future__ import annotations

from stream_vlm.config.field import SettingInfo
from stream_vlm.config.settings import describe_settings

CAMERA = "NAME"
"""Stands for the camera's name in the table."""


def table() -> str:
    """Every parameter with its default, what is allowed, whether it may change while the node is
    configured, and its meaning.
    """
    lines = ["| parameter | default | allowed | changes | meaning |", "|---|---|---|---|---|"]
    lines += [_row(info) for info in describe_settings([CAMERA])]
    return "\n".join(lines)


def _row(info: SettingInfo) -> str:
    changes = "at configure" if info.read_only else "live"
    return (
        f"| `{info.name}` | {_code(info.default)} | {_allowed(info)} | {changes} |"
        f" {info.description} |"
    )


def _code(value: object) -> str:
    return f"`{value!r}`".replace("'", '"') if value != "" else "empty"


def _allowed(info: SettingInfo) -> str:
    if info.choices:
        return ", ".join(info.choices)
    if info.minimum is not None:
        return f"{info.minimum:g} to {info.maximum:g} {info.unit}".rstrip()
    return {str: "text", list: "list of names", bool: "true, false"}.get(
        info.kind, info.kind.__name__
    )


if __name__ == "__main__":
    print(table())
