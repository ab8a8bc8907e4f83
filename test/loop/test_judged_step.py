"""One step with a model that judges each instruction on its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from judging_model import JudgingModel, by_letters

from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.config.settings import load_settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.loop.standing_instructions import instruction_id
from stream_vlm.model_protocol import Outcome
from stream_vlm.types import NANOSECONDS, EventSpan, Frame, Pose, Query, State, StepResult, Tick

FIRE, FALL = "fire", "a person who falls"


def harness(
    table: dict[str, str], cameras: Sequence[str] = ("front",), **values: Any
) -> StreamingHarness:
    """A loop over a scripted model; the instructions are those of `table` unless they are set."""
    given = {"cameras": list(cameras), "instructions": [FIRE, FALL]}
    given |= {name.replace("__", "."): value for name, value in values.items()}
    return StreamingHarness(load_settings(given), JudgingModel(by_letters(table)), "session")


def tick(index: int, cameras: Sequence[str] = ("front",), *queries: Query) -> Tick:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    stamp_ns = index * NANOSECONDS
    pose = Pose("map", float(index), 0.0, 0.0)
    frames = tuple(Frame(name, stamp_ns, f"{name}_optical", image, pose) for name in cameras)
    return Tick(index, stamp_ns, frames, queries)


def run(
    loop: StreamingHarness, ticks: int, cameras: Sequence[str] = ("front",)
) -> list[StepResult]:
    return [loop.step(tick(index, cameras)) for index in range(ticks)]


def said(results: Sequence[StepResult]) -> list[tuple[int, str, str]]:
    """Tick, instruction and words of each report."""
    names = {instruction_id(text): text for text in (FIRE, FALL)}
    return [
        (result.tick.index, names.get(each.instruction_id, each.query_id), each.text)
        for result in results
        for each in result.utterances
    ]


def events(results: Sequence[StepResult]) -> list[EventSpan]:
    return [event for result in results for event in result.events]


def test_two_things_at_once_are_two_events() -> None:
    results = run(harness({FIRE: "..AAA.....", FALL: "...BBBB..."}), 10)
    assert said(results) == [(2, FIRE, "A happened"), (3, FALL, "B happened")]
    fire, fall = events(results)
    assert (fire.instruction_id, fire.label) == (instruction_id(FIRE), "A happened")
    assert (fall.instruction_id, fall.label) == (instruction_id(FALL), "B happened")
    assert (fire.start_ns / 1e9, fire.end_ns / 1e9) == (1.5, 4.5)
    assert (fall.start_ns / 1e9, fall.end_ns / 1e9) == (2.5, 6.5)


def test_a_report_names_the_event_that_ends_later() -> None:
    results = run(harness({FIRE: "..AAA....."}), 10)
    (utterance,) = [each for result in results for each in result.utterances]
    (event,) = events(results)
    assert utterance.event_id == event.event_id
    assert (event.stamp_ns, event.pose) == (2 * NANOSECONDS, Pose("map", 2.0, 0.0, 0.0))


def test_each_camera_has_its_own_events() -> None:
    cameras = ("front", "rear")
    results = run(harness({"front: fire": ".A....", "rear: fire": "...A.."}, cameras), 7, cameras)
    assert [(event.camera, event.stamp_ns // NANOSECONDS) for event in events(results)] == [
        ("front", 1),
        ("rear", 3),
    ]
    ids = {event.event_id for event in events(results)}
    assert len(ids) == 2


def test_the_state_of_a_picture_is_the_most_urgent_one() -> None:
    results = run(harness({FIRE: ".--AA...", FALL: "...-...."}), 8)
    states = [result.decisions["front"].state for result in results]
    quiet, standby, response = State.SILENCE, State.STANDBY, State.RESPONSE
    assert states == [quiet, standby, standby, response, standby, quiet, quiet, quiet]
    since = [result.under_way_since.get("front") for result in results]
    assert since[:5] == [None, *[NANOSECONDS // 2] * 4]


def test_without_a_setting_the_general_instructions_are_judged() -> None:
    loop = harness({}, instructions=[])
    loop.step(tick(0))
    (turn,) = loop.model.turns  # type: ignore[attr-defined]
    assert [each.instruction.text for each in turn.judgements] == list(DEFAULT_INSTRUCTIONS)


def test_a_hundred_instructions_are_judged() -> None:
    loop = harness({}, instructions=[f"number {index} lights up" for index in range(100)])
    loop.step(tick(0))
    assert len(loop.model.turns[0].judgements) == 100  # type: ignore[attr-defined]


def test_a_model_that_may_not_speak_unprompted_judges_watches_only() -> None:
    loop = harness({FIRE: "AAAA"}, decision__unprompted="never")
    watch = Query("w-1", FIRE, 0, is_watch=True)
    results = [loop.step(tick(0)), loop.step(tick(1, ("front",), watch))]
    assert said(results) == [(1, "w-1", "A happened")]


def test_a_watch_is_one_more_instruction() -> None:
    loop = harness({FIRE: ".....", "a cat": "..A......."})
    watch = Query("w-1", "a cat", 0, is_watch=True)
    results = [loop.step(tick(0, ("front",), watch)), *run_on(loop, 1, 8)]
    (utterance,) = [each for result in results for each in result.utterances]
    assert (utterance.query_id, utterance.instruction_id) == ("w-1", "")
    assert [event.instruction_id for event in events(results)] == ["w-1"]
    assert loop.model.turns[0].watch is None  # type: ignore[attr-defined]


def run_on(loop: StreamingHarness, start: int, end: int) -> list[StepResult]:
    return [loop.step(tick(index)) for index in range(start, end)]


def test_a_watch_that_ends_ends_its_event() -> None:
    loop = harness({"a cat": ".AAAAAAAA"})
    watch = Query("w-1", "a cat", 0, is_watch=True)
    results = [loop.step(tick(0, ("front",), watch)), *run_on(loop, 1, 4)]
    loop.end_watch("w-1")
    (event,) = events([*results, *run_on(loop, 4, 6)])
    assert (event.instruction_id, event.end_ns, event.still_on) == ("w-1", 3 * NANOSECONDS, True)


def test_an_instruction_that_is_set_while_the_loop_runs_is_judged_at_the_next_step() -> None:
    loop = harness({FIRE: "..AAAAAA", FALL: "......B."}, instructions=[FIRE])
    results = run_on(loop, 0, 4)
    loop.settings.instructions = [FALL, FIRE]
    results += run_on(loop, 4, 9)
    assert said(results) == [(2, FIRE, "A happened"), (6, FALL, "B happened")]


def test_an_instruction_that_is_taken_out_ends_its_event() -> None:
    loop = harness({FIRE: ".AAAAAAA"})
    results = run_on(loop, 0, 4)
    loop.settings.instructions = [FALL]
    (event,) = events([*results, *run_on(loop, 4, 6)])
    assert (event.end_ns, event.still_on) == (3 * NANOSECONDS, True)


def test_event_ids_are_not_used_again_after_an_instruction_returns() -> None:
    loop = harness({FIRE: ".A...A..A...", FALL: "............"})
    results = run_on(loop, 0, 3)
    loop.settings.instructions = [FALL]
    results += run_on(loop, 3, 4)
    loop.settings.instructions = [FIRE]
    results += run_on(loop, 4, 12)
    ids = [event.event_id for event in events(results)]
    assert len(set(ids)) == len(ids) == 3


def test_a_question_is_answered_while_the_instructions_are_judged() -> None:
    loop = harness({FIRE: ".A....."})
    question = Query("q-1", "what is there?", NANOSECONDS)
    results = [loop.step(tick(0)), loop.step(tick(1, ("front",), question)), *run_on(loop, 2, 5)]
    assert said(results) == [(1, "q-1", "answer to what is there?"), (1, FIRE, "A happened")]
    assert len(events(results)) == 1


def test_what_is_not_confirmed_is_counted_and_not_said() -> None:
    results = run(harness({FIRE: ".??.."}), 5)
    assert said(results) == []
    assert [result.unconfirmed.get("front", 0) for result in results] == [0, 1, 1, 0, 0]


def test_the_second_look_can_be_turned_off() -> None:
    results = run(harness({FIRE: ".?..."}, decision__verify="off"), 5)
    assert len(said(results)) == 1


def test_at_the_end_of_the_stream_an_event_that_goes_on_is_given() -> None:
    loop = harness({FIRE: ".AAA"})
    run_on(loop, 0, 4)
    last = loop.finish()
    assert last is not None
    (event,) = last.events
    assert (last.session_id, last.tick.frames, event.end_ns) == ("session", (), 3 * NANOSECONDS)
    assert loop.finish() is None


def test_at_the_end_of_the_stream_nothing_is_given_if_nothing_was_reported() -> None:
    loop = harness({FIRE: ".---"})
    run_on(loop, 0, 4)
    assert loop.finish() is None


def test_a_new_session_begins_with_no_event() -> None:
    loop = harness({FIRE: ".AAAAA"})
    run_on(loop, 0, 3)
    loop.open_session("second")
    result = loop.step(tick(3))
    (utterance,) = result.utterances
    assert utterance.event_id == "second-front-e1"
    assert result.under_way_since == {"front": 3 * NANOSECONDS}


def test_an_id_depends_on_the_words_only() -> None:
    """The memory of an earlier version names instructions by these ids."""
    assert instruction_id("fire") == "i-dc9f28b1"


@pytest.mark.parametrize("missing", [FIRE, FALL])
def test_an_instruction_that_the_model_did_not_judge_keeps_its_state(missing: str) -> None:
    loop = harness({FIRE: ".AAA.....", FALL: ".BBB....."})
    left_out = instruction_id(missing)
    step = loop.model.step

    def without(turns: Any, upcoming: Any = None) -> Any:
        outcomes = step(turns, upcoming)
        if turns[0].frame.stamp_ns != 2 * NANOSECONDS:
            return outcomes
        (outcome,) = outcomes
        assert isinstance(outcome, Outcome)
        judged = {name: one for name, one in outcome.judged.items() if name != left_out}
        return [replace(outcome, judged=judged)]

    loop.model.step = without  # type: ignore[method-assign]
    assert len(events(run_on(loop, 0, 9))) == 2


def test_only_what_does_not_fit_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    loop = harness({FIRE: ".A..."}, instructions=[FIRE, "f" * 30, "g" * 40])
    loop.model.longest = 20  # type: ignore[attr-defined]
    results = run_on(loop, 0, 4)
    assert said(results) == [(1, FIRE, "A happened")]
    assert [list(result.faults) for result in results] == [["front"], [], [], []]
    assert len(caplog.messages) == 2


def test_a_watch_that_does_not_fit_ends_and_the_instructions_are_followed() -> None:
    loop = harness({FIRE: ".A..."})
    loop.model.longest = 20  # type: ignore[attr-defined]
    watch = Query("w-1", "x" * 30, 0, is_watch=True)
    loop.settings.instructions = [FIRE]
    results = [loop.step(tick(0, ("front",), watch)), *run_on(loop, 1, 4)]
    assert loop.watching == frozenset()
    assert "too long" in results[0].faults["front"]
    assert said(results) == [(1, FIRE, "A happened")]
