"""A whole recording: its files, its topics, and its messages in the order of recording."""

from __future__ import annotations

import heapq
import re
import shlex
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from stream_vlm.sources.recordings.mcap_file import MAGIC, McapFile
from stream_vlm.sources.recordings.metadata import NAME, Metadata, read_metadata
from stream_vlm.sources.recordings.sqlite_file import SqliteFile
from stream_vlm.sources.recordings.storage import (
    HEAD_BYTES,
    ZSTD_MAGIC,
    FileError,
    Message,
    StorageFile,
    unpacked,
    zstd,
)
from stream_vlm.sources.source import SourceError

STORAGE_SUFFIXES = (".mcap", ".db3")
CDR = ("cdr", "")
"""How ROS 2 serializes; nothing else is meant where nothing is stated."""


class Recording:
    """A rosbag2 recording: a folder, or one of its storage files.

    Files that are missing or damaged are left out as long as one can be read; `remarks` says so.

    Attributes:
        types: message type by topic.
        stated: number of messages by topic, as metadata.yaml states it, or else the files.
        stated_types: message type by topic, as metadata.yaml states it.

    Raises:
        SourceError: nothing of the recording can be read; the message says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes: list[str] = []
        self._files: list[StorageFile] = []
        self._unpacked: list[TemporaryDirectory[str]] = []
        if not path.exists():
            raise SourceError(f"{path}: no such recording")
        metadata = Metadata()
        try:
            if path.is_dir():
                metadata = read_metadata(path)
                self._open_folder(metadata)
            else:
                self._files.append(self._open_file(path))
        except OSError as error:
            self.close()
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        self._files.sort(key=lambda file: file.start_ns)
        self.stated = metadata.counts
        if not self.stated:
            names = {name for file in self._files for name in file.counts}
            self.stated = {
                name: sum(file.counts.get(name, 0) for file in self._files) for name in names
            }
        self.stated_types = metadata.types
        self._keys: dict[str, list[tuple[StorageFile, list[int]]]] = {}
        self.types = self._sort_topics(metadata.types)

    @property
    def remarks(self) -> list[str]:
        """What is wrong with the recording, as sentences; more may come while it is read."""
        several = len(self._files) > 1
        return self._notes + [
            f"{file.path.name}: {remark}" if several else remark  # type: ignore[attr-defined]
            for file in self._files
            for remark in file.remarks
        ]

    def messages(self, topics: Collection[str], heads_only: bool = False) -> Iterator[Message]:
        """Yield the messages of `topics` in the order in which they were recorded.

        Args:
            topics: names of topics.
            heads_only: give the first `HEAD_BYTES` bytes of each message only, which is quick.
        """
        parts: list[tuple[StorageFile, dict[int, str]]] = []
        for file in self._files:
            names = {
                key: topic
                for topic in topics
                for owner, keys in self._keys.get(topic, ())
                if owner is file
                for key in keys
            }
            if names:
                parts.append((file, names))
        while parts:
            # Files follow each other in time, so only those that overlap are read together.
            together, end_ns = [parts.pop(0)], 0
            end_ns = together[0][0].end_ns
            while parts and parts[0][0].start_ns <= end_ns:
                end_ns = max(end_ns, parts[0][0].end_ns)
                together.append(parts.pop(0))
            streams = [_messages_of(file, names, heads_only) for file, names in together]
            yield from heapq.merge(*streams, key=lambda message: message.recorded_ns)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        for folder in self._unpacked:
            folder.cleanup()

    def _open_folder(self, metadata: Metadata) -> None:
        present = _storage_files(self.path)
        if metadata.remark:
            if not present:
                raise SourceError(_no_recording(self.path, metadata.remark))
            self._notes.append(metadata.remark)
        listed = [self.path / name for name in metadata.files]
        paths = [found for path in listed if (found := _with_or_without_zstd(path)) is not None]
        missing = sorted(path.name for path in listed if _with_or_without_zstd(path) is None)
        if missing:
            self._notes.append(f"{NAME} lists files that are not there: {', '.join(missing)}")
        failed: list[str] = []
        for path in paths or present:
            try:
                self._files.append(self._open_file(path))
            except (FileError, OSError) as error:
                failed.append(f"{path.name}: {str(error).removeprefix(f'{path}: ')}")
        if not self._files:
            raise SourceError(f"{self.path}: {(failed or self._notes)[0]}")
        self._notes += [f"a file is left out: {reason}" for reason in failed]

    def _open_file(self, path: Path) -> StorageFile:
        with path.open("rb") as file:
            begin = file.read(16)
        if begin.startswith(ZSTD_MAGIC):
            return self._open_file(self._unpack(path))
        if begin.startswith(b"#ROSBAG"):
            target = path.with_name(f"{path.stem}_ros2")
            raise FileError(
                f"{path}: a ROS 1 recording; convert it with 'rosbags-convert --src"
                f" {shlex.quote(str(path))} --dst {shlex.quote(str(target))}' and replay {target}"
            )
        if begin.startswith(MAGIC) or path.suffix.lower() == ".mcap":
            return McapFile(path)
        return SqliteFile(path)

    def _unpack(self, path: Path) -> Path:
        folder = TemporaryDirectory(prefix="stream_vlm_")
        self._unpacked.append(folder)
        target = Path(folder.name) / path.stem
        try:
            with zstd.open(path, "rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except (zstd.ZstdError, EOFError) as error:
            self._notes.append(f"{path.name} is compressed and breaks off: {error}")
        return target

    def _sort_topics(self, stated: dict[str, str]) -> dict[str, str]:
        """Return the type of every topic, and note which channels of the files belong to it."""
        types: dict[str, str] = {}
        for file in self._files:
            for topic in file.topics:
                kind = _normal(topic.type or stated.get(topic.name, ""))
                if topic.encoding not in CDR:
                    kind = f"{kind or 'message'} in the encoding '{topic.encoding}'"
                # An image channel counts more than another one of the same name.
                known = types.get(topic.name)
                if known is None or (known != kind and kind.startswith("sensor_msgs/msg/")):
                    types[topic.name] = kind
                    self._keys[topic.name] = []
                if types[topic.name] == kind:
                    keys = self._keys[topic.name]
                    if not keys or keys[-1][0] is not file:
                        keys.append((file, []))
                    keys[-1][1].append(topic.key)
        return types


def _messages_of(file: StorageFile, names: dict[int, str], heads_only: bool) -> Iterator[Message]:
    for key, recorded_ns, data in file.messages(list(names), heads_only):
        content = unpacked(data)
        yield Message(names[key], recorded_ns, content[:HEAD_BYTES] if heads_only else content)


def _normal(kind: str) -> str:
    """Return a message type as ROS 2 writes it: package/msg/Name."""
    parts = [part for part in kind.replace("::", "/").split("/") if part and part != "dds_"]
    if len(parts) == 2:
        parts.insert(1, "msg")
    return "/".join(parts)


def _storage_files(folder: Path) -> list[Path]:
    """Return the storage files in `folder`, by name, numbers by size."""
    paths = [
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.lower().removesuffix(".zstd").endswith(STORAGE_SUFFIXES)
    ]
    return sorted(
        paths, key=lambda path: [part.zfill(20) for part in re.split(r"(\d+)", path.name)]
    )


def _with_or_without_zstd(path: Path) -> Path | None:
    """Return `path` as it is on disk; metadata.yaml may name it with or without its ending."""
    for candidate in (path, path.with_name(path.name + ".zstd"), path.with_suffix("")):
        if candidate.is_file():
            return candidate
    return None


def _no_recording(folder: Path, remark: str) -> str:
    names = [path.name for path in folder.iterdir()]
    ros1 = [name for name in names if name.endswith(".bag")]
    if ros1:
        return f"{folder}: a folder of ROS 1 recordings; give one of its files: {min(ros1)}"
    return f"{folder}: no rosbag2 recording: it has no .mcap or .db3 file ({remark.split(',')[0]})"
