"""Published benchmarks: their files are read, their scores reproduced, and their questions put to a model online."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from judge_server import serve_judge

from stream_vlm.cli import main
from stream_vlm.evaluation.baselines import AlwaysSpeaking
from stream_vlm.evaluation.benchmarks.examine import Examined, examine_benchmark
from stream_vlm.evaluation.benchmarks.files import BenchmarkError, StreamAnswer, read_stream_answers
from stream_vlm.evaluation.benchmarks.inf_streams import read_commentaries, read_segments
from stream_vlm.evaluation.benchmarks.judge import Judge
from stream_vlm.evaluation.benchmarks.ovo import read_answers, read_items, score_answers
from stream_vlm.evaluation.benchmarks.running import Task, answer_ovo, answer_tasks
from stream_vlm.evaluation.benchmarks.streaming_eval import is_right_choice, read_streaming_items, score_streaming
from stream_vlm.evaluation.benchmarks.streamo_bench import named_span, read_streamo_items, score_streamo
from stream_vlm.evaluation.online import Look, TimedQuestion
from stream_vlm.evaluation.records import TimedEvent, TimedUtterance
from stream_vlm.stream import Frame

PUBLISHED = {
    **{"EPM": 56.23, "HLD": 7.53, "ASI": 57.43, "backward": 40.40, "ATR": 69.83, "ACR": 58.72, "OCR": 69.13, "STU": 49.44, "OJR": 59.78},
    **{"FPD": 74.26, "realtime": 63.52, "CRR": 60.42, "REC": 34.10, "SSR": 69.95, "forward": 54.82, "total": 52.91},
}


def choice(item_id: int, task: str = "EPM", gt: int = 1, realtime: float = 3.0) -> dict[str, Any]:
    named = {"id": item_id, "task": task, "video": "a.mp4", "realtime": realtime, "question": "What is red?", "answer": "cup"}
    return {**named, "options": ["ball", "cup", "box", "book"], "gt": gt}


def points(item_id: int, task: str, *infos: dict[str, Any]) -> dict[str, Any]:
    more = {"activity": "jumping", "question": "Who won?"}
    return {"id": item_id, "task": task, "video": "a.mp4", **more, "test_info": list(infos)}


ITEMS = [
    choice(0),
    choice(1, "OCR", gt=0),
    points(2, "REC", {"realtime": 2, "count": 1}, {"realtime": 4, "count": 12}),
    points(3, "SSR", {"realtime": 2, "step": "pour", "type": 0}, {"realtime": 4, "step": "stir", "type": 1}),
]


def answered(response: Any = "B.", **rows: Any) -> list[dict[str, Any]]:
    """Answers to `ITEMS` that are all right but for `response`, which answers the first."""
    return [
        {"id": 0, "task": "EPM", "response": response, "ground_truth": "B"},
        {"id": 1, "task": "OCR", "response": "The answer is A", "ground_truth": "A"},
        {**ITEMS[2], "test_info": [{"realtime": 2, "count": 1, "response": "1 time"}, {"realtime": 4, "count": 12, "response": "12"}]},
        {**ITEMS[3], "test_info": [{"realtime": 2, "type": 0, "response": "N"}, {"realtime": 4, "type": 1, "response": "Yes, stirring"}]},
    ]


def by_id() -> dict[int, dict[str, Any]]:
    return {item["id"]: item for item in ITEMS}


def test_ovo_scores_letters_digits_and_yes_or_no_and_averages_the_groups() -> None:
    report = score_answers(by_id(), answered()).as_dict()
    assert report["official"]["tasks"] == {"EPM": 100, "OCR": 100, "REC": 100, "SSR": 100}
    assert report["official"]["total"] == 100 and report["faults"] == [] and report["missing"] == {}
    wrong = score_answers(by_id(), answered("C")).as_dict()
    assert wrong["official"]["groups"]["backward"] == 0 and wrong["official"]["total"] == pytest.approx(200 / 3)


def test_a_response_that_names_every_letter_is_right_officially_and_wrong_strictly() -> None:
    report = score_answers(by_id(), answered("A B C D")).as_dict()
    assert report["official"]["tasks"]["EPM"] == 100 and report["strict"]["tasks"]["EPM"] == 0


@pytest.mark.parametrize(
    ("response", "fault", "points_right"),
    [
        (["B"], "the response is a list of one string", 100),
        (["A", "B"], "the response is list", 0),
        (None, "no response", 0),
        (2, "the response is int 2", 0),
    ],
)
def test_a_response_that_is_no_string_is_named_and_nothing_falls_over(response: Any, fault: str, points_right: float) -> None:
    report = score_answers(by_id(), answered(response)).as_dict()
    (named,) = report["faults"]
    assert named["id"] == 0 and named["task"] == "EPM" and named["fault"].startswith(fault)
    assert report["official"]["tasks"]["EPM"] == points_right


def test_missing_doubled_unknown_and_disagreeing_rows_are_named() -> None:
    rows = answered()
    rows[0] = {**rows[0], "ground_truth": "D", "response": "D"}
    report = score_answers(by_id(), [rows[0], rows[2], rows[2], {"id": 99, "response": "A"}, {"response": "A"}]).as_dict()
    assert [fault["fault"] for fault in report["faults"]] == [
        "states D as right, the data B",
        "answered twice",
        "no such item in the data",
        "no such item in the data",
    ]
    assert report["missing"] == {"OCR": 1, "SSR": 1}
    assert report["official"]["tasks"]["EPM"] == 100 and report["strict"]["tasks"]["EPM"] == 0 and report["official"]["total"] is None


def test_test_points_without_an_answer_count_as_wrong() -> None:
    row = {**ITEMS[2], "test_info": [{"realtime": 2, "count": 1, "response": "1"}]}
    report = score_answers(by_id(), [row]).as_dict()
    assert report["official"]["tasks"]["REC"] == 50 and "answers 1 of 2 test points" in report["faults"][0]["fault"]


def test_published_answers_get_their_published_scores_to_two_decimals(repository: Path, tmp_path: Path) -> None:
    folder = repository.parent / "shared" / "benchmarks" / "ovo"
    if not folder.is_dir():
        pytest.skip(f"no published answers at {folder}")
    data, answers = folder / "ovo_bench_new.json", folder / "results" / "LLaVA_Video"
    assert len(read_items(data)) == 1640 and len(read_answers(answers)) == 1640
    assert main(["eval", "--benchmark", "ovo", "--data", str(data), "--answers", str(answers), "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    official = report["official"]
    found = {**official["tasks"], **official["groups"], "total": official["total"]}
    assert {name: round(score, 2) for name, score in found.items()} == PUBLISHED
    assert report["faults"] == [] and report["missing"] == {}


class Parrot:
    """Says the question back, and what it has seen of the video."""

    name = "parrot"

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def begin(self, session: str) -> None:
        self.seen = []

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        self.seen.append((t, float(frame.image.mean())))
        return Look("silence", answer=f"{t:g} s: B" if question else "")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.mp4 lasts 6 s."""
    folder = tmp_path_factory.mktemp("videos")
    writer = cv2.VideoWriter(str(folder / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 4.0, (64, 48))
    for index in range(24):
        writer.write(np.full((48, 64, 3), 20 + 8 * index, np.uint8))
    writer.release()
    return folder


def test_ovo_is_answered_online_without_any_frame_after_a_question(videos: Path) -> None:
    parrot = Parrot()
    document, faults = answer_ovo(ITEMS[:1], videos, parrot, 2.0)
    assert faults == [] and max(t for t, _ in parrot.seen) <= 3.0
    assert document["backward"] == [
        {"id": 0, "video": "a.mp4", "task": "EPM", "question": "What is red?", "response": "2.5 s: B", "ground_truth": "B"}
    ]


def test_all_points_of_a_forward_item_are_asked_in_one_pass(videos: Path) -> None:
    document, _ = answer_ovo(ITEMS[2:], videos, Parrot(), 2.0)
    assert [point["response"] for point in document["forward"][0]["test_info"]] == ["1.5 s: B", "3.5 s: B"]
    assert [point["type"] for point in document["forward"][1]["test_info"]] == [0, 1]


def test_a_missing_video_is_named_and_its_items_count_as_unanswered(videos: Path) -> None:
    document, faults = answer_ovo([{**ITEMS[0], "video": "gone.mp4"}], videos, Parrot(), 2.0)
    assert "item 0" in faults[0] and "gone.mp4" in faults[0] and document["backward"][0]["response"] is None
    (answer,) = answer_tasks([Task("x", "gone.mp4", ())], videos, Parrot(), 2.0)
    assert "gone.mp4" in answer.faults[0] and answer.utterances == []


def test_ovo_runs_on_ones_own_videos_with_the_shipped_model(videos: Path, tmp_path: Path) -> None:
    data = tmp_path / "ovo.json"
    data.write_text(json.dumps(ITEMS))
    arguments = ["eval", "--benchmark", "ovo", "--data", str(data), "--videos", str(videos), "--out", str(tmp_path / "out"), "--limit", "1"]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["protocol"].startswith("online") and report["missing"] == {} and report["model"].startswith("stream-vlm-small")
    made = read_answers(tmp_path / "out" / "answers.json")
    assert score_answers(by_id(), made).as_dict()["official"] == report["official"]


def streamo_row(task: str, asked: Any, **answer: Any) -> dict[str, Any]:
    due = {"content": "The cup falls.", "st_time": "", "end_time": "", "time": ""} | answer
    return {"task_type": task, "video_path": "a.mp4", "question": [{"content": "When?", "time": asked}], "response": [due]}


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


def test_streamo_grounds_forward_by_what_was_reported_and_backward_by_what_was_named(streamo_data: Path) -> None:
    items = read_streamo_items(streamo_data)
    assert [item.is_backward for item in items] == [False, True, False, False]
    assert items[0].questions[0].is_watch and not items[1].questions[0].is_watch
    answers = {
        "1": said(events=(TimedEvent("cup falls", 6.0, 10.0), TimedEvent("cup falls", 4.0, 8.0))),
        "2": said((2.0, "from 0 to 1 s"), (20.0, "It fell from 00:04 to 6.0 s.")),
        "3": said((3.0, "The cup falls"), (12.9, "the cup falls.")),
    }
    report = score_streamo(items, answers, None, None)
    assert report["grounding_forward"]["miou"] == pytest.approx(1 / 3) and report["grounding_backward"]["miou"] == pytest.approx(0.5)
    assert report["time_sensitive_qa"]["accuracy"] == 1.0 and report["without_answer"] == ["4"]
    assert report["captions"]["win_rate"] is None and "needs a judge" in report["captions"]["not_scored"]
    late = score_streamo(items, {"3": said((13.1, "The cup falls."))}, None, None)
    assert late["time_sensitive_qa"]["accuracy"] == 0.0 and late["grounding_forward"]["miou"] == 0.0


def test_streamo_captions_are_compared_by_the_judge_and_a_missing_answer_loses_without_asking(streamo_data: Path) -> None:
    items = read_streamo_items(streamo_data)
    with serve_judge(lambda text: "A") as server, Judge(server.url, "m") as judge:
        report = score_streamo(items, {"4": said((8.0, "falls"))}, {"4": said((8.0, "it falls"))}, judge)
        assert report["captions"]["win_rate"] == 0.5
        asked = len(server.requests)
        assert score_streamo(items, {}, {"4": said((8.0, "it falls"))}, judge)["captions"]["win_rate"] == 0.0
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("text", "span"),
    [("from 3 s to 8.5 s", (3.0, 8.5)), ("00:03 - 00:08", (3.0, 8.0)), ("at 9, then 4", (4.0, 9.0)), ("at 5 s", None), ("soon", None)],
)
def test_a_span_is_read_from_words(text: str, span: tuple[float, float] | None) -> None:
    assert named_span(text) == span


