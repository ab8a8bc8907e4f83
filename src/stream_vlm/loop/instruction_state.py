"""What the loop keeps of one instruction at one camera: its gate, its event, its last report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from stream_vlm.config.model_settings import DecisionSettings, EventSettings
from stream_vlm.loop.event_tracker import boundary_ns, reach_ns
from stream_vlm.loop.happening import Happening, Report
from stream_vlm.loop.speech_gate import SpeechGate, in_state
from stream_vlm.model_protocol import Judgement
from stream_vlm.types import (
    NANOSECONDS,
    AbandonedEvent,
    Decision,
    EventSpan,
    Frame,
    Instruction,
    State,
)


@dataclass(frozen=True)
class Taken:
    """What one decision about an instruction changed.

    Attributes:
        decision: the decision as it counts: a response only if it is said, a standby while the same
            goes on.
        event_id: the event that the words of `decision` report, or empty.
        completed: the event that ended, or None.
        abandoned: the event that is given up without a report, or None.
        is_unconfirmed: whether a response is not said because a second look did not confirm it.
    """

    decision: Decision
    event_id: str = ""
    completed: EventSpan | None = None
    abandoned: AbandonedEvent | None = None
    is_unconfirmed: bool = False


@dataclass
class InstructionState:
    """Finds the events of one instruction at one camera, and has each of them reported once.

    Standby opens an event. A response reports it, at once, and opens it if no standby did. While
    the same goes on, nothing is said again: a response, too, only says that it goes on. A silence
    longer than `events.grace_s` ends the event.

    Something else may happen while the first goes on. A response counts as another happening if its
    words are new, and there was no response for `events.new_report_s` or a frame was silent since
    the last one. Then the first event ends at that silence, else where the second begins. A model
    that writes a response at every frame never waits that long.

    A silence begins halfway between the last frame that shows the event and the first that does
    not. A gap between frames that is longer than `event_tracker.LONGEST_TICK_NS` counts as a gap of
    that length.

    Attributes:
        instruction: what is to be reported.
        camera: the camera.
        events: the settings `events`.
        decisions: the settings `decision`.
        gate: thresholds, hysteresis and refractory time of this instruction.
        is_watch: whether it is a watch that somebody asked for.
    """

    instruction: Instruction
    camera: str
    events: EventSettings
    decisions: DecisionSettings
    gate: SpeechGate
    is_watch: bool = False
    _happening: Happening | None = None
    _told: Report | None = None
    _told_until_ns: int | None = None
    """Until when the model is told of its last report; None while the event goes on."""
    _said: set[str] = field(default_factory=set)
    """The words of the reports since the last silence."""
    _previous_ns: int | None = None
    _was_silent: bool = False
    """Whether a frame was silent since the last response that was not refuted."""

    @property
    def under_way_since(self) -> int | None:
        """Beginning of the event that is under way, int64 ns, or None."""
        happening = self._happening
        return None if happening is None or happening.is_closed else happening.start_ns

    def judgement(self, stamp_ns: int, *, verify: bool) -> Judgement:
        """What the model is asked about the frame of `stamp_ns` (ns).

        Args:
            stamp_ns: stamp of the frame.
            verify: whether a response gets a second look.
        """
        told = self._told
        if told is not None and self._told_until_ns is not None and stamp_ns > self._told_until_ns:
            told = self._told = None
        return Judgement(
            self.instruction,
            reported=told.text if told else "",
            reported_ns=told.frame.stamp_ns if told else 0,
            gate=lambda decision: self.gate_state(decision, stamp_ns),
            verify=verify,
        )

    def gate_state(self, decision: Decision, stamp_ns: int) -> Decision:
        """Return `decision`, or the same decision with another state, before words are written.

        Args:
            decision: the model's decision.
            stamp_ns: stamp of the frame, ns.
        """
        happening, was_silent = self._happening, self._was_silent
        if decision.state is not State.STANDBY:
            self._was_silent = decision.state is State.SILENCE
        if decision.state is State.RESPONSE and happening is not None and happening.report:
            waited_ns = stamp_ns - happening.last_response_ns
            happening.last_response_ns = stamp_ns
            if waited_ns < self.events.new_report_s * NANOSECONDS and not was_silent:
                return in_state(decision, State.STANDBY)
        return self.gate.gate_state(decision, stamp_ns, asked=False, watched=self.is_watch)

    def take(self, frame: Frame, decision: Decision, new_event_id: Callable[[], str]) -> Taken:
        """Take in the gated decision about `frame`, with its words, and return what it changes.

        Args:
            frame: the frame.
            decision: the decision.
            new_event_id: gives the id of the next event of this camera.
        """
        decision, is_unconfirmed = self._confirmed(decision)
        event_id, completed, abandoned = "", None, None
        if decision.state is State.SILENCE:
            completed, abandoned = self._take_silence(frame.stamp_ns)
        elif decision.state is State.RESPONSE and self._is_new(decision):
            completed, event_id = self._report(frame, decision, new_event_id)
        else:
            if decision.state is State.RESPONSE:
                self.gate.take_back()
                decision = replace(in_state(decision, State.STANDBY), text="")
            happening = self._see(frame.stamp_ns)
            if happening.report is None:
                happening.confidences.append(decision.confidence)
        if completed is None and abandoned is None:
            completed, abandoned = self._close_if_too_long(frame.stamp_ns)
        self._previous_ns = frame.stamp_ns
        return Taken(decision, event_id, completed, abandoned, is_unconfirmed)

    def finish(self) -> EventSpan | None:
        """End the event that goes on, because no frame follows; None if there is none to report."""
        happening, self._happening = self._happening, None
        if happening is None or happening.is_closed or happening.report is None:
            return None
        is_quiet = happening.quiet_since_ns is not None
        end_ns = happening.end_ns if is_quiet else happening.last_active_ns
        return self._span(happening, end_ns, still_on=not is_quiet)

    def _confirmed(self, decision: Decision) -> tuple[Decision, bool]:
        """`decision`, or what remains of a response that the second look does not confirm."""
        if (
            decision.state is not State.RESPONSE
            or decision.verified is None
            or decision.verified >= self.decisions.verify_threshold
        ):
            return decision, False
        self.gate.take_back()
        # What did not happen says nothing about what the next response is about.
        self._was_silent = True
        # It opens no event, but it does not end one that is under way either.
        state = State.SILENCE if self._happening is None else State.STANDBY
        return replace(in_state(decision, state), text=""), True

    def _is_new(self, decision: Decision) -> bool:
        """Whether the words of a response are to be said."""
        happening = self._happening
        if not decision.text:
            return False
        if happening is None or happening.report is None:
            return True
        return not any(_says_the_same(decision.text, said) for said in self._said)

    def _report(
        self, frame: Frame, decision: Decision, new_event_id: Callable[[], str]
    ) -> tuple[EventSpan | None, str]:
        completed = None
        if self._happening is not None and (self._happening.report or self._happening.is_closed):
            completed = self._end_before_another(self._happening, frame.stamp_ns)
        happening = self._see(frame.stamp_ns)
        # What begins while something else goes on cannot have begun at the frame before.
        happening.is_instant = happening.is_instant and completed is None
        happening.confidences.append(decision.confidence)
        happening.last_response_ns = frame.stamp_ns
        happening.report = Report(new_event_id(), decision.text, frame)
        self._told, self._told_until_ns = happening.report, None
        self._said.add(decision.text)
        return completed, happening.report.event_id

    def _end_before_another(self, first: Happening, stamp_ns: int) -> EventSpan | None:
        """End `first`, because the frame of `stamp_ns` reports something else."""
        gap = first.gap if first.report is not None else None
        if gap is None or gap.end_ns <= first.report_ns:
            return self._end(self._boundary_ns(stamp_ns), stamp_ns)[0]
        completed, _ = self._end(gap.end_ns, stamp_ns)
        # What the frames showed since that silence was the beginning of the second.
        self._happening = Happening(gap.start_ns, gap.start_ns, gap.start_ns)
        return completed

    def _see(self, stamp_ns: int) -> Happening:
        """Note that the frame of `stamp_ns` shows the happening; it begins if there is none."""
        if self._happening is None:
            earliest_ns = stamp_ns - reach_ns(self._previous_ns, stamp_ns)
            self._happening = Happening(self._boundary_ns(stamp_ns), earliest_ns, stamp_ns)
        self._happening.see(stamp_ns, self._boundary_ns(stamp_ns))
        return self._happening

    def _take_silence(self, stamp_ns: int) -> tuple[EventSpan | None, AbandonedEvent | None]:
        happening = self._happening
        if happening is None:
            return None, None
        happening.fall_silent(
            stamp_ns,
            reach_ns(happening.last_active_ns, stamp_ns),
            at_midpoint=self.events.boundary == "midpoint",
        )
        assert happening.quiet_since_ns is not None
        if stamp_ns - happening.quiet_since_ns <= self.events.grace_s * NANOSECONDS:
            return None, None
        self._said.clear()
        self._told_until_ns = stamp_ns + round(self.decisions.remember_report_s * NANOSECONDS)
        return self._end(happening.end_ns, stamp_ns)

    def _end(self, end_ns: int, stamp_ns: int) -> tuple[EventSpan | None, AbandonedEvent | None]:
        """Forget the happening; return its event, unless it counts as over already."""
        happening, self._happening = self._happening, None
        if happening is None or happening.is_closed:
            return None, None
        if happening.report is None:
            start_ns = happening.start_ns
            return None, AbandonedEvent(self.camera, start_ns, stamp_ns, too_long=False)
        return self._span(happening, end_ns), None

    def _close_if_too_long(self, stamp_ns: int) -> tuple[EventSpan | None, AbandonedEvent | None]:
        happening = self._happening
        if (
            happening is None
            or happening.is_closed
            or stamp_ns - happening.start_ns <= self.events.max_open_s * NANOSECONDS
        ):
            return None, None
        if happening.quiet_since_ns is not None:
            return self._end(happening.end_ns, stamp_ns)
        happening.is_closed = True
        if happening.report is None:
            start_ns = happening.start_ns
            return None, AbandonedEvent(self.camera, start_ns, stamp_ns, too_long=True)
        return self._span(happening, stamp_ns, still_on=True), None

    def _span(self, happening: Happening, end_ns: int, *, still_on: bool = False) -> EventSpan:
        return happening.span(
            self.camera, self.instruction.instruction_id, end_ns, still_on=still_on
        )

    def _boundary_ns(self, stamp_ns: int) -> int:
        return boundary_ns(self.events, self._previous_ns, stamp_ns)


def _says_the_same(text: str, said: str) -> bool:
    """Whether one of the texts is contained in the other; case and punctuation do not matter."""
    first, second = (_bare_words(each) for each in (text, said))
    return first in second or second in first


def _bare_words(text: str) -> str:
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(words)} "
