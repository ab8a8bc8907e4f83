"""Published training formats are read into the same samples, and every broken row is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clip_fixtures import write_video

from stream_vlm.cli import main
from stream_vlm.sources import SourceError
from stream_vlm.types import State
from stream_vlm_lab.training.data.messages import (
    messages_to_sample,
    read_messages,
    sample_to_messages,
)
from stream_vlm_lab.training.data.sample import RefusalReason, RowRefused, VideoFolder
from stream_vlm_lab.training.data.streamo import raw_to_sample, read_raw, sample_to_raw
from stream_vlm_lab.training.data.text_stream import read_text_stream, seeks_path
from stream_vlm_lab.training.data.times import seconds


def raw(**changes: Any) -> dict[str, Any]:
    row = {
        "video_name": "a.mp4",
        "video_path": "clips/a.mp4",
        "task_type": "Event Grounding",
        "source": "made here",
        "question": [{"content": "When does the cup fall?", "time": "3"}],
        "response": [{"content": "The cup falls.", "st_time": 4.0, "end_time": 6.0, "time": ""}],
    }
    return row | changes


def answer(content: str = "Yes.", **times: Any) -> dict[str, Any]:
    return {"content": content, "st_time": "", "end_time": "", "time": ""} | times


def ten_seconds(video: str) -> float:
    return 10.0


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoFolder:
    """a.mp4 lasts 8 s and gets brighter every second; broken.mp4 is no video."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", [20 + 25 * (index // 4) for index in range(32)], fps=4.0)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return VideoFolder(folder)


def test_a_span_is_standby_and_its_answer_is_in_the_next_turn() -> None:
    sample = raw_to_sample(raw(), ten_seconds)
    states = [turn.state for turn in sample.turns]
    assert (
        states == [State.SILENCE] * 3 + [State.STANDBY] * 3 + [State.RESPONSE] + [State.SILENCE] * 3
    )
    assert (sample.turns[6].text, sample.turns[2].question) == (
        "The cup falls.",
        "When does the cup fall?",
    )
    assert [turn.question for turn in sample.turns if turn.question] == ["When does the cup fall?"]


def test_an_answer_with_a_time_is_a_response_in_its_own_turn() -> None:
    sample = raw_to_sample(raw(response=[answer(time="00:05")]), ten_seconds)
    assert [turn.state for turn in sample.turns].index(State.RESPONSE) == 4
    assert sample.turns[4].start_s == 4.0


def test_raw_annotations_converted_to_messages_and_back_are_unchanged() -> None:
    row = raw(response=[answer("First.", time="2"), answer("Then.", st_time=4.0, end_time=6.0)])
    messages = sample_to_messages(raw_to_sample(row, ten_seconds), "Watch.")
    assert messages["messages"][1]["content"] == "When does the cup fall?\n<0s-1s>\n<stream>"
    assert messages["messages"][5]["content"] == "When does the cup fall?\n<2s-3s>\n<stream>"
    assert messages["messages"][14]["content"] == "</Response> Then."
    assert sample_to_raw(messages_to_sample(messages)) == row


def test_without_compatible_a_question_is_written_at_its_own_time_only() -> None:
    messages = sample_to_messages(raw_to_sample(raw(), ten_seconds), "Watch.", compatible=False)
    assert messages["messages"][1]["content"] == "<0s-1s>\n<stream>"


def test_standby_never_replaces_an_answer() -> None:
    row = raw(response=[answer("First.", time="4"), answer("Then.", st_time=3, end_time=6)])
    assert raw_to_sample(row, ten_seconds).turns[3].text == "First."


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response": [answer(st_time=8, end_time=10)]}, RefusalReason.PAST_THE_END),
        ({"response": [answer(time=11)]}, RefusalReason.OUTSIDE),
        ({"question": [{"content": "When?", "time": "0:30"}]}, RefusalReason.OUTSIDE),
        ({"response": [answer(st_time=2, end_time=30)]}, RefusalReason.OUTSIDE),
        ({"task_type": "Weather"}, RefusalReason.UNKNOWN_TASK),
        (
            {"response": [answer("Yes.", time=5), answer("No.", st_time=2, end_time=4)]},
            RefusalReason.TWO_ANSWERS,
        ),
        ({"response": [answer(time="soon")]}, RefusalReason.UNREADABLE_TIME),
        ({"response": [answer()]}, RefusalReason.UNREADABLE_TIME),
        ({"response": [answer(st_time=6, end_time=4)]}, RefusalReason.UNREADABLE_TIME),
        ({"response": [answer("", time=4)]}, RefusalReason.NO_WORDS),
        ({"response": "Yes."}, RefusalReason.NOT_A_ROW),
    ],
)
def test_a_broken_annotation_is_refused_with_its_reason(
    changes: dict[str, Any], reason: RefusalReason
) -> None:
    with pytest.raises(RowRefused) as refused:
        raw_to_sample(raw(**changes), ten_seconds)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (5, 5.0),
        (5.5, 5.5),
        ("7", 7.0),
        ("1:05", 65.0),
        ("01:00:02", 3602.0),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_in_every_published_form(written: Any, meant: float | None) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize("written", ["soon", "-3", -1, "1:2:3:4", True, [5], "nan", float("inf")])