def test_inf_streams_segments_and_commentaries_are_read_as_published(tmp_path: Path) -> None:
    long_text = "word " * 250
    rows = [
        {"video": "games/a.mp4", "title": "A", "content": [[0, 50, "kick off"], [50, 100, "goal"]]},
        {"video": "b.mp4", "content": [[0, 90, long_text], [90, 150, "few words"], [150, 290, long_text]]},
    ]
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    segments = read_segments(tmp_path / "meta.jsonl")
    assert [(segment.video, segment.start, segment.end) for segment in segments] == [("a.mp4", 0, 100), ("b.mp4", 0, 90), ("b.mp4", 150, 290)]
    assert segments[0].reference == "kick off\ngoal"
    chunks = [
        {"video": "a.mp4", "chunk_start": 100, "chunk_end": 200, "items": [{"response": "late", "start_time": 150, "end_time": 151}]},
        {"video": "a.mp4", "chunk_start": 0, "chunk_end": 100, "items": [{"response": "a", "end_time": 0}, {"response": "b", "end_time": 100}]},
        {"video": "a.mp4", "chunk_start": 0, "chunk_end": 40, "items": []},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chunks))
    (commentary,) = read_commentaries(tmp_path / "answers.jsonl").values()
    assert (commentary.start, commentary.end) == (0, 200) and commentary.during(segments[0]) == "b"


