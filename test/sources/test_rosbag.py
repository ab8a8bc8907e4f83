"""A recording gives every picture in it; what is none is left out, counted and named."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from mcap_fixtures import Channel, McapFile, film, image_bytes

from stream_vlm.sources import SourceError
from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.rosbag import BagSource
from stream_vlm.sources.rosbag_writer import BagWriter
from stream_vlm.sources.ticks import TickReader
from stream_vlm.types import NANOSECONDS, Frame, Pose

WALL = 1_700_000_000.0
STEADY = [index / 2 for index in range(20)]


def recording(folder: Path, *channels: Channel) -> Path:
    return McapFile(channels).write(folder / "a.mcap")


def stamps_s(frames: Sequence[Frame]) -> list[float]:
    return [frame.stamp_ns / NANOSECONDS for frame in frames]


BAD = {
    "cut short": image_bytes(NANOSECONDS)[:90],
    "empty": b"",
    "another serialization": b"\xff\xff" + image_bytes(NANOSECONDS)[2:],
    "a header only": image_bytes(NANOSECONDS)[:24],
    "an unknown encoding": image_bytes(NANOSECONDS, encoding="rgb9"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("places", [[0], [7], [19], [4, 5, 6]])
def test_a_message_that_is_no_picture_is_left_out_and_counted(
    tmp_path: Path, bad: str, places: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    camera = film(stamps_s=[WALL + time for time in STEADY])
    rows = list(camera.messages)
    for place in places:
        # The head stays true, where there is one.
        head = rows[place][1][:12] if BAD[bad][:2] == b"\0\1" else BAD[bad][:12]
        rows[place] = (rows[place][0], head + BAD[bad][12:])
    source = BagSource(recording(tmp_path, Channel(camera.topic, rows)))
    assert len(list(source.frames())) == 20 - len(places)
    assert source.left_out == {"cam": {"no picture": len(places)}}
    assert source.unreadable == {"cam": len(places)}
    assert caplog.text.count("frame skipped") == 1


def test_where_no_message_is_a_picture_the_reason_is_the_error(tmp_path: Path) -> None:
    rows = [(recorded_ns, data[:50]) for recorded_ns, data in film().messages]
    source = BagSource(recording(tmp_path, Channel("/cam/image_raw", rows)))
    with pytest.raises(SourceError, match="no frame can be decoded: cam: no sensor_msgs/msg/Image"):
        list(source.frames())


def test_a_frame_id_that_is_no_utf8_keeps_its_picture(tmp_path: Path) -> None:
    rows = [(t, data.replace(b"cam\0", b"k\xfc\xdf\0")) for t, data in film().messages]
    frames = list(BagSource(recording(tmp_path, Channel("/cam/image_raw", rows))).frames())
    assert {frame.frame_id for frame in frames} == {"k��"}
    assert len(frames) == 20


def test_only_the_chosen_topic_needs_to_be_a_picture(tmp_path: Path) -> None:
    path = recording(tmp_path, film(), film("/other/image_raw", encoding="ros1"))
    assert BagSource(path).cameras == ("cam",)
    with pytest.raises(SourceError, match=r"/other/image_raw is a .* in the encoding 'ros1'"):
        BagSource(path, ["/other/image_raw"])


def test_a_topic_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = recording(tmp_path, film(), film("/other/image_raw"))
    with pytest.raises(SourceError, match="/cam/image_raw is given twice; name each topic once"):
        BagSource(path, ["/cam/image_raw", "/other/image_raw", "/cam/image_raw"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_topic_and_its_compressed_form_are_refused_together(tmp_path: Path, order: int) -> None:
    compressed = Channel("/cam/image_raw/compressed", [], "sensor_msgs/msg/CompressedImage")
    path = recording(tmp_path, film(), compressed)
    with pytest.raises(SourceError, match="are two forms of the same pictures; name one of them"):
        BagSource(path, ["/cam/image_raw", "/cam/image_raw/compressed"][::order])
    assert BagSource(path, ["/cam/image_raw"]).cameras == ("cam",)


def test_a_raw_topic_without_messages_gives_way_to_the_compressed_one(tmp_path: Path) -> None:
    jpeg = Channel("/cam/image_raw/compressed", [(5, b"-")], "sensor_msgs/msg/CompressedImage")
    path = recording(tmp_path, Channel("/cam/image_raw", []), jpeg)
    assert BagSource(path).topics == {"cam": "/cam/image_raw/compressed"}
    assert BagSource(recording(tmp_path, film(), jpeg)).topics == {"cam": "/cam/image_raw"}


def test_a_recording_without_pictures_names_its_topics_and_their_types(tmp_path: Path) -> None:
    path = recording(tmp_path, film("/a", type="std_msgs/msg/String"), film("/b", encoding="json"))
    with pytest.raises(SourceError, match=r"among /a \(std_msgs/msg/String\), /b \(.*'json'\)"):
        BagSource(path)


@pytest.mark.parametrize(
    ("header", "first"),
    [(STEADY, 0.0), ([t - 5 for t in STEADY], -5.0), ([0.0] * 20, WALL), (STEADY[:10] * 2, WALL)],
)
def test_every_picture_is_watched_on_the_clock_of_its_topic(
    tmp_path: Path, header: list[float], first: float
) -> None:
    source = BagSource(recording(tmp_path, film(stamps_s=header)))
    ticks = list(TickReader(source.frames(), 2.0))
    assert [tick.stamp_ns / NANOSECONDS for tick in ticks] == [first + t for t in STEADY]
    assert source.duration_s == pytest.approx(9.5)
    assert source.left_out == {}


@pytest.mark.parametrize("ahead_s", [3600.0, -86400.0])
def test_a_stamp_off_the_clock_is_left_out_and_counted(tmp_path: Path, ahead_s: float) -> None:
    header = [WALL + time + ahead_s * (index == 6) for index, time in enumerate(STEADY)]
    source = BagSource(recording(tmp_path, film(stamps_s=header)))
    ticks = list(TickReader(source.frames(), 2.0))
    assert stamps_s([tick.frames[0] for tick in ticks]) == [*header[:6], *header[7:]]
    assert source.left_out == {"cam": {"stamp off the clock": 1}}


def two_clocks(folder: Path) -> Path:
    return recording(
        folder,
        film("/a/image_raw", [5000 + time for time in STEADY]),
        film("/b/image_raw", [WALL + time for time in STEADY]),
    )


@pytest.mark.parametrize(("seconds", "count"), [(5.0, 10), (None, 20)])
def test_cameras_on_different_clocks_are_watched_side_by_side(
    tmp_path: Path, seconds: float | None, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    source = BagSource(two_clocks(tmp_path), seconds=seconds)
    ticks = list(TickReader(source.frames(), 2.0))
    assert [len(tick.frames) for tick in ticks] == [2] * count
    assert ticks[-1].stamp_ns - ticks[0].stamp_ns == (count - 1) * NANOSECONDS // 2
    assert "/a/image_raw and /b/image_raw differ by 53.9 years" in caplog.text
    assert "--topic" in caplog.text


def test_a_camera_chosen_alone_keeps_its_own_clock(tmp_path: Path) -> None:
    frames = list(BagSource(two_clocks(tmp_path), ["/a/image_raw"]).frames())
    assert stamps_s(frames) == [5000 + time for time in STEADY]


@pytest.mark.parametrize("speed", [0.1, 1.0, 10.0])
def test_a_length_is_measured_by_the_stamps_of_a_simulation(tmp_path: Path, speed: float) -> None:
    header = [index / 2 for index in range(400)]
    recorded = [WALL + time / speed for time in header]
    source = BagSource(recording(tmp_path, film(stamps_s=header, recorded_s=recorded)), seconds=60)
    assert stamps_s(list(source.frames())) == header[:120]


def test_what_comes_after_the_asked_for_part_is_not_counted(tmp_path: Path) -> None:
    rows = list(film().messages)
    rows[15] = (rows[15][0], b"")
    source = BagSource(recording(tmp_path, Channel("/cam/image_raw", rows)), seconds=5)
    assert len(list(source.frames())) == 10
    assert source.left_out == {}


def test_fewer_pictures_than_the_metadata_promises_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(4):
            writer.message("/cam", index, writer.make("std_msgs/msg/String", data="-"))
    metadata = tmp_path / "bag" / "metadata.yaml"
    text = metadata.read_text().replace("std_msgs/msg/String", "sensor_msgs/msg/Image")
    metadata.write_text(text.replace("message_count: 4", "message_count: 25"))
    McapFile([film("/cam")]).write(tmp_path / "bag" / "bag.mcap")
    source = BagSource(tmp_path / "bag")
    assert len(list(source.frames())) == 20
    assert source.left_out == {"cam": {"missing in the files": 5}}
    assert "the recording states 25 messages of /cam, 20 are there" in caplog.text


def written_poses(folder: Path, times: list[float]) -> list[bytes]:
    """Serialized odometry whose x counts from 0."""
    with BagWriter(folder / "poses") as writer:
        for index, time in enumerate(times):
            writer.pose(Pose("map", float(index), 0.0, 0.0), round(time * NANOSECONDS))
    return [message.data for message in Recording(folder / "poses").messages(["/odom"])]


@pytest.mark.parametrize("odometry_base", [WALL, 0.0, 5000.0])
def test_poses_are_found_whatever_clock_they_are_on(tmp_path: Path, odometry_base: float) -> None:
    odometry = written_poses(tmp_path, [odometry_base + time for time in STEADY])
    path = recording(
        tmp_path,
        film(stamps_s=[WALL + time for time in STEADY]),
        Channel(
            "/odom",
            [
                (round((WALL + time) * NANOSECONDS), data)
                for time, data in zip(STEADY, odometry, strict=True)
            ],
            "nav_msgs/msg/Odometry",
        ),
    )
    frames = list(BagSource(path, odom_topic="/odom").frames())
    found = [frame.pose.x if frame.pose else math.nan for frame in frames]
    assert found == pytest.approx([float(index) for index in range(20)], abs=0.01)


def test_odometry_that_is_cut_short_or_off_its_clock_is_left_out_and_counted(
    tmp_path: Path,
) -> None:
    header = [WALL + time + 3600 * (index == 9) for index, time in enumerate(STEADY)]
    odometry = written_poses(tmp_path, header)
    odometry[3] = odometry[3][:100]
    path = recording(
        tmp_path,
        film(stamps_s=[WALL + time for time in STEADY]),
        Channel(
            "/odom",
            [
                (round((WALL + time) * NANOSECONDS), data)
                for time, data in zip(STEADY, odometry, strict=True)
            ],
            "nav_msgs/msg/Odometry",
        ),
    )
    source = BagSource(path, odom_topic="/odom", pose_max_age_s=0.6)
    frames = list(source.frames())
    found = [frame.pose.x if frame.pose else math.nan for frame in frames]
    assert found == pytest.approx([float(index) for index in range(20)], abs=0.01)
    assert source.left_out == {"/odom": {"no pose": 1, "stamp off the clock": 1}}


@pytest.mark.parametrize("name", ["run#1", "50%41", "what?"])
def test_a_recording_is_written_where_it_says_or_not_at_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"cannot be written to a path with"):
        BagWriter(tmp_path / name, "sqlite3")
    with BagWriter(tmp_path / name) as writer:
        writer.frame(Frame("cam", 1, "", np.zeros((4, 4, 3), np.uint8)), "/cam")
    assert len(list(BagSource(tmp_path / name).frames())) == 1


def test_where_nothing_whole_is_left_the_damage_is_the_reason(tmp_path: Path) -> None:
    writer = McapFile([film()], per_chunk=100)
    data = bytearray(writer.content())
    data[writer.chunk_starts[0] + 60 : writer.chunk_starts[0] + 120] = bytes(60)
    (tmp_path / "a.mcap").write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"no frame can be decoded: .*damaged"):
        list(BagSource(tmp_path / "a.mcap").frames())


@pytest.mark.parametrize("per_chunk", [0, 4])
@pytest.mark.parametrize("compression", ["", "zstd"])
def test_damage_never_costs_a_picture_without_a_word(
    tmp_path: Path, compression: str, per_chunk: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = McapFile([film()], compression=compression, per_chunk=per_chunk).content()
    chance = random.Random(11)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 3))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "a.mcap").write_bytes(bytes(damaged))
        caplog.clear()
        try:
            source = BagSource(tmp_path / "a.mcap")
            count = len(list(source.frames()))
        except SourceError:
            continue
        assert count == 20 or source.left_out or caplog.text
