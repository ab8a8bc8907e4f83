"""A folder is read by its files; what its metadata leaves out or gets wrong does no harm."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from mcap_fixtures import Channel, McapFile, film
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from stream_vlm.sources import SourceError
from stream_vlm.sources.recordings.recording import Recording

TOPIC = "/cam/image_raw"
MESSAGES = list(film().messages)


def write_folder(path: Path, storage: str = "mcap", compression: str = "none") -> Path:
    """A rosbag2 folder as rosbags writes it."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression != "none":
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(
            TOPIC, "sensor_msgs/msg/Image", typestore=get_typestore(Stores.ROS2_JAZZY)
        )
        for recorded_ns, data in MESSAGES:
            writer.write(connection, recorded_ns, data)
    return path


def read(path: Path, topic: str = TOPIC) -> list[tuple[int, bytes]]:
    recording = Recording(path)
    rows = [(message.recorded_ns, message.data) for message in recording.messages([topic])]
    heads = list(recording.messages([topic], heads_only=True))
    assert [(head.recorded_ns, head.data) for head in heads] == [(t, d[:16]) for t, d in rows]
    recording.close()
    return rows


def change_metadata(folder: Path, pattern: str, text: str) -> None:
    path = folder / "metadata.yaml"
    changed = re.sub(pattern, text, path.read_text(), flags=re.MULTILINE)
    assert changed != path.read_text()
    path.write_text(changed)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "file", "message"])
def test_every_storage_and_compression_is_read(
    tmp_path: Path, storage: str, compression: str
) -> None:
    folder = write_folder(tmp_path / "bag", storage, compression)
    assert read(folder) == MESSAGES
    recording = Recording(folder)
    assert recording.stated == {TOPIC: 20}
    assert recording.types == {TOPIC: "sensor_msgs/msg/Image"}
    assert recording.remarks == []
    recording.close()
    (folder / "metadata.yaml").unlink()
    assert read(folder) == MESSAGES


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("storage_identifier: .*", "storage_identifier: ''"),
        (".*storage_identifier: .*\n", ""),
        ("storage_identifier: .*", "storage_identifier: other"),
        ("  version: .*", "  version: 77"),
        (".*compression_(format|mode): .*\n", ""),
        ("type_description_hash:.*(\n +RIHS.*)?", "type_description_hash: wrong"),
        ("serialization_format: cdr", "serialization_format: ''"),
    ],
)
def test_a_field_of_the_metadata_that_is_empty_or_wrong_does_no_harm(
    tmp_path: Path, storage: str, pattern: str, text: str
) -> None:
    folder = write_folder(tmp_path / "bag", storage)
    change_metadata(folder, pattern, text)
    assert read(folder) == MESSAGES
    assert Recording(folder).remarks == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "rosbag2_bagfile_information:\n", "\0\1", "a: b"]
)
def test_metadata_that_cannot_be_read_is_told_and_the_files_are_read(
    tmp_path: Path, content: str
) -> None:
    folder = write_folder(tmp_path / "bag")
    (folder / "metadata.yaml").write_text(content)
    assert read(folder) == MESSAGES
    assert "metadata.yaml cannot be read" in Recording(folder).remarks[0]


@pytest.mark.parametrize(
    "name", ["run#1", "50%41", "what?", "a b", "küche", os.fsdecode(b"k\xfcche")]
)
def test_any_character_may_be_in_the_path(tmp_path: Path, name: str) -> None:
    for storage in ("mcap", "sqlite3"):
        (tmp_path / storage).mkdir()
        # Written elsewhere: the writer of rosbags cannot.
        folder = write_folder(tmp_path / storage / "plain", storage)
        folder = folder.rename(tmp_path / storage / name)
        assert read(folder) == MESSAGES
        assert read(next(file for file in folder.iterdir() if file.suffix != ".yaml")) == MESSAGES


