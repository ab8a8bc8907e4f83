"""Reads the rows of a data file; each becomes a sample or is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_vlm import unicode_text
from stream_vlm.types import StreamError
from stream_vlm.unicode_text import half_character, json_lines, parse_json
from stream_vlm_lab.training.data.sample import ReadResult, RefusalReason, RowRefused, StreamSample


class DataFileError(StreamError):
    """A data file cannot be read; the message names the file and the remedy."""


def read_text(path: Path) -> str:
    """Read the text file `path`.

    Raises:
        DataFileError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return unicode_text.read_text(path)
    except OSError as error:
        raise DataFileError(
            f"{path}: cannot be read: {error.strerror}; give the path of a JSON or JSON lines file"
        ) from error
    except ValueError as error:
        raise DataFileError(f"{path}: {error}") from error


def read_file(path: Path, make: Callable[[Any], StreamSample]) -> ReadResult:
    """Read a JSON list, a single JSON object or JSON lines, and convert every row with `make`.

    If one of many lines is not JSON, only this line is refused. A row with half a character in any
    of its texts is refused too.

    Args:
        path: the file.
        make: converts a row to a sample; raises `RowRefused` for a row that cannot be used.

    Raises:
        DataFileError: the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    reading = ReadResult()
    try:
        document = parse_json(text)
        rows: list[Any] = document if isinstance(document, list) else [document]
    except ValueError as error:
        lines = [line for _, line in json_lines(text)]
        if path.suffix != ".jsonl" and len(lines) > 0 and not lines[0].lstrip().startswith("{"):
            raise DataFileError(f"{path}: is not JSON ({error}); download it again") from error
        rows = [_parsed(line) for line in lines]
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, RowRefused):
                raise row
            check_row(row)
            reading.add(number, make(row))
        except RowRefused as refused:
            reading.refuse(number, refused)
    return reading


def check_row(row: Any) -> None:
    """Check the texts of `row`, which no tokenizer and no file takes with half a character.

    Raises:
        RowRefused: a key or a text has a lone surrogate; the detail names its place.
    """
    place = half_character(row)
    if place:
        raise RowRefused(RefusalReason.HALF_CHARACTER, place)


def _parsed(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        return RowRefused(RefusalReason.NOT_A_ROW, f"is not JSON ({error})")