def test_an_unreadable_time_is_refused(written: Any) -> None:
    with pytest.raises(RowRefused, match="unreadable time"):
        seconds(written)


def test_a_missing_and_an_undecodable_video_are_reported_and_the_rest_is_read(
    videos: VideoFolder, tmp_path: Path
) -> None:
    rows = [raw(), raw(video_path="gone.mp4"), raw(video_path="broken.mp4"), "no row"]
    (tmp_path / "raw.json").write_text(json.dumps(rows))
    reading = read_raw(tmp_path / "raw.json", videos)
    assert reading.rows == [1]
    assert len(reading.samples[0].turns) == 8
    assert [(refusal.row, refusal.reason) for refusal in reading.refusals] == [
        (2, RefusalReason.MISSING_VIDEO),
        (3, RefusalReason.UNDECODABLE),
        (4, RefusalReason.NOT_A_ROW),
    ]
    assert "1 x missing video: row 2" in reading.summary()


def test_each_turn_gets_the_picture_of_its_own_second(videos: VideoFolder) -> None:
    sample = raw_to_sample(raw(), videos.length_s)
    greys = [float(frame.image.mean()) for frame in videos.pictures(sample)]
    assert greys == pytest.approx([20 + 25 * second for second in range(8)], abs=6)


def test_a_video_that_ends_before_the_last_turn_is_an_error(videos: VideoFolder) -> None:
    sample = raw_to_sample(raw(), ten_seconds)
    with pytest.raises(SourceError, match=r"ends before the turn from 8\.0 s"):
        list(videos.pictures(sample))


def talk(*pairs: tuple[str, str]) -> dict[str, Any]:
    messages = [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    return {"messages": messages, "videos": ["a.mp4"]}


@pytest.mark.parametrize("marker", ["<3s-4s>", "<3-4s>", "<3.0 seconds>"])
def test_every_published_time_marker_is_read(marker: str) -> None:
    sample = messages_to_sample(talk((f"Is it on?\n{marker}\n<image>", "</response> Yes.")))
    (turn,) = sample.turns
    assert (turn.start_s, turn.end_s, turn.question, turn.state, turn.text) == (
        3.0,
        4.0,
        "Is it on?",
        State.RESPONSE,
        "Yes.",
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            talk(("<0s-1s>\n<stream>", "</Silence>"), ("<0s-1s>\n<stream>", "</Silence>")),
            RefusalReason.UNREADABLE_TIME,
        ),
        (talk(("<stream>", "</Silence>")), RefusalReason.UNREADABLE_TIME),
        (talk(("<0s-1s>\n<stream>", "Hm.")), RefusalReason.UNKNOWN_STATE),
        (
            talk(("<0s-1s>\n<stream>", "</response> Wait. </delegation> Why?")),
            RefusalReason.UNKNOWN_STATE,
        ),
        (talk(("<0s-1s>\n<stream>", "</Response>")), RefusalReason.NO_WORDS),
        (talk(("<9s-10s>\n<stream>", "</Response> Late.")), RefusalReason.PAST_THE_END),
        (talk(("<9s-10s>\n<stream>", "</Silence>")), RefusalReason.OUTSIDE),
        (
            {"messages": [{"role": "user", "content": "<0s-1s>"}], "videos": ["a.mp4"]},
            RefusalReason.NOT_A_ROW,
        ),
        ({"messages": []}, RefusalReason.NOT_A_ROW),
    ],
)
def test_broken_messages_are_refused_with_their_reason(
    row: dict[str, Any], reason: RefusalReason, videos: VideoFolder
) -> None:
    with pytest.raises(RowRefused) as refused:
        messages_to_sample(row, videos)
    assert refused.value.reason is reason


def line(words: list[list[Any]], start: float = 2.0, end: float = 6.0, **more: Any) -> str:
    shown = {"type": "video", "video": "a.mp4", "video_start": start, "video_end": end}
    said = {"type": "text", "text_stream": words, **more}
    asked = {"type": "text", "text": "Comment.", "previous": "Before."}
    return (
        json.dumps(
            [{"role": "user", "content": [shown, asked]}, {"role": "assistant", "content": [said]}]
        )
        + "\n"
    )


def written(folder: Path, *lines: str, seeks: list[int] | None = None) -> Path:
    path = folder / "data_with_seeks.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    if seeks is not None:
        seeks_path(path).write_text(json.dumps(seeks))
    return path


