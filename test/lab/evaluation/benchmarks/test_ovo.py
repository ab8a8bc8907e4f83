"""OVO-Bench: the official score is reproduced, unusual rows are reported, models run online."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clip_fixtures import write_video

from stream_vlm.cli import main
from stream_vlm.types import Frame
from stream_vlm_lab.evaluation.benchmarks.cases import answer_ovo
from stream_vlm_lab.evaluation.benchmarks.ovo import read_answers, read_items, score_answers
from stream_vlm_lab.evaluation.online.online_pass import FrameResult, TimedQuestion

PUBLISHED = {
    **{
        "EPM": 56.23,
        "HLD": 7.53,
        "ASI": 57.43,
        "backward": 40.40,
        "ATR": 69.83,
        "ACR": 58.72,
        "OCR": 69.13,
        "STU": 49.44,
        "OJR": 59.78,
    },
    **{
        "FPD": 74.26,
        "realtime": 63.52,
        "CRR": 60.42,
        "REC": 34.10,
        "SSR": 69.95,
        "forward": 54.82,
        "total": 52.91,
    },
}


def choice(item_id: int, task: str = "EPM", gt: int = 1, realtime: float = 3.0) -> dict[str, Any]:
    named = {
        "id": item_id,
        "task": task,
        "video": "a.mp4",
        "realtime": realtime,
        "question": "What is red?",
        "answer": "cup",
    }
    return {**named, "options": ["ball", "cup", "box", "book"], "gt": gt}


def points(item_id: int, task: str, *infos: dict[str, Any]) -> dict[str, Any]:
    more = {"activity": "jumping", "question": "Who won?"}
    return {"id": item_id, "task": task, "video": "a.mp4", **more, "test_info": list(infos)}


ITEMS = [
    choice(0),
    choice(1, "OCR", gt=0),
    points(2, "REC", {"realtime": 2, "count": 1}, {"realtime": 4, "count": 12}),
    points(
        3,
        "SSR",
        {"realtime": 2, "step": "pour", "type": 0},
        {"realtime": 4, "step": "stir", "type": 1},
    ),
]


def answered(response: Any = "B.", **rows: Any) -> list[dict[str, Any]]:
    """Answers to `ITEMS` that are all right except for `response`, the answer to the first item."""
    return [
        {"id": 0, "task": "EPM", "response": response, "ground_truth": "B"},
        {"id": 1, "task": "OCR", "response": "The answer is A", "ground_truth": "A"},
        {
            **ITEMS[2],
            "test_info": [
                {"realtime": 2, "count": 1, "response": "1 time"},
                {"realtime": 4, "count": 12, "response": "12"},
            ],
        },
        {
            **ITEMS[3],
            "test_info": [
                {"realtime": 2, "type": 0, "response": "N"},
                {"realtime": 4, "type": 1, "response": "Yes, stirring"},
            ],
        },
    ]


def by_id() -> dict[int, dict[str, Any]]:
    return {item["id"]: item for item in ITEMS}


def test_letters_digits_and_yes_or_no_are_scored_and_groups_are_averaged() -> None:
    report = score_answers(by_id(), answered()).as_dict()
    assert report["official"]["tasks"] == {"EPM": 100, "OCR": 100, "REC": 100, "SSR": 100}
    assert report["official"]["total"] == 100
    assert report["faults"] == []
    assert report["missing"] == {}
    wrong = score_answers(by_id(), answered("C")).as_dict()
    assert wrong["official"]["groups"]["backward"] == 0
    assert wrong["official"]["total"] == pytest.approx(200 / 3)


def test_a_response_that_names_every_letter_is_right_officially_and_wrong_strictly() -> None:
    report = score_answers(by_id(), answered("A B C D")).as_dict()
    assert report["official"]["tasks"]["EPM"] == 100
    assert report["strict"]["tasks"]["EPM"] == 0


@pytest.mark.parametrize(
    ("response", "fault", "points_right"),
    [
        (["B"], "the response is a list of one string", 100),
        (["A", "B"], "the response is list", 0),
        (None, "no response", 0),
        (2, "the response is int 2", 0),
    ],
)
def test_a_response_that_is_not_a_string_is_reported(
    response: Any, fault: str, points_right: float
) -> None:
    report = score_answers(by_id(), answered(response)).as_dict()
    (named,) = report["faults"]
    assert named["id"] == 0
    assert named["task"] == "EPM"
    assert named["fault"].startswith(fault)
    assert report["official"]["tasks"]["EPM"] == points_right


def test_missing_doubled_unknown_and_disagreeing_rows_are_reported() -> None:
    rows = answered()
    rows[0] = {**rows[0], "ground_truth": "D", "response": "D"}
    report = score_answers(
        by_id(), [rows[0], rows[2], rows[2], {"id": 99, "response": "A"}, {"response": "A"}]
    ).as_dict()
    assert [fault["fault"] for fault in report["faults"]] == [
        "states D as the right answer, the data B",
        "answered twice",
        "no such item in the data",
        "no such item in the data",
    ]
    assert report["missing"] == {"OCR": 1, "SSR": 1}
    assert report["official"]["tasks"]["EPM"] == 100
    assert report["strict"]["tasks"]["EPM"] == 0
    assert report["official"]["total"] is None


def test_test_points_without_an_answer_count_as_wrong() -> None:
    row = {**ITEMS[2], "test_info": [{"realtime": 2, "count": 1, "response": "1"}]}
    report = score_answers(by_id(), [row]).as_dict()
    assert report["official"]["tasks"]["REC"] == 50
    assert "answers 1 of 2 test points" in report["faults"][0]["fault"]


def test_published_answers_have_their_published_scores_to_two_decimals(
    repository: Path, tmp_path: Path
) -> None:
    folder = repository.parent / "shared" / "benchmarks" / "ovo"
    if not folder.is_dir():
        pytest.skip(f"no published answers at {folder}")
    data, answers = folder / "ovo_bench_new.json", folder / "results" / "LLaVA_Video"
    assert len(read_items(data)) == 1640
    assert len(read_answers(answers)) == 1640
    assert (
        main(
            [
                "eval",
                "--benchmark",
                "ovo",
                "--data",
                str(data),
                "--answers",
                str(answers),
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    report = json.loads((tmp_path / "report.json").read_text())
    official = report["official"]
    found = {**official["tasks"], **official["groups"], "total": official["total"]}
    assert {name: round(score, 2) for name, score in found.items()} == PUBLISHED
    assert report["faults"] == []
    assert report["missing"] == {}


class EchoModel:
    """Answers with the time and the letter B, and records what it has seen of the video."""

    name = "echo"

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def start_stream(self, session: str) -> None:
        self.seen = []

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        self.seen.append((t, float(frame.image.mean())))
        return FrameResult("silence", answer=f"{t:g} s: B" if question else "")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.mp4 lasts 6 s."""
    return write_video(
        tmp_path_factory.mktemp("videos") / "a.mp4", range(20, 212, 8), fps=4.0
    ).parent


