"""Texts from files, arguments and requests: UTF-8, JSON lines, and characters that are no text.

A lone surrogate is half of a character that UTF-16 writes in two halves. JSON can write one as an
escape such as \\ud83d, and Python puts one into an argument for every byte that is not UTF-8. No
file, no tokenizer and no database takes it, so it is refused where the text comes in.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError

_SURROGATE = re.compile("[\ud800-\udfff]")
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
BYTE_ORDER_MARK = "\ufeff"


class TextRefused(StreamError):
    """A text has characters that are no text; the message names the text and the remedy."""


def decode(content: bytes) -> str:
    """Return `content` as text. A byte order mark at its start is no content.

    Raises:
        ValueError: it is not UTF-8; the message says what it is and what to do.
    """
    if content.startswith(_WIDE_MARKS) or b"\0" in content[:4]:
        raise ValueError("is text in UTF-16 or UTF-32; save it as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8: byte {error.start} is {content[error.start]:#04x}; save it as UTF-8"
        ) from error


def read_text(path: Path) -> str:
    """Return the text of the file `path`, without a byte order mark; line ends stay as they are.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    return decode(path.read_bytes())


def read_json(path: Path) -> Any:
    """Return the JSON document in the file `path`, which may begin with a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8 or not JSON.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Return the JSON value that `text` writes.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    r"""Yield the lines of JSON lines that are not blank, each with its number from 1.

    Only \n and \r\n end a line. `str.splitlines` also splits at characters such as U+2028, U+0085
    and form feed, which JSON may write unescaped within a string.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        row = line.strip(" \t\r").removeprefix(BYTE_ORDER_MARK)
        if row:
            yield number, row


def half_character(value: Any) -> str:
    """Say where a JSON value has a lone surrogate; empty if nowhere.

    Keys, and the values of nested lists and objects, are looked at too.

    Returns:
        For example "response[0].content has half a character (\\ud83d)".
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, str):
            found = _SURROGATE.search(part)
            if found:
                return f"{place or 'the text'} has half a character ({ascii(found[0])[1:-1]})"
        elif isinstance(part, dict):
            for key, inner in reversed(part.items()):
                found = _SURROGATE.search(str(key))
                if found:
                    where = f"a name in {place}" if place else "a name"
                    return f"{where} has half a character ({ascii(found[0])[1:-1]})"
                waiting.append((f"{place}.{key}" if place else str(key), inner))
        elif isinstance(part, list | tuple):
            waiting += [(f"{place}[{at}]", part[at]) for at in reversed(range(len(part)))]
    return ""


def check_text(text: str, what: str) -> str:
    """Return `text`, which `what` names in the message.

    Raises:
        TextRefused: it has a lone surrogate.
    """
    found = _SURROGATE.search(text)
    if found is None:
        return text
    shown = text[:80].encode("ascii", "backslashreplace").decode("ascii")
    raise TextRefused(
        f"{what} '{shown}' is no text: character {found.start() + 1} is half a character or a byte"
        " that is not UTF-8; write it in UTF-8"
    )


def mend(text: str) -> str:
    """Return `text` with the replacement character U+FFFD for every lone surrogate."""
    return _SURROGATE.sub("\ufffd", text)


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8; the file that was there stays until everything is written.

    Raises:
        OSError: it cannot be written.
        UnicodeEncodeError: `text` has a lone surrogate; `path` is unchanged.
    """
    content = text.encode("utf-8")
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # a pipe or a device, such as /dev/stdout
        return
    target = path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
