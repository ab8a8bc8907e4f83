"""Sources yield frames, stamps and poses as recorded, and report what they cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_fixtures import Storage, write_bag
from places import SHARED

from stream_vlm import extensions
from stream_vlm.sources import SourceError, open_source
from stream_vlm.sources.rosbag import BagSource, camera_name
from stream_vlm.sources.rosbag_writer import BagWriter, Transport
from stream_vlm.sources.ticks import TickReader
from stream_vlm.types import NANOSECONDS, Frame, Pose
from stream_vlm_lab.simulation.source import SimulatedSource

FOOTAGE = SHARED / "footage"


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    image = np.full((height, width, 3), value, dtype=np.uint8)
    image[:, : width // 2, 0] = 255 - value
    return image


def film(
    camera: str = "front", count: int = 20, fps: float = 10.0, first_ns: int = 5 * NANOSECONDS
) -> Iterator[Frame]:
    for index in range(count):
        stamp_ns = first_ns + round(index / fps * NANOSECONDS)
        yield Frame(
            camera,
            stamp_ns,
            f"{camera}_optical",
            picture(index * 10),
            Pose("map", index * 0.1, 2.0, 0.0),
        )


def write_video(path: Path, count: int = 20, fps: float = 10.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for index in range(count):
        writer.write(picture(index * 10)[:, :, ::-1].copy())
    writer.release()
    return path


def test_a_video_file_is_stamped_with_the_timestamps_of_its_container(tmp_path: Path) -> None:
    frames = list(open_source(str(write_video(tmp_path / "clip.mp4"))).frames())
    assert [frame.stamp_ns for frame in frames] == [
        index * NANOSECONDS // 10 for index in range(20)
    ]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8


def test_a_video_file_is_read_as_rgb(tmp_path: Path) -> None:
    first = next(iter(open_source(str(write_video(tmp_path / "clip.mp4"))).frames()))
    red, green, blue = first.image[24, 8].astype(int)
    assert red > 200
    assert green < 60
    assert blue < 60


def test_only_the_requested_length_of_a_video_is_read(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "clip.mp4")), seconds=0.75)
    assert source.duration_s == pytest.approx(0.75)
    assert len(list(source.frames())) == 8


def test_real_footage_has_the_length_its_annotations_say() -> None:
    if not FOOTAGE.is_dir():
        pytest.skip("real footage is not part of the project and is not here")
    clips = json.loads((FOOTAGE / "annotations.json").read_text())["clips"]
    name, clip = min(clips.items(), key=lambda item: item[1]["duration_s"])
    frames = open_source(str(FOOTAGE / name)).frames()
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps[-1] / NANOSECONDS == pytest.approx(clip["duration_s"], abs=0.2)
    assert min(np.diff(stamps)) > 0


def test_a_file_that_is_no_video_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"this is not a video" * 100)
    with pytest.raises(SourceError, match=r"clip\.mp4.*not a video"):
        open_source(str(tmp_path / "clip.mp4"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(SourceError, match="0 bytes"):
        open_source(str(tmp_path / "clip.mp4"))


def test_a_truncated_video_yields_its_frames_and_then_raises(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for index in range(100):
        writer.write(picture(index * 2))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = []
    with pytest.raises(SourceError, match=r"ends after \d+ of 100 frames"):
        for frame in open_source(str(path)).frames():
            seen.append(frame)
    assert 10 < len(seen) < 90


@pytest.mark.parametrize("spec", ["", "no/such/file.mp4", "rtsp-camera", "-1"])
def test_the_error_for_an_unknown_source_lists_the_possible_sources(spec: str) -> None:
    with pytest.raises(SourceError, match=r"video file.*webcam index.*world:SEED.*rosbag2"):
        open_source(spec)


def test_a_webcam_by_its_device_file_is_told_its_number() -> None:
    with pytest.raises(
        SourceError, match=r"^/dev/video3: a webcam is given by its number alone: 3$"
    ):
        open_source("/dev/video3")


def test_a_device_that_is_no_camera_is_no_source() -> None:
    with pytest.raises(SourceError, match=r"^/dev/null: a device or pipe is no source"):
        open_source("/dev/null")


@pytest.mark.parametrize(
    ("name", "says"),
    [("notes.json", "is text"), ("all.ZIP", "is an archive"), ("a.wav", "is sound")],
)
def test_a_file_of_another_kind_is_refused_by_its_kind(
    name: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"x" * 100)
    with pytest.raises(SourceError, match=rf"{name}: {says}, no source.*video file"):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize("suffix", [".jpg", ".PNG"])
def test_a_folder_of_pictures_is_refused_with_the_command_that_makes_a_video(
    suffix: str, tmp_path: Path
) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index:04d}{suffix}").write_bytes(b"x")
    with pytest.raises(
        SourceError,
        match=rf"a folder of pictures is no source.*ffmpeg .*-i '.*my pictures/\*{suffix}' .*mp4",
    ):
        open_source(str(folder))


@pytest.mark.parametrize("spec", ["world:", "world:seven", "world:-1", "world:1.5"])
def test_a_simulated_camera_needs_a_whole_number_as_its_seed(spec: str) -> None:
    with pytest.raises(SourceError, match="is not a seed"):
        open_source(spec)


def test_a_simulated_camera_says_what_to_install_where_the_lab_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extensions, "added", lambda group: {})
    with pytest.raises(SourceError, match=r"world:7: .* needs stream_vlm_lab: pip install"):
        open_source("world:7")


def test_a_source_whose_package_is_incomplete_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("world", "no_such_package:open_it", extensions.SOURCES)
    monkeypatch.setattr(extensions, "added", lambda group: {"world": entry})
    with pytest.raises(SourceError, match=r"world:7: no_such_package is not installed"):
        open_source("world:7")


def test_another_package_adds_a_source_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("room", "stream_vlm_lab.simulation.source:open_simulated", "")
    monkeypatch.setattr(extensions, "added", lambda group: {"room": entry})
    source = open_source("room:7", seconds=2)
    assert isinstance(source, SimulatedSource)
    assert source.duration_s == 2


def test_a_video_file_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    assert len(list(open_source(str(write_video(tmp_path / "at 9:30.mp4"))).frames())) == 20


@pytest.mark.parametrize("seconds", [0.0, -3.0, float("nan")])
def test_a_length_that_is_not_positive_is_refused(seconds: float) -> None:
    with pytest.raises(SourceError, match="above 0"):
        open_source("world:1", seconds=seconds)


def test_a_webcam_that_is_not_there_is_refused_by_its_index() -> None:
    with pytest.raises(SourceError, match="webcam 99"):
        open_source("99")


def test_a_simulated_camera_shows_the_same_stream_for_the_same_seed() -> None:
    once, again = (list(open_source("world:3", seconds=2).frames()) for _ in range(2))
    assert [frame.stamp_ns for frame in once] == [frame.stamp_ns for frame in again]
    assert all(
        np.array_equal(first.image, second.image) for first, second in zip(once, again, strict=True)
    )


def test_a_simulated_camera_can_have_faults_and_drops_frames() -> None:
    source = open_source(
        "world:3:faults=dropped,frozen:faults_per_minute=6:quiet_minutes=2", seconds=30
    )
    assert isinstance(source, SimulatedSource)
    assert source.name == "world-3-faults-dropped-frozen-faults_per_minute-6-quiet_minutes-2"
    world = source.world
    assert {fault.kind for fault in world.faults.all} == {"dropped", "frozen"}
    stamps = [frame.stamp_ns for frame in source.frames()]
    assert stamps == [
        round(index / 10 * NANOSECONDS) for index in range(300) if world.has_picture(index / 10)
    ]
    assert len(stamps) < 300


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("world:3:fog=1", "'fog=1' is not an option"),
        ("world:3:faults", "'faults' is not an option"),
        ("world:3:quiet_minutes=long", "'long' is not a number"),
    ],
)
def test_an_unknown_option_of_a_simulated_camera_is_refused(spec: str, named: str) -> None:
    with pytest.raises(SourceError, match=named):
        open_source(spec)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
class TestARecording:
    def test_keeps_header_stamps_frame_ids_and_pictures(
        self, tmp_path: Path, storage: Storage, transport: Transport
    ) -> None:
        write_bag(tmp_path / "bag", film(), {"front": "/front/image_raw"}, storage, transport)
        frames = list(open_source(str(tmp_path / "bag")).frames())
        expected = list(film())
        assert [(frame.camera, frame.stamp_ns, frame.frame_id) for frame in frames] == [
            (frame.camera, frame.stamp_ns, frame.frame_id) for frame in expected
        ]
        difference = np.abs(frames[3].image.astype(int) - expected[3].image.astype(int))
        assert difference.mean() < (8 if transport == "compressed" else 1e-9)

    def test_gives_each_frame_the_pose_of_its_stamp(
        self, tmp_path: Path, storage: Storage, transport: Transport
    ) -> None:
        write_bag(tmp_path / "bag", film(), {"front": "/front/image_raw"}, storage, transport)
        frames = list(open_source(str(tmp_path / "bag"), odom_topic="/odom").frames())
        assert [frame.pose for frame in frames] == [frame.pose for frame in film()]

    def test_can_be_opened_by_its_file(self, tmp_path: Path, storage: str, transport: str) -> None:
        write_bag(
            tmp_path / "bag",
            film(count=3),
            {"front": "/front/image_raw"},
            storage,  # type: ignore[arg-type]
            transport,  # type: ignore[arg-type]
        )
        file = next(
            path for path in (tmp_path / "bag").iterdir() if path.suffix in (".mcap", ".db3")
        )
        assert len(list(open_source(str(file)).frames())) == 3


def test_a_pose_too_far_from_the_picture_is_not_used(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for frame in film(count=10):
            writer.frame(frame, "/image")
        writer.pose(Pose("map", 1.0, 2.0, 0.0), 5 * NANOSECONDS)
    frames = list(BagSource(tmp_path / "bag", odom_topic="/odom", pose_max_age_s=0.25).frames())
    assert [frame.pose is not None for frame in frames] == [True] * 3 + [False] * 7


def test_a_picture_between_two_recorded_poses_lies_between_them(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for frame in film(count=10):
            writer.frame(frame, "/image")
        writer.pose(Pose("map", 1.0, 0.0, 0.0), 5 * NANOSECONDS)
        writer.pose(Pose("map", 2.0, 0.0, 0.0), 6 * NANOSECONDS)
    frames = list(BagSource(tmp_path / "bag", odom_topic="/odom", pose_max_age_s=1.0).frames())
    assert [frame.pose.x for frame in frames if frame.pose] == pytest.approx(
        [1.0 + index / 10 for index in range(10)]
    )


def test_every_picture_of_a_long_recording_finds_its_pose(tmp_path: Path) -> None:
    """Longer than the poses of a buffer reach back."""
    with BagWriter(tmp_path / "bag") as writer:
        for second in range(1, 400):
            writer.pose(Pose("map", float(second), 0.0, 0.0), second * NANOSECONDS)
        for second in range(1, 400, 20):
            stamp_ns = second * NANOSECONDS + NANOSECONDS // 2
            writer.frame(Frame("front", stamp_ns, "", picture(0)), "/front")
    frames = BagSource(tmp_path / "bag", odom_topic="/odom", pose_max_age_s=60.0).frames()
    assert [frame.pose.x for frame in frames if frame.pose] == pytest.approx(
        [second + 0.5 for second in range(1, 400, 20)]
    )


def test_recorded_odometry_that_is_no_pose_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for frame in film(count=10):
            writer.frame(frame, "/image")
            writer.pose(Pose("", 1.0, 2.0, 0.0), frame.stamp_ns)
    frames = list(BagSource(tmp_path / "bag", odom_topic="/odom").frames())
    assert [frame.pose for frame in frames] == [None] * 10
    assert caplog.text.count("a pose has no frame_id") == 1


def test_every_camera_of_a_recording_is_read_unless_topics_are_chosen(tmp_path: Path) -> None:
    frames = sorted([*film("left"), *film("right")], key=lambda frame: frame.stamp_ns)
    topics = {"left": "/robot/left/image_raw", "right": "/robot/right/image_raw"}
    write_bag(tmp_path / "bag", frames, topics)
    assert open_source(str(tmp_path / "bag")).cameras == ("robot_left", "robot_right")
    assert open_source(str(tmp_path / "bag"), topics=["/robot/right/image_raw"]).cameras == (
        "robot_right",
    )


@pytest.mark.parametrize(
    ("topics", "odom", "complaint"),
    [
        (
            ["/nothing"],
            "",
            r"/nothing is not in the bag; its image topics are \['/front/image_raw'\]",
        ),
        (["/odom"], "", "/odom is a nav_msgs/msg/Odometry, not an image topic"),
        (
            [],
            "/front/image_raw",
            r"is not a nav_msgs/msg/Odometry topic; the bag's are \['/odom'\]",
        ),
    ],
)
def test_the_error_for_an_unknown_topic_lists_the_topics_of_the_recording(
    tmp_path: Path, topics: list[str], odom: str, complaint: str
) -> None:
    write_bag(tmp_path / "bag", film(count=3), {"front": "/front/image_raw"})
    with pytest.raises(SourceError, match=complaint):
        open_source(str(tmp_path / "bag"), topics=topics, odom_topic=odom)


def test_a_damaged_picture_in_a_recording_is_skipped_and_counted(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", transport="compressed") as writer:
        for frame in film(count=4):
            writer.frame(frame, "/front/image/compressed")
        header = writer.header(6 * NANOSECONDS, "front_optical")
        broken = writer.make(
            "sensor_msgs/msg/CompressedImage",
            header=header,
            format="jpeg",
            data=np.arange(50, dtype=np.uint8),
        )
        writer.message("/front/image/compressed", 6 * NANOSECONDS, broken)
    source = BagSource(tmp_path / "bag")
    assert len(list(source.frames())) == 4
    assert source.unreadable == {"front": 1}


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", film(count=1), {"front": "/image"})
    with pytest.raises(SourceError, match="exists already"):
        write_bag(tmp_path / "bag", film(count=1), {"front": "/image"})


def test_a_folder_that_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"metadata\.yaml"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_corrupt_recording_is_refused(tmp_path: Path, storage: Storage) -> None:
    write_bag(tmp_path / "bag", film(count=3), {"front": "/image"}, storage)
    for file in (tmp_path / "bag").iterdir():
        if file.suffix in (".mcap", ".db3"):
            file.write_bytes(b"\x00" * 4096)
    with pytest.raises(SourceError, match="bag: "):
        list(open_source(str(tmp_path / "bag")).frames())


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/front/image_raw", "front"),
        ("/front/image_raw/compressed", "front"),
        ("/robot1/left/image", "robot1_left"),
        ("/image_raw", "image_raw"),
        ("/2d/image", "camera_2d"),
        ("/cam-1/color/image_raw", "cam_1_color"),
    ],
)
def test_a_camera_is_named_after_its_topic(topic: str, name: str) -> None:
    assert camera_name(topic) == name


def test_a_tick_takes_the_first_frame_of_its_period() -> None:
    reader = TickReader(film(count=20), rate_hz=2.0)
    ticks = list(reader)
    assert [(tick.stamp_ns - 5 * NANOSECONDS) / NANOSECONDS for tick in ticks] == [
        0.0,
        0.5,
        1.0,
        1.5,
    ]
    assert [tick.index for tick in ticks] == [0, 1, 2, 3]
    assert reader.seen == 20


def test_a_tick_groups_the_cameras_of_its_period() -> None:
    frames = sorted(
        [*film("left"), *film("right", first_ns=5 * NANOSECONDS + 7_000_000)],
        key=lambda frame: frame.stamp_ns,
    )
    ticks = list(TickReader(frames, rate_hz=2.0))
    assert [[frame.camera for frame in tick.frames] for tick in ticks] == [["left", "right"]] * 4


def test_a_camera_that_starts_late_joins_with_its_first_frame() -> None:
    frames = sorted(
        [*film("left"), *film("right", first_ns=6 * NANOSECONDS, count=10)],
        key=lambda frame: frame.stamp_ns,
    )
    ticks = list(TickReader(frames, rate_hz=2.0))
    assert [len(tick.frames) for tick in ticks] == [1, 1, 2, 2]


def test_a_repeated_stamp_is_skipped_and_counted() -> None:
    frames = [frame for frame in film(count=4) for _ in range(2)]
    reader = TickReader(frames, rate_hz=10.0)
    assert len(list(reader)) == 4
    assert reader.stale == 4


def test_a_recording_whose_clock_jumps_back_is_refused() -> None:
    with pytest.raises(SourceError, match=r"jump back by 1\.9 s"):
        list(TickReader([*film(), *film()], rate_hz=2.0))


def test_a_recording_without_a_readable_picture_is_refused_with_the_reason(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        data = np.arange(12, dtype=np.uint8)
        shape = {"height": 2, "width": 2, "step": 6, "is_bigendian": 0}
        image = writer.make(
            "sensor_msgs/msg/Image",
            header=writer.header(NANOSECONDS, ""),
            encoding="rgb9",
            data=data,
            **shape,
        )
        writer.message("/front/image", NANOSECONDS, image)
    with pytest.raises(SourceError, match=r"no frame can be decoded: .*'rgb9'"):
        list(open_source(str(tmp_path / "bag")).frames())