def test_a_timed_word_belongs_to_the_turn_in_which_it_ends(
    tmp_path: Path, videos: VideoFolder
) -> None:
    words = [[2.0, 2.4, "Kick"], [2.8, 3.0, "off"], [3.9, 4.1, "now"]]
    (sample,) = read_text_stream(
        written(tmp_path, line(words, qa_stream=[[0, 4.5, "Who?", "Red."]])), videos
    ).samples
    assert [turn.text for turn in sample.turns] == ["Kick off", "", "Red.\nnow", ""]
    assert [turn.question for turn in sample.turns] == ["Comment.", "", "Who?", ""]
    assert sample.previous_text == "Before."
    assert sample.turns[0].start_s == 2.0


def test_only_lines_in_the_index_are_read_and_wrong_offsets_are_reported(tmp_path: Path) -> None:
    first, second, third = (line([[2.0, 2.5, word]]) for word in ("Ångström", "two", "three"))
    starts = [0, len(first.encode()), len((first + second).encode())]
    path = written(tmp_path, first, second, third, seeks=[starts[2], 7, starts[0]])
    reading = read_text_stream(path)
    assert [sample.turns[0].text for sample in reading.samples] == ["three", "Ångström"]
    assert [(refusal.row, refusal.reason) for refusal in reading.refusals] == [
        (2, RefusalReason.BAD_INDEX),
        (-1, RefusalReason.BAD_INDEX),
    ]
    seeks_path(path).unlink()
    assert len(read_text_stream(path).samples) == 3


def test_an_index_in_the_last_line_is_read_like_one_beside_the_file(tmp_path: Path) -> None:
    first, second = line([[2.0, 2.5, "one"]]), line([[2.0, 2.5, "two"]])
    path = written(tmp_path, first, second, json.dumps([len(first.encode())]) + "\n")
    reading = read_text_stream(path)
    assert [sample.turns[0].text for sample in reading.samples] == ["two"]
    assert [refusal.row for refusal in reading.refusals] == [-1]
    seeks_path(path).write_text(json.dumps([0, len(first.encode())]))
    both = read_text_stream(path)
    assert len(both.samples) == 2
    assert both.refusals == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line([[7.0, 7.5, "late"]]), RefusalReason.OUTSIDE),
        (line([[4.8, 5.2, "late"]], end=5.0), RefusalReason.PAST_THE_END),
        (line([[3.0, 2.5, "back"]]), RefusalReason.UNREADABLE_TIME),
        (line([], start=2.0, end=60.0), RefusalReason.OUTSIDE),
        (line([], start=2.0, end=2.5), RefusalReason.UNREADABLE_TIME),
        (
            line([], qa_stream=[[0, 3.5, "Who?", "Red."], [0, 3.8, "Why?", "So."]]),
            RefusalReason.TWO_ANSWERS,
        ),
        (line([], qa_stream=[[0, 30.0, "Who?", "Red."]]), RefusalReason.OUTSIDE),
        ("{}\n", RefusalReason.NOT_A_ROW),
        ("no json\n", RefusalReason.NOT_A_ROW),
    ],
)
def test_a_broken_line_is_refused_and_the_others_are_read(
    bad: str, reason: RefusalReason, tmp_path: Path, videos: VideoFolder
) -> None:
    reading = read_text_stream(written(tmp_path, line([[2.0, 2.5, "fine"]]), bad), videos)
    assert len(reading.samples) == 1
    assert [(refusal.row, refusal.reason) for refusal in reading.refusals] == [(2, reason)]


def test_the_command_writes_the_readable_rows_and_exits_with_1_if_a_row_was_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "raw.json", tmp_path / "stream.json"
    data.write_text(json.dumps([raw(), raw(task_type="Weather")]))
    arguments = [
        "dataset",
        "convert",
        str(data),
        "--from",
        "streamo-raw",
        "--seconds",
        "10",
        "--to",
        "messages",
        "--out",
        str(out),
    ]
    assert main(arguments) == 1
    assert "1 x unknown task type: row 2: 'Weather'" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())
    assert len(row["messages"]) == 21
    assert row["videos"] == ["clips/a.mp4"]
    data.write_text(json.dumps([raw()]))
    assert main(arguments) == 0


def test_the_published_example_is_converted_to_its_stream_format_and_back(
    repository: Path,
) -> None:
    folder = repository.parent / "shared" / "benchmarks" / "streamo"
    if not folder.is_dir():
        pytest.skip(f"no published example at {folder}")
    stream, rows = (
        json.loads((folder / name).read_text()) for name in ("stream_format.json", "raw_data.json")
    )
    turns = len(stream[0]["messages"]) // 2
    reading = read_raw(folder / "raw_data.json", VideoFolder(folder, turns))
    assert reading.refusals == []
    system = stream[0]["messages"][0]["content"]
    assert [sample_to_messages(sample, system) for sample in reading.samples] == stream
    assert [
        sample_to_raw(sample) for sample in read_messages(folder / "stream_format.json").samples
    ] == rows