@pytest.mark.parametrize(
    ("text", "right"), [("B", True), ("(b)", False), ("(B) cup", True), ("cup", True), ("A", False), ("A red one", False), ("C. cup", False)]
)
def test_a_choice_is_named_by_its_letter_or_its_words(text: str, right: bool) -> None:
    assert is_right_choice(text, "cup", ("ball", "cup", "box")) == right
    assert is_right_choice(text, "B", ("ball", "cup", "box")) == right


def test_streaming_eval_scores_answers_in_their_windows_by_split(tmp_path: Path) -> None:
    windows = [{"start": 5, "end": 8, "answer": "cup"}, {"start": 20, "end": 24, "answer": "box"}]
    rows = [
        {"id": "q", "video": "a.mp4", "kind": "qa", "question": "What is red?", "ask_time": 1, "windows": windows, "split": "forward"},
        {"id": "n", "video": "a.mp4", "kind": "narration", "reference": "A cup falls."},
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    items = read_streaming_items(tmp_path / "data.json")
    assert items[0].question.is_watch and items[1].is_narration
    report = score_streaming(items, {"q": said((6.0, "cup"), (12.0, "cup"), (21.0, "ball"))}, None, None)
    assert report["splits"]["forward"]["sw_f1_published"] == pytest.approx(2 / (2 + 0.2 + 2))
    assert report["all"]["sw_f1_full_charge"] == pytest.approx(1 / (1 + 2 + 1)) and report["without_answer"] == ["n"]
    with serve_judge(lambda text: "A") as server, Judge(server.url, "m") as judge:
        compared = score_streaming(items, {"n": said((3.0, "falls"))}, {"n": said((3.0, "it falls"))}, judge)
        assert compared["narration"]["win_rate"] == 0.5


@pytest.mark.parametrize("benchmark", ["streamo", "streaming-eval", "inf-streams"])
def test_other_benchmarks_are_watched_online_and_leave_their_answers(benchmark: str, streamo_data: Path, videos: Path, tmp_path: Path) -> None:
    window = {"start": 1, "end": 4, "answer": "yes"}
    data = {
        "streamo": streamo_data.read_text(),
        "streaming-eval": json.dumps({"id": "q", "video": "a.mp4", "kind": "qa", "question": "Red?", "ask_time": 2, "windows": [window]}),
        "inf-streams": json.dumps({"video": "a.mp4", "content": [[0, 6, "it gets brighter"]]}),
    }[benchmark]
    (tmp_path / "data.json").write_text(data)
    report = examine_benchmark(Examined(benchmark, tmp_path / "data.json", videos=videos), lambda: (AlwaysSpeaking(), 2.0), None, tmp_path)
    assert report["protocol"].startswith("online")
    if benchmark == "inf-streams":
        assert read_commentaries(tmp_path / "answers.json")["a.mp4"].end == 6 and "not_scored" in report
    else:
        assert all(answer.utterances for answer in read_stream_answers(tmp_path / "answers.json").values())
    if benchmark == "streaming-eval":
        assert report["all"]["hits"] == 1 and report["all"]["sw_f1_full_charge"] < report["all"]["sw_f1_published"] < 1


@pytest.mark.parametrize(
    ("benchmark", "data", "complaint"),
    [
        ("ovo", '[{"id": 1}]', "is no OVO-Bench item"),
        ("ovo", "{", "is no JSON"),
        ("ovo", "5", "is no OVO-Bench item"),
        ("ovo", '[{"id": 1, "task": "REC", "video": "a.mp4", "test_info": [{"realtime": 3}]}]', "is no OVO-Bench item"),
        ("streamo", '[{"task_type": "Weather"}]', "unknown task type"),
        ("inf-streams", '[{"video": "a"}]', "needs video, content"),
        ("streaming-eval", '[{"id": 1, "video": "a", "kind": "qa"}]', "is no item of Streaming-Eval"),
    ],
)
def test_data_of_another_form_is_refused_in_one_sentence(
    benchmark: str, data: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.json").write_text(data)
    (tmp_path / "answers.json").write_text('{"backward": []}')
    arguments = ["eval", "--benchmark", benchmark, "--data", str(tmp_path / "data.json"), "--answers", str(tmp_path / "answers.json")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert complaint in printed and len(printed.splitlines()) == 1


def test_neither_answers_nor_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give either --answers FILE, or --videos FOLDER"):
        examine_benchmark(Examined("ovo", tmp_path / "x.json"), lambda: (Parrot(), 2.0), None, tmp_path)


@pytest.mark.parametrize("arguments", [["--world", "heldout", "--footage", "x"], [], ["--benchmark", "ovo"], ["--data", "x", "--world", "heldout"]])
def test_one_thing_is_examined_at_a_time(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *arguments, "--out", str(tmp_path)]) == 2
    assert "Error:" in capsys.readouterr().err
