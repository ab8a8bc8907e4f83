"""Turns get the pictures of their times, read from the key frame before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from video_fixtures import regular, variable, write_video

from stream_vlm.sources import SourceError
from stream_vlm.sources.video import VideoSource
from stream_vlm.types import NANOSECONDS, Frame, State
from stream_vlm_lab.training.data.sample import SampleTurn, StreamSample, VideoFolder


def sample(video: str, starts_s: list[float]) -> StreamSample:
    turns = tuple(SampleTurn(start, start + 1, State.SILENCE) for start in starts_s)
    return StreamSample(video, turns)


def first_at(path: Path, start_s: float) -> int:
    frames = VideoSource(path).frames()
    return next(f.stamp_ns for f in frames if f.stamp_ns >= start_s * NANOSECONDS - 1)


def test_every_turn_gets_the_first_picture_of_its_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", variable())
    starts = [0.0, 1.0, 2.0, 40.0, 41.0, 61.0, 61.5, 62.0]
    pictures = VideoFolder(tmp_path).pictures(sample("a.mp4", starts))
    assert [frame.stamp_ns for frame in pictures] == [first_at(path, start) for start in starts]


def test_a_late_turn_and_a_long_gap_are_reached_without_the_frames_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", regular(3600, 1.0), gop=20, stated_rate=1)
    given = 0
    whole = VideoSource.frames

    def counted(source: VideoSource, start_s: float = 0.0) -> Iterator[Frame]:
        nonlocal given
        for frame in whole(source, start_s):
            given += 1
            yield frame

    monkeypatch.setattr(VideoSource, "frames", counted)
    turns = sample("a.mp4", [1800.0, 1801.0, 3000.0])
    stamps = [frame.stamp_ns for frame in VideoFolder(tmp_path).pictures(turns)]
    assert stamps == [1800 * NANOSECONDS, 1801 * NANOSECONDS, 3000 * NANOSECONDS]
    assert given <= 4


def test_a_turn_behind_the_end_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", regular(30))
    for starts in ([0.0, 0.5, 3.0], [0.0, 100.0], [100.0]):
        with pytest.raises(SourceError, match=rf"ends before the turn from {starts[-1]} s"):
            list(VideoFolder(tmp_path).pictures(sample("a.mp4", starts)))


def test_the_length_is_that_of_the_last_picture(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        write_video(tmp_path / name, variable())
        assert VideoFolder(tmp_path).length_s(name) == pytest.approx(63.0, abs=0.01)
