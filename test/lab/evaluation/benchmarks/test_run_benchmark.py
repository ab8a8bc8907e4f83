"""Streamo-Bench, Inf-Streams-Eval and Streaming-Eval: files are scored, models run online."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clip_fixtures import write_video
from judge_server import serve_judge

from stream_vlm.cli import main
from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import Frame
from stream_vlm_lab.evaluation.benchmarks.benchmark_report import benchmark_text
from stream_vlm_lab.evaluation.benchmarks.cases import Task, answer_tasks
from stream_vlm_lab.evaluation.benchmarks.files import (
    BenchmarkError,
    StreamAnswer,
    read_stream_answers,
)
from stream_vlm_lab.evaluation.benchmarks.inf_streams import read_commentaries, read_segments
from stream_vlm_lab.evaluation.benchmarks.judge import Judge
from stream_vlm_lab.evaluation.benchmarks.run_benchmark import BenchmarkRequest, examine_benchmark
from stream_vlm_lab.evaluation.benchmarks.streaming_eval import (
    is_right_choice,
    read_streaming_items,
    score_streaming,
)
from stream_vlm_lab.evaluation.benchmarks.streamo_bench import (
    named_span,
    read_streamo_items,
    score_streamo,
)
from stream_vlm_lab.evaluation.online.baselines import AlwaysSilent, AlwaysSpeaking
from stream_vlm_lab.evaluation.online.online_pass import FrameResult, TimedQuestion


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.mp4 lasts 6 s."""
    return write_video(
        tmp_path_factory.mktemp("videos") / "a.mp4", range(20, 212, 8), fps=4.0
    ).parent


def streamo_row(task: str, asked: Any, **answer: Any) -> dict[str, Any]:
    due = {"content": "The cup falls.", "st_time": "", "end_time": "", "time": ""} | answer
    return {
        "task_type": task,
        "video_path": "a.mp4",
        "question": [{"content": "When?", "time": asked}],
        "response": [due],
    }


@pytest.fixture
def streamo_data(tmp_path: Path) -> Path:
    rows = [
        streamo_row("Event Grounding", 1, st_time=4, end_time=8),
        streamo_row("event_grounding", 20, st_time=4, end_time=8),
        streamo_row("Time-Sensitive QA", 1, time=10),
        streamo_row("Event Caption", 1, st_time=4, end_time=8),
    ]
    (tmp_path / "streamo.json").write_text(json.dumps(rows))
    return tmp_path / "streamo.json"


def said(*words: tuple[float, str], events: tuple[TimedEvent, ...] = ()) -> StreamAnswer:
    return StreamAnswer("", [TimedUtterance(t, text) for t, text in words], list(events))


def test_streamo_scores_reported_events_forward_and_named_times_backward(
    streamo_data: Path,
) -> None:
    items = read_streamo_items(streamo_data)
    assert [item.is_backward for item in items] == [False, True, False, False]
    assert items[0].questions[0].is_watch
    assert not items[1].questions[0].is_watch
    answers = {
        "1": said(events=(TimedEvent("cup falls", 6.0, 10.0), TimedEvent("cup falls", 4.0, 8.0))),
        "2": said((2.0, "from 0 to 1 s"), (20.0, "It fell from 00:04 to 6.0 s.")),
        "3": said((3.0, "The cup falls"), (12.9, "the cup falls.")),
    }
    report = score_streamo(items, answers, None, None)
    assert report["grounding_forward"]["miou"] == pytest.approx(1 / 3)
    assert report["grounding_backward"]["miou"] == pytest.approx(0.5)
    assert report["time_sensitive_qa"]["accuracy"] == 1.0
    assert report["without_answer"] == ["4"]
    assert report["captions"]["win_rate"] is None
    assert "needs a judge" in report["captions"]["not_scored"]
    late = score_streamo(items, {"3": said((13.1, "The cup falls."))}, None, None)
    assert late["time_sensitive_qa"]["accuracy"] == 0.0
    assert late["grounding_forward"]["miou"] == 0.0


