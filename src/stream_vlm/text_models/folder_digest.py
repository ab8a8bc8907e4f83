"""The digest of a model's files: the same files are the same model in any folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

ENDINGS = (".json", ".txt", ".model", ".safetensors", ".bin", ".jinja")
"""Files that decide what a model computes: weights, settings, vocabulary."""

OTHER_FORMATS = ("onnx", "openvino")
"""Folders with the same weights for other programs; they are not read."""

CHUNK_BYTES = 2**20


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the model files in `folder`, of their names and contents.

    Hidden files and those for other programs do not count.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
        name = file.relative_to(folder)
        if file.suffix not in ENDINGS or not file.is_file():
            continue
        if any(part.startswith(".") or part in OTHER_FORMATS for part in name.parts):
            continue
        contents = hashlib.sha256()
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                contents.update(chunk)
        digest.update(f"{contents.hexdigest()}  {name.as_posix()}\n".encode())
    return digest.hexdigest()