def test_online_no_frame_after_the_question_is_used(videos: Path) -> None:
    echo = EchoModel()
    document, faults = answer_ovo(ITEMS[:1], videos, echo, 2.0)
    assert faults == []
    assert max(t for t, _ in echo.seen) <= 3.0
    assert document["backward"] == [
        {
            "id": 0,
            "video": "a.mp4",
            "task": "EPM",
            "question": "What is red?",
            "response": "2.5 s: B",
            "ground_truth": "B",
        }
    ]


def test_all_test_points_of_a_forward_item_are_asked_in_one_pass(videos: Path) -> None:
    document, _ = answer_ovo(ITEMS[2:], videos, EchoModel(), 2.0)
    assert [point["response"] for point in document["forward"][0]["test_info"]] == [
        "1.5 s: B",
        "3.5 s: B",
    ]
    assert [point["type"] for point in document["forward"][1]["test_info"]] == [0, 1]


def test_a_missing_video_is_reported_and_its_items_count_as_unanswered(videos: Path) -> None:
    document, faults = answer_ovo([{**ITEMS[0], "video": "gone.mp4"}], videos, EchoModel(), 2.0)
    assert "item 0" in faults[0]
    assert "gone.mp4" in faults[0]
    assert document["backward"][0]["response"] is None


def test_the_command_runs_the_shipped_model_on_videos(videos: Path, tmp_path: Path) -> None:
    data = tmp_path / "ovo.json"
    data.write_text(json.dumps(ITEMS))
    arguments = [
        "eval",
        "--benchmark",
        "ovo",
        "--data",
        str(data),
        "--videos",
        str(videos),
        "--out",
        str(tmp_path / "out"),
        "--limit",
        "1",
    ]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["protocol"].startswith("online")
    assert report["missing"] == {}
    assert report["model"].startswith("stream-vlm-small")
    made = read_answers(tmp_path / "out" / "answers.json")
    assert score_answers(by_id(), made).as_dict()["official"] == report["official"]