def test_the_true_span_of_an_answer_with_only_a_time_is_the_one_its_words_name(
    tmp_path: Path,
) -> None:
    rows = [streamo_row("Event Grounding", 20, content="From 4 s to 8 s.", time=20)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    items = read_streamo_items(tmp_path / "rows.json")
    assert items[0].is_backward
    assert not items[0].questions[0].is_watch
    assert items[0].due[0].span == (4.0, 8.0)
    report = score_streamo(items, {"1": said((19.0, "from 00:04 to 6.0 s"))}, None, None)
    assert report["grounding_backward"] == {"items": 1, "miou": 0.5}


def test_silence_is_right_for_an_event_that_never_comes(tmp_path: Path) -> None:
    row = streamo_row("Event Grounding", 1) | {"response": []}
    (tmp_path / "rows.json").write_text(json.dumps([row, row, row, row]))
    items = read_streamo_items(tmp_path / "rows.json")
    answers = {
        "1": said(),
        "2": said((9.0, "There!")),
        "3": said(events=(TimedEvent("cup falls", 6.0, 10.0),)),
    }
    assert score_streamo(items, answers, None, None)["grounding_forward"] == {
        "items": 4,
        "miou": 0.25,
    }


def test_streamo_captions_are_compared_by_the_judge_and_missing_answers_lose(
    streamo_data: Path,
) -> None:
    items = read_streamo_items(streamo_data)
    with serve_judge(lambda text: "A") as server, Judge(server.url, "m") as judge:
        report = score_streamo(
            items, {"4": said((8.0, "falls"))}, {"4": said((8.0, "it falls"))}, judge
        )
        assert report["captions"]["win_rate"] == 0.5
        asked = len(server.requests)
        assert (
            score_streamo(items, {}, {"4": said((8.0, "it falls"))}, judge)["captions"]["win_rate"]
            == 0.0
        )
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("from 3 s to 8.5 s", (3.0, 8.5)),
        ("00:03 - 00:08", (3.0, 8.0)),
        ("at 9, then 4", (4.0, 9.0)),
        ("at 5 s", None),
        ("soon", None),
    ],
)
def test_a_span_is_read_from_words(text: str, span: tuple[float, float] | None) -> None:
    assert named_span(text) == span


def test_inf_streams_segments_and_commentaries_are_read_as_published(tmp_path: Path) -> None:
    long_text = "word " * 250
    rows = [
        {"video": "games/a.mp4", "title": "A", "content": [[0, 50, "kick off"], [50, 100, "goal"]]},
        {
            "video": "b.mp4",
            "content": [[0, 90, long_text], [90, 150, "few words"], [150, 290, long_text]],
        },
    ]
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    segments = read_segments(tmp_path / "meta.jsonl")
    assert [(segment.video, segment.start, segment.end) for segment in segments] == [
        ("a.mp4", 0, 100),
        ("b.mp4", 0, 90),
        ("b.mp4", 150, 290),
    ]
    assert segments[0].reference == "kick off\ngoal"
    chunks = [
        {
            "video": "a.mp4",
            "chunk_start": 100,
            "chunk_end": 200,
            "items": [{"response": "late", "start_time": 150, "end_time": 151}],
        },
        {
            "video": "a.mp4",
            "chunk_start": 0,
            "chunk_end": 100,
            "items": [{"response": "a", "end_time": 0}, {"response": "b", "end_time": 100}],
        },
        {"video": "a.mp4", "chunk_start": 0, "chunk_end": 40, "items": []},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chunks))
    (commentary,) = read_commentaries(tmp_path / "answers.jsonl").values()
    assert (commentary.start, commentary.end) == (0, 200)
    assert commentary.during(segments[0]) == "b"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("(b)", False),
        ("(B) cup", True),
        ("cup", True),
        ("A", False),
        ("A red one", False),
        ("C. cup", False),
    ],
)
def test_an_option_is_chosen_by_its_letter_or_its_words(text: str, right: bool) -> None:
    assert is_right_choice(text, "cup", ("ball", "cup", "box")) == right
    assert is_right_choice(text, "B", ("ball", "cup", "box")) == right


