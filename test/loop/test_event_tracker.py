"""Decisions over time become events with a beginning, an end and a confidence."""

import numpy as np
import pytest

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.loop.event_tracker import EventTracker, Observation
from stream_vlm.types import AbandonedEvent, Decision, EventSpan, Frame, State

IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)
HALF_SECOND = 500_000_000


def decision(state: State, text: str = "", confidence: float = 0.8) -> Decision:
    rest = (1.0 - confidence) / 2
    return Decision(
        state, {each: confidence if each is state else rest for each in State}, text, confidence
    )


def follow(
    states: str, settings: EventSettings | None = None
) -> tuple[EventTracker, list[Observation]]:
    """Feed one decision every half second: "." is silence, "-" standby, "!" response.

    Without `settings` the spans begin and end at stamps of frames.
    """
    tracker = EventTracker("s", "front", settings or EventSettings(boundary="frames"))
    observations = []
    for index, letter in enumerate(states):
        state = {".": State.SILENCE, "-": State.STANDBY, "!": State.RESPONSE}[letter]
        frame = Frame("front", index * HALF_SECOND, "front_optical", IMAGE)
        text = f"event {index}" if state is State.RESPONSE else ""
        observations.append(tracker.observe(frame, decision(state, text)))
    return tracker, observations


def observe(
    states: str, settings: EventSettings | None = None
) -> tuple[EventTracker, list[EventSpan]]:
    """As `follow`, with the completed events alone."""
    tracker, observations = follow(states, settings)
    return tracker, [seen.completed for seen in observations if seen.completed is not None]


def abandoned(states: str, settings: EventSettings) -> list[tuple[float, float, bool]]:
    """Beginning and end (seconds) of each event that was given up, and whether it took too long."""
    _, observations = follow(states, settings)
    return [
        (event.start_ns / 1e9, event.stamp_ns / 1e9, event.too_long)
        for seen in observations
        if (event := seen.abandoned) is not None
    ]


def seconds(span: EventSpan) -> tuple[float, float]:
    return span.start_ns / 1e9, span.end_ns / 1e9


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param("..---!..", [(1.0, 2.5)], id="standby opens, response closes"),
        pytest.param("....!...", [(1.5, 2.0)], id="an instant begins at the previous frame"),
        pytest.param("!", [(0.0, 0.0)], id="an instant in the very first frame"),
        pytest.param("..--.-!.", [(1.0, 3.0)], id="a short silence does not interrupt"),
        pytest.param("..--......!", [(4.5, 5.0)], id="a long silence drops the event"),
        pytest.param("..--!!", [(1.0, 2.0), (2.0, 2.5)], id="two in a row"),
        pytest.param("..----", [], id="an event that never completes is not reported"),
        pytest.param("........", [], id="silence"),
    ],
)
def test_spans_reach_from_the_first_standby_to_the_response(
    states: str, expected: list[tuple[float, float]]
) -> None:
    _, spans = observe(states)
    assert [seconds(span) for span in spans] == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param("..---!..", [(0.75, 2.25)], id="both ends go back half a tick"),
        pytest.param("....!...", [(1.5, 2.0)], id="an instant already lies between its frames"),
        pytest.param("-!", [(0.0, 0.25)], id="there is no frame before the first"),
        pytest.param("..--!!", [(0.75, 1.75), (2.0, 2.5)], id="two in a row do not overlap"),
    ],
)
def test_with_default_settings_spans_begin_and_end_between_frames(
    states: str, expected: list[tuple[float, float]]
) -> None:
    _, spans = observe(states, EventSettings())
    assert [seconds(span) for span in spans] == expected


def test_a_span_carries_its_label_its_frame_and_the_mean_confidence() -> None:
    _, (span,) = observe(".--!")
    assert (span.label, span.camera, span.frame_id) == ("event 3", "front", "front_optical")
    assert span.confidence == pytest.approx(0.8)


def test_every_event_of_a_session_has_a_different_id() -> None:
    _, spans = observe("!.!.!")
    assert len({span.event_id for span in spans}) == 3


def test_an_event_that_is_open_too_long_is_given_up_and_another_begins() -> None:
    settings = EventSettings(max_open_s=5.0, boundary="frames")
    _, (span,) = observe("-" * 20 + "!", settings)
    assert seconds(span) == (5.5, 10.0)
    assert abandoned("-" * 20 + "!", settings) == [(0.0, 5.5, True)]


def test_an_event_after_which_the_model_falls_silent_is_given_up() -> None:
    settings = EventSettings(grace_s=1.0, boundary="frames")
    assert abandoned("..--....", settings) == [(1.0, 3.5, False)]
    assert abandoned("..--..!.", settings) == []


def test_a_response_after_a_long_silence_abandons_an_old_event_and_reports_its_own() -> None:
    tracker = EventTracker("s", "front", EventSettings(boundary="frames"))
    tracker.observe(Frame("front", 0, "", IMAGE), decision(State.STANDBY))
    tracker.observe(Frame("front", HALF_SECOND, "", IMAGE), decision(State.SILENCE))
    tracker.observe(Frame("front", 2 * HALF_SECOND, "", IMAGE), decision(State.SILENCE))
    tracker.observe(Frame("front", 3 * HALF_SECOND, "", IMAGE), decision(State.SILENCE))
    seen = tracker.observe(Frame("front", 4 * HALF_SECOND, "", IMAGE), decision(State.RESPONSE))
    assert seen.abandoned == AbandonedEvent("front", 0, 4 * HALF_SECOND, too_long=False)
    assert seen.completed is not None
    assert seconds(seen.completed) == (1.5, 2.0)


def test_under_way_since_is_set_while_an_event_is_open() -> None:
    tracker, _ = observe("..--")
    assert tracker.under_way_since == 2 * HALF_SECOND
    tracker, _ = observe("..--!")
    assert tracker.under_way_since is None


def test_the_stamp_is_that_of_the_frame_that_showed_the_event_complete() -> None:
    _, spans = observe("..---!.!", EventSettings())
    assert [span.stamp_ns for span in spans] == [5 * HALF_SECOND, 7 * HALF_SECOND]


@pytest.mark.parametrize(("seen", "expected"), [("-!", (9.0, 10.25)), ("!", (8.0, 10.0))])
def test_a_long_gap_between_frames_moves_a_boundary_by_two_seconds_at_most(
    seen: str, expected: tuple[float, float]
) -> None:
    tracker = EventTracker("s", "front", EventSettings())
    tracker.observe(Frame("front", 0, "front_optical", IMAGE), decision(State.SILENCE))
    for index, letter in enumerate(seen):
        state = State.STANDBY if letter == "-" else State.RESPONSE
        span = tracker.observe(
            Frame("front", (20 + index) * HALF_SECOND, "front_optical", IMAGE),
            decision(state, "lamp turns on"),
        ).completed
    assert span is not None
    assert seconds(span) == expected
