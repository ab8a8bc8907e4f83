"""Decisions about one standing instruction become reports, each once, and events that end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from state_sequences import Sequence, decision_of, noisy, words

from stream_vlm.config.model_settings import DecisionSettings, EventSettings
from stream_vlm.loop.instruction_state import InstructionState
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.types import (
    NANOSECONDS,
    AbandonedEvent,
    EventSpan,
    Frame,
    Instruction,
    State,
)

IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)
FALL = Instruction("i-1", "a person who falls")

TABLE = {
    "nothing happens": ("......", [], []),
    "one frame shows it": ("..A...", [(2, "A")], [(1, 2)]),
    "it is under way, then complete": (".--A....", [(3, "A")], [(0.5, 3.5)]),
    "it goes on in silence": (".-A---....", [(2, "A")], [(0.5, 5.5)]),
    "a response at every frame for half a minute": (
        "." + "A" * 30 + "....",
        [(1, "A")],
        [(0.5, 30.5)],
    ),
    "a response at every frame, each in other words": (
        ".AaAaAaAaAaAaAaAaAaAa....",
        [(1, "A")],
        [(0.5, 20.5)],
    ),
    "responses and standby in turn": (".A-A-a-A-a-A....", [(1, "A")], [(0.5, 11.5)]),
    "single frames are missed": (".AAA.AA.A-A.AAA....", [(1, "A")], [(0.5, 14.5)]),
    "two happenings, five seconds apart": ("..A....B....", [(2, "A"), (7, "B")], [(1, 2), (6, 7)]),
    "two happenings in the same words": ("..A....A....", [(2, "A"), (7, "A")], [(1, 2), (6, 7)]),
    "the second begins while the first goes on": (
        "..A----B--....",
        [(2, "A"), (7, "B")],
        [(1.5, 6.5), (6.5, 9.5)],
    ),
    "the same words again while it goes on are not said again": (
        "..A-----A--....",
        [(2, "A")],
        [(1.5, 10.5)],
    ),
    "something else after one silent frame": (
        "..A.B....",
        [(2, "A"), (4, "B")],
        [(1, 2), (3.5, 4.5)],
    ),
    "something else that was under way since one silent frame": (
        "..A.--B....",
        [(2, "A"), (6, "B")],
        [(1.5, 2.5), (3.5, 6.5)],
    ),
    "something else after a silent frame while the first went on": (
        "..A-.-B-....",
        [(2, "A"), (6, "B")],
        [(1.5, 3.5), (4.5, 7.5)],
    ),
    "the same again after one silent frame": ("..A.A....", [(2, "A")], [(1.5, 4.5)]),
    "a refuted response hides no other": (
        "..A.?B....",
        [(2, "A"), (5, "B")],
        [(1.5, 2.5), (3.5, 5.5)],
    ),
    "a standby for ever is no event": ("." + "-" * 140, [], []),
    "a standby that comes to nothing": (".---......", [], []),
    "one frame of standby": ("..-.....", [], []),
    "a response after a very long standby is reported": (
        "." + "-" * 125 + "A-....",
        [(126, "A")],
        [(125.5, 127.5)],
    ),
    "an event that lasts too long is closed and not reported again": (
        "." + "A" * 150 + "....",
        [(1, "A")],
        [(0.5, 121)],
    ),
    "it still goes on when the stream ends": ("..A--", [(2, "A")], [(1.5, 4)]),
    "it has just been reported when the stream ends": ("..A", [(2, "A")], [(1, 2)]),
    "it is under way when the stream ends": ("..--", [], []),
    "the first frame shows it": ("AA....", [(0, "A")], [(0, 1.5)]),
    "a report that is not confirmed": ("..?....", [], []),
    "a report that is confirmed at the second try": (".-?A-....", [(3, "A")], [(0.5, 4.5)]),
    "unconfirmed reports between true ones": (".?.?..A-....", [(6, "A")], [(5.5, 7.5)]),
}
"""By what happens: the decisions, the reports (frame, letter) and the spans (seconds)."""


def new_state(
    events: EventSettings | None = None, decisions: DecisionSettings | None = None
) -> InstructionState:
    decisions = decisions or DecisionSettings()
    return InstructionState(
        FALL, "front", events or EventSettings(), decisions, SpeechGate(decisions)
    )


def frame_at(second: float) -> Frame:
    return Frame("front", round(second * NANOSECONDS), "front_optical", IMAGE)


@dataclass
class Heard:
    """What came of a sequence: reports (second, words), events, events given up."""

    reports: list[tuple[float, str]] = field(default_factory=list)
    reported_ids: list[str] = field(default_factory=list)
    events: list[EventSpan] = field(default_factory=list)
    abandoned: list[AbandonedEvent] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    unconfirmed: int = 0


def hear(letters: str, state: InstructionState | None = None, tick_s: float = 1.0) -> Heard:
    """Feed the decisions `letters`, one each `tick_s` seconds, to their end."""
    state = state or new_state()
    numbers = itertools.count(1)
    heard = Heard()
    for at, letter in enumerate(letters):
        frame = frame_at(at * tick_s)
        judgement = state.judgement(frame.stamp_ns, verify=True)
        heard.told.append(judgement.reported)
        decision = judgement.gate(replace(decision_of(letter), text="", verified=None))
        if decision.state is State.RESPONSE:
            full = decision_of(letter)
            decision = replace(decision, text=full.text, verified=full.verified)
        taken = state.take(frame, decision, lambda: f"e{next(numbers)}")
        heard.unconfirmed += taken.is_unconfirmed
        if taken.event_id:
            heard.reports.append((at * tick_s, taken.decision.text))
            heard.reported_ids.append(taken.event_id)
        else:
            assert taken.decision.state is not State.RESPONSE
        heard.events += [taken.completed] if taken.completed else []
        heard.abandoned += [taken.abandoned] if taken.abandoned else []
    last = state.finish()
    heard.events += [last] if last else []
    return heard


def spans(heard: Heard) -> list[tuple[float, float]]:
    return [(event.start_ns / NANOSECONDS, event.end_ns / NANOSECONDS) for event in heard.events]


@pytest.mark.parametrize(("letters", "reports", "events"), TABLE.values(), ids=TABLE)
def test_each_happening_is_reported_once_and_has_a_span(
    letters: str, reports: list[tuple[int, str]], events: list[tuple[float, float]]
) -> None:
    heard = hear(letters)
    assert heard.reports == [(second, words(letter)) for second, letter in reports]
    assert spans(heard) == events
    assert [event.event_id for event in heard.events] == heard.reported_ids


def test_the_span_is_of_the_frame_of_the_report() -> None:
    (event,) = hear(".-A--....").events
    assert (event.stamp_ns, event.frame_id, event.label, event.instruction_id) == (
        2 * NANOSECONDS,
        "front_optical",
        "A happened",
        FALL.instruction_id,
    )
    assert not event.still_on


@pytest.mark.parametrize("letters", ["..A", "." + "A" * 150 + "..."])
def test_an_event_that_has_not_ended_says_so(letters: str) -> None:
    assert [event.still_on for event in hear(letters).events] == [True]


def test_an_event_without_a_report_is_abandoned() -> None:
    assert [event.too_long for event in hear(".---....").abandoned] == [False]


def test_an_event_without_end_is_abandoned_once() -> None:
    assert [event.too_long for event in hear("-" * 400).abandoned] == [True]


def test_reports_that_are_not_confirmed_are_counted() -> None:
    assert hear("..??..A..").unconfirmed == 2


def test_the_threshold_of_the_second_look_is_a_setting() -> None:
    heard = hear("..?....", new_state(decisions=DecisionSettings(verify_threshold=0.05)))
    assert heard.reports == [(2, words("?"))]


def test_a_report_that_is_not_confirmed_does_not_begin_the_refractory_time() -> None:
    heard = hear("..?..A..", new_state(decisions=DecisionSettings(refractory_s=60)))
    assert heard.reports == [(5, "A happened")]


def test_a_response_that_repeats_what_goes_on_does_not_begin_the_refractory_time() -> None:
    heard = hear("..A------A...B...", new_state(decisions=DecisionSettings(refractory_s=9)))
    assert heard.reports == [(2, "A happened"), (13, "B happened")]


@pytest.mark.parametrize("again", ["Now a happened!", "happened"])
def test_the_same_words_within_other_words_are_no_other_report(again: str) -> None:
    state = new_state()
    texts = {2: words("A"), 4: again}
    for at, letter in enumerate("..A.A"):
        decision = state.gate_state(replace(decision_of(letter), text=""), at * NANOSECONDS)
        decision = replace(decision, text=texts.get(at, ""))
        taken = state.take(frame_at(at), decision, lambda: "e")
        assert bool(taken.event_id) == (at == 2)
    assert taken.decision.state is State.STANDBY


def test_the_model_is_told_its_report_while_the_event_lasts_and_for_a_while() -> None:
    heard = hear("..A---......", new_state(decisions=DecisionSettings(remember_report_s=2)))
    assert heard.told == [*[""] * 3, *["A happened"] * 7, *[""] * 2]


def test_a_longer_grace_joins_what_a_silence_separates() -> None:
    assert len(hear(".A...A....", new_state(EventSettings(grace_s=4))).reports) == 1


def test_a_shorter_wait_separates_what_goes_on() -> None:
    heard = hear(".A-B...", new_state(EventSettings(new_report_s=2)))
    assert [text for _, text in heard.reports] == ["A happened", "B happened"]


@pytest.mark.parametrize("tick_s", [0.1, 0.5, 1.0, 5.0])
def test_one_odd_frame_never_ends_an_event(tick_s: float) -> None:
    assert len(hear(".AA.AA.A........................", tick_s=tick_s).events) == 1


@pytest.mark.parametrize("gap_s", [100, 600])
def test_a_gap_in_the_pictures_is_no_part_of_the_event(gap_s: int) -> None:
    state = new_state()
    state.take(frame_at(0), decision_of("."), lambda: "e1")
    state.take(frame_at(1), decision_of("A"), lambda: "e1")
    state.take(frame_at(2), decision_of("-"), lambda: "e1")
    taken = [state.take(frame_at(gap_s + at), decision_of("."), lambda: "e1") for at in (2, 3)]
    ends = [each.completed.end_ns for each in taken if each.completed]
    assert ends == [3 * NANOSECONDS]


@dataclass(frozen=True)
class Score:
    """How well reports match what happened, over many sequences."""

    happenings: int
    reports: int
    found: int

    @property
    def f1(self) -> float:
        return 2 * self.found / (self.happenings + self.reports)

    @property
    def reports_per_happening(self) -> float:
        return self.reports / self.happenings


def score(sequences: list[Sequence]) -> Score:
    """Match each event to the happening whose words it has and that it overlaps, one to one."""
    happenings = reports = found = 0
    for sequence in sequences:
        heard = hear(sequence.letters)
        left = list(sequence.happenings)
        for event, (start_s, end_s) in zip(heard.events, spans(heard), strict=True):
            match = next(
                (
                    one
                    for one in left
                    if one.letter in event.label and one.start_s <= end_s and start_s <= one.end_s
                ),
                None,
            )
            if match is not None:
                left.remove(match)
                found += 1
        happenings += len(sequence.happenings)
        reports += len(heard.reports)
    return Score(happenings, reports, found)


def test_noisy_sequences_give_one_report_for_each_happening() -> None:
    held_out = score([noisy(9000 + n, miss=0.12, slow=0.3, false_alarm=0.05) for n in range(300)])
    assert held_out.f1 > 0.9
    assert held_out.reports_per_happening == pytest.approx(1.0, abs=0.15)
