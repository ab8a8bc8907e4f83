"""Addresses without their secrets: the one function that every message about a stream uses."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path

HIDDEN = "***"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_SECRET_IN_PATH = re.compile(
    r"(?i)((?:pass(?:word|wd)?|pwd|user(?:name)?|token|secret|auth|key|sig(?:nature)?)[=:])"
    r"[^&;/?_]+"
)


def redact(text: str) -> str:
    """Return `text` with the user, password, query and fragment of every address in it hidden.

    `rtsp://admin:pw@10.0.0.7/live?token=abc` becomes `rtsp://***@10.0.0.7/live?***`.
    """
    return _ADDRESS.sub(lambda found: _hidden(found.group()), text)


def _hidden(address: str) -> str:
    scheme, _, rest = address.partition("://")
    # A password may contain / ? or #, which should be written as %2F and so on but are not always:
    # where the part before the first @ is no host, everything before the last @ is hidden.
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and ("@" in host or not _is_host(host)):
        rest = f"{HIDDEN}@{rest.rpartition('@')[2]}"
    place, mark, _ = rest.partition("?")
    place, fragment, _ = place.partition("#")
    place = _SECRET_IN_PATH.sub(rf"\1{HIDDEN}", place)
    tail = f"?{HIDDEN}" if mark else f"#{HIDDEN}" if fragment else ""
    return f"{scheme}://{place}{tail}"


def _is_host(text: str) -> bool:
    """Whether `text` is a host with or without a port, such as 10.0.0.7:554 or [::1]:80."""
    return re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:@\[\]]*)(:\d*)?", text) is not None


def hide_arguments(arguments: Sequence[str]) -> None:
    """Hide the secrets in those of this process's `arguments` that are addresses.

    Every user of the computer can read the command line of a process (`ps`), so the copy that the
    kernel shows is overwritten. It has no effect where /proc does not tell where that copy is.
    """
    try:
        shown = Path("/proc/self/cmdline").read_bytes()
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, IndexError, ValueError):
        return
    if end - start != len(shown):
        return
    for argument in arguments:
        raw, hidden = os.fsencode(argument), os.fsencode(redact(argument))
        at = shown.find(b"\0" + raw + b"\0")
        if raw != hidden and at >= 0:
            # Never longer than the argument, so nothing behind it is touched.
            ctypes.memmove(start + at + 1, hidden[: len(raw)].ljust(len(raw), b"\0"), len(raw))