def test_streaming_eval_scores_answers_in_their_windows_by_split(tmp_path: Path) -> None:
    windows = [{"start": 5, "end": 8, "answer": "cup"}, {"start": 20, "end": 24, "answer": "box"}]
    rows = [
        {
            "id": "q",
            "video": "a.mp4",
            "kind": "qa",
            "question": "What is red?",
            "ask_time": 1,
            "windows": windows,
            "split": "forward",
        },
        {"id": "n", "video": "a.mp4", "kind": "narration", "reference": "A cup falls."},
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    items = read_streaming_items(tmp_path / "data.json")
    assert items[0].question.is_watch
    assert items[1].is_narration
    report = score_streaming(
        items, {"q": said((6.0, "cup"), (12.0, "cup"), (21.0, "ball"))}, None, None
    )
    assert report["splits"]["forward"]["sw_f1_published"] == pytest.approx(2 / (2 + 0.2 + 2))
    assert report["all"]["sw_f1_equal_weights"] == pytest.approx(1 / (1 + 2 + 1))
    assert report["without_answer"] == ["n"]
    with serve_judge(lambda text: "A") as server, Judge(server.url, "m") as judge:
        compared = score_streaming(
            items, {"n": said((3.0, "falls"))}, {"n": said((3.0, "it falls"))}, judge
        )
        assert compared["narration"]["win_rate"] == 0.5


@pytest.mark.parametrize("benchmark", ["streamo", "streaming-eval", "inf-streams"])
def test_the_other_benchmarks_run_online_and_write_their_answers(
    benchmark: str, streamo_data: Path, videos: Path, tmp_path: Path
) -> None:
    window = {"start": 1, "end": 4, "answer": "yes"}
    data = {
        "streamo": streamo_data.read_text(),
        "streaming-eval": json.dumps(
            {
                "id": "q",
                "video": "a.mp4",
                "kind": "qa",
                "question": "Red?",
                "ask_time": 2,
                "windows": [window],
            }
        ),
        "inf-streams": json.dumps({"video": "a.mp4", "content": [[0, 6, "it gets brighter"]]}),
    }[benchmark]
    (tmp_path / "data.json").write_text(data)
    report = examine_benchmark(
        BenchmarkRequest(benchmark, tmp_path / "data.json", videos=videos),
        lambda: (AlwaysSpeaking(), 2.0),
        None,
        tmp_path,
    )
    assert report["protocol"].startswith("online")
    if benchmark == "inf-streams":
        assert read_commentaries(tmp_path / "answers.json")["a.mp4"].end == 6
        assert "not_scored" in report
    else:
        assert all(
            answer.utterances for answer in read_stream_answers(tmp_path / "answers.json").values()
        )
    if benchmark == "streaming-eval":
        assert report["all"]["hits"] == 1
        assert report["all"]["sw_f1_equal_weights"] < report["all"]["sw_f1_published"] < 1


@pytest.mark.parametrize(
    ("benchmark", "data", "complaint"),
    [
        ("ovo", '[{"id": 1}]', "is not an OVO-Bench item"),
        ("ovo", "{", "is not JSON"),
        ("ovo", "5", "is not an OVO-Bench item"),
        (
            "ovo",
            '[{"id": 1, "task": "REC", "video": "a.mp4", "test_info": [{"realtime": 3}]}]',
            "is not an OVO-Bench item",
        ),
        ("streamo", '[{"task_type": "Weather"}]', "unknown task type"),
        ("inf-streams", '[{"video": "a"}]', "needs video, content"),
        (
            "streaming-eval",
            '[{"id": 1, "video": "a", "kind": "qa"}]',
            "is not an item of Streaming-Eval",
        ),
    ],
)
def test_data_in_another_format_is_refused_with_one_line(
    benchmark: str, data: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.json").write_text(data)
    (tmp_path / "answers.json").write_text('{"backward": []}')
    arguments = [
        "eval",
        "--benchmark",
        benchmark,
        "--data",
        str(tmp_path / "data.json"),
        "--answers",
        str(tmp_path / "answers.json"),
    ]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert complaint in printed
    assert len(printed.splitlines()) == 1


def test_a_request_without_answers_and_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give either --answers FILE, or --videos FOLDER"):
        examine_benchmark(
            BenchmarkRequest("ovo", tmp_path / "x.json"),
            lambda: (AlwaysSpeaking(), 2.0),
            None,
            tmp_path,
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--world", "heldout", "--footage", "x"],
        [],
        ["--benchmark", "ovo"],
        ["--data", "x", "--world", "heldout"],
    ],
)
def test_options_for_more_or_less_than_one_examination_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *arguments, "--out", str(tmp_path)]) == 2
    assert "Error:" in capsys.readouterr().err


def test_a_missing_video_is_reported_with_its_answer(videos: Path) -> None:
    (answer,) = answer_tasks([Task("x", "gone.mp4", ())], videos, AlwaysSpeaking(), 2.0)
    assert "gone.mp4" in answer.faults[0]
    assert answer.utterances == []


class RefusingModel(AlwaysSilent):
    """A model without support for watches."""

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        return FrameResult(
            "silence",
            fault="not made to wait" if question is not None and question.is_watch else "",
        )


def test_the_report_names_watches_that_the_model_refuses(videos: Path, tmp_path: Path) -> None:
    window = {"start": 3, "end": 4, "answer": "yes"}
    row = {
        "id": "w",
        "video": "a.mp4",
        "kind": "qa",
        "question": "When is it red?",
        "ask_time": 0,
        "windows": [window],
    }
    (tmp_path / "data.json").write_text(json.dumps(row))
    what = BenchmarkRequest("streaming-eval", tmp_path / "data.json", videos=videos)
    report = examine_benchmark(what, lambda: (RefusingModel(), 2.0), None, tmp_path)
    assert report["watching_faults"] == ["item w: 1 x not made to wait"]
    assert "item w: 1 x not made to wait" in benchmark_text(report)
