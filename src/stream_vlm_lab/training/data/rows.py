"""Rows of a data file, each made a sample or refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm_lab.training.data.sample import Reading, Reason, RowRefused, StreamSample


class DataFileError(StreamError):
    """A data file cannot be read at all; the message names it and the remedy."""


def read_text(path: Path) -> str:
    """What is in `path`.

    Raises:
        DataFileError: it cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(
            f"{path}: cannot be read: {error}; give the path of a JSON or JSON lines file"
        ) from error


def read_file(path: Path, make: Callable[[Any], StreamSample]) -> Reading:
    """Make a sample of every row: of a JSON list, of a single object, or of JSON lines, of which
    one that is no JSON is refused alone.

    Raises:
        DataFileError: the file cannot be read, or holds no row at all.
    """
    text = read_text(path)
    reading = Reading()
    try:
        document = json.loads(text)
        rows: list[Any] = document if isinstance(document, list) else [document]
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if path.suffix != ".jsonl" and len(lines) > 0 and not lines[0].lstrip().startswith("{"):
            raise DataFileError(f"{path}: is no JSON ({error}); download it anew") from error
        rows = [_parsed(line) for line in lines]
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, RowRefused):
                raise row
            reading.add(number, make(row))
        except RowRefused as refused:
            reading.refuse(number, refused)
    return reading


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return RowRefused(Reason.NOT_A_ROW, f"is no JSON ({error})")
