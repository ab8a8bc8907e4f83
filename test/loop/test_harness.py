"""One step of the loop: every camera has its turn, and its faults and results name it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from stream_vlm.config.settings import load_settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.model_protocol import Outcome, Turn, Upcoming, WatchRefused, one_by_one
from stream_vlm.types import Decision, Frame, Query, State, StreamError, Tick

HALF_SECOND = 500_000_000
CERTAIN = {State.SILENCE: 0.0, State.STANDBY: 0.0, State.RESPONSE: 0.0}


@dataclass
class ScriptedStream:
    """Decides by a script, one letter a frame.

    "." is silence, "-" standby, "!" a response, "=" a response that is always in the same words,
    "?" a response with a low probability of activity. "x" is a picture that cannot be used, "r" a
    response to a frame where a watch is refused, "R" the same with a picture that cannot be used.
    """

    script: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)
    at: int = 0

    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
        watch: Query | None = None,
    ) -> Decision:
        letter = self.script[self.at]
        if letter in "rR" and watch is not None:
            raise WatchRefused(f"{frame.camera}: scripted cannot watch")
        self.at += 1
        if letter in "xR":
            raise StreamError(f"{frame.camera}: not a picture; clean the lens")
        state = {
            ".": State.SILENCE,
            "r": State.RESPONSE,
            "-": State.STANDBY,
            "!": State.RESPONSE,
            "?": State.RESPONSE,
            "=": State.RESPONSE,
        }[letter]
        sure = 0.6 if letter == "?" else 1.0
        decision = gate(
            Decision(state, CERTAIN | {State.SILENCE: 1.0 - sure} | {state: sure}, confidence=sure)
        )
        if decision.state is State.RESPONSE:
            text = (
                f"answer to {query.text}"
                if query
                else "the same"
                if letter == "="
                else f"seen {self.at}"
            )
            if on_text:
                on_text(text)
            return Decision(decision.state, decision.probabilities, text, sure)
        return decision

    def reset(self) -> None:
        self.at = 0

    def prepare(self) -> None: ...


@dataclass
class ScriptedModel:
    scripts: dict[str, str]
    model_id: str = "scripted"
    reads_memory: bool = False
    activity_threshold: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: {"vision": 0.001})

    def unknown_words(self, text: str) -> Sequence[str]:
        return ()

    def open_stream(self, camera: str) -> ScriptedStream:
        return ScriptedStream(self.scripts[camera])

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        return one_by_one(
            turns,
            lambda turn: Outcome(
                cast(ScriptedStream, turn.stream).step(
                    turn.frame, turn.query, turn.gate, turn.on_text, turn.watch
                )
            ),
        )


def tick(index: int, cameras: Sequence[str], *queries: Query) -> Tick:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    frames = tuple(
        Frame(camera, index * HALF_SECOND, f"{camera}_optical", image) for camera in cameras
    )
    return Tick(index, index * HALF_SECOND, frames, queries)


def harness(**scripts: str) -> StreamingHarness:
    return StreamingHarness(
        load_settings({"cameras": list(scripts)}), ScriptedModel(scripts), "session"
    )


def test_an_event_and_its_utterance_carry_the_frame_they_rest_on() -> None:
    loop = harness(front=".--!")
    result = [loop.step(tick(index, ["front"])) for index in range(4)][-1]
    (utterance,), (event,) = result.utterances, result.events
    assert (utterance.stamp_ns, utterance.frame_id, utterance.text) == (
        3 * HALF_SECOND,
        "front_optical",
        "seen 4",
    )
    assert (event.stamp_ns, event.frame_id, event.label) == (
        3 * HALF_SECOND,
        "front_optical",
        "seen 4",
    )
    assert (event.start_ns, event.end_ns) == (HALF_SECOND // 2, 5 * HALF_SECOND // 2), (
        "halfway from the frame before"
    )
    assert utterance.event_id == event.event_id


def test_while_an_event_is_under_way_the_step_says_since_when() -> None:
    loop = harness(front=".--!")
    since = [loop.step(tick(index, ["front"])).under_way_since for index in range(4)]
    assert since == [{}, {"front": HALF_SECOND // 2}, {"front": HALF_SECOND // 2}, {}]


def test_a_step_names_the_event_that_it_gives_up() -> None:
    loop = harness(front="-........")
    steps = [loop.step(tick(index, ["front"])) for index in range(9)]
    (given_up,) = [event for result in steps for event in result.abandoned]
    assert (given_up.camera, given_up.start_ns, given_up.too_long) == ("front", 0, False)
    assert all(result.events == () for result in steps)
    assert steps[-1].under_way_since == {}


def test_a_camera_whose_picture_fails_is_named_and_the_others_go_on() -> None:
    loop = harness(front="x.", rear="!!")
    result = loop.step(tick(0, ["front", "rear"]))
    assert result.faults == {"front": "front: not a picture; clean the lens"}
    assert set(result.decisions) == {"rear"}
    assert set(loop.step(tick(1, ["front", "rear"])).decisions) == {"front", "rear"}


def test_a_camera_without_a_new_frame_is_not_asked() -> None:
    loop = harness(front="..", rear="..")
    assert set(loop.step(tick(0, ["rear"])).decisions) == {"rear"}


def test_an_answer_is_linked_with_its_query_and_is_no_event() -> None:
    heard: list[tuple[str, str]] = []
    loop = harness(front="..")
    query = Query("q7", "what is there", 0, "front")
    result = loop.step(
        tick(0, ["front"], query), lambda query_id, text: heard.append((query_id, text))
    )
    assert [(utterance.query_id, utterance.text) for utterance in result.utterances] == [
        ("q7", "answer to what is there")
    ]
    assert heard == [("q7", "answer to what is there")]
    assert result.events == ()


def test_a_query_for_one_camera_is_not_put_to_another() -> None:
    result = harness(front=".", rear=".").step(
        tick(0, ["front", "rear"], Query("q", "what", 0, "rear"))
    )
    assert [utterance.camera for utterance in result.utterances] == ["rear"]


def test_an_answer_does_not_end_the_event_that_is_under_way() -> None:
    loop = harness(front="--.-!")
    for index in range(5):
        queries = (Query("q", "what", 0),) if index == 2 else ()
        result = loop.step(tick(index, ["front"], *queries))
    assert [(event.start_ns, event.end_ns) for event in result.events] == [
        (0, 7 * HALF_SECOND // 2)
    ]


def test_doubts_by_the_models_own_threshold_keep_it_quiet_but_for_questions_and_watches() -> None:
    loop = StreamingHarness(
        load_settings({"cameras": ["front"]}),
        ScriptedModel({"front": "-?-!???"}, activity_threshold=0.9),
        "session",
    )
    asked = {4: (Query("q", "what", 0),), 5: (Query("w", "tell me", 0, "front", is_watch=True),)}
    results = [loop.step(tick(index, ["front"], *asked.get(index, ()))) for index in range(6)]
    assert [[said.text for said in result.utterances] for result in results] == [
        [],
        [],
        [],
        ["seen 4"],
        ["answer to what"],
        ["seen 6"],
    ]
    assert results[1].decisions["front"].state is State.SILENCE
    assert results[1].under_way_since == {"front": 0}
    assert [event.label for result in results for event in result.events] == ["seen 4", "seen 6"]


def test_a_new_session_begins_with_a_clean_context_and_new_event_ids() -> None:
    loop = harness(front="-!")
    first = [loop.step(tick(index, ["front"])) for index in range(2)][-1]
    loop.open_session("later")
    second = [loop.step(tick(index, ["front"])) for index in range(2)][-1]
    assert second.session_id == "later"
    assert first.events[0].event_id != second.events[0].event_id
    assert [event.label for event in second.events] == ["seen 2"]


def test_stages_are_clocked() -> None:
    seconds = harness(front=".", rear=".").step(tick(0, ["front", "rear"])).seconds
    assert seconds["vision"] == pytest.approx(0.001)
    assert seconds["step"] > 0


def test_what_is_said_again_with_hardly_a_silence_between_is_neither_said_nor_an_event_again() -> (
    None
):
    loop = harness(front="-=-=.=..=")
    results = [loop.step(tick(index, ["front"])) for index in range(9)]
    assert [index for index, result in enumerate(results) if result.utterances] == [1, 8]
    assert [index for index, result in enumerate(results) if result.events] == [1, 8]
    assert results[3].decisions["front"].state is State.SILENCE


def test_under_a_watch_every_report_is_made_in_whatever_words() -> None:
    loop = harness(front="=.=")
    results = [
        loop.step(tick(index, ["front"], *([watch("w1")] if index == 0 else [])))
        for index in range(3)
    ]
    assert [len(result.utterances) for result in results] == [1, 0, 1]


def test_an_answer_is_given_in_the_words_of_a_moment_ago() -> None:
    loop = harness(front="!!")
    question = Query("q1", "what is there ?", 0, "front")
    assert [len(loop.step(tick(index, ["front"], question)).utterances) for index in range(2)] == [
        1,
        1,
    ]


def watch(query_id: str, camera: str = "") -> Query:
    return Query(query_id, "someone enters", 0, camera, is_watch=True)


def test_a_watch_is_not_answered_and_what_is_said_under_it_is_an_event_that_carries_its_id() -> (
    None
):
    loop = harness(front="..-!.")
    results = [
        loop.step(tick(index, ["front"], *([watch("w1")] if index == 1 else [])))
        for index in range(5)
    ]
    assert [len(result.utterances) for result in results] == [0, 0, 0, 1, 0]
    (utterance,), (event,) = results[3].utterances, results[3].events
    assert (utterance.query_id, utterance.event_id, utterance.text) == (
        "w1",
        event.event_id,
        "seen 4",
    )


def test_a_question_asked_during_a_watch_is_answered_and_the_watch_goes_on() -> None:
    loop = harness(front="...!")
    results = [
        loop.step(tick(0, ["front"], watch("w1"))),
        loop.step(tick(1, ["front"], Query("q1", "what", 0))),
        loop.step(tick(2, ["front"])),
        loop.step(tick(3, ["front"])),
    ]
    assert [[utterance.query_id for utterance in result.utterances] for result in results] == [
        [],
        ["q1"],
        [],
        ["w1"],
    ]


def test_a_question_and_a_watch_that_come_together_both_enter() -> None:
    loop = harness(front=".!")
    first = loop.step(tick(0, ["front"], watch("w1"), Query("q1", "what", 0)))
    second = loop.step(tick(1, ["front"]))
    assert [utterance.query_id for utterance in (*first.utterances, *second.utterances)] == [
        "q1",
        "w1",
    ]


def test_another_watch_replaces_the_one_before_on_its_camera_only() -> None:
    loop = harness(front="!!", rear="!!")
    loop.step(tick(0, ["front", "rear"], watch("both")))
    result = loop.step(tick(1, ["front", "rear"], watch("rear only", "rear")))
    assert {utterance.camera: utterance.query_id for utterance in result.utterances} == {
        "front": "both",
        "rear": "rear only",
    }


@pytest.mark.parametrize("query_id", ["w1", "nothing"])
def test_a_watch_ends_by_its_id_at_all_its_cameras(query_id: str) -> None:
    loop = harness(front="..", rear="..")
    loop.step(tick(0, ["front", "rear"], watch("w1")))
    loop.end_watch(query_id)
    assert loop.watching == (frozenset() if query_id == "w1" else {"w1"})


def test_what_is_said_after_a_watch_is_over_is_unasked_again() -> None:
    loop = harness(front=".!")
    loop.step(tick(0, ["front"], watch("w1")))
    loop.end_watch("w1")
    assert [utterance.query_id for utterance in loop.step(tick(1, ["front"])).utterances] == [""]


def test_a_watch_reaches_a_camera_that_shows_its_first_picture_later() -> None:
    loop = harness(front=".", rear="!")
    loop.step(tick(0, ["front"], watch("w1")))
    assert [utterance.query_id for utterance in loop.step(tick(1, ["rear"])).utterances] == ["w1"]


def test_a_watch_goes_on_in_a_new_session() -> None:
    loop = harness(front="!")
    loop.step(tick(0, ["front"], watch("w1")))
    loop.open_session("later")
    assert [utterance.query_id for utterance in loop.step(tick(0, ["front"])).utterances] == ["w1"]


def test_a_watch_that_the_model_refuses_is_over_and_a_picture_that_cannot_be_used_ends_none() -> (
    None
):
    loop = harness(front="rx.")
    assert loop.step(tick(0, ["front"], watch("w1"))).faults == {
        "front": "front: scripted cannot watch"
    }
    assert loop.watching == frozenset()
    loop.step(tick(1, ["front"], watch("w2")))
    assert loop.watching == {"w2"}


def test_a_refused_watch_costs_no_camera_its_frame_and_no_question_its_answer() -> None:
    loop = harness(front="r.", rear="r.", side="!.")
    question = Query("q1", "what", 0, "front")
    result = loop.step(tick(0, ["front", "rear", "side"], watch("w1"), question))
    assert set(result.faults) == {"front", "rear"}
    assert set(result.decisions) == {"front", "rear", "side"}
    assert [said.text for said in result.utterances if said.query_id == "q1"] == ["answer to what"]
    assert loop.watching == frozenset()
    assert loop.step(tick(1, ["front", "rear", "side"])).faults == {}


def test_a_picture_that_cannot_be_used_beside_a_refused_watch_is_named_too() -> None:
    loop = harness(front="R")
    assert loop.step(tick(0, ["front"], watch("w1"))).faults == {
        "front": "front: scripted cannot watch; front: not a picture; clean the lens"
    }


def test_told_to_be_silent_until_asked_it_speaks_only_under_a_watch() -> None:
    settings = load_settings({"cameras": ["front"], "decision.unprompted": "never"})
    loop = StreamingHarness(settings, ScriptedModel({"front": "-!-!!"}), "session")
    queries = {2: [watch("w1")], 4: []}
    results = []
    for index in range(5):
        if index == 4:
            loop.end_watch("w1")
        results.append(loop.step(tick(index, ["front"], *queries.get(index, []))))
    states = [result.decisions["front"].state for result in results]
    assert states == [State.SILENCE, State.SILENCE, State.STANDBY, State.RESPONSE, State.SILENCE]
