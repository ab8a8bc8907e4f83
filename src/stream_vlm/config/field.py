"""How one setting is declared, and how it is described to users.

The description is used by ROS parameter descriptors, the command line and the table in the docs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from stream_vlm.types import StreamError


class SettingError(StreamError):
    """A setting is unknown, has the wrong type or is out of range.

    The message names the setting, its value and what is allowed.
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

    Args:
        default: value when the user gives none.
        description: one or two sentences for users; `ros2 param describe` shows them.
        unit: unit of the value, for example "s"; empty for none.
        minimum: smallest value that is allowed.
        maximum: largest value that is allowed.
        read_only: True when a new value takes effect only at the next configure transition.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "read_only": read_only,
    }
    return Field(default, ge=minimum, le=maximum, description=description, json_schema_extra=extra)


class Group(BaseModel):
    """Base of every group of settings.

    It refuses unknown names and numbers that are not finite, and checks every assignment.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SettingInfo:
    """Everything that a user of one setting needs to know.

    Attributes:
        name: the dotted name, for example `stream.rate_hz`.
        kind: bool, int, float, str or list (of str).
        choices: the allowed values of an enumerated string; empty for other settings.
        read_only: True when a new value takes effect only at the next configure transition.
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
    """Yield every setting of `group` and of its subgroups, in declaration order.

    Args:
        prefix: written before each name, for example "memory.".
        group: the model of the group.

    Raises:
        TypeError: a field was not declared with `setting`.
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
