"""The judge is asked over HTTP in both orders; a failed judgement can only lower a score."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from judge_server import JudgeServer, serve_judge

from stream_vlm_lab.evaluation.benchmarks.inf_streams import Commentary, Segment, score_commentaries
from stream_vlm_lab.evaluation.benchmarks.judge import (
    Judge,
    JudgeError,
    judge_all,
    judge_from_environment,
)

pytest.importorskip("httpx", reason="httpx asks the judge")


def prefers_longer(text: str) -> str:
    first, second = text.split("Commentary A:\n")[1].split("\n\nCommentary B:\n")
    return "A" if len(first) > len(second) else "B."


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge(prefers_longer) as judge:
        yield judge


def test_both_orders_are_asked_and_a_consistent_judge_votes_the_same_way_in_both(
    server: JudgeServer,
) -> None:
    with Judge(server.url, "small", key="secret") as judge:
        votes = judge.compare("a goal", "a goal by red", "goal")
        assert (votes.ours_first, votes.ours_second, votes.won) == ("ours", "ours", 2)
        assert judge.compare("a goal", "goal", "a goal by red").won == 0
    assert server.paths == ["/v1/chat/completions"] * 4
    assert server.requests[0]["model"] == "small"
    assert server.requests[0]["temperature"] == 0.0
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "Commentary A:\na goal by red" in server.requests[0]["messages"][1]["content"]
    assert "Commentary A:\ngoal" in server.requests[1]["messages"][1]["content"]


def test_a_judge_that_always_prefers_the_first_gives_each_side_one_vote(
    server: JudgeServer,
) -> None:
    server.reply = lambda text: "A"
    with Judge(server.url, "small") as judge:
        assert judge.compare("a", "b", "c").won == 1


@pytest.mark.parametrize(
    "reply",
    [
        500,
        429,
        "both are fine",
        b"not json",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
    ],
)
def test_a_failed_judgement_is_recorded_and_counts_as_lost(
    server: JudgeServer, reply: str | int | bytes
) -> None:
    server.reply = lambda text: reply
    with Judge(server.url, "small") as judge:
        assert judge.compare("a", "b", "c").won == 0
        assert not judge.is_right("Q?", "yes", "yes")
        assert len(judge.failures) == 3


def test_a_judgement_without_a_connection_is_recorded_and_counts_as_lost() -> None:
    with Judge("http://127.0.0.1:9/v1", "small", timeout_s=2.0) as judge:
        assert judge.compare("a", "b", "c").won == 0
        assert "ConnectError" in judge.failures[0]


def test_content_is_judged_with_yes_or_no(server: JudgeServer) -> None:
    server.reply = lambda text: "Yes." if "Answer to check: a red ball" in text else "no"
    with Judge(server.url, "small") as judge:
        assert judge.is_right("What fell?", "the ball", "a red ball")
        assert not judge.is_right("What fell?", "the ball", "a cup")


def test_parallel_judgements_keep_their_order() -> None:
    assert judge_all(list(range(50)), lambda number: number * 2) == [
        number * 2 for number in range(50)
    ]


def test_the_environment_must_set_both_url_and_model_of_the_judge() -> None:
    assert judge_from_environment({}) is None
    with pytest.raises(JudgeError, match="must both be set"):
        judge_from_environment({"STREAM_VLM_JUDGE_URL": "http://localhost"})
    judge = judge_from_environment(
        {"STREAM_VLM_JUDGE_URL": "http://localhost", "STREAM_VLM_JUDGE_MODEL": "m"}
    )
    assert judge is not None
    assert judge.model == "m"


def test_without_httpx_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(JudgeError, match="pip install httpx"):
        Judge("http://localhost", "m")


def commentary(words: str, start: int = 0, end: int = 200) -> Commentary:
    return Commentary(start, end, [(50.0, words), (150.0, words)])


def test_segments_are_scored_by_votes_and_uncovered_segments_are_lost(
    server: JudgeServer,
) -> None:
    segments = [
        Segment("a", "", 0, 100, "ref"),
        Segment("a", "", 100, 200, "ref"),
        Segment("b", "", 0, 100, "ref"),
        Segment("c", "", 0, 100, "ref"),
    ]
    ours = {"a": commentary("a long story"), "c": commentary("x")}
    theirs = {"a": commentary("short"), "b": commentary("short"), "c": commentary("y", end=50)}
    with Judge(server.url, "small") as judge:
        report = score_commentaries(segments, ours, theirs, judge)
    assert report["votes"] == {"ours": 4, "theirs": 2}
    assert report["win_rate"] == pytest.approx(4 / 6)
    assert [row["winner"] for row in report["rows"]] == ["A", "A", "B"]
    assert report["rows"][2]["judge"] == {
        "model": "small",
        "vote_ab": "failed",
        "vote_ba": "failed",
    }
    assert report["not_covered_by_the_other"] == ["c 0-100"]
    assert len(server.requests) == 4
