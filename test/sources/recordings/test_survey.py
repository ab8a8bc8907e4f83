"""The times of a recording are read before its pictures, and no more of them than needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap_fixtures import Channel, McapFile, film

from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.recordings.survey import survey
from stream_vlm.types import NANOSECONDS

WALL = 1_700_000_000.0
TOPIC = "/cam/image_raw"


def open_film(folder: Path, header: list[float], recorded: list[float]) -> Recording:
    channel = film(stamps_s=header, recorded_s=recorded)
    return Recording(McapFile([channel]).write(folder / "a.mcap"))


def test_every_message_of_the_topics_is_seen_with_both_its_times(tmp_path: Path) -> None:
    rows = list(film().messages)
    rows[3] = (rows[3][0], b"")
    path = McapFile([Channel(TOPIC, rows), film("/other")]).write(tmp_path / "a.mcap")
    times, is_whole = survey(Recording(path), [TOPIC, "/absent"], None)
    assert is_whole
    assert times[TOPIC].recorded.tolist() == [recorded_ns for recorded_ns, _ in rows]
    assert times[TOPIC].header[4] == 2 * NANOSECONDS
    assert times[TOPIC].readable.tolist() == [index != 3 for index in range(20)]
    assert times["/absent"].recorded.size == 0


@pytest.mark.parametrize(("speed", "most"), [(1.0, 80), (0.1, 80), (10.0, 800)])
def test_only_the_beginning_is_read_where_no_more_is_asked_for(
    tmp_path: Path, speed: float, most: int
) -> None:
    """A minute more than is asked for, in time of recording, and always enough of the stamps."""
    header = [float(index) for index in range(1000)]
    recording = open_film(tmp_path, header, [WALL + time / speed for time in header])
    times, is_whole = survey(recording, [TOPIC], 5.0)
    assert not is_whole
    assert times[TOPIC].recorded.size < most
    assert times[TOPIC].header[-1] > 5 * NANOSECONDS


def test_stamps_that_do_not_advance_do_not_make_it_read_everything(tmp_path: Path) -> None:
    recorded = [WALL + index for index in range(1000)]
    times, is_whole = survey(open_film(tmp_path, [0.0] * 1000, recorded), [TOPIC], 5.0)
    assert not is_whole
    assert times[TOPIC].recorded.size < 80
