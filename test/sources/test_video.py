"""Video files: stamps decide the length and the end, and the middle is read from a key frame."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_fixtures import regular, variable, write_video

from stream_vlm.sources import SourceError, pyav_decoding
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import NANOSECONDS

B_FRAMES = {"bf": "3", "b-adapt": "0"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
INDEX_FIRST = {"movflags": "faststart"}
LIVE = {"live": "1"}

VARIANTS: dict[str, Callable[[Path], Path]] = {
    "mp4": lambda folder: write_video(folder / "a.mp4", variable(), options=B_FRAMES),
    "fragmented": lambda folder: write_video(
        folder / "a.mp4", variable(), container_options=FRAGMENTED
    ),
    "matroska": lambda folder: write_video(folder / "a.mkv", variable(), options=B_FRAMES),
    "live matroska": lambda folder: write_video(
        folder / "a.mkv", variable(), container_options=LIVE
    ),
    "webm": lambda folder: write_video(folder / "a.webm", variable(), codec="libvpx"),
    "transport stream": lambda folder: write_video(
        folder / "a.ts", variable(), options=B_FRAMES, offset_s=5000.0
    ),
    "late start": lambda folder: write_video(folder / "a.mkv", variable(), offset_s=7.5),
    "open groups": lambda folder: write_video(
        folder / "a.mkv", variable(), options={**B_FRAMES, "x264-params": "open-gop=1:scenecut=0"}
    ),
    "long sound": lambda folder: write_video(folder / "a.mkv", variable(), audio_s=300.0),
    "long sound, mp4": lambda folder: write_video(folder / "a.mp4", variable(), audio_s=300.0),
    "odd size": lambda folder: write_video(
        folder / "a.mkv", variable(), codec="ffv1", size=(65, 47)
    ),
}


@pytest.fixture(params=VARIANTS)
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return VARIANTS[request.param](tmp_path)


def stamps_s(frames: list[Any]) -> list[float]:
    return [frame.stamp_ns / NANOSECONDS for frame in frames]


def assert_same(frames: list[Any], expected: list[Any]) -> None:
    assert [frame.stamp_ns for frame in frames] == [frame.stamp_ns for frame in expected]
    assert all(
        np.array_equal(one.image, other.image) for one, other in zip(frames, expected, strict=True)
    )


def test_a_variable_rate_is_read_to_its_last_picture(video: Path) -> None:
    frames = list(VideoSource(video).frames())
    assert stamps_s(frames) == pytest.approx(variable(), abs=0.0011)


def test_the_length_is_that_of_the_stamps(video: Path) -> None:
    assert VideoSource(video).duration_s == pytest.approx(variable()[-1] + 1 / 30, abs=0.003)


@pytest.mark.parametrize("has_pyav", [True, False])
def test_a_start_in_the_middle_gives_the_frames_of_a_sequential_reading(
    video: Path, has_pyav: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyav_decoding, "is_installed", lambda: has_pyav)
    every = list(VideoSource(video).frames())
    for start_s in (0.02, 0.5, 0.9, 13.0, 30.2, 61.0, 62.4, variable()[-1]):
        expected = [frame for frame in every if frame.stamp_ns >= round(start_s * NANOSECONDS)]
        assert_same(list(VideoSource(video).frames(start_s)), expected)


@pytest.mark.parametrize("has_pyav", [True, False])
def test_a_start_behind_the_end_gives_no_frame(
    has_pyav: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyav_decoding, "is_installed", lambda: has_pyav)
    path = write_video(tmp_path / "a.mp4", regular(30))
    assert list(VideoSource(path).frames(5.0)) == []


class CountedCapture:
    """OpenCV's capture, whose reads are counted."""

    reads = 0
    original = cv2.VideoCapture

    def __init__(self, *arguments: Any) -> None:
        self._capture = self.original(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)

    def read(self) -> Any:
        type(self).reads += 1
        return self._capture.read()


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def long_video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour with a picture a second and a key frame every twenty seconds."""
    path = tmp_path_factory.mktemp("long") / f"a.{request.param}"
    return write_video(path, regular(3600, 1.0), gop=20, options=B_FRAMES, stated_rate=1)


@pytest.mark.parametrize("has_pyav", [True, False])
def test_the_middle_of_a_long_video_is_read_from_its_key_frame(
    long_video: Path, has_pyav: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    convert = pyav_decoding._bgr  # noqa: SLF001

    def counting(frame: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return convert(frame)

    monkeypatch.setattr(pyav_decoding, "is_installed", lambda: has_pyav)
    monkeypatch.setattr(pyav_decoding, "_bgr", counting)
    monkeypatch.setattr(cv2, "VideoCapture", CountedCapture)
    monkeypatch.setattr(CountedCapture, "reads", 0)
    frames = VideoSource(long_video).frames(1810.0)
    assert [round(next(frames).stamp_ns / NANOSECONDS) for _ in range(3)] == [1810, 1811, 1812]
    assert CountedCapture.reads + decoded < 60


def test_a_single_picture_has_a_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [0.0])
    assert len(list(VideoSource(path).frames())) == 1
    assert 0 < (VideoSource(path).duration_s or 0) <= 1


def test_stamps_that_stand_still_advance_by_the_nominal_period(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", regular(20), codec="mjpeg", time_base=Fraction(1, 30))
    frames = list(VideoSource(path).frames())
    assert all(later.stamp_ns > earlier.stamp_ns for earlier, later in pairwise(frames))
    assert VideoSource(path).duration_s == pytest.approx(20 / 30, abs=0.002)


@pytest.mark.parametrize("share", [0.5, 0.77])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", INDEX_FIRST),
        ("a.mp4", FRAGMENTED),
        ("a.mkv", {}),
        ("a.avi", {}),
        ("a.mov", INDEX_FIRST),
    ],
)
def test_a_file_that_is_cut_is_refused_after_its_frames(
    name: str, options: dict[str, str], share: float, tmp_path: Path
) -> None:
    is_avi = name.endswith("avi")
    path = write_video(
        tmp_path / name,
        regular(90) if is_avi else variable(),
        codec="mjpeg" if is_avi else "libx264",
        time_base=Fraction(1, 30) if is_avi else Fraction(1, 1000),
        container_options=options,
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    seen = []
    with pytest.raises(SourceError, match=r"ends after \d+ .*the file is cut"):
        for frame in VideoSource(path).frames():
            seen.append(frame)
    assert seen


def test_a_file_that_is_cut_before_its_index_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", regular(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"a\.mp4: not a video.*its index \(moov\) is missing"):
        VideoSource(path)


def test_pictures_without_a_decoder_are_refused_with_their_codec_and_the_remedy(
    tmp_path: Path,
) -> None:
    path = write_video(tmp_path / "a clip.mp4", regular(10), codec="libsvtav1", gop=10)
    with pytest.raises(SourceError, match=r"AV1.*ffmpeg -i '.*a clip\.mp4' -c:v libx264 "):
        list(VideoSource(path).frames())
