"""An MCAP file is read whatever else is in it, and as far as it is whole."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from mcap_fixtures import Channel, McapFile, film

from stream_vlm.sources import SourceError
from stream_vlm.sources.recordings import mcap_file

OTHERS = {
    "json": Channel(
        "/j", [(0, b"{}")], "Thing", "jsonschema", b'{"type": "object"}', encoding="json"
    ),
    "protobuf": Channel(
        "/p", [(0, b"\x08\x01")], "foo.Bar", "protobuf", b"\x0a\xff\xfe", encoding="protobuf"
    ),
    "flatbuffer": Channel(
        "/f", [(0, b"\x10")], "foo.Bar", "flatbuffer", b"\x80\x81", encoding="flatbuffer"
    ),
    "ROS 1": Channel(
        "/r", [(0, b"")], "sensor_msgs/Image", "ros1msg", b"uint32 seq", encoding="ros1"
    ),
    "a definition that does not parse": Channel("/b", [(0, b"")], "a/msg/B", definition=b"{{ !"),
    "an empty definition": Channel("/e", [(0, b"")], "a/msg/E"),
    "no definition": Channel("/n", [(0, b"")], has_schema=False),
    "IDL": Channel("/i", [(0, b"")], "a/msg/I", "ros2idl", b"module a { struct ..."),
    "an unknown schema": Channel("/u", [(0, b"")], "a/msg/U", "no such thing", b"?"),
    "a service event": Channel("/s/_service_event", [(0, b"")], "a/srv/S_Event"),
    "an action": Channel("/a/_action/feedback", [(0, b"")], "a/action/A_FeedbackMessage"),
    "a type without a package": Channel("/o", [(0, b"")], ""),
}


def read(path: Path, topic: str = "/cam/image_raw") -> list[tuple[int, bytes]]:
    file = mcap_file.McapFile(path)
    keys = [entry.key for entry in file.topics if entry.name == topic]
    rows = [(time, data) for _, time, data in file.messages(keys, heads_only=False)]
    heads = [(time, data) for _, time, data in file.messages(keys, heads_only=True)]
    assert heads == [(time, data[:16]) for time, data in rows]
    file.close()
    return rows


@pytest.mark.parametrize("per_chunk", [0, 4])
@pytest.mark.parametrize("other", OTHERS)
def test_a_channel_of_another_kind_beside_the_camera_is_passed_over(
    tmp_path: Path, other: str, per_chunk: int
) -> None:
    camera = film()
    path = McapFile([OTHERS[other], camera], per_chunk=per_chunk).write(tmp_path / "a.mcap")
    assert read(path) == list(camera.messages)


@pytest.mark.parametrize("compression", ["", "zstd"])
@pytest.mark.parametrize("per_chunk", [0, 1, 7, 100])
@pytest.mark.parametrize("profile", ["", "ros2"])
@pytest.mark.parametrize("has_summary", [True, False])
def test_every_way_of_writing_a_file_gives_the_same_messages(
    tmp_path: Path, compression: str, per_chunk: int, profile: str, has_summary: bool
) -> None:
    camera = film()
    writer = McapFile([camera], profile, compression, per_chunk, has_summary)
    file = mcap_file.McapFile(writer.write(tmp_path / "a.mcap"))
    assert file.remarks == []
    assert (file.start_ns, file.end_ns) == (camera.messages[0][0], camera.messages[-1][0])
    assert read(tmp_path / "a.mcap") == list(camera.messages)


def test_messages_of_a_file_without_chunks_come_in_order_of_recording(tmp_path: Path) -> None:
    camera = film()
    data = McapFile([camera], per_chunk=0).content()
    other = McapFile([Channel("/cam/image_raw", camera.messages[::-1])], per_chunk=0).content()
    assert len(data) == len(other)
    (tmp_path / "a.mcap").write_bytes(other)
    assert read(tmp_path / "a.mcap") == list(camera.messages)


def test_a_chunk_that_the_index_has_lost_is_found_all_the_same(tmp_path: Path) -> None:
    camera = film()
    data = bytearray(McapFile([camera]).content())
    summary = int.from_bytes(data[-28:-20], "little")
    place = data.index(b"\x08\x44\0\0\0\0\0\0\0", summary)
    data[place] = 0x77  # a record that nobody knows
    (tmp_path / "a.mcap").write_bytes(bytes(data))
    assert read(tmp_path / "a.mcap") == list(camera.messages)


def test_chunks_that_do_not_state_their_times_are_read(tmp_path: Path) -> None:
    camera = film()
    path = McapFile([camera], has_times=False).write(tmp_path / "a.mcap")
    assert read(path) == list(camera.messages)


def test_a_file_whose_end_was_filled_with_zeros_gives_what_is_whole(tmp_path: Path) -> None:
    camera = film()
    writer = McapFile([camera], has_end=False)
    data = writer.content()[: writer.chunk_starts[3] + 20]
    (tmp_path / "a.mcap").write_bytes(data + bytes(5000))
    assert read(tmp_path / "a.mcap") == list(camera.messages)[:12]


@pytest.mark.parametrize("compression", ["", "zstd"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.99])
def test_a_file_that_was_cut_gives_its_whole_chunks_and_says_so(
    tmp_path: Path, compression: str, share: float
) -> None:
    camera = film()
    writer = McapFile([camera], compression=compression, has_end=False)
    data = writer.content()
    data = data[: int(len(data) * share)]
    (tmp_path / "a.mcap").write_bytes(data)
    starts = [*writer.chunk_starts, len(writer.content())]
    whole = sum(end <= len(data) for end in starts[1:])
    assert read(tmp_path / "a.mcap") == list(camera.messages)[: 4 * whole]
    remarks = mcap_file.McapFile(tmp_path / "a.mcap").remarks
    assert "not closed properly" in remarks[0]
    assert "mcap recover a.mcap" in remarks[0]


def test_a_file_cut_at_any_byte_never_breaks_the_reader(tmp_path: Path) -> None:
    data = McapFile([film(), OTHERS["protobuf"]], compression="").content()
    for size in random.Random(7).sample(range(len(data)), 60):
        (tmp_path / "a.mcap").write_bytes(data[:size])
        with contextlib.suppress(SourceError):
            read(tmp_path / "a.mcap")


def test_a_file_with_any_damaged_byte_never_breaks_the_reader(tmp_path: Path) -> None:
    data = McapFile([film(), OTHERS["json"]]).content()
    chance = random.Random(8)
    for place in chance.sample(range(len(data)), 80):
        damaged = bytearray(data)
        damaged[place] ^= chance.randrange(1, 256)
        (tmp_path / "a.mcap").write_bytes(bytes(damaged))
        with contextlib.suppress(SourceError):
            read(tmp_path / "a.mcap")


def test_a_damaged_chunk_costs_no_other_chunk(tmp_path: Path) -> None:
    camera = film()
    writer = McapFile([camera])
    data = bytearray(writer.content())
    place = writer.chunk_starts[2] + 70
    data[place : place + 8] = b"\xff" * 8
    (tmp_path / "a.mcap").write_bytes(bytes(data))
    file = mcap_file.McapFile(tmp_path / "a.mcap")
    times = [time for _, time, _ in file.messages([1], heads_only=False)]
    assert times == [time for time, _ in [*camera.messages[:8], *camera.messages[12:]]]
    assert "damaged" in file.remarks[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"not an mcap file at all", "not an MCAP file"),
        (b"\x89MCAP0\r\n", "not closed properly"),
    ],
)
def test_a_file_with_nothing_in_it_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        mcap_file.McapFile(tmp_path / "a.mcap")
