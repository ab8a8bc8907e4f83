"""Packets of a camera's video become pictures, from a key frame on, live and from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from video_fixtures import picture

from stream_vlm.sources import SourceError, open_source, pyav_decoding
from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    decode_picture,
    decode_with_rosbags,
)
from stream_vlm.sources.rosbag import BagSource
from stream_vlm.sources.rosbag_writer import BagWriter
from stream_vlm.sources.video_packets import LiveVideo, Packet, VideoPackets, packet_codec
from stream_vlm.types import NANOSECONDS

av = pytest.importorskip("av", reason="PyAV is not installed")

ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp8": "libvpx"}
LOW_DELAY = {
    "h264": {"tune": "zerolatency", "x264-params": "annexb=1:repeat-headers=1:scenecut=0"},
    "hevc": {"tune": "zerolatency", "x265-params": "log-level=none:repeat-headers=1:scenecut=0"},
    "av1": {"svtav1-params": "pred-struct=1:lookahead=0"},
    "vp8": {"deadline": "realtime", "lag-in-frames": "0"},
}


def encode(
    codec: str, count: int, gop: int = 10, options: dict[str, str] | None = None
) -> list[bytes]:
    """The packets of `picture(0)` to `picture(count - 1)`, large enough for every encoder."""
    encoder = av.CodecContext.create(ENCODERS[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = 128, 96, "yuv420p"
    encoder.time_base, encoder.gop_size = Fraction(1, 10), gop
    encoder.options = LOW_DELAY[codec] if options is None else options
    packets = []
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(picture(index, (128, 96)), format="rgb24")
        frame.pts = index
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def assert_shows(image: np.ndarray, index: int) -> None:
    """The picture of that number: its brightness is like no other's, and codecs are lossy."""
    differences = [
        np.abs(image.astype(int) - picture(other, (128, 96)).astype(int)).mean()
        for other in range(40)
    ]
    assert int(np.argmin(differences)) == index


def decode_all(codec: str, packets: Sequence[bytes]) -> list[tuple[int, np.ndarray]]:
    video = VideoPackets("front")
    shown = [
        found
        for number, data in enumerate(packets)
        for found in video.decode(Packet(codec, data, number))
    ]
    return [*shown, *video.end()]


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_packet_gives_its_picture(codec: str) -> None:
    shown = decode_all(codec, encode(codec, 30))
    assert [stamp_ns for stamp_ns, _ in shown] == list(range(30))
    for stamp_ns, image in shown:
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert_shows(image, stamp_ns)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_reordered_pictures_come_in_the_order_of_time(codec: str) -> None:
    options = {"bf": "3", **{k: v for k, v in LOW_DELAY[codec].items() if k != "tune"}}
    shown = decode_all(codec, encode(codec, 30, options=options))
    assert [stamp_ns for stamp_ns, _ in shown] == list(range(30))
    for stamp_ns, image in shown:
        assert_shows(image, stamp_ns)


@pytest.mark.parametrize("codec", ENCODERS)
def test_decoding_begins_at_a_key_frame(codec: str) -> None:
    packets = encode(codec, 30)
    first = next(n for n in range(5, 30) if Packet(codec, packets[n], 0).is_entry)
    video = VideoPackets("front")
    for number in range(5, first):
        with pytest.raises(CameraEncodingError, match=f"front: .*{codec} video waits for the next"):
            video.decode(Packet(codec, packets[number], number))
    shown = [
        found
        for number in range(first, 30)
        for found in video.decode(Packet(codec, packets[number], number))
    ]
    assert first < 25
    assert len(shown) > 4
    for stamp_ns, image in shown:
        assert_shows(image, stamp_ns)


def test_after_damage_the_next_key_frame_is_waited_for() -> None:
    packets = encode("h264", 30)
    packets[13] = b"\0\0\0\1\x65" + bytes(60)
    video = VideoPackets("front")
    shown, refused = [], []
    for number, data in enumerate(packets):
        try:
            shown += [stamp_ns for stamp_ns, _ in video.decode(Packet("h264", data, number))]
        except CameraEncodingError as error:
            refused.append(str(error))
    assert set(shown) >= {*range(13), *range(20, 30)}
    assert refused
    assert all(sentence.startswith("front: a packet of h264 video") for sentence in refused)


def test_a_live_camera_decodes_every_packet_but_shows_the_newest_picture() -> None:
    video = LiveVideo("front")
    packets = encode("h264", 30)
    for number, data in enumerate(packets[3:15]):
        video.put(Packet("h264", data, number))
    assert_shows(video.newest(), 14)
    for number, data in enumerate(packets[15:18]):
        video.put(Packet("h264", data, number))
    assert_shows(video.newest(), 17)
    with pytest.raises(CameraEncodingError, match=r"front: .*next key frame"):
        video.newest()


def test_packets_that_nobody_decodes_are_dropped_up_to_the_next_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_vlm.sources.video_packets.MAX_WAITING", 12)
    video = LiveVideo("front")
    packets = encode("h264", 40, gop=20)
    for number, data in enumerate(packets[:20]):
        video.put(Packet("h264", data, number))
    with pytest.raises(CameraEncodingError, match="key frame"):
        video.newest()
    for number, data in enumerate(packets[20:25], start=20):
        video.put(Packet("h264", data, number))
    assert_shows(video.newest(), 24)


def write_packets(path: Path, packets: Sequence[bytes], format: str) -> Path:
    with BagWriter(path, transport="compressed") as writer:
        for number, data in enumerate(packets):
            stamp_ns = (5 + number) * NANOSECONDS
            message = writer.make(
                "sensor_msgs/msg/CompressedImage",
                header=writer.header(stamp_ns, "front_optical"),
                format=format,
                data=np.frombuffer(data, np.uint8),
            )
            writer.message("/front/image/h264", stamp_ns, message)
    return path


@pytest.mark.parametrize(
    ("codec", "format"), [("h264", "h264"), ("hevc", "h265"), ("av1", "av1"), ("h264", "H.264")]
)
def test_a_recording_of_packets_is_watched(codec: str, format: str, tmp_path: Path) -> None:
    path = write_packets(tmp_path / "bag", encode(codec, 20), format)
    frames = list(open_source(str(path)).frames())
    assert [frame.stamp_ns for frame in frames] == [(5 + n) * NANOSECONDS for n in range(20)]
    assert {frame.frame_id for frame in frames} == {"front_optical"}
    for number, frame in enumerate(frames):
        assert_shows(frame.image, number)


def test_a_recording_that_begins_between_key_frames_counts_what_it_leaves_out(
    tmp_path: Path,
) -> None:
    source = BagSource(write_packets(tmp_path / "bag", encode("h264", 30)[4:], "h264"))
    assert len(list(source.frames())) == 20
    assert list(source.unreadable.values()) == [6]


def test_a_recording_of_damaged_packets_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_packets(tmp_path / "bag", [b"\0\0\0\1\x65" + bytes(60)] * 5, "h264")
    with pytest.raises(SourceError, match=r"no frame can be .*h264 video .*raw or JPEG topic$"):
        list(open_source(str(path)).frames())


def test_without_pyav_a_packet_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_vlm.sources.video_packets.is_installed", lambda: False)
    data = np.frombuffer(encode("h264", 1)[0], np.uint8)
    message = SimpleNamespace(header=None, format="h264", data=data)
    assert packet_codec(message) is None
    with pytest.raises(CameraEncodingError, match=r"pip install 'stream-vlm\[video\]'"):
        decode_picture(message, "front", decode_with_rosbags)


def test_pyav_is_found_where_it_is_installed() -> None:
    assert pyav_decoding.is_installed()
