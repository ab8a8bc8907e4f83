"""How a setting is declared, and how it is described to an outsider: ROS descriptors, the command
line, the table in the docs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from stream_vlm.types import StreamError


class SettingError(StreamError):
    """A setting is unknown, of another type or out of range; the message names it, its value and
    what is allowed.
    """


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    read_only: bool = False,
) -> Any:
    """Declare one setting.

    `read_only` settings take effect only when the node is configured anew.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "read_only": read_only,
    }
    return Field(default, ge=minimum, le=maximum, description=description, json_schema_extra=extra)


class Group(BaseModel):
    """Base of every group: unknown names and non-finite numbers are refused, assignments are
    checked.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SettingInfo:
    """One setting as an outsider needs it: its dotted name, its type and what is allowed.

    Attributes:
        kind: bool, int, float, str or list (of str).
        choices: allowed values of an enumerated string; empty otherwise.
    """

    name: str
    kind: type
    default: Any
    description: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    read_only: bool


def describe(prefix: str, group: type[BaseModel]) -> Iterator[SettingInfo]:
    """Every setting of `group` and of its groups, in declaration order, with `prefix` before their
    names.
    """
    for field_name, field in group.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from describe(f"{prefix}{field_name}.", annotation)
            continue
        if get_origin(annotation) is dict:
            continue
        extra = field.json_schema_extra
        if not isinstance(extra, Mapping):
            raise TypeError(f"setting {prefix}{field_name} was not declared with setting()")
        choices = (
            tuple(str(choice) for choice in get_args(annotation))
            if get_origin(annotation) is Literal
            else ()
        )
        default = field.get_default(call_default_factory=True)
        yield SettingInfo(
            name=f"{prefix}{field_name}",
            kind=type(default),
            default=default,
            description=field.description or "",
            unit=str(extra["unit"]),
            minimum=extra["minimum"],  # type: ignore[arg-type]
            maximum=extra["maximum"],  # type: ignore[arg-type]
            choices=choices,
            read_only=bool(extra["read_only"]),
        )
