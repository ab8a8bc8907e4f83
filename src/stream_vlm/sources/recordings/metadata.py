"""What a recording's metadata.yaml says, as far as it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from stream_vlm.sources.recordings.storage import YAML

NAME = "metadata.yaml"


@dataclass
class Metadata:
    """The part of metadata.yaml that a reader needs.

    Storage and compression are not taken from it: the files themselves tell, and `ros2 bag reindex`
    may leave these fields empty.

    Attributes:
        files: names of the storage files.
        counts: number of messages by topic.
        types: message type by topic.
        remark: why the file cannot be used, or empty.
    """

    files: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    remark: str = ""


def read_metadata(folder: Path) -> Metadata:
    """Read the metadata of the recording in `folder`; empty where there is none."""
    path = folder / NAME
    if not path.exists():
        return Metadata(remark=f"there is no {NAME}, so its files are read as they are")
    try:
        information = YAML(typ="safe").load(path.read_text("utf-8", "replace"))
        return _taken(information["rosbag2_bagfile_information"])
    except Exception as error:
        # According to where the file is damaged, the parser raises its own errors or others.
        first = (str(error) or type(error).__name__).splitlines()[0]
        return Metadata(
            remark=f"its {NAME} cannot be read ({first}), so its files are read as they are"
        )


def _taken(information: dict[str, Any]) -> Metadata:
    metadata = Metadata([PurePath(str(name)).name for name in information["relative_file_paths"]])
    for entry in information.get("topics_with_message_count") or []:
        topic = entry["topic_metadata"]
        name = str(topic["name"])
        metadata.counts[name] = metadata.counts.get(name, 0) + int(entry["message_count"])
        metadata.types[name] = str(topic["type"] or "")
    return metadata
