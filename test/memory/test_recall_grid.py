"""A grid of queries over every way in which a memory is written and read."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from memory_fixtures import begin, seconds, settings, step

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.memory.search.query_words import search_words
from stream_vlm.types import Pose, StepResult


def at(x: float, y: float) -> Pose:
    return Pose("map", x, y, 0.0)


STORY = (
    step(10, said="red ball rolls in", pose=at(0, 0)),
    step(20, said="red cup is put down", pose=at(1, 0)),
    step(30, said="blue ball rolls in", pose=at(5, 5), camera="rear"),
    step(40, said="the door opens", since=31, pose=at(5, 6)),
    step(50, asked="where is the red ball?", said="the red ball is under the table"),
    step(60, said="red ball leaves", pose=at(0.5, 0)),
    step(70, pose=at(9, 9)),
)


def write_directly(memory: Memory) -> None:
    write(memory, SyncWriter(memory).submit)


def write_on_a_thread(memory: Memory) -> None:
    failed: list[object] = []
    writer = MemoryWriter(memory, lambda result: None, lambda result, error: failed.append(error))
    write(memory, writer.submit)
    writer.close()
    assert not failed


def write(memory: Memory, submit: Callable[[StepResult], None]) -> None:
    begin(memory)
    for result in STORY:
        submit(result)


@pytest.fixture(
    params=[
        "written directly",
        "written on a thread",
        "read by another program",
        "read after a restart",
    ]
)
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    """The story, as a memory."""
    where = settings(tmp_path / "memory.db")
    with ExitStack() as stack:
        memory = stack.enter_context(Memory.open(where))
        (write_on_a_thread if request.param == "written on a thread" else write_directly)(memory)
        if request.param == "read by another program":
            memory = stack.enter_context(Memory.open(where, read_only=True))
        if request.param == "read after a restart":
            memory.close()
            memory = stack.enter_context(Memory.open(where))
        yield memory


def texts(memory: Memory, query: RecallQuery) -> list[str]:
    return [record.text for record in memory.recall(query).records]


EVENTS = ("event",)


def test_an_empty_query_returns_the_newest_events_utterances_and_answers(
    memory: Memory,
) -> None:
    result = memory.recall(RecallQuery())
    assert result.total == 11
    assert {record.kind for record in result.records} == {"event", "utterance", "answer"}
    ends = [record.end_ns for record in result.records]
    assert ends == sorted(ends, reverse=True)


def test_records_that_match_more_of_the_words_come_first(memory: Memory) -> None:
    found = texts(memory, RecallQuery("red ball", kinds=EVENTS))
    assert set(found[:2]) == {"red ball rolls in", "red ball leaves"}
    assert set(found[2:]) == {"red cup is put down", "blue ball rolls in"}


def test_scores_fall_along_the_result_and_contain_the_number_of_matching_words(
    memory: Memory,
) -> None:
    scores = [
        record.score for record in memory.recall(RecallQuery("red ball", kinds=EVENTS)).records
    ]
    assert scores == sorted(scores, reverse=True)
    assert [int(score) for score in scores] == [2, 2, 1, 1]


def test_when_did_you_last_see_the_ball(memory: Memory) -> None:
    newest = memory.recall(
        RecallQuery("when did you last see the ball", order="newest", kinds=EVENTS, limit=1)
    ).records[0]
    assert (newest.text, newest.end_ns) == ("red ball leaves", seconds(60))


def test_when_did_you_first_see_the_ball(memory: Memory) -> None:
    oldest = memory.recall(
        RecallQuery("when did you first see the ball", order="oldest", kinds=EVENTS, limit=1)
    ).records[0]
    assert (oldest.text, oldest.start_ns) == ("red ball rolls in", seconds(9))


def test_a_record_with_both_words_comes_before_a_newer_one_with_one_of_them(memory: Memory) -> None:
    assert (
        texts(
            memory,
            RecallQuery("when did you last see the blue ball?", order="newest", kinds=EVENTS),
        )[0]
        == "blue ball rolls in"
    )


def test_what_did_you_see_between_two_times(memory: Memory) -> None:
    query = RecallQuery(
        "What did you see?", start_ns=seconds(15), end_ns=seconds(35), kinds=EVENTS, order="oldest"
    )
    assert texts(memory, query) == ["red cup is put down", "blue ball rolls in", "the door opens"]


def test_what_was_near_a_place(memory: Memory) -> None:
    assert texts(memory, RecallQuery(place=Place(5, 5, 1.5), kinds=EVENTS, order="oldest")) == [
        "blue ball rolls in",
        "the door opens",
    ]


def test_words_are_found_in_another_form_and_case(memory: Memory) -> None:
    assert "red ball rolls in" in texts(memory, RecallQuery("ROLLING"))


def test_a_span_that_reaches_into_the_time_range_matches(memory: Memory) -> None:
    within = RecallQuery(start_ns=seconds(35), end_ns=seconds(36), kinds=EVENTS)
    assert texts(memory, within) == ["the door opens"]


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "found"),
    [
        (seconds(40), None, True),
        (seconds(40) + 1, None, False),
        (None, seconds(31), True),
        (None, seconds(31) - 1, False),
        (seconds(35), seconds(35), True),
        (-(2**63), 2**63 - 1, True),
    ],
)
def test_time_ranges_include_their_ends_to_the_nanosecond(
    memory: Memory, start_ns: int | None, end_ns: int | None, found: bool
) -> None:
    assert (
        "the door opens"
        in texts(memory, RecallQuery(start_ns=start_ns, end_ns=end_ns, kinds=EVENTS))
    ) is found


@pytest.mark.parametrize(("radius", "count"), [(0.4999, 1), (0.5, 2), (1.0, 3), (0.7, 2)])
def test_a_place_is_a_disc_and_not_a_box(memory: Memory, radius: float, count: int) -> None:
    assert memory.recall(RecallQuery(place=Place(0, 0, radius), kinds=EVENTS)).total == count
    assert memory.recall(RecallQuery(place=Place(4.29, 4.29, 1.0), kinds=EVENTS)).total == 0


def test_records_without_a_pose_match_no_place(memory: Memory) -> None:
    everywhere = memory.recall(RecallQuery(place=Place(0, 0, 1e9), limit=1000)).records
    anywhere = memory.recall(RecallQuery(limit=1000)).records
    assert {record.kind for record in everywhere} == {"event", "utterance"}
    assert {record.record_id for record in everywhere} == {
        record.record_id for record in anywhere if record.pose is not None
    }
    assert {record.kind for record in anywhere} == {"event", "utterance", "answer"}


def test_all_filters_apply_together(memory: Memory) -> None:
    query = RecallQuery(
        "ball",
        start_ns=seconds(5),
        end_ns=seconds(45),
        place=Place(5, 5, 3),
        cameras=("rear",),
        kinds=EVENTS,
    )
    assert texts(memory, query) == ["blue ball rolls in"]
    assert memory.recall(RecallQuery("ball", place=Place(5, 5, 3), cameras=("front",))).total == 0


def test_cameras_filter_and_an_unknown_camera_matches_nothing(memory: Memory) -> None:
    assert texts(memory, RecallQuery(cameras=("rear",), kinds=EVENTS)) == ["blue ball rolls in"]
    assert memory.recall(RecallQuery(cameras=("rear", "front"), kinds=EVENTS)).total == 5
    assert memory.recall(RecallQuery(cameras=("attic",))).total == 0


@pytest.mark.parametrize(
    ("kind", "count"),
    [("observation", 7), ("utterance", 5), ("event", 5), ("query", 1), ("answer", 1)],
)
def test_each_kind_is_found_by_its_name(memory: Memory, kind: str, count: int) -> None:
    result = memory.recall(RecallQuery(kinds=(kind,)))
    assert result.total == count
    assert {record.kind for record in result.records} == {kind}


@pytest.mark.parametrize("text", ["", "red ball"])
def test_the_limit_applies_to_the_records_and_not_to_the_total(memory: Memory, text: str) -> None:
    whole = memory.recall(RecallQuery(text))
    cut = memory.recall(RecallQuery(text, limit=2))
    assert cut.records == whole.records[:2]
    assert cut.total == whole.total > 2


def test_a_query_without_matches_returns_no_records(memory: Memory) -> None:
    result = memory.recall(RecallQuery("zebra"))
    assert (result.records, result.total) == ((), 0)
    assert result.took_ms > 0


@pytest.mark.parametrize(
    "text",
    [
        'ball" OR "cup',
        "ball AND NOT cup",
        "text:ball",
        "ball* ^cup",
        "NEAR(ball cup, 2)",
        "-ball +cup {text} : x",
        "ball'; DROP TABLE record; --",
        "ball\0cup",
        "(ball",
        '"ball',
        "ball :word0 ?1 $x @y",
    ],
)
def test_query_syntax_and_sql_are_treated_as_words(memory: Memory, text: str) -> None:
    before = memory.count()
    assert "red ball rolls in" in texts(memory, RecallQuery(text))
    assert memory.count() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("when did you last see the ball", ("ball",)),
        ("Is the lamp on or off?", ("lamp", "on", "off")),
        ("ball Ball BALL", ("ball",)),
        ("what did you see?", ()),
        ("What happened", ()),
        ("the", ("the",)),
        ("", ()),
        ("  \n", ()),
        ("café", ("café",)),
        ("cafe\u0301", ("café",)),
        ("a_b", ("b",)),
        ("ball's", ("ball", "s")),
    ],
)
def test_the_words_of_a_text_that_are_searched_for(text: str, words: tuple[str, ...]) -> None:
    assert search_words(text) == words


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"text": "?!... *"},
            r"text: '\?!... \*' has no word in it; write words, or leave the text empty",
        ),
        ({"text": "x" * 1001}, "text: 1001 characters are too many; ask in at most 1000"),
        (
            {"text": " ".join(f"w{number}" for number in range(33))},
            "text: 33 different words are too many; ask with at most 32",
        ),
        ({"start_ns": 2, "end_ns": 1}, "time: start 2 ns is after end 1 ns; swap them"),
        ({"start_ns": 1.5}, "start_ns: 1.5 is not a time; give whole nanoseconds"),
        (
            {"end_ns": 2**63},
            "end_ns: 9223372036854775808 is not a time; give whole nanoseconds that fit 64 bits",
        ),
        ({"limit": 0}, "limit: 0 is refused; ask for 1 to 1000 records"),
        ({"limit": 10**9}, "limit: 1000000000 is refused; ask for 1 to 1000 records"),
        ({"limit": -1}, "limit: -1 is refused"),
        ({"limit": True}, "limit: True is refused"),
        (
            {"kinds": ("dream",)},
            (
                "kinds: 'dream' is unknown; choose among observation, utterance, event, query,"
                " answer, summary"
            ),
        ),
        ({"order": "best"}, "order: 'best' is unknown; choose among relevance, newest, oldest"),
        ({"cameras": tuple(str(number) for number in range(101))}, "cameras: 101 are too many"),
    ],
)
def test_an_invalid_query_is_refused_with_value_and_remedy(
    asked: dict[str, object], message: str
) -> None:
    with pytest.raises(RecallError, match=message):
        RecallQuery(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "y", "radius", "message"),
    [
        (float("nan"), 0.0, 1.0, "place: x = nan is not a distance"),
        (0.0, float("inf"), 1.0, "place: y = inf is not a distance"),
        (0.0, 0.0, float("nan"), "place: radius = nan is not a distance"),
        (0.0, 0.0, 0.0, "place: radius = 0.0 m is too small; give a radius above 0"),
        (0.0, 0.0, -1.0, "place: radius = -1.0 m is too small"),
        (
            1e300,
            0.0,
            1.0,
            r"place: x = 1e\+300 is not a distance; give a finite number of metres within 1e\+09",
        ),
    ],
)
def test_an_invalid_place_is_refused(x: float, y: float, radius: float, message: str) -> None:
    with pytest.raises(RecallError, match=message):
        Place(x, y, radius)