def split(folder: Path, order: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A folder with several files, whose metadata lists them."""
    folder.mkdir()
    for number, place in enumerate(order):
        part = MESSAGES[place * 7 : place * 7 + 7]
        McapFile([Channel(TOPIC, part)]).write(folder / f"a_{number}.mcap")
    names = "".join(f"  - a_{number}.mcap\n" for number in range(len(order)))
    (folder / "metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  relative_file_paths:\n{names}"
        f"  topics_with_message_count:\n  - message_count: 20\n    topic_metadata:\n"
        f"      name: {TOPIC}\n      type: sensor_msgs/msg/Image\n"
    )
    return folder


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_files_of_a_split_recording_follow_each_other_in_time(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    assert read(split(tmp_path / "bag", order)) == MESSAGES


def test_files_that_overlap_in_time_are_merged(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    for number in range(3):
        McapFile([Channel(TOPIC, MESSAGES[number::3])]).write(tmp_path / f"bag/a_{number}.mcap")
    assert read(tmp_path / "bag") == MESSAGES


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "not there: a_1.mcap"), (b"", "empty"), (b"\0" * 900, "not an MCAP file")],
)
def test_a_file_that_is_missing_or_damaged_costs_no_other_file(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    folder = split(tmp_path / "bag")
    (folder / "a_1.mcap").unlink()
    if content is not None:
        (folder / "a_1.mcap").write_bytes(content)
    assert read(folder) == MESSAGES[:7] + MESSAGES[14:]
    remark = Recording(folder).remarks[0]
    assert "a_1.mcap" in remark
    assert reason in remark


def test_files_that_the_metadata_names_wrongly_are_found_all_the_same(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bag")
    shutil.move(folder / "bag.mcap", folder / "other.mcap")
    assert read(folder) == MESSAGES
    assert "not there: bag.mcap" in Recording(folder).remarks[0]


def test_the_type_of_a_channel_without_a_schema_is_taken_from_the_metadata(tmp_path: Path) -> None:
    folder = split(tmp_path / "bag")
    for file in folder.glob("*.mcap"):
        file.unlink()
    McapFile([film(has_schema=False)]).write(folder / "a_0.mcap")
    assert read(folder) == MESSAGES


@pytest.mark.parametrize("kind", ["sensor_msgs/Image", "sensor_msgs::msg::dds_::Image"])
def test_a_type_in_another_spelling_is_the_same_type(tmp_path: Path, kind: str) -> None:
    path = McapFile([film(type=kind)]).write(tmp_path / "a.mcap")
    assert Recording(path).types == {TOPIC: "sensor_msgs/msg/Image"}


def test_a_channel_that_states_no_encoding_is_read_as_ros_2_does(tmp_path: Path) -> None:
    assert read(McapFile([film(encoding="")]).write(tmp_path / "a.mcap")) == MESSAGES


def test_a_topic_of_two_types_gives_its_pictures(tmp_path: Path) -> None:
    other: Any = Channel(TOPIC, [(0, b"\0\1\0\0")], "std_msgs/msg/String")
    for channels in ([other, film()], [film(), other]):
        assert read(McapFile(channels).write(tmp_path / "a.mcap")) == MESSAGES


def test_a_topic_of_several_publishers_gives_the_messages_of_all(tmp_path: Path) -> None:
    channels = [Channel(TOPIC, MESSAGES[start::2]) for start in (0, 1)]
    assert read(McapFile(channels).write(tmp_path / "a.mcap")) == MESSAGES


def test_a_ros_1_recording_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    with pytest.raises(SourceError, match=r"ROS 1.*rosbags-convert --src .*old\.bag --dst .*_ros2"):
        Recording(tmp_path / "old.bag")
    with pytest.raises(SourceError, match=r"ROS 1 recordings.*old\.bag"):
        Recording(tmp_path)


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \.mcap or \.db3 file"):
        Recording(tmp_path)
    with pytest.raises(SourceError, match="no such recording"):
        Recording(tmp_path / "missing")
