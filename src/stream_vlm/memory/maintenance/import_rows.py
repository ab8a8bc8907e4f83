"""Check one line of an export: what a row must be before it may be stored.

An export comes from outside. Nothing of a line is believed, and a line that is refused costs no
other line.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlite_utils import Database

from stream_vlm.memory.storage.schema import ordinary_tables
from stream_vlm.memory.storage.step_rows import KINDS
from stream_vlm.memory.storage.thumbnails import JPEG_END, JPEG_START
from stream_vlm.types import State

MAX_LINE_BYTES = 32 * 2**20
"""A longer line is refused; a stored picture has some ten kilobytes."""

MAX_TEXT = 100_000
"""A longer text is refused, characters."""

MAX_SIDE = 65_535
"""The largest width and height of a JPEG, pixels."""

MAX_VECTOR = 65_536
"""The largest vector, numbers."""

INT64 = 2**63

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class RowProblem(Exception):
    """Why a line is refused, in a few words."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type in SQLite, and whether NULL is refused."""

    name: str
    kind: str
    required: bool


def columns_of(db: Database) -> dict[str, list[Column]]:
    """Return the columns of every table of the memory."""
    return {
        table: [
            Column(name, kind, bool(required or key))
            for _, name, kind, required, _, key in db.execute(f"PRAGMA table_info({table})")
        ]
        for table in ordinary_tables(db)
    }


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, which end with a newline; of one that is too long, its start."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        yield line


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        RowProblem: it is none.
    """
    if len(line) > MAX_LINE_BYTES:
        raise RowProblem(f"has more than {MAX_LINE_BYTES // 2**20} MB")
    try:
        content = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RowProblem("is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise RowProblem("is not UTF-8") from error
    except ValueError as error:
        raise RowProblem("is not JSON") from error
    if not isinstance(content, dict):
        raise RowProblem("is not a JSON object")
    return content


def values_of(content: dict[str, Any], tables: dict[str, list[Column]]) -> tuple[str, list[Any]]:
    """Return the table of a row, and its values in the order of the columns.

    Raises:
        RowProblem: it is not a row of a memory; the message says what is wrong.
    """
    table, row = content.get("table"), content.get("row")
    if not isinstance(table, str) or table not in tables:
        raise RowProblem(f"names no table of a memory ({str(table)[:40]!r})")
    if not isinstance(row, dict):
        raise RowProblem(f"has no row of {table}")
    columns = tables[table]
    names = {column.name for column in columns}
    if missing := sorted(names - set(row)):
        raise RowProblem(f"lacks {', '.join(missing)} of {table}")
    if foreign := sorted(set(row) - names):
        raise RowProblem(f"has {', '.join(foreign)[:80]!r}, which {table} has not")
    values = {column.name: _value(column, row[column.name]) for column in columns}
    if table in _RULES:
        _RULES[table](values)
    return table, list(values.values())


def _value(column: Column, given: Any) -> Any:
    name = column.name
    if given is None:
        if column.required:
            raise RowProblem(f"{name} is missing (null)")
        return None
    if column.kind == "BLOB":
        return _blob(name, given)
    if column.kind == "TEXT":
        return _text(name, given)
    numbers = (int,) if column.kind == "INTEGER" else (int, float)
    if isinstance(given, bool) or not isinstance(given, numbers):
        raise RowProblem(f"{name} is not a number but {type(given).__name__}")
    if isinstance(given, int) and not -INT64 <= given < INT64:
        raise RowProblem(f"{name} does not fit into 64 bits")
    if isinstance(given, float) and not math.isfinite(given):
        raise RowProblem(f"{name} is not finite")
    return given


def _blob(name: str, given: Any) -> bytes:
    if not (isinstance(given, dict) and list(given) == ["base64"]):
        raise RowProblem(f'{name} is not {{"base64": "..."}}')
    text = given["base64"]
    if not isinstance(text, str):
        raise RowProblem(f"{name}: its base64 is not a text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(f"{name} is not base64 ({error})") from error


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise RowProblem(f"{name} is not a text but {type(given).__name__}")
    if "\0" in given:
        raise RowProblem(f"{name} has a NUL character")
    if len(given) > MAX_TEXT:
        raise RowProblem(f"{name} has {len(given)} characters, more than {MAX_TEXT}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"{name} has half a surrogate pair, which UTF-8 cannot hold") from error
    return given


def _refuse_constant(constant: str) -> None:
    raise RowProblem(f"has the number {constant}, which is not finite")


def _check_picture(row: dict[str, Any]) -> None:
    for side in ("width", "height"):
        if not 0 < row[side] <= MAX_SIDE:
            raise RowProblem(f"{side} is {row[side]} pixels")
    jpeg = row["jpeg"]
    if not (jpeg.startswith(JPEG_START) and jpeg.rstrip(b"\0").endswith(JPEG_END)):
        raise RowProblem("its picture is not a complete JPEG")


def _check_record(row: dict[str, Any]) -> None:
    if row["kind"] not in KINDS:
        raise RowProblem(f"kind {row['kind'][:40]!r} is none of {', '.join(KINDS)}")
    if row["state"] and row["state"] not in {state.value for state in State}:
        raise RowProblem(f"state {row['state'][:40]!r} is unknown")
    span_ns = row["end_ns"] - row["start_ns"]
    if span_ns < 0:
        raise RowProblem("ends before it starts")
    if span_ns >= INT64:
        raise RowProblem("its span does not fit into 64 bits")
    if not 0.0 <= row["confidence"] <= 1.0:
        raise RowProblem(f"confidence {row['confidence']} is not within 0 and 1")
    pose = [row[name] for name in ("pose_frame", "x", "y", "z", "qx", "qy", "qz", "qw")]
    if any(value is None for value in pose) and any(value is not None for value in pose):
        raise RowProblem("its pose is incomplete")


def _check_vector(row: dict[str, Any]) -> None:
    # Imported here: a plain import of a memory without vectors needs no numpy.
    import numpy as np

    halves = row["halves"]
    if not halves or len(halves) % 2 or len(halves) > 2 * MAX_VECTOR:
        raise RowProblem(f"a vector of {len(halves)} bytes")
    vector = np.frombuffer(halves, "<f2").astype(np.float32)
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length) or length == 0.0:
        raise RowProblem("its vector has a number that is not finite, or no direction")


def _check_model(row: dict[str, Any]) -> None:
    if not 0 < row["size"] <= MAX_VECTOR:
        raise RowProblem(f"a model whose vectors have {row['size']} numbers")


_RULES: dict[str, Callable[[dict[str, Any]], None]] = {
    "picture": _check_picture,
    "record": _check_record,
    "record_vector": _check_vector,
    "picture_vector": _check_vector,
    "vector_model": _check_model,
}
"""What the tables themselves do not check."""
