"""Reads the rows of a data file; each becomes a sample or is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm_lab.training.data.sample import ReadResult, RefusalReason, RowRefused, StreamSample


class DataFileError(StreamError):
    """A data file cannot be read; the message names the file and the remedy."""


def read_text(path: Path) -> str:
    """Read the text file `path`.

    Raises:
        DataFileError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(
            f"{path}: cannot be read: {error}; give the path of a JSON or JSON lines file"
        ) from error


def read_file(path: Path, make: Callable[[Any], StreamSample]) -> ReadResult:
    """Read a JSON list, a single JSON object or JSON lines, and convert every row with `make`.

    If one of many lines is not JSON, only this line is refused.

    Args:
        path: the file.
        make: converts a row to a sample; raises `RowRefused` for a row that cannot be used.

    Raises:
        DataFileError: the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    reading = ReadResult()
    try:
        document = json.loads(text)
        rows: list[Any] = document if isinstance(document, list) else [document]
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if path.suffix != ".jsonl" and len(lines) > 0 and not lines[0].lstrip().startswith("{"):
            raise DataFileError(f"{path}: is not JSON ({error}); download it again") from error
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
        return RowRefused(RefusalReason.NOT_A_ROW, f"is not JSON ({error})")
